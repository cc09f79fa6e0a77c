//! What QueryOTAJob answered, as status shows it: one field per field of the answer. What is made of it never comes in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// QueryOTAJob's `Data` (ota-api: section 6.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // one field per field of the answer, by its name
pub struct JobView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub job_desc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub dest_version: Option<String>,
    #[schemars(length(max = 32))]
    pub job_status: String,
    #[schemars(length(max = 32))]
    pub job_type: String,
    #[schemars(length(max = 32))]
    pub selection_type: String,
    #[schemars(length(max = 32))]
    pub target_selection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_create: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_modified: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_start_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_end_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_schedule_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_schedule_finish_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 64)))]
    pub src_versions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub gray_percent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_mode: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_in_minutes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_per_minute: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite_mode: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_push: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_confirm: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_module_mode: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub download_protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub group_name: Option<String>,
}

/// The fields of QueryOTAJob's answer, and where in a rollout's status each is shown (`…`: `status.stages[].jobs[]`).
pub const ANSWER: &[(&str, &str)] = &[
    ("JobId", "….id"),
    ("FirmwareId", "status.firmware.id"),
    ("ProductKey", "spec.productKey"),
    ("Tags", "….token, delivery.tags; a job without our tag is not ours"),
    ("Name", "….view.name"),
    ("JobDesc", "….view.jobDesc"),
    ("DestVersion", "….view.destVersion"),
    ("JobStatus", "….view.jobStatus"),
    ("JobType", "….view.jobType"),
    ("SelectionType", "….view.selectionType"),
    ("TargetSelection", "….view.targetSelection"),
    ("UtcCreate", "….view.utcCreate"),
    ("UtcModified", "….view.utcModified"),
    ("UtcStartTime", "….view.utcStartTime"),
    ("UtcEndTime", "….view.utcEndTime"),
    ("UtcScheduleTime", "….view.utcScheduleTime"),
    ("UtcScheduleFinishTime", "….view.utcScheduleFinishTime"),
    ("SrcVersions", "….view.srcVersions"),
    ("GrayPercent", "….view.grayPercent"),
    ("DynamicMode", "….view.dynamicMode"),
    ("RetryInterval", "….view.retryInterval"),
    ("RetryCount", "….view.retryCount"),
    ("TimeoutInMinutes", "….view.timeoutInMinutes"),
    ("MaximumPerMinute", "….view.maximumPerMinute"),
    ("OverwriteMode", "….view.overwriteMode"),
    ("NeedPush", "….view.needPush"),
    ("NeedConfirm", "….view.needConfirm"),
    ("MultiModuleMode", "….view.multiModuleMode"),
    ("DownloadProtocol", "….view.downloadProtocol"),
    ("GroupId", "….view.groupId"),
    ("GroupName", "….view.groupName"),
];
