//! The stage whose job runs: its gate, its soak, its leftovers, its end.

use super::*;
use crate::sabotage::{Bad, on};

impl<'a> Draft<'a> {
    pub(super) fn advance(&mut self, name: &str) -> Decision {
        let Some(index) = self.status.stages.iter().position(|s| s.name == name) else { return self.launch() };
        let kind = self.status.stages.get(index).map(|s| s.kind);
        if kind == Some(StageKind::Verify) {
            return self.advance_verify(index);
        }
        if let Some(decision) = self.next_part(index) {
            return decision;
        }
        let readings: Vec<&JobReading> = match self.readings(index) {
            Some(readings) => readings,
            None => return self.unread("Counting", format!("the job of stage {name} is being read")),
        };
        let Some(entry) = self.status.stages.get(index).cloned() else { return self.launch() };
        let all: Vec<Ledger> = readings.iter().map(|r| r.counts).collect();
        let counts = retry::combined(&entry, &all);
        let settled = readings.iter().all(|r| r.consistent && r.settled);
        // An attempt that was given up ended its jobs itself.
        let present = |(job, reading): (&JobStatus, &'a JobReading)| (job.attempt == entry.attempt).then_some(reading);
        let readings: Vec<&JobReading> = entry.jobs.iter().zip(readings).filter_map(present).collect();
        // Once it soaks, our own cancel of what is left over may end the job as cancelled.
        let soaking = entry.state == StageState::Soaking;
        if readings.iter().any(|r| r.job.is_none() || (r.is_cancelled() && !soaking)) {
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
        let input = GateInput {
            settings: &settings,
            counts,
            settled,
            began: readings.iter().filter_map(|r| r.began()).min(),
            soaking_since: entry.soaking_since.map(|t| t.0),
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

    pub(super) fn soak(&mut self, index: usize, input: &GateInput, soak: Verdict, missing: Vec<String>) -> Decision {
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
            return wait("Suspended", format!("{}: stage {name} is done and nothing is promoted", self.suspender()));
        }
        if !last && !on(Bad::PromoteWithoutDrain) {
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

    pub(super) fn advance_verify(&mut self, index: usize) -> Decision {
        let devices = "the test devices are taking the package; every one of them must succeed";
        let clock = self.readings(index).and_then(|r| r.iter().map(|r| r.now).min());
        // The package calls itself failed from the attempt before, until this one's job is under way.
        let over = self.status.stages.get(index).is_some_and(|s| {
            let present = s.jobs.iter().filter(|j| j.attempt == s.attempt);
            let mut readings = present.map(|j| self.observed.jobs.get(&JobId::new(j.id.clone())));
            s.attempt == 1 || readings.any(|r| r.and_then(|r| r.job.as_ref()).is_some_and(|j| j.status.is_terminal()))
        });
        match self.firmware() {
            Err(decision) => *decision,
            Ok(firmware) => match firmware.status {
                FirmwareStatus::Verified => {
                    self.end(index, StageState::Passed, None, None, clock);
                    self.launch()
                }
                FirmwareStatus::VerifyFailed if over => {
                    let because = "not every test device took the package; the cloud calls its verification failed";
                    self.fail(index, "VerifyFailed", because.to_owned(), clock.unwrap_or(self.now))
                }
                _ => (Act::Wait, self.doubt(Situation::waiting("Verifying", devices))),
            },
        }
    }

    /// When the gate may pass at the earliest, if nothing but time were missing.
    pub(super) fn earliest_end(&self, input: &GateInput) -> Option<Timestamp> {
        let mature = SignedDuration::try_from(input.settings.mature_after.length()).ok()?;
        input.began?.checked_add(mature).ok().filter(|at| *at > input.now)
    }

    /// Whether nothing follows a stage, also one that an edit has removed from the plan.
    pub(super) fn is_last(&self, name: &str) -> bool {
        let mut stages = self.status.stages.clone();
        stages.iter_mut().filter(|s| s.name == name).for_each(|s| s.state = StageState::Passed);
        stage::next(&self.plan, &stages).is_none()
    }
}
