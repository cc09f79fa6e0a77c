//! What has to be read from the cloud before the next decision can be made well.
//!
//! A plain list; when and how it is read is the poller's business.

use std::time::Duration;

use crate::api::rollout::FirmwareRef;
use crate::api::status::{Claim, FirmwareRolloutStatus, Ledger, Phase, StageKind, StageState};
use crate::api::{FULL, FirmwareRollout};
use crate::ota::id::{FirmwareId, JobId};

use super::command::Command;
use super::course::{self, Course};
use super::observed::{Ticket, basis};
use super::{effective, names, retry, revision, stage};
use crate::sabotage::{Bad, on};

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// ProductKey of the rollout.
    pub product_key: String,
    /// The package, by its pinned id or as the spec names it.
    pub firmware: Option<FirmwareRef>,
    /// Jobs whose tasks may still move, or whose numbers a decision needs.
    pub jobs: Vec<WantedJob>,
    /// Whether the job counts moved on since the run's devices were counted, each once.
    pub ledger: bool,
    /// The jobs whose unfinished devices another attempt has to retry.
    pub unfinished: Vec<JobId>,
    /// The claim whose tag to look for among the jobs of its package.
    pub lookup: Option<Claim>,
    /// The listing in which jobs that should not be there are looked for. It comes along with other reads: a rollout at
    /// rest is not read for its sake.
    pub audit: Option<Audit>,
    /// The job that a person wants adopted.
    pub proposed: Option<JobId>,
    /// Devices whose versions have to be known, if the package is only the difference to one.
    pub named: Vec<String>,
    /// The policies of the product, whoever made them. They come along with other reads.
    pub survey: Option<Survey>,
}

/// A reading of a product's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Least time between two.
    pub every: Duration,
    /// The next create waits for it; else it only tells people something.
    pub needed: bool,
}

/// While a policy of ours stands, others are looked for so often: it takes a list for each package of the product.
const SURVEY: Duration = Duration::from_secs(3_600);
/// Before a policy for a group is made.
const SURVEY_BEFORE: Duration = Duration::from_secs(60);

/// A listing of a package's jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The run's package; none: the one that is read.
    pub firmware: Option<FirmwareId>,
    /// Least time between two.
    pub every: Duration,
}

/// Before the first create of a run, somebody else's jobs hold it up: looked for so often.
const AUDIT_BEFORE: Duration = Duration::from_secs(20);
/// From then on.
const AUDIT: Duration = Duration::from_secs(60);

/// One job to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedJob {
    /// JobId.
    pub id: JobId,
    /// How often.
    pub cadence: Cadence,
    /// It counts in the ledger: verifications do not.
    pub upgrade: bool,
    /// When its devices count as silent.
    pub silent_after: Duration,
    /// The cloud did not know it any more: its counts as they were then, for nobody can count it again.
    pub gone: Option<Ledger>,
}

/// How often a job is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// It belongs to the stage that runs, or something is being cancelled.
    EveryPoll,
    /// Devices that were pushed to may still end.
    Slow,
    /// Nothing in it moves any more; its numbers are needed only beside those of others.
    Once,
}

impl Wanted {
    /// Nothing to read: the rollout is at rest.
    pub fn is_empty(&self) -> bool {
        self.firmware.is_none()
            && self.lookup.is_none()
            && self.proposed.is_none()
            && self.unfinished.is_empty()
            && !self.ledger
            && self.jobs.iter().all(|j| j.cadence == Cadence::Once)
    }
}

