//! The census: every device that a run exposed, counted once over all the run's jobs.
//!
//! A device may have a task in several jobs: left over in a gray step, then upgraded by the full one. Counts alone
//! cannot tell, so the devices of earlier jobs that did not succeed are followed by name. Names stay in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::Ledger;
use crate::ota::Api;
use crate::ota::calls::{self, CallContext};
use crate::ota::id::{DeviceName, JobId};
use crate::ota::outcome::CallError;
use crate::ota::polling;
use crate::ota::task::{Failure, Task, TaskStatus};
use crate::rollout::decide::add;
use crate::rollout::observed::{JobReading, RunLedger, basis};

/// Names in one ListOTATaskByJob (ota-api: section 6.2).
const NAMES_PER_CALL: usize = 50;

/// The ledger's classes, best first: a device counts in the first that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// SUCCEEDED.
    AtTarget,
    /// IN_PROGRESS, or a status that is not documented.
    InProgress,
    /// NOTIFIED.
    Notified,
    /// NOTIFIED and unchanged for `silentAfter`.
    Silent,
    /// QUEUED or CONFIRM.
    Queued,
    /// FAILED by the device.
    Failed,
    /// FAILED by time.
    TimedOut,
    /// FAILED because the device was busy elsewhere.
    Conflict,
    /// CANCELED.
    Cancelled,
}

impl Class {
    /// The class of one task.
    pub fn of(task: &Task, silent_after: Duration, now: Timestamp) -> Self {
        match &task.status {
            TaskStatus::Succeeded => Self::AtTarget,
            TaskStatus::Canceled => Self::Cancelled,
            TaskStatus::Queued | TaskStatus::Confirm => Self::Queued,
            TaskStatus::Notified if is_silent(task, silent_after, now) => Self::Silent,
            TaskStatus::Notified => Self::Notified,
            TaskStatus::Failed => match task.failure() {
                Some(Failure::TimedOut) => Self::TimedOut,
                Some(Failure::Conflict) => Self::Conflict,
                _ => Self::Failed,
            },
            TaskStatus::InProgress | TaskStatus::Other(_) => Self::InProgress,
        }
    }

    /// Its number in a ledger.
    pub fn of_ledger(self, ledger: &mut Ledger) -> &mut i64 {
        match self {
            Self::AtTarget => &mut ledger.at_target,
            Self::InProgress => &mut ledger.in_progress,
            Self::Notified => &mut ledger.notified,
            Self::Silent => &mut ledger.silent,
            Self::Queued => &mut ledger.queued,
            Self::Failed => &mut ledger.failed,
            Self::TimedOut => &mut ledger.timed_out,
            Self::Conflict => &mut ledger.conflict,
            Self::Cancelled => &mut ledger.cancelled,
        }
    }

    /// Nothing will change it.
    fn is_final(self) -> bool {
        matches!(self, Self::AtTarget | Self::Failed | Self::TimedOut | Self::Conflict | Self::Cancelled)
    }
}

/// Whether a notified task has shown no sign for so long.
pub fn is_silent(task: &Task, silent_after: Duration, now: Timestamp) -> bool {
    task.utc_modified.is_some_and(|at| {
        let quiet = Duration::try_from(now.duration_since(at)).unwrap_or_default();
        quiet >= silent_after
    })
}

/// One job of the run, oldest first.
#[derive(Debug, Clone)]
pub struct Counted<'a> {
    /// JobId.
    pub id: &'a JobId,
    /// Its reading.
    pub reading: &'a JobReading,
    /// When its devices count as silent.
    pub silent_after: Duration,
}

impl Counted<'_> {
    /// Whether the cloud does not know it any more.
    const fn is_gone(&self) -> bool {
        self.reading.job.is_none()
    }
}

/// What is remembered from one census to the next.
#[derive(Debug, Default)]
pub struct Census {
    /// By earlier job: the counts it was listed at, and its devices that did not succeed.
    stragglers: BTreeMap<JobId, (Ledger, BTreeMap<DeviceName, Class>)>,
    /// By later job: what became of a straggler there; none: it has no task there.
    fates: BTreeMap<JobId, BTreeMap<DeviceName, Option<Class>>>,
    /// The counts of the last census.
    last: Vec<Ledger>,
}

impl Census {
    /// Whether a new census could differ from the last one.
    pub fn is_stale(&self, jobs: &[Counted]) -> bool {
        jobs.iter().map(|j| j.reading.counts).ne(self.last.iter().copied())
    }

