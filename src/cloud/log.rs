//! The complete log of calls, in the order they arrived: what a checker judges the client by.
//!
//! Here belong facts about requests and what was decided about them. Nothing secret: the signature stays out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// One request and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it arrived, by the wall clock.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// `Action`, as sent; empty when it was absent.
    pub operation: String,
    /// Every parameter but `Signature`: common ones, nonce and timestamp included.
    pub params: BTreeMap<String, String>,
    /// `AccessKeyId`, as sent.
    pub access_key_id: String,
    /// The status that was decided, sent or not.
    pub http_status: u16,
    /// The error code; null on success.
    pub code: Option<String>,
    /// `RequestId` of the answer.
    pub request_id: String,
    /// The job that was created, or that the request named.
    pub job_id: Option<String>,
    /// The work was done but the answer was withheld.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

fn milliseconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}
