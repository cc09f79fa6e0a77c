//! The only place where a decision is made.
//!
//! One decision is one [`Step`]: at most one effect, the status that goes with it, and why. What the effect then did is
//! folded into the status by `absorb`; the next decision starts from there.

mod claimed;
mod leaving;
mod retrying;
mod running;
mod starting;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::rollout::DeletionPolicy;
use crate::api::status::{
    Claim, Effective, FirmwareRolloutStatus, JobStatus, LastCompleted, Ledger, Phase, Progress, RetryList, StageKind,
    StageState, StageStatus,
};
use crate::api::{ABORT, ADOPT, FINALIZER, FirmwareRollout, ORPHAN, Percent, RETRY, Replay, Span, TAG_KEY, Time};
use crate::ota::Request;
use crate::ota::firmware::{Firmware, FirmwareStatus};
use crate::ota::id::JobId;

use super::command::{self, Command};
use super::gate::{self, GateInput, Verdict};
use super::observed::{Account, JobReading, Observed, RunLedger, Ticket, Trouble, spell, view};
use super::percent::{self, GrayJob, Plan};
use super::stage::{self, Stage};
use super::story::{Situation, tell};
use super::{absorb, claim, effective, firmware, retry, revision};

/// Largest difference to the cloud's clock under which a claim may be made.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// After this by the cloud's clock no copy of a create is accepted any more: the timestamp window and a margin.
pub const EPOCH_EXPIRY: SignedDuration = SignedDuration::from_secs(16 * 60);
/// A cancel that shows no effect after this long is sent again.
const CANCEL_AGAIN: Duration = Duration::from_secs(3);

/// At most one effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// None but the status, if it changed.
    Wait,
    /// Add our finalizer.
    AddFinalizer,
    /// Write the status with its new claim; the acknowledgement makes a ticket.
    Claim,
    /// Use up the ticket and send the claim's create.
    Create(Box<Request>),
    /// Send the claim's create once more, without its ticket: the gateway refuses what it has seen.
    Replay(Box<Request>),
    /// Use up the ticket and write the status without its claim: nothing was or will be sent.
    Withdraw,
    /// Cancel a job's tasks in these states.
    Cancel(JobId, Pending),
    /// Remove our finalizer.
    Release,
}

/// Which tasks a cancel takes. In-progress ones are never cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// Queued and unconfirmed: what a promotion leaves behind.
    Leftovers,
    /// Those and the notified: what a run leaves behind that is given up.
    All,
}

impl Pending {
    /// How many such tasks there are.
    pub const fn count(self, counts: &Ledger) -> i64 {
        match self {
            Self::Leftovers => counts.queued,
            Self::All => counts.queued + counts.notified + counts.silent,
        }
    }
}

/// One decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The effect.
    pub act: Act,
    /// The status to write with it.
    pub status: FirmwareRolloutStatus,
    /// Why, for a log.
    pub because: String,
}

/// Decides what a rollout does next. `now` is our wall clock; ages are taken from the readings' own clock.
pub fn decide(rollout: &FirmwareRollout, observed: &Observed, now: Timestamp) -> Step {
    let mut draft = Draft::new(rollout, observed, now);
    let (act, situation) = if rollout.metadata.deletion_timestamp.is_some() {
        draft.deletion()
    } else if !has_finalizer(rollout) {
        (Act::AddFinalizer, Situation::waiting("Starting", "the rollout was accepted"))
    } else {
        match draft.broken() {
            Some(decision) => decision,
            None => {
                draft.obey();
                draft.run()
            }
        }
    };
    let because = situation.because.clone();
    tell(&mut draft.status, &situation, rollout.metadata.generation, now);
    Step { act, status: draft.status, because }
}

/// Whether our finalizer is on it.
pub fn has_finalizer(rollout: &FirmwareRollout) -> bool {
    rollout.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

type Decision = (Act, Situation);

fn wait(reason: &'static str, because: impl Into<String>) -> Decision {
    (Act::Wait, Situation::waiting(reason, because))
}

fn stall(reason: &'static str, because: impl Into<String>) -> Decision {
    (Act::Wait, Situation::stalled(reason, because))
}

fn troubled(trouble: &Trouble) -> Decision {
    if trouble.stalled {
        stall(trouble.reason, trouble.message.clone())
    } else {
        wait(trouble.reason, trouble.message.clone())
    }
}

/// Whether a set of jobs has tasks left to cancel.
enum Drain {
    Done,
    Wait,
    Cancel(JobId),
}

/// A status being worked out.
struct Draft<'a> {
    rollout: &'a FirmwareRollout,
    observed: &'a Observed,
    now: Timestamp,
    plan: Vec<Stage>,
    revision: String,
    status: FirmwareRolloutStatus,
    /// A person's word that an unanswered create made no job.
    absolved: bool,
}

