//! The operator as users run it: its own process under the chart's rights, a real API server, real kubectl, and the
//! simulated cloud behind real HTTP.

mod ending;
mod failing;
mod going;
mod hostile;
mod identity;
mod interrupted;
mod listing;
pub mod scene;
mod stopping;
pub mod telemetry;
mod tenant;
mod using;
