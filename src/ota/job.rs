//! A job as the cloud tells it (ota-api: sections 6.1, 6.3, 7.1, 7.2).
//!
//! Pure values. What a rollout concludes from a job's state never comes in; neither does decoding.

use jiff::Timestamp;

use super::id::{FirmwareId, JobId};

/// `JobStatus` (7.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Created; its scheduled time is not reached.
    Planned,
    /// Running.
    InProgress,
    /// Finished. It says nothing about how many tasks failed.
    Completed,
    /// Cancelled.
    Canceled,
    /// A value that the documents don't know, or an empty one: not an end.
    Other(String),
}

impl JobStatus {
    /// Reads the wire text; `COMPLETE` is accepted as some pages write it.
    pub fn from_text(text: &str) -> Self {
        match text {
            "PLANNED" => Self::Planned,
            "IN_PROGRESS" => Self::InProgress,
            "COMPLETED" | "COMPLETE" => Self::Completed,
            "CANCELED" => Self::Canceled,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Planned => "PLANNED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
            Self::Other(text) => text,
        }
    }

    /// Whether it can change no more.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Canceled)
    }
}

/// `JobType` (7.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JobType {
    /// An upgrade of devices in the field.
    Upgrade,
    /// A verification on test devices.
    Verify,
    /// A value that the documents don't know, or an empty one.
    Other(String),
}

impl JobType {
    /// Reads the wire text; the misspelling `VERFIY_FIRMWARE` is documented too.
    pub fn from_text(text: &str) -> Self {
        match text {
            "UPGRADE_FIRMWARE" => Self::Upgrade,
            "VERIFY_FIRMWARE" | "VERFIY_FIRMWARE" => Self::Verify,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The wire text, spelled right.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Upgrade => "UPGRADE_FIRMWARE",
            Self::Verify => "VERIFY_FIRMWARE",
            Self::Other(text) => text,
        }
    }
}

/// What QueryOTAJob answers (6.1). Don't compare it with what was sent: the cloud fills in defaults and reformats.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub job_id: JobId,
    /// Its package; empty if the service left it out.
    pub firmware_id: FirmwareId,
    /// Its product; empty if the service left it out.
    pub product_key: String,
    /// The package's name.
    pub name: Option<String>,
    /// The version that devices should reach.
    pub dest_version: Option<String>,
    /// Free text.
    pub desc: Option<String>,
    /// Its state.
    pub status: JobStatus,
    /// Verification or upgrade.
    pub job_type: JobType,
    /// `STATIC` or `DYNAMIC`; empty if the service left it out.
    pub selection_type: String,
    /// `ALL`, `SPECIFIC`, `GRAY` or `GROUP`; empty if the service left it out.
    pub target_selection: String,
    /// When it was created.
    pub utc_create: Option<Timestamp>,
    /// When it last changed.
    pub utc_modified: Option<Timestamp>,
    /// When it began to run.
    pub utc_start: Option<Timestamp>,
    /// When it ended; published examples have it while the job runs, so judge by `status`.
    pub utc_end: Option<Timestamp>,
    /// When it is to begin: scheduled jobs only.
    pub utc_schedule: Option<Timestamp>,
    /// When it is to be ended: scheduled jobs with a finish time only.
    pub utc_schedule_finish: Option<Timestamp>,
    /// Versions that it takes devices from; empty is any.
    pub src_versions: Vec<String>,
    /// Keys and values, in the order of the answer.
    pub tags: Vec<(String, String)>,
    /// GRAY only: a percentage as text, maybe reformatted (`50.00`).
    pub gray_percent: Option<String>,
    /// Dynamic only: 1 or 2.
    pub dynamic_mode: Option<i64>,
    /// Minutes between retries.
    pub retry_interval: Option<i64>,
    /// Number of retries.
    pub retry_count: Option<i64>,
    /// Minutes from a device's first progress report.
    pub timeout_in_minutes: Option<i64>,
    /// Pushes per minute.
    pub maximum_per_minute: Option<i64>,
    /// 1 (keep the device's earlier task) or 2 (replace it).
    pub overwrite_mode: Option<i64>,
    /// Whether the cloud pushes by itself.
    pub need_push: Option<bool>,
    /// Whether tasks wait for a confirmation.
    pub need_confirm: Option<bool>,
    /// Whether a device may be upgraded in several modules at a time.
    pub multi_module_mode: Option<bool>,
    /// `HTTPS` or `MQTT`.
    pub download_protocol: Option<String>,
    /// The device group, if it targets one.
    pub group_id: Option<String>,
    /// That group's name.
    pub group_name: Option<String>,
}

impl Job {
    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tags, key)
    }
}

/// One entry of ListOTAJobByFirmware (6.3).
#[derive(Debug, Clone, PartialEq)]
pub struct JobSummary {
    /// Its id.
    pub job_id: JobId,
    /// Its package; empty if the service left it out.
    pub firmware_id: FirmwareId,
    /// Its product; empty if the service left it out.
    pub product_key: String,
    /// Its state.
    pub status: JobStatus,
    /// Verification or upgrade.
    pub job_type: JobType,
    /// `STATIC` or `DYNAMIC`; empty if the service left it out.
    pub selection_type: String,
    /// `ALL`, `SPECIFIC`, `GRAY` or `GROUP`; empty if the service left it out.
    pub target_selection: String,
    /// When it was created.
    pub utc_create: Option<Timestamp>,
    /// When it last changed.
    pub utc_modified: Option<Timestamp>,
    /// When it began to run.
    pub utc_start: Option<Timestamp>,
    /// When it ended.
    pub utc_end: Option<Timestamp>,
    /// Keys and values. Empty may also mean that this service lists no tags.
    pub tags: Vec<(String, String)>,
}

impl JobSummary {
    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        tag(&self.tags, key)
    }
}

/// All jobs of a package, as far as they could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Each job once.
    pub jobs: Vec<JobSummary>,
    /// Whether these are as many distinct ids as the last page counted. A list that shifted between two pages is not
    /// complete, and proves no absence.
    pub complete: bool,
}

fn tag<'a>(tags: &'a [(String, String)], key: &str) -> Option<&'a str> {
    tags.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_strangers_are_kept() {
        for (text, status, terminal) in [
            ("PLANNED", JobStatus::Planned, false),
            ("IN_PROGRESS", JobStatus::InProgress, false),
            ("COMPLETED", JobStatus::Completed, true),
            ("CANCELED", JobStatus::Canceled, true),
            ("CANCELLED", JobStatus::Other("CANCELLED".into()), false),
        ] {
            assert_eq!(JobStatus::from_text(text), status);
            assert_eq!(status.as_str(), text);
            assert_eq!(status.is_terminal(), terminal, "{text}");
        }
        assert_eq!(JobStatus::from_text("COMPLETE"), JobStatus::Completed);
        assert_eq!(JobType::from_text("VERFIY_FIRMWARE"), JobType::Verify);
        assert_eq!(JobType::from_text("VERIFY_FIRMWARE").as_str(), "VERIFY_FIRMWARE");
        assert_eq!(JobType::from_text("X").as_str(), "X");
    }
}