impl<'a> Draft<'a> {
    fn new(rollout: &'a FirmwareRollout, observed: &'a Observed, now: Timestamp) -> Self {
        let mut draft = Self {
            rollout,
            observed,
            now,
            plan: stage::plan(&rollout.spec),
            revision: revision::of_spec(&rollout.spec),
            status: rollout.status.clone().unwrap_or_default(),
            absolved: false,
        };
        draft.status.observed_generation = rollout.metadata.generation;
        draft.show_effective();
        draft.show_readings();
        draft
    }

    fn generation(&self) -> i64 {
        self.rollout.metadata.generation.unwrap_or(0)
    }

    fn suspended(&self) -> bool {
        self.rollout.spec.suspend == Some(true) || self.status.paused
    }

    /// Who holds it back, for a sentence.
    fn suspender(&self) -> &'static str {
        if self.status.paused { "the rollout is paused" } else { "spec.suspend is set" }
    }

    /// A status that cannot be ours is left alone: whatever it says, nothing is created on its word.
    fn broken(&self) -> Option<Decision> {
        let why = stage::violation(&self.status, &self.status)?;
        Some(stall(
            "StatusInvalid",
            format!("the status was changed by somebody else: {why}; nothing is done until it is mended"),
        ))
    }

    /// Obeys the commands that are new.
    fn obey(&mut self) {
        for command in Command::ALL {
            let Some(value) = command.fresh(self.rollout, &self.status) else { continue };
            let unresolved = self.status.claim.clone();
            match command {
                Command::Resume => self.status.paused = false,
                Command::Pause => self.status.paused = true,
                Command::Abort if stage::reverted(&self.status) => {}
                Command::Abort => {
                    if self.status.run == 0 {
                        self.begin();
                    }
                    command::abort(&mut self.status);
                }
                // Kept until it can be said what became of the create.
                Command::Retry if unresolved.as_ref().is_some_and(|claim| !self.is_over(claim)) => continue,
                Command::Retry if unresolved.is_some() => self.absolved = true,
                Command::Retry if self.status.phase.is_some_and(Phase::is_given_up) => command::renew(&mut self.status),
                Command::Retry => self.status.stages.iter_mut().for_each(|s| s.refusal = None),
                Command::Adopt if unresolved.as_ref().is_some_and(|claim| claim.sent) => {
                    absorb::record(&mut self.status, &JobId::new(value.clone()), None, None);
                }
                Command::Adopt => {}
            }
            self.status.handled.insert(command.name().to_owned(), value);
        }
    }

    /// Settings as they apply now: gates of edited steps at once, and those of steps that an edit removed as they were.
    fn show_effective(&mut self) {
        let removed: Vec<_> = self
            .status
            .effective
            .iter()
            .flat_map(|e| &e.stages)
            .filter(|s| self.plan.iter().all(|p| p.name != s.name))
            .filter(|s| self.status.stages.iter().any(|st| st.name == s.name))
            .cloned()
            .collect();
        let list_lag = match &self.observed.account {
            Some(Ok(account)) => Span::from_duration(account.list_lag),
            _ => {
                self.status.effective.as_ref().map_or(Span::from_duration(effective::LIST_LAG), |e| e.list_lag.clone())
            }
        };
        let stages = self.plan.iter().map(|s| s.settings.clone()).chain(removed).take(24).collect();
        self.status.effective = Some(Effective { list_lag, stages });
    }

    /// Takes the readings over into the status.
    fn show_readings(&mut self) {
        for entry in &mut self.status.stages {
            for job in &mut entry.jobs {
                let Some(reading) = self.observed.jobs.get(&JobId::new(job.id.clone())) else { continue };
                if let Some(read) = &reading.job {
                    job.view = Some(view(read));
                }
                if reading.job.is_some() {
                    job.counts = Some(reading.counts);
                    job.moving = reading.moving;
                    if reading.settled && reading.consistent {
                        job.total = Some(reading.counts.exposed());
                    }
                }
            }
        }
        let gray = gray_jobs(&self.status.stages);
        let declared = self.status.stages.iter().filter_map(|s| s.percent).max();
        let full = self.status.stages.iter().any(|s| s.kind == StageKind::Full && !s.jobs.is_empty());
        let upgrades = self.status.stages.iter().filter(|s| s.kind != StageKind::Verify);
        let first = upgrades.flat_map(|s| &s.jobs).next().map(|job| job.id.clone());
        let same_run = |counted: &&RunLedger| first.as_deref() == Some(counted.first.as_str());
        if let Some(counted) = self.observed.ledger.as_ref().filter(same_run) {
            self.status.progress = Some(Progress {
                ledger: counted.ledger,
                exposed: counted.ledger.exposed(),
                failed_total: counted.ledger.failed + counted.ledger.timed_out,
                eligible_at_least: percent::eligible_at_least(&gray),
                overshoot: declared.filter(|_| !full).and_then(|share| percent::overshoot(share, &gray)),
                as_of: Some(Time(counted.as_of)),
                basis: Some(counted.basis.clone()),
            });
        }
    }

    fn run(&mut self) -> Decision {
        if let Some(claim) = self.status.claim.clone() {
            return self.resolve(&claim);
        }
        let begun = self.status.run > 0;
        if begun && self.status.revision.as_deref() != Some(&self.revision) {
            return self.supersede();
        }
        if !begun {
            self.begin();
        }
        match self.status.phase {
            Some(Phase::Failed) => return self.failed(),
            Some(Phase::Aborted) => return self.aborted(),
            _ => {}
        }
        if stage::reverted(&self.status) {
            return (Act::Wait, Situation::ready("Reverted", self.ready_message()));
        }
        let active = stage::active(&self.status.stages).map(|s| s.name.clone());
        let decision = match active {
            Some(name) => self.advance(&name),
            None => self.launch(),
        };
        self.show_phase();
        decision
    }

    fn begin(&mut self) {
        self.status.run += 1;
        self.status.revision = Some(self.revision.clone());
        self.status.phase = Some(Phase::Pending);
        self.status.stages.clear();
        self.status.step = None;
        self.status.firmware = None;
        self.status.gate = None;
        self.status.progress = None;
    }

    fn show_phase(&mut self) {
        if self.status.phase.is_some_and(Phase::has_ended) {
            return;
        }
        let reached = self.status.stages.last();
        self.status.step = reached.map(|s| s.name.clone());
        self.status.phase = Some(match reached {
            _ if self.suspended() => Phase::Paused,
            None => Phase::Pending,
            Some(s) if s.state == StageState::Pending && self.status.stages.len() == 1 => Phase::Pending,
            Some(s) => match s.kind {
                StageKind::Verify => Phase::Verifying,
                StageKind::Percent | StageKind::Devices => Phase::Gray,
                StageKind::Full => Phase::Full,
            },
        });
    }

    /// The account, or the decision to wait for it.
    fn account(&self) -> Result<&'a Account, Box<Decision>> {
        match &self.observed.account {
            Some(Ok(account)) => Ok(account),
            Some(Err(trouble)) => Err(Box::new(troubled(trouble))),
            None => Err(Box::new(wait("ReadingAccount", "the account is being read"))),
        }
    }

    /// The readings of a stage's jobs, if all are there.
    fn readings(&self, index: usize) -> Option<Vec<&'a JobReading>> {
        let jobs = &self.status.stages.get(index)?.jobs;
        jobs.iter().map(|j| self.observed.jobs.get(&JobId::new(j.id.clone()))).collect()
    }

    /// Waiting for a read: tells of the trouble that reading had, if any.
    fn unread(&self, reason: &'static str, because: String) -> Decision {
        match (&self.observed.account, &self.observed.trouble) {
            (Some(Err(trouble)), _) | (_, Some(trouble)) => troubled(trouble),
            _ => wait(reason, because),
        }
    }

    /// A waiting situation, overlaid by trouble in reading the cloud: old numbers must not look like new ones.
    fn doubt(&self, situation: Situation) -> Situation {
        match (&self.observed.account, &self.observed.trouble) {
            (Some(Err(trouble)), _) | (_, Some(trouble)) => troubled(trouble).1,
            _ => situation,
        }
    }

    fn edit(&mut self, index: usize, change: impl FnOnce(&mut StageStatus)) {
        if let Some(entry) = self.status.stages.get_mut(index) {
            change(entry);
        }
    }

    /// Moves a stage, if the table of transitions allows it.
    fn set(&mut self, index: usize, state: StageState) {
        self.edit(index, |s| {
            if stage::legal(s.state, state) {
                s.state = state;
            }
        });
    }

    fn end(
        &mut self,
        index: usize,
        state: StageState,
        reason: Option<&str>,
        message: Option<String>,
        at: Option<Timestamp>,
    ) {
        self.set(index, state);
        self.edit(index, |s| {
            s.reason = reason.map(str::to_owned);
            s.message = message.map(|m| super::story::bounded(&m, 512));
            s.ended_at = at.map(Time);
            s.refusal = None;
        });
    }

    fn fail(&mut self, index: usize, reason: &'static str, because: String, at: Timestamp) -> Decision {
        self.end(index, StageState::Failed, Some(reason), Some(because.clone()), Some(at));
        self.status.phase = Some(Phase::Failed);
        stall(reason, because)
    }

    /// The package as it is now; pinned on first sight.
    fn firmware(&mut self) -> Result<Firmware, Box<Decision>> {
        let spec = &self.rollout.spec;
        match &self.observed.firmware {
            Some(Ok(firmware)) => {
                let pinned = self.status.firmware.as_ref().is_none_or(|p| p.id == firmware.id.as_str());
                // A reading of what an older spec named is no reading.
                match firmware::choose(&spec.product_key, &spec.firmware, std::slice::from_ref(firmware)) {
                    Ok(chosen) if pinned => {
                        self.status.firmware = Some(firmware::pin(&chosen));
                        Ok(chosen)
                    }
                    _ => Err(Box::new(self.unread("ReadingFirmware", "the package is being read".to_owned()))),
                }
            }
            Some(Err(trouble)) => Err(Box::new(troubled(trouble))),
            None => Err(Box::new(self.unread("ReadingFirmware", "the package is being read".to_owned()))),
        }
    }
}

