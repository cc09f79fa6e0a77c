//! One poll: reads from the cloud what a rollout's next decision needs. Polling is not reconciling: nothing is decided
//! here, and nothing is written but the memory.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::rollout::FirmwareRef;
use crate::api::status::{Claim, Ledger};
use crate::api::{FirmwareRollout, TAG_KEY};
use crate::ota::calls::{self, CallContext};
use crate::ota::code::{self, Class as CodeClass};
use crate::ota::firmware::Firmware;
use crate::ota::id::{FirmwareId, JobId};
use crate::ota::job::Job;
use crate::ota::outcome::{CallError, Read};
use crate::ota::polling;
use crate::ota::task::{Task, TaskStatus};
use crate::ota::{Api, Operation};
use crate::rollout::observed::{
    Account, Empty, Found, JobReading, Listed, Lookup, Proposed, RunLedger, Trouble, Unfinished,
};
use crate::rollout::policies::Policies;
use crate::rollout::wanted::{Audit, Cadence, Wanted, WantedJob};
use crate::rollout::{external, firmware};
use crate::sabotage::{Bad, on};

use super::census::{Census, Class, Counted, is_silent};
use super::listing::Tags;
use super::memory::Memory;
use super::survey::Versions;
use super::world::Moment;

/// A look-up after an unclear answer waits this many times the account's `listLag` between its listings.
const UNCLEAR_LAG: u32 = 4;
/// Empty listings of a look-up that are remembered; the decision needs the last two.
const LISTINGS_KEPT: usize = 8;
/// A `Slow` job is read at every so many polls; so is a census taken.
const SLOW: u32 = 4;
/// Task counts are taken again when they do not add up, at most so often in one poll.
const RECOUNTS: usize = 2;

/// What polling remembers of one rollout between polls.
#[derive(Debug, Default)]
pub struct Polls {
    polls: u32,
    revision: String,
    firmware: Option<Result<Firmware, Trouble>>,
    jobs: BTreeMap<JobId, JobPolls>,
    lookup: Option<LookupPolls>,
    tags: Tags,
    listed: Option<Listed>,
    proposed: Option<Proposed>,
    census: Census,
    pub(super) versions: Versions,
    pub(super) policies: Option<Policies>,
}

#[derive(Debug, Default)]
struct JobPolls {
    reading: Option<JobReading>,
    /// The total, and our monotonic clock when it was first seen.
    total: Option<(i64, Duration)>,
    /// Failed tasks by cause, and at how many failed tasks they were told apart.
    failures: Option<(i64, Ledger)>,
}

#[derive(Debug)]
struct LookupPolls {
    token: String,
    epoch: i32,
    lookup: Lookup,
}

/// What one poll found.
#[derive(Debug, Default)]
pub struct Findings {
    firmware: Option<Result<Firmware, Trouble>>,
    jobs: BTreeMap<JobId, JobReading>,
    lookup: Option<(String, i32, Lookup)>,
    listed: Option<Listed>,
    proposed: Option<Proposed>,
    versions: BTreeMap<String, Option<String>>,
    policies: Option<Policies>,
    ledger: Option<RunLedger>,
    unfinished: Option<Unfinished>,
    cloud: Option<(Timestamp, Duration)>,
    fleet: Option<Timestamp>,
    /// The read that failed.
    pub failed: Option<CallError>,
    /// The operation whose answer showed a tag of ours on a job.
    pub echoed: Option<Operation>,
}

impl Findings {
    /// Puts the findings into the memory, for the next decision.
    pub fn remember(self, memory: &Memory, rollout: &FirmwareRollout) {
        memory.change(rollout, |known| {
            known.firmware = self.firmware;
            known.jobs = self.jobs;
            known.lookup = self.lookup;
            known.listed = self.listed;
            known.proposed = self.proposed;
            known.versions = self.versions;
            known.policies = self.policies;
            known.unfinished = self.unfinished;
            known.ledger = self.ledger.or_else(|| known.ledger.take());
            known.cloud = self.cloud.or(known.cloud);
            known.fleet = self.fleet.or(known.fleet);
            known.trouble = match (known.trouble.take(), self.failed.as_ref().map(trouble)) {
                (Some(earlier), Some(now)) if now.repeats(&earlier) => Some(earlier),
                (_, now) => now,
            };
        });
    }
}

