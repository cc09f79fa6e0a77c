//! What somebody else did to a job in the cloud: it was cancelled, or is gone, or tasks of it were cancelled. Told from
//! our own cancels, which are written down before they are sent. What follows from it is decided elsewhere.

use crate::api::status::{AcceptedChange, JobStatus, Ledger, StageStatus};
use crate::ota::job;

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The cloud does not know it any more.
    Gone,
    /// It was cancelled as a whole.
    Cancelled,
    /// Some of its tasks were.
    Tasks,
}

impl Change {
    /// For a sentence.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Gone => "is not known to the cloud any more",
            Self::Cancelled => "was cancelled",
            Self::Tasks => "had tasks cancelled",
        }
    }
}

/// What somebody else did to a job.
pub fn of(job: &JobStatus) -> Option<Change> {
    let cancelled = job.view.as_ref().is_some_and(|v| v.job_status == job::JobStatus::Canceled.as_str());
    // What ends at its own time is ended by nobody.
    let expired = job.view.as_ref().is_some_and(|v| {
        let last = v.utc_end_time.or(v.utc_modified);
        v.utc_schedule_finish_time.is_some_and(|finish| last.is_some_and(|at| at >= finish))
    });
    if job.drained || (expired && !job.gone) {
        None
    } else if job.gone {
        Some(Change::Gone)
    } else if cancelled {
        Some(Change::Cancelled)
    } else {
        job.counts.filter(|c| c.cancelled > 0).map(|_| Change::Tasks)
    }
}

/// What nobody has accepted yet.
pub fn open(job: &JobStatus) -> Option<Change> {
    let accepted = job.accepted.unwrap_or_default();
    let more = job.counts.is_some_and(|c| c.cancelled > accepted.cancelled);
    of(job).filter(|change| !accepted.ended && (*change != Change::Tasks || more))
}

/// Takes what happened to a job as it is by now.
pub fn accept(job: &mut JobStatus) {
    let Some(change) = of(job) else { return };
    let cancelled = job.counts.map_or(0, |c| c.cancelled);
    job.accepted = Some(AcceptedChange { cancelled, ended: change != Change::Tasks });
}

/// The jobs of a stage's present attempt.
pub fn present(stage: &StageStatus) -> impl Iterator<Item = &JobStatus> {
    stage.jobs.iter().filter(|j| j.attempt == stage.attempt)
}

/// Whether nothing of the present attempt can end any more.
pub fn is_over(stage: &StageStatus) -> bool {
    present(stage).all(|j| j.counts.is_some_and(|c| c.open() + c.queued == 0))
}

/// Whether another attempt can be made: of a gray step it names the devices that did not get there, and the cloud lists
/// them only for jobs that it knows. One that was never seen may yet show up.
pub fn can_be_made_again(stage: &StageStatus) -> bool {
    present(stage).all(|j| !j.gone || (!stage.kind.is_gray() && j.view.is_some()))
}

/// The counts of a job that is gone: whatever was open in it is open no more.
pub const fn closed(counts: Ledger) -> Ledger {
    let lost = counts.open() + counts.queued;
    let cancelled = counts.cancelled + lost;
    Ledger { cancelled, in_progress: 0, notified: 0, silent: 0, queued: 0, ..counts }
}
