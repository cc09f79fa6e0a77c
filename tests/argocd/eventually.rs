//! Waiting for a condition, among other things that go on: never for a while.

use std::time::{Duration, Instant};

use super::harness::Result;

/// Asks `probe` until it has a value or fails; after `limit` fails saying that `what` did not come about.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("{what}: not within {limit:?}").into());
        }
    }
}
