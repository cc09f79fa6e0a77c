//! The rollouts of a namespace, as the operator shows them: the last status of each, and a line at each change of phase or
//! reason.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fota::api::FirmwareRollout;
use fota::api::status::Phase;
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use super::eventually::eventually;
use super::harness::Result;
use super::report::Report;

/// Rollouts that are watched.
pub struct Rollouts {
    lane: &'static str,
    latest: Arc<Mutex<BTreeMap<String, FirmwareRollout>>>,
    watch: JoinHandle<()>,
}

impl Drop for Rollouts {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Rollouts {
    pub fn watch(client: &Client, report: &Arc<Report>, lane: &'static str, namespace: &str) -> Self {
        let api: Api<FirmwareRollout> = Api::namespaced(client.clone(), namespace);
        let latest: Arc<Mutex<BTreeMap<String, FirmwareRollout>>> = Arc::default();
        let (taken, printed) = (latest.clone(), report.clone());
        let watch = tokio::spawn(async move {
            let mut told = BTreeMap::new();
            let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
            while let Some(change) = changes.next().await {
                let Ok(rollout) = change else { continue };
                let Some(name) = rollout.metadata.name.clone() else { continue };
                let line = line(&rollout);
                if told.insert(name.clone(), line.clone()).as_ref() != Some(&line)
                    && printed.note(lane, &format!("           {name}: {line}")).is_err()
                {
                    return;
                }
                taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name, rollout);
            }
        });
        Self { lane, latest, watch }
    }

    /// The last that was seen of a rollout.
    pub fn latest(&self, name: &str) -> Option<FirmwareRollout> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Waits until a rollout is in a state.
    pub async fn becomes(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&FirmwareRollout) -> bool,
    ) -> Result<FirmwareRollout> {
        let about = format!("{}: {name} {what}", self.lane);
        eventually(&about, limit, async || Ok(self.latest(name).filter(|rollout| wanted(rollout)))).await
    }
}

/// Phase, step and reason.
fn line(rollout: &FirmwareRollout) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    let version = status.firmware.map(|firmware| firmware.version).unwrap_or_default();
    let phase = status.phase.map_or("new", Phase::name);
    let step = status.step.unwrap_or_default();
    let deleted = if rollout.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    let version: String = version.chars().take(16).collect();
    format!("{phase} {step} {version}{deleted}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a rollout waits or stands.
pub fn reason(rollout: &FirmwareRollout) -> String {
    let conditions = rollout.status.iter().flat_map(|status| &status.conditions);
    let holds =
        conditions.filter(|c| c.status == "True" && ["Ready", "Reconciling", "Stalled"].contains(&c.kind.as_str()));
    holds.map(|c| c.reason.clone()).next().unwrap_or_default()
}
