//! The parameters of one call, read by name: scalars, lists and tags in their wire forms (ota-api: section 1, 5.1).
//!
//! Here belongs reading and its format errors. Which values make sense for an operation belongs there.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Refusal;
use super::switches::Edition;

/// Tags a create may carry, and what all their keys and values may add up to.
const TAGS_MAX: usize = 10;
const TAGS_TOTAL_MAX: usize = 4096;
const TAG_KEY_MAX: usize = 30;

/// Under which name tags are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tags {
    /// `Tag.N`.
    OfCreate,
    /// `Tags.N`.
    OfUpdate,
}

/// The parameters of a call.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Given<'a> {
    /// From pairs as sent; the last of several with one name counts.
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        Self { pairs: pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect() }
    }

    /// A value, if the parameter was sent.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.get(name).copied()
    }

    /// A value; empty when absent.
    pub(super) fn text(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_default()
    }

    /// Whether anything was sent under a name, alone or as a list.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.numbered(name).next().is_some()
    }

    /// `true` or `false`, in any case.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::format(name)),
        }
    }

    /// An integer; `Err` holds nothing, for the caller knows the code.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ()> {
        self.get(name).map(|text| text.parse().map_err(|_| ())).transpose()
    }

    /// `Name.1`, `Name.2`, … without gaps.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&'a str>, Refusal> {
        let entries: BTreeMap<usize, &'a str> =
            self.numbered(name).filter_map(|(rest, value)| Some((position(rest)?, value))).collect();
        contiguous(name, entries)
    }

    /// One field of a list of structs: `Name.1.Field`, `Name.2.Field`, … without gaps.
    pub(super) fn fields(&self, name: &str, field: &str) -> Result<Vec<&'a str>, Refusal> {
        let entries = self.numbered(name).filter_map(|(rest, value)| {
            let (number, suffix) = rest.split_once('.')?;
            (suffix == field).then_some((position(number)?, value))
        });
        contiguous(name, entries.collect())
    }

    /// The tags of a job: pairs of key and value, within the edition's limits.
    pub(super) fn tags(&self, under: Tags, edition: Edition) -> Result<Vec<(String, String)>, Refusal> {
        let name = match under {
            Tags::OfCreate => "Tag",
            Tags::OfUpdate => "Tags",
        };
        let (keys, values) = (self.fields(name, "Key")?, self.fields(name, "Value")?);
        if keys.len() != values.len() {
            return Err(Refusal::format(name));
        }
        let value_max = match edition {
            Edition::Current => 1024,
            Edition::Legacy => 128,
        };
        let mut total = 0;
        for (key, value) in keys.iter().zip(&values) {
            let key_fits =
                (1..=TAG_KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
            let length = value.chars().count();
            if !key_fits || !(1..=value_max).contains(&length) {
                return Err(Refusal::format(name));
            }
            total += key.len() + length;
        }
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return Err(Refusal::product("iot.ota.tag.KeyDuplicated", "A tag key is given twice."));
        }
        if keys.len() > TAGS_MAX || total > TAGS_TOTAL_MAX {
            return Err(Refusal::firmware("ParameterSizeExceedMax", "Too many tags, or too long ones."));
        }
        Ok(keys.into_iter().map(str::to_owned).zip(values.into_iter().map(str::to_owned)).collect())
    }

    /// Everything under `name.`, by what follows the dot.
    fn numbered(&self, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let prefix = format!("{name}.");
        self.pairs.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix.as_str())?, *value)))
    }
}

/// A list position: decimal, from 1, without sign or leading zero.
fn position(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

fn contiguous<'a>(name: &str, entries: BTreeMap<usize, &'a str>) -> Result<Vec<&'a str>, Refusal> {
    // Keys are distinct and at least 1, so the last one equals the count only when none is missing.
    let last = entries.last_key_value().map_or(0, |(last, _)| *last);
    if last == entries.len() { Ok(entries.into_values().collect()) } else { Err(Refusal::format(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
        text.split_whitespace().map(pair).collect()
    }

    #[test]
    fn lists_are_numeric_and_without_gaps() {
        let eleven: String = (1..=11).map(|i| format!("SrcVersion.{i}=v{i} ")).collect();
        let pairs_ = pairs(&eleven);
        let list = Given::new(&pairs_).list("SrcVersion").unwrap();
        assert_eq!((list.len(), list[1], list[10]), (11, "v2", "v11"));
        for gap in ["SrcVersion.2=a", "SrcVersion.1=a SrcVersion.3=b"] {
            assert!(Given::new(&pairs(gap)).list("SrcVersion").is_err(), "{gap}");
        }
        for other in ["SrcVersionList.1=a", "SrcVersion.0=a", "SrcVersion.01=a", "SrcVersion.x=a", "A=b"] {
            assert_eq!(Given::new(&pairs(other)).list("SrcVersion").unwrap(), Vec::<&str>::new(), "{other}");
        }
    }

    #[test]
    fn booleans_in_any_case_and_nothing_else() {
        let pairs = pairs("A=True B=false C=1 D=");
        let given = Given::new(&pairs);
        assert_eq!(given.boolean("A").unwrap(), Some(true));
        assert_eq!(given.boolean("B").unwrap(), Some(false));
        assert_eq!(given.boolean("E").unwrap(), None);
        assert!(given.boolean("C").is_err() && given.boolean("D").is_err());
    }
}
