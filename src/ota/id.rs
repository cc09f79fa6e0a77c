//! Names that the cloud gives or takes: jobs, packages, devices.
//!
//! They are opaque: more than one vendor serves this API, so a pattern is never checked here, nor anywhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most device names that a list file holds (ota-api: section 6.8b).
pub const MOST_LISTED: usize = 10_000;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes any text.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text as the cloud wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    )* };
}

names! {
    /// A job: `JobId`.
    JobId;
    /// An update package: `FirmwareId`.
    FirmwareId;
    /// A device within its product: `DeviceName`.
    DeviceName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_serialisation_unchanged() {
        for text in ["HvKuBpuk3rdk6E92CP00000200", "", "a/b c\"d", "作业-7"] {
            let id = JobId::new(text);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), id);
            assert_eq!((id.as_str(), id.to_string().as_str(), id.as_ref()), (text, text, text));
        }
    }
}
