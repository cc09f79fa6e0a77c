//! `FirmwareRollout`'s spec: what a team declares in Git.
//!
//! Cloud terms keep the cloud's meaning; everything else follows the Kubernetes API conventions.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::LocalRef;
use super::delivery::{Delivery, VerifyDelivery};
use super::status::FirmwareRolloutStatus;
use super::{Percent, Span, Time};

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
    validation = Rule::new("!has(self.sourceVersions) || !has(self.firmware.version) || !(self.firmware.version in self.sourceVersions)")
        .message("sourceVersions has firmware.version in it, and devices at that version have the firmware already: take it \
                  out"),
    validation = Rule::new("has(self.verify) || has(self.gray) || has(self.full)")
        .message("give at least one of verify, gray and full"),
    validation = Rule::new("!has(self.full) || !has(self.full.static) || !has(self.full.static.group) || !has(self.gray) || \
            self.gray.all(g, has(g.devices) || has(g.devicesFrom) || (has(g.group) && g.group.id == self.full.static.group.id))")
        .message("full is for one group only: a gray step may then name devices or that group, because a percent or \
                  another group would reach devices outside of it"),
    validation = Rule::new("!has(self.full) || !has(self.full.dynamic) || !has(self.full.dynamic.group) || !has(self.gray) || \
            self.gray.all(g, has(g.devices) || has(g.devicesFrom))")
        .message("full is for one dynamic group only: a gray step may then name devices only, because a percent or a static \
                  group would reach devices outside of it"),
    validation = Rule::new("!has(self.full) || !has(self.full.dynamic) || has(self.full.dynamic.group) || has(self.sourceVersions)")
        .message("full.dynamic needs sourceVersions, or a group: a standing policy for any version would take devices back \
                  to this one for ever"),
    validation = Rule::new("!has(self.delivery) || !has(self.gray) || self.gray.all(g, !has(g.delivery) || \
            !(has(g.delivery.multiModule) ? g.delivery.multiModule : has(self.delivery.multiModule) && self.delivery.multiModule) || \
            (has(g.delivery.overwrite) ? g.delivery.overwrite : has(self.delivery.overwrite) ? self.delivery.overwrite : 'Never') != 'Pending')")
        .message("with what a gray step takes from spec.delivery, it has multiModule: true and overwrite: Pending, which \
                  exclude each other: say overwrite: Never or multiModule: false in that step"),
    validation = Rule::new("!has(self.delivery) || !has(self.full) || !has(self.full.delivery) || \
            !(has(self.full.delivery.multiModule) ? self.full.delivery.multiModule : has(self.delivery.multiModule) && self.delivery.multiModule) || \
            (has(self.full.delivery.overwrite) ? self.full.delivery.overwrite : has(self.delivery.overwrite) ? self.delivery.overwrite : 'Never') != 'Pending'")
        .message("with what full takes from spec.delivery, it has multiModule: true and overwrite: Pending, which \
                  exclude each other: say overwrite: Never or multiModule: false in full.delivery"),
    validation = Rule::new("!has(self.delivery) || !has(self.gray) || self.gray.all(g, !has(g.delivery) || \
            !(has(g.delivery.retry) || has(self.delivery.retry)) || !(has(g.delivery.deviceTimeout) || has(self.delivery.deviceTimeout)) || \
            !(has(g.delivery.deviceTimeout) ? g.delivery.deviceTimeout : self.delivery.deviceTimeout).matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || \
            !((has(g.delivery.retry) ? g.delivery.retry.interval : self.delivery.retry.interval) in ['0s','10m','30m','60m','1h','1440m','24h']) || \
            duration(has(g.delivery.retry) ? g.delivery.retry.interval : self.delivery.retry.interval) < \
            duration(has(g.delivery.deviceTimeout) ? g.delivery.deviceTimeout : self.delivery.deviceTimeout))")
        .message("with what a gray step takes from spec.delivery, its retry.interval is not less than its deviceTimeout: \
                  give that step a longer deviceTimeout or a shorter retry.interval"),
    validation = Rule::new("!has(self.delivery) || !has(self.full) || !has(self.full.delivery) || \
            !(has(self.full.delivery.retry) || has(self.delivery.retry)) || !(has(self.full.delivery.deviceTimeout) || has(self.delivery.deviceTimeout)) || \
            !(has(self.full.delivery.deviceTimeout) ? self.full.delivery.deviceTimeout : self.delivery.deviceTimeout).matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || \
            !((has(self.full.delivery.retry) ? self.full.delivery.retry.interval : self.delivery.retry.interval) in ['0s','10m','30m','60m','1h','1440m','24h']) || \
            duration(has(self.full.delivery.retry) ? self.full.delivery.retry.interval : self.delivery.retry.interval) < \
            duration(has(self.full.delivery.deviceTimeout) ? self.full.delivery.deviceTimeout : self.delivery.deviceTimeout)")
        .message("with what full takes from spec.delivery, its retry.interval is not less than its deviceTimeout: \
                  give full.delivery a longer deviceTimeout or a shorter retry.interval"),
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

/// The verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// TargetDeviceName.N: test devices of the product.
    #[schemars(length(min = 1, max = 10), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub devices: Vec<String>,
    /// Overrides of `spec.delivery`, field by field, as far as a verification takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<VerifyDelivery>,
}

/// One gray step.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.percent), has(self.devices), has(self.devicesFrom), has(self.group)].filter(x, x).size() == 1")
    .message("a gray step has exactly one of percent (cumulative share of the fleet), devices (names), devicesFrom (a \
              ConfigMap with names) and group"))]
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
    /// Named devices out of a ConfigMap instead, at most 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_from: Option<DevicesFrom>,
    /// The devices of a static group instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// What must hold before the NEXT stage may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Overrides of `spec.delivery`, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// Where a list of device names is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevicesFrom {
    /// A key of a ConfigMap in the rollout's namespace: one name a line. Read when the step is reached; what is changed
    /// there afterwards does not apply.
    pub config_map_key_ref: KeyRef,
}

/// A key of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {} of ConfigMap {}", self.key, self.name)
    }
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
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.static) != has(self.dynamic)")
    .message("full has exactly one of static (one job for everyone who is left: write static: {}) and dynamic (a standing policy)"))]
#[serde(rename_all = "camelCase")]
pub struct Full {
    /// One static job for everyone who is left.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub fixed: Option<StaticFull>,
    /// A standing policy instead: it also takes devices that match later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicFull>,
    /// When it counts as done. Devices that are offline stay queued and never finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Overrides of `spec.delivery`, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// One static job: TargetSelection ALL, or GROUP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticFull {
    /// Only the devices of a static group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// When the job starts and ends. Absent: at once, and never by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// CreateOTADynamicUpgradeJob: devices that match are given the package until the policy is cancelled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicFull {
    /// DynamicMode. Default Always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DynamicMode>,
    /// When the policy is cancelled. Absent: new firmware, or deleting the rollout, ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Only the devices of a dynamic group, whatever their version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// Which devices a policy takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DynamicMode {
    /// Those that match now, and those that match later.
    Always,
    /// Only those that report a new version after the policy was made.
    OnReport,
}

/// A device group of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// GroupId.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,
}

/// When a static job runs. What depends on the clock is judged when the stage is reached: the start has to be 5 minutes
/// to 7 days ahead then.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.finish) || (self.finish - self.start >= duration('1h') && self.finish - self.start <= duration('720h'))")
    .message("schedule.finish must be 1 hour to 30 days after schedule.start"))]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// ScheduleTime.
    pub start: Time,
    /// ScheduleFinishTime: tasks that have not ended by then are cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Time>,
}
