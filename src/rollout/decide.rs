//! The only place where a decision is made.
//!
//! One decision is one [`Step`]: at most one effect, the status that goes with it, and why. What the effect then did is
//! folded into the status by `absorb`; the next decision starts from there.

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{
    Claim, Effective, FirmwareRolloutStatus, LastCompleted, Ledger, Phase, Progress, StageKind, StageState, StageStatus,
};
use crate::api::{FINALIZER, FirmwareRollout, ORPHAN, Percent, Span, Time};
use crate::ota::Request;
use crate::ota::firmware::{Firmware, FirmwareStatus};
use crate::ota::id::JobId;

use super::gate::{self, GateInput, Verdict};
use super::observed::{Account, JobReading, Observed, Ticket, Trouble, spell, view};
use super::percent::{self, GrayJob, Plan};
use super::stage::{self, Stage};
use super::story::{Situation, tell};
use super::{absorb, claim, effective, firmware, revision};

/// Largest difference to the cloud's clock under which a claim may be made.
pub const MAX_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// After this by the cloud's clock no copy of a create is accepted any more: the timestamp window and a margin.
pub const EPOCH_EXPIRY: SignedDuration = SignedDuration::from_secs(16 * 60);
/// A cancel that shows no effect after this long is sent again.
const CANCEL_AGAIN: SignedDuration = SignedDuration::from_secs(3);
/// Empty full listings that a look-up takes before it counts as empty.
pub const EMPTY_LISTINGS: u32 = 2;

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
        draft.run()
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
        self.rollout.spec.suspend == Some(true)
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
                // Counts that do not add up would show a state that never was.
                if reading.consistent && reading.job.is_some() {
                    job.counts = Some(reading.counts);
                    if reading.settled {
                        job.total = Some(reading.counts.exposed());
                    }
                }
            }
        }
        let gray = gray_jobs(&self.status.stages);
        let declared = self.status.stages.iter().filter_map(|s| s.percent).max();
        let full = self.status.stages.iter().any(|s| s.kind == StageKind::Full && !s.jobs.is_empty());
        let progress = |ledger: Ledger, as_of: Option<Timestamp>| Progress {
            ledger,
            exposed: ledger.exposed(),
            failed_total: ledger.failed + ledger.timed_out,
            eligible_at_least: percent::eligible_at_least(&gray),
            overshoot: declared.filter(|_| !full).and_then(|share| percent::overshoot(share, &gray)),
            as_of: as_of.map(Time),
        };
        if let Some(counted) = &self.observed.ledger {
            self.status.progress = Some(progress(counted.ledger, Some(counted.as_of)));
        }
    }

    // ---- a live rollout -------------------------------------------------------------------------------------------

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
        if self.status.phase == Some(Phase::Failed) {
            return self.failed();
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
        if matches!(self.status.phase, Some(Phase::Failed | Phase::Completed)) {
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
    fn account(&self) -> Result<&'a Account, Decision> {
        match &self.observed.account {
            Some(Ok(account)) => Ok(account),
            Some(Err(trouble)) => Err(troubled(trouble)),
            None => Err(wait("ReadingAccount", "the account is being read")),
        }
    }

    /// A claim that was written and whose job is not recorded.
    fn resolve(&mut self, claim: &Claim) -> Decision {
        match self.observed.ticket {
            Ticket::Fresh => match self.executable(claim) {
                Ok(request) => (
                    Act::Create(Box::new(request)),
                    Situation::waiting("Creating", format!("creating the job of stage {}", claim.stage)),
                ),
                Err(because) => self.withdraw(because),
            },
            Ticket::Expired => self.withdraw("the claim was not used in time"),
            Ticket::None => self.look_up(claim),
        }
    }

    /// The request of a claim that this process wrote, if it still means what the spec says.
    fn executable(&self, claim: &Claim) -> Result<Request, &'static str> {
        if self.rollout.metadata.deletion_timestamp.is_some() {
            return Err("the rollout is being deleted");
        }
        if self.suspended() {
            return Err("the rollout was suspended");
        }
        if self.status.revision.as_deref() != Some(&self.revision) {
            return Err("the firmware changed");
        }
        let same = self.account().is_ok_and(|a| {
            (&a.endpoint, &a.instance_id, &a.access_key)
                == (&claim.call.endpoint, &claim.call.instance_id, &claim.call.access_key)
        });
        if !same {
            return Err("the account changed");
        }
        let devices =
            self.plan.iter().find(|s| s.name == claim.stage).map(|s| s.devices.as_slice()).unwrap_or_default();
        claim::request(claim, devices).ok_or("the step's devices changed")
    }

    fn withdraw(&mut self, because: &'static str) -> Decision {
        absorb::withdraw(&mut self.status);
        (Act::Withdraw, Situation::waiting("ClaimWithdrawn", format!("{because}; nothing was sent")))
    }

    fn look_up(&mut self, claim: &Claim) -> Decision {
        if let Some(found) = self.observed.lookup.found.first() {
            absorb::record(&mut self.status, &found.id, found.utc_create, None);
            return wait("JobStarted", format!("the job of stage {} was found by its tag", claim.stage));
        }
        if let Err(decision) = self.account() {
            return decision;
        }
        if self
            .account()
            .is_ok_and(|a| (&a.endpoint, &a.instance_id) != (&claim.call.endpoint, &claim.call.instance_id))
        {
            return stall(
                "AccountChanged",
                format!(
                    "a create of stage {} was sent to {}: point the account back there",
                    claim.stage, claim.call.endpoint
                ),
            );
        }
        if self.observed.lookup.empty < EMPTY_LISTINGS {
            let because =
                format!("whether the create of stage {} took effect is not known; looking for its tag", claim.stage);
            let doubt = self.observed.trouble.as_ref().map(|t| format!("{because} ({})", t.message));
            return wait("OutcomeUnknown", doubt.unwrap_or(because));
        }
        stall(
            "Ambiguous",
            format!(
                "the create of stage {} got no answer and no job with tag {}={} is listed; nothing more is created until \
                 it shows up: look in the cloud's console, then delete and re-create this rollout if there is none",
                claim.stage,
                crate::api::TAG_KEY,
                claim.token
            ),
        )
    }

    /// Another firmware than the run's: its pending tasks are cancelled, then the new run begins.
    fn supersede(&mut self) -> Decision {
        match self.drain(None, Pending::All) {
            Drain::Wait => {
                wait("Superseding", "the firmware changed: the pending tasks of the old run are being cancelled")
            }
            Drain::Cancel(id) => (
                Act::Cancel(id, Pending::All),
                Situation::waiting(
                    "Superseding",
                    "the firmware changed: the pending tasks of the old run are being cancelled",
                ),
            ),
            Drain::Done => {
                let back = self.status.last_completed.clone().filter(|last| last.revision == self.revision);
                let updated = self.status.progress.map_or(0, |p| p.ledger.at_target);
                self.begin();
                let Some(last) = back else {
                    let decision = self.launch();
                    self.show_phase();
                    return decision;
                };
                self.status.phase = Some(Phase::Completed);
                self.status.firmware = Some(last.firmware);
                (
                    Act::Wait,
                    Situation::ready(
                        "Reverted",
                        format!(
                            "back to the completed firmware; {updated} devices stay on the version that was stopped"
                        ),
                    ),
                )
            }
        }
    }

    fn failed(&mut self) -> Decision {
        let failed = self.status.stages.iter().find(|s| s.state == StageState::Failed);
        let reason = if failed.is_some_and(|s| s.kind == StageKind::Verify) { "VerifyFailed" } else { "GateFailed" };
        let message = failed.and_then(|s| s.message.clone()).unwrap_or_else(|| "a gate failed".to_owned());
        let situation = Situation::stalled(reason, message);
        match self.drain(None, Pending::All) {
            Drain::Cancel(id) => (Act::Cancel(id, Pending::All), situation),
            Drain::Wait | Drain::Done => (Act::Wait, situation),
        }
    }

    /// Whether the jobs of one stage (or of all) have tasks left to cancel.
    fn drain(&self, only: Option<&str>, pending: Pending) -> Drain {
        let mut drain = Drain::Done;
        for entry in self.status.stages.iter().filter(|s| only.is_none_or(|name| s.name == name)) {
            for job in &entry.jobs {
                let id = JobId::new(job.id.clone());
                let Some(reading) = self.observed.jobs.get(&id) else {
                    // What is not pending any more never becomes so again by itself.
                    if job.total.is_none() || job.counts.is_none_or(|c| pending.count(&c) > 0) {
                        drain = Drain::Wait;
                    }
                    continue;
                };
                if reading.job.is_none() {
                    continue;
                }
                let left = pending.count(&reading.counts);
                // Tasks may appear after their job: nothing is gone for good before the total stands still.
                if left == 0 && reading.consistent && reading.settled && reading.is_after_cancel() {
                    continue;
                }
                let sent_lately = reading
                    .cancel_sent
                    .is_some_and(|at| !reading.is_after_cancel() || self.now.duration_since(at) < CANCEL_AGAIN);
                if left > 0 && !sent_lately {
                    return Drain::Cancel(id);
                }
                drain = Drain::Wait;
            }
        }
        drain
    }

    // ---- the stage that runs --------------------------------------------------------------------------------------

    fn advance(&mut self, name: &str) -> Decision {
        let Some(index) = self.status.stages.iter().position(|s| s.name == name) else { return self.launch() };
        let kind = self.status.stages.get(index).map(|s| s.kind);
        if kind == Some(StageKind::Verify) {
            return self.advance_verify(index);
        }
        let readings: Vec<&JobReading> = match self.readings(index) {
            Some(readings) => readings,
            None => return self.unread("Counting", format!("the job of stage {name} is being read")),
        };
        if readings.iter().any(|r| r.is_gone()) {
            return stall(
                "ExternalChange",
                format!(
                    "the job of stage {name} was cancelled or removed outside of this rollout; nothing more is started"
                ),
            );
        }
        let Some(mut settings) = self.status.effective.iter().flat_map(|e| &e.stages).find(|s| s.name == name).cloned()
        else {
            return stall("InvalidSpec", format!("stage {name} has no settings"));
        };
        // The rate that the job really has, also when an edit changed the declared one since.
        if let Some(rate) = readings.iter().filter_map(|r| r.job.as_ref()?.maximum_per_minute).min() {
            settings.maximum_per_minute = i32::try_from(rate).unwrap_or(i32::MAX).max(1);
        }
        let Some(now) = readings.iter().map(|r| r.now).min() else {
            return self.unread("Counting", format!("the job of stage {name} is being read"));
        };
        let soaking_since = self.status.stages.get(index).and_then(|s| s.soaking_since).map(|t| t.0);
        let input = GateInput {
            settings: &settings,
            counts: readings.iter().fold(Ledger::default(), |sum, r| add(sum, &r.counts)),
            settled: readings.iter().all(|r| r.consistent && r.settled),
            began: readings.iter().filter_map(|r| r.began()).min(),
            soaking_since,
            now,
        };
        let judgement = gate::judge(&input);
        if input.settled {
            self.status.gate = Some(gate::status(&input, &judgement));
        }
        match judgement.sample {
            Verdict::Fail { because } => self.fail(index, "GateFailed", because, now),
            Verdict::Stuck { because } => stall("GateUnreachable", because),
            Verdict::Hold { until, reason, because } => {
                // Counts that are in motion say nothing against a soak that has begun.
                if input.settled {
                    self.set(index, StageState::Running);
                    self.edit(index, |s| s.soaking_since = None);
                }
                let earliest = [until, self.earliest_end(&input)].into_iter().flatten().max();
                let situation = Situation::waiting(reason, format!("stage {name} waits for {because}"));
                (Act::Wait, self.doubt(situation).until(earliest).missing(judgement.missing))
            }
            Verdict::Pass => self.soak(index, &input, judgement.soak, judgement.missing),
        }
    }

    fn soak(&mut self, index: usize, input: &GateInput, soak: Verdict, missing: Vec<String>) -> Decision {
        let name = input.settings.name.clone();
        let last = self.is_last(&name);
        let nothing_left = last || Pending::Leftovers.count(&input.counts) == 0;
        if input.soaking_since.is_none() && !(soak == Verdict::Pass && nothing_left) {
            self.set(index, StageState::Soaking);
            let now = Time(input.now);
            self.edit(index, |s| {
                s.soaking_since = Some(now);
                for job in &mut s.jobs {
                    job.cancelled_before = job.counts.map_or(0, |c| c.cancelled);
                }
            });
            let until =
                SignedDuration::try_from(input.settings.soak.length()).ok().and_then(|d| input.now.checked_add(d).ok());
            let because = format!("stage {name} waits for everything to have held for soak {}", input.settings.soak);
            let situation = Situation::waiting("Soaking", because);
            return (Act::Wait, self.doubt(situation).until(until).missing(missing));
        }
        if let Verdict::Hold { until, reason, because } = soak {
            let situation = Situation::waiting(reason, format!("stage {name} waits for {because}"));
            return (Act::Wait, self.doubt(situation).until(until).missing(missing));
        }
        if self.suspended() && !last {
            return wait("Suspended", format!("spec.suspend is set: stage {name} is done and nothing is promoted"));
        }
        if !last {
            let because = format!("stage {name} is done; its tasks that were never pushed are being cancelled");
            match self.drain(Some(&name), Pending::Leftovers) {
                Drain::Done => {}
                Drain::Wait => return wait("Draining", because),
                Drain::Cancel(id) => {
                    return (Act::Cancel(id, Pending::Leftovers), Situation::waiting("Draining", because));
                }
            }
        }
        self.end(index, StageState::Passed, None, None, Some(input.now));
        self.launch()
    }

    fn advance_verify(&mut self, index: usize) -> Decision {
        let devices = "the test devices are taking the package; every one of them must succeed";
        let clock = self.readings(index).and_then(|r| r.iter().map(|r| r.now).min());
        match self.firmware() {
            Err(decision) => decision,
            Ok(firmware) => match firmware.status {
                FirmwareStatus::Verified => {
                    self.end(index, StageState::Passed, None, None, clock);
                    self.launch()
                }
                FirmwareStatus::VerifyFailed => {
                    let because = "not every test device took the package; the cloud calls its verification failed";
                    self.fail(index, "VerifyFailed", because.to_owned(), clock.unwrap_or(self.now))
                }
                _ => (Act::Wait, self.doubt(Situation::waiting("Verifying", devices))),
            },
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

    /// When the gate may pass at the earliest, if nothing but time were missing.
    fn earliest_end(&self, input: &GateInput) -> Option<Timestamp> {
        let mature = SignedDuration::try_from(input.settings.mature_after.length()).ok()?;
        input.began?.checked_add(mature).ok().filter(|at| *at > input.now)
    }

    fn is_last(&self, name: &str) -> bool {
        self.plan.iter().position(|s| s.name == name).is_none_or(|at| at + 1 == self.plan.len())
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

    // ---- the stage to start ---------------------------------------------------------------------------------------

    /// The package as it is now; pinned on first sight.
    fn firmware(&mut self) -> Result<Firmware, Decision> {
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
                    _ => Err(self.unread("ReadingFirmware", "the package is being read".to_owned())),
                }
            }
            Some(Err(trouble)) => Err(troubled(trouble)),
            None => Err(self.unread("ReadingFirmware", "the package is being read".to_owned())),
        }
    }

    /// Starts the next stage, passing over those that have nothing to do.
    fn launch(&mut self) -> Decision {
        if stage::reverted(&self.status) {
            return self.complete();
        }
        // Bounded by the plan's length: each turn ends a stage or returns.
        for _ in 0..=self.plan.len() {
            let Some(next) = stage::next(&self.plan, &self.status.stages).cloned() else { return self.complete() };
            if self.status.phase == Some(Phase::Completed) {
                // A step was added to a run that had completed: it goes on.
                self.status.phase = Some(Phase::Pending);
            }
            let index = self.reach(&next);
            match self.start(&next, index) {
                Ok(decision) => return decision,
                Err(Ended) => {}
            }
        }
        stall("InvalidSpec", "the rollout's stages could not be ordered")
    }

    /// The entry of a stage that was reached.
    fn reach(&mut self, next: &Stage) -> usize {
        if let Some(index) = self.status.stages.iter().position(|s| s.name == next.name) {
            return index;
        }
        self.status.stages.push(StageStatus {
            name: next.name.clone(),
            kind: next.kind,
            state: StageState::Pending,
            reason: None,
            message: None,
            attempt: 1,
            epoch: 0,
            percent: next.percent,
            soaking_since: None,
            ended_at: None,
            refusal: None,
            jobs: Vec::new(),
        });
        self.status.stages.len() - 1
    }

    fn start(&mut self, next: &Stage, index: usize) -> Result<Decision, Ended> {
        let name = &next.name;
        // Until it is claimed, a stage is what the spec says now.
        self.edit(index, |s| (s.kind, s.percent) = (next.kind, next.percent));
        if self.suspended() {
            return Ok(wait("Suspended", format!("spec.suspend is set: stage {name} is not started")));
        }
        if let Some(rival) = &self.observed.rival {
            let because = format!("rollout {rival} runs jobs on the same product; it goes first");
            return Ok(wait("WaitingForRollout", because));
        }
        let account = match self.account() {
            Ok(account) => account.clone(),
            Err(decision) => return Ok(decision),
        };
        let firmware = match self.firmware() {
            Ok(firmware) => firmware,
            Err(decision) => return Ok(decision),
        };
        if let Some(decision) = self.verification(next, index, &firmware)? {
            return Ok(decision);
        }
        let percent = self.share(next, index)?;
        if let Some(refusal) = self.status.stages.get(index).and_then(|s| s.refusal.clone())
            && refusal.generation == self.generation()
            && refusal.retry_at.is_none_or(|at| self.now < at.0)
        {
            return Ok((Act::Wait, absorb::refused(name, &refusal)));
        }
        match self.observed.skew {
            None => return Ok(wait("ReadingFirmware", "the cloud's clock is not known yet")),
            Some(skew) if skew.abs() > MAX_SKEW => {
                let because = format!(
                    "this machine's clock and the cloud's are {} apart: correct this machine's",
                    spell(skew.unsigned_abs())
                );
                return Ok(stall("ClockSkew", because));
            }
            Some(_) => {}
        }
        Ok(self.claim(next, index, &firmware, &account, percent))
    }

    /// What the package's verification means for a stage: nothing, a decision, or the stage's end.
    fn verification(&mut self, next: &Stage, index: usize, firmware: &Firmware) -> Result<Option<Decision>, Ended> {
        let verify = next.kind == StageKind::Verify;
        let planned = self.plan.iter().any(|s| s.kind == StageKind::Verify);
        let failed = "the package's verification failed earlier: make a new package";
        match firmware.status {
            FirmwareStatus::Verified if verify => {
                let because = "the package is verified already".to_owned();
                self.end(index, StageState::Skipped, Some("AlreadyVerified"), Some(because), None);
                Err(Ended)
            }
            FirmwareStatus::Exempt if verify => {
                let because = "the package needs no verification".to_owned();
                self.end(index, StageState::Skipped, Some("NotRequired"), Some(because), None);
                Err(Ended)
            }
            FirmwareStatus::Verified | FirmwareStatus::Exempt => Ok(None),
            FirmwareStatus::Verifying => Ok(Some(wait("VerifyingElsewhere", "somebody else is verifying the package"))),
            FirmwareStatus::VerifyFailed if verify => {
                Ok(Some(self.fail(index, "VerifyFailed", failed.to_owned(), self.now)))
            }
            FirmwareStatus::VerifyFailed => Ok(Some(stall("VerifyFailed", failed))),
            _ if verify => Ok(None),
            _ if planned => Ok(Some(wait("ReadingFirmware", "the cloud does not show the package as verified yet"))),
            _ => Ok(Some(stall(
                "VerifyRequired",
                "the package is not verified: add spec.verify with up to 10 test devices",
            ))),
        }
    }

    /// The GrayPercent of a percent step.
    fn share(&mut self, next: &Stage, index: usize) -> Result<Option<Percent>, Ended> {
        let Some(share) = next.percent else { return Ok(None) };
        let before = self.status.stages.iter().take(index).filter_map(|s| s.percent).max();
        match percent::plan(share, before, &gray_jobs(&self.status.stages)) {
            Plan::Job(percent) => Ok(Some(percent)),
            Plan::NothingToAdd => {
                let because = format!("{share} % of the fleet has the firmware already");
                self.end(index, StageState::Passed, Some("NothingToAdd"), Some(because), None);
                Err(Ended)
            }
        }
    }

    fn claim(
        &mut self,
        next: &Stage,
        index: usize,
        firmware: &Firmware,
        account: &Account,
        percent: Option<Percent>,
    ) -> Decision {
        let (attempt, epoch) = self.status.stages.get(index).map_or((1, 1), |s| (s.attempt, s.epoch + 1));
        let uid = self.rollout.metadata.uid.clone().unwrap_or_default();
        let part = claim::Part { uid: &uid, run: self.status.run, stage: &next.name, attempt, part: 1 };
        let token = claim::token(&part);
        let spec = &self.rollout.spec;
        self.status.claim = Some(Claim {
            run: self.status.run,
            stage: next.name.clone(),
            attempt,
            part: part.part,
            epoch,
            at: claim::at(self.now),
            call: claim::call(spec, next, firmware.id.as_str(), account, &token, percent),
            token,
            succeeded_before: percent::succeeded(&gray_jobs(&self.status.stages)),
        });
        self.set(index, StageState::Claimed);
        self.edit(index, |s| {
            s.epoch = epoch;
            s.refusal = None;
        });
        (Act::Claim, Situation::waiting("Creating", format!("creating the job of stage {}", next.name)))
    }

    fn complete(&mut self) -> Decision {
        if self.status.phase != Some(Phase::Completed) {
            self.status.phase = Some(Phase::Completed);
            self.status.step = self.status.stages.last().map(|s| s.name.clone());
            let at = self.status.stages.iter().filter_map(|s| s.ended_at).next_back();
            let firmware = self.status.firmware.clone();
            if let Some(firmware) = firmware {
                let run = self.status.run;
                self.status.last_completed = Some(LastCompleted { revision: self.revision.clone(), run, firmware, at });
            }
        }
        if stage::reverted(&self.status) {
            return (Act::Wait, Situation::ready("Reverted", self.ready_message()));
        }
        (Act::Wait, Situation::ready("Completed", "every stage passed"))
    }

    /// A completed run without stages was reverted to; its message stays as it was told then.
    fn ready_message(&self) -> String {
        crate::api::condition::find(&self.status.conditions, "Ready").map(|c| c.message.clone()).unwrap_or_default()
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    fn deletion(&mut self) -> Decision {
        if !has_finalizer(self.rollout) {
            return wait("Deleting", "released");
        }
        let orphan = self.rollout.metadata.annotations.iter().flatten().any(|(key, _)| key == ORPHAN);
        let jobs = self.status.stages.iter().any(|s| !s.jobs.is_empty());
        if orphan || (self.status.claim.is_none() && !jobs) {
            return (Act::Release, Situation::waiting("Deleting", "nothing is left to cancel"));
        }
        if let Some(claim) = self.status.claim.clone() {
            if self.observed.ticket != Ticket::None {
                return self.withdraw("the rollout is being deleted");
            }
            let expired = self.now.duration_since(claim.at.0) > EPOCH_EXPIRY;
            if self.observed.lookup.found.is_empty() && self.observed.lookup.empty >= EMPTY_LISTINGS && expired {
                absorb::withdraw(&mut self.status);
                return wait("Deleting", "a create that got no answer had no effect");
            }
            let (act, told) = self.look_up(&claim);
            if told.reason == "Ambiguous" {
                let until = claim.at.0.checked_add(EPOCH_EXPIRY).ok();
                let because = "a create got no answer; waiting until no copy of it can arrive any more";
                return (act, Situation::waiting("Deleting", because).until(until));
            }
            return (act, told);
        }
        match self.drain(None, Pending::All) {
            Drain::Done => (Act::Release, Situation::waiting("Deleting", "every pending task is cancelled")),
            Drain::Cancel(id) => {
                (Act::Cancel(id, Pending::All), Situation::waiting("Deleting", "pending tasks are being cancelled"))
            }
            Drain::Wait => self.unread("Deleting", "pending tasks are being cancelled".to_owned()),
        }
    }
}

/// A stage turned out to have nothing to do.
struct Ended;

fn add(a: Ledger, b: &Ledger) -> Ledger {
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

/// The run's gray jobs as the planner sees them.
fn gray_jobs(stages: &[StageStatus]) -> Vec<GrayJob> {
    stages
        .iter()
        .filter(|s| matches!(s.kind, StageKind::Percent | StageKind::Devices))
        .flat_map(|s| &s.jobs)
        .filter_map(|job| {
            let counts = job.counts?;
            Some(GrayJob {
                sent: job.sent_percent,
                total: job.total.unwrap_or_else(|| counts.exposed()),
                never_pushed: (counts.cancelled - job.cancelled_before).max(0) + counts.conflict,
                succeeded: counts.at_target,
                succeeded_before: job.succeeded_before,
            })
        })
        .collect()
}