/// Reads what is wanted. `clock` reads our clocks.
pub async fn poll<A: Api>(
    api: &A,
    account: &Account,
    wanted: &Wanted,
    revision: &str,
    polls: &mut Polls,
    clock: impl Fn() -> Moment + Send,
) -> Findings {
    let ctx = CallContext { instance_id: account.instance_id.clone() };
    if polls.revision != revision {
        (polls.firmware, polls.revision) = (None, revision.to_owned());
    }
    let mut reader = Reader { api, ctx: &ctx, account, clock: &clock, cloud: None, fleet: None, echoed: None };
    let outcome = reader.read(wanted, polls).await;
    let unfinished = if outcome.is_ok() { reader.unfinished(&wanted.unfinished).await } else { Ok(None) };
    let (unfinished, missed) = match unfinished {
        Ok(names) => (names, None),
        Err((job, error)) => {
            // It is gone, and its names with it: the job's own next reading tells.
            let gone = error.is(code::INVALID_OTA_JOB_ID);
            if let Some(known) = polls.jobs.get_mut(&job).filter(|_| gone) {
                known.reading = known.reading.take().filter(|reading| reading.job.is_none());
            }
            (None, Some(error).filter(|_| !gone))
        }
    };
    polls.polls = polls.polls.wrapping_add(1);
    Findings {
        firmware: polls.firmware.clone(),
        jobs: polls.jobs.iter().filter_map(|(id, j)| Some((id.clone(), j.reading.clone()?))).collect(),
        lookup: polls.lookup.as_ref().map(|l| (l.token.clone(), l.epoch, l.lookup.clone())),
        listed: polls.listed.clone(),
        proposed: polls.proposed.clone(),
        versions: polls.versions.known(),
        policies: polls.policies.clone(),
        ledger: outcome.as_ref().ok().cloned().flatten(),
        unfinished,
        cloud: reader.cloud,
        fleet: reader.fleet,
        failed: outcome.err().or(missed),
        echoed: reader.echoed,
    }
}

/// What a failed read means for a person.
pub fn trouble(error: &CallError) -> Trouble {
    let meaning = error.meaning();
    let stalled = error.class != CodeClass::Unknown && meaning.requeue.needs_a_person();
    let what = if stalled { "the cloud refuses to answer" } else { "the cloud cannot be read at the moment" };
    Trouble { reason: meaning.reason_of_read, message: format!("{what}: {}", error.told()), stalled }
}

pub(super) struct Reader<'a, A, C> {
    pub(super) api: &'a A,
    pub(super) ctx: &'a CallContext,
    account: &'a Account,
    pub(super) clock: &'a C,
    cloud: Option<(Timestamp, Duration)>,
    fleet: Option<Timestamp>,
    echoed: Option<Operation>,
}

