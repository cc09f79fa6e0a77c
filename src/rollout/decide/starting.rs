//! The stage to start next: what it waits for, its share, its claim; and the run's end when none is left.

use crate::api::rollout::DevicesFrom;
use crate::rollout::call::{Source, call};

use super::retrying::Taken;
use super::*;
use crate::sabotage::{Bad, on};

/// Least time between a scheduled job's making and its start.
const SCHEDULE_AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// Most time between them.
const SCHEDULE_AT_MOST: SignedDuration = SignedDuration::from_hours(7 * 24);

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
            if let Some(decision) = self.missing() {
                return decision;
            }
            let Some(next) = stage::next(&self.plan, &self.status.stages).cloned() else {
                return self.retire().unwrap_or_else(|| self.complete());
            };
            if let Some(decision) = self.unlike(&next) {
                return decision;
            }
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

    /// A stage that is to be tried again, and that an edit removed: how to make its job is not known any more.
    fn missing(&self) -> Option<Decision> {
        let planned = |name: &str| self.plan.iter().any(|s| s.name == name);
        let again = |s: &&StageStatus| s.state == StageState::Pending && s.attempt > 1 && !planned(&s.name);
        let name = &self.status.stages.iter().find(again)?.name;
        let because =
            format!("stage {name} is to be tried again, but spec.{} was removed: put it back", edits::path(name));
        Some(stall("StepRemoved", because))
    }

    /// A stage of a run that other firmware waits for, and that the spec does not have as it was: its job would be
    /// another one.
    fn unlike(&self, next: &Stage) -> Option<Decision> {
        let edits = if self.course() == Course::Queued { self.edits(&next.name) } else { Vec::new() };
        if edits.is_empty() {
            return None;
        }
        let because = format!(
            "the new firmware waits for this run (supersede: Queue), but spec.{} came with it, and stage {} of this run              is not known otherwise: put it back until this run has ended, set supersede: Replace, or annotate with              {ABORT}",
            self.fields(&next.name, &edits),
            next.name,
        );
        Some(stall("QueueBlocked", because))
    }

    /// The entry of a stage that was reached.
    pub(super) fn reach(&mut self, next: &Stage) -> usize {
        if let Some(index) = self.status.stages.iter().position(|s| s.name == next.name) {
            return index;
        }
        self.status.stages.push(StageStatus {
            name: next.name.clone(),
            kind: next.target.kind,
            state: StageState::Pending,
            reason: None,
            message: None,
            attempt: 1,
            epoch: 0,
            percent: next.target.percent,
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
                (s.kind, s.percent) = (next.target.kind, next.target.percent);
            }
        });
        if self.suspended() {
            return Ok(wait("Suspended", format!("{}: stage {name} is not started", self.suspender())));
        }
        if let Some(rival) = &self.observed.rival {
            let because = format!("rollout {rival} runs jobs on the same product; it goes first");
            return Ok(wait("WaitingForRollout", because));
        }
        if self.has_duplicates() {
            let because = "jobs that there should not be are being cancelled first: see status.duplicates";
            return Ok(self.unread("CancellingDuplicates", because.to_owned()));
        }
        let account = match self.account() {
            Ok(account) => account.clone(),
            Err(decision) => return Ok(*decision),
        };
        let firmware = match self.firmware() {
            Ok(firmware) => firmware,
            Err(decision) => return Ok(*decision),
        };
        if let Some(decision) = self.left_by_earlier_attempt(index) {
            return Ok(decision);
        }
        if let Some(decision) = self.verification(next, index, &firmware)? {
            return Ok(decision);
        }
        if let Some(decision) = self.untimely(next) {
            return Ok(decision);
        }
        if let Some((reason, because)) = preflight::obstacle(&self.sources(), next, &account, &firmware) {
            return Ok(stall(reason, because));
        }
        if let Some(decision) = self.off_version(next, index, &firmware) {
            return Ok(decision);
        }
        if let Some(decision) = self.unequal(next) {
            return Ok(decision);
        }
        let (next, share) = match self.taken(next, index)? {
            Taken::Nothing(decision) => return Ok(decision),
            Taken::Retried(stage, part) => (*stage, Share { part, percent: None }),
            Taken::Declared => {
                let share = Share { part: 1, percent: self.share(next, index)? };
                if let Some(entry) = self.status.stages.get(index)
                    && let Err(because) = bounds::room(&self.status, entry, 1, false)
                {
                    return Ok(stall("StatusFull", because));
                }
                let mut next = next.clone();
                if let Some(from) = &next.target.devices_from {
                    match self.names(from) {
                        Ok(names) => next.target.devices = names.to_vec(),
                        Err(decision) => return Ok(*decision),
                    }
                }
                (next, share)
            }
        };
        if let Some(refusal) = self.status.stages.get(index).and_then(|s| s.refusal.clone())
            && refusal.generation == self.generation()
            && !absorb::is_due(&refusal, self.now)
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
        if let Some(decision) = self.other_owner(&firmware, name) {
            return Ok(decision);
        }
        // A package has one policy: one that stands from an earlier run of the same firmware has to go first.
        let same = |policy: &StandingPolicy| policy.version == firmware.version;
        if next.target.kind == StageKind::Dynamic
            && self.status.standing.iter().any(same)
            && let Some(decision) = self.retire()
        {
            return Ok(decision);
        }
        Ok(self.claim(&next, index, &firmware, &account, share))
    }

    /// What speaks against a package that is only the difference to one version: devices that are named and at another.
    fn off_version(&self, next: &Stage, index: usize, firmware: &Firmware) -> Option<Decision> {
        let source = firmware.src_version.as_ref().filter(|_| firmware.differential)?;
        // Another attempt names those that are left, and the cloud knows them.
        self.status.stages.get(index).filter(|s| s.attempt == 1)?;
        let (name, versions) = (&next.name, &self.observed.versions);
        let devices = &next.target.devices;
        if devices.iter().any(|device| !versions.contains_key(device)) {
            let because = format!("the versions of the devices of stage {name} are being read");
            return Some(self.unread("ReadingDevices", because));
        }
        let fits = |version: &Option<String>| version.as_ref().is_some_and(|v| v == source || *v == firmware.version);
        let (device, version) = devices.iter().filter_map(|d| versions.get_key_value(d)).find(|(_, v)| !fits(v))?;
        let at =
            version.as_ref().map_or_else(|| "at no version that it told".to_owned(), |v| format!("at version {v}"));
        let because = format!(
            "device {device} of stage {name} is {at}, and package {} holds only the difference to version {source}: take \
             it out of spec.{}, or bring it to {source} first",
            firmware.id,
            edits::field(name, Some(next), Edit::Targets)
        );
        Some(stall("SourceVersionMismatch", because))
    }

    /// What speaks against a policy for a group: one that it has already, with other settings.
    fn unequal(&self, next: &Stage) -> Option<Decision> {
        next.target.policy.as_ref()?;
        let group = next.target.group.as_ref()?;
        let Some(policies) = &self.observed.policies else {
            return Some(self.unread("ReadingPolicies", format!("the policies of group {group} are being read")));
        };
        let other = policies.unequal(group, &next.delivery)?;
        let (overwrite, several) = (if other.overwrites { "Pending" } else { "Never" }, other.multi_module);
        let because = format!(
            "group {group} has policy {} already, and the cloud takes another one only with the same settings: write \
             overwrite: {overwrite} and multiModule: {several} in full.delivery, or cancel that policy",
            other.id
        );
        Some(stall("GroupPolicyDiffers", because))
    }

    /// The device names that a step takes from elsewhere.
    pub(super) fn names(&self, from: &DevicesFrom) -> Result<&'a [String], Box<Decision>> {
        match self.observed.list.as_ref().filter(|list| list.from == *from).map(|list| &list.names) {
            Some(Ok(names)) => Ok(names),
            Some(Err(trouble)) => Err(Box::new(troubled(trouble))),
            None => Err(Box::new(wait("ReadingDevices", format!("{} is being read", from.config_map_key_ref)))),
        }
    }

    /// What the package's verification means for a stage: nothing, a decision, or the stage's end.
    pub(super) fn verification(
        &mut self,
        next: &Stage,
        index: usize,
        firmware: &Firmware,
    ) -> Result<Option<Decision>, Ended> {
        let verify = next.target.kind == StageKind::Verify;
        let planned = self.plan.iter().any(|s| s.target.kind == StageKind::Verify);
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
        let Some(share) = next.target.percent else { return Ok(None) };
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
        let source_versions = self.sources();
        let source = Source {
            product_key: &self.rollout.spec.product_key,
            source_versions: &source_versions,
            stage: next,
            firmware_id: firmware.id.as_str(),
            account,
            token: &token,
            percent,
        };
        self.status.claim = Some(Claim {
            run: self.status.run,
            stage: next.name.clone(),
            attempt,
            part: part.part,
            epoch,
            at: claim::at(self.now),
            call: call(&source),
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

    /// What the cloud's clock says against making a stage's job now (ota-api: section 3).
    fn untimely(&self, next: &Stage) -> Option<Decision> {
        let until = next.target.policy.as_ref().and_then(|policy| policy.until);
        let times = (until, next.target.schedule.as_ref().map(|schedule| schedule.start));
        if times == (None, None) {
            return None;
        }
        let name = &next.name;
        let Some(now) = self.observed.fleet else {
            return Some(wait("ReadingFirmware", "the cloud's clock is not known yet"));
        };
        if let Some(until) = until.filter(|until| until.0 <= now) {
            let because =
                format!("full.dynamic.until ({until}) passed before stage {name} was reached: write a later time");
            return Some(stall("PolicyOver", because));
        }
        let start = times.1?;
        if start.0.duration_since(now) < SCHEDULE_AHEAD {
            let because = format!(
                "stage {name} was reached less than 5 minutes before schedule.start ({start}), or later: the cloud takes \
                 no such job; write a later start"
            );
            return Some(stall("ScheduleMissed", because));
        }
        let earliest = start.0.checked_sub(SCHEDULE_AT_MOST).ok().filter(|at| *at > now)?;
        let because =
            format!("the cloud takes the job of stage {name} no earlier than 7 days before schedule.start ({start})");
        Some((Act::Wait, Situation::waiting("ScheduleAhead", because).until(Some(earliest))))
    }

    /// The run's source versions; none: any.
    fn sources(&self) -> Vec<String> {
        self.status.effective.as_ref().map(|e| e.source_versions.clone()).unwrap_or_default()
    }

    pub(super) fn complete(&mut self) -> Decision {
        if self.status.phase != Some(Phase::Completed) {
            self.status.phase = Some(Phase::Completed);
            self.status.step = self.status.stages.last().map(|s| s.name.clone());
            let at = self.status.stages.iter().filter_map(|s| s.ended_at).next_back();
            // The run's own revision: other firmware may have waited for it.
            let revision = self.status.revision.clone();
            if let (Some(firmware), Some(revision)) = (self.status.firmware.clone(), revision) {
                let run = self.status.run;
                self.status.last_completed = Some(LastCompleted { revision, run, firmware, at });
            }
        }
        (Act::Wait, Situation::ready("Completed", "every stage passed"))
    }

    /// What was told when the run was reverted.
    pub(super) fn ready_message(&self) -> String {
        crate::api::condition::find(&self.status.conditions, "Ready").map(|c| c.message.clone()).unwrap_or_default()
    }
}
