//! Live jobs that carry a tag of ours and are not recorded: those that came late, those that are too many, and those of
//! another owner. How jobs are listed never comes in.
//!
//! What should not be there is first written into the status, and cancelled only from there: a decision upon an old
//! version of the object loses the write, and so cancels nothing that a newer one has recorded.

use super::*;
use crate::rollout::observed::Tagged;
use crate::rollout::owner::{self, Own};

/// Jobs that are named in one message.
const NAMED: usize = 8;
/// Bounds of the status.
const MOST_DUPLICATES: usize = 8;
const MOST_BESIDE: usize = 16;
/// Before a run's first create the listing may be so old.
const FRESH: std::time::Duration = std::time::Duration::from_secs(30);

impl<'a> Draft<'a> {
    /// Records a live job whose part has none, and notes every other one with a tag of this object's.
    pub(super) fn note_tagged(&mut self) {
        self.note_ended();
        let Some(listed) = self.observed.listed.as_ref() else { return };
        let known: Vec<&str> = owner::known(&self.status).collect();
        let claimed = self.status.claim.as_ref().map(|c| c.token.as_str());
        let unknown = |job: &&Tagged| !known.contains(&job.id.as_str()) && Some(job.token.as_str()) != claimed;
        let unknown: Vec<&Tagged> = listed.jobs.iter().filter(unknown).collect();
        if unknown.is_empty() {
            return;
        }
        let tokens = owner::tokens(self.rollout, &self.status);
        for job in unknown {
            let Some(own) = tokens.get(&job.token) else { continue };
            if self.is_missing(own) {
                let succeeded = percent::succeeded(&gray_jobs(&self.status.stages));
                absorb::late(&mut self.status, own, job, succeeded);
            } else {
                self.note_duplicate(&job.id, &own.stage);
            }
        }
    }

    /// Whether it is the next part of a stage, and nothing else was claimed or recorded for it.
    fn is_missing(&self, own: &Own) -> bool {
        let Some(entry) = self.status.stages.iter().find(|s| s.name == own.stage) else { return false };
        let next = i32::try_from(retry::parts_done(entry)).unwrap_or(i32::MAX).saturating_add(1);
        let open = entry.state == StageState::Pending || retry::parts_done(entry) < retry::parts(entry);
        let mine = (own.run, own.attempt, own.part) == (self.status.run, entry.attempt, next);
        mine && open && self.status.claim.is_none() && !self.is_leaving()
    }

    /// Its jobs are being cancelled, whatever becomes of the object.
    pub(super) fn is_leaving(&self) -> bool {
        let given_up = self.status.phase.is_some_and(Phase::is_given_up);
        self.rollout.metadata.deletion_timestamp.is_some() || given_up || self.course() == Course::Superseded
    }

    /// One job more than there should be. Those that find no room are listed again when there is some.
    pub(super) fn note_duplicate(&mut self, id: &JobId, stage: &str) {
        let all = &mut self.status.duplicates;
        if all.len() >= MOST_DUPLICATES
            && let Some(done) = all.iter().position(|d| d.ended)
        {
            all.remove(done);
        }
        if all.len() < MOST_DUPLICATES {
            all.push(Duplicate { id: id.as_str().to_owned(), stage: stage.to_owned(), ended: false });
        }
    }

    /// Duplicates whose pending tasks are seen cancelled need no more reading.
    fn note_ended(&mut self) {
        for n in 0..self.status.duplicates.len() {
            let Some(id) = self.status.duplicates.get(n).map(|d| JobId::new(d.id.clone())) else { continue };
            let Some(reading) = self.observed.jobs.get(&id) else { continue };
            if matches!(self.drained(&id, reading, Pending::All), Drain::Done)
                && let Some(duplicate) = self.status.duplicates.get_mut(n)
            {
                duplicate.ended = true;
            }
        }
    }

    /// Whether a job that should not be there may still push to a device.
    pub(super) fn has_duplicates(&self) -> bool {
        self.status.duplicates.iter().any(|d| !d.ended)
    }

