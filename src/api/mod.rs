//! What users write and read: the two custom resources, field by field.
//!
//! Here belongs the shape of `spec` and `status`, what the API server refuses (schema and CEL), and the small value
//! types those fields are made of. Decisions, defaults and calls to the cloud never come in here.
//!
//! Rules of this room, learnt from kube and the API server: no schema defaults in a spec (they would show as a diff in
//! Argo CD; defaults are resolved by `rollout::effective` and shown in `status.effective`), no tagged enums (one-ofs are
//! Options plus a CEL rule, whose message is for a person), a bound on every list and string (CEL's cost is computed
//! from bounds), and `skip_serializing_if` on every Option.

pub mod account;
pub mod condition;
pub mod delivery;
#[cfg(test)]
mod fuzz;
pub mod job_view;
pub mod percent;
pub mod rollout;
pub mod span;
pub mod status;
pub mod time;

pub use account::{OTAAccount, OTAAccountSpec, OTAAccountStatus, Replay, Signature};
pub use condition::Condition;
pub use percent::Percent;
pub use rollout::{FirmwareRollout, FirmwareRolloutSpec};
pub use span::Span;
pub use status::FirmwareRolloutStatus;
pub use time::Time;

/// Field manager of everything the controller applies, and prefix of its finalizers and annotations.
pub const FIELD_MANAGER: &str = "fota";
/// Field manager of what `fota doctor` found, in an account's status.
pub const DOCTOR_FIELD_MANAGER: &str = "fota-doctor";
/// Finalizer on a rollout: held while it may have jobs whose pending tasks must be cancelled.
pub const FINALIZER: &str = "fota.dev/jobs";
/// Finalizer on an account: held while rollouts may have jobs in it.
pub const IN_USE: &str = "fota.dev/in-use";
/// Annotation, token-valued: release a deleted rollout without cancelling its jobs.
pub const ORPHAN: &str = "fota.dev/orphan";
/// Annotation, token-valued: start and promote nothing until `resume`.
pub const PAUSE: &str = "fota.dev/pause";
/// Annotation, token-valued: go on after `pause`.
pub const RESUME: &str = "fota.dev/resume";
/// Annotation, token-valued: cancel what is pending and start nothing more until `retry` or new firmware.
pub const ABORT: &str = "fota.dev/abort";
/// Annotation, token-valued: try again what failed, was aborted, or needs a person's word.
pub const RETRY: &str = "fota.dev/retry";
/// Annotation: the JobId of a job that this rollout shall take for an unanswered create's, or over from another owner.
pub const ADOPT: &str = "fota.dev/adopt";
/// Key of the tag that every create carries. Users cannot set it.
pub const TAG_KEY: &str = "fota.id";
/// Stage name of the verification.
pub const VERIFY: &str = "verify";
/// Stage name of the last stage.
pub const FULL: &str = "full";
