//! `fota doctor` as its own process, under no more rights than it documents, against the simulated cloud over HTTP and
//! a real API server.

mod bench;
mod beside_operator;
mod history;
mod laboratory;
mod simulated;
mod without_jobs;
