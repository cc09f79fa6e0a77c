//! Rollouts as a person handles them: made, followed by one watch over all of them, taken away. How one ended is what
//! it says of itself; whether that is true is for the judge.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use fota::api::FirmwareRollout;
use fota::api::condition;
use fota::api::status::Phase;
use futures::StreamExt as _;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;

use super::judge::End;
use crate::harness::Result;

/// Namespace and name.
pub type Name = (String, String);

/// The newest that is known of every rollout.
#[derive(Clone)]
pub struct Follow(watch::Receiver<BTreeMap<Name, End>>);

impl Follow {
    /// Follows all rollouts of a cluster, until the runtime ends.
    pub fn start(client: kube::Client) -> Self {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        tokio::spawn(async move {
            let api: Api<FirmwareRollout> = Api::all(client);
            let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
            while let Some(change) = changes.next().await {
                // An error is the watch's own to get over.
                if let Ok(rollout) = change {
                    let meta = &rollout.metadata;
                    let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
                    sender.send_modify(|all| _ = all.insert(name, end(&rollout)));
                }
            }
        });
        Self(receiver)
    }

    /// How a rollout stands.
    pub fn end(&self, name: &Name) -> End {
        self.0.borrow().get(name).cloned().unwrap_or_else(|| End::Open("never seen".to_owned()))
    }

    /// Waits until every one of these is complete. After `limit` they are as they are.
    pub async fn until_completed(&self, names: &[Name], limit: Duration) {
        let mut seen = self.0.clone();
        let ended = seen.wait_for(|all| names.iter().all(|name| all.get(name) == Some(&End::Completed)));
        // Out of time, the judge says what is missing.
        let _ = tokio::time::timeout(limit, ended).await;
    }
}

fn end(rollout: &FirmwareRollout) -> End {
    let Some(status) = &rollout.status else { return End::Open("without status".to_owned()) };
    if status.phase == Some(Phase::Completed) {
        return End::Completed;
    }
    let stalled = condition::find(&status.conditions, "Stalled").filter(|c| c.status == "True");
    match (stalled, &status.next) {
        (Some(stalled), _) => End::Stalled(stalled.reason.clone()),
        (None, Some(next)) => End::Open(format!("{}: {}", next.reason, next.because)),
        (None, None) => End::Open(status.phase.map(|phase| phase.to_string()).unwrap_or_default()),
    }
}

fn api(client: &kube::Client, namespace: &str) -> Api<FirmwareRollout> {
    Api::namespaced(client.clone(), namespace)
}

/// Makes one.
pub async fn create(client: &kube::Client, namespace: &str, rollout: serde_json::Value) -> Result<()> {
    api(client, namespace).create(&PostParams::default(), &serde_json::from_value(rollout)?).await?;
    Ok(())
}

/// Takes one away as it is, when no operator runs that would.
pub async fn remove(client: &kube::Client, (namespace, name): &Name) -> Result<()> {
    let released = serde_json::json!({"metadata": {"finalizers": null}});
    api(client, namespace).patch(name, &PatchParams::default(), &Patch::Merge(released)).await?;
    api(client, namespace).delete(name, &DeleteParams::default()).await?;
    Ok(())
}
