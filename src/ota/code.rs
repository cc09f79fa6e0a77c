//! Error codes: what each one says about the effect of the call that it answers (ota-api: section 8).
//!
//! Here belongs the catalogue of codes and their classes. What a rollout does about a class never comes in, and neither
//! do message texts: they are not fixed, nothing may match on them.

/// What an error says about the effect of the send that it answers.
///
/// It speaks of that one send only: a refusal of a repeated request says nothing about an earlier copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Refused without effect; refused again until the request or the state of things changes.
    Terminal,
    /// Refused without effect; may be taken later as it is.
    Transient,
    /// May have had its effect. For a read, which has none, this is as good as [`Class::Transient`]: read again, with
    /// growing pauses.
    Unknown,
}

impl Class {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "Terminal",
            Self::Transient => "Transient",
            Self::Unknown => "Unknown",
        }
    }
}

/// No device of the selection can be upgraded (8.2).
pub const NO_DEVICE_CAN_UPGRADE: &str = "iot.firmware.NoDeviceCanUpgrade";
/// The package is being verified, or is verified (section 2, 8.2).
pub const IN_PROGRESS_VERIFY_JOB_EXISTED: &str = "iot.firmware.InProgressVerifyJobExisted";
/// A dynamic job of the package runs (8.2).
pub const IN_PROGRESS_DYNAMIC_JOB_EXISTED: &str = "iot.firmware.InProgressDynamicJobExisted";
/// The package was refused for verification (8.2).
pub const VERIFY_FIRMWARE_FAILED: &str = "iot.firmware.VerifyFirmwareFailed";
/// An upgrade job needs a package that is verified or exempt (7.5).
pub const FIRMWARE_NOT_VERIFIED: &str = "iot.firmware.FirmwareNotVerified";
/// There is no such package (8.2); also seen with the prefix `iot.ota.`.
pub const FIRMWARE_NOT_FOUND: &str = "iot.firmware.FirmwareNotFound";
/// This is no package's id (8.2).
pub const INVALID_FIRMWARE_ID: &str = "iot.firmware.InvalidFirmwareId";
/// There is no such job (8.2).
pub const INVALID_OTA_JOB_ID: &str = "iot.firmware.InvalidOTAJobId";
/// `CancelScheduledTask` was asked of a job without ScheduleTime (6.9).
pub const JOB_HAS_NO_SCHEDULE_TIME: &str = "iot.firmware.JobHasNoScheduleTime";
/// The job is cancelled already: for a cancel, as good as success (8.2, section 12).
pub const JOB_ALREADY_CANCELED: &str = "iot.firmware.JobAlreadyCanceled";
/// A cancel without any option (6.9).
pub const CANCEL_OPTION_IS_MANDATORY: &str = "iot.firmware.CancelOptionIsMandatory";
/// More names or versions than a request takes (8.2).
pub const PARAMETER_SIZE_EXCEED_MAX: &str = "iot.firmware.ParameterSizeExceedMax";
/// A device list is required and empty (8.2).
pub const NULL_TARGET_DEVICE_NAMES: &str = "iot.firmware.NullTargetDeviceNames";
/// The package's product is another one (8.2).
pub const FIRMWARE_AND_PRODUCT_KEY_MISMATCH: &str = "iot.firmware.FirmwareAndProductKeyMismatch";
/// The service is busy: later (8.2).
pub const SYSTEM_BUSY: &str = "iot.firmware.SystemBusy";
/// Too many devices upgrade at the moment: later (8.2).
pub const TOO_MANY_DEVICE_UPGRADE: &str = "iot.firmware.TooManyDeviceUpgrade";
/// A failure inside the service (8.2).
pub const SYSTEM_EXCEPTION: &str = "iot.system.SystemException";
/// The instance id is wrong, or missing where there is one (1.2).
pub const INSTANCE_NOT_FOUND: &str = "iot.system.InstanceNotFound";
/// An earlier copy of this very request did arrive (8.1).
pub const SIGNATURE_NONCE_USED: &str = "SignatureNonceUsed";
/// Wrong secret, or a signing bug (8.1).
pub const SIGNATURE_DOES_NOT_MATCH: &str = "SignatureDoesNotMatch";
/// Wrong access key id (8.1).
pub const INVALID_ACCESS_KEY_ID_NOT_FOUND: &str = "InvalidAccessKeyId.NotFound";
/// The access key is disabled (8.1).
pub const INVALID_ACCESS_KEY_ID_INACTIVE: &str = "InvalidAccessKeyId.Inactive";
/// The request's Timestamp is more than 15 minutes off (8.1).
pub const INVALID_TIME_STAMP_EXPIRED: &str = "InvalidTimeStamp.Expired";
/// The STS token has expired (8.1).
pub const INVALID_SECURITY_TOKEN_EXPIRED: &str = "InvalidSecurityToken.Expired";