impl<A: Api, C: Fn() -> Moment + Send> Reader<'_, A, C> {
    async fn read(&mut self, wanted: &Wanted, polls: &mut Polls) -> Result<Option<RunLedger>, CallError> {
        if let Some(claim) = &wanted.lookup {
            self.look_up(claim, polls).await?;
        } else {
            polls.lookup = None;
        }
        self.proposed(wanted.proposed.as_ref(), polls).await?;
        // A package that may be rolled out stays so. Where no job is read it is read all the same: the cloud's clock
        // comes with the answer, and the next claim needs it.
        let known = matches!(&polls.firmware, Some(Ok(firmware)) if firmware.status.allows_upgrades());
        let job_read = wanted.jobs.iter().any(|job| job.cadence == Cadence::EveryPoll);
        if let Some(named) = wanted.firmware.as_ref().filter(|_| !(known && job_read)) {
            self.firmware(&wanted.product_key, named, polls).await?;
        }
        if let Some(Ok(package)) = polls.firmware.clone() {
            self.versions(&wanted.product_key, &wanted.named, &package, &mut polls.versions).await?;
        }
        self.survey(&wanted.product_key, wanted.survey, &mut polls.policies).await?;
        polls.jobs.retain(|id, _| wanted.jobs.iter().any(|w| w.id == *id));
        for job in &wanted.jobs {
            let known = polls.jobs.entry(job.id.clone()).or_default();
            let due = match job.cadence {
                Cadence::EveryPoll => true,
                Cadence::Slow => polls.polls.is_multiple_of(SLOW) || known.reading.is_none(),
                Cadence::Once => known.reading.is_none(),
            };
            // A total that has not settled yet is soon read again.
            if due || known.reading.as_ref().is_some_and(|r| r.job.is_some() && !(r.settled && r.consistent)) {
                self.job(job, known).await?;
            }
        }
        self.audit(wanted.audit.as_ref(), polls).await?;
        self.census(wanted, polls).await
    }

    /// The cloud's clock comes with every answer.
    pub(super) fn note<T>(&mut self, read: &Read<T>) {
        self.fleet = read.now.or(self.fleet);
        if let Some(date) = read.date {
            self.cloud = Some((date, (self.clock)().monotonic));
        }
    }

    /// An answer may show that this account's jobs show our tags.
    pub(super) fn hear(&mut self, operation: Operation, tag: Option<&str>) {
        if tag.is_some() {
            self.echoed = Some(operation);
        }
    }

    async fn firmware(&mut self, product: &str, named: &FirmwareRef, polls: &mut Polls) -> Result<(), CallError> {
        let candidates = match (&named.id, &named.version) {
            (Some(id), _) => match calls::query_firmware(self.api, self.ctx, &FirmwareId::new(id.clone())).await {
                Ok(read) => {
                    self.note(&read);
                    vec![read.value]
                }
                Err(error) if unknown_package(&error) => vec![],
                Err(error) => return Err(error),
            },
            (None, version) => {
                let version = version.clone().unwrap_or_default();
                let read = calls::list_firmware(self.api, self.ctx, product, &version).await?;
                self.note(&read);
                read.value
            }
        };
        polls.firmware = Some(firmware::choose(product, named, &candidates));
        Ok(())
    }

    /// The devices of some jobs that did not reach the target and whose tasks have ended.
    async fn unfinished(&mut self, of: &[JobId]) -> Result<Option<Unfinished>, (JobId, CallError)> {
        if of.is_empty() {
            return Ok(None);
        }
        let mut names = Vec::new();
        for job in of {
            for status in [TaskStatus::Failed, TaskStatus::Canceled] {
                let read = polling::tasks_in(self.api, self.ctx, job, &status).await;
                let tasks = read.map_err(|error| (job.clone(), error))?;
                names.extend(tasks.value.into_iter().map(|t| (t.device_name.as_str().to_owned(), t.utc_modified)));
            }
        }
        Ok(Some(Unfinished { of: of.to_vec(), names }))
    }

    async fn look_up(&mut self, claim: &Claim, polls: &mut Polls) -> Result<(), CallError> {
        let same = |l: &LookupPolls| l.token == claim.token && l.epoch == claim.epoch;
        if !polls.lookup.as_ref().is_some_and(same) {
            let lookup = Lookup::default();
            polls.lookup = Some(LookupPolls { token: claim.token.clone(), epoch: claim.epoch, lookup });
        }
        let asked = (self.clock)().monotonic;
        let firmware = FirmwareId::new(claim.call.firmware_id.clone());
        let listing = self.listing(&firmware, &mut polls.tags, |_| true).await?;
        polls.listed = Some(listing.live(firmware, asked));
        let Some(state) = &mut polls.lookup else { return Ok(()) };
        state.lookup.found = listing
            .tagged()
            .filter(|(_, tag)| *tag == claim.token || on(Bad::AnyTag))
            .map(|(job, _)| Found {
                id: job.job_id.clone(),
                utc_create: job.utc_create,
                live: !job.status.is_terminal(),
            })
            .collect();
        if !state.lookup.found.is_empty() {
            return Ok(());
        }
        let lag = self.account.list_lag.saturating_mul(UNCLEAR_LAG);
        let empty = &mut state.lookup.empty;
        let last = empty.last().map(|e| e.asked);
        if listing.complete && last.is_none_or(|last| asked.saturating_sub(last) >= lag) {
            empty.push(Empty { asked, date: listing.date });
            let old = empty.len().saturating_sub(LISTINGS_KEPT);
            empty.drain(..old);
        }
        Ok(())
    }

    /// The jobs among which those are looked for that should not be there. A look-up has listed them just now.
    async fn audit(&mut self, audit: Option<&Audit>, polls: &mut Polls) -> Result<(), CallError> {
        let Some(audit) = audit else { return Ok(()) };
        let read = polls.firmware.as_ref().and_then(|f| f.as_ref().ok()).map(|f| f.id.clone());
        let Some(firmware) = audit.firmware.clone().or(read) else { return Ok(()) };
        let asked = (self.clock)().monotonic;
        let fresh = |l: &Listed| l.firmware == firmware && asked.saturating_sub(l.asked) < audit.every;
        if !polls.listed.as_ref().is_some_and(fresh) {
            // What has ended does no harm any more.
            let listing = self.listing(&firmware, &mut polls.tags, |job| !job.status.is_terminal()).await?;
            polls.listed = Some(listing.live(firmware, asked));
        }
        Ok(())
    }

    async fn proposed(&mut self, wanted: Option<&JobId>, polls: &mut Polls) -> Result<(), CallError> {
        polls.proposed = None;
        let Some(id) = wanted else { return Ok(()) };
        let job = match calls::query_job(self.api, self.ctx, id).await {
            Ok(read) => Ok(read.value),
            Err(error) if error.class == CodeClass::Terminal => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        polls.proposed = Some(Proposed { id: id.clone(), job });
        Ok(())
    }

    /// The job itself after its tasks: its state is never shown older than theirs.
    async fn counts_and_job(
        &mut self,
        id: &JobId,
        expected: Option<u64>,
    ) -> Result<(polling::Counts, Read<Job>), CallError> {
        let mut counts = polling::count(self.api, self.ctx, id, expected).await?;
        for _ in 0..RECOUNTS {
            if counts.tally.adds_up() {
                break;
            }
            counts = polling::count(self.api, self.ctx, id, Some(counts.tally.total)).await?;
        }
        let job = calls::query_job(self.api, self.ctx, id).await?;
        self.note(&job);
        self.hear(Operation::QueryOTAJob, job.value.tag(TAG_KEY));
        Ok((counts, job))
    }

    /// Those of a job's tasks that are in one status: from its counted page, where that held them.
    async fn tasks_in(
        &self,
        job: &JobId,
        counted: Option<&[Task]>,
        status: &TaskStatus,
    ) -> Result<Vec<Task>, CallError> {
        match counted {
            Some(tasks) => Ok(tasks.iter().filter(|task| task.status == *status).cloned().collect()),
            None => Ok(polling::tasks_in(self.api, self.ctx, job, status).await?.value),
        }
    }

    async fn job(&mut self, wanted: &WantedJob, known: &mut JobPolls) -> Result<(), CallError> {
        let Moment { monotonic: taken_at, wall } = (self.clock)();
        let expected = known.total.and_then(|(total, _)| u64::try_from(total).ok());
        let (polling::Counts { tally, tasks }, job) = match self.counts_and_job(&wanted.id, expected).await {
            Ok(both) => both,
            Err(error) if code::same(&error.code, code::INVALID_OTA_JOB_ID) => {
                // Gates go on by the cloud's clock, and a refusal does not tell it.
                let clock = calls::probe(self.api, self.ctx).await?;
                self.note(&clock);
                let read = known.reading.as_ref().map(|r| r.counts);
                known.reading = Some(JobReading {
                    job: None,
                    counts: external::closed(wanted.gone.or(read).unwrap_or_default()),
                    moving: 0,
                    consistent: true,
                    settled: true,
                    now: clock.now.or(clock.date).unwrap_or(wall),
                    taken_at,
                    cancel_sent: None,
                });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = tally.as_of.or(job.now).unwrap_or(wall);
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut counts = Ledger {
            at_target: count(tally.succeeded),
            in_progress: count(tally.in_progress),
            notified: count(tally.notified),
            queued: count(tally.queued) + count(tally.confirm),
            cancelled: count(tally.canceled),
            ..Ledger::default()
        };
        let failed = count(tally.failed);
        if known.failures.is_none_or(|(at, _)| at != failed) {
            let mut causes = Ledger::default();
            if failed > 0 {
                for task in self.tasks_in(&wanted.id, tasks.as_deref(), &TaskStatus::Failed).await? {
                    *Class::of(&task, wanted.silent_after, now).of_ledger(&mut causes) += 1;
                }
            }
            known.failures = Some((failed, causes));
        }
        let causes = known.failures.map(|(_, causes)| causes).unwrap_or_default();
        let told_apart = causes.failed + causes.timed_out + causes.conflict == failed;
        let causes = at_most(causes, failed);
        (counts.failed, counts.timed_out, counts.conflict) = (causes.failed, causes.timed_out, causes.conflict);
        if !told_apart {
            known.failures = None;
        }
        let began = job.value.utc_start.or(job.value.utc_create);
        let old = began
            .is_none_or(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default() >= wanted.silent_after);
        let mut silent_fits = true;
        if old && counts.notified > 0 {
            let tasks = self.tasks_in(&wanted.id, tasks.as_deref(), &TaskStatus::Notified).await?;
            silent_fits = count(tasks.len() as u64) == counts.notified;
            counts.silent = count(tasks.iter().filter(|t| is_silent(t, wanted.silent_after, now)).count() as u64)
                .min(counts.notified);
            counts.notified -= counts.silent;
        }
        let total = count(tally.total);
        // Read from the end of a task's life to its beginning, a task that moves on is missed rather than counted twice.
        let moving = total - counts.exposed();
        counts.in_progress += moving.max(0);
        let first = match known.total {
            Some((seen, at)) if seen == total => at,
            _ => taken_at,
        };
        known.total = Some((total, first));
        known.reading = Some(JobReading {
            job: Some(job.value),
            counts,
            moving: moving.abs(),
            consistent: tally.adds_up() && told_apart && silent_fits,
            settled: first < taken_at && taken_at.saturating_sub(first) >= self.account.list_lag,
            now,
            taken_at,
            cancel_sent: None,
        });
        Ok(())
    }

    async fn census(&mut self, wanted: &Wanted, polls: &mut Polls) -> Result<Option<RunLedger>, CallError> {
        let Polls { jobs, census, polls, .. } = polls;
        let counted: Vec<Counted> = wanted
            .jobs
            .iter()
            .filter(|w| w.upgrade)
            .filter_map(|w| {
                let reading = jobs.get(&w.id)?.reading.as_ref()?;
                Some(Counted { id: &w.id, reading, silent_after: w.silent_after })
            })
            .collect();
        // Counting by name costs a call per fifty stragglers: not at every poll, and only of numbers that hold.
        let quiet = wanted.jobs.iter().all(|j| j.cadence == Cadence::Once);
        let due = counted.len() < 2 || polls.is_multiple_of(SLOW) || quiet;
        let earlier = counted.split_last().map(|(_, earlier)| earlier).unwrap_or_default();
        if !due || !census.is_stale(&counted) || earlier.iter().any(|c| !c.reading.consistent) {
            return Ok(None);
        }
        match census.take(self.api, self.ctx, &counted).await {
            Err(error) if error.is(code::INVALID_OTA_JOB_ID) => {
                // One that was at rest is gone since: which one, their next readings tell.
                jobs.values_mut().for_each(|known| known.reading = None);
                Ok(None)
            }
            taken => taken,
        }
    }
}

/// Failed tasks by cause, no more of them than the count says: they are listed after the count, and whoever failed in
/// between was counted in its earlier state.
fn at_most(mut causes: Ledger, failed: i64) -> Ledger {
    let mut surplus = (causes.failed + causes.timed_out + causes.conflict - failed).max(0);
    for cause in [&mut causes.failed, &mut causes.timed_out, &mut causes.conflict] {
        let less = surplus.min(*cause);
        *cause -= less;
        surplus -= less;
    }
    causes
}

fn unknown_package(error: &CallError) -> bool {
    [code::FIRMWARE_NOT_FOUND, code::INVALID_FIRMWARE_ID].iter().any(|c| code::same(&error.code, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_after_the_count_is_not_counted_twice() {
        let causes = |failed, timed_out, conflict| Ledger { failed, timed_out, conflict, ..Ledger::default() };
        assert_eq!(at_most(causes(20, 3, 1), 13), causes(9, 3, 1));
        assert_eq!(at_most(causes(2, 3, 1), 3), causes(0, 2, 1));
        assert_eq!(at_most(causes(2, 3, 1), 6), causes(2, 3, 1));
        assert_eq!(at_most(causes(2, 3, 1), 9), causes(2, 3, 1), "one that is missing is on its way");
    }
}
