//! The simulated cloud's admin side: which jobs there are, and what was cancelled. What the operator says never counts here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::harness::Result;

/// One request that the cloud got.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub operation: String,
    pub params: BTreeMap<String, String>,
    pub code: Option<String>,
    pub job_id: Option<String>,
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

    /// The accepted creates of a package, in order, as `operation job`.
    pub async fn creates(&self, firmware: &str) -> Result<Vec<Call>> {
        let calls: Vec<Call> = self.get("calls").await?;
        let ours = |call: &Call| call.params.get("FirmwareId").is_some_and(|id| id == firmware);
        Ok(calls.into_iter().filter(|c| c.operation.starts_with("Create") && c.code.is_none() && ours(c)).collect())
    }

    /// How often tasks of this job were cancelled.
    pub async fn cancels(&self, job: &str) -> Result<usize> {
        let calls: Vec<Call> = self.get("calls").await?;
        let of = |call: &Call| call.params.get("JobId").is_some_and(|id| id == job);
        Ok(calls.iter().filter(|c| c.operation == "CancelOTATaskByJob" && c.code.is_none() && of(c)).count())
    }

    /// A job's tasks by their status.
    pub async fn tasks(&self, job: &str) -> Result<BTreeMap<String, i64>> {
        let jobs: Vec<serde_json::Value> = self.get("jobs").await?;
        let ours = jobs.into_iter().find(|j| j.to_string().contains(job)).ok_or_else(|| format!("no job {job}"))?;
        Ok(serde_json::from_value(ours["counts"].clone())?)
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let text = self.http.get(format!("{}/_admin/{what}", self.base)).send().await?.text().await?;
        serde_json::from_str(&text).map_err(|error| format!("GET /_admin/{what}: {error}: {text}").into())
    }
}
