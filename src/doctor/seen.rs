//! What an examination saw, as plain values. How it was seen belongs to `examine`, what it means to `judge`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use crate::api::{Percent, Replay};
use crate::ota::{CallError, Firmware, FirmwareId, JobId, Operation};

/// What the account's spec says, as far as findings depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// Where calls go.
    pub endpoint: String,
    /// `IotInstanceId`.
    pub instance_id: Option<String>,
    /// The product that was asked about.
    pub product_key: String,
    /// `spec.replay`.
    pub replay: Option<Replay>,
    /// `spec.listLag`.
    pub list_lag: Option<Duration>,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The clocks and the traffic of all calls.
    pub traffic: Traffic,
    /// The first call, which needs no id; none: it was not made.
    pub first: Option<Result<(), CallError>>,
    /// One harmless call of each action.
    pub actions: BTreeMap<Operation, Result<(), CallError>>,
    /// A job that came of a create that names no package: nobody can rely on anything here.
    pub impossible_job: Option<JobId>,
    /// Requests that were sent twice as they were.
    pub repeated: Vec<Repeated>,
    /// The product's packages; none: not asked.
    pub packages: Option<Result<Vec<Firmware>, CallError>>,
    /// The package that was asked about.
    pub firmware: Option<(FirmwareId, Result<Firmware, CallError>)>,
    /// Jobs of which it is known that they carry a tag of ours.
    pub tagged: Vec<Tagged>,
    /// Two gray jobs of one package in a row.
    pub grays: Vec<GrayPair>,
    /// The verify job.
    pub laboratory: Laboratory,
}

/// What all calls together showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests that were answered at all.
    pub answered: u32,
    /// How many of them the quota refused.
    pub throttled: u32,
    /// The clocks, by the quickest exchange.
    pub skew: Option<Skew>,
}

/// How far the cloud's clock is ahead of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Negative: behind.
    pub ahead: SignedDuration,
    /// By how much that may be wrong.
    pub give_or_take: SignedDuration,
}

/// One request, sent twice with the same nonce and timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// Which, and how.
    pub way: Way,
    /// The answer to the first copy.
    pub first: Reply,
    /// The answer to the second.
    pub second: Reply,
}

/// How a request was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A read, after its answer.
    Read,
    /// A read, both copies under way together.
    Together,
    /// The first read once more, when everything else was done.
    Later,
    /// A read that is refused: of a job that there is not.
    Refused,
    /// The create of the verify job, after its answer.
    Create,
}

/// What was answered to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was carried out.
    Done,
    /// `SignatureNonceUsed`.
    NonceUsed,
    /// The product refused it: the gateway had let it through.
    Refused,
    /// The quota refused it.
    Throttled,
    /// Anything else, or nothing.
    Unclear,
}

/// A job with a tag of ours, and who shows it; none: not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// Which job.
    pub job: JobId,
    /// Whether ListOTAJobByFirmware shows the tag.
    pub listed: Option<bool>,
    /// Whether QueryOTAJob shows it.
    pub queried: Option<bool>,
}

/// Two gray jobs of one package, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrayPair {
    /// The earlier one.
    pub earlier: Gray,
    /// The later one.
    pub later: Gray,
    /// Devices that the package's jobs brought to the target between the two creations.
    pub updated_between: u64,
}

/// One gray job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gray {
    /// Which.
    pub job: JobId,
    /// Its GrayPercent; more than 0.
    pub percent: Percent,
    /// Its tasks.
    pub total: u64,
}

/// What became of the verify job.
#[derive(Debug, Clone, Default)]
pub enum Laboratory {
    /// Nobody asked for one, or there was no getting so far.
    #[default]
    NotAsked,
    /// There is no package for it, and why.
    Impossible(String),
    /// The cloud refused it, or nobody knows whether it exists.
    Failed(CallError),
    /// It was made.
    Made(VerifyJob),
}

/// The verify job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyJob {
    /// Its id.
    pub job: JobId,
    /// Its package.
    pub firmware: FirmwareId,
    /// From sending its create to the last listing without it.
    pub absent: Duration,
    /// From sending its create to the first of several listings in a row with it; none: it was in none within `watched`.
    pub listed_after: Option<Duration>,
    /// How long the listings were read.
    pub watched: Duration,
    /// Whether its pending tasks were cancelled.
    pub cancelled: bool,
}