/// A stage turned out to have nothing to do.
struct Ended;

/// The sum of two ledgers, class by class.
pub(super) fn add(a: Ledger, b: &Ledger) -> Ledger {
    Ledger {
        at_target: a.at_target + b.at_target,
        in_progress: a.in_progress + b.in_progress,
        notified: a.notified + b.notified,
        silent: a.silent + b.silent,
        queued: a.queued + b.queued,
        failed: a.failed + b.failed,
        timed_out: a.timed_out + b.timed_out,
        conflict: a.conflict + b.conflict,
        cancelled: a.cancelled + b.cancelled,
    }
}

/// The run's gray jobs as the planner sees them. A retry exposes only devices that were never pushed to before: at most
/// as many as the first attempt left, and at most as many as it pushed to itself.
fn gray_jobs(stages: &[StageStatus]) -> Vec<GrayJob> {
    let mut all = Vec::new();
    for entry in stages.iter().filter(|s| matches!(s.kind, StageKind::Percent | StageKind::Devices)) {
        let first = entry.jobs.iter().map(|j| j.attempt).min();
        let jobs = entry.jobs.iter().filter_map(|job| {
            let counts = job.counts?;
            let gray = GrayJob {
                sent: job.sent_percent,
                total: job.total.unwrap_or_else(|| counts.exposed()),
                never_pushed: (counts.cancelled - job.cancelled_before).max(0) + counts.conflict,
                succeeded: counts.at_target,
                succeeded_before: job.succeeded_before,
            };
            Some((Some(job.attempt) == first, gray))
        });
        let (drawn, retried): (Vec<_>, Vec<_>) = jobs.partition(|(is_first, _)| *is_first);
        let left: i64 = drawn.iter().map(|(_, j)| j.never_pushed).sum();
        let pushed: i64 = retried.iter().map(|(_, j)| j.total - j.never_pushed).sum();
        all.extend(drawn.into_iter().map(|(_, j)| j));
        if !retried.is_empty() {
            let succeeded = retried.iter().map(|(_, j)| j.succeeded).sum();
            let total = pushed.min(left).max(0);
            all.push(GrayJob { sent: None, total, never_pushed: 0, succeeded, succeeded_before: 0 });
        }
    }
    all
}