/// Ours: the request never left this machine.
pub const NOT_SENT: &str = "NotSent";
/// Ours: the request may have left, and no answer came.
pub const NO_ANSWER: &str = "NoAnswer";
/// Ours: an answer came, and is not what the documents describe.
pub const UNREADABLE_ANSWER: &str = "UnreadableAnswer";
/// Ours: a list that kept changing while its pages were read.
pub const INCOMPLETE_LIST: &str = "IncompleteList";

/// Every code of 8.1 and 8.2 that has a name of its own; families are in [`class_of`].
const CATALOGUE: &[(Class, &[&str])] = &[
    (
        Class::Transient,
        &[
            "Throttling",
            "Throttling.User",
            "Throttling.Api",
            INVALID_TIME_STAMP_EXPIRED,
            INVALID_SECURITY_TOKEN_EXPIRED,
            SYSTEM_BUSY,
            TOO_MANY_DEVICE_UPGRADE,
            NOT_SENT,
            INCOMPLETE_LIST,
        ],
    ),
    (
        Class::Unknown,
        &[
            "ServiceUnavailable",
            "InternalError",
            "UnknownError",
            SIGNATURE_NONCE_USED,
            SYSTEM_EXCEPTION,
            "iot.firmware.CreateOTAUpgradeJobFailure",
            // A cancel that failed may have cancelled some; repeating it does no harm.
            "iot.firmware.CancelOTATaskByJobFailed",
            "iot.firmware.CancelOTAStrategyByJobFailed",
            "iot.firmware.BatchCancelDeviceUpgradeFailed",
            NO_ANSWER,
        ],
    ),
    (
        Class::Terminal,
        &[
            "InvalidTimeStamp.Format",
            "IllegalTimestamp",
            "InvalidSecurityToken.Malformed",
            "InvalidSecurityToken.MismatchWithAccessKey",
            SIGNATURE_DOES_NOT_MATCH,
            "IncompleteSignature",
            INVALID_ACCESS_KEY_ID_NOT_FOUND,
            INVALID_ACCESS_KEY_ID_INACTIVE,
            "MissingParameter",
            "InvalidParameter",
            "InvalidParameter.Format",
            "UnsupportedParameter",
            "InvalidApi.NotFound",
            "InvalidAction",
            "NoSuchVersion",
            "InvalidProduct.NotFound",
            "UnsupportedHTTPMethod",
            "InvalidProtocol.NeedSsl",
            "Forbidden",
            "Forbidden.RAM",
            "NoPermission",
            "Forbidden.RiskControl",
        ],
    ),
    (
        Class::Terminal,
        &[
            INSTANCE_NOT_FOUND,
            "iot.system.UidNotFound",
            "iot.system.IllegalRequest",
            "iot.system.BillIsOverDue",
            "iot.Sre.IotInstanceNotFound",
            "iot.common.InvalidPageParams",
            "iot.common.InvalidTenant",
            "iot.common.RamActionPermissionDeny",
            "iot.common.AuthActionPermissionDeny",
            "iot.common.APINotSupportedInInstance",
            "iot.common.InvalidFormattedParameter",
            FIRMWARE_NOT_FOUND,
            INVALID_FIRMWARE_ID,
            "iot.firmware.NullFirmwareId",
            INVALID_OTA_JOB_ID,
            "iot.firmware.NullOTAJobId",
            "iot.firmware.InvalidOTATaskId",
            "iot.firmware.NullTaskId",
            "iot.firmware.DeviceUpgradeRecordNotFound",
            FIRMWARE_NOT_VERIFIED,
            IN_PROGRESS_VERIFY_JOB_EXISTED,
            VERIFY_FIRMWARE_FAILED,
            FIRMWARE_AND_PRODUCT_KEY_MISMATCH,
            "iot.firmware.InvalidFirmware",
            "iot.firmware.ReUpgradeFailedFirmwareNotVerified",
            IN_PROGRESS_DYNAMIC_JOB_EXISTED,
            JOB_ALREADY_CANCELED,
            JOB_HAS_NO_SCHEDULE_TIME,
            "iot.firmware.NotDynamicJob",
            "iot.firmware.IncorrectDeviceUpgradeJobStatus",
            CANCEL_OPTION_IS_MANDATORY,
            "iot.firmware.CancelUpgradeTaskFailed",
            "iot.firmware.NullTargetSelection",
            "iot.firmware.InvalidTargetSelection",
            NULL_TARGET_DEVICE_NAMES,
            "iot.firmware.TargetDeviceNamesNotAllowed",
            NO_DEVICE_CAN_UPGRADE,
            "iot.firmware.DeviceWithDestinationVersionInArray",
            "iot.firmware.NonVersionedDeviceInArray",
            PARAMETER_SIZE_EXCEED_MAX,
            "iot.firmware.NullGrayPercent",
            "iot.firmware.BadlyFormattedGrayPercent",
            "iot.firmware.InvalidGrayPercent",
            "iot.firmware.GrayAppliesToStaticOnly",
            "iot.firmware.DynamicGrayNotSupported",
            "iot.firmware.DynamicSpecificNotSupported",
            "iot.firmware.InvalidSelectionType",
            "iot.firmware.NullSelectionType",
            "iot.firmware.NullSrcVersions",
            "iot.firmware.SrcVersionsNotAllowed",
            "iot.firmware.SrcVersionsSizeExceedMax",
            "iot.firmware.MoreThanOneSrcVersion",
            "iot.firmware.SrcVersionIsMandatory",
            "iot.firmware.SrcVersionMismatch",
            "iot.firmware.UpgradeSrcVersionMismatch",
            "iot.firmware.SrcDestVersionMatched",
            "iot.firmware.IncorrectFormattedSrcVersion",
            "iot.firmware.FireTimeMustLargeThanCurrentTime",
            "iot.firmware.FireTimeTooShort",
            "iot.firmware.FireTimeTooLate",
            "iot.firmware.ScheduleFinishTimeWithoutStartTime",
            "iot.firmware.ScheduleFinishTimeEarlierThanStartTime",
            "iot.firmware.ScheduleFinishTimeTooEarly",
            "iot.firmware.ScheduleFinishTimeTooLate",
            // These two need another ScheduleTime, so another request.
            "iot.firmware.SystemBusyForScheduleTime",
            "iot.firmware.TooManyDeviceUpgradeForScheduleTime",
            "iot.firmware.InvalidRetryInterval",
            "iot.firmware.InvalidRetryCount",
            "iot.firmware.InvalidTimeoutSetting",
            "iot.firmware.InvalidMaximumPerMinute",
            "iot.firmware.InvalidOverwriteMode",
            "iot.firmware.InvalidDynamicMode",
            "iot.firmware.InvalidTaskStatus",
            "iot.firmware.InvalidProductKey",
            "iot.ota.tag.KeyDuplicated",
        ],
    ),
];

