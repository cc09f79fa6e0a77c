//! The stage to start next: what it waits for, its share, its claim; and the run's end when none is left.

use super::retrying::Taken;
use super::*;
use crate::sabotage::{Bad, on};

/// What of a stage one claim takes.
pub(super) struct Share {
    /// Part of the attempt, from 1.
    part: i32,
    /// GrayPercent, of a first attempt.
    percent: Option<Percent>,
}

impl<'a> Draft<'a> {
    /// Starts the next stage, passing over those that have nothing to do.
    pub(super) fn launch(&mut self) -> Decision {
        // Bounded by the plan's length: each turn ends a stage or returns.
        for _ in 0..=self.plan.len() {
            let Some(next) = stage::next(&self.plan, &self.status.stages).cloned() else { return self.complete() };
            if self.status.phase == Some(Phase::Completed) {
                // A step was added to a run that had completed: it goes on.
                self.status.phase = Some(Phase::Pending);
            }
            let index = self.reach(&next);
            if let Ok(decision) = self.start(&next, index) {
                return decision;
            }
        }
        stall("InvalidSpec", "the rollout's stages could not be ordered")
    }

    /// The entry of a stage that was reached.
    pub(super) fn reach(&mut self, next: &Stage) -> usize {
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
            retries: Vec::new(),
            jobs: Vec::new(),
        });
        self.status.stages.len() - 1
    }

    pub(super) fn start(&mut self, next: &Stage, index: usize) -> Result<Decision, Ended> {
        let name = &next.name;
        // Until it is claimed, a stage is what the spec says now.
        self.edit(index, |s| {
            if s.jobs.is_empty() {
                (s.kind, s.percent) = (next.kind, next.percent);
            }
        });
        if self.suspended() {
            return Ok(wait("Suspended", format!("{}: stage {name} is not started", self.suspender())));
        }
        if let Some(rival) = &self.observed.rival {
            let because = format!("rollout {rival} runs jobs on the same product; it goes first");
            return Ok(wait("WaitingForRollout", because));
        }
        let account = match self.account() {
            Ok(account) => account.clone(),
            Err(decision) => return Ok(*decision),
        };
        let firmware = match self.firmware() {
            Ok(firmware) => firmware,
            Err(decision) => return Ok(*decision),
        };
        if let Some(decision) = self.verification(next, index, &firmware)? {
            return Ok(decision);
        }
        let (next, share) = match self.taken(next, index)? {
            Taken::Nothing(decision) => return Ok(decision),
            Taken::Retried(stage, part) => (*stage, Share { part, percent: None }),
            Taken::Declared => (next.clone(), Share { part: 1, percent: self.share(next, index)? }),
        };
        if let Some(refusal) = self.status.stages.get(index).and_then(|s| s.refusal.clone())
            && refusal.generation == self.generation()
            && refusal.retry_at.is_none_or(|at| self.now < at.0)
        {
            return Ok((Act::Wait, absorb::refused(name, &refusal)));
        }
        match self.observed.cloud.map(|date| date.duration_since(self.now)) {
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
        Ok(self.claim(&next, index, &firmware, &account, share))
    }

    /// What the package's verification means for a stage: nothing, a decision, or the stage's end.
    pub(super) fn verification(
        &mut self,
        next: &Stage,
        index: usize,
        firmware: &Firmware,
    ) -> Result<Option<Decision>, Ended> {
        let verify = next.kind == StageKind::Verify;
        let planned = self.plan.iter().any(|s| s.kind == StageKind::Verify);
        let retried = self.status.stages.get(index).is_some_and(|s| s.attempt > 1);
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
            FirmwareStatus::VerifyFailed if verify && retried => Ok(None),
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
    pub(super) fn share(&mut self, next: &Stage, index: usize) -> Result<Option<Percent>, Ended> {
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

    pub(super) fn claim(
        &mut self,
        next: &Stage,
        index: usize,
        firmware: &Firmware,
        account: &Account,
        share: Share,
    ) -> Decision {
        let Share { part, percent } = share;
        let (attempt, epoch) = self.status.stages.get(index).map_or((1, 1), |s| (s.attempt, s.epoch + 1));
        let epoch = if on(Bad::EpochReused) { 1 } else { epoch };
        let uid = self.rollout.metadata.uid.clone().unwrap_or_default();
        let part = claim::Part { uid: &uid, run: self.status.run, stage: &next.name, attempt, part };
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
            sent: false,
        });
        self.set(index, StageState::Claimed);
        self.edit(index, |s| {
            s.epoch = epoch;
            s.refusal = None;
        });
        (Act::Claim, Situation::waiting("Creating", format!("creating the job of stage {}", next.name)))
    }

    pub(super) fn complete(&mut self) -> Decision {
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
        (Act::Wait, Situation::ready("Completed", "every stage passed"))
    }

    /// What was told when the run was reverted.
    pub(super) fn ready_message(&self) -> String {
        crate::api::condition::find(&self.status.conditions, "Ready").map(|c| c.message.clone()).unwrap_or_default()
    }
}
