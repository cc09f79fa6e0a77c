//! An Application, as Argo CD shows it: every state that it was in, and whether being out of sync had a cause. Making things
//! happen never comes in here.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::argo::NAMESPACE;
use super::eventually::eventually;
use super::harness::Result;
use super::report::Report;

/// What is looked at of an Application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub sync: String,
    pub health: String,
    /// The commit that it was compared with.
    pub revision: String,
    /// The phase of the last sync.
    pub operation: String,
    /// The commit that it applies, or applied.
    pub syncing: String,
}

impl View {
    fn of(object: &DynamicObject) -> Self {
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            sync: text("/status/sync/status"),
            health: text("/status/health/status"),
            revision: text("/status/sync/revision"),
            operation: text("/status/operationState/phase"),
            syncing: text("/status/operationState/operation/sync/revision"),
        }
    }

    fn told(&self) -> String {
        let operation = if self.operation == "Running" { "  (syncing)" } else { "" };
        format!("{:<9}  {:<11}  {:.7}{operation}", self.sync, self.health, self.revision)
    }
}

#[derive(Default)]
struct Seen {
    views: Vec<View>,
    /// Commits that were in sync once: nothing in them explains a difference any more.
    settled: BTreeSet<String>,
    /// Somebody changes the live object, which self-heal has yet to undo.
    drifted: bool,
    unexplained: Vec<String>,
}

impl Seen {
    fn take(&mut self, view: View) {
        if self.views.last() == Some(&view) {
            return;
        }
        match view.sync.as_str() {
            "Synced" => {
                self.settled.insert(view.revision.clone());
            }
            "OutOfSync" if self.drifted || !self.settled.contains(&view.revision) => {}
            // Before the first comparison there is nothing to say.
            _ if self.settled.is_empty() => {}
            other => self.unexplained.push(format!("{other} at {:.7}", view.revision)),
        }
        self.views.push(view);
    }
}

/// An Application that is watched.
pub struct Application {
    lane: &'static str,
    name: String,
    api: Api<DynamicObject>,
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

impl Drop for Application {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Application {
    /// Creates it and watches it from its first moment.
    pub async fn create(client: &Client, report: &Arc<Report>, lane: &'static str, manifest: &Value) -> Result<Self> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
        let object: DynamicObject = serde_json::from_value(manifest.clone())?;
        let name = object.metadata.name.clone().ok_or("an Application without a name")?;
        api.create(&PostParams::default(), &object).await?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (taken, printed, watched) = (seen.clone(), report.clone(), api.clone());
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watch = tokio::spawn(async move {
            let mut changes = pin!(watcher(watched, only).default_backoff().applied_objects());
            let mut told = String::new();
            while let Some(change) = changes.next().await {
                // An error is the watch's own to get over.
                let Ok(object) = change else { continue };
                let view = View::of(&object);
                taken.lock().unwrap_or_else(PoisonError::into_inner).take(view.clone());
                let before = std::mem::replace(&mut told, view.told());
                if !view.sync.is_empty() && told != before && printed.note(lane, &told).is_err() {
                    return;
                }
            }
        });
        Ok(Self { lane, name, api, seen, watch })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many states it was in: what comes later is [`Application::since`] then.
    pub fn mark(&self) -> usize {
        self.seen().views.len()
    }

    /// Its states since a mark, the one that it was in then included.
    pub fn since(&self, mark: usize) -> Vec<View> {
        self.seen().views.get(mark.saturating_sub(1)..).unwrap_or_default().to_vec()
    }

    /// The state that it is in.
    pub fn now(&self) -> View {
        self.seen().views.last().cloned().unwrap_or_default()
    }

    /// Says that the live object is about to be changed by somebody else than Git, or that this was undone.
    pub fn drifts(&self, drifted: bool) {
        self.seen().drifted = drifted;
    }

    /// Times that it was not in sync without a cause.
    pub fn unexplained(&self) -> Vec<String> {
        self.seen().unexplained.clone()
    }

    /// Waits until it is in a state.
    pub async fn becomes(&self, what: &str, limit: Duration, wanted: impl Fn(&View) -> bool) -> Result<View> {
        let about = format!("{}: {what}", self.lane);
        eventually(&about, limit, async || Ok(Some(self.now()).filter(|view| wanted(view)))).await
    }

    /// Asks for a comparison, as a webhook does after a push (`normal`), or of everything anew (`hard`), and returns what came
    /// of it.
    pub async fn compare(&self, how: &str) -> Result<View> {
        const REFRESH: &str = "argocd.argoproj.io/refresh";
        let patch = json!({"metadata": {"annotations": {REFRESH: how}}});
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        eventually(&format!("{}: compared", self.lane), Duration::from_secs(60), async || {
            let object = self.api.get(&self.name).await?;
            let asked = object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(REFRESH));
            Ok((!asked).then(|| View::of(&object)))
        })
        .await
    }

    /// What Argo CD says of it, for a person who looks for a cause.
    pub async fn explain(&self) -> Result<String> {
        let object = self.api.get(&self.name).await?;
        let status = &object.data["status"];
        let said = json!({
            "conditions": status["conditions"],
            "operation": status["operationState"]["message"],
            "resources": status["resources"],
        });
        Ok(serde_yaml::to_string(&said)?)
    }
}
