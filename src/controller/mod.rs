//! The shell around the decision core: watches, one pass per wake-up, polls, status writes, events.
//!
//! Here belongs everything that waits, retries or talks: to the API server, to the cloud, to clocks. What a rollout
//! should do next is never decided here; a branch on a stage's state in this room is in the wrong place.

pub mod accounts;
pub mod census;
pub mod cluster;
pub mod keys;
pub mod lease;
pub mod listing;
mod lists;
pub mod memory;
mod namespaces;
pub mod pass;
pub mod poll;
pub mod poller;
pub mod readiness;
pub mod run;
pub mod survey;
mod usage;
pub mod world;
