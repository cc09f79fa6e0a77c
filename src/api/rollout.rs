//! `FirmwareRollout`'s spec: what a team declares in Git.
//!
//! Cloud terms keep the cloud's meaning; everything else follows the Kubernetes API conventions.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::LocalRef;
use super::status::FirmwareRolloutStatus;
use super::{Percent, Span};

/// Brings one firmware to the devices of one product: verification, gray steps, then everyone.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "fota.dev",
    version = "v1alpha1",
    kind = "FirmwareRollout",
    plural = "firmwarerollouts",
    shortname = "fwr",
    namespaced,
    category = "fota",
    status = "FirmwareRolloutStatus",
    printcolumn = r#"{"name":"Firmware","type":"string","jsonPath":".status.firmware.version"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Exposed","type":"integer","jsonPath":".status.progress.exposed"}"#,
    printcolumn = r#"{"name":"Updated","type":"integer","jsonPath":".status.progress.atTarget"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.progress.failedTotal"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.next.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Waiting","type":"string","priority":1,"jsonPath":".status.next.because"}"#
)]
#[x_kube(
    validation = Rule::new("has(self.sourceVersions) != (has(self.anySourceVersion) && self.anySourceVersion)")
        .message("give exactly one of sourceVersions (the versions to upgrade from) and anySourceVersion: true (which \
                  would also take newer devices back to this version)"),
    validation = Rule::new("has(self.verify) || has(self.gray) || has(self.full)")
        .message("give at least one of verify, gray and full"),
)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareRolloutSpec {
    /// The OTAAccount, in the same namespace.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("accountRef cannot change: jobs of this rollout live in the old account; make a new FirmwareRollout"))]
    pub account_ref: LocalRef,
    /// ProductKey of the devices.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("productKey cannot change: make a new FirmwareRollout for the other product"))]
    pub product_key: String,
    /// The update package.
    pub firmware: FirmwareRef,
    /// SrcVersion.N: only devices at one of these versions are upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub source_versions: Option<Vec<String>>,
    /// Upgrade from any version; also takes devices at newer versions back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_source_version: Option<bool>,
    /// Start nothing new and promote nothing. A running job goes on: the cloud has no pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What a new firmware does to a run under way: `Replace` (the default) stops it and cancels its pending tasks, `Queue`
    /// lets it go on to its end first. Going back to the last completed firmware always stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<Supersede>,
    /// What is done when somebody else cancels a job of the stage that runs, or tasks of it, or removes it: `Pause` (the
    /// default) holds the rollout for a person, `Accept` goes on by the gate with what was decided, `Recreate` gives the
    /// devices that did not get there another job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_external_change: Option<OnExternalChange>,
    /// What deleting this rollout does to its jobs: `Cancel` (the default) their pending tasks, or `Orphan`: leave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Defaults for every upgrade job; a step may override them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// CreateOTAVerifyJob. Left out when the package needs no verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// CreateOTAStaticUpgradeJob, step after step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 18),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    #[x_kube(
        validation = Rule::new("self.filter(g, has(g.percent)).map(g, double(g.percent)).isSorted()")
            .message("percent is the cumulative share of the fleet: it must grow from step to step, for example 1, 10, 50"),
        validation = Rule::new("self.all(a, !has(a.percent) || self.exists_one(b, has(b.percent) && double(b.percent) == double(a.percent)))")
            .message("percent is the cumulative share of the fleet: two steps with the same percent make the second \
                      add nothing; leave it out"),
    )]
    pub gray: Option<Vec<GrayStep>>,
    /// Everyone who is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
}

/// What a new firmware does to a run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Supersede {
    /// It is stopped, and its pending tasks are cancelled.
    Replace,
    /// It goes on to its end, with the steps that it was started with.
    Queue,
}

/// What is done when somebody else changes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExternalChange {
    /// Hold, and ask a person.
    Pause,
    /// Count what happened, and go on by the gate.
    Accept,
    /// Another attempt of the stage, once for each job.
    Recreate,
}

/// What deleting a rollout does to its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Their pending tasks are cancelled first.
    Cancel,
    /// They are left as they are.
    Orphan,
}

/// Which package: an id, or a version (with its module), or both, which must then agree with the cloud.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.id) || has(self.version)")
    .message("give firmware.id, or firmware.version (and module when it is not the default one)"))]
#[serde(rename_all = "camelCase")]
pub struct FirmwareRef {
    /// FirmwareId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id: Option<String>,
    /// DestVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub version: Option<String>,
    /// ModuleName; `default` when absent and the package is named by version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub module: Option<String>,
}

