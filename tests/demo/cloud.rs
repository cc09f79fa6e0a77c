//! The simulated cloud's admin side: what was really called, and what the devices really run.

use std::collections::BTreeMap;
use std::time::Duration;

use fota::api::status::Ledger;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::harness::Result;
use super::verdict::Seen;

/// One request that the cloud got.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub operation: String,
    pub params: BTreeMap<String, String>,
    pub code: Option<String>,
    pub job_id: Option<String>,
}

impl Call {
    /// Whether it asks for a new job, accepted or not.
    pub fn is_create(&self) -> bool {
        self.operation.starts_with("Create")
    }
}

/// The devices of a product.
#[derive(Debug, Deserialize)]
pub struct Devices {
    /// By module and version.
    pub versions: BTreeMap<String, BTreeMap<String, i64>>,
    pub ledger: Ledger,
}

/// The admin side.
pub struct Admin {
    base: String,
    http: reqwest::Client,
}

impl Admin {
    pub fn new(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { base: base.to_owned(), http })
    }

    /// Every call, in the order of arrival.
    pub async fn calls(&self) -> Result<Vec<Call>> {
        self.get("calls").await
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the status counts the devices as they are, and none of them is on its way any more.
    pub async fn agrees(&self, seen: &Seen) -> Result<bool> {
        let devices = self.devices_of(seen).await?;
        let still = devices.ledger.in_progress + devices.ledger.notified == 0;
        Ok(still && seen.status().progress.as_ref().is_some_and(|progress| progress.ledger == devices.ledger))
    }

    /// The devices, counted over the jobs of the rollout's package.
    pub async fn devices_of(&self, seen: &Seen) -> Result<Devices> {
        let rollout = seen.rollout.as_ref().ok_or("no rollout was seen")?;
        let status = seen.status();
        let firmware = status.firmware.as_ref().map(|firmware| firmware.id.as_str()).unwrap_or_default();
        // The examples have one silentAfter for every step; the verification's counts nowhere.
        let silent = status.effective.iter().filter_map(|e| e.stages.last()).map(|s| s.silent_after.length()).next();
        let minutes = silent.unwrap_or_default().as_secs_f64() / 60.0;
        let product = &rollout.spec.product_key;
        self.get(&format!("devices?productKey={product}&firmwareId={firmware}&silentAfterMinutes={minutes}")).await
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let text = self.http.get(format!("{}/_admin/{what}", self.base)).send().await?.text().await?;
        serde_json::from_str(&text).map_err(|error| format!("GET /_admin/{what}: {error}: {text}").into())
    }
}
