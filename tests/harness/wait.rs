//! Waiting for a condition, never for a while.

use std::time::{Duration, Instant};

use super::Result;

/// Asks `probe` until it has a value or fails; after `limit` fails saying that `what` did not come about.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("{what}: not within {limit:?}").into());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// [`until`], for a condition that is merely true or false.
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || Ok(probe().then_some(())))
}