    /// A cancel that is due whatever else is waited for: a duplicate's; or, while an unanswered create is looked for, one
    /// of a run that is given up.
    pub(super) fn cancel_besides(&self) -> Option<Act> {
        self.account().ok()?;
        if self.status.claim.is_some()
            && self.is_leaving()
            && let Drain::Cancel(id) = self.drain(None, Pending::All)
        {
            return Some(Act::Cancel(id, Pending::All));
        }
        self.duplicate_to_cancel()
    }

    /// The next cancel that a duplicate needs: only of those that are in the status as it was read.
    fn duplicate_to_cancel(&self) -> Option<Act> {
        let written = self.rollout.status.iter().flat_map(|s| &s.duplicates).filter(|d| !d.ended);
        written.map(|d| JobId::new(d.id.clone())).find_map(|id| {
            match self.drained(&id, self.observed.jobs.get(&id)?, Pending::All) {
                Drain::Cancel(id) => Some(Act::Cancel(id, Pending::All)),
                Drain::Done | Drain::Wait => None,
            }
        })
    }

    /// Live jobs of the run's package that somebody else made and no rollout of this cluster knows, as long as this run
    /// has no job of its own.
    pub(super) fn foreign(&self) -> Vec<&'a Tagged> {
        let Some(listed) = self.observed.listed.as_ref().filter(|_| !self.has_jobs()) else { return Vec::new() };
        if listed.jobs.is_empty() || self.status.firmware.as_ref().is_none_or(|f| f.id != listed.firmware.as_str()) {
            return Vec::new();
        }
        let known: Vec<&str> = owner::known(&self.status).collect();
        let product = &self.rollout.spec.product_key;
        let tokens = owner::tokens(self.rollout, &self.status);
        let strange = |job: &&Tagged| {
            !known.contains(&job.id.as_str())
                && !self.observed.siblings.contains_key(&job.id)
                && !tokens.contains_key(&job.token)
                && (job.product_key.is_empty() || job.product_key == *product)
        };
        listed.jobs.iter().filter(strange).collect()
    }

    fn has_jobs(&self) -> bool {
        self.status.stages.iter().any(|s| !s.jobs.is_empty())
    }

    /// What holds up the first create of a run: jobs of another owner, such as an object that was deleted with its jobs
    /// left behind and then made again.
    pub(super) fn other_owner(&self, firmware: &Firmware, stage: &str) -> Option<Decision> {
        if self.has_jobs() {
            return None;
        }
        let fresh = self.observed.listed.as_ref().is_some_and(|l| {
            l.complete && l.firmware == firmware.id && self.observed.monotonic.saturating_sub(l.asked) <= FRESH
        });
        let foreign = self.foreign();
        if foreign.is_empty() {
            let because = "the package's jobs are being listed: another owner's may be running".to_owned();
            return (!fresh).then(|| self.unread("ReadingJobs", because));
        }
        let mut names: Vec<&str> = foreign.iter().take(NAMED).map(|job| job.id.as_str()).collect();
        if foreign.len() > NAMED {
            names.push("and others");
        }
        Some(stall(
            "ForeignOwner",
            format!(
                "jobs of another owner run with the same package: {}. Cancel them in the cloud's console; or annotate \
                 this rollout with {ADOPT}=<JobId> to take one for the job of stage {stage}, or with {RETRY}=<any new \
                 word> to go on beside them",
                names.join(", ")
            ),
        ))
    }

    /// A person says to go on beside what runs already.
    pub(super) fn let_be(&mut self) {
        let ids: Vec<String> = self.foreign().iter().map(|job| job.id.as_str().to_owned()).collect();
        self.beside(ids);
    }

    /// These jobs are known, and none of the run's.
    pub(super) fn beside(&mut self, ids: Vec<String>) {
        self.status.beside.extend(ids);
        let surplus = self.status.beside.len().saturating_sub(MOST_BESIDE);
        self.status.beside.drain(..surplus);
    }
}
