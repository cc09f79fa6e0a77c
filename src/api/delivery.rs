//! How a job reaches its devices: the settings that the cloud takes with a create, as users write them.
//!
//! Shape, bounds and what the API server refuses. Defaults and wire parameters never come in here.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// How an upgrade job reaches its devices.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.retry) || !has(self.deviceTimeout) || \
            !self.deviceTimeout.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || !(self.retry.interval in ['0s','10m','30m','60m','1h','1440m','24h']) || \
            duration(self.retry.interval) < duration(self.deviceTimeout)")
        .message("retry.interval must be less than deviceTimeout: the cloud refuses it otherwise"),
    validation = Rule::new("!has(self.multiModule) || !self.multiModule || !has(self.overwrite) || self.overwrite != 'Pending'")
        .message("multiModule: true excludes overwrite: Pending (tasks of the same module are replaced anyway): leave one of them out"),
)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// NeedPush: push the package to devices that are online; `false`: a device has to ask for it. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// NeedConfirm: a device's task waits until it is confirmed by ConfirmOTATask. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<bool>,
    /// DownloadProtocol. Default HTTPS. MQTT takes packages of one file of at most 16 MB, in some regions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// MaximumPerMinute: devices pushed to per minute, 10..=10000; accounts of `apiEdition: Legacy` take at most 1000.
    /// Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10_000))]
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
    /// MultiModuleMode: a device may take packages of several modules at once. Only instances with an ID, and devices
    /// with C Link SDK 4.x. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_module: Option<bool>,
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

/// How the verification reaches its devices. What is left out comes from `spec.delivery`, but for `confirm`; rate,
/// retries and overwriting are not for verifications.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyDelivery {
    /// NeedPush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// NeedConfirm. Default false, whatever `spec.delivery` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<bool>,
    /// DownloadProtocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// TimeoutInMinutes, 1m..=24h, whole minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]{1,6}(ms|s|m|h)){1,4}$') || \
            (duration(self) >= duration('1m') && duration(self) <= duration('24h') && duration(self).getSeconds() % 60 == 0)")
        .message("deviceTimeout must be 1m to 24h in whole minutes"))]
    pub device_timeout: Option<Span>,
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

/// How devices download the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// From a URL.
    #[serde(rename = "HTTPS")]
    Https,
    /// Over their MQTT connection.
    #[serde(rename = "MQTT")]
    Mqtt,
}
