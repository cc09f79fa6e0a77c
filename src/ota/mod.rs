//! The OTA API: its calls and their outcomes, as values and as bytes on a wire.
//!
//! Here belongs what the vendor's documents say: operations, parameters, answers, error codes, signatures, quotas,
//! credentials, and how to read a job's state. What a rollout should do with any of it never comes in here.
//!
//! The exchange itself is a trait, [`Api`], so that the same typed calls run over HTTPS ([`client`]) and over a
//! simulated cloud in virtual time.

pub mod calls;
pub mod changing;
pub mod client;
pub mod code;
pub mod credentials;
mod decode;
mod denials;
pub mod devices;
pub mod endpoint;
pub mod firmware;
#[cfg(test)]
mod fuzz;
pub mod id;
pub mod job;
pub mod limits;
pub mod list_file;
pub mod operation;
pub mod outcome;
pub mod polling;
pub mod quota;
pub mod sign;
mod signed;
pub mod task;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::Signature;

pub use client::Client;
pub use code::Class;
pub use credentials::Credentials;
pub use endpoint::{AllowedEndpoints, Endpoint};
pub use firmware::{Firmware, FirmwareStatus};
pub use id::{DeviceName, FirmwareId, JobId};
pub use job::{Job, JobStatus, JobSummary, JobType, Listing};
pub use operation::Operation;
pub use outcome::{CallError, Outcome, Read};
pub use polling::Tally;
pub use quota::Quota;
pub use task::{Failure, Task, TaskStatus};

/// Wire parameters of one call, by exact wire name (`SrcVersion.1`); without the common and signature parameters.
pub type Params = BTreeMap<String, String>;

/// The parameter that holds a signed URL: shown nowhere.
const SIGNED_URL: &str = "DnListFileUrl";

/// One call, before it is signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Which operation.
    pub operation: Operation,
    /// Its own parameters.
    pub parameters: Params,
    /// Device names that go along as a list file: it is uploaded first, and its signed URL joins the parameters.
    pub list: Option<Arc<[String]>>,
    /// A fixed nonce and timestamp: set for creates, whose repetition must be byte-identical. Otherwise the client
    /// draws a fresh nonce and reads the clock.
    pub stamp: Option<Stamp>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&'_ String, &'_ String)| {
            (name.clone(), if name == SIGNED_URL { "***".to_owned() } else { value.clone() })
        };
        let parameters: Params = self.parameters.iter().map(shown).collect();
        let mut debug = f.debug_struct("Request");
        debug.field("operation", &self.operation).field("parameters", &parameters).field("stamp", &self.stamp);
        debug.field("list", &self.list.as_ref().map(|names| names.len())).finish()
    }
}

/// What makes a signed request repeatable: its two parameters that are otherwise new each time, and who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `SignatureNonce`, or `x-acs-signature-nonce`.
    pub nonce: String,
    /// `Timestamp`, or `x-acs-date`; whole seconds on the wire.
    pub at: Timestamp,
    /// How it is signed.
    pub signature: Signature,
    /// Nobody else sends it: by other keys, or to another place, it would be another request.
    pub sender: Sender,
}

/// Whose requests go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The URL that is called.
    pub endpoint: String,
    /// RegionId, if known.
    pub region: Option<String>,
    /// Digest of the access key id.
    pub access_key: String,
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
    /// Performs one signed exchange. Implementations enforce a timeout and the account's quota, and send no stamped
    /// request that is another sender's.
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Answer, NoAnswer>> + Send;
}

impl<A: Api> Api for &A {
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Answer, NoAnswer>> + Send {
        (**self).exchange(request)
    }
}

impl<A: Api> Api for std::sync::Arc<A> {
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Answer, NoAnswer>> + Send {
        (**self).exchange(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_no_signed_url() {
        let parameters = [("DnListFileUrl", "https://x/?Signature=hush"), ("FirmwareId", "f")];
        let parameters = parameters.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let request = Request { operation: Operation::CreateOTAStaticUpgradeJob, parameters, list: None, stamp: None };
        let shown = format!("{request:?}");
        assert!(!shown.contains("hush") && shown.contains("FirmwareId"), "{shown}");
    }
}
