//! Kubernetes durations (`90s`, `30m`, `168h`): text in, exact length out.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most digits of one number: 999,999,999 h are 114,000 years.
const MOST_DIGITS: usize = 9;
/// Longest text, in bytes.
const LONGEST_TEXT: usize = 64;

/// A length of time, zero or more. Keeps the user's spelling, so that what was written is what is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    text: String,
    length: Duration,
}

impl Span {
    /// Parses the units that Kubernetes knows: `h`, `m`, `s`, `ms`; there are no days.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration: write for example 90s, 30m or 168h (no days)");
        // The parser panics at numbers beyond any length of time.
        let long = text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MOST_DIGITS);
        if long || text.len() > LONGEST_TEXT {
            return Err(wrong());
        }
        let parsed: kube::core::Duration = text.parse().map_err(|_| wrong())?;
        if text.is_empty() || parsed.is_negative() {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), length: parsed.into() })
    }

    /// From a length, spelt in the largest unit that divides it.
    pub fn from_duration(length: Duration) -> Self {
        let seconds = length.as_secs();
        let text = match () {
            () if length.subsec_millis() != 0 => format!("{}ms", length.as_millis()),
            () if seconds == 0 => "0s".to_owned(),
            () if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
            () if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            () => format!("{seconds}s"),
        };
        Self { text, length }
    }

    /// The length.
    pub const fn length(&self) -> Duration {
        self.length
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 24,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$')",
                "message": "must be a duration such as 90s, 30m or 168h (there are no days)",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_kubernetes_parses_and_keeps_the_spelling() {
        for (text, seconds) in [("168h", 604_800), ("90s", 90), ("1h30m", 5_400), ("0s", 0)] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.length(), Duration::from_secs(seconds));
            assert_eq!(span.to_string(), text);
        }
        for text in ["7d", "", "5", "-5m", "1 h", "5200000000000000h", &"9h".repeat(40)] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
        assert!(Span::parse("7d").unwrap_err().contains("no days"));
    }

    #[test]
    fn spells_lengths_in_the_largest_unit() {
        for text in ["4h", "90s", "30m", "0s", "1500ms"] {
            let span = Span::parse(text).unwrap();
            assert_eq!(Span::from_duration(span.length()), span);
        }
    }
}
