//! The deterministic simulation: the real passes, polls and decisions of two controller processes over a simulated API
//! server and the pure cloud model. Everything that may go wrong is chosen, written down, and can be played again.

mod acts;
mod checker;
mod chooser;
mod corpus;
mod coverage;
mod event;
mod exhaustive;
mod process;
pub mod program;
mod scene;
mod schedule;
mod server;
mod shrink;
mod state;
mod story;
pub mod tally;
mod view;

#[cfg(test)]
mod tests;
