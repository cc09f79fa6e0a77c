//! Standing policies: the dynamic job of a full stage, which gives the firmware to devices that match now and later. How
//! one is watched, how it ends, and what becomes of one whose firmware was replaced. How its claim is made never comes in.

use super::*;
use crate::rollout::policies;

impl<'a> Draft<'a> {
    /// The stage whose policy stands. Its failures are judged for as long as it does.
    pub(super) fn stand(&mut self, index: usize, now: Timestamp, sample: Verdict) -> Decision {
        if self.is_past(index, now) {
            return self.close(index, now);
        }
        if let Verdict::Fail { because } = sample {
            return self.fail(index, "GateFailed", because, now);
        }
        // The new policy first, then the old one: no device is without, and the youngest wins.
        if let Some(decision) = self.retire() {
            return decision;
        }
        self.complete();
        let told = Situation::ready(
            "DynamicActive",
            "the policy stands: devices that match are given the firmware, now and later",
        );
        (Act::Wait, told.until(self.until(index)))
    }

    /// Tells of a younger policy that takes ours its devices, whoever made it.
    pub(super) fn tell_of_shadow(&mut self) {
        let ours = self.status.stages.iter().find(|s| stage::stands(s)).and_then(|s| s.jobs.last());
        let told = match (ours, &self.observed.policies) {
            // Not read yet: what was told stays.
            (Some(_), None) => return,
            (Some(job), Some(policies)) => {
                let made = job.view.as_ref().and_then(|v| v.utc_create).or(job.utc_create).map(|at| at.0);
                let pinned = self.status.firmware.as_ref();
                let module = policies::module(pinned.and_then(|f| f.module.as_deref()));
                let version = pinned.map_or("", |f| f.version.as_str());
                made.and_then(|made| policies.shadow(&JobId::new(job.id.clone()), made, version, module)).map(|policy| {
                    format!(
                        "policy {} of version {} is younger than this rollout's: devices that both cover are given that \
                         version",
                        policy.id, policy.version
                    )
                })
            }
            (None, _) => None,
        };
        let generation = self.rollout.metadata.generation;
        story::remark(&mut self.status, story::SHADOWED, "YoungerPolicy", told, generation, self.now);
    }

    /// When the policy of a stage is to end.
    fn until(&self, index: usize) -> Option<Timestamp> {
        let name = &self.status.stages.get(index)?.name;
        self.plan.iter().find(|s| s.name == *name)?.target.policy.as_ref()?.until.map(|at| at.0)
    }

    /// Whether the policy of a stage is to have ended by now.
    fn is_past(&self, index: usize, now: Timestamp) -> bool {
        self.until(index).is_some_and(|until| now >= until)
    }

    /// `until` has passed: the policy is cancelled, then the tasks that were never begun.
    fn close(&mut self, index: usize, now: Timestamp) -> Decision {
        let told =
            || Situation::waiting("PolicyEnding", "full.dynamic.until has passed: the policy is being cancelled");
        let Some(entry) = self.status.stages.get(index).cloned() else { return self.launch() };
        // Written down first: what the cancels do must not be taken for somebody else's doing.
        if entry.jobs.iter().any(|j| !j.drained) {
            self.edit(index, |s| s.jobs.iter_mut().for_each(|j| j.drained = true));
            return (Act::Wait, told());
        }
        if let Some(act) = self.ending(entry.jobs.iter().map(|j| &j.id)) {
            return (act, told());
        }
        match self.drain(Some(&entry.name), Pending::All) {
            Drain::Done => {}
            Drain::Wait => return (Act::Wait, told()),
            Drain::Cancel(id) => return (Act::Cancel(id, Pending::All), told()),
        }
        let because = "full.dynamic.until has passed".to_owned();
        self.end(index, StageState::Passed, Some("PolicyEnded"), Some(because), Some(now));
        self.launch()
    }

    /// What has to be done until none of these policies stands any more; none: nothing.
    pub(super) fn ending<'b>(&self, ids: impl Iterator<Item = &'b String>) -> Option<Act> {
        let mut waits = None;
        for id in ids {
            let id = JobId::new(id.clone());
            let Some(reading) = self.observed.jobs.get(&id) else {
                let recorded = self.status.stages.iter().flat_map(|s| &s.jobs).find(|job| job.id == id.as_str());
                if !recorded.is_some_and(stage::is_over) {
                    waits = Some(Act::Wait);
                }
                continue;
            };
            if reading.job.is_none() || reading.is_cancelled() {
                continue;
            }
            if !reading.cancelled_lately(self.observed.monotonic) {
                return Some(Act::EndPolicy(id));
            }
            waits = Some(Act::Wait);
        }
        waits
    }

    /// Policies of the run's own stages and those that stand from earlier ones, which end with the rollout or with the
    /// run: what has to be done; none: they have ended.
    pub(super) fn end_policies(&self, earlier: bool) -> Option<Act> {
        let own = self.status.stages.iter().filter(|s| s.kind == StageKind::Dynamic).flat_map(|s| &s.jobs);
        let standing = self.status.standing.iter().filter(|_| earlier).map(|s| &s.id);
        self.ending(own.map(|j| &j.id).chain(standing))
    }

    /// Ends the policies of firmware that was replaced, and the tasks that they left.
    pub(super) fn retire(&mut self) -> Option<Decision> {
        while let Some(old) = self.status.standing.first().cloned() {
            let version = old.version;
            let told = || {
                let because = format!("the policy of version {version} was replaced and is being cancelled");
                Situation::waiting("RetiringPolicy", because)
            };
            if let Some(act) = self.ending([&old.id].into_iter()) {
                return Some((act, told()));
            }
            let id = JobId::new(old.id.clone());
            let drained = self.observed.jobs.get(&id).map(|reading| self.drained(&id, reading, Pending::All));
            match drained {
                Some(Drain::Cancel(id)) => return Some((Act::Cancel(id, Pending::All), told())),
                Some(Drain::Wait) | None => return Some((Act::Wait, told())),
                Some(Drain::Done) => {}
            }
            self.status.standing.remove(0);
        }
        None
    }

    /// Takes note of the run's policy before the run is left: it stands until the new firmware's run is done.
    pub(super) fn keep_policy(&mut self) {
        let Some(job) = self.status.stages.iter().find(|s| stage::stands(s)).and_then(|s| s.jobs.last()) else {
            return;
        };
        let version = self.status.firmware.as_ref().map(|f| f.version.clone()).unwrap_or_default();
        self.status.standing.push(StandingPolicy { id: job.id.clone(), run: self.status.run, version });
    }
}
