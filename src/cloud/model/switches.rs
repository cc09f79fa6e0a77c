//! Conduct that the vendor's documents leave open, as switches (ota-api: section 12).
//!
//! Here belong the choices and their defaults; each is acted upon where it applies. They are set in the fleet file, and
//! changed while the cloud runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The generation of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Edition {
    /// Rates of 10..10000 a minute, tag values up to 1024 characters, retry intervals below the timeout.
    #[default]
    #[value(name = "Current")]
    Current,
    /// Rates of 10..1000 a minute, tag values up to 128 characters, source versions mandatory for static ALL and GRAY and
    /// optional for dynamic jobs, no groups, no UpdateOTAJob, fewer fields in QueryOTAJob.
    #[value(name = "Legacy")]
    Legacy,
}

impl Edition {
    /// Whether ALL and GRAY of a static job need source versions: the oldest page says so.
    pub const fn needs_sources_of_static_jobs(self) -> bool {
        matches!(self, Self::Legacy)
    }
}

/// All switches. In the fleet file under `switches`, in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Switches {
    /// Do not check signatures: for tests in virtual time. Nonce and timestamp are then checked only when present.
    pub unsigned: bool,
    /// What uses up a nonce.
    pub nonce: NonceBurnedBy,
    /// Which layer refuses an action that the account's RAM policy does not allow.
    pub denied_by: DeniedBy,
    /// How far the cloud's clocks are ahead of this machine's, in seconds; negative: behind.
    pub clock_ahead_seconds: f64,
    /// Whether quotas are enforced.
    pub quotas: bool,
    /// Whether ListOTAJobByFirmware shows tags.
    pub tags_listed: bool,
    /// Whether QueryOTAJob shows tags.
    pub tags_queried: bool,
    /// The order of ListOTAJobByFirmware.
    pub list_order: ListOrder,
    /// A new job is missing from ListOTAJobByFirmware for this long, in wall milliseconds; the fault of that name starts
    /// with it.
    pub list_lag_ms: u64,
    /// How often, 0..1, a page behind the first of ListOTAJobByFirmware begins an entry early, as if a job had been made
    /// since the page before: its entry is seen twice, and the list's last may not be seen at all.
    pub page_shift_rate: f64,
    /// What GrayPercent is a percentage of.
    pub gray_base: GrayBase,
    /// Whether ALL and GRAY take in devices that are busy in another job.
    pub busy_devices: BusyDevices,
    /// What SPECIFIC does with a device that runs the destination version already.
    pub destination_in_array: DestinationInArray,
    /// Whether ALL and GRAY need source versions, as the oldest page says; absent: in the Legacy edition.
    pub strict_src_versions: Option<bool>,
    /// When a static job ends by itself.
    pub completion: Completion,
    /// What a job becomes when all its tasks were cancelled.
    pub cancelled_job: JobEnd,
    /// What a job becomes at ScheduleFinishTime.
    pub schedule_finished_job: JobEnd,
    /// From the answer of a cancel until it is applied, in wall seconds.
    pub cancel_delay_seconds: f64,
    /// Whether cancel options that are all false count as given.
    pub all_false_is_an_option: bool,
    /// Tasks appear over this many fleet seconds after their job; 0 creates them with it.
    pub creation_spread_seconds: f64,
    /// Offline devices come back within this many fleet minutes of being sought; absent: never.
    pub reconnect_minutes: Option<f64>,
    /// When a package's verification has failed.
    pub verify_verdict: VerifyVerdict,
    /// What becomes of a package whose verify job was cancelled.
    pub verify_cancelled: VerifyCancelled,
    /// How a verified package refuses another verify job.
    pub verified_again: VerifiedAgain,
    /// Lists write `VERFIY_FIRMWARE` and `COMPLETE`, as some pages do.
    pub legacy_spelling: bool,
    /// How an empty list looks in JSON.
    pub empty_list: EmptyList,
    /// `Code` of a success.
    pub success_code: SuccessCode,
    /// Running jobs carry `UtcEndTime` too, as the published example does.
    pub end_time_while_running: bool,
    /// The HTTP status of product errors.
    pub product_error_status: u16,
    /// The HTTP status of `Throttling.User`.
    pub throttle_status: u16,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            unsigned: false,
            nonce: NonceBurnedBy::Accepted,
            denied_by: DeniedBy::Gateway,
            clock_ahead_seconds: 0.0,
            quotas: true,
            tags_listed: true,
            tags_queried: true,
            list_order: ListOrder::NewestFirst,
            list_lag_ms: 0,
            page_shift_rate: 0.0,
            gray_base: GrayBase::Eligible,
            busy_devices: BusyDevices::Included,
            destination_in_array: DestinationInArray::Skipped,
            strict_src_versions: None,
            completion: Completion::AllTerminal,
            cancelled_job: JobEnd::Canceled,
            schedule_finished_job: JobEnd::Completed,
            cancel_delay_seconds: 0.2,
            all_false_is_an_option: false,
            creation_spread_seconds: 0.0,
            reconnect_minutes: None,
            verify_verdict: VerifyVerdict::AllFinished,
            verify_cancelled: VerifyCancelled::Failed,
            verified_again: VerifiedAgain::InProgressVerifyJobExisted,
            legacy_spelling: false,
            empty_list: EmptyList::Brackets,
            success_code: SuccessCode::Absent,
            end_time_while_running: false,
            product_error_status: 200,
            throttle_status: 400,
        }
    }
}