    /// Counts.
    ///
    /// # Errors
    /// A read failed; the next census starts where this one stopped.
    pub async fn take<A: Api>(
        &mut self,
        api: &A,
        ctx: &CallContext,
        jobs: &[Counted<'_>],
    ) -> Result<Option<RunLedger>, CallError> {
        let (Some(first), Some((last, earlier))) = (jobs.first(), jobs.split_last()) else { return Ok(None) };
        for job in earlier.iter().filter(|job| !job.is_gone()) {
            self.list_stragglers(api, ctx, job).await?;
        }
        for (n, job) in jobs.iter().enumerate().skip(1).filter(|(_, job)| !job.is_gone()) {
            let names = self.strangers_to(job.id, earlier.get(..n).unwrap_or_default());
            self.ask(api, ctx, job, names).await?;
        }
        let ledger = self.merge(last, earlier);
        self.last = jobs.iter().map(|j| j.reading.counts).collect();
        let as_of = jobs.iter().map(|j| j.reading.now).max().unwrap_or(last.reading.now);
        let basis = basis(jobs.iter().map(|j| (j.id.as_str(), &j.reading.counts)));
        Ok(Some(RunLedger { ledger, as_of, basis, first: first.id.clone() }))
    }

    async fn list_stragglers<A: Api>(
        &mut self,
        api: &A,
        ctx: &CallContext,
        job: &Counted<'_>,
    ) -> Result<(), CallError> {
        let counts = job.reading.counts;
        if self.stragglers.get(job.id).is_some_and(|(at, _)| *at == counts) {
            return Ok(());
        }
        let wanted = [
            (TaskStatus::Failed, counts.failed + counts.timed_out + counts.conflict),
            (TaskStatus::Canceled, counts.cancelled),
            (TaskStatus::InProgress, counts.in_progress),
            (TaskStatus::Notified, counts.notified + counts.silent),
            (TaskStatus::Queued, counts.queued),
            (TaskStatus::Confirm, counts.queued),
        ];
        let mut found = BTreeMap::new();
        for (status, _) in wanted.iter().filter(|(_, count)| *count > 0) {
            for task in polling::tasks_in(api, ctx, job.id, status).await?.value {
                let class = Class::of(&task, job.silent_after, job.reading.now);
                found.insert(task.device_name, class);
            }
        }
        self.stragglers.insert(job.id.clone(), (counts, found));
        Ok(())
    }

    /// Stragglers of earlier jobs whose fate in this job has to be asked for.
    fn strangers_to(&self, job: &JobId, earlier: &[Counted]) -> Vec<DeviceName> {
        let own = self.stragglers.get(job).map(|(_, names)| names);
        let known = self.fates.get(job);
        let names: BTreeSet<&DeviceName> = earlier
            .iter()
            .filter(|e| e.id != job)
            .filter_map(|e| self.stragglers.get(e.id))
            .flat_map(|(_, names)| names.keys())
            .filter(|name| own.is_none_or(|own| !own.contains_key(*name)))
            .filter(|name| match known.and_then(|k| k.get(*name)) {
                Some(fate) => fate.is_some_and(|class| !class.is_final()),
                None => true,
            })
            .collect();
        names.into_iter().cloned().collect()
    }

    async fn ask<A: Api>(
        &mut self,
        api: &A,
        ctx: &CallContext,
        job: &Counted<'_>,
        names: Vec<DeviceName>,
    ) -> Result<(), CallError> {
        for some in names.chunks(NAMES_PER_CALL) {
            let tasks = calls::tasks_of_devices(api, ctx, job.id, some).await?.value;
            let fates = self.fates.entry(job.id.clone()).or_default();
            // A static job's devices are fixed: who has no task has none for good.
            fates.extend(some.iter().map(|name| (name.clone(), None)));
            for task in tasks {
                let class = Class::of(&task, job.silent_after, job.reading.now);
                fates.insert(task.device_name, Some(class));
            }
        }
        Ok(())
    }

    fn merge(&self, last: &Counted, earlier: &[Counted]) -> Ledger {
        let mut ledger = last.reading.counts;
        let mut best: BTreeMap<&DeviceName, Class> = BTreeMap::new();
        for job in earlier {
            if job.is_gone() {
                // Nobody can tell its devices by name any more: those that later jobs took as well count twice.
                ledger = add(ledger, &job.reading.counts);
                continue;
            }
            ledger.at_target += job.reading.counts.at_target;
            for (name, class) in self.stragglers.get(job.id).iter().flat_map(|(_, names)| names) {
                let entry = best.entry(name).or_insert(*class);
                *entry = (*entry).min(*class);
            }
        }
        let fate = |job: &JobId, name| self.fates.get(job).and_then(|f| f.get(name)).copied().flatten();
        for (name, class) in best {
            // Whoever succeeded later is counted where it did.
            if earlier.iter().any(|job| fate(job.id, name) == Some(Class::AtTarget)) {
                continue;
            }
            match fate(last.id, name) {
                Some(later) if later <= class => {}
                Some(later) => {
                    *later.of_ledger(&mut ledger) -= 1;
                    *class.of_ledger(&mut ledger) += 1;
                }
                None => *class.of_ledger(&mut ledger) += 1,
            }
        }
        ledger
    }
}
