//! The envelope of every answer: is it a success, an error, or neither (ota-api: section 8); and reading its fields.
//!
//! Here belongs tolerance: JSON or XML, both spellings of a name, numbers as text, the many ways to write an empty list.
//! Which fields make a job or a task is `decode`'s affair; the simulated cloud writes XML with [`xml::encode`].

pub mod xml;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Answer;
use super::code::{self, Class};
use super::outcome::{CallError, Read, clean, is_plain};

/// Longest body that is read, in bytes. The largest honest one, 200 jobs with full tags, stays under 2 MiB.
pub const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// A successful answer, not yet taken apart.
#[derive(Debug)]
pub(super) struct Document {
    root: Map<String, Value>,
    request_id: String,
    date: Option<Timestamp>,
    now: Option<Timestamp>,
}

/// Tells success from error, at any HTTP status.
///
/// Success is `Success: true` with a status below 400, or, where `Success` is missing, a 2xx with a payload and without
/// a code. An error is anything with a `Code`, or `Success: false`. The rest is unreadable, of class `Unknown` (429:
/// `Transient`).
pub(super) fn judge(answer: &Answer) -> Result<Document, CallError> {
    let Answer { http_status: status, retry_after, .. } = *answer;
    let Some(root) = fields(&answer.body) else {
        let why = format!("HTTP {status} with {} bytes that are neither JSON nor XML", answer.body.len());
        let error = CallError::new(code::class_of(code::UNREADABLE_ANSWER, status), code::UNREADABLE_ANSWER, &why);
        return Err(CallError { retry_after, ..error });
    };
    let top = Node(&root);
    let request_id = top.text("RequestId").unwrap_or_default();
    let code = top.text("Code").unwrap_or_default();
    let payload = top.node("Data").is_some() || top.node("FirmwareInfo").is_some();
    let refused = match top.flag("Success") {
        Some(true) => false,
        Some(false) => true,
        None => !code.is_empty(),
    };
    if refused {
        let message = top.text("ErrorMessage").or_else(|| top.text("Message")).unwrap_or_default();
        let error = CallError::new(code::class_of(&code, status), &code, without_echo(&code, &message));
        return Err(CallError { retry_after, ..error }.with_request_id(&request_id));
    }
    let succeeded = match top.flag("Success") {
        Some(_) => status < 400,
        None => (200..300).contains(&status) && payload,
    };
    if !succeeded {
        let why = format!("HTTP {status} that is neither success nor error");
        let error = CallError::new(code::class_of(code::UNREADABLE_ANSWER, status), code::UNREADABLE_ANSWER, &why);
        return Err(CallError { retry_after, ..error }.with_request_id(&request_id));
    }
    Ok(Document { request_id, root, date: answer.date, now: answer.now })
}

/// The top level of a body in either format. What a proxy says in HTML is XML, if at all, without our fields.
pub(super) fn fields(body: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('<') {
        return xml::decode(text).ok();
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(root)) => Some(root),
        _ => None,
    }
}

/// Whether the account's quota refused a call.
pub fn throttled(answer: &Answer) -> bool {
    code::is_throttling(&code_of(&answer.body).unwrap_or_default(), answer.http_status)
}

/// The code of a refusal; none: a body without one, or a long one, which is never a refusal.
pub(super) fn code_of(body: &[u8]) -> Option<String> {
    let root = if body.len() < 64 * 1024 { fields(body) } else { None };
    root.as_ref().and_then(|root| Node(root).text("Code"))
}

/// What an answer that is no success says about the effect of the call. Cheap for large bodies: those are lists.
pub(super) fn refused(answer: &Answer) -> Option<Class> {
    if answer.body.len() < 64 * 1024 { judge(answer).err().map(|error| error.class) } else { None }
}

