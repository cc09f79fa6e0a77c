//! A short piece of `make chaos`, and the proof that its judge finds what it is there to find.

mod judging;
#[path = "../../chaos/mod.rs"]
mod rig;
mod short;
