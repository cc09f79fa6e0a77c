//! What this process knows and need not outlive it: readings of jobs, tickets, when something was last written.
//!
//! Losing all of it costs reads, never safety: whatever must survive a crash is in the resource's status.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::FirmwareRollout;
use crate::api::status::Claim;
use crate::ota::firmware::Firmware;
use crate::ota::id::JobId;
use crate::ota::outcome::Outcome;
use crate::rollout::observed::{
    self, JobReading, Listed, Lookup, Observed, Proposed, RunLedger, Sends, Ticket, Trouble, Unfinished, Verdict,
};
use crate::rollout::policies::Policies;
use crate::rollout::wanted::{Cadence, Wanted};
use crate::sabotage::{Bad, on};

/// How long after its claim's acknowledgement a ticket may be used, by the monotonic clock.
pub const TICKET_LIFE: Duration = Duration::from_secs(5);

/// The memory of this process, by the rollout's uid.
#[derive(Debug, Default)]
pub struct Memory {
    known: Mutex<BTreeMap<String, Known>>,
}

/// What is known of one rollout.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The package, read.
    pub firmware: Option<Result<Firmware, Trouble>>,
    /// Its jobs, read.
    pub jobs: BTreeMap<JobId, JobReading>,
    /// When the cloud last accepted a cancel of a job, by the monotonic clock.
    pub cancelled: BTreeMap<JobId, Duration>,
    /// Its devices, each counted once.
    pub ledger: Option<RunLedger>,
    /// The devices that a retry has to take.
    pub unfinished: Option<Unfinished>,
    /// The look-up of a claim's tag, and of which one (token and epoch).
    pub lookup: Option<(String, i32, Lookup)>,
    /// The package's live jobs that carry a tag of ours.
    pub listed: Option<Listed>,
    /// The job that a person wants adopted.
    pub proposed: Option<Proposed>,
    /// Versions of named devices.
    pub versions: BTreeMap<String, Option<String>>,
    /// The live policies of the product.
    pub policies: Option<Policies>,
    /// The last `Date` of the cloud, and when it was seen by the monotonic clock.
    pub cloud: Option<(Timestamp, Duration)>,
    /// The clock that the cloud's jobs follow, as last seen.
    pub fleet: Option<Timestamp>,
    /// The last read that failed.
    pub trouble: Option<Trouble>,
    /// When progress alone was last written, by the monotonic clock.
    pub written: Option<Duration>,
    /// What became of the sends of a claim, and of which one.
    sends: Option<(String, i32, Sends)>,
    ticket: Option<Issued>,
}

/// Not clonable outside of this module's own bookkeeping, and taken out when it is used.
#[derive(Debug, Clone)]
struct Issued {
    token: String,
    epoch: i32,
    at: Duration,
    used: Used,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    No,
    /// Everything sent by it was surely refused.
    PutOff,
    Guarded,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        // The map holds plain values: a panic elsewhere cannot leave it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a rollout.
    pub fn change<T>(&self, rollout: &FirmwareRollout, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.lock().entry(uid(rollout)).or_default())
    }

    /// Keeps only these rollouts.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.lock().retain(|uid, _| keep(uid));
    }

    /// Drops all that is known of a rollout.
    pub fn forget(&self, rollout: &FirmwareRollout) {
        self.lock().remove(&uid(rollout));
    }

    /// Makes the ticket of a claim whose write was acknowledged.
    pub fn issue(&self, rollout: &FirmwareRollout, claim: &Claim, now: Duration) {
        let issued = Issued { token: claim.token.clone(), epoch: claim.epoch, at: now, used: Used::No };
        self.change(rollout, |known| known.ticket = Some(issued));
    }

    /// Uses up the ticket of a claim. False: there is none, or it is too old to send anything by it.
    pub fn redeem(&self, rollout: &FirmwareRollout, claim: &Claim, now: Duration) -> bool {
        self.change(rollout, |known| {
            let ticket = state(known, claim, now);
            known.ticket = None;
            matches!(ticket, Ticket::Fresh | Ticket::PutOff | Ticket::Guarded)
        })
    }

    /// Notes how a send of a claim ended, at `now` of the monotonic clock. `ticketed`: it was the ticket's, and the claim
    /// was nobody else's: after a sure refusal the ticket is given back.
    pub fn sent(&self, rollout: &FirmwareRollout, claim: &Claim, outcome: &Outcome, ticketed: bool, now: Duration) {
        let used = match observed::verdict(outcome) {
            Verdict::PutOff => Some(Used::PutOff),
            Verdict::Guarded => Some(Used::Guarded),
            Verdict::Taken | Verdict::Refused | Verdict::Unknown => None,
        };
        self.change(rollout, |known| {
            let sends = of_claim(&known.sends, claim).after(outcome, now);
            known.sends = Some((claim.token.clone(), claim.epoch, sends));
            known.ticket = used.filter(|_| ticketed).map(|used| Issued {
                token: claim.token.clone(),
                epoch: claim.epoch,
                at: now,
                used,
            });
        });
    }

    /// What to read, with each job at every poll whose last cancel no reading shows yet: whatever the status says of it, a
    /// reading that began before the cancel proves nothing.
    pub fn sooner(&self, rollout: &FirmwareRollout, mut wanted: Wanted) -> Wanted {
        self.change(rollout, |known| {
            for job in &mut wanted.jobs {
                let sent = known.cancelled.get(&job.id);
                let old = |sent: Duration| known.jobs.get(&job.id).is_none_or(|reading| reading.taken_at <= sent);
                if sent.copied().is_some_and(old) {
                    job.cadence = Cadence::EveryPoll;
                }
            }
        });
        wanted
    }

    /// Whether a job's last reading may still change by itself: it has to be read again, whatever the status says.
    pub fn unsettled(&self, rollout: &FirmwareRollout) -> bool {
        let moves = |reading: &JobReading| reading.job.is_some() && !(reading.settled && reading.consistent);
        self.change(rollout, |known| known.jobs.values().any(moves))
    }

    /// The state of a rollout's ticket.
    pub fn ticket(&self, rollout: &FirmwareRollout, now: Duration) -> Ticket {
        let Some(claim) = rollout.status.as_ref().and_then(|s| s.claim.as_ref()) else { return Ticket::None };
        self.change(rollout, |known| state(known, claim, now))
    }

    /// Everything observed, but for the account and other rollouts.
    pub fn observed(&self, rollout: &FirmwareRollout, now: Duration) -> Observed {
        let ticket = self.ticket(rollout, now);
        let claim = rollout.status.as_ref().and_then(|s| s.claim.as_ref());
        self.change(rollout, |known| Observed {
            account: None,
            monotonic: now,
            cloud: known.cloud.and_then(|(date, at)| date.checked_add(now.saturating_sub(at)).ok()),
            fleet: known.fleet,
            sends: claim.map(|claim| of_claim(&known.sends, claim)).unwrap_or_default(),
            firmware: known.firmware.clone(),
            jobs: known
                .jobs
                .iter()
                .map(|(id, reading)| {
                    (id.clone(), JobReading { cancel_sent: known.cancelled.get(id).copied(), ..reading.clone() })
                })
                .collect(),
            ledger: known.ledger.clone(),
            unfinished: known.unfinished.clone(),
            lookup: claim.map(|claim| of_claim(&known.lookup, claim)).unwrap_or_default(),
            listed: known.listed.clone(),
            proposed: known.proposed.clone(),
            siblings: BTreeMap::new(),
            ticket,
            trouble: known.trouble.clone(),
            rival: None,
            list: None,
            versions: known.versions.clone(),
            policies: known.policies.clone(),
        })
    }
}

