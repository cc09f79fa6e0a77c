//! Several operators beside each other: who acts is judged by the cloud's log and the API server's objects, never by
//! what an operator says of itself.

mod handover;
mod pair;
mod sharing;
