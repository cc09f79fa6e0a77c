//! What the cloud says: successes and the two layers of refusals, as bodies in JSON or XML (ota-api: section 8).
//!
//! Here belong envelopes and helpers for their fields. What is said, and why, belongs to the operations.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::parameters::Given;
use super::switches::SuccessCode;
use crate::ota::wire::xml;

/// Fields of an answer's JSON object.
pub(super) type Fields = Map<String, Value>;

/// The `HostId` of gateway refusals.
const HOST: &str = "iot.simulated.invalid";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// What a call asks for: XML when it says nothing, for that is the gateway's default; none for anything unheard of.
    pub(super) fn wanted(given: &Given<'_>) -> Option<Self> {
        match given.text("Format") {
            json if json.eq_ignore_ascii_case("JSON") => Some(Self::Json),
            xml if xml.is_empty() || xml.eq_ignore_ascii_case("XML") => Some(Self::Xml),
            _ => None,
        }
    }

    /// `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }

    fn write(self, root: &str, fields: Fields) -> String {
        match self {
            Self::Json => serde_json::to_string(&fields).unwrap_or_default(),
            Self::Xml => xml::encode(root, &fields),
        }
    }
}

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
    pub(super) fn throttled(status: u16, retry_after_ms: Option<u64>) -> Self {
        let message = "Request was denied due to user flow control.".to_owned();
        Self::Gateway { status, code: "Throttling.User".to_owned(), message, retry_after_ms }
    }

    /// A parameter that this operation does not take.
    pub(super) fn unsupported(parameter: &str) -> Self {
        Self::gateway(400, "UnsupportedParameter", format!("{parameter} is not supported by this action."))
    }

    /// Something that this region, edition or kind of instance does not have.
    pub(super) fn not_here(what: &str) -> Self {
        let message = format!("{what} is not supported in this instance.");
        Self::product("iot.common.APINotSupportedInInstance", message)
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

    /// The body, for an operation that was asked for by this name.
    pub(super) fn body(self, request_id: &str, operation: &str, format: Format) -> String {
        let mut fields = Fields::from_iter([("RequestId".to_owned(), request_id.into())]);
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        match self {
            Self::Gateway { code, message, .. } => {
                put("HostId", HOST.into());
                put("Code", code.into());
                put("Message", message.into());
                format.write("Error", fields)
            }
            Self::Product { code, message } => {
                put("Success", false.into());
                put("Code", code.into());
                put("ErrorMessage", message.into());
                format.write(&format!("{operation}Response"), fields)
            }
        }
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

    /// The body, for an operation.
    pub(super) fn body(mut self, request_id: &str, operation: &str, format: Format, code: SuccessCode) -> String {
        self.fields.insert("RequestId".to_owned(), request_id.into());
        self.fields.insert("Success".to_owned(), true.into());
        match code {
            SuccessCode::Absent => {}
            SuccessCode::Empty => _ = self.fields.insert("Code".to_owned(), "".into()),
            SuccessCode::Success => _ = self.fields.insert("Code".to_owned(), "success".into()),
        }
        format.write(&format!("{operation}Response"), self.fields)
    }
}

/// ISO 8601 with milliseconds, as every `Utc…` field is written, from Unix milliseconds.
pub(super) fn utc(ms: i64) -> Value {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    Value::String(format!("{at:.3}"))
}