/// How an upgrade job reaches its devices.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.retry) || !has(self.deviceTimeout) || \
        !self.deviceTimeout.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || !(self.retry.interval in ['0s','10m','30m','60m','1h','1440m','24h']) || \
        duration(self.retry.interval) < duration(self.deviceTimeout)")
    .message("retry.interval must be less than deviceTimeout: the cloud refuses it otherwise"))]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// MaximumPerMinute: devices pushed to per minute, 10..=1000. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 1000))]
    pub maximum_per_minute: Option<i32>,
    /// TimeoutInMinutes, 1m..=24h, whole minutes. Starts at a device's first progress report. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || \
            (duration(self) >= duration('1m') && duration(self) <= duration('24h') && duration(self).getSeconds() % 60 == 0)")
        .message("deviceTimeout must be 1m to 24h in whole minutes"))]
    pub device_timeout: Option<Span>,
    /// Automatic retries of failed devices. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// OverwriteMode. Default Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<Overwrite>,
    /// Tag.N: pushed to the devices, so nothing secret belongs in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 9), transform = bound_tag_values)]
    #[x_kube(
        validation = Rule::new("self.all(k, k.matches('^[A-Za-z0-9.]{1,30}$'))")
            .message("a tag's key must be 1 to 30 letters, digits or dots"),
        validation = Rule::new("!('fota.id' in self)").message("the tag fota.id is the operator's own; choose another key"),
        validation = Rule::new("self.all(k, size(self[k]) > 0)").message("a tag's value must not be empty"),
        validation = Rule::new("self.map(k, size(k) + size(self[k])).sum() <= 4063")
            .message("keys and values of all tags together must not exceed 4063 characters"),
    )]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The cloud's bound on one tag's value (ota-api: section 5.1).
fn bound_tag_values(schema: &mut schemars::Schema) {
    schema.insert("additionalProperties".into(), serde_json::json!({"type": "string", "maxLength": 1024}));
}

/// RetryInterval and RetryCount.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often: 1, 2 or 5.
    #[x_kube(validation = Rule::new("self in [1, 2, 5]").message("retry.count must be 1, 2 or 5"))]
    pub count: i32,
    /// How long after a failure: 0s, 10m, 30m, 1h or 24h.
    #[x_kube(validation = Rule::new("self in ['0s','10m','30m','60m','1h','1440m','24h']")
        .message("retry.interval must be one of 0s, 10m, 30m, 1h, 24h"))]
    pub interval: Span,
}

/// What happens to a device's earlier task that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Overwrite {
    /// The earlier task stays; the device's new task fails at once (a conflict).
    Never,
    /// An earlier task that is still pending is cancelled; a running one never is.
    Pending,
}

/// The verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// TargetDeviceName.N: test devices of the product.
    #[schemars(length(min = 1, max = 10), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub devices: Vec<String>,
}

/// One gray step.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.percent) != has(self.devices)")
    .message("a gray step has exactly one of percent (cumulative share of the fleet) and devices (names)"))]
#[serde(rename_all = "camelCase")]
pub struct GrayStep {
    /// Its name, unique in the rollout.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("a step's name must be lower-case letters, digits and dashes"),
        validation = Rule::new("!(self in ['verify', 'full'])")
            .message("verify and full are the names of the first and the last stage; choose another"),
    )]
    pub name: String,
    /// Cumulative share of the eligible fleet once this step is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self > 0 : \
            !string(self).matches('^[0-9]{1,3}([.][0-9]{1,3})?$') || double(self) > 0.0")
        .message("a gray step's percent must be more than 0"))]
    pub percent: Option<Percent>,
    /// Named devices instead, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub devices: Option<Vec<String>>,
    /// What must hold before the NEXT stage may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Overrides of `spec.delivery`, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// What must hold before the next stage may start (for `full`: before the rollout counts as completed).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Share of the devices pushed to that must have succeeded or failed. Default 80, for full 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_percent: Option<Percent>,
    /// Least number of devices that must have succeeded or failed. Default min(50, pushed), at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_decided: Option<i32>,
    /// Most that may fail: (failed + timed out) / (succeeded + failed + timed out). Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failure_percent: Option<Percent>,
    /// Least age of the job: failures arrive later than successes. Default 4h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mature_after: Option<Span>,
    /// How long everything above must have held. Default 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<Span>,
    /// A device that was pushed to and showed no sign for this long counts as silent. Default 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_after: Option<Span>,
}

/// The last stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    /// One static job for everyone who is left.
    #[serde(rename = "static")]
    pub fixed: StaticFull,
    /// When it counts as done. Devices that are offline stay queued and never finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Overrides of `spec.delivery`, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// TargetSelection ALL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticFull {}