/// The class of an error by its code, and by its HTTP status where the code is not in the catalogue.
///
/// A code that is known decides alone, as the published statuses vary (8.1). An unknown one is [`Class::Transient`]
/// with 429, else [`Class::Unknown`]: with 5xx because anything may have happened, below because we cannot say.
pub fn class_of(code: &str, http_status: u16) -> Class {
    let listed = CATALOGUE.iter().find(|(_, codes)| codes.iter().any(|known| same(known, code)));
    if let Some((class, _)) = listed {
        return *class;
    }
    if is_throttling(code, http_status) {
        return Class::Transient;
    }
    let name = without_prefix(code);
    // ListOTA…Failed, iot.common.Query…ActionError: reads that failed inside.
    let failed_read = (name.starts_with("ListOTA") && name.ends_with("Failed"))
        || (code.starts_with("iot.common.Query") && code.ends_with("ActionError"));
    if failed_read {
        return Class::Transient;
    }
    // Missing<Param>, iot.check.*: the request is wrong. With 5xx the name is a coincidence.
    let wrong_request = (code.starts_with("Missing") && !code.contains('.')) || code.starts_with("iot.check.");
    if wrong_request && http_status < 500 { Class::Terminal } else { Class::Unknown }
}

/// Whether the account's quota refused the call, before any work (8.1).
pub fn is_throttling(code: &str, http_status: u16) -> bool {
    code == "Throttling" || code.starts_with("Throttling.") || http_status == 429
}

