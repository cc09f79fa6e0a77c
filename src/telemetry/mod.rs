//! Logs, metrics and probes. What is worth logging or measuring is decided where it happens; this room only sets up how
//! it is written down, counted and served.

mod logs;
pub mod metrics;
pub mod probes;

pub use logs::{Format, start};
pub use metrics::Metrics;
pub use probes::{Pulse, State, listen, serve};
