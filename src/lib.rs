#![doc = include_str!("../ARCHITECTURE.md")]

pub mod api;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod controller;
pub mod doctor;
pub mod ota;
pub mod rollout;
pub mod sabotage;
pub mod telemetry;
pub mod termination;
