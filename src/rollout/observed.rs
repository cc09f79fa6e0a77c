//! What was observed: everything that a decision may depend on besides the resource and the time.
//!
//! Plain values that the shell fills in. How they were fetched never comes in here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::account::Edition;
use crate::api::rollout::DevicesFrom;
use crate::api::status::{FirmwareRolloutStatus, JobView, Ledger};
use crate::api::{Replay, Signature, Span, Time};
use crate::ota::Sender;
use crate::ota::code::{self, Class};
use crate::ota::firmware::Firmware;
use crate::ota::id::{FirmwareId, JobId};
use crate::ota::job::{self, Job};
use crate::ota::outcome::{CallError, Outcome};

use super::policies::Policies;
use super::revision;
use crate::sabotage::{Bad, on};

/// Everything observed for one rollout.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The account that the rollout names, or why it cannot be used; none: not looked at yet.
    pub account: Option<Result<Account, Trouble>>,
    /// The package that the spec names, or why there is none; none: not read yet.
    pub firmware: Option<Result<Firmware, Trouble>>,
    /// Readings of this run's jobs.
    pub jobs: BTreeMap<JobId, JobReading>,
    /// Every device that the run exposed, counted once over all its jobs; none: not counted yet.
    pub ledger: Option<RunLedger>,
    /// The devices that another attempt of a step has to retry; none: not listed.
    pub unfinished: Option<Unfinished>,
    /// The look-up of the claim's tag.
    pub lookup: Lookup,
    /// The last listing of the package's live jobs with a tag of ours; none: not listed yet.
    pub listed: Option<Listed>,
    /// The job that a person wants adopted; none: not read.
    pub proposed: Option<Proposed>,
    /// Jobs that other rollouts of the product have recorded, and which rollouts.
    pub siblings: BTreeMap<JobId, String>,
    /// Whether this process may execute the claim.
    pub ticket: Ticket,
    /// What became of this process's sends of the claim.
    pub sends: Sends,
    /// The monotonic clock of this process: what listings and sends are ordered by.
    pub monotonic: Duration,
    /// The cloud's `Date` by now: the last one seen, and what went by since on our monotonic clock; none: no answer yet.
    pub cloud: Option<Timestamp>,
    /// The clock that the cloud's jobs follow, as last seen; none: no answer yet.
    pub fleet: Option<Timestamp>,
    /// The last read that failed, while no later one succeeded.
    pub trouble: Option<Trouble>,
    /// Another rollout of the product that goes first.
    pub rival: Option<String>,
    /// The device names that the next decision needs from elsewhere; none: not read.
    pub list: Option<NameList>,
    /// Versions of devices, of the package's module; a device without one never reported any.
    pub versions: BTreeMap<String, Option<String>>,
    /// The live policies of the product; none: not read.
    pub policies: Option<Policies>,
}

/// Device names that a step takes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameList {
    /// From where.
    pub from: DevicesFrom,
    /// The names, sorted, or why there are none.
    pub names: Result<Arc<[String]>, Trouble>,
}

impl Observed {
    /// Whether a decision looks at the jobs of other rollouts: before a run's first create, and when a person proposes a
    /// job.
    pub fn asks_for_siblings(&self, status: Option<&FirmwareRolloutStatus>) -> bool {
        let first = status.is_none_or(|s| s.stages.iter().all(|s| s.jobs.is_empty()));
        self.proposed.is_some() || (first && self.listed.as_ref().is_some_and(|l| !l.jobs.is_empty()))
    }
}

/// An account, ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where calls go.
    pub endpoint: String,
    /// RegionId, if known.
    pub region: Option<String>,
    /// IotInstanceId.
    pub instance_id: Option<String>,
    /// Digest of the access key id.
    pub access_key: String,
    /// Digest of whom the key belongs to: of a role, where a role's temporary keys are used, else of the key id.
    pub principal: String,
    /// How new creates are signed.
    pub signature: Signature,
    /// How long a new job may be missing from lists.
    pub list_lag: Duration,
    /// Whether a create without an answer may be sent again as it was.
    pub replay: Replay,
    /// Whether this account has shown a tag on a job: only then does a look-up that finds none prove something.
    pub tag_echoed: bool,
    /// Whether a new job of this account was in no list for longer than its `listLag` says: then an empty list proves
    /// nothing.
    pub unlisted: bool,
    /// Which edition of the API the account is served.
    pub edition: Edition,
}

impl Account {
    /// Whose requests its calls are.
    pub fn sender(&self) -> Sender {
        Sender { endpoint: self.endpoint.clone(), region: self.region.clone(), access_key: self.access_key.clone() }
    }

    /// Names what findings about the account speak of: endpoint, instance and principal. Of another subject they prove
    /// nothing.
    pub fn subject(&self) -> String {
        let instance = self.instance_id.as_deref().unwrap_or_default();
        revision::hex(["account", self.endpoint.as_str(), instance, self.principal.as_str()], 8)
    }
}

/// Why something cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// Whether it needs a person.
    pub stalled: bool,
}

