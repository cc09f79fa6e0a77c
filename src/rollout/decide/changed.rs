//! A stage whose job somebody else changed: it is held, accepted, or made again. How a change is told from our own doing
//! is `external`'s business.

use super::*;

impl<'a> Draft<'a> {
    fn policy(&self) -> OnExternalChange {
        self.rollout.spec.on_external_change.unwrap_or(OnExternalChange::Pause)
    }

    /// The decision about what somebody else did to the jobs of a stage's present attempt; none: it goes on.
    pub(super) fn changed(&mut self, index: usize) -> Option<Decision> {
        if self.policy() == OnExternalChange::Accept {
            self.accept(index);
        }
        let entry = self.status.stages.get(index)?.clone();
        let (_, change) = open(&entry)?;
        let possible = external::can_be_made_again(&entry) && bounds::room(&self.status, &entry, 1, true).is_ok();
        if self.policy() != OnExternalChange::Recreate || !possible {
            return Some(held(&entry, possible));
        }
        // What is left of it may still go on; the devices that were cancelled come after that.
        (change != Change::Tasks || external::is_over(&entry)).then(|| self.recreate(index))
    }

    /// At the end of a stage whose policy is to make up for what was cancelled.
    pub(super) fn made_up_for(&mut self, index: usize) -> Option<Decision> {
        open(self.status.stages.get(index)?)?;
        Some(self.recreate(index))
    }

    fn recreate(&mut self, index: usize) -> Decision {
        let because = self.status.stages.get(index).and_then(|entry| Some(told(open(entry)?))).unwrap_or_default();
        self.status.gate = None;
        self.edit(index, |s| {
            command::again(s);
            s.reason = Some("Recreated".to_owned());
            s.message = Some(story::bounded(&because, 512));
        });
        wait("Recreating", format!("{because}; its devices that did not get there are given another job"))
    }

    /// Takes what happened to a stage's jobs as it is by now.
    fn accept(&mut self, index: usize) {
        self.edit(index, |s| {
            let attempt = s.attempt;
            s.jobs.iter_mut().filter(|j| j.attempt == attempt).for_each(external::accept);
        });
    }

    /// The stage for which a person was asked, for one of these reasons.
    fn asked_about(&self, reasons: &[&str]) -> Option<usize> {
        let asked = crate::api::condition::find(&self.status.conditions, "Stalled")
            .is_some_and(|c| c.status == "True" && reasons.contains(&c.reason.as_str()));
        let active = stage::active(&self.status.stages).filter(|_| asked)?;
        self.status.stages.iter().position(|s| s.name == active.name)
    }

    /// A person says: go on by the gate.
    pub(super) fn accept_as_asked(&mut self) {
        if let Some(index) = self.asked_about(&[EXTERNAL_CHANGE]) {
            self.accept(index);
        }
    }

    /// A person says: another attempt for the devices that did not get there. False: nobody was asked about such ones.
    pub(super) fn retry_as_asked(&mut self) -> bool {
        let Some(index) = self.asked_about(&[EXTERNAL_CHANGE, GATE_UNREACHABLE]) else { return false };
        self.edit(index, |s| {
            let left = external::present(s).filter_map(|job| job.counts).any(|c| c.conflict + c.cancelled > 0);
            let gone = external::present(s).any(|job| job.gone);
            if external::can_be_made_again(s) && (left || gone) {
                command::again(s);
            }
        });
        true
    }

    /// A stage of which nothing can be decided any more, because of such a change.
    pub(super) fn cut_short(&self, index: usize) -> Option<Decision> {
        let entry = self.status.stages.get(index)?;
        let (job, change) = external::present(entry).find_map(|job| Some((job, external::of(job)?)))?;
        let because = format!(
            "job {} of stage {} {} outside of this rollout, and nothing more of it can be decided: annotate with \
             {RETRY}=<any new word> to give the devices that did not get there another job, or with {ABORT}",
            job.id,
            entry.name,
            change.told()
        );
        Some(stall(EXTERNAL_CHANGE, because))
    }
}

const EXTERNAL_CHANGE: &str = "ExternalChange";
pub(super) const GATE_UNREACHABLE: &str = "GateUnreachable";

fn open(entry: &StageStatus) -> Option<(String, Change)> {
    // Tasks of a policy come and go; the policy itself stands or does not.
    let counts = |change: &Change| entry.kind != StageKind::Dynamic || *change != Change::Tasks;
    let open = |job| external::open(job).filter(counts);
    let changes = || external::present(entry).filter_map(|job| Some((job.id.clone(), open(job)?)));
    // The whole job before some of its tasks.
    changes().find(|(_, change)| *change != Change::Tasks).or_else(|| changes().next())
}

fn told((job, change): (String, Change)) -> String {
    format!("job {job} {} outside of this rollout", change.told())
}

fn held(entry: &StageStatus, possible: bool) -> Decision {
    let happened = open(entry).map(told).unwrap_or_default();
    let again = if possible {
        format!("with {RETRY} to give its devices that did not get there another job, ")
    } else {
        // A status that is full, or devices whose names went with their job.
        String::new()
    };
    let because = format!(
        "stage {}: {happened}; nothing more is started: annotate with {RESUME}=<any new word> to go on by the stage's gate \
         with what was decided, {again}or with {ABORT}",
        entry.name
    );
    stall(EXTERNAL_CHANGE, because)
}