/// Whether two codes are the same one. Product codes are seen with the prefixes `iot.firmware.` and `iot.ota.`, and
/// without any.
pub fn same(a: &str, b: &str) -> bool {
    without_prefix(a) == without_prefix(b)
}

fn without_prefix(code: &str) -> &str {
    code.strip_prefix("iot.firmware.").or_else(|| code.strip_prefix("iot.ota.")).unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_catalogued_code_has_its_class_at_any_status() {
        let mut seen = BTreeSet::new();
        for (class, codes) in CATALOGUE {
            for code in *codes {
                assert!(seen.insert(without_prefix(code)), "{code} is listed twice");
                for status in [200, 400, 403, 404, 500, 503] {
                    assert_eq!(class_of(code, status), *class, "{code} at {status}");
                }
            }
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }

    #[test]
    fn spot_checks_against_the_reference() {
        use Class::*;
        for (code, status, class) in [
            ("Throttling", 400, Transient),
            ("Throttling", 503, Transient),
            ("Throttling.User", 400, Transient),
            ("Throttling.SomethingNew", 400, Transient),
            ("iot.firmware.SystemBusy", 200, Transient),
            ("iot.firmware.TooManyDeviceUpgrade", 200, Transient),
            ("InvalidSecurityToken.Expired", 400, Transient),
            ("InvalidTimeStamp.Expired", 400, Transient),
            ("iot.firmware.ListOTATaskByJobFailed", 200, Transient),
            ("iot.common.QueryDeviceActionError", 200, Transient),
            ("ServiceUnavailable", 503, Unknown),
            ("InternalError", 500, Unknown),
            ("UnknownError", 500, Unknown),
            ("SignatureNonceUsed", 400, Unknown),
            ("iot.system.SystemException", 200, Unknown),
            ("iot.firmware.CreateOTAUpgradeJobFailure", 200, Unknown),
            ("iot.firmware.SystemBusyForScheduleTime", 200, Terminal),
            ("iot.firmware.NoDeviceCanUpgrade", 200, Terminal),
            ("iot.ota.FirmwareNotFound", 200, Terminal),
            ("MissingFirmwareId", 400, Terminal),
            ("iot.check.anything", 200, Terminal),
            ("Forbidden.RAM", 403, Terminal),
            ("InvalidApi.NotFound", 404, Terminal),
        ] {
            assert_eq!(class_of(code, status), class, "{code} at {status}");
        }
    }

    #[test]
    fn a_stranger_is_unknown_unless_it_is_a_throttle() {
        for status in [200, 302, 400, 404, 500, 502, 504] {
            assert_eq!(class_of("iot.firmware.NeverHeardOf", status), Class::Unknown);
            assert_eq!(class_of("", status), Class::Unknown);
        }
        assert_eq!(class_of("NeverHeardOf", 429), Class::Transient);
        assert_eq!(class_of("MissingReplica", 503), Class::Unknown);
        // Not the family, only its first letters.
        assert_eq!(class_of("ThrottlingDisabled", 400), Class::Unknown);
    }
}
