//! `FirmwareRollout`'s status: where the rollout is, what its jobs answered, why it waits.
//!
//! It is also the operator's memory: the claim written here before a create is what makes a crash harmless. Nothing
//! that would have to be guessed again after a restart may live elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Percent, Signature, Span, Time};

pub use super::job_view::JobView;

/// Written by the controller only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareRolloutStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Hash of {productKey, firmware as written, sourceVersions} of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub revision: Option<String>,
    /// Counts the runs of this object; a new revision starts a new one. Never goes back.
    #[serde(default)]
    pub run: i64,
    /// The package of the run, pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<PinnedFirmware>,
    /// Settings with every default resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// The stage that the run is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub step: Option<String>,
    /// Every device exposed by this run, counted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last judgement of the current stage's gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// Why the rollout waits, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// A create that was promised and whose job is not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Paused by the annotation `fota.dev/pause`; `fota.dev/resume` ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The last value of each command annotation that was acted upon: a value acts once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub handled: BTreeMap<String, String>,
    /// The stages that were reached, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<StageStatus>,
    /// Jobs that carry the tag of a part of this rollout which has another job: their pending tasks are cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub duplicates: Vec<Duplicate>,
    /// JobIds beside the run's own that are left alone: jobs of this object's earlier runs, and those of other owners that
    /// a person said to go on beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    pub beside: Vec<String>,
    /// Policies of earlier runs that stand until this run's firmware has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub standing: Vec<StandingPolicy>,
    /// Why the last value of `fota.dev/adopt` was not obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub adopt_refused: Option<String>,
    /// The last run that completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_completed: Option<LastCompleted>,
    /// Ready, Reconciling, Stalled (kstatus).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing was started yet.
    Pending,
    /// Test devices take the package.
    Verifying,
    /// A gray step runs.
    Gray,
    /// Everyone.
    Full,
    /// Every stage passed.
    Completed,
    /// Suspended, or paused by command.
    Paused,
    /// A gate failed, or the verification did.
    Failed,
    /// A person stopped it.
    Aborted,
    /// Other firmware replaces it: its pending tasks are being cancelled, and it is not taken up again, whatever the spec
    /// says by then.
    Superseded,
}

impl Phase {
    /// Every phase, in the order in which a rollout goes through them.
    pub const ALL: &[Self] = &[
        Self::Pending,
        Self::Verifying,
        Self::Gray,
        Self::Full,
        Self::Completed,
        Self::Paused,
        Self::Failed,
        Self::Aborted,
        Self::Superseded,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Verifying => "Verifying",
            Self::Gray => "Gray",
            Self::Full => "Full",
            Self::Completed => "Completed",
            Self::Paused => "Paused",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
            Self::Superseded => "Superseded",
        }
    }

    /// The run is over, one way or the other, and the next one has not begun.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Aborted)
    }

    /// The run was stopped short: its pending tasks are cancelled, and nothing more is created before a retry or the next
    /// run.
    pub const fn is_given_up(self) -> bool {
        matches!(self, Self::Failed | Self::Aborted | Self::Superseded)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The package of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedFirmware {
    /// FirmwareId.
    #[schemars(length(max = 128))]
    pub id: String,
    /// DestVersion.
    #[schemars(length(max = 64))]
    pub version: String,
    /// ModuleName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub module: Option<String>,
}

/// Settings with every default resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The account's `listLag`.
    pub list_lag: Span,
    /// SrcVersion.N of the run's jobs; none: any version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 64)))]
    pub source_versions: Vec<String>,
    /// Settings of the stages.
    #[schemars(length(max = 24), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<EffectiveStage>,
}

/// A stage's settings with every default resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStage {
    /// Stage name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// MaximumPerMinute.
    pub maximum_per_minute: i32,
    /// Share of the devices pushed to that must have succeeded or failed.
    pub decided_percent: Percent,
    /// Least number of decided devices; absent: min(50, pushed), at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_decided: Option<i32>,
    /// Most that may fail.
    pub max_failure_percent: Percent,
    /// Least age of the job.
    pub mature_after: Span,
    /// How long the gate must have held.
    pub soak: Span,
    /// When a device counts as silent.
    pub silent_after: Span,
    /// Hash of whom it targets, as declared; once it has started: as it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub targets: Option<String>,
    /// Hash of its delivery, as declared; once it has started: as it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub delivery: Option<String>,
}

