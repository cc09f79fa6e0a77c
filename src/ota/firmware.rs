//! An update package as the cloud tells it (ota-api: sections 6.5, 6.6, 7.5).
//!
//! Pure values. Whether a rollout verifies a package never comes in; neither does decoding.

use super::id::FirmwareId;

/// `Status` of a package (7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirmwareStatus {
    /// −1: made with `NeedToVerify=false`.
    Exempt,
    /// 0.
    Unverified,
    /// 1.
    Verified,
    /// 2: a verify job runs.
    Verifying,
    /// 3: may be verified again.
    VerifyFailed,
    /// A number that the documents don't know.
    Other(i64),
}

impl FirmwareStatus {
    /// Reads the wire number.
    pub fn from_number(number: i64) -> Self {
        match number {
            -1 => Self::Exempt,
            0 => Self::Unverified,
            1 => Self::Verified,
            2 => Self::Verifying,
            3 => Self::VerifyFailed,
            other => Self::Other(other),
        }
    }

    /// The wire number.
    pub fn number(self) -> i64 {
        match self {
            Self::Exempt => -1,
            Self::Unverified => 0,
            Self::Verified => 1,
            Self::Verifying => 2,
            Self::VerifyFailed => 3,
            Self::Other(number) => number,
        }
    }

    /// Whether the cloud takes upgrade jobs for such a package.
    pub fn allows_upgrades(self) -> bool {
        matches!(self, Self::Exempt | Self::Verified)
    }
}

/// An update package.
#[derive(Debug, Clone, PartialEq)]
pub struct Firmware {
    /// Its id.
    pub id: FirmwareId,
    /// Its name, unique per account; empty if the service left it out.
    pub name: String,
    /// The version that it brings: `DestVersion`.
    pub version: String,
    /// Differential packages only: the version that it is for.
    pub src_version: Option<String>,
    /// Whether it holds only the difference to `src_version` (`Type` 1).
    pub differential: bool,
    /// Its module (`ModuleName`), if the answer says so.
    pub module: Option<String>,
    /// Its product, if it has one.
    pub product_key: Option<String>,
    /// Its verification state.
    pub status: FirmwareStatus,
    /// 0 to 100; QueryOTAFirmware only.
    pub verify_progress: Option<i64>,
    /// Number of files; QueryOTAFirmware only.
    pub files: Option<usize>,
    /// Bytes of all its files together, if the answer says so.
    pub size: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_and_only_two_allow_upgrades() {
        for number in -3..10 {
            let status = FirmwareStatus::from_number(number);
            assert_eq!(status.number(), number);
            assert_eq!(status.allows_upgrades(), number == -1 || number == 1);
        }
    }
}
