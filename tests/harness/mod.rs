//! A real control plane for tests and for development: etcd and kube-apiserver on free loopback ports.
//!
//! Shared by `tests/it` and the programs in `tests/*.rs`. Starting, `kubectl` and clean-up block, so that they
//! work from any thread with or without a runtime; only the `kube` client is async. Nothing that is started here
//! outlives the process that started it, whichever way that ends (see [`supervised`]).

// Each program uses its own part of this.
#![allow(dead_code)]

pub mod binaries;
pub mod control_plane;
pub mod kubeconfig;
pub mod process;
pub mod program;
pub mod supervised;
pub mod wait;

use std::path::Path;

/// What goes wrong here is told to a person, never matched on.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
