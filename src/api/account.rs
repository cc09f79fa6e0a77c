//! `OTAAccount`: which cloud, which instance, whose keys.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Span};

/// A cloud account that rollouts use through `spec.accountRef`, in the same namespace.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "fota.dev",
    version = "v1alpha1",
    kind = "OTAAccount",
    plural = "otaaccounts",
    namespaced,
    category = "fota",
    status = "OTAAccountStatus",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Region","type":"string","jsonPath":".spec.region","priority":1}"#,
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = Rule::new("has(self.region) || has(self.endpoint)")
    .message("give region (for example cn-shanghai), or endpoint for another host"))]
#[serde(rename_all = "camelCase")]
pub struct OTAAccountSpec {
    /// Region id; the endpoint is then `https://iot.<region>.aliyuncs.com/`. Also sent as RegionId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9-]+$')").message("must be a region id such as cn-shanghai"))]
    pub region: Option<String>,
    /// Another endpoint: `host`, `host:port` or an https URL. The operator's flags say which hosts may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub endpoint: Option<String>,
    /// IotInstanceId: required by the cloud when the instance has an ID, refused when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub instance_id: Option<String>,
    /// Where the access keys come from.
    pub credentials: CredentialsSource,
    /// How long after a create its job may still be missing from lists. Default 30s; four times that after an
    /// unclear answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_lag: Option<Span>,
}

/// Where the access keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSource {
    /// A Secret of the same namespace with the keys `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`
    /// and, for STS, `ALIBABA_CLOUD_SECURITY_TOKEN`.
    pub secret_ref: LocalRef,
}

/// The name of an object in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the controller found out about the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OTAAccountStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