impl Switches {
    /// These switches with some of them changed, by name; none of them when one is unknown or out of bounds.
    pub fn changed(&self, patch: &Map<String, Value>) -> Result<Self, String> {
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else { return Err("cannot be written".to_owned()) };
        all.extend(patch.iter().map(|(name, value)| (name.clone(), value.clone())));
        let next: Self = serde_json::from_value(Value::Object(all)).map_err(|e| e.to_string())?;
        next.check()?;
        Ok(next)
    }

    /// Whether the values make sense.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.page_shift_rate) {
            return Err("pageShiftRate: must be between 0 and 1".to_owned());
        }
        let spans = [
            ("cancelDelaySeconds", self.cancel_delay_seconds),
            ("creationSpreadSeconds", self.creation_spread_seconds),
            ("reconnectMinutes", self.reconnect_minutes.unwrap_or(0.0)),
        ];
        if let Some((name, _)) = spans.into_iter().find(|(_, span)| !(*span >= 0.0 && span.is_finite())) {
            return Err(format!("{name}: must not be below 0"));
        }
        let statuses = [("productErrorStatus", self.product_error_status), ("throttleStatus", self.throttle_status)];
        match statuses.into_iter().find(|(_, status)| !(200..600).contains(status)) {
            Some((name, _)) => Err(format!("{name}: must be an HTTP status")),
            None => Ok(()),
        }
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $choice:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum $name { $($(#[$each])* $choice,)* }
    )*};
}

choices! {
    /// What uses up a nonce.
    NonceBurnedBy {
        /// A request that the product layer carried out with success.
        Accepted,
        /// Any request with a valid signature, whatever was answered.
        Any,
        /// Nothing: replays are carried out again.
        Never,
    }
    /// Which layer refuses what RAM does not allow.
    DeniedBy {
        /// `Forbidden.RAM`, with 403.
        Gateway,
        /// `iot.common.RamActionPermissionDeny`.
        Product,
    }
    /// The order of ListOTAJobByFirmware.
    ListOrder {
        /// Newest first.
        NewestFirst,
        /// Oldest first.
        OldestFirst,
        /// A new order for every call.
        Shuffled,
    }
    /// What GrayPercent is a percentage of.
    GrayBase {
        /// Devices that match and are not at the destination yet.
        Eligible,
        /// All devices that have the module, those at the destination included.
        Fleet,
    }
    /// Whether ALL and GRAY take in busy devices.
    BusyDevices {
        /// Yes: their task fails at once or displaces the earlier one.
        Included,
        /// No: they are not eligible.
        Excluded,
    }
    /// What SPECIFIC does with a device at the destination.
    DestinationInArray {
        /// It is left out.
        Skipped,
        /// The call is refused.
        Refused,
    }
    /// When a static job ends by itself.
    Completion {
        /// When every task is terminal.
        AllTerminal,
        /// Never; only ScheduleFinishTime or a cancel of all tasks ends it.
        Never,
    }
    /// How a job ends.
    JobEnd {
        /// COMPLETED.
        Completed,
        /// CANCELED.
        Canceled,
    }
    /// When a verification has failed.
    VerifyVerdict {
        /// When all tasks are finished and not all succeeded.
        AllFinished,
        /// With the first task that fails.
        FirstFailure,
    }
    /// What becomes of a package whose verify job was cancelled.
    VerifyCancelled {
        /// Status 3: not all devices succeeded.
        Failed,
        /// Status 0: as if it had never been tried.
        Unverified,
    }
    /// `Code` of a success.
    SuccessCode {
        /// No such field.
        Absent,
        /// An empty text.
        Empty,
        /// `success`.
        Success,
    }
    /// How a verified package refuses another verify job.
    VerifiedAgain {
        /// `iot.firmware.InProgressVerifyJobExisted`.
        InProgressVerifyJobExisted,
        /// `iot.firmware.VerifyFirmwareFailed`.
        VerifyFirmwareFailed,
    }
    /// How an empty list looks in JSON.
    EmptyList {
        /// `{"SimpleOTAJobInfo": []}`.
        Brackets,
        /// `{}`.
        EmptyObject,
        /// `null`.
        Null,
        /// The field is missing.
        Absent,
    }
}
