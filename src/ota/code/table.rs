//! The table of codes: every code of ota-api sections 8.1 and 8.2 and our own, each in one group (docs/errors.md shows
//! it). Families that are named by a pattern are `super`'s affair.

use super::*;

/// What becomes of a refused call, apart from creates whose outcome is unknown: those are settled first
/// (docs/exactly-once.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// It is tried again by itself: after 2 to 5 s, with pauses that grow to 5 minutes at most.
    Soon,
    /// A person has to change something that no watch shows, in the cloud's console or on a clock: it is tried again
    /// every 5 minutes meanwhile (an account's check every 10 s).
    Slowly,
    /// A person has to edit the manifest: nothing is tried before.
    AfterEdit,
}

impl Requeue {
    /// Whether a person has to do something.
    pub const fn needs_a_person(self) -> bool {
        !matches!(self, Self::Soon)
    }
}

/// Codes that mean the same to whoever called.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// What they say about a call's effect.
    pub class: Class,
    /// The reason that conditions show: one CamelCase word.
    pub reason: &'static str,
    /// The same for a read, where it is another.
    pub reason_of_read: &'static str,
    /// When the call is tried again.
    pub requeue: Requeue,
    /// What a person does about it.
    pub advice: &'static str,
    /// The codes.
    pub codes: &'static [&'static str],
}

impl Group {
    const fn new(
        class: Class,
        reason: &'static str,
        requeue: Requeue,
        advice: &'static str,
        codes: &'static [&'static str],
    ) -> Self {
        Self { class, reason, reason_of_read: reason, requeue, advice, codes }
    }
}

/// The account's quota, or the cloud, has no room at the moment.
pub(super) static BUSY: Group = Group::new(
    Class::Transient,
    "CloudBusy",
    Requeue::Soon,
    "nothing: it is tried again; if it stays, other clients of the account take its quota",
    &["Throttling", "Throttling.User", "Throttling.Api", SYSTEM_BUSY, TOO_MANY_DEVICE_UPGRADE, INCOMPLETE_LIST],
);

/// A parameter is missing or malformed.
pub(super) static REQUEST: Group = Group::new(
    Class::Terminal,
    "RequestRefused",
    Requeue::AfterEdit,
    "correct the field that the cloud's message names; where the manifest is right, report it with the RequestId",
    &[
        "InvalidTimeStamp.Format",
        "IllegalTimestamp",
        "IncompleteSignature",
        "MissingParameter",
        "InvalidParameter",
        "InvalidParameter.Format",
        "UnsupportedParameter",
        "iot.system.IllegalRequest",
        "iot.common.InvalidPageParams",
        "iot.common.InvalidFormattedParameter",
        "iot.firmware.InvalidTaskStatus",
        "iot.firmware.InvalidSelectionType",
        "iot.firmware.NullSelectionType",
    ],
);

