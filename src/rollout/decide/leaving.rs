//! Runs that are given up: replaced by other firmware, failed, or deleted. Their pending tasks are cancelled first.

use super::*;
use crate::api::condition;
use crate::rollout::owner;
use crate::sabotage::{Bad, on};

/// The condition that says since when a deletion cannot reach the cloud.
const UNUSABLE: &str = "AccountUnusable";
/// So long it may last before the jobs are named.
const HELD_UP_LONG: SignedDuration = SignedDuration::from_mins(10);
/// Jobs that are named in one message.
const NAMED: usize = 16;

/// What a run that is replaced waits for.
fn superseding() -> Decision {
    wait("Superseding", "the firmware changed: the pending tasks of the old run are being cancelled")
}

impl<'a> Draft<'a> {
    /// Another firmware than the run's: its pending tasks are cancelled, then the new run begins.
    pub(super) fn supersede(&mut self) -> Decision {
        // A policy that stands goes on until the new firmware has its own: its tasks are not the old run's leftovers. One of
        // a stage that was stopped is at its end.
        let stopped = self.status.stages.iter().filter(|s| s.kind == StageKind::Dynamic && !stage::stands(s));
        if let Some(act) = self.ending(stopped.flat_map(|s| &s.jobs).map(|j| &j.id)) {
            return (act, superseding().1);
        }
        let leftovers = self.status.stages.iter().filter(|s| !stage::stands(s));
        match self.drained_of(leftovers, Pending::All) {
            Drain::Wait => superseding(),
            Drain::Cancel(id) => {
                // Written before the first cancel: a person who goes back meanwhile finds no run to go on with.
                let (act, situation) = superseding();
                let told = self.status.phase.replace(Phase::Superseded) == Some(Phase::Superseded);
                (if told { Act::Cancel(id, Pending::All) } else { act }, situation)
            }
            Drain::Done => {
                let back = self.status.last_completed.clone().filter(|last| last.revision == self.revision);
                let updated = self.status.progress.as_ref().map_or(0, |p| p.ledger.at_target);
                self.begin();
                let Some(last) = back else {
                    self.obey();
                    if self.status.phase == Some(Phase::Aborted) {
                        return self.aborted();
                    }
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

    pub(super) fn failed(&mut self) -> Decision {
        let failed = self.status.stages.iter().find(|s| s.state == StageState::Failed);
        let reason = if failed.is_some_and(|s| s.kind == StageKind::Verify) { "VerifyFailed" } else { "GateFailed" };
        let message = failed.and_then(|s| s.message.clone()).unwrap_or_else(|| "a gate failed".to_owned());
        self.stopped(Situation::stalled(reason, message))
    }

    /// Stopped by a person: pending tasks are cancelled, and nothing more is created.
    pub(super) fn aborted(&mut self) -> Decision {
        command::abort(&mut self.status);
        let because = format!("aborted by command: nothing more is created until {RETRY} or new firmware");
        self.stopped(Situation::stalled("Aborted", because))
    }

    /// A run that stays as it is once its pending tasks are cancelled.
    fn stopped(&self, situation: Situation) -> Decision {
        if let Some(act) = self.end_policies(false) {
            return (act, situation);
        }
        match self.drain(None, Pending::All) {
            Drain::Cancel(id) => (Act::Cancel(id, Pending::All), situation),
            Drain::Wait | Drain::Done => (Act::Wait, situation),
        }
    }

    pub(super) fn deletion(&mut self) -> Decision {
        if !has_finalizer(self.rollout) {
            return wait("Deleting", "released");
        }
        let orphan = self.rollout.metadata.annotations.iter().flatten().any(|(key, _)| key == ORPHAN)
            || self.rollout.spec.deletion_policy == Some(DeletionPolicy::Orphan);
        let jobs = self.has_duplicates()
            || !self.status.standing.is_empty()
            || self.status.stages.iter().any(|s| !s.jobs.is_empty());
        if orphan || (self.status.claim.is_none() && !jobs) {
            return (Act::Release, Situation::waiting("Deleting", "nothing is left to cancel"));
        }
        let claim = self.status.claim.clone().filter(|_| !on(Bad::DeletionForgetsClaim));
        if let Some(claim) = claim.as_ref().filter(|_| self.observed.ticket.is_unsent()) {
            // It never went out: it is withdrawn, whatever the cloud says.
            return self.resolve(claim);
        }
        let nothing_left = claim.is_none()
            && !self.has_duplicates()
            && self.status.standing.is_empty()
            && self.end_policies(true).is_none()
            && matches!(self.drain(None, Pending::All), Drain::Done);
        if nothing_left {
            return (Act::Release, Situation::waiting("Deleting", "every pending task is cancelled"));
        }
        match (&self.observed.account, &self.observed.trouble) {
            (Some(Err(trouble)), _) => return self.held_up(trouble),
            (_, Some(trouble)) if trouble.stalled => return self.held_up(trouble),
            _ => self.status.conditions.retain(|c| c.kind != UNUSABLE),
        }
        if let Some(claim) = claim {
            // Looked for, never repeated: nothing new is created for what is being deleted.
            return self.resolve(&claim);
        }
        if let Some(act) = self.end_policies(true) {
            return (act, Situation::waiting("Deleting", "the standing policy is being cancelled"));
        }
        if let Some(decision) = self.retire() {
            return decision;
        }
        match self.drain(None, Pending::All) {
            Drain::Done => {
                self.unread("Deleting", "pending tasks of jobs that there should not be are being cancelled".to_owned())
            }
            Drain::Cancel(id) => {
                (Act::Cancel(id, Pending::All), Situation::waiting("Deleting", "pending tasks are being cancelled"))
            }
            Drain::Wait => self.unread("Deleting", "pending tasks are being cancelled".to_owned()),
        }
    }

    /// A deletion that cannot go on without a person. Since when is kept in a condition of its own: what has lasted is told
    /// again, with the jobs that it is about.
    fn held_up(&mut self, trouble: &Trouble) -> Decision {
        let (generation, message) = (self.rollout.metadata.generation, Some(trouble.message.clone()));
        story::remark(&mut self.status, UNUSABLE, trouble.reason, message, generation, self.now);
        let since = condition::find(&self.status.conditions, UNUSABLE).map_or(self.now, |c| c.last_transition_time.0);
        if self.now.duration_since(since) < HELD_UP_LONG {
            let because = format!(
                "{}; pending tasks cannot be cancelled without it: mend it, or set the annotation {ORPHAN} to leave \
                 the jobs as they are",
                trouble.message
            );
            return stall(trouble.reason, because);
        }
        let mut ids: Vec<&str> = owner::own(&self.status).take(NAMED + 1).collect();
        if ids.len() > NAMED {
            ids.truncate(NAMED);
            ids.push("and more");
        }
        let claim = self.status.claim.as_ref().map(|c| format!("; and perhaps a job with tag {TAG_KEY}={}", c.token));
        let because = format!(
            "for 10 minutes the jobs of this rollout cannot be cancelled: {}{}. {}. Mend that, or annotate it with \
             {ORPHAN}=<any word> to let it go and leave them as they are",
            ids.join(", "),
            claim.unwrap_or_default(),
            bounded(&trouble.message, 256)
        );
        stall("CredentialsGone", because)
    }

    /// Whether the jobs of one stage (or of all) have tasks left to cancel.
    pub(super) fn drain(&self, only: Option<&str>, pending: Pending) -> Drain {
        self.drained_of(self.status.stages.iter().filter(|s| only.is_none_or(|name| s.name == name)), pending)
    }

    /// Whether the jobs of these stages have tasks left to cancel.
    fn drained_of<'b>(&self, stages: impl Iterator<Item = &'b StageStatus>, pending: Pending) -> Drain {
        let pending = if on(Bad::AbortLeavesNotified) { Pending::Leftovers } else { pending };
        let mut drain = Drain::Done;
        for entry in stages {
            for job in &entry.jobs {
                if job.gone {
                    continue;
                }
                let id = JobId::new(job.id.clone());
                let Some(reading) = self.observed.jobs.get(&id) else {
                    // What is not pending any more never becomes so again by itself.
                    if job.total.is_none() || job.moving > 0 || job.counts.is_none_or(|c| pending.count(&c) > 0) {
                        drain = Drain::Wait;
                    }
                    continue;
                };
                match self.drained(&id, reading, pending) {
                    Drain::Done => {}
                    Drain::Wait => drain = Drain::Wait,
                    cancel @ Drain::Cancel(_) => return cancel,
                }
            }
        }
        drain
    }

    /// Whether one job has tasks left to cancel.
    pub(super) fn drained(&self, id: &JobId, reading: &JobReading, pending: Pending) -> Drain {
        if reading.job.is_none() {
            return Drain::Done;
        }
        let left = pending.count(&reading.counts);
        // A total that may still grow hides tasks that are yet to appear.
        if left == 0 && reading.consistent && reading.settled && reading.is_after_cancel() {
            return Drain::Done;
        }
        if left > 0 && !reading.cancelled_lately(self.observed.monotonic) {
            Drain::Cancel(id.clone())
        } else {
            Drain::Wait
        }
    }
}
