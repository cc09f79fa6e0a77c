//! The integration tests: one binary, which links once, and one control plane that serves all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[path = "../harness/mod.rs"]
mod harness;

// What the demo draws; a program of its own would have to be linked to test it.
#[path = "../demo/bar.rs"]
#[allow(dead_code)]
mod demo_bar;

mod audit;
mod chaos;
mod control_plane;
mod doctor;
mod flux;
mod installed;
mod lease;
mod leftovers;
mod operator;
mod readme;
mod resources;
mod rights;
mod security;
// Its program, `make sim`, is not used here.
#[allow(dead_code)]
mod sim;
mod virtual_time;
mod walls;
mod workflows;

use std::sync::LazyLock;

use harness::control_plane::{ControlPlane, Options};

/// The control plane of this test binary, started by whoever asks first. Take a [`ControlPlane::namespace`] in it.
///
/// A `static` is never dropped: the servers' supervisors see this process end.
fn shared() -> &'static ControlPlane {
    static SHARED: LazyLock<Result<ControlPlane, String>> =
        LazyLock::new(|| ControlPlane::start(&Options::default()).map_err(|e| e.to_string()));
    match &*SHARED {
        Ok(control_plane) => control_plane,
        Err(error) => panic!("the control plane did not start: {error}"),
    }
}