/// Anything may have happened. The group of codes that nobody knows.
pub(super) static UNCLEAR: Group = Group {
    class: Class::Unknown,
    reason: "OutcomeUnknown",
    reason_of_read: "CloudUnreachable",
    requeue: Requeue::Soon,
    advice: "nothing: a create is looked for by its tag before anything else is sent, a read or a cancel is repeated",
    codes: &[
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
};

static UNREACHABLE: Group = Group::new(
    Class::Transient,
    "CloudUnreachable",
    Requeue::Soon,
    "check that the operator reaches the account's endpoint: DNS, egress rules, proxy",
    &[NOT_SENT],
);

static LIST_FILE: Group = Group::new(
    Class::Terminal,
    "ListFileRefused",
    Requeue::Slowly,
    "let the operator call the storage host that the message names (--allowed-endpoints), or use devices with at most 200 \
     names",
    &[LIST_FILE_REFUSED],
);

static CLOCK: Group = Group::new(
    Class::Transient,
    "ClockSkew",
    Requeue::Slowly,
    "correct the clock of the operator's node: the cloud takes requests within 15 minutes of its own",
    &[INVALID_TIME_STAMP_EXPIRED],
);

static TOKEN_EXPIRED: Group = Group::new(
    Class::Transient,
    "CredentialsExpired",
    Requeue::Slowly,
    "renew the STS token in the account's Secret; keys by workload identity are renewed by themselves",
    &[INVALID_SECURITY_TOKEN_EXPIRED],
);

static CREDENTIALS: Group = Group::new(
    Class::Terminal,
    "CredentialsRefused",
    Requeue::Slowly,
    "check the access key id, its secret and its STS token where the account's spec.credentials points",
    &[
        SIGNATURE_DOES_NOT_MATCH,
        INVALID_ACCESS_KEY_ID_NOT_FOUND,
        INVALID_ACCESS_KEY_ID_INACTIVE,
        "InvalidSecurityToken.Malformed",
        "InvalidSecurityToken.MismatchWithAccessKey",
    ],
);

static FORBIDDEN: Group = Group::new(
    Class::Terminal,
    ACTION_FORBIDDEN,
    Requeue::Slowly,
    "allow the action in the RAM policy of the account's user or role",
    &[
        "Forbidden",
        "Forbidden.RAM",
        "NoPermission",
        "iot.common.RamActionPermissionDeny",
        "iot.common.AuthActionPermissionDeny",
    ],
);

static RESTRICTED: Group = Group::new(
    Class::Terminal,
    "AccountRestricted",
    Requeue::Slowly,
    "look at the cloud account in the vendor's console: an unpaid bill, risk control, or not the account that it should be",
    &["Forbidden.RiskControl", "iot.system.BillIsOverDue", "iot.system.UidNotFound", "iot.common.InvalidTenant"],
);

static ENDPOINT: Group = Group::new(
    Class::Terminal,
    "OperationNotOffered",
    Requeue::Slowly,
    "check region, endpoint and instanceId of the OTAAccount: this host or instance does not offer the operation",
    &[
        "InvalidApi.NotFound",
        "InvalidAction",
        "NoSuchVersion",
        "InvalidProduct.NotFound",
        "UnsupportedHTTPMethod",
        "InvalidProtocol.NeedSsl",
        "iot.common.APINotSupportedInInstance",
    ],
);

static INSTANCE: Group = Group::new(
    Class::Terminal,
    "InstanceNotFound",
    Requeue::Slowly,
    "check spec.instanceId of the OTAAccount: it is required where the instance has an id, and left out where it has none",
    &[INSTANCE_NOT_FOUND, "iot.Sre.IotInstanceNotFound"],
);

static FIRMWARE: Group = Group::new(
    Class::Terminal,
    "FirmwareRefused",
    Requeue::AfterEdit,
    "check spec.firmware and spec.productKey: the package is not there, is damaged, or belongs to another product",
    &[
        FIRMWARE_NOT_FOUND,
        INVALID_FIRMWARE_ID,
        "iot.firmware.NullFirmwareId",
        "iot.firmware.InvalidFirmware",
        FIRMWARE_AND_PRODUCT_KEY_MISMATCH,
        "iot.firmware.InvalidProductKey",
    ],
);

static NOT_VERIFIED: Group = Group::new(
    Class::Terminal,
    "FirmwareNotVerified",
    Requeue::Soon,
    "nothing if a verification has just ended; else add spec.verify with up to 10 test devices",
    &[FIRMWARE_NOT_VERIFIED, "iot.firmware.ReUpgradeFailedFirmwareNotVerified"],
);

static VERIFY_FAILED: Group = Group::new(
    Class::Terminal,
    "VerifyFailed",
    Requeue::AfterEdit,
    "the package cannot be verified as it is: make a new one",
    &[VERIFY_FIRMWARE_FAILED],
);

static VERIFY_EXISTS: Group = Group::new(
    Class::Done,
    "VerifyingElsewhere",
    Requeue::Soon,
    "nothing: if it is not our own job, it is waited for",
    &[IN_PROGRESS_VERIFY_JOB_EXISTED],
);

static DYNAMIC_EXISTS: Group = Group::new(
    Class::Done,
    "DynamicJobExists",
    Requeue::AfterEdit,
    "somebody else's dynamic job of the package runs: cancel it in the console, or adopt it",
    &[IN_PROGRESS_DYNAMIC_JOB_EXISTED],
);

static CANCELED: Group = Group::new(
    Class::Done,
    "JobAlreadyCanceled",
    Requeue::Soon,
    "nothing: what was to be cancelled is cancelled",
    &[JOB_ALREADY_CANCELED],
);

static JOB: Group = Group::new(
    Class::Terminal,
    "JobNotFound",
    Requeue::AfterEdit,
    "the job or task is not in this account, region and instance, or was deleted: check the OTAAccount",
    &[
        INVALID_OTA_JOB_ID,
        "iot.firmware.NullOTAJobId",
        "iot.firmware.InvalidOTATaskId",
        NULL_TASK_ID,
        "iot.firmware.DeviceUpgradeRecordNotFound",
    ],
);

static JOB_STATE: Group = Group::new(
    Class::Terminal,
    "JobStateRefused",
    Requeue::AfterEdit,
    "the job's state does not allow it: look at the job in the console",
    &[
        JOB_HAS_NO_SCHEDULE_TIME,
        "iot.firmware.NotDynamicJob",
        "iot.firmware.IncorrectDeviceUpgradeJobStatus",
        CANCEL_OPTION_IS_MANDATORY,
        "iot.firmware.CancelUpgradeTaskFailed",
    ],
);

static NO_DEVICE: Group = Group::new(
    Class::Terminal,
    "NoDeviceCanUpgrade",
    Requeue::AfterEdit,
    "check sourceVersions and the devices named: none of them can take the package",
    &[NO_DEVICE_CAN_UPGRADE],
);

static TARGETS: Group = Group::new(
    Class::Terminal,
    "TargetsRefused",
    Requeue::AfterEdit,
    "edit the devices, percent or group of the step",
    &[
        "iot.firmware.NullTargetSelection",
        "iot.firmware.InvalidTargetSelection",
        NULL_TARGET_DEVICE_NAMES,
        "iot.firmware.TargetDeviceNamesNotAllowed",
        "iot.firmware.DeviceWithDestinationVersionInArray",
        "iot.firmware.NonVersionedDeviceInArray",
        PARAMETER_SIZE_EXCEED_MAX,
        "iot.firmware.NullGrayPercent",
        "iot.firmware.BadlyFormattedGrayPercent",
        "iot.firmware.InvalidGrayPercent",
        "iot.firmware.GrayAppliesToStaticOnly",
        "iot.firmware.DynamicGrayNotSupported",
        "iot.firmware.DynamicSpecificNotSupported",
    ],
);

static SOURCE_VERSIONS: Group = Group::new(
    Class::Terminal,
    "SourceVersionsRefused",
    Requeue::AfterEdit,
    "edit spec.sourceVersions: at most 10, of a differential package exactly its own, never the target version",
    &[
        "iot.firmware.NullSrcVersions",
        "iot.firmware.SrcVersionsNotAllowed",
        "iot.firmware.SrcVersionsSizeExceedMax",
        "iot.firmware.MoreThanOneSrcVersion",
        "iot.firmware.SrcVersionIsMandatory",
        "iot.firmware.SrcVersionMismatch",
        "iot.firmware.UpgradeSrcVersionMismatch",
        "iot.firmware.SrcDestVersionMatched",
        "iot.firmware.IncorrectFormattedSrcVersion",
    ],
);

static SCHEDULE: Group = Group::new(
    Class::Terminal,
    "ScheduleRefused",
    Requeue::AfterEdit,
    "edit the schedule: start 5 minutes to 7 days from now, finish 1 hour to 30 days after it, at a time with room",
    &[
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
    ],
);

static DELIVERY: Group = Group::new(
    Class::Terminal,
    "DeliveryRefused",
    Requeue::AfterEdit,
    "edit spec.delivery, or the step's own: the value that the code names is out of its range",
    &[
        "iot.firmware.InvalidRetryInterval",
        "iot.firmware.InvalidRetryCount",
        "iot.firmware.InvalidTimeoutSetting",
        "iot.firmware.InvalidMaximumPerMinute",
        "iot.firmware.InvalidOverwriteMode",
        "iot.firmware.InvalidDynamicMode",
        "iot.ota.tag.KeyDuplicated",
    ],
);

/// Every group, in the order of docs/errors.md.
pub(super) static ALL: &[&Group] = &[
    &BUSY,
    &UNREACHABLE,
    &LIST_FILE,
    &UNCLEAR,
    &CLOCK,
    &TOKEN_EXPIRED,
    &CREDENTIALS,
    &FORBIDDEN,
    &RESTRICTED,
    &ENDPOINT,
    &INSTANCE,
    &REQUEST,
    &FIRMWARE,
    &NOT_VERIFIED,
    &VERIFY_FAILED,
    &VERIFY_EXISTS,
    &DYNAMIC_EXISTS,
    &CANCELED,
    &JOB,
    &JOB_STATE,
    &NO_DEVICE,
    &TARGETS,
    &SOURCE_VERSIONS,
    &SCHEDULE,
    &DELIVERY,
];
