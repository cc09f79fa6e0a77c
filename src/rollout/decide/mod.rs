//! The only place where a decision is made.
//!
//! One decision is one [`Step`]: at most one effect, the status that goes with it, and why. What the effect then did is
//! folded into the status by `absorb`; the next decision starts from there.

mod adopting;
mod changed;
mod claimed;
mod leaving;
mod policy;
mod retrying;
mod running;
mod starting;
mod tagged;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::rollout::{DeletionPolicy, OnExternalChange};
use crate::api::status::{
    Claim, Duplicate, Effective, EffectiveStage, FirmwareRolloutStatus, JobStatus, JobView, LastCompleted, Ledger,
    Phase, Progress, RetryList, StageKind, StageState, StageStatus, StandingPolicy,
};
use crate::api::{
    ABORT, ADOPT, FINALIZER, FirmwareRollout, ORPHAN, Percent, RESUME, RETRY, Replay, Span, TAG_KEY, Time,
};
use crate::ota::Request;
use crate::ota::firmware::{Firmware, FirmwareStatus};
use crate::ota::id::JobId;

use super::command::{self, Command};
use super::course::{self, Course};
use super::edits::{self, Edit};
use super::external::{self, Change};
use super::gate::{self, GateInput, Verdict};
use super::observed::{Account, JobReading, Observed, RunLedger, Ticket, Trouble, spell, view};
use super::percent::{self, GrayJob, Plan};
use super::stage::{self, Stage, Target};
use super::story::{self, Situation, bounded, tell};
use super::{absorb, bounds, claim, effective, firmware, preflight, retry, revision};

/// Largest difference to the cloud's clock under which a claim may be made.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// After this by the cloud's clock no copy of a create is accepted any more: the timestamp window and a margin.
pub const EPOCH_EXPIRY: SignedDuration = SignedDuration::from_secs(16 * 60);

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
    /// Cancel a dynamic job: it gives no device a task any more. Its tasks stay.
    EndPolicy(JobId),
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
        draft.note_tagged();
        draft.deletion()
    } else if !has_finalizer(rollout) {
        (Act::AddFinalizer, Situation::waiting("Starting", "the rollout was accepted"))
    } else {
        match draft.broken() {
            Some(decision) => {
                draft.status = rollout.status.clone().unwrap_or_default();
                decision
            }
            None => {
                draft.note_tagged();
                let course = draft.course();
                draft.obey();
                // What a command ended is written down before it is left.
                if course == Course::Queued && draft.course() == Course::Superseded { left() } else { draft.run() }
            }
        }
    };
    // Whatever else it waits for.
    let act = match act {
        Act::Wait => draft.cancel_besides().unwrap_or(Act::Wait),
        act => act,
    };
    let because = bounded(&situation.because, story::LONGEST_MESSAGE);
    tell(&mut draft.status, &situation, rollout.metadata.generation, now);
    draft.tell_of_edits();
    draft.tell_of_shadow();
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

fn left() -> Decision {
    wait("Superseding", "the run has ended; the firmware that waited for it comes next")
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
    /// What the spec says.
    declared: Arc<[Stage]>,
    /// The plan in force: of a run that other firmware waits for, what it was started with.
    plan: Arc<[Stage]>,
    revision: String,
    status: FirmwareRolloutStatus,
    /// A person's word that an unanswered create made no job.
    absolved: bool,
}

impl<'a> Draft<'a> {
    fn new(rollout: &'a FirmwareRollout, observed: &'a Observed, now: Timestamp) -> Self {
        let status = rollout.status.clone().unwrap_or_default();
        let revision = revision::of_spec(&rollout.spec);
        let declared: Arc<[Stage]> = stage::plan(&rollout.spec).into();
        let plan = course::plan(&declared, course::of(&rollout.spec, &revision, &status), &status);
        let mut draft = Self { rollout, observed, now, declared, plan, revision, status, absolved: false };
        draft.status.observed_generation = rollout.metadata.generation;
        draft.show_effective();
        draft.show_readings();
        draft
    }

    fn generation(&self) -> i64 {
        self.rollout.metadata.generation.unwrap_or(0)
    }

