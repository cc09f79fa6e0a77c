//! Chaos on the real thing: a real API server, the real simulated cloud with real signatures, operators as processes of
//! their own under the chart's rights; and everything that can go wrong does. `make chaos` runs all of it, `make test` a
//! short piece.
//!
//! Nobody is told that it is a test: operators are killed from outside, by the requests that pass their [`tap`]. The
//! [`judge`] reads only the cloud's log.

// The program and the tests each use their own part of this.
#![allow(dead_code)]

pub mod cast;
pub mod dice;
pub mod judge;
pub mod rollouts;
pub mod series;
pub mod site;
pub mod storm;
pub mod table;
pub mod tap;
