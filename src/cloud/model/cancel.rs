//! CancelOTATaskByJob: which tasks it takes, and the delay until it takes them (ota-api: section 6.9).
//!
//! Here belong the options and their application. Cancelling by device or by strategy is not offered.

use super::answer::{Done, Refusal};
use super::jobs::{JobStatus, Reason, TaskStatus};
use super::parameters::Given;
use super::world::World;

/// A cancel that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cancel {
    pub(super) job: u32,
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
        let cancel = Cancel {
            job: number,
            scheduled: scheduled.unwrap_or(false),
            queued,
            notified: notified.unwrap_or(false),
            in_progress: in_progress.unwrap_or(false),
            // Absent, it follows the queued tasks; present, it decides alone.
            unconfirmed: unconfirmed.unwrap_or(queued),
        };
        Ok((Done::nothing(), cancel))
    }

    /// Cancels the tasks that are in the chosen states now.
    pub(super) fn apply_cancel(&mut self, cancel: Cancel) {
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
