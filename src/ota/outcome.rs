//! What becomes of a call: a value that was read, an error, or one of the three ends of a create.
//!
//! Here belong the results that the rest of the program sees. How bytes turn into them is `wire`'s affair; what to do
//! about them never comes in.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::code::{self, Class, Group};
use super::id::JobId;
use super::{NoAnswer, Operation};

/// Longest text of the cloud that is kept, in characters.
const LONGEST_MESSAGE: usize = 256;
const LONGEST_CODE: usize = 128;

/// A call that was not answered with success.
///
/// Every text in it is cleaned: one line, no control or direction-changing characters, bounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CallError {
    /// What it says about the effect of the call.
    pub class: Class,
    /// The code of ota-api section 8, or one of ours (`NotSent`, `NoAnswer`, `UnreadableAnswer`, `IncompleteList`).
    /// Empty if an error came without one.
    pub code: String,
    /// The cloud's words, for people only; at most 256 characters.
    pub message: String,
    /// The cloud's name for this exchange, for its support desk.
    pub request_id: Option<String>,
    /// How long the gateway asked us to wait; at most 120 s.
    pub retry_after: Option<Duration>,
    /// The operation that was called, where it is known.
    pub operation: Option<Operation>,
}

impl CallError {
    /// An error with cleaned texts, without request id and pause.
    pub fn new(class: Class, code: &str, message: &str) -> Self {
        Self {
            class,
            code: clean(code, LONGEST_CODE),
            message: clean(message, LONGEST_MESSAGE),
            request_id: None,
            retry_after: None,
            operation: None,
        }
    }

    /// The same error, of this exchange.
    pub fn with_request_id(mut self, request_id: &str) -> Self {
        let cleaned = clean(request_id, LONGEST_CODE);
        self.request_id = (!cleaned.is_empty()).then_some(cleaned);
        self
    }

    /// The same error, of this operation.
    pub fn of(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// What its code means; its class was told with the HTTP status in view.
    pub fn meaning(&self) -> &'static Group {
        code::meaning(&self.code, 0)
    }

    /// The RAM action that the principal lacks, where that is why it was refused.
    pub fn missing_action(&self) -> Option<String> {
        let operation = self.operation.filter(|_| self.meaning().reason == code::ACTION_FORBIDDEN)?;
        Some(format!("iot:{operation}"))
    }

    /// For a person: code, the cloud's words, what to do, and the RequestId last, as it differs from call to call.
    pub fn told(&self) -> String {
        let mut text = if self.code.is_empty() { "an error without a code".to_owned() } else { self.code.clone() };
        if !self.message.is_empty() {
            text = format!("{text}: {}", self.message);
        }
        text = match self.missing_action() {
            Some(action) => format!("{text}; allow {action} in the RAM policy of the account's user or role"),
            None => format!("{text}; {}", self.meaning().advice),
        };
        match &self.request_id {
            Some(id) => format!("{text} (RequestId {id})"),
            None => text,
        }
    }

    /// Whether it carries this code, whichever prefix the service put before it.
    pub fn is(&self, code: &str) -> bool {
        code::same(&self.code, code)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.code.is_empty() { "error without a code" } else { &self.code })?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.request_id {
            Some(id) => write!(f, " (RequestId {id})"),
            None => Ok(()),
        }
    }
}

impl From<NoAnswer> for CallError {
    fn from(absence: NoAnswer) -> Self {
        match absence {
            NoAnswer::NotSent(why) => Self::new(Class::Transient, code::NOT_SENT, &why),
            NoAnswer::Lost(why) => Self::new(Class::Unknown, code::NO_ANSWER, &why),
        }
    }
}

/// A value that was read, and when by the cloud's clocks. Of several pages: the clocks of the first, so that nothing in
/// the value is older than they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// `RequestId`; empty if the answer had none.
    pub request_id: String,
    /// The cloud's wall clock.
    pub date: Option<Timestamp>,
    /// The clock that the `Utc…` fields follow.
    pub now: Option<Timestamp>,
}

impl<T> Read<T> {
    /// The same reading of something made from the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Read<U> {
        Read { value: make(self.value), request_id: self.request_id, date: self.date, now: self.now }
    }
}

