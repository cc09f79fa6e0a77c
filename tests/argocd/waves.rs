//! Pauses that are planned, in sync waves: by the first variant the wave waits for the rollout, by the second it does not. The
//! rollouts are the largest that the CRD takes, and set each of its fields.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::application::{Application, View};
use super::argo;
use super::chapters::application;
use super::ground::{Ground, PAUSED_IS_HEALTHY};
use super::harness::{Result, root};
use super::manifests::{self, AFTER, LARGEST};
use super::repository::Repository;
use super::rollouts::{self, Rollouts};

const SOON: Duration = Duration::from_secs(120);

/// One way of applying the largest manifests.
#[derive(Debug, Clone, Copy)]
pub struct Waves {
    pub name: &'static str,
    pub product: &'static str,
    pub server_side: bool,
    /// Device names in each step of the largest manifest: 200 are allowed. A client-side apply leaves a copy of the manifest
    /// in an annotation, which holds 256 KiB.
    pub names: usize,
}

/// Waves under way.
pub struct Waiting {
    ground: Arc<Ground>,
    waves: Waves,
    application: Application,
    rollouts: Rollouts,
    repository: Repository,
    /// The last one.
    commit: String,
}

/// Commits the manifests, and waits until the sync waits for what is suspended.
pub async fn begin(ground: Arc<Ground>, waves: Waves) -> Result<Waiting> {
    let namespace = format!("fleet-{}", waves.name);
    ground.namespace(&namespace)?;
    let repository = Repository::create(&ground.repository_dir(waves.name))?;
    let largest = manifests::largest(waves.product, waves.names);
    let all: Vec<&Value> = largest.iter().collect();
    let unset = manifests::unset_fields(&all)?;
    ground.report.check(waves.name, unset.is_empty(), format!("fields of the CRD that no manifest sets: {unset:?}"))?;
    repository.write("rollouts/account.yaml", &manifests::text(&ground.account())?)?;
    repository.write("rollouts/after.yaml", &manifests::text(&manifests::after("the first commit"))?)?;
    let mut size = 0;
    for (name, manifest) in LARGEST.iter().zip(&largest) {
        repository.write(&format!("rollouts/{name}.yaml"), &manifests::text(manifest)?)?;
        size = size.max(manifest.to_string().len());
    }
    let commit = repository.commit("The largest manifests")?;
    ground.report.act(waves.name, &format!("git push: the largest rollout has {} KiB", size / 1024))?;

    let client = ground.control_plane.admin_client().await?;
    let manifest = application(waves.name, &repository, &namespace, waves.server_side)?;
    let rollouts = Rollouts::watch(&client, &ground.report, waves.name, &namespace);
    let application = Application::create(&client, &ground.report, waves.name, &manifest).await?;
    let mut waiting = Waiting { ground, waves, application, rollouts, repository, commit };
    let outcome = waiting.held(&namespace).await;
    if outcome.is_err() {
        eprintln!("\n{}: {}", waves.name, waiting.application.explain().await?);
    }
    outcome.map(|()| waiting)
}

impl Waiting {
    async fn held(&mut self, namespace: &str) -> Result<()> {
        for name in LARGEST {
            let held = |r: &fota::api::FirmwareRollout| rollouts::reason(r) == "Suspended";
            self.rollouts.becomes(name, "is suspended", SOON, held).await?;
        }
        let waits = |view: &View| view.health == "Suspended" && view.operation == "Running";
        self.application.becomes("Suspended, with a sync that waits", SOON, waits).await?;
        let view = self.application.compare("hard").await?;
        let there = self.after(namespace)?;
        self.check(
            waits(&view) && there.is_empty(),
            format!("paused is Suspended: the next wave waits (health {}, sync {})", view.health, view.operation),
        )?;
        self.repository.write("rollouts/after.yaml", &manifests::text(&manifests::after("another commit"))?)?;
        self.commit = self.repository.commit("Another commit")?;
        self.ground.report.act(self.waves.name, &format!("git push: {:.7}", self.commit))?;
        let view = self.application.compare("normal").await?;
        self.check(
            view.operation == "Running" && view.syncing != self.commit,
            format!("a commit made meanwhile waits for that sync ({})", view.operation),
        )
    }

    /// Everything goes on once a pause counts as healthy.
    pub async fn end(self) -> Result<()> {
        let namespace = format!("fleet-{}", self.waves.name);
        let outcome = self.released(&namespace).await;
        if outcome.is_err() {
            eprintln!("\n{}: {}", self.waves.name, self.application.explain().await?);
        }
        outcome
    }

    async fn released(&self, namespace: &str) -> Result<()> {
        let done = |view: &View| {
            view.sync == "Synced"
                && view.health == "Healthy"
                && view.operation == "Succeeded"
                && view.revision == self.commit
        };
        // A change of argocd-cm alone is noticed at the next resync, minutes later.
        self.application.compare("hard").await?;
        self.application.becomes("Synced and Healthy", SOON, done).await?;
        let text = self.after(namespace)?;
        self.check(
            text == "another commit",
            format!("paused is Healthy: the next wave came, and the next commit ({text})"),
        )?;
        // Annotated beside, all of it at once.
        let kubectl = &self.ground.control_plane;
        for name in LARGEST {
            let token = ["annotate", "-n", namespace, &format!("firmwarerollout/{name}"), "fota.dev/pause=now"]
                .map(str::to_owned);
            kubectl.kubectl_ok(token)?;
            let paused = |r: &fota::api::FirmwareRollout| r.status.as_ref().is_some_and(|status| status.paused);
            self.rollouts.becomes(name, "is paused as well", SOON, paused).await?;
        }
        let view = self.application.compare("hard").await?;
        self.check(done(&view), format!("the largest manifests, annotated: {} and {}", view.sync, view.health))?;
        let unexplained = self.application.unexplained();
        let text = format!("never out of sync without a commit {}", unexplained.join(", "));
        self.check(unexplained.is_empty(), text.trim_end())
    }

    /// What the ConfigMap of the last wave says, if it is there.
    fn after(&self, namespace: &str) -> Result<String> {
        let found = ["get", "-n", namespace, "configmap", AFTER, "--ignore-not-found", "-o", "jsonpath={.data.text}"];
        self.ground.control_plane.kubectl_ok(found)
    }

    fn check(&self, right: bool, text: impl Into<String>) -> Result<()> {
        self.ground.report.check(self.waves.name, right, text)
    }
}

/// Brings the second variant to the Argo CD that runs.
pub fn pauses_are_healthy(ground: &Ground) -> Result<()> {
    ground.report.act("kubectl", &format!("patch configmap argocd-cm --patch-file {PAUSED_IS_HEALTHY}"))?;
    argo::customize(&ground.control_plane, &root().join(PAUSED_IS_HEALTHY))
}