/// `SignatureDoesNotMatch` carries the server's string to sign after a colon (section 8): all our parameters, an STS
/// token among them. It stays out.
fn without_echo<'a>(code: &str, message: &'a str) -> &'a str {
    let echoes = code::same(code, code::SIGNATURE_DOES_NOT_MATCH) || code.starts_with("IncompleteSignature");
    match message.split_once(':') {
        Some((head, _)) if echoes => head,
        _ => message,
    }
}

/// An answer that claims success and lacks what the documents promise.
pub(super) fn unreadable(what: &str) -> CallError {
    CallError::new(Class::Unknown, code::UNREADABLE_ANSWER, what)
}

impl Document {
    /// The top level.
    pub(super) fn root(&self) -> Node<'_> {
        Node(&self.root)
    }

    /// Makes the value and notes when it was read. What the value lacks is told with this answer's request id.
    pub(super) fn read<T>(&self, make: impl FnOnce(Node<'_>) -> Result<T, CallError>) -> Result<Read<T>, CallError> {
        let value = make(self.root()).map_err(|e| e.with_request_id(&self.request_id))?;
        Ok(Read { value, request_id: self.request_id.clone(), date: self.date, now: self.now })
    }
}

/// An object of an answer. Every name is looked up as documented, then with its first letter in lower case; null counts
/// as absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a>(&'a Map<String, Value>);

impl<'a> Node<'a> {
    /// The top level of an answer.
    pub(super) fn of(root: &'a Map<String, Value>) -> Self {
        Self(root)
    }

    fn get(self, name: &str) -> Option<&'a Value> {
        let found = self.0.get(name).or_else(|| {
            let mut letters = name.chars();
            let first = letters.next()?.to_ascii_lowercase();
            self.0.get(&format!("{first}{}", letters.as_str()))
        });
        found.filter(|value| !value.is_null())
    }

    /// Text, or a number or flag as text; empty text counts as absent. Without what steers whoever shows it: who writes an
    /// answer is not who reads our logs.
    pub(super) fn text(self, name: &str) -> Option<String> {
        self.verbatim(name).map(plain)
    }

    /// As [`Node::text`], but as it stands there: for what is sent back and never shown.
    pub(super) fn verbatim(self, name: &str) -> Option<String> {
        scalar(self.get(name)?)
    }

    /// A whole number, or its text.
    pub(super) fn int(self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A number that counts something.
    pub(super) fn count(self, name: &str) -> Option<u64> {
        self.int(name).and_then(|n| u64::try_from(n).ok())
    }

    /// A flag, or its text in any case.
    pub(super) fn flag(self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// ISO 8601 in UTC.
    pub(super) fn time(self, name: &str) -> Option<Timestamp> {
        self.text(name)?.parse().ok()
    }

    /// An object.
    pub(super) fn node(self, name: &str) -> Option<Node<'a>> {
        self.get(name)?.as_object().map(Node)
    }

    /// The elements of `outer.inner[]`, or of a bare `outer[]`. Absent, null, `{}`, `[]` and `""` are empty; an object or
    /// a text where the inner array should be is its only element, as XML has it. Anything else is unreadable.
    pub(super) fn list(self, outer: &str, inner: &str) -> Result<Vec<&'a Value>, CallError> {
        let list = match self.get(outer) {
            Some(Value::Object(wrapper)) => Node(wrapper).get(inner),
            Some(Value::String(text)) if !text.is_empty() => {
                return Err(unreadable(&format!("{outer}.{inner} is no list")));
            }
            bare => bare,
        };
        elements(list).ok_or_else(|| unreadable(&format!("{outer}.{inner} is no list")))
    }

    /// The objects of a list without a wrapper; one of XML, if single, is the element itself.
    pub(super) fn bare(self, name: &str) -> Result<Vec<Node<'a>>, CallError> {
        let list = elements(self.get(name)).ok_or_else(|| unreadable(&format!("{name} is no list")))?;
        Ok(list.into_iter().filter_map(|v| v.as_object().map(Node)).collect())
    }

    /// As [`Node::list`], of objects.
    pub(super) fn nodes(self, outer: &str, inner: &str) -> Result<Vec<Node<'a>>, CallError> {
        let object = |v: &'a Value| v.as_object().map(Node).ok_or_else(|| unreadable(&format!("{inner} is no object")));
        self.list(outer, inner)?.into_iter().map(object).collect()
    }

    /// As [`Node::list`], of texts.
    pub(super) fn texts(self, outer: &str, inner: &str) -> Result<Vec<String>, CallError> {
        Ok(self.list(outer, inner)?.into_iter().filter_map(scalar).map(plain).collect())
    }
}

