//! (controller)
