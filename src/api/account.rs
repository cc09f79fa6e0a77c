//! `OTAAccount`: which cloud, which instance, whose keys.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Span, Time};

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
    /// Whether a create that got no answer may be sent again as it was: `Nonce` where the cloud's gateway refuses the
    /// second copy, `Settle` (the default until `fota doctor` has found out) where nobody knows: then its outcome is
    /// only looked up, once no copy of it can arrive any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// How requests are signed: V1 (HMAC-SHA1), the default with a Secret, as every endpoint of this kind of API knows it;
    /// or V3 (ACS3-HMAC-SHA256), the default with the operator's own identity, as it keeps the STS token out of the URL. A
    /// create that got no answer is repeated as it was signed, whatever this says by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Who shares this account's quota, and so one owner among the operator's replicas. Default: the access key id.
    /// Accounts with different keys of one cloud account should name the same group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("must be lower-case letters, digits and '-', such as prod-shanghai"))]
    pub quota_group: Option<String>,
    /// Which edition of the API this account is served: rules that differ are checked before a call. Default Current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_edition: Option<Edition>,
}

/// Which edition of the API an account is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Edition {
    /// The one that the vendor documents now.
    Current,
    /// The older one: tag values to 128 characters, at most 1000 devices a minute, source versions required.
    Legacy,
}

/// How requests are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Signature {
    /// HMAC-SHA1 over the parameters.
    #[default]
    V1,
    /// ACS3-HMAC-SHA256 over the request, headers included.
    V3,
}

/// What may be done about a create that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Replay {
    /// The identical request is sent again: the gateway refuses a nonce that it has seen.
    Nonce,
    /// Nothing is sent again: wait until no copy can arrive any more, then look.
    Settle,
}

/// Where the access keys come from: exactly one of these.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(has(self.secretRef) ? 1 : 0) + (has(self.workloadIdentity) ? 1 : 0) + (has(self.operator) ? 1 : 0) == 1")
    .message("give exactly one of secretRef, workloadIdentity and operator"))]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSource {
    /// A Secret of the same namespace with the keys `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`
    /// and, for STS, `ALIBABA_CLOUD_SECURITY_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A RAM role that trusts the operator's ServiceAccount (RRSA). Only in namespaces that the operator's flag
    /// `--own-identity-namespaces` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// The identity in the operator's own environment. Only in namespaces that `--own-identity-namespaces` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorIdentity>,
}

/// A RAM role whose keys are lent against the operator's OIDC token.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The role, for example `acs:ram::1234567890123456:role/ota-operator`.
    #[schemars(length(min = 1, max = 256))]
    pub role_arn: String,
    /// The OIDC identity provider of the cluster, for example `acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0000`.
    #[schemars(length(min = 1, max = 256))]
    pub oidc_provider_arn: String,
    /// What the cloud's audit calls the session. Default: `fota-` and the account's namespace and name, cut to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9.@_-]+$')")
        .message("must be letters, digits and . @ _ -"))]
    pub session_name: Option<String>,
    /// How long keys are lent, 15m to 12h. Default 1h; the role may allow less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || \
            (duration(self) >= duration('15m') && duration(self) <= duration('12h'))")
        .message("duration must be 15m to 12h"))]
    pub duration: Option<Span>,
    /// The host that lends them. Default: `sts.aliyuncs.com`, or what the operator's environment names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub sts_endpoint: Option<String>,
}

/// The identity in the operator's own environment: nothing to say about it here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorIdentity {}

/// The name of an object in the same namespace. It becomes part of a URL of the API server, so nothing may be in it that
/// would lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("must be the name of an object such as prod-keys"))]
    pub name: String,
}

/// What the controller found out about the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OTAAccountStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; while it is being deleted and in use also `Deleting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The first time that this account showed a tag of ours on a job: from then on a look-up by tag proves something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_echo: Option<TagEcho>,
    /// What `fota doctor` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<Diagnosis>,
}

/// A tag of ours was seen on a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagEcho {
    /// Digest of endpoint, instance and access key: of another account it would prove nothing.
    #[schemars(length(max = 32))]
    pub subject: String,
    /// The operation whose answer carried it.
    #[schemars(length(max = 64))]
    pub operation: String,
    /// When.
    pub at: Time,
}

/// What `fota doctor` found out about an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Digest of endpoint, instance and access key that it speaks of.
    #[schemars(length(max = 32))]
    pub subject: String,
    /// When it was made.
    pub at: Time,
    /// What `spec.replay` is where it is not set; absent: not found out, which counts as Settle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// What `spec.listLag` is where it is not set; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_lag: Option<Span>,
    /// One line for each assumption.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether an assumption holds, by the name of its finding.
    pub fn holds(&self, name: &str) -> Holds {
        self.findings.iter().find(|f| f.name == name).map_or(Holds::Unknown, |f| f.holds)
    }
}

/// Names of findings.
pub mod finding {
    /// Somebody who speaks the OTA API answers at the endpoint.
    pub const ENDPOINT: &str = "Endpoint";
    /// The cloud takes the access key.
    pub const KEYS: &str = "Keys";
    /// The instance id is right, or rightly missing.
    pub const INSTANCE: &str = "Instance";
    /// The product has packages that the account sees.
    pub const PRODUCT: &str = "Product";
    /// The package that was asked about is there.
    pub const PACKAGE: &str = "Package";
    /// The account's quota leaves room.
    pub const QUOTA: &str = "Quota";
    /// The cloud's clock and ours agree.
    pub const CLOCK: &str = "Clock";
    /// The access key may call what rollouts call.
    pub const ACTIONS: &str = "Actions";
    /// The gateway refuses a second copy of a request.
    pub const NONCE_REPLAY: &str = "NonceReplay";
    /// QueryOTAJob shows a job's tags.
    pub const TAGS_QUERIED: &str = "TagsQueried";
    /// ListOTAJobByFirmware shows a job's tags.
    pub const TAGS_LISTED: &str = "TagsListed";
    /// How long a new job is missing from lists is known.
    pub const LIST_LAG: &str = "ListLag";
    /// GrayPercent is of the devices that are eligible when the job is made.
    pub const GRAY_BASE: &str = "GrayBase";
}

/// One assumption, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// One CamelCase word: Clock, Actions, NonceReplay, TagsQueried, TagsListed, ListLag, GrayBase…
    #[schemars(length(max = 64))]
    pub name: String,
    /// Whether it holds.
    pub holds: Holds,
    /// One sentence for a person.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Whether an assumption holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Holds {
    /// Seen to hold.
    Yes,
    /// Seen not to hold.
    No,
    /// Not tried, or without a clear result.
    Unknown,
}
