//! Runs that are given up: replaced by other firmware, failed, or deleted. Their pending tasks are cancelled first.

use super::*;
use crate::sabotage::{Bad, on};

impl<'a> Draft<'a> {
    /// Another firmware than the run's: its pending tasks are cancelled, then the new run begins.
    pub(super) fn supersede(&mut self) -> Decision {
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
                let updated = self.status.progress.as_ref().map_or(0, |p| p.ledger.at_target);
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
        let jobs = self.status.stages.iter().any(|s| !s.jobs.is_empty());
        if orphan || (self.status.claim.is_none() && !jobs) {
            return (Act::Release, Situation::waiting("Deleting", "nothing is left to cancel"));
        }
        if let Some(Err(trouble)) = &self.observed.account {
            let because = format!(
                "{}; pending tasks cannot be cancelled without it: mend it, or set the annotation {ORPHAN} to leave \
                 the jobs as they are",
                trouble.message
            );
            return stall(trouble.reason, because);
        }
        if let Some(claim) = self.status.claim.clone().filter(|_| !on(Bad::DeletionForgetsClaim)) {
            // Looked for, never repeated: nothing new is created for what is being deleted.
            return self.resolve(&claim);
        }
        match self.drain(None, Pending::All) {
            Drain::Done => (Act::Release, Situation::waiting("Deleting", "every pending task is cancelled")),
            Drain::Cancel(id) => {
                (Act::Cancel(id, Pending::All), Situation::waiting("Deleting", "pending tasks are being cancelled"))
            }
            Drain::Wait => self.unread("Deleting", "pending tasks are being cancelled".to_owned()),
        }
    }

    /// Whether the jobs of one stage (or of all) have tasks left to cancel.
    pub(super) fn drain(&self, only: Option<&str>, pending: Pending) -> Drain {
        let pending = if on(Bad::AbortLeavesNotified) { Pending::Leftovers } else { pending };
        let monotonic = self.observed.monotonic;
        let mut drain = Drain::Done;
        for entry in self.status.stages.iter().filter(|s| only.is_none_or(|name| s.name == name)) {
            for job in &entry.jobs {
                let id = JobId::new(job.id.clone());
                let Some(reading) = self.observed.jobs.get(&id) else {
                    // What is not pending any more never becomes so again by itself.
                    if job.total.is_none() || job.moving > 0 || job.counts.is_none_or(|c| pending.count(&c) > 0) {
                        drain = Drain::Wait;
                    }
                    continue;
                };
                if reading.job.is_none() {
                    continue;
                }
                let left = pending.count(&reading.counts);
                // A total that may still grow hides tasks that are yet to appear.
                if left == 0 && reading.consistent && reading.settled && reading.is_after_cancel() {
                    continue;
                }
                let sent_lately = reading
                    .cancel_sent
                    .is_some_and(|at| !reading.is_after_cancel() || monotonic.saturating_sub(at) < CANCEL_AGAIN);
                if left > 0 && !sent_lately {
                    return Drain::Cancel(id);
                }
                drain = Drain::Wait;
            }
        }
        drain
    }
}
