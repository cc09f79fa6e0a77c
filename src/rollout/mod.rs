//! The decision core: what a rollout does next, and why.
//!
//! Everything here is a plain function over values: the resource, what was observed, and an instant. No async, no
//! clock, no random, no kube client, no I/O ever comes in, so the same code drives the controller, a plan on paper and
//! a simulation. [`decide()`] is the only place where a decision is made; the other modules are its vocabulary.

pub mod absorb;
pub mod bounds;
pub mod call;
pub mod claim;
pub mod command;
pub mod course;
pub mod decide;
#[cfg(test)]
mod decide_tests;
pub mod edits;
pub mod effective;
pub mod external;
pub mod firmware;
pub mod gate;
pub mod names;
pub mod observed;
pub mod owner;
pub mod percent;
pub mod policies;
pub mod preflight;
pub mod retry;
pub mod revision;
pub mod rival;
pub mod stage;
pub mod story;
pub mod wanted;

pub use decide::{Act, Step, decide};
pub use observed::Observed;
