//! Percentages as exact decimals. How a rollout plans with them is `rollout::percent`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A percentage from 0 to 100 with at most three decimals, as the cloud's `GrayPercent` has (ota-api: section 3).
/// Written as an integer (`5`) or as text (`"33.333"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// 100 %.
    pub const ALL: Self = Self(100_000);

    /// From thousandths of a percent.
    pub const fn from_milli(milli: u32) -> Option<Self> {
        if milli <= 100_000 { Some(Self(milli)) } else { None }
    }

    /// Whole percent; more than 100 counts as 100.
    pub const fn whole(percent: u32) -> Self {
        if percent >= 100 { Self::ALL } else { Self(percent * 1_000) }
    }

    /// In thousandths of a percent, 0..=100,000.
    pub const fn milli(self) -> u32 {
        self.0
    }

    /// Parses decimal text without sign, exponent or `%`.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a percentage: write a number from 0 to 100 with at most three decimals, without %")
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str, most: usize| !s.is_empty() && s.len() <= most && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(fraction, 3) {
            return Err(wrong());
        }
        let milli = format!("{whole}{fraction:0<3}").parse().map_err(|_| wrong())?;
        Self::from_milli(milli).ok_or_else(wrong)
    }
}

/// Shortest decimal text: `5`, `4.04`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000, self.0 % 1_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{fraction:03}").trim_end_matches('0'))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1_000) {
            serializer.serialize_u32(self.0 / 1_000)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage: an integer, or text such as \"33.333\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Percent, E> {
                Percent::parse(&value.to_string()).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Percent, E> {
                Percent::parse(&value.to_string()).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Percent, E> {
                Percent::parse(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 7,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self >= 0 && self <= 100 \
                         : self.matches('^(100([.]0{1,3})?|[0-9]{1,2}([.][0-9]{1,3})?)$')",
                "message": "must be a percentage from 0 to 100: an integer, or a quoted decimal with at most three \
                            decimals such as \"33.333\" (no % sign)",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_integers_and_exact_decimals() {
        for (json, milli) in
            [("5", 5_000), ("\"33.333\"", 33_333), ("\"0.001\"", 1), ("100", 100_000), ("\"4.04\"", 4_040)]
        {
            assert_eq!(serde_json::from_str::<Percent>(json).unwrap().milli(), milli, "{json}");
        }
        for json in [
            "101",
            "-1",
            "\"33.3333\"",
            "\"5%\"",
            "\"3e1\"",
            "\"33,3\"",
            "\"\"",
            "\".5\"",
            "\"5.\"",
            "5.5",
            "\"100.001\"",
        ] {
            assert!(serde_json::from_str::<Percent>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(milli in 0u32..=100_000) {
            let percent = Percent::from_milli(milli).unwrap();
            prop_assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
            let json = serde_json::to_string(&percent).unwrap();
            prop_assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), percent);
        }
    }
}
