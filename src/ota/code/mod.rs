//! Error codes: what each one says about the effect of the call that it answers (ota-api: section 8).
//!
//! Here belongs what a code means, in one table (`table`), and the families of codes that the documents name by a
//! pattern. What a rollout does about a class never comes in, and neither do message texts: they are not fixed, nothing
//! may match on them.

mod table;

pub use table::{Group, Requeue};

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
    /// Refused without effect, because what it asks for is there already, perhaps by an earlier copy of it. Of a cancel
    /// this is success; after a create the tag has to be looked for.
    Done,
}

impl Class {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "Terminal",
            Self::Transient => "Transient",
            Self::Unknown => "Unknown",
            Self::Done => "Done",
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
/// A task list is required and empty (8.2).
pub const NULL_TASK_ID: &str = "iot.firmware.NullTaskId";
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
/// The instance id is wrong, or missing where there is one; from another layer (1.2).
pub const SRE_INSTANCE_NOT_FOUND: &str = "iot.Sre.IotInstanceNotFound";
/// The endpoint does not know the operation (8.1).
pub const INVALID_API_NOT_FOUND: &str = "InvalidApi.NotFound";
/// The RAM policy does not allow the action; from the gateway (8.1, section 11).
pub const FORBIDDEN_RAM: &str = "Forbidden.RAM";
/// The RAM policy does not allow the action; from the product (8.2, section 11).
pub const RAM_ACTION_PERMISSION_DENY: &str = "iot.common.RamActionPermissionDeny";
/// There is no such device. A code of the device operations, which the OTA documents do not list (6.8a).
pub const NOT_EXISTED_DEVICE: &str = "iot.device.NotExistedDevice";

/// Ours: the request never left this machine.
pub const NOT_SENT: &str = "NotSent";
/// Ours: the request may have left, and no answer came.
pub const NO_ANSWER: &str = "NoAnswer";
/// Ours: an answer came, and is not what the documents describe.
pub const UNREADABLE_ANSWER: &str = "UnreadableAnswer";
/// Ours: a list that kept changing while its pages were read.
pub const INCOMPLETE_LIST: &str = "IncompleteList";
/// Ours: the storage service refused a list file, or may not be called.
pub const LIST_FILE_REFUSED: &str = "ListFileRefused";

/// The reason of a refused call that the principal may not make.
pub const ACTION_FORBIDDEN: &str = "ActionForbidden";

/// Every group of codes.
pub fn groups() -> &'static [&'static Group] {
    table::ALL
}

/// What a code means.
///
/// A code that is in the table decides alone, as the published statuses vary (8.1). An unknown one is read as a family's
/// where it has the shape of one; else it is [`Class::Transient`] with 429, and [`Class::Unknown`] with any other status:
/// with 5xx because anything may have happened, below because we cannot say.
pub fn meaning(code: &str, http_status: u16) -> &'static Group {
    if let Some(group) = table::ALL.iter().find(|group| group.codes.iter().any(|known| same(known, code))) {
        return group;
    }
    if is_throttling(code, http_status) {
        return &table::BUSY;
    }
    let name = without_prefix(code);
    // ListOTA…Failed, iot.common.Query…ActionError: reads that failed inside.
    let failed_read = (name.starts_with("ListOTA") && name.ends_with("Failed"))
        || (code.starts_with("iot.common.Query") && code.ends_with("ActionError"));
    if failed_read {
        return &table::BUSY;
    }
    // Missing<Param>, iot.check.*: the request is wrong. With 5xx the name is a coincidence.
    let wrong_request = (code.starts_with("Missing") && !code.contains('.')) || code.starts_with("iot.check.");
    if wrong_request && http_status < 500 { &table::REQUEST } else { &table::UNCLEAR }
}

/// The class of an error by its code and HTTP status.
pub fn class_of(code: &str, http_status: u16) -> Class {
    meaning(code, http_status).class
}

/// Whether the account's quota refused the call, before any work (8.1).
pub fn is_throttling(code: &str, http_status: u16) -> bool {
    code == "Throttling" || code.starts_with("Throttling.") || http_status == 429
}

/// Whether a permission is missing, whichever layer says so (8.1, 8.2).
pub fn is_denial(code: &str) -> bool {
    meaning(code, 400).reason == ACTION_FORBIDDEN
}

/// Whether the access key itself is refused: unknown, disabled, with a wrong secret or token (8.1).
pub fn is_bad_key(code: &str) -> bool {
    let families = ["InvalidAccessKeyId.", "InvalidSecurityToken.", SIGNATURE_DOES_NOT_MATCH, "IncompleteSignature"];
    families.iter().any(|family| code.starts_with(family))
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
mod tests;
