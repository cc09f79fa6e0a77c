//! ConfirmOTATask, ReupgradeOTATask and UpdateOTAJob: changes of jobs that run (ota-api: section 6.9).
//!
//! Here belong their rules and effects, which are in force with the answer. Cancelling belongs to `cancel`.

use super::Context;
use super::answer::{Done, Refusal};
use super::devices::TaskOf;
use super::jobs::{JobStatus, Kind, Reason, Selection, TaskStatus};
use super::life::FIRST_PUSH_MS;
use super::parameters::{Given, Tags};
use super::policy;
use super::switches::Edition;
use super::targets;
use super::world::{Verification, World};

const TASKS_MAX: usize = 10;
/// Digits of a task's number behind its job's id.
const TASK_DIGITS: usize = 7;

/// `TaskId` of a job's task.
pub(super) fn task_id(job_id: &str, task: u32) -> String {
    format!("{job_id}{task:0TASK_DIGITS$}")
}

impl World {
    /// The task that an id names.
    fn find_task(&self, id: &str) -> Result<TaskOf, Refusal> {
        let parts = id.len().checked_sub(TASK_DIGITS).and_then(|at| id.split_at_checked(at));
        let found = parts.and_then(|(job, task)| {
            let (job, task) = (*self.job_ids.get(job)?, task.parse().ok()?);
            self.job(job)?.tasks.get(task).map(|_| (job, task))
        });
        found.ok_or_else(|| Refusal::firmware("InvalidOTATaskId", format!("The task {id} does not exist.")))
    }

    /// The tasks that TaskId.N names.
    fn wanted_tasks(&self, given: &Given<'_>) -> Result<Vec<TaskOf>, Refusal> {
        let ids = given.list("TaskId")?;
        if ids.iter().any(|id| id.is_empty()) {
            return Err(Refusal::firmware("NullTaskId", "TaskId is empty."));
        }
        targets::distinct(ids, "TaskId", TASKS_MAX)?.into_iter().map(|id| self.find_task(id)).collect()
    }

    fn task_status(&self, (job, task): TaskOf) -> Option<TaskStatus> {
        Some(self.job(job)?.tasks.get(task)?.status)
    }

    /// ConfirmOTATask. All of the tasks, or none of them.
    pub(super) fn confirm_tasks(&mut self, given: &Given<'_>) -> Result<Done, Refusal> {
        let tasks = self.wanted_tasks(given)?;
        for of in &tasks {
            if self.task_status(*of) != Some(TaskStatus::Confirm) {
                return Err(wrong_state("A task does not wait for a confirmation."));
            }
            if self.job(of.0).is_some_and(|job| job.status == JobStatus::Planned) {
                return Err(wrong_state("The job's time window has not begun."));
            }
        }
        for (number, task) in tasks {
            self.queue_again(number, task);
        }
        Ok(Done::nothing())
    }

    /// ReupgradeOTATask. All of the tasks, or none of them.
    pub(super) fn reupgrade_tasks(&mut self, given: &Given<'_>) -> Result<Done, Refusal> {
        let tasks = self.wanted_tasks(given)?;
        let number = self.wanted_job(given)?;
        if tasks.iter().any(|(job, _)| *job != number) {
            return Err(Refusal::firmware("InvalidOTATaskId", "A task is of another job."));
        }
        if tasks.iter().any(|of| self.task_status(*of) != Some(TaskStatus::Failed)) {
            return Err(wrong_state("Only failed tasks can be run again."));
        }
        let package = self.job(number).and_then(|job| self.package(job.firmware));
        if !package.is_some_and(|p| matches!(p.status, Verification::Exempt | Verification::Verified)) {
            let message = "The firmware is not verified.";
            return Err(Refusal::firmware("ReUpgradeFailedFirmwareNotVerified", message));
        }
        for (_, task) in tasks {
            self.run_again(number, task);
        }
        Ok(Done::nothing())
    }

    /// Begins another run of a failed task; on a device that is busy elsewhere it stays failed.
    fn run_again(&mut self, number: u32, task_number: u32) {
        let Some(job) = self.job(number) else { return };
        let Some((device, reason)) = job.tasks.get(task_number).map(|t| (t.device, t.reason)) else { return };
        let Some(module) = self.package(job.firmware).map(|p| p.module) else { return };
        if !self.make_way(number, device, module) {
            return;
        }
        let timeout = self.job(number).and_then(|job| job.policy.timeout_minutes).unwrap_or(0);
        let version = self.devices.slot(device, module).map(|slot| slot.version);
        let Some(job) = self.job_mut(number) else { return };
        match reason {
            Reason::Timeout => job.failures.timed_out = job.failures.timed_out.saturating_sub(1),
            Reason::Busy => job.failures.conflict = job.failures.conflict.saturating_sub(1),
            _ => job.failures.failed = job.failures.failed.saturating_sub(1),
        }
        if job.status == JobStatus::Completed {
            (job.status, job.ended) = (JobStatus::InProgress, None);
        }
        if let Some(task) = job.tasks.get_mut(task_number) {
            task.attempt = task.attempt.saturating_add(1);
            (task.run, task.timeout_minutes) = (task.attempt, timeout);
            task.src = version.unwrap_or(task.src);
        }
        if let Some(slot) = self.devices.slot_mut(device, module) {
            slot.open = Some((number, task_number));
        }
        self.queue_again(number, task_number);
    }