/// How a create ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The job exists.
    Accepted {
        /// Its id.
        job_id: JobId,
        /// `UtcCreate`.
        utc_create: Option<Timestamp>,
        /// `RequestId`; empty if the answer had none.
        request_id: String,
    },
    /// Surely no job came of this send; the class is `Terminal`, `Transient` or `Done`.
    Rejected(CallError),
    /// A job may exist; the class is `Unknown`.
    Unknown(CallError),
}

impl From<CallError> for Outcome {
    fn from(error: CallError) -> Self {
        match error.class {
            Class::Terminal | Class::Transient | Class::Done => Self::Rejected(error),
            Class::Unknown => Self::Unknown(error),
        }
    }
}

/// Whether a character steers whoever shows it rather than being shown: line breaks and terminals' controls, marks that turn
/// the direction of writing, and what has no width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a text is as [`clean`] leaves it, but for its length and the spaces at its ends.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(steers)
}

/// One line of at most `longest` characters: white space becomes a space; control characters and those that change the
/// direction of text or cannot be seen are left out, so that nobody's terminal is steered by an answer.
pub fn clean(text: &str, longest: usize) -> String {
    let visible = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let kept: String = visible.filter(|c| !steers(*c)).take(longest).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_bounded_line_without_steering_characters() {
        assert_eq!(clean("a\nb\tc\u{1b}[31md\u{202e}e\u{0}f\u{2028}g", 100), "a b c[31mdef g");
        assert_eq!(clean("a\u{61c}b\u{2066}c\u{9b}d\u{e0041}e\u{ad}f\u{fff9}g\u{200b}h", 100), "abcdefgh");
        assert_eq!(clean("Gerät „2“ – 系 👍🏽", 100), "Gerät „2“ – 系 👍🏽", "what is shown stays");
        assert!(is_plain("Gerät „2“ – 系 👍🏽") && !is_plain("a\nb") && !is_plain("a\u{2028}b") && !is_plain("\u{202e}"));
        assert_eq!(clean(&"系".repeat(1000), LONGEST_MESSAGE).chars().count(), 256);
        let error = CallError::new(Class::Unknown, "Co\u{7}de", &"x".repeat(9999)).with_request_id("A\r\nB");
        assert_eq!(
            (error.code.as_str(), error.message.len(), error.request_id.as_deref()),
            ("Code", 256, Some("A  B"))
        );
    }

    #[test]
    fn it_reads_as_code_message_and_request_id() {
        let error = CallError::new(Class::Terminal, "Forbidden.RAM", "no").with_request_id("5EED");
        assert_eq!(error.to_string(), "Forbidden.RAM: no (RequestId 5EED)");
        assert_eq!(CallError::new(Class::Unknown, "", "").to_string(), "error without a code");
    }

    #[test]
    fn a_forbidden_call_names_the_action_that_is_missing() {
        let error = CallError::new(Class::Terminal, "Forbidden.RAM", "no").of(Operation::QueryOTAJob);
        assert_eq!(error.missing_action().as_deref(), Some("iot:QueryOTAJob"));
        assert!(error.told().contains("allow iot:QueryOTAJob"), "{}", error.told());
        let other = CallError::new(Class::Terminal, code::INSTANCE_NOT_FOUND, "no").of(Operation::QueryOTAJob);
        assert_eq!(other.missing_action(), None);
    }

    #[test]
    fn absence_of_an_answer_keeps_apart_what_never_left() {
        let not_sent = Outcome::from(CallError::from(NoAnswer::NotSent("refused".into())));
        let lost = Outcome::from(CallError::from(NoAnswer::Lost("reset".into())));
        assert!(matches!(&not_sent, Outcome::Rejected(e) if e.class == Class::Transient && e.code == "NotSent"));
        assert!(matches!(&lost, Outcome::Unknown(e) if e.code == "NoAnswer" && e.message == "reset"));
    }

    #[test]
    fn a_code_is_recognised_under_each_prefix() {
        let error = CallError::new(Class::Terminal, "iot.ota.FirmwareNotFound", "");
        assert!(error.is(code::FIRMWARE_NOT_FOUND));
        assert!(!error.is(code::INVALID_FIRMWARE_ID));
    }
}
