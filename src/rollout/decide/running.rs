//! The stage whose job runs: its gate, its soak, its leftovers, its end.

use super::changed::GATE_UNREACHABLE;
use super::*;
use crate::sabotage::{Bad, on};

impl<'a> Draft<'a> {
    pub(super) fn advance(&mut self, name: &str) -> Decision {
        let Some(index) = self.status.stages.iter().position(|s| s.name == name) else { return self.launch() };
        let kind = self.status.stages.get(index).map(|s| s.kind);
        if kind == Some(StageKind::Verify) {
            return self.advance_verify(index);
        }
        if let Some(decision) = self.changed(index) {
            return decision;
        }
        if let Some(decision) = self.next_part(index) {
            return decision;
        }
        let readings: Vec<&JobReading> = match self.readings(index) {
            Some(readings) => readings,
            None => return self.unread("Counting", format!("the job of stage {name} is being read")),
        };
        let Some(entry) = self.status.stages.get(index).cloned() else { return self.launch() };
        let all: Vec<Ledger> = entry.jobs.iter().map(|j| j.counts.unwrap_or_default()).collect();
        let counts = retry::combined(&entry, &all);
        let settled = readings.iter().all(|r| r.consistent && r.settled);
        // An attempt that was given up ended its jobs itself.
        let present = |(job, reading): (&JobStatus, &'a JobReading)| (job.attempt == entry.attempt).then_some(reading);
        let readings: Vec<&JobReading> = entry.jobs.iter().zip(readings).filter_map(present).collect();
        let clock = readings.iter().map(|r| r.now).min();
        let views = || external::present(&entry).filter_map(|j| j.view.as_ref());
        let Some(mut settings) = self.settings(name).cloned() else {
            return stall("InvalidSpec", format!("stage {name} has no settings"));
        };
        // The rate that the job really has, also when an edit changed the declared one since.
        if let Some(rate) = views().filter_map(|v| v.maximum_per_minute).min() {
            settings.maximum_per_minute = i32::try_from(rate).unwrap_or(i32::MAX).max(1);
        }
        let Some(now) = clock else {
            return self.unread("Counting", format!("the job of stage {name} is being read"));
        };
        let input = GateInput {
            settings: &settings,
            counts,
            settled,
            began: views().filter_map(|v| v.utc_start_time.or(v.utc_schedule_time).or(v.utc_create)).min().map(|t| t.0),
            soaking_since: entry.soaking_since.map(|t| t.0),
            now,
        };
        let judgement = gate::judge(&input);
        if input.settled {
            self.status.gate = Some(gate::status(&input, &judgement));
        }
        if entry.kind == StageKind::Dynamic {
            // A policy that somebody ended does not stand, also where that was accepted.
            let ended = external::present(&entry).filter_map(external::of).any(|change| change != Change::Tasks);
            if ended && let Some(decision) = self.cut_short(index) {
                return decision;
            }
            return self.stand(index, now, judgement.sample);
        }
        match judgement.sample {
            Verdict::Fail { because } => self.fail(index, "GateFailed", because, now),
            // Time alone changes nothing, and no device will.
            Verdict::Stuck { .. } | Verdict::Hold { until: None, .. }
                if input.settled
                    && counts.open() + counts.queued == 0
                    && let Some(decision) = self.cut_short(index) =>
            {
                decision
            }
            Verdict::Stuck { because } => stall(GATE_UNREACHABLE, because),
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
            Verdict::Pass if let Some(decision) = self.made_up_for(index) => decision,
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
                // Whoever sees the cancel's effect must know whose it is, also after a restart.
                Drain::Cancel(_)
                    if self.status.stages.get(index).is_some_and(|s| s.jobs.iter().any(|j| !j.drained)) =>
                {
                    self.edit(index, |s| s.jobs.iter_mut().for_each(|j| j.drained = true));
                    return wait("Draining", because);
                }
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
            Ok(firmware) if firmware.status == FirmwareStatus::Verified => {
                self.end(index, StageState::Passed, None, None, clock);
                self.launch()
            }
            Ok(firmware) => {
                // A verification that somebody cancelled may count as failed: no word on the package.
                if let Some(decision) = self.changed(index) {
                    return decision;
                }
                if firmware.status == FirmwareStatus::VerifyFailed && over {
                    let because = "not every test device took the package; the cloud calls its verification failed";
                    return self.fail(index, "VerifyFailed", because.to_owned(), clock.unwrap_or(self.now));
                }
                let nothing_open = self.status.stages.get(index).is_some_and(external::is_over);
                let cut_short = if nothing_open { self.cut_short(index) } else { None };
                cut_short.unwrap_or_else(|| (Act::Wait, self.doubt(Situation::waiting("Verifying", devices))))
            }
        }
    }

    /// When the gate may pass at the earliest, if nothing but time were missing.
    pub(super) fn earliest_end(&self, input: &GateInput) -> Option<Timestamp> {
        let mature = SignedDuration::try_from(input.settings.mature_after.length()).ok()?;
        input.began?.checked_add(mature).ok().filter(|at| *at > input.now)
    }

    /// Whether nothing follows a stage, also one that an edit has removed from the plan.
    pub(super) fn is_last(&self, name: &str) -> bool {
        let over = |entry: &StageStatus| StageStatus {
            state: if entry.name == name { StageState::Passed } else { entry.state },
            ..entry.clone()
        };
        let stages: Vec<_> = self.status.stages.iter().map(over).collect();
        stage::next(&self.plan, &stages).is_none()
    }
}
