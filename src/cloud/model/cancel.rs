//! CancelOTATaskByJob, CancelOTATaskByDevice and CancelOTAStrategyByJob: what they take, and the delay until they take
//! tasks (ota-api: section 6.9).
//!
//! Here belong the options and their application.

use super::answer::{Done, Refusal};
use super::devices::DeviceId;
use super::jobs::{JobStatus, Reason, TaskStatus};
use super::parameters::Given;
use super::targets;
use super::world::World;

const DEVICES_MAX: usize = 200;

/// A cancel of tasks that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cancel {
    /// A job's tasks in some states.
    OfJob(Options),
    /// Some devices' open tasks of these jobs.
    OfDevices { jobs: Vec<u32>, devices: Vec<DeviceId> },
}

/// Which of a job's tasks are cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    job: u32,
    scheduled: bool,
    queued: bool,
    notified: bool,
    in_progress: bool,
    unconfirmed: bool,
}

impl World {
    /// Checks a cancel; it is applied later.
    pub(super) fn accept_cancel(&self, given: &Given<'_>) -> Result<(Done, Cancel), Refusal> {
        let scheduled = given.boolean("CancelScheduledTask")?;
        let queued = given.boolean("CancelQueuedTask")?;
        let notified = given.boolean("CancelNotifiedTask")?;
        let in_progress = given.boolean("CancelInProgressTask")?;
        let unconfirmed = given.boolean("CancelUnconfirmedTask")?;
        let options = [scheduled, queued, notified, in_progress, unconfirmed];
        let counts = |option: &Option<bool>| match option {
            Some(true) => true,
            Some(false) => self.switches.all_false_is_an_option,
            None => false,
        };
        if !options.iter().any(counts) {
            return Err(Refusal::firmware("CancelOptionIsMandatory", "A cancel option is mandatory."));
        }
        let number = self.wanted_job(given)?;
        if scheduled == Some(true) && self.job(number).is_some_and(|job| job.policy.schedule.is_none()) {
            return Err(Refusal::firmware("JobHasNoScheduleTime", "The job has no schedule time."));
        }
        let queued = queued.unwrap_or(false);
        let options = Options {
            job: number,
            scheduled: scheduled.unwrap_or(false),
            queued,
            notified: notified.unwrap_or(false),
            in_progress: in_progress.unwrap_or(false),
            // Absent, it follows the queued tasks; present, it decides alone.
            unconfirmed: unconfirmed.unwrap_or(queued),
        };
        Ok((Done::nothing(), Cancel::OfJob(options)))
    }

    /// Checks a cancel by device; it is applied later.
    pub(super) fn accept_cancel_of_devices(&self, given: &Given<'_>) -> Result<(Done, Cancel), Refusal> {
        let names = targets::distinct(given.list("DeviceName")?, "DeviceName", DEVICES_MAX)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(targets::no_firmware)?;
        let jobs = match given.text("JobId") {
            "" => package.jobs.clone(),
            _ => vec![self.wanted_job(given)?],
        };
        if jobs.iter().any(|job| self.job(*job).is_none_or(|job| job.firmware != number)) {
            return Err(Refusal::firmware("InvalidOTAJobId", "The job is of another firmware."));
        }
        let product = self.devices.products.get(package.product);
        let mut devices = Vec::with_capacity(names.len());
        for name in names {
            let device = product.and_then(|p| self.devices.find(p, name));
            let has_task = |device: &DeviceId| {
                let mut jobs = jobs.iter().filter_map(|job| self.job(*job));
                jobs.any(|job| job.tasks.iter().any(|task| task.device == *device))
            };
            devices.push(device.filter(has_task).ok_or_else(|| {
                let message = format!("Device {name} has no task of the firmware.");
                Refusal::firmware("DeviceUpgradeRecordNotFound", message)
            })?);
        }
        Ok((Done::nothing(), Cancel::OfDevices { jobs, devices }))
    }

    /// CancelOTAStrategyByJob: the policy ends at once, and gives no more tasks; those that it gave go on.
    pub(super) fn cancel_strategy(&mut self, given: &Given<'_>) -> Result<Done, Refusal> {
        let number = self.wanted_job(given)?;
        let now = self.now;
        let Some(job) = self.job_mut(number).filter(|job| job.policy.dynamic()) else {
            return Err(Refusal::firmware("NotDynamicJob", "Not a dynamic job."));
        };
        if job.status.ended() {
            return Err(Refusal::firmware("JobAlreadyCanceled", "The job is already canceled."));
        }
        (job.status, job.ended, job.modified) = (JobStatus::Canceled, Some(now), now);
        job.pending.clear();
        self.policies.retain(|policy| *policy != number);
        Ok(Done::nothing())
    }

    /// Cancels the tasks that are in the chosen states now.
    pub(super) fn apply_cancel(&mut self, cancel: Cancel) {
        match cancel {
            Cancel::OfJob(options) => self.cancel_tasks(options),
            Cancel::OfDevices { jobs, devices } => {
                let open = |device| self.devices.slots(device).filter_map(|(_, slot)| slot.open);
                let tasks: Vec<_> = devices.into_iter().flat_map(open).filter(|(job, _)| jobs.contains(job)).collect();
                for (job, task) in tasks {
                    self.set_status(job, task, TaskStatus::Canceled, Reason::Cancelled);
                }
            }
        }
    }

    fn cancel_tasks(&mut self, cancel: Options) {
        let Some(job) = self.job(cancel.job) else { return };
        // Before its time, a scheduled job's tasks show as QUEUED or CONFIRM: either option takes them.
        let waiting = cancel.scheduled && job.status == JobStatus::Planned;
        let chosen = [
            (TaskStatus::Confirm, cancel.unconfirmed || waiting),
            (TaskStatus::Queued, cancel.queued || waiting),
            (TaskStatus::Notified, cancel.notified),
            (TaskStatus::InProgress, cancel.in_progress),
        ];
        let states = chosen.into_iter().filter(|(_, chosen)| *chosen);
        let tasks: Vec<u32> = states.flat_map(|(status, _)| job.tasks.in_status(status)).collect();
        for task in tasks {
            self.set_status(cancel.job, task, TaskStatus::Canceled, Reason::Cancelled);
        }
    }
}
