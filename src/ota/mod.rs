//! The OTA API: its calls and their outcomes, as values and as bytes on a wire.
//!
//! Here belongs what the vendor's documents say: operations, parameters, answers, error codes, signatures, quotas,
//! credentials, and how to read a job's state. What a rollout should do with any of it never comes in here.
//!
//! The exchange itself is a trait, [`Api`], so that the same typed calls run over HTTPS ([`client`]) and over a
//! simulated cloud in virtual time.

pub mod operation;
pub mod sign;

use std::collections::BTreeMap;
use std::future::Future;

use jiff::Timestamp;

pub use operation::Operation;

/// Wire parameters of one call, by exact wire name (`SrcVersion.1`); without the common and signature parameters.
pub type Params = BTreeMap<String, String>;

/// One call, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which operation.
    pub operation: Operation,
    /// Its own parameters.
    pub parameters: Params,
    /// A fixed nonce and timestamp: set for creates, whose repetition must be byte-identical. Otherwise the client
    /// draws a fresh nonce and reads the clock.
    pub stamp: Option<Stamp>,
}

/// The two parameters that make a signed request repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `SignatureNonce`.
    pub nonce: String,
    /// `Timestamp`, whole seconds on the wire.
    pub at: Timestamp,
}

/// An answer as it arrived: any HTTP status, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub http_status: u16,
    /// The body, bounded by the client.
    pub body: Vec<u8>,
    /// The `Date` header: the cloud's wall clock.
    pub date: Option<Timestamp>,
    /// The clock that the `Utc…` fields follow: `X-Fota-Now` of a simulated cloud, else `Date`.
    pub now: Option<Timestamp>,
    /// `x-acs-retry-after`, when the gateway throttled and said for how long.
    pub retry_after: Option<std::time::Duration>,
}

/// No answer came. The call may or may not have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Refused before a byte of the request left this machine: surely without effect.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection broke, or time ran out, after the request may have left.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Somebody who answers OTA calls.
pub trait Api: Send + Sync {
    /// Performs one signed exchange. Implementations enforce a timeout and the account's quota.
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Answer, NoAnswer>> + Send;
}
