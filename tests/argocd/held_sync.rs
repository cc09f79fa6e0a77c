//! A rollout in a wave before another: the sync waits for it, and no other commit is applied meanwhile, not even the one that
//! takes it back. What a person does about that.

use std::sync::Arc;
use std::time::Duration;

use super::application::{Application, View};
use super::chapters::application;
use super::eventually::eventually;
use super::ground::Ground;
use super::harness::Result;
use super::manifests::{self, ROLLOUT};
use super::repository::Repository;
use super::rollouts::Rollouts;

const SOON: Duration = Duration::from_secs(90);
const VERSION: &str = "4.2.0";

/// Where it takes place.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub name: &'static str,
    /// A letter for its packages.
    pub letter: &'static str,
    pub product: &'static str,
}

/// Tells it.
pub async fn tell(ground: Arc<Ground>, place: Place) -> Result<()> {
    let namespace = format!("fleet-{}", place.name);
    ground.namespace(&namespace)?;
    let repository = Repository::create(&ground.repository_dir(place.name))?;
    repository.write("rollouts/account.yaml", &manifests::text(&ground.account())?)?;
    repository.commit("An account")?;
    let rollout = manifests::slow_rollout(place.product, VERSION);
    repository.write("rollouts/rollout.yaml", &manifests::text(&rollout)?)?;
    repository.write("rollouts/after.yaml", &manifests::text(&manifests::after("the next wave"))?)?;
    let commit = repository.commit("A rollout, and what comes after it")?;

    let client = ground.control_plane.admin_client().await?;
    let manifest = application(place.name, &repository, &namespace, true)?;
    let _printed = Rollouts::watch(&client, &ground.report, place.name, &namespace);
    let application = Application::create(&client, &ground.report, place.name, &manifest).await?;
    let outcome = held(&ground, place, &namespace, &repository, (&commit, &application)).await;
    if outcome.is_err() {
        eprintln!("\n{}: {}", place.name, application.explain().await?);
    }
    outcome
}

async fn held(
    ground: &Ground,
    place: Place,
    namespace: &str,
    repository: &Repository,
    (commit, application): (&str, &Application),
) -> Result<()> {
    let firmware = manifests::package_id(place.letter, VERSION);
    let job = eventually("a job runs", SOON, async || {
        Ok(ground.admin.creates(&firmware).await?.pop().and_then(|call| call.job_id))
    })
    .await?;
    let waits = |view: &View| view.operation == "Running" && view.health == "Progressing" && view.syncing == commit;
    application.becomes("a sync that waits for the rollout", SOON, waits).await?;

    let back = repository.revert()?;
    ground.report.act(place.name, &format!("git revert, git push: {back:.7}"))?;
    let view = application.compare("hard").await?;
    ground.report.check(
        place.name,
        waits(&view) && view.revision == back && ground.admin.cancels(&job).await? == 0,
        format!("git revert of a rollout in an earlier wave waits for its sync ({})", view.operation),
    )?;

    ground.report.act(place.name, &format!("argocd app actions run {} abort", place.name))?;
    ground.argo.act(place.name, ROLLOUT, "abort")?;
    let gone = |view: &View| view.sync == "Synced" && view.revision == back && view.operation == "Succeeded";
    application.becomes("the revert applied", SOON, gone).await?;
    let left = ["get", "-n", namespace, "firmwarerollouts,configmaps", "-o", "name"];
    let left = ground.control_plane.kubectl_ok(left)?;
    let left = left.lines().filter(|name| !name.contains("kube-root-ca.crt")).count();
    let (tasks, calls) = (ground.admin.tasks(&job).await?, ground.admin.cancels(&job).await?);
    let cancelled = tasks.get("CANCELED").copied().unwrap_or_default();
    ground.report.check(
        place.name,
        left == 0 && calls > 0 && cancelled > 0,
        format!("abort makes that sync fail, and its retry applies the revert: {left} objects left, {cancelled} tasks cancelled"),
    )
}
