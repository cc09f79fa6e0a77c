//! Jobs and their tasks as records: states, counters, pages.
//!
//! Here belongs what can be said of a job without looking at anything else. Transitions that concern devices or
//! packages belong to `world` and `life`.

use std::collections::{BTreeSet, VecDeque};

use super::answer::Fields;
use super::devices::DeviceId;

/// `TaskStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskStatus {
    Confirm,
    Queued,
    Notified,
    InProgress,
    Succeeded,
    Failed,
    Canceled,
}

impl TaskStatus {
    pub(super) const ALL: [Self; 7] =
        [Self::Confirm, Self::Queued, Self::Notified, Self::InProgress, Self::Succeeded, Self::Failed, Self::Canceled];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Confirm => "CONFIRM",
            Self::Queued => "QUEUED",
            Self::Notified => "NOTIFIED",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    pub(super) const fn terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// `JobStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobStatus {
    Planned,
    InProgress,
    Completed,
    Canceled,
}

impl JobStatus {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Planned => "PLANNED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
        }
    }

    pub(super) const fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled)
    }
}

/// Why a task is as it is: `TaskDesc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    None,
    UpgradeFailed,
    DownloadFailed,
    VerifyFailed,
    FlashFailed,
    WrongVersion,
    Timeout,
    /// FAILED at once: the device is busy in another job.
    Busy,
    /// CANCELED by a later job.
    Overwritten,
    Cancelled,
    ScheduleFinished,
}

impl Reason {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::UpgradeFailed => "upgrade failed",
            Self::DownloadFailed => "download failed",
            Self::VerifyFailed => "verify failed",
            Self::FlashFailed => "flash failed",
            Self::WrongVersion => "report version is not conform",
            Self::Timeout => "timeout",
            Self::Busy => "the device has an unfinished task",
            Self::Overwritten => "overwritten by a later job",
            Self::Cancelled => "canceled",
            Self::ScheduleFinished => "schedule finish time reached",
        }
    }
}

/// How a task's attempts go, once it is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Succeeds,
    /// Each attempt stops at this percent, of 1..99, and fails.
    Fails(u8),
    /// It stops on its way and says no more.
    Hangs,
}

impl Course {
    /// The last percent that is reported before the end.
    const fn peak(self) -> u8 {
        match self {
            Self::Succeeds => 99,
            Self::Fails(percent) => percent,
            Self::Hangs => 40,
        }
    }
}

/// One device's part of a job. Times are Unix milliseconds of the fleet clock.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) device: DeviceId,
    /// The version the device ran when the task was made.
    pub(super) src: u32,
    /// Where it stands in its status's list.
    position: u32,
    pub(super) status: TaskStatus,
    pub(super) reason: Reason,
    /// Attempts begun after the first.
    pub(super) attempt: u8,
    /// The first attempt of its present run: ReupgradeOTATask begins another run.
    pub(super) run: u8,
    /// TimeoutInMinutes when it was made; 0: none.
    pub(super) timeout_minutes: u16,
    /// Percent, when it is not in progress.
    progress: u8,
    /// How its attempts go.
    pub(super) course: Course,
    pub(super) created: i64,
    pub(super) modified: i64,
    /// The present attempt, from first progress to end.
    pub(super) began: i64,
    pub(super) ends: i64,
}

impl Task {
    /// A new task; `reason` is [`Reason::None`] unless it is born FAILED.
    pub(super) fn new(device: DeviceId, src: u32, status: TaskStatus, reason: Reason, now: i64) -> Self {
        Self {
            device,
            src,
            position: 0,
            status,
            reason,
            attempt: 0,
            run: 0,
            timeout_minutes: 0,
            progress: 0,
            course: Course::Succeeds,
            created: now,
            modified: now,
            began: now,
            ends: now,
        }
    }

    /// Percent and time of last change, as shown at an instant: a running task reports in tenths of its way.
    pub(super) fn shown(&self, now: i64) -> (u8, i64) {
        if self.status != TaskStatus::InProgress {
            return (self.progress, self.modified);
        }
        let span = (self.ends - self.began).max(1);
        let peak = self.course.peak();
        let tenths = ((now - self.began).clamp(0, span) * 10 / span).min(i64::from(peak.div_ceil(10)));
        let percent = u8::try_from(tenths * 10).unwrap_or(0).clamp(1, peak);
        (percent, self.modified.max(self.began + span * tenths / 10))
    }

    /// FAILED at once on a device that was busy, told by structure as a client must tell it.
    pub(super) fn conflict(&self) -> bool {
        self.status == TaskStatus::Failed && self.progress == 0 && self.modified - self.created <= 5_000
    }
}

/// Something for each task status.
#[derive(Debug, Clone, Default)]
struct PerStatus<T> {
    confirm: T,
    queued: T,
    notified: T,
    in_progress: T,
    succeeded: T,
    failed: T,
    canceled: T,
}

impl<T> PerStatus<T> {
    fn get(&self, status: TaskStatus) -> &T {
        match status {
            TaskStatus::Confirm => &self.confirm,
            TaskStatus::Queued => &self.queued,
            TaskStatus::Notified => &self.notified,
            TaskStatus::InProgress => &self.in_progress,
            TaskStatus::Succeeded => &self.succeeded,
            TaskStatus::Failed => &self.failed,
            TaskStatus::Canceled => &self.canceled,
        }
    }

