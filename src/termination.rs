//! Being asked to end: SIGTERM, or SIGINT (ctrl-c).
//!
//! Here belongs hearing it. What then ends, and in which order, is up to whoever listens.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears every time that this process is asked to end.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Listens from now on: whoever is asked before it waits is told all the same. Before that a signal has its usual
    /// effect, which is the end; but the first process of a container is not ended so, and must listen early.
    ///
    /// # Errors
    ///
    /// The kernel takes no handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until it is asked, or asked again.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