/// Devices by class; each counts once, in the first class that fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The device reported the new version.
    pub at_target: i64,
    /// It reported progress.
    pub in_progress: i64,
    /// Pushed to; no sign yet.
    pub notified: i64,
    /// Pushed to; no sign for `silentAfter`.
    pub silent: i64,
    /// Not pushed to: offline, rate-limited or unconfirmed.
    pub queued: i64,
    /// The device reported a failure.
    pub failed: i64,
    /// It began and did not end in time.
    pub timed_out: i64,
    /// It was busy with another task and never got this one.
    pub conflict: i64,
    /// Its task was cancelled.
    pub cancelled: i64,
}

impl Ledger {
    /// Every device in it.
    pub const fn exposed(&self) -> i64 {
        self.pushed() + self.queued + self.conflict + self.cancelled
    }

    /// Devices that were pushed to and whose task was not cancelled.
    pub const fn pushed(&self) -> i64 {
        self.decided() + self.in_progress + self.notified + self.silent
    }

    /// Devices that came to an end.
    pub const fn decided(&self) -> i64 {
        self.at_target + self.failed + self.timed_out
    }

    /// Devices that may still change without anybody's doing.
    pub const fn open(&self) -> i64 {
        self.in_progress + self.notified + self.silent
    }
}

/// The run's ledger and how it compares with the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Devices by class.
    #[serde(flatten)]
    pub ledger: Ledger,
    /// Sum of all classes.
    pub exposed: i64,
    /// failed + timedOut.
    pub failed_total: i64,
    /// A lower bound of the devices eligible when the first percent step began; the cloud tells no exact number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible_at_least: Option<i64>,
    /// Devices beyond the declared share: they joined the fleet later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overshoot: Option<i64>,
    /// When it was counted, by the cloud's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
    /// Hash of the job counts that it was counted from: where they moved on since, it is counted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub basis: Option<String>,
}

/// The last judgement of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Whose gate.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Pass, Hold or Fail.
    pub result: GateResult,
    /// Devices that succeeded or failed.
    pub decided: i64,
    /// Devices pushed to.
    pub pushed: i64,
    /// Failure percent of the decided ones, three decimals; absent while nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub failure_percent: Option<String>,
    /// Its limit.
    pub max_failure_percent: Percent,
}

/// A gate's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateResult {
    /// The next stage may start.
    Pass,
    /// Not yet.
    Hold,
    /// Never: the rollout stops.
    Fail,
}

/// Why the rollout waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// One CamelCase word, the same as the condition's reason.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence for a person.
    #[schemars(length(max = 512))]
    pub because: String,
    /// Not before, by the cloud's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Time>,
    /// Everything that is still missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 160)))]
    pub missing: Vec<String>,
}

/// A create that was promised. Written, with the resourceVersion that was decided upon, before the create is sent;
/// whoever executes it sends exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// `status.run` that it belongs to.
    pub run: i64,
    /// Stage name.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Attempt of the stage, from 1.
    pub attempt: i32,
    /// Part of the attempt, from 1.
    pub part: i32,
    /// Counts claims of the same part, from 1.
    pub epoch: i32,
    /// When it was claimed; the call's `Timestamp`.
    pub at: Time,
    /// Value of the tag `fota.id`: hash(uid, run, stage, attempt, part).
    #[schemars(length(max = 32))]
    pub token: String,
    /// Devices of this run's gray jobs that had succeeded by then: the planner needs it when the job is recorded.
    #[serde(default)]
    pub succeeded_before: i64,
    /// A copy of it may have been sent whose end nobody saw. Written before anybody without its ticket sends it; until
    /// then whoever holds the ticket may still withdraw it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent: bool,
    /// The call.
    pub call: Call,
}

/// The dynamic job of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandingPolicy {
    /// JobId.
    #[schemars(length(max = 128))]
    pub id: String,
    /// The run that made it.
    pub run: i64,
    /// The version that it gives.
    #[schemars(length(max = 64))]
    pub version: String,
}

/// A job that there should not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Duplicate {
    /// JobId.
    #[schemars(length(max = 128))]
    pub id: String,
    /// The stage whose tag it carries.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// None of its tasks is in a state that is cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// One create call, complete but for its signature and device names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// `Action`.
    #[schemars(length(max = 64))]
    pub operation: String,
    /// Wire parameters by exact name, without device names.
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: BTreeMap<String, String>,
    /// The device names, by digest: they are taken from the spec, or from where it says, and must reproduce it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceList>,
    /// The names go along as a list file (`DnListFileUrl`): it is uploaded for each send, so the call cannot be repeated as
    /// it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list_file: bool,
    /// FirmwareId.
    #[schemars(length(max = 128))]
    pub firmware_id: String,
    /// Where it is sent.
    #[schemars(length(max = 300))]
    pub endpoint: String,
    /// RegionId, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// IotInstanceId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub instance_id: Option<String>,
    /// Digest of the access key id.
    #[schemars(length(max = 32))]
    pub access_key: String,
    /// How it is signed; absent in claims of versions that knew V1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Device names by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceList {
    /// How many.
    pub count: i32,
    /// Of the names in order.
    #[schemars(length(max = 64))]
    pub digest: String,
}

