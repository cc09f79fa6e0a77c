//! The one place that reads a clock.
//!
//! Everything else is handed instants. A reading is taken once at the edge of the process and passed in, so that
//! decisions can be replayed and tested in virtual time. `clippy.toml` bans the clocks elsewhere.

#![allow(clippy::disallowed_methods)]

use std::time::Instant;

/// The wall clock, UTC.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The monotonic clock: for ages inside this process, never written down.
pub fn monotonic() -> Instant {
    Instant::now()
}