fn elements(list: Option<&Value>) -> Option<Vec<&Value>> {
    match list {
        None => Some(Vec::new()),
        Some(Value::Array(elements)) => Some(elements.iter().collect()),
        Some(Value::String(text)) if text.is_empty() => Some(Vec::new()),
        Some(Value::Object(only)) if only.is_empty() => Some(Vec::new()),
        Some(only @ (Value::Object(_) | Value::String(_))) => Some(vec![only]),
        Some(_) => None,
    }
}

fn plain(text: String) -> String {
    if is_plain(&text) { text } else { clean(&text, usize::MAX) }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ota) fn answer(http_status: u16, body: &str) -> Answer {
        Answer { http_status, body: body.as_bytes().to_vec(), date: None, now: None, retry_after: None }
    }

    #[test]
    fn an_error_is_read_in_both_spellings_and_at_any_status() {
        for (status, body) in [
            (200, r#"{"RequestId":"R","Success":false,"Code":"iot.firmware.SystemBusy","ErrorMessage":"m"}"#),
            (400, r#"{"requestId":"R","success":"false","code":"iot.firmware.SystemBusy","errorMessage":"m"}"#),
            (503, r#"{"RequestId":"R","HostId":"h","Code":"iot.firmware.SystemBusy","Message":"m"}"#),
            (200, r#"{"requestId":"R","code":"iot.firmware.SystemBusy","message":"m","Recommend":"x"}"#),
            (400, "<Error><RequestId>R</RequestId><Code>iot.firmware.SystemBusy</Code><Message>m</Message></Error>"),
            (
                200,
                " <X><requestId>R</requestId><Success>False</Success><Code>iot.firmware.SystemBusy</Code><ErrorMessage>m</ErrorMessage></X>",
            ),
        ] {
            let error = judge(&answer(status, body)).unwrap_err();
            let got = (error.code.as_str(), error.message.as_str(), error.request_id.as_deref(), error.class);
            assert_eq!(got, ("iot.firmware.SystemBusy", "m", Some("R"), Class::Transient), "{body}");
        }
    }

    #[test]
    fn success_is_decided_on_the_flag_not_on_the_status_or_code() {
        for body in [
            r#"{"Success":true,"Code":"","Data":{}}"#,
            r#"{"Success":true,"Code":"success"}"#,
            r#"{"success":"True"}"#,
            r#"{"RequestId":"R","Data":{"JobId":"j"}}"#,
            "\u{feff}{\"Success\":true}",
            "<R><Success>true</Success><Code/></R>",
        ] {
            assert!(judge(&answer(200, body)).is_ok(), "{body}");
        }
        let error = judge(&answer(200, r#"{"Success":false}"#)).unwrap_err();
        assert_eq!((error.code.as_str(), error.class), ("", Class::Unknown));
    }

    #[test]
    fn what_is_neither_is_unreadable_and_unknown() {
        for (status, body) in [
            (200, ""),
            (200, "{}"),
            (200, "[]"),
            (200, "null"),
            (200, "<html>busy</html>"),
            (200, r#"{"Success":true"#),
            (302, r#"{"Data":{}}"#),
            (502, "Bad Gateway"),
            (403, "<html><head><title>403</title></head><body><h1>no</h1></body></html>"),
            (200, "<R><Success>true</Success>"),
            (200, "<R/>"),
            (500, r#"{"Success":true,"Data":{"JobId":"j"}}"#),
            (200, "\u{feff}"),
        ] {
            let error = judge(&answer(status, body)).unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.class),
                (code::UNREADABLE_ANSWER, Class::Unknown),
                "{status} {body}"
            );
        }
        assert_eq!(judge(&answer(429, "slow down")).unwrap_err().class, Class::Transient);
    }

    #[test]
    fn the_pause_and_not_the_echoed_parameters_reach_the_error() {
        let pause = std::time::Duration::from_millis(1500);
        let body = r#"{"Code":"SignatureDoesNotMatch","Message":"not matched. server string to sign is:POST&SecurityToken%3Dsts"}"#;
        let error = judge(&Answer { retry_after: Some(pause), ..answer(400, body) }).unwrap_err();
        assert_eq!(error.retry_after, Some(pause));
        assert_eq!(error.message, "not matched. server string to sign is");
    }

    #[test]
    fn lists_are_empty_in_many_ways_and_never_by_mistake() {
        let names = |body: &str| {
            let Value::Object(root) = serde_json::from_str(body).unwrap() else { panic!("{body}") };
            Node(&root).texts("Data", "X")
        };
        for body in [r#"{}"#, r#"{"Data":null}"#, r#"{"Data":{}}"#, r#"{"Data":[]}"#, r#"{"Data":""}"#] {
            assert_eq!(names(body), Ok(vec![]), "{body}");
        }
        for body in [r#"{"Data":{"X":null}}"#, r#"{"Data":{"X":{}}}"#, r#"{"Data":{"X":""}}"#, r#"{"Data":{"Y":1}}"#] {
            assert_eq!(names(body), Ok(vec![]), "{body}");
        }
        assert_eq!(names(r#"{"Data":{"X":["a",1]}}"#), Ok(vec!["a".to_owned(), "1".to_owned()]));
        assert_eq!(names(r#"{"data":["a"]}"#), Ok(vec!["a".to_owned()]));
        assert_eq!(names(r#"{"Data":{"X":"a"}}"#), Ok(vec!["a".to_owned()]), "of XML");
        for body in [r#"{"Data":"a"}"#, r#"{"Data":7}"#, r#"{"Data":{"X":true}}"#] {
            assert_eq!(names(body).unwrap_err().code, code::UNREADABLE_ANSWER, "{body}");
        }
    }

    #[test]
    fn scalars_are_read_from_text_and_number() {
        let Value::Object(root) = serde_json::json!({"A": 5, "b": "6", "C": "true", "D": "", "E": -1, "F": "x", "G": null,
            "T": "2019-12-28T02:43:10.000Z"})
        else {
            panic!()
        };
        let node = Node(&root);
        assert_eq!((node.int("A"), node.int("B"), node.int("F"), node.int("G")), (Some(5), Some(6), None, None));
        assert_eq!((node.count("A"), node.count("E")), (Some(5), None));
        assert_eq!((node.flag("C"), node.flag("F")), (Some(true), None));
        assert_eq!((node.text("A").as_deref(), node.text("D")), (Some("5"), None));
        assert_eq!(node.time("T"), Some("2019-12-28T02:43:10Z".parse().unwrap()));
        assert_eq!(node.time("F"), None);
    }

    #[test]
    fn a_refusals_code_is_found_in_both_formats() {
        assert_eq!(code_of(br#"{"Code":"Throttling.User"}"#).as_deref(), Some("Throttling.User"));
        assert_eq!(code_of(b"<Error><Code>Throttling.User</Code></Error>").as_deref(), Some("Throttling.User"));
        assert_eq!(code_of(br#"{"Success":true,"Data":{}}"#), None);
        assert_eq!(code_of(b""), None);
        let long = format!(r#"{{"Code":"Throttling","Message":"{}"}}"#, "x".repeat(64 * 1024));
        assert_eq!(code_of(long.as_bytes()), None);
    }
}