impl Trouble {
    /// Whether this says no more than an earlier one: a RequestId, which stands last, differs from call to call, and
    /// telling each would make every poll a write.
    pub fn repeats(&self, earlier: &Self) -> bool {
        let said = |t: &Self| t.message.split(" (RequestId ").next().map(str::to_owned);
        (self.reason, self.stalled, said(self)) == (earlier.reason, earlier.stalled, said(earlier))
    }
}

/// A ledger over all jobs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLedger {
    /// Devices by class.
    pub ledger: Ledger,
    /// By the cloud's clock.
    pub as_of: Timestamp,
    /// [`basis`] of the counts that it was taken from.
    pub basis: String,
    /// The run's first upgrade job: a ledger of another run is none.
    pub first: JobId,
}

/// Names the counts of a run's jobs, oldest first.
pub fn basis<'a>(jobs: impl Iterator<Item = (&'a str, &'a Ledger)>) -> String {
    let texts: Vec<String> = jobs.map(|(id, counts)| format!("{id} {counts:?}")).collect();
    revision::hex(texts.iter().map(String::as_str), 8)
}

/// A cancel that shows no effect after this long is sent again.
const CANCEL_AGAIN: Duration = Duration::from_secs(3);

/// One job, read.
#[derive(Debug, Clone, PartialEq)]
pub struct JobReading {
    /// QueryOTAJob's answer; none: the cloud does not know the job.
    pub job: Option<Job>,
    /// Its tasks by class; those that moved while they were counted are among the ones in progress.
    pub counts: Ledger,
    /// How many those are, or by how much the counts exceed the total.
    pub moving: i64,
    /// Whether the counts add up by themselves and failures are told apart.
    pub consistent: bool,
    /// Whether the total stood still over two reads `listLag` apart: tasks may appear after their job.
    pub settled: bool,
    /// The cloud's clock when the last count was taken; what ages are computed from.
    pub now: Timestamp,
    /// Our monotonic clock before the first read of it. The wall clock may be set meanwhile.
    pub taken_at: Duration,
    /// Our monotonic clock when the cloud last accepted a cancel for it.
    pub cancel_sent: Option<Duration>,
}

impl JobReading {
    /// Whether it was taken after the last cancel, and so shows its effect.
    pub fn is_after_cancel(&self) -> bool {
        self.cancel_sent.is_none_or(|sent| self.taken_at > sent)
    }

    /// Whether a cancel was accepted that this reading does not show yet, or so lately that it may be on its way.
    pub fn cancelled_lately(&self, now: Duration) -> bool {
        self.cancel_sent.is_some_and(|at| !self.is_after_cancel() || now.saturating_sub(at) < CANCEL_AGAIN)
    }

    /// Whether the job was cancelled as a whole.
    pub fn is_cancelled(&self) -> bool {
        self.job.as_ref().is_some_and(|j| j.status == job::JobStatus::Canceled)
    }
}

/// Devices whose tasks of some jobs failed or were cancelled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Those jobs.
    pub of: Vec<JobId>,
    /// Their names, and when their tasks ended.
    pub names: Vec<(String, Option<Timestamp>)>,
}

/// The right to send a claim's create once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ticket {
    /// Not here: this process did not write the claim, or has sent it.
    #[default]
    None,
    /// Unused and valid.
    Fresh,
    /// Unused, and too old to be used: nothing was sent.
    Expired,
    /// Used, and everything that was sent by it was surely refused for the time being.
    PutOff,
    /// Used, and refused because of another job, which may be our own: the tag has to be looked for.
    Guarded,
}

impl Ticket {
    /// Whether nothing of the claim can be on its way: its holder may withdraw it.
    pub const fn is_unsent(self) -> bool {
        matches!(self, Self::Fresh | Self::Expired | Self::PutOff)
    }
}

/// What became of this process's sends of one claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sends {
    /// How many there were.
    pub count: u32,
    /// When the last one ended, by the monotonic clock.
    pub ended: Option<Duration>,
    /// Not before: the pause after a send that may be repeated.
    pub again: Option<Duration>,
    /// When the gateway first said that it had seen this nonce before: no later copy can have an effect.
    pub nonce_used: Option<Duration>,
    /// The last error.
    pub last: Option<CallError>,
    /// The cloud refused it for good. An earlier copy may have been accepted all the same.
    pub refused: Option<CallError>,
}

/// First pause after a send that may be repeated; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Sends {
    /// After one more send, which ended at `now` of the monotonic clock.
    pub fn after(&self, outcome: &Outcome, now: Duration) -> Self {
        let mut sends = Self { count: self.count.saturating_add(1), ended: Some(now), ..self.clone() };
        let error = match outcome {
            Outcome::Accepted { .. } => return sends,
            Outcome::Rejected(error) | Outcome::Unknown(error) => error,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.count.min(8)).min(LONGEST_PAUSE);
        sends.again = Some(now.saturating_add(pause.max(error.retry_after.unwrap_or_default())));
        match verdict(outcome) {
            Verdict::Refused => sends.refused = Some(error.clone()),
            Verdict::PutOff if on(Bad::EpochByThrottle) => sends.nonce_used = Some(now),
            Verdict::Unknown if error.is(code::SIGNATURE_NONCE_USED) => {
                sends.nonce_used = sends.nonce_used.or(Some(now));
            }
            _ => {}
        }
        sends.last = Some(error.clone());
        sends
    }
}