/// What to read for a rollout.
pub fn wanted(rollout: &FirmwareRollout, ticket: Ticket) -> Wanted {
    let none = FirmwareRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&none);
    let deleting = rollout.metadata.deletion_timestamp.is_some();
    let course = course::of(&rollout.spec, &revision::of_spec(&rollout.spec), status);
    let same_run = status.run > 0 && course != Course::Superseded;
    let active = stage::active(&status.stages).map(|s| s.name.clone());
    let given_up = status.phase.is_some_and(Phase::is_given_up);
    let completed = status.phase == Some(Phase::Completed);
    // Everything is cancelled at the end of a run that is given up.
    let cancelling = deleting || given_up || (status.run > 0 && !same_run);

    let mut wanted = Wanted { product_key: rollout.spec.product_key.clone(), ..Wanted::default() };
    for entry in &status.stages {
        let silent_after = status
            .effective
            .iter()
            .flat_map(|e| &e.stages)
            .find(|s| s.name == entry.name)
            .map_or(effective::SILENT_AFTER, |s| s.silent_after.length());
        for job in &entry.jobs {
            let pending =
                job.counts.is_none_or(|c| c.queued + c.notified + c.silent + job.moving > 0) || job.total.is_none();
            // A policy that stands changes slowly, for weeks.
            let settled = completed && stage::stands(entry);
            let running = active.as_deref() == Some(entry.name.as_str()) && !settled;
            let policy = entry.kind == StageKind::Dynamic && !stage::is_over(job);
            let urgent = running || (cancelling && (pending || policy));
            // Counting goes on after the end until no device that was pushed to is open; queued ones may stay for ever.
            let open = job.counts.is_none_or(|c| c.open() + if completed { 0 } else { c.queued } > 0);
            let at_rest = !open && job.total.is_some() && !stage::stands(entry);
            let upgrade = entry.kind != StageKind::Verify;
            let cadence = match (urgent, at_rest) {
                (true, _) => Cadence::EveryPoll,
                (false, false) => Cadence::Slow,
                (false, true) => Cadence::Once,
            };
            let gone = job.counts.filter(|_| job.gone);
            wanted.jobs.push(WantedJob { id: JobId::new(job.id.clone()), cadence, upgrade, silent_after, gone });
        }
    }
    // Replaced policies are read more often once it is their turn to be cancelled.
    let retiring = deleting || completed || active.as_ref().is_some_and(|name| *name == FULL);
    for policy in &status.standing {
        let cadence = if retiring { Cadence::EveryPoll } else { Cadence::Slow };
        let silent_after = effective::SILENT_AFTER;
        wanted.jobs.push(WantedJob {
            id: JobId::new(policy.id.clone()),
            cadence,
            upgrade: false,
            silent_after,
            gone: None,
        });
    }
    for duplicate in status.duplicates.iter().filter(|d| !d.ended) {
        let (id, silent_after) = (JobId::new(duplicate.id.clone()), effective::SILENT_AFTER);
        let cadence = Cadence::EveryPoll;
        wanted.jobs.push(WantedJob { id, cadence, upgrade: false, silent_after, gone: None });
    }
    let upgrades = status.stages.iter().filter(|s| s.kind != StageKind::Verify).flat_map(|s| &s.jobs);
    let counted = upgrades.filter_map(|job| Some((job.id.as_str(), job.counts.as_ref()?)));
    let basis = basis(counted);
    wanted.ledger = wanted.jobs.iter().any(|j| j.upgrade)
        && status.progress.as_ref().is_none_or(|p| p.basis.as_ref() != Some(&basis));
    if let Some(claim) = &status.claim
        && matches!(ticket, Ticket::None | Ticket::Guarded)
    {
        let mut claim = claim.clone();
        if on(Bad::LookupUnderNewFirmware) {
            claim.call.firmware_id = rollout.spec.firmware.id.clone().unwrap_or(claim.call.firmware_id);
        }
        wanted.lookup = Some(claim);
    }
    // Until the attempt has all its jobs, its names must be at hand.
    if !cancelling {
        // Of other stages than gray steps an attempt takes everyone again.
        let retrying = status.stages.iter().filter(|s| s.kind.is_gray()).find(|s| {
            if retry::list(s).is_some() {
                retry::parts_done(s) < retry::parts(s)
            } else {
                s.attempt > 1 && s.state == StageState::Pending
            }
        });
        wanted.unfinished = retrying.map(retry::retried_jobs).unwrap_or_default();
    }
    wanted.proposed = Command::Adopt.fresh(rollout, status).map(JobId::new);
    let for_group = rollout.spec.full.as_ref().and_then(|f| f.dynamic.as_ref()).is_some_and(|d| d.group.is_some());
    wanted.survey = if completed && status.stages.iter().any(stage::stands) {
        Some(Survey { every: SURVEY, needed: false })
    } else if for_group && !cancelling && stage::upcoming(&rollout.spec, status) == Some(FULL) {
        Some(Survey { every: SURVEY_BEFORE, needed: true })
    } else {
        None
    };
    if !cancelling {
        wanted.named = names::named(&rollout.spec, status).to_vec();
    }
    let left = || {
        let plan = course::plan(&stage::plan(&rollout.spec).into(), course, status);
        !stage::reverted(status) && stage::next(&plan, &status.stages).is_some()
    };
    let ahead = !same_run || (active.is_some() && !completed) || left();
    if ahead && !deleting && !(given_up && same_run) {
        wanted.firmware = Some(course::firmware(&rollout.spec, course, status));
    }
    let pinned = status.firmware.as_ref().filter(|_| same_run || deleting).map(|f| FirmwareId::new(f.id.clone()));
    let suspended = rollout.spec.suspend == Some(true) || status.paused;
    let moving = active.is_some() || wanted.jobs.iter().any(|j| j.cadence != Cadence::Once);
    wanted.audit = match status.stages.iter().any(|s| !s.jobs.is_empty()) {
        true if moving => Some(Audit { firmware: pinned, every: AUDIT }),
        false if wanted.firmware.is_some() && !suspended => Some(Audit { firmware: pinned, every: AUDIT_BEFORE }),
        _ => None,
    };
    wanted
}
