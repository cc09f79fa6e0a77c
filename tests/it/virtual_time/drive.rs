//! Drives a rollout as the controller does: passes until there is nothing to do, a poll, and time goes by.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use fota::api::condition;
use fota::api::status::{FirmwareRolloutStatus, Phase};
use fota::controller::memory::Memory;
use fota::controller::pass::{After, pass};
use fota::controller::poll::{Polls, poll};
use fota::controller::world::{Key, World};
use fota::rollout::observed::NameList;
use fota::rollout::{course, decide, names, wanted};
use futures::FutureExt as _;
use jiff::SignedDuration;

use super::audit;
use super::world::{Setting, State, Virtual};

/// Time between two writes of progress alone.
const PROGRESS: Duration = Duration::from_secs(30);
/// More passes than this without a rest are a livelock.
const PASSES: usize = 40;

/// Everything in the virtual world is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("something waited")
}

pub struct Run {
    pub world: Virtual,
    memory: Memory,
    polls: Polls,
    pub interval: SignedDuration,
    story: Vec<String>,
}

impl Run {
    pub fn new(setting: Setting) -> Self {
        let interval = SignedDuration::from_secs(5);
        Self {
            world: Virtual::new(setting),
            memory: Memory::default(),
            polls: Polls::default(),
            interval,
            story: vec![],
        }
    }

    /// The process dies, and another one starts.
    pub fn restart(&mut self) {
        (self.memory, self.polls) = (Memory::default(), Polls::default());
        let mut state = self.world.lock();
        state.die_after = None;
        state.sync();
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.world.lock()
    }

    pub fn status(&self) -> FirmwareRolloutStatus {
        self.state().status()
    }

    fn key(&self) -> Key {
        Key { namespace: "heating".to_owned(), name: "thermostat".to_owned() }
    }

    /// One pass. False: it rests.
    pub fn pass(&mut self) -> bool {
        self.note_decision();
        now(pass(&self.world, &self.memory, &self.key(), PROGRESS)) == After::Again
    }

    fn note_decision(&mut self) {
        let Some(rollout) = self.world.rollout(&self.key()) else { return };
        let mut observed = self.memory.observed(&rollout, self.world.monotonic());
        observed.account = Some(self.state().account.clone());
        observed.rival = self.state().rival.clone();
        if let Some(from) = names::wanted(&rollout) {
            observed.list = Some(NameList { from: from.clone(), names: self.state().names.clone() });
        }
        let wall = self.world.wall();
        let step = decide(&rollout, &observed, wall);
        let act: String = format!("{:?}", step.act).chars().take(60).collect();
        let line = format!("{act}: {}", step.because);
        if self.story.last().is_none_or(|last| !last.ends_with(&line)) {
            self.story.push(format!("{wall:.1} {line}"));
        }
    }

    /// Passes until there is nothing more to do.
    pub fn passes(&mut self) {
        for _ in 0..PASSES {
            if !self.pass() || self.state().dead() {
                return;
            }
        }
        self.fail("passes find no rest");
    }

    /// One poll, if anything is to be read.
    pub fn poll(&mut self) {
        let Some(rollout) = self.world.rollout(&self.key()) else { return };
        let wanted = wanted::wanted(&rollout, self.memory.ticket(&rollout, self.world.monotonic()));
        let wanted = self.memory.sooner(&rollout, wanted);
        let Ok(account) = self.state().account.clone() else { return };
        if wanted.is_empty() {
            return;
        }
        let status = rollout.status.clone().unwrap_or_default();
        let revision = course::revision(&rollout.spec, &status);
        let clock = || self.world.moment();
        let findings = now(poll(&self.world, &account, &wanted, &revision, &mut self.polls, clock));
        findings.remember(&self.memory, &rollout);
        self.check_totals();
    }

    /// No reading shows more devices than the job has, however its tasks moved while they were counted.
    fn check_totals(&self) {
        let Some(rollout) = self.world.rollout(&self.key()) else { return };
        let observed = self.memory.observed(&rollout, self.world.monotonic());
        for job in self.state().cloud.jobs() {
            let Some(reading) = observed.jobs.get(&job.text("JobId").into()) else { continue };
            assert!(reading.counts.exposed() <= job.total() as i64, "{reading:?} of {}", job.total());
        }
    }

    pub fn advance(&mut self) {
        let interval = self.interval;
        self.state().advance(interval);
    }

    /// What the controller does between two polls.
    pub fn turn(&mut self) {
        self.state().sync();
        self.poll();
        self.passes();
        self.advance();
    }

    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// Turns until something holds.
    pub fn until(&mut self, what: &str, most: usize, mut holds: impl FnMut(&State) -> bool) {
        for _ in 0..most {
            if holds(&self.state()) {
                return;
            }
            self.turn();
        }
        self.fail(&format!("after {most} turns: not {what}"));
    }

    /// Turns until the run has ended, one way or the other.
    pub fn until_end(&mut self) {
        self.until("ended", 600, |state| {
            let status = state.status();
            matches!(status.phase, Some(Phase::Completed | Phase::Failed | Phase::Aborted))
                || stalled(&status).is_some()
        });
    }

    /// The process dies between the next claim's write and its create, and another one takes over.
    pub fn die_after_claim(&mut self) {
        self.state().after_claim = Some(|state: &mut State| state.die_after = Some(state.outside));
        self.until("dead", 10, State::dead);
        self.restart();
    }

    pub fn until_stage(&mut self, run: i64, name: &str) {
        self.until(&format!("in stage {name} of run {run} with a job"), 600, |state| {
            let status = state.status();
            status.run == run && status.stages.iter().any(|s| s.name == name && !s.jobs.is_empty())
        });
    }

    /// Turns until no device moves any more and status says so, and that it stays so.
    pub fn until_rest(&mut self) {
        self.until("quiet", 600, |state| {
            let truth = audit::ledger(&state.cloud, &state.status());
            truth.in_progress + truth.notified == 0
        });
        self.until("a ledger that tells the truth", 100, |state| {
            let status = state.status();
            status.progress.as_ref().map(|p| p.ledger) == Some(audit::ledger(&state.cloud, &status))
        });
        // What was read and not yet due to be written comes first.
        self.turns(12);
        let (before, writes) = (self.status(), self.state().writes);
        self.turns(20);
        if self.state().writes != writes {
            let was = serde_yaml::to_string(&before).unwrap_or_default();
            self.fail(&format!("status is written while nothing changes; it was\n{was}"));
        }
    }

    pub fn expect_completed(&self) {
        if self.status().phase != Some(Phase::Completed) {
            self.fail("not completed");
        }
    }

    /// Fails the test with everything that is known.
    pub fn fail(&self, why: &str) -> ! {
        let mut text = format!("{why}\n");
        for line in &self.story {
            let _ = writeln!(text, "  {line}");
        }
        let state = self.state();
        let status = serde_yaml::to_string(&state.status()).unwrap_or_default();
        let truth = audit::ledger(&state.cloud, &state.status());
        drop(state);
        panic!("{text}{status}truth: {truth:?}");
    }
}

/// A person's command.
pub fn command(run: &Run, annotation: &str, value: &str) {
    run.state().edit(|r| {
        r.metadata.annotations.get_or_insert_default().insert(annotation.to_owned(), value.to_owned());
    });
}

/// The reason and message for which a person is needed.
pub fn stalled(status: &FirmwareRolloutStatus) -> Option<(String, String)> {
    let condition = condition::find(&status.conditions, "Stalled").filter(|c| c.status == "True")?;
    Some((condition.reason.clone(), condition.message.clone()))
}