/// What one send's outcome says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The job exists.
    Taken,
    /// Surely no job came of this send, and none will of its like.
    Refused,
    /// Surely no job came of this send; the same request may be taken later.
    PutOff,
    /// Surely no job came of this send, because there is one already: perhaps an earlier send's.
    Guarded,
    /// A job may have come of it.
    Unknown,
}

/// What one send's outcome says. The natural guards of verifications and dynamic jobs (ota-api: section 12) are told
/// apart: they may speak of our own job.
pub fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted { .. } => Verdict::Taken,
        Outcome::Rejected(error) if error.class == Class::Done => Verdict::Guarded,
        Outcome::Rejected(error) if error.class == Class::Terminal => Verdict::Refused,
        Outcome::Rejected(_) => Verdict::PutOff,
        Outcome::Unknown(_) => Verdict::Unknown,
    }
}

/// The look-up of a claim's tag over full listings of the package's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The last full listings without the tag, oldest first, each at least the lag after the one before.
    pub empty: Vec<Empty>,
    /// Jobs that carry the tag, oldest first.
    pub found: Vec<Found>,
}

/// A full listing without the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// When it was asked for, by the monotonic clock.
    pub asked: Duration,
    /// The cloud's `Date` in its answer.
    pub date: Option<Timestamp>,
}

impl Lookup {
    /// How many empty listings were asked for at or after an instant of the monotonic clock.
    pub fn empty_since(&self, instant: Duration) -> usize {
        self.empty.iter().filter(|e| e.asked >= instant).count()
    }

    /// How many empty listings were answered at or after an instant of the cloud's clock.
    pub fn empty_by_date(&self, instant: Timestamp) -> usize {
        self.empty.iter().filter(|e| e.date.is_some_and(|d| d >= instant)).count()
    }
}

/// A job found by its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// JobId.
    pub id: JobId,
    /// Its UtcCreate.
    pub utc_create: Option<Timestamp>,
    /// It has not ended.
    pub live: bool,
}

/// The jobs of a package that have not ended and carry the tag `fota.id`, whoever made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which package.
    pub firmware: FirmwareId,
    /// When they were asked for, by the monotonic clock.
    pub asked: Duration,
    /// None can be missing: the listing was full, and the tags of every job that has not ended are known.
    pub complete: bool,
    /// The jobs, oldest first.
    pub jobs: Vec<Tagged>,
}

/// A job that carries the tag `fota.id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// JobId.
    pub id: JobId,
    /// The tag's value.
    pub token: String,
    /// ProductKey; empty if the service left it out.
    pub product_key: String,
    /// Its UtcCreate.
    pub utc_create: Option<Timestamp>,
}

/// A job that a person wants adopted.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposed {
    /// JobId, as the person wrote it.
    pub id: JobId,
    /// QueryOTAJob's answer, or what the cloud said instead.
    pub job: Result<Job, String>,
}

/// The answer of QueryOTAJob as status shows it.
pub fn view(job: &Job) -> JobView {
    let time = |t: Option<Timestamp>| t.map(Time);
    // To the schema's bounds: a name without end must not make the status one that the API server refuses.
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let some = |text: &Option<String>, most: usize| text.as_deref().map(|text| cut(text, most));
    JobView {
        name: some(&job.name, 128),
        job_desc: some(&job.desc, 256),
        dest_version: some(&job.dest_version, 64),
        job_status: cut(job.status.as_str(), 32),
        job_type: cut(job.job_type.as_str(), 32),
        selection_type: cut(&job.selection_type, 32),
        target_selection: cut(&job.target_selection, 32),
        utc_create: time(job.utc_create),
        utc_modified: time(job.utc_modified),
        utc_start_time: time(job.utc_start),
        utc_end_time: time(job.utc_end),
        utc_schedule_time: time(job.utc_schedule),
        utc_schedule_finish_time: time(job.utc_schedule_finish),
        src_versions: job.src_versions.iter().take(10).map(|version| cut(version, 64)).collect(),
        gray_percent: some(&job.gray_percent, 16),
        dynamic_mode: job.dynamic_mode,
        retry_interval: job.retry_interval,
        retry_count: job.retry_count,
        timeout_in_minutes: job.timeout_in_minutes,
        maximum_per_minute: job.maximum_per_minute,
        overwrite_mode: job.overwrite_mode,
        need_push: job.need_push,
        need_confirm: job.need_confirm,
        multi_module_mode: job.multi_module_mode,
        download_protocol: some(&job.download_protocol, 16),
        group_id: some(&job.group_id, 128),
        group_name: some(&job.group_name, 128),
    }
}

/// A length of time for a person: whole seconds, largest units first.
pub fn spell(length: Duration) -> String {
    Span::from_duration(Duration::from_secs(length.as_secs().max(1))).to_string()
}
