//! (cloud)

pub mod faults;
pub mod fleet;
pub mod log;
pub mod model;