    /// Puts a task behind those that wait for a push.
    fn queue_again(&mut self, number: u32, task: u32) {
        self.set_status(number, task, TaskStatus::Queued, Reason::None);
        if let Some(job) = self.job_mut(number) {
            job.late.push_back(task);
        }
        self.wake_push(number, FIRST_PUSH_MS);
    }

    /// UpdateOTAJob. Tags that are not sent again are gone.
    pub(super) fn update_job(&mut self, given: &Given<'_>, context: &Context<'_>) -> Result<Done, Refusal> {
        if context.edition == Edition::Legacy {
            return Err(Refusal::not_here("UpdateOTAJob"));
        }
        let dynamic = match given.text("UpgradeType") {
            "STATIC" => false,
            "DYNAMIC" => true,
            "" => return Err(Refusal::firmware("NullSelectionType", "UpgradeType is empty.")),
            _ => return Err(Refusal::firmware("InvalidSelectionType", "UpgradeType must be STATIC or DYNAMIC.")),
        };
        let selection = match given.text("TargetSelection") {
            "" => return Err(Refusal::firmware("NullTargetSelection", "TargetSelection is empty.")),
            "ALL" => Selection::All,
            "SPECIFIC" => Selection::Specific,
            "GRAY" => Selection::Gray,
            "GROUP" => Selection::Group,
            _ => return Err(Refusal::firmware("InvalidTargetSelection", "TargetSelection is unknown.")),
        };
        let rate = policy::rate(given, context.edition)?;
        let timeout = policy::timeout(given)?;
        let sources = targets::src_versions(given, "SrcVersionList")?;
        if !dynamic && timeout.is_some() {
            return Err(Refusal::firmware("InvalidTimeoutSetting", "TimeoutInMinutes is for dynamic jobs only."));
        }
        if !dynamic && !sources.is_empty() {
            return Err(Refusal::firmware("SrcVersionsNotAllowed", "SrcVersionList is for dynamic jobs only."));
        }
        let tags = given.tags(Tags::OfUpdate, context.edition)?;
        let number = self.wanted_job(given)?;
        let Some(job) = self.job(number) else { return Err(wrong_state("The job does not exist.")) };
        if job.policy.verify() || job.policy.dynamic() != dynamic {
            return Err(Refusal::firmware("InvalidSelectionType", "UpgradeType is not the job's."));
        }
        // A dynamic job by group is shown as ALL: either name fits it.
        let by_group = dynamic && job.policy.group.is_some() && selection == Selection::Group;
        if job.policy.selection != selection && !by_group {
            return Err(Refusal::firmware("InvalidTargetSelection", "TargetSelection is not the job's."));
        }
        if !sources.is_empty() {
            if job.policy.group.is_some() {
                return Err(Refusal::firmware("SrcVersionsNotAllowed", "Source versions exclude a group."));
            }
            if let Some(package) = self.package(job.firmware) {
                targets::check_sources(package, Selection::All, &sources)?;
            }
        }
        let too_long = |retry: &super::jobs::Retry| timeout.is_some_and(|t| retry.interval >= u32::from(t));
        if job.policy.retry.as_ref().is_some_and(too_long) {
            return Err(Refusal::firmware("InvalidTimeoutSetting", "TimeoutInMinutes must exceed RetryInterval."));
        }
        if job.status.ended() {
            return Err(wrong_state("The job has ended."));
        }
        let now = self.now;
        if let Some(job) = self.job_mut(number) {
            (job.policy.maximum_per_minute, job.policy.tags, job.modified) = (rate, tags, now);
            if let Kind::Dynamic(_) = job.policy.kind {
                job.policy.timeout_minutes = timeout.or(job.policy.timeout_minutes);
                if !sources.is_empty() {
                    job.policy.src_versions = sources;
                }
            }
        }
        self.wake_push(number, 0);
        Ok(Done::nothing())
    }
}

fn wrong_state(why: &str) -> Refusal {
    Refusal::firmware("IncorrectDeviceUpgradeJobStatus", why)
}
