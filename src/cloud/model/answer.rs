//! What the cloud says: successes and the two layers of refusals, as JSON bodies (ota-api: section 8).
//!
//! Here belong envelopes and helpers for their fields. What is said, and why, belongs to the operations.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Fields of an answer's JSON object.
pub(super) type Fields = Map<String, Value>;

/// The `HostId` of gateway refusals.
const HOST: &str = "iot.simulated.invalid";

/// Why a call is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By the gateway: authentication, quota, mandatory parameters.
    Gateway { status: u16, code: String, message: String, retry_after_ms: Option<u64> },
    /// By a rule of the product.
    Product { code: String, message: String },
}

/// A success: the fields beside `RequestId` and `Success`, and the job it concerns.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    pub(super) fields: Fields,
    pub(super) created_job: Option<String>,
}

impl Refusal {
    pub(super) fn gateway(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self::Gateway { status, code: code.to_owned(), message: message.into(), retry_after_ms: None }
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::gateway(400, &format!("Missing{parameter}"), format!("{parameter} is mandatory for this action."))
    }

    /// `Throttling.User`, with the rest of the quota's window as a hint when there is one.
    pub(super) fn throttled(retry_after_ms: Option<u64>) -> Self {
        let message = "Request was denied due to user flow control.".to_owned();
        Self::Gateway { status: 400, code: "Throttling.User".to_owned(), message, retry_after_ms }
    }

    /// A product code, written out.
    pub(super) fn product(code: &str, message: impl Into<String>) -> Self {
        Self::Product { code: code.to_owned(), message: message.into() }
    }

    /// A product code with the prefix `iot.firmware.`.
    pub(super) fn firmware(code: &str, message: impl Into<String>) -> Self {
        Self::Product { code: format!("iot.firmware.{code}"), message: message.into() }
    }

    /// A parameter that cannot be read.
    pub(super) fn format(parameter: &str) -> Self {
        Self::product("iot.common.InvalidFormattedParameter", format!("{parameter} is not formatted correctly."))
    }

    pub(super) fn code(&self) -> &str {
        match self {
            Self::Gateway { code, .. } | Self::Product { code, .. } => code,
        }
    }

    pub(super) fn status(&self, product_status: u16) -> u16 {
        match self {
            Self::Gateway { status, .. } => *status,
            Self::Product { .. } => product_status,
        }
    }

    pub(super) fn body(&self, request_id: &str) -> String {
        match self {
            Self::Gateway { code, message, .. } => {
                json!({"RequestId": request_id, "HostId": HOST, "Code": code, "Message": message})
            }
            Self::Product { code, message } => {
                json!({"RequestId": request_id, "Success": false, "Code": code, "ErrorMessage": message})
            }
        }
        .to_string()
    }
}

impl Done {
    /// A success that says no more than that.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    /// A success with one object.
    pub(super) fn object(name: &str, value: impl Into<Value>) -> Self {
        Self { fields: Fields::from_iter([(name.to_owned(), value.into())]), created_job: None }
    }

    pub(super) fn body(mut self, request_id: &str) -> String {
        self.fields.insert("RequestId".to_owned(), request_id.into());
        self.fields.insert("Success".to_owned(), true.into());
        Value::Object(self.fields).to_string()
    }
}

/// ISO 8601 with milliseconds, as every `Utc…` field is written, from Unix milliseconds.
pub(super) fn utc(ms: i64) -> Value {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    Value::String(format!("{at:.3}"))
}
