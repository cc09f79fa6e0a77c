//! A task: one device's part of a job (ota-api: sections 6.2, 7.3).
//!
//! Pure values, and how a failed task failed. How many failures are too many never comes in; neither does decoding.

use jiff::{SignedDuration, Timestamp};

use super::id::{DeviceName, JobId};

/// A task that failed at once was refused, not tried: it changed at most this long after its creation.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(5);

/// `TaskStatus` (7.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskStatus {
    /// Waits for a confirmation.
    Confirm,
    /// Not pushed yet.
    Queued,
    /// Pushed; the device has reported no progress.
    Notified,
    /// The device has reported progress.
    InProgress,
    /// The device has reported the destination version.
    Succeeded,
    /// See [`Task::failure`].
    Failed,
    /// Cancelled, or displaced by another job.
    Canceled,
    /// A value that the documents don't know, or an empty one: not an end.
    Other(String),
}

impl TaskStatus {
    /// The documented ones, those that a task leaves last first: the order in which counts are read.
    pub const DOCUMENTED: &[Self] =
        &[Self::Succeeded, Self::Failed, Self::Canceled, Self::InProgress, Self::Notified, Self::Queued, Self::Confirm];

    /// Reads the wire text.
    pub fn from_text(text: &str) -> Self {
        Self::DOCUMENTED.iter().find(|s| s.as_str() == text).cloned().unwrap_or_else(|| Self::Other(text.to_owned()))
    }

    /// The wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Confirm => "CONFIRM",
            Self::Queued => "QUEUED",
            Self::Notified => "NOTIFIED",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Other(text) => text,
        }
    }

    /// Whether it ends the task (FAILED can be left again, by ReupgradeOTATask only).
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// How a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The device, or its version report, says so.
    Failed,
    /// It reported progress and then ran out of time.
    TimedOut,
    /// It was refused at once, because the device was busy with another task: the device did not fail.
    Conflict,
}

/// One entry of ListOTATaskByJob (6.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub task_id: String,
    /// Its job, if the answer says so.
    pub job_id: Option<JobId>,
    /// Its device.
    pub device_name: DeviceName,
    /// Its state.
    pub status: TaskStatus,
    /// The reason in words; may be empty.
    pub desc: String,
    /// Percent as text, like `42.00`; may be empty.
    pub progress: String,
    /// The version it left from.
    pub src_version: Option<String>,
    /// The version it should reach.
    pub dest_version: Option<String>,
    /// When it was created.
    pub utc_create: Option<Timestamp>,
    /// When it last changed.
    pub utc_modified: Option<Timestamp>,
}

impl Task {
    /// How it failed; nothing if it did not.
    ///
    /// A timeout is told by its documented text. A conflict has none, so it is told by structure: failed without
    /// progress, at most 5 s after creation.
    pub fn failure(&self) -> Option<Failure> {
        if self.status != TaskStatus::Failed {
            return None;
        }
        if self.desc.trim().eq_ignore_ascii_case("timeout") {
            return Some(Failure::TimedOut);
        }
        let at_once = match (self.utc_create, self.utc_modified) {
            (Some(created), Some(modified)) => modified.duration_since(created) <= AT_ONCE,
            _ => false,
        };
        Some(if at_once && !self.has_progress() { Failure::Conflict } else { Failure::Failed })
    }

    /// Whether the device has reported any step. A text that is no number counts as progress: it came from somewhere.
    pub fn has_progress(&self) -> bool {
        let text = self.progress.trim();
        let text = text.strip_suffix('%').unwrap_or(text);
        !text.is_empty() && text.parse::<f64>() != Ok(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(desc: &str, progress: &str, seconds: i64) -> Task {
        let created: Timestamp = "2024-05-04T06:22:21Z".parse().unwrap();
        Task {
            task_id: "t".into(),
            job_id: None,
            device_name: "d".into(),
            status: TaskStatus::Failed,
            desc: desc.into(),
            progress: progress.into(),
            src_version: None,
            dest_version: None,
            utc_create: Some(created),
            utc_modified: Some(created + SignedDuration::from_secs(seconds)),
        }
    }

    #[test]
    fn failures_are_told_apart_by_structure() {
        for (desc, progress, seconds, kind) in [
            ("timeout", "0.00", 0, Failure::TimedOut),
            ("Timeout", "55.00", 900, Failure::TimedOut),
            (" TIMEOUT ", "", 3, Failure::TimedOut),
            ("whatever", "", 0, Failure::Conflict),
            ("", "0.00", 5, Failure::Conflict),
            ("", "0", -1, Failure::Conflict),
            ("", "0.00", 6, Failure::Failed),
            ("", "1.00", 2, Failure::Failed),
            ("", "-1", 2, Failure::Failed),
            ("", "?", 2, Failure::Failed),
            ("device timeout", "0.00", 60, Failure::Failed),
        ] {
            assert_eq!(failed(desc, progress, seconds).failure(), Some(kind), "{desc:?} {progress:?} {seconds}");
        }
    }

    #[test]
    fn without_both_times_nothing_is_called_a_conflict() {
        let mut task = failed("", "", 0);
        task.utc_modified = None;
        assert_eq!(task.failure(), Some(Failure::Failed));
    }

    #[test]
    fn only_failed_tasks_have_a_failure() {
        for status in TaskStatus::DOCUMENTED {
            let task = Task { status: status.clone(), ..failed("timeout", "", 0) };
            assert_eq!(task.failure().is_some(), *status == TaskStatus::Failed, "{status:?}");
            assert_eq!(TaskStatus::from_text(status.as_str()), *status);
        }
        assert_eq!(TaskStatus::from_text("CANCELLED"), TaskStatus::Other("CANCELLED".into()));
        assert!(!TaskStatus::from_text("CANCELLED").is_terminal());
    }
}
