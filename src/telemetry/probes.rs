//! The HTTP server that probes and Prometheus ask. How things stand is handed in; nothing is found out here.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::info;

use super::metrics::{self, Metrics};
use crate::clock;

/// A loop that waits for nobody and has not turned for so long never will.
const STUCK: Duration = Duration::from_secs(60);

/// How things stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Every resource there is has been read once.
    pub synced: bool,
    /// Quota groups that there are.
    pub groups: usize,
    /// Those that this process acts for.
    pub owned: usize,
    /// Rollouts that this process acts for, by phase; every phase is listed.
    pub rollouts: Vec<(&'static str, usize)>,
    /// Since when the main loop has not turned.
    pub idle: Duration,
    /// A part of the process that has ended although it runs for ever.
    pub ended: Option<&'static str>,
}

impl State {
    /// # Errors
    /// Why only a restart helps.
    fn live(&self) -> Result<String, String> {
        if let Some(part) = self.ended {
            return Err(format!("the {part} has ended"));
        }
        if self.idle >= STUCK {
            return Err(format!("the main loop has not turned for {} s", self.idle.as_secs()));
        }
        Ok("live".to_owned())
    }

    /// # Errors
    /// What is waited for.
    fn ready(&self) -> Result<String, String> {
        let Self { owned, groups, .. } = self;
        match (self.synced, owned) {
            (false, _) => Err("not every FirmwareRollout and OTAAccount has been read yet".to_owned()),
            (true, 0) => Ok(format!("standing by: owns 0 of {groups} quota groups")),
            (true, _) => Ok(format!("owns {owned} of {groups} quota groups")),
        }
    }
}

/// Tells from outside that a loop goes on turning. Clones are the same pulse.
#[derive(Debug, Clone)]
pub struct Pulse {
    began: Instant,
    /// Milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: clock::monotonic(), last: Arc::default() }
    }
}

impl Pulse {
    fn now(&self) -> u64 {
        u64::try_from(clock::monotonic().duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// The loop has turned.
    pub fn beat(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Since when it has not.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

/// Takes the port that probes ask: `HOST:PORT`, or `:PORT` for every address of this machine. Port 0 is any free one;
/// the log says which.
///
/// # Errors
/// What is wrong with the address, or who has the port.
pub async fn listen(address: &str) -> Result<TcpListener, String> {
    let listener = match address.strip_prefix(':') {
        None => TcpListener::bind(address).await,
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            // A machine without IPv6.
            Err(error) if error.kind() != ErrorKind::AddrInUse => TcpListener::bind(format!("0.0.0.0:{port}")).await,
            taken => taken,
        },
    };
    let told = |error: std::io::Error| format!("cannot listen on {address}: {error}");
    let listener = listener.map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    info!(%address, "probes and metrics are served");
    Ok(listener)
}

/// Answers `/livez`, `/readyz` and `/metrics` until the process ends. `state` is asked at each request.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    state: impl Fn() -> State + Clone + Send + Sync + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state((metrics, Arc::new(state) as Ask));
    axum::serve(listener, router).await
}

type Ask = Arc<dyn Fn() -> State + Send + Sync>;

async fn live(Shared((_, state)): Shared<(Metrics, Ask)>) -> Response {
    told(state().live())
}

async fn ready(Shared((_, state)): Shared<(Metrics, Ask)>) -> Response {
    told(state().ready())
}

async fn measured(Shared((metrics, state)): Shared<(Metrics, Ask)>) -> Response {
    match metrics.render(&state()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn told(answer: Result<String, String>) -> Response {
    let (status, text) = match answer {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    };
    (status, text + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_until_a_part_has_ended_or_the_loop_stands_still() {
        let state = State::default();
        assert!(state.live().is_ok(), "starting is no reason to be restarted");
        assert!(State { idle: STUCK - Duration::from_millis(1), ..state.clone() }.live().is_ok());
        assert!(State { idle: STUCK, ..state.clone() }.live().unwrap_err().contains("60 s"));
        assert!(State { ended: Some("poller"), ..state }.live().unwrap_err().contains("poller"));
    }

    #[test]
    fn ready_when_everything_was_read_owning_or_not() {
        let state = State { groups: 2, ..State::default() };
        assert!(state.ready().is_err());
        let state = State { synced: true, ..state };
        assert!(state.ready().unwrap().starts_with("standing by"));
        assert_eq!(State { owned: 1, ..state }.ready().unwrap(), "owns 1 of 2 quota groups");
    }

    #[test]
    fn a_pulse_is_young_after_a_beat() {
        let pulse = Pulse { began: clock::monotonic(), last: Arc::new(AtomicU64::new(0)) };
        pulse.clone().beat();
        assert!(pulse.idle() < STUCK);
        let old = Pulse { began: clock::monotonic() - STUCK, last: Arc::default() };
        assert!(old.idle() >= STUCK);
        old.beat();
        assert!(old.idle() < STUCK);
    }
}