fn state(known: &Known, claim: &Claim, now: Duration) -> Ticket {
    match &known.ticket {
        // Whoever took the claim over may have sent it: the ticket says nothing any more.
        Some(t) if t.token == claim.token && t.epoch == claim.epoch && !claim.sent => match t.used {
            Used::PutOff => Ticket::PutOff,
            Used::Guarded => Ticket::Guarded,
            Used::No if now.saturating_sub(t.at) < TICKET_LIFE || on(Bad::PauseBeforeSend) => Ticket::Fresh,
            Used::No => Ticket::Expired,
        },
        _ => Ticket::None,
    }
}

/// What is kept of a claim. Look-ups and sends speak of one claim only: of another one nothing is known.
fn of_claim<T: Clone + Default>(kept: &Option<(String, i32, T)>, claim: &Claim) -> T {
    match kept {
        Some((token, epoch, kept)) if *token == claim.token && *epoch == claim.epoch => kept.clone(),
        _ => T::default(),
    }
}

fn uid(rollout: &FirmwareRollout) -> String {
    rollout.metadata.uid.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Ledger;
    use crate::rollout::wanted::WantedJob;

    #[test]
    fn a_job_is_read_until_a_reading_that_began_after_its_last_cancel() {
        let spec = serde_json::json!({"accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}});
        let rollout = FirmwareRollout::new("r", serde_json::from_value(spec).unwrap());
        let (memory, id) = (Memory::default(), JobId::new("j"));
        let job = WantedJob {
            id: id.clone(),
            cadence: Cadence::Once,
            upgrade: true,
            silent_after: Duration::ZERO,
            gone: None,
        };
        let wanted = Wanted { jobs: vec![job], ..Wanted::default() };
        let cadence = || memory.sooner(&rollout, wanted.clone()).jobs[0].cadence;
        let read_at = |second| {
            let reading = JobReading {
                job: None,
                counts: Ledger::default(),
                moving: 0,
                consistent: true,
                settled: true,
                now: Timestamp::UNIX_EPOCH,
                taken_at: Duration::from_secs(second),
                cancel_sent: None,
            };
            memory.change(&rollout, |known| known.jobs.insert(id.clone(), reading));
        };
        read_at(5);
        assert_eq!(cadence(), Cadence::Once);
        memory.change(&rollout, |known| known.cancelled.insert(id.clone(), Duration::from_secs(6)));
        // It may show the cancel's effect all the same: it ended later than it began.
        assert_eq!(cadence(), Cadence::EveryPoll);
        read_at(7);
        assert_eq!(cadence(), Cadence::Once);
    }
}