/// One stage of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// `verify`, the gray step's name, or `full`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// What kind of stage it was when it started.
    pub kind: StageKind,
    /// Where it is.
    pub state: StageState,
    /// Why it is there, when that is not plain: AlreadyVerified, NothingToAdd, GateFailed…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The sentence that goes with the reason; says which number broke which limit when a gate failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Attempt, from 1. Never goes back.
    pub attempt: i32,
    /// Last epoch claimed in this attempt; 0: none yet.
    #[serde(default)]
    pub epoch: i32,
    /// Cumulative share declared when it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Since when everything but the soak holds, by the cloud's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaking_since: Option<Time>,
    /// When it ended, by the cloud's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// The cloud's refusal of its last create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// What its later attempts retry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub retries: Vec<RetryList>,
    /// Its jobs, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub jobs: Vec<JobStatus>,
}

/// The devices that an attempt retries: those whose tasks of the attempt before had failed or were cancelled by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryList {
    /// The attempt that retries them.
    pub attempt: i32,
    /// Their names, by digest: the cloud's task lists must reproduce it.
    pub devices: DeviceList,
    /// When the last of those tasks had ended, by the cloud's clock: what ended later is not in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Kinds of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StageKind {
    /// Verification on test devices.
    Verify,
    /// A percentage of the fleet.
    Percent,
    /// Named devices.
    Devices,
    /// A device group.
    Group,
    /// Everyone who is left.
    Full,
    /// A standing policy.
    Dynamic,
}

impl StageKind {
    /// A step of `spec.gray`: a part of the fleet.
    pub const fn is_gray(self) -> bool {
        matches!(self, Self::Percent | Self::Devices | Self::Group)
    }

    /// `spec.full`: nothing comes after it.
    pub const fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::Dynamic)
    }
}

/// States of a stage. Legal transitions: `rollout::stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StageState {
    /// Reached; no job and no claim.
    Pending,
    /// A create was promised.
    Claimed,
    /// Its job is recorded and runs.
    Running,
    /// Everything but the soak holds.
    Soaking,
    /// The next stage may start.
    Passed,
    /// It was not needed.
    Skipped,
    /// Its gate failed.
    Failed,
    /// A person stopped the run while it was in this stage.
    Aborted,
}

impl fmt::Display for StageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the cloud said when it refused a create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Its code.
    #[schemars(length(max = 128))]
    pub code: String,
    /// Its text, cleaned.
    #[schemars(length(max = 256))]
    pub message: String,
    /// Its RequestId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub request_id: Option<String>,
    /// `metadata.generation` that was refused; an edit tries again.
    pub generation: i64,
    /// How often in a row.
    pub count: i32,
    /// Not before; absent: not before an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// JobId.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Attempt of the stage.
    pub attempt: i32,
    /// Part of the attempt.
    pub part: i32,
    /// Its `fota.id`.
    #[schemars(length(max = 32))]
    pub token: String,
    /// UtcCreate of the create's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_create: Option<Time>,
    /// RequestId of the create's answer; absent when the job was found again by its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub request_id: Option<String>,
    /// GrayPercent as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_percent: Option<Percent>,
    /// Devices of earlier gray jobs that had succeeded when this one was claimed.
    #[serde(default)]
    pub succeeded_before: i64,
    /// Tasks in all, once that number had stopped growing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// Tasks cancelled before the stage drained; the later ones are our own leftovers, which were never pushed.
    #[serde(default)]
    pub cancelled_before: i64,
    /// Task counts of the last reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Ledger>,
    /// Tasks that changed state while they were counted; `counts` has them as in progress. No gate passes on such counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moving: i64,
    /// Its tasks that were never pushed are being cancelled by us, or were: written before the first cancel is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// The cloud does not know it any more; what was open in it counts as cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// How much of what somebody else cancelled in it was accepted, by a person or by `onExternalChange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<AcceptedChange>,
    /// What QueryOTAJob last answered: in full of each stage's last one or two jobs, the eight youngest in all; of other
    /// jobs of a stage's present attempt in brief.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<JobView>,
}

/// What somebody else did to a job, accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedChange {
    /// Tasks that were cancelled by then.
    pub cancelled: i64,
    /// The job as a whole was cancelled or gone by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A run that completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastCompleted {
    /// Its revision.
    #[schemars(length(max = 32))]
    pub revision: String,
    /// Its number.
    pub run: i64,
    /// Its package.
    pub firmware: PinnedFirmware,
    /// When, by the cloud's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}