    fn get_mut(&mut self, status: TaskStatus) -> &mut T {
        match status {
            TaskStatus::Confirm => &mut self.confirm,
            TaskStatus::Queued => &mut self.queued,
            TaskStatus::Notified => &mut self.notified,
            TaskStatus::InProgress => &mut self.in_progress,
            TaskStatus::Succeeded => &mut self.succeeded,
            TaskStatus::Failed => &mut self.failed,
            TaskStatus::Canceled => &mut self.canceled,
        }
    }
}

/// A job's tasks: found by number, counted and paged by status without a scan.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    /// Task numbers by status, in no order: a task that leaves is replaced by the last one.
    lists: PerStatus<Vec<u32>>,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn count(&self, status: TaskStatus) -> usize {
        self.lists.get(status).len()
    }

    /// How many are not terminal.
    pub(super) fn open(&self) -> usize {
        TaskStatus::ALL.into_iter().filter(|s| !s.terminal()).map(|s| self.count(s)).sum()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Task> {
        self.tasks.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Task> {
        self.tasks.get_mut(number as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// Task numbers in a status, or all, of one page.
    pub(super) fn page(&self, status: Option<TaskStatus>, skip: usize, take: usize) -> Vec<u32> {
        match status {
            Some(status) => self.lists.get(status).iter().skip(skip).take(take).copied().collect(),
            None => (0..self.tasks.len()).skip(skip).take(take).filter_map(|n| u32::try_from(n).ok()).collect(),
        }
    }

    /// All task numbers in a status, in creation order.
    pub(super) fn in_status(&self, status: TaskStatus) -> Vec<u32> {
        let mut numbers = self.lists.get(status).clone();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn push(&mut self, mut task: Task) -> u32 {
        let number = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let list = self.lists.get_mut(task.status);
        task.position = u32::try_from(list.len()).unwrap_or(u32::MAX);
        list.push(number);
        self.tasks.push(task);
        number
    }

    /// Moves a task to another status at an instant.
    pub(super) fn set(&mut self, number: u32, status: TaskStatus, reason: Reason, now: i64) {
        let Some(task) = self.tasks.get_mut(number as usize) else { return };
        task.progress = if status == TaskStatus::Succeeded { 100 } else { task.shown(now).0 };
        let (from, position) = (task.status, task.position);
        (task.status, task.reason, task.modified) = (status, reason, now);
        let list = self.lists.get_mut(from);
        list.swap_remove(position as usize);
        if let Some(moved) = list.get(position as usize).copied()
            && let Some(moved) = self.tasks.get_mut(moved as usize)
        {
            moved.position = position;
        }
        let list = self.lists.get_mut(status);
        let last = u32::try_from(list.len()).unwrap_or(u32::MAX);
        list.push(number);
        if let Some(task) = self.tasks.get_mut(number as usize) {
            task.position = last;
        }
    }
}

/// `TargetSelection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    All,
    Specific,
    Gray,
    Group,
}

impl Selection {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Specific => "SPECIFIC",
            Self::Gray => "GRAY",
            Self::Group => "GROUP",
        }
    }
}

/// Retry, in fleet minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) interval: u32,
    pub(super) count: u8,
}

/// What makes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Verify,
    Static,
    /// With its `DynamicMode`.
    Dynamic(u8),
}

/// What a create call asked for, beside its targets.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) kind: Kind,
    pub(super) selection: Selection,
    /// The platform group that is its target.
    pub(super) group: Option<u32>,
    pub(super) src_versions: Vec<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) gray_percent: Option<String>,
    pub(super) retry: Option<Retry>,
    pub(super) timeout_minutes: Option<u16>,
    pub(super) maximum_per_minute: u32,
    pub(super) overwrite: bool,
    pub(super) multi_module: bool,
    pub(super) need_push: bool,
    pub(super) need_confirm: bool,
    pub(super) download_protocol: String,
    pub(super) schedule: Option<i64>,
    pub(super) schedule_finish: Option<i64>,
}

impl Policy {
    pub(super) fn verify(&self) -> bool {
        self.kind == Kind::Verify
    }

    pub(super) const fn dynamic(&self) -> bool {
        matches!(self.kind, Kind::Dynamic(_))
    }
}

/// Failed tasks by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// The device failed.
    pub failed: u32,
    /// No end within TimeoutInMinutes of the first progress.
    pub timed_out: u32,
    /// At once, because the device was busy in another job.
    pub conflict: u32,
}

/// A job. Times are Unix milliseconds of the fleet clock but for `created_wall`.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) firmware: u32,
    pub(super) policy: Policy,
    pub(super) status: JobStatus,
    pub(super) created: i64,
    pub(super) created_wall: i64,
    pub(super) modified: i64,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) tasks: Tasks,
    pub(super) failures: Failures,
    /// Targets whose tasks are still to be created.
    pub(super) pending: VecDeque<DeviceId>,
    /// The first task that the pushing has not come to yet.
    pub(super) cursor: u32,
    /// Tasks behind the cursor that wait for a push, such as those of devices that came back.
    pub(super) late: VecDeque<u32>,
    /// Whether a push is scheduled.
    pub(super) pushing: bool,
    /// The minute that is being pushed in, and how many were.
    pub(super) window: (i64, u32),
    /// Fields that QueryOTAJob shows in place of the true ones.
    pub(super) pretence: Fields,
    /// Of a dynamic job: the devices that were given a task, with the version they ran then.
    pub(super) covered: BTreeSet<(DeviceId, u32)>,
}

impl Job {
    /// Whether queued tasks are pushed: a cancelled policy's tasks go on.
    pub(super) fn pushes(&self) -> bool {
        self.status == JobStatus::InProgress || self.policy.dynamic() && self.status == JobStatus::Canceled
    }
}