    /// How the run stands to the spec by now.
    fn course(&self) -> Course {
        course::of(&self.rollout.spec, &self.revision, &self.status)
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
                Command::Resume => {
                    self.status.paused = false;
                    self.accept_as_asked();
                }
                Command::Pause => self.status.paused = true,
                Command::Abort if stage::reverted(&self.status) => {}
                // Kept for the run that begins: it is what a person wants stopped by now.
                Command::Abort if self.course() == Course::Superseded => continue,
                Command::Abort => {
                    if self.status.run == 0 {
                        self.begin();
                    }
                    command::abort(&mut self.status);
                }
                // Kept until it can be said what became of the create.
                Command::Retry if unresolved.as_ref().is_some_and(|claim| !self.is_over(claim)) => continue,
                Command::Retry if unresolved.is_some() => self.absolved = true,
                Command::Retry if self.retry_as_asked() => {}
                // What is being left is not taken up again.
                Command::Retry if self.course() == Course::Superseded => {}
                Command::Retry if self.status.phase.is_some_and(Phase::is_given_up) => command::renew(&mut self.status),
                Command::Retry => {
                    self.let_be();
                    self.status.stages.iter_mut().for_each(|s| s.refusal = None);
                }
                Command::Adopt => match self.adopt_by_word(&value) {
                    Some(obeyed) => self.status.adopt_refused = obeyed.err().map(|why| bounded(&why, 512)),
                    None => continue,
                },
            }
            self.status.handled.insert(command.name().to_owned(), value);
        }
    }

    /// Settings as they apply now. Those of a run that other firmware replaces, or waits for, stay as they were.
    fn show_effective(&mut self) {
        let old = self.status.effective.take();
        let list_lag = match &self.observed.account {
            Some(Ok(account)) => Span::from_duration(account.list_lag),
            _ => old.as_ref().map_or(Span::from_duration(effective::LIST_LAG), |e| e.list_lag.clone()),
        };
        self.status.effective = Some(match (self.course(), old) {
            (Course::Queued | Course::Superseded, Some(old)) => Effective { list_lag, ..old },
            (_, old) => {
                let old = old.map(|e| e.stages).unwrap_or_default();
                let source_versions = self.rollout.spec.source_versions.clone().unwrap_or_default();
                let stages = edits::settings(&self.declared, &old, &self.status.stages);
                Effective { list_lag, source_versions, stages }
            }
        });
    }

    /// The settings in force of a stage.
    fn settings(&self, name: &str) -> Option<&EffectiveStage> {
        self.status.effective.iter().flat_map(|e| &e.stages).find(|s| s.name == name)
    }

    /// How what the spec says of a stage differs from what is in force.
    fn edits(&self, name: &str) -> Vec<Edit> {
        edits::of(self.declared.iter().find(|s| s.name == name), self.settings(name))
    }

    /// Such differences as fields of the spec, for a sentence.
    fn fields(&self, name: &str, edits: &[Edit]) -> String {
        let declared = self.declared.iter().find(|s| s.name == name);
        edits.iter().map(|edit| edits::field(name, declared, *edit)).collect::<Vec<_>>().join(", ")
    }

    /// What of the spec does not apply to the run, beside where the rollout stands.
    fn tell_of_edits(&mut self) {
        let generation = self.rollout.metadata.generation;
        let course = self.course();
        let queued = (course == Course::Queued).then(|| {
            let version = self.status.firmware.as_ref().map_or("the firmware under way", |f| f.version.as_str());
            format!("the new firmware waits until the run of {version} has ended; supersede: Replace starts it now")
        });
        story::remark(&mut self.status, story::QUEUED, "NewFirmwareWaits", queued, generation, self.now);
        let ignored = if course == Course::Own { edits::ignored(&self.declared, &self.status) } else { Vec::new() };
        let ignored = (!ignored.is_empty()).then(|| {
            format!("what has started stays as it was started; not applied: spec.{}", ignored.join(", spec."))
        });
        story::remark(&mut self.status, story::EDITS_IGNORED, "StageStarted", ignored, generation, self.now);
    }

    /// Takes the readings over into the status.
    fn show_readings(&mut self) {
        let shown = bounds::shown(&self.status.stages);
        for entry in &mut self.status.stages {
            for job in &mut entry.jobs {
                let (full, present) = (shown.contains(&job.id), job.attempt == entry.attempt);
                let kept =
                    |view: &JobView| if full { Some(view.clone()) } else { present.then(|| bounds::brief(view)) };
                job.view = job.view.as_ref().and_then(kept);
                let Some(reading) = self.observed.jobs.get(&JobId::new(job.id.clone())) else { continue };
                if let Some(read) = &reading.job {
                    job.view = kept(&view(read));
                    // Of a job that came without our claim only the cloud knows it.
                    let drawn = || read.gray_percent.as_deref().and_then(|p| Percent::parse(p).ok());
                    job.sent_percent = job.sent_percent.or_else(drawn);
                }
                job.gone = reading.job.is_none();
                if job.gone {
                    job.counts = Some(external::closed(job.counts.unwrap_or(reading.counts)));
                    job.moving = 0;
                } else {
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
        let full = self.status.stages.iter().any(|s| s.kind.is_full() && !s.jobs.is_empty());
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
        if self.rollout.status.as_ref().is_some_and(|s| s.claim.is_some()) {
            // The next claim takes another write than the one that ends this.
            return wait("JobStarted", "the job of an unanswered create was adopted");
        }
        let course = self.course();
        if course == Course::Superseded {
            return self.supersede();
        }
        if self.status.run == 0 {
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
        if course == Course::Queued && self.course() == Course::Superseded {
            // Its end is not what the spec declares.
            return left();
        }
        decision
    }

    fn begin(&mut self) {
        self.keep_policy();
        // Devices that are under way go on in them, and the new run may have the same package.
        let live = self.status.stages.iter().flat_map(|s| &s.jobs).filter(|job| !stage::is_over(job));
        let earlier: Vec<String> = live.map(|j| j.id.clone()).collect();
        self.beside(earlier);
        self.status.adopt_refused = None;
        self.status.run += 1;
        self.status.revision = Some(self.revision.clone());
        self.status.phase = Some(Phase::Pending);
        self.status.stages.clear();
        self.status.step = None;
        self.status.firmware = None;
        self.status.gate = None;
        self.status.progress = None;
        self.status.effective = None;
        self.plan = self.declared.clone();
        self.show_effective();
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
                StageKind::Percent | StageKind::Devices | StageKind::Group => Phase::Gray,
                StageKind::Full | StageKind::Dynamic => Phase::Full,
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
            s.message = message.map(|m| bounded(&m, 512));
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
                let named = course::firmware(spec, self.course(), &self.status);
                let pinned = self.status.firmware.as_ref().is_none_or(|p| p.id == firmware.id.as_str());
                // A reading of what an older spec named is no reading.
                match firmware::choose(&spec.product_key, &named, std::slice::from_ref(firmware)) {
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
pub fn add(a: Ledger, b: &Ledger) -> Ledger {
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
    for entry in stages.iter().filter(|s| s.kind.is_gray()) {
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
