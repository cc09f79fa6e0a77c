//! The story: one Application through commits, pauses, failures, reverts and its end, in one way of applying. What is right
//! is judged by the Application's states and by the cloud's own log.

use std::sync::Arc;
use std::time::Duration;

use fota::api::FirmwareRollout;
use fota::api::status::{Phase, StageState};
use serde_json::{Value, json};

use super::application::{Application, View};
use super::eventually::eventually;
use super::ground::Ground;
use super::harness::{Result, root};
use super::manifests::{self, ROLLOUT};
use super::report::Report;
use super::repository::{BRANCH, Repository};
use super::rollouts::{self, Rollouts};

/// Argo CD's comparison and its sync.
const SOON: Duration = Duration::from_secs(60);
/// A rollout of the story from its commit to its end.
const ROLLED: Duration = Duration::from_secs(180);

/// One way of applying.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    /// In the timeline.
    pub name: &'static str,
    /// A letter for its packages.
    pub letter: &'static str,
    pub product: &'static str,
    pub server_side: bool,
}

impl Lane {
    fn namespace(&self) -> String {
        format!("fleet-{}", self.name)
    }
}

/// The example's Application, of this repository and this namespace.
pub fn application(name: &str, repository: &Repository, namespace: &str, server_side: bool) -> Result<Value> {
    let text = std::fs::read_to_string(root().join("examples/argocd/application.yaml"))?;
    let mut application: Value = serde_yaml::from_str(&text)?;
    application["metadata"]["name"] = json!(name);
    application["spec"]["source"]["repoURL"] = json!(repository.url());
    application["spec"]["source"]["targetRevision"] = json!(BRANCH);
    application["spec"]["destination"]["namespace"] = json!(namespace);
    if application["spec"]["syncPolicy"]["syncOptions"] != json!(["ServerSideApply=true"]) {
        return Err("examples/argocd/application.yaml has other sync options than the story knows".into());
    }
    // By default a pruned object waits for the garbage collector, which runs in kube-controller-manager: there is none here.
    let options = ["PrunePropagationPolicy=background", "ServerSideApply=true"];
    application["spec"]["syncPolicy"]["syncOptions"] = json!(options[..1 + usize::from(server_side)]);
    Ok(application)
}

/// One lane's Application and what it is made of.
struct Story {
    ground: Arc<Ground>,
    lane: Lane,
    repository: Repository,
    application: Application,
    rollouts: Rollouts,
}

/// Tells the story in one lane.
pub async fn tell(ground: Arc<Ground>, lane: Lane) -> Result<()> {
    let namespace = lane.namespace();
    ground.namespace(&namespace)?;
    let repository = Repository::create(&ground.repository_dir(lane.name))?;
    repository.write("rollouts/account.yaml", &manifests::text(&ground.account())?)?;
    repository.write("rollouts/names.yaml", &manifests::text(&manifests::names())?)?;
    repository
        .write("rollouts/rollout.yaml", &manifests::text(&manifests::unhurried_rollout(lane.product, "4.0.0"))?)?;
    let commit = repository.commit("Firmware 4.0.0")?;

    let client = ground.control_plane.admin_client().await?;
    let manifest = application(lane.name, &repository, &namespace, lane.server_side)?;
    let rollouts = Rollouts::watch(&client, &ground.report, lane.name, &namespace);
    let application = Application::create(&client, &ground.report, lane.name, &manifest).await?;
    let story = Story { ground, lane, repository, application, rollouts };
    let outcome = story.told(&commit).await;
    if outcome.is_err() {
        eprintln!("\n{}: {}", lane.name, story.application.explain().await?);
        if let Some(rollout) = story.rollouts.latest(ROLLOUT) {
            eprintln!("{}", serde_yaml::to_string(&rollout.status.map(|status| status.conditions))?);
        }
    }
    outcome
}

impl Story {
    async fn told(&self, first: &str) -> Result<()> {
        self.one_whole_rollout(first).await?;
        self.somebody_edits_the_live_object().await?;
        self.new_firmware().await?;
        self.bad_firmware_and_back().await?;
        self.back_while_it_runs().await?;
        self.aborted_and_retried().await?;
        self.removed().await?;
        let unexplained = self.application.unexplained();
        let text = format!("never out of sync without a commit or an edit {}", unexplained.join(", "));
        self.check(unexplained.is_empty(), text.trim_end())
    }

    /// The first rollout, paused and resumed on its way.
    async fn one_whole_rollout(&self, commit: &str) -> Result<()> {
        self.synced(commit).await?;
        self.rollout("runs its canary", |r| stage(r, "canary") == Some(StageState::Running)).await?;
        self.act("pause")?;
        let suspended = |view: &View| view.health == "Suspended";
        self.application.becomes("health Suspended after pause", SOON, suspended).await?;
        let held = |r: &FirmwareRollout| rollouts::reason(r) == "Suspended";
        self.rollout("is done with its canary and held", held).await?;
        let before = self.creates("4.0.0").await?;
        // Everything that Argo CD may take for a difference: our tokens, others' annotations, status, finalizers, defaults.
        let kubectl = &self.ground.control_plane;
        let resource = format!("firmwarerollout/{ROLLOUT}");
        kubectl.kubectl_ok(["annotate", "-n", &self.lane.namespace(), &resource, "example.com/seen-by=somebody"])?;
        let view = self.application.compare("hard").await?;
        self.check(
            (view.sync.as_str(), view.health.as_str()) == ("Synced", "Suspended"),
            format!("paused by the action: {} and {} (promised: Synced and Suspended)", view.sync, view.health),
        )?;
        self.offers("paused", &["abort", "resume"])?;
        self.check(before == self.creates("4.0.0").await? && before.len() == 2, "while it is paused no job is made")?;

        let mark = self.application.mark();
        self.act("resume")?;
        let healthy = |view: &View| view.health == "Healthy";
        self.application.becomes("health Healthy after the whole rollout", ROLLED, healthy).await?;
        let views = self.application.since(mark);
        let path: Vec<_> = path(&views);
        self.check(path == ["Suspended", "Progressing", "Healthy"], format!("after resume: {}", path.join(", ")))?;
        let view = self.application.compare("hard").await?;
        self.check(view.sync == "Synced", format!("compared anew after its end: {}", view.sync))?;
        self.ended("4.0.0", 6).await?;
        self.offers("completed", &[])
    }

    /// Self-heal is on, and sees differences where there are some.
    async fn somebody_edits_the_live_object(&self) -> Result<()> {
        let mark = self.application.mark();
        self.application.drifts(true);
        self.note("kubectl patch: somebody sets supersede: Queue")?;
        let (namespace, resource) = (self.lane.namespace(), format!("firmwarerollout/{ROLLOUT}"));
        let kubectl = &self.ground.control_plane;
        let patch = ["patch", "-n", &namespace, &resource, "--type=merge", "-p", r#"{"spec":{"supersede":"Queue"}}"#];
        kubectl.kubectl_ok(patch)?;
        self.application
            .becomes("out of sync, and healed", SOON, |view| {
                let seen = self.application.since(mark).iter().any(|v| v.sync == "OutOfSync");
                seen && view.sync == "Synced" && view.health == "Healthy"
            })
            .await?;
        self.application.drifts(false);
        let healed = kubectl.kubectl_ok(["get", "-n", &namespace, &resource, "-o", "jsonpath={.spec.supersede}"])?;
        self.check(healed == "Replace", format!("self-heal put an edit back: supersede {healed}"))
    }

    async fn new_firmware(&self) -> Result<()> {
        let mark = self.application.mark();
        let commit = self.push("Firmware 4.1.0", &manifests::rollout(self.lane.product, "4.1.0")).await?;
        self.application.becomes("Healthy with the new firmware", ROLLED, |view| at(view, &commit, "Healthy")).await?;
        let path = path(&at_commit(&self.application.since(mark), &commit));
        self.check(path == ["Progressing", "Healthy"], format!("new firmware: {}", path.join(", ")))?;
        self.ended("4.1.0", 6).await
    }

    async fn bad_firmware_and_back(&self) -> Result<()> {
        let mark = self.application.mark();
        let commit = self.push("Firmware 4.1.1", &manifests::rollout(self.lane.product, "4.1.1")).await?;
        self.application.becomes("Degraded by bad firmware", ROLLED, |view| at(view, &commit, "Degraded")).await?;
        let states = path(&at_commit(&self.application.since(mark), &commit));
        self.check(states == ["Progressing", "Degraded"], format!("bad firmware: {}", states.join(", ")))?;
        let rollout = self.rollout("failed", |r| phase(r) == Some(Phase::Failed)).await?;
        let reason = rollouts::reason(&rollout);
        self.check(reason == "GateFailed", format!("the rollout says {reason} (promised: GateFailed)"))?;
        self.offers("failed", &["retry"])?;

        let back = self.revert().await?;
        self.application.becomes("Healthy after git revert", SOON, |view| at(view, &back, "Healthy")).await?;
        let rollout = self.rollout("reverted", |r| rollouts::reason(r) == "Reverted").await?;
        let version = rollout.status.and_then(|s| s.firmware).map(|f| f.version).unwrap_or_default();
        self.check(version == "4.1.0", format!("git revert: back at {version}, Ready (Reverted)"))?;
        let creates = self.creates("4.1.1").await?;
        self.check(creates.len() == 1, format!("creates of the bad firmware: {} (promised: 1)", creates.len()))
    }

    /// `git revert` stops a run under way.
    async fn back_while_it_runs(&self) -> Result<()> {
        let commit = self.push("Firmware 4.2.0", &manifests::slow_rollout(self.lane.product, "4.2.0")).await?;
        self.application.becomes("Progressing with 4.2.0", SOON, |view| at(view, &commit, "Progressing")).await?;
        let job = self.running("4.2.0", 1).await?;
        let back = self.revert().await?;
        self.application.becomes("Healthy after git revert", SOON, |view| at(view, &back, "Healthy")).await?;
        self.cancelled("git revert of a run under way", &job).await?;
        let creates = self.creates("4.2.0").await?;
        self.check(
            creates.len() == 1,
            format!("creates of the firmware that was stopped: {} (promised: 1)", creates.len()),
        )
    }

    async fn aborted_and_retried(&self) -> Result<()> {
        let commit = self.push("Firmware 4.2.0 again", &manifests::slow_rollout(self.lane.product, "4.2.0")).await?;
        self.application.becomes("Progressing with 4.2.0", SOON, |view| at(view, &commit, "Progressing")).await?;
        let job = self.running("4.2.0", 2).await?;
        self.act("abort")?;
        self.application.becomes("Degraded after abort", SOON, |view| at(view, &commit, "Degraded")).await?;
        self.cancelled("abort", &job).await?;
        self.offers("aborted", &["retry"])?;
        self.act("retry")?;
        self.application.becomes("Progressing after retry", SOON, |view| at(view, &commit, "Progressing")).await?;
        self.running("4.2.0", 3).await.map(drop)
    }

    /// Removed from Git while it runs.
    async fn removed(&self) -> Result<()> {
        let job = self.running("4.2.0", 3).await?;
        self.repository.remove("rollouts/rollout.yaml")?;
        let commit = self.repository.commit("No rollout")?;
        self.note("git rm rollout.yaml, git push")?;
        self.application.compare("normal").await?;
        let (namespace, kubectl) = (self.lane.namespace(), &self.ground.control_plane);
        eventually("the rollout is gone", SOON, async || {
            let found = kubectl.kubectl_ok(["get", "-n", &namespace, "firmwarerollouts", "-o", "name"])?;
            Ok(found.is_empty().then_some(()))
        })
        .await?;
        self.cancelled("removal from Git", &job).await?;
        self.application.becomes("Synced without it", SOON, |view| at(view, &commit, "Healthy")).await.map(drop)
    }

    /// Commits a manifest and tells Argo CD, as a webhook does.
    async fn push(&self, message: &str, rollout: &Value) -> Result<String> {
        self.repository.write("rollouts/rollout.yaml", &manifests::text(rollout)?)?;
        let commit = self.repository.commit(message)?;
        self.note(&format!("git commit -m '{message}', git push: {commit:.7}"))?;
        self.application.compare("normal").await?;
        Ok(commit)
    }

    async fn revert(&self) -> Result<String> {
        let commit = self.repository.revert()?;
        self.note(&format!("git revert, git push: {commit:.7}"))?;
        self.application.compare("normal").await?;
        Ok(commit)
    }

    async fn synced(&self, commit: &str) -> Result<()> {
        let there = |view: &View| view.sync == "Synced" && view.revision == commit;
        self.application.becomes("Synced", SOON, there).await.map(drop)
    }

    async fn rollout(&self, what: &str, wanted: impl Fn(&FirmwareRollout) -> bool) -> Result<FirmwareRollout> {
        self.rollouts.becomes(ROLLOUT, what, ROLLED, wanted).await
    }

    /// The rollout is complete, and each stage had exactly one job.
    async fn ended(&self, version: &str, jobs: usize) -> Result<()> {
        let rollout = self.rollouts.latest(ROLLOUT).ok_or("no rollout was seen")?;
        let status = rollout.status.unwrap_or_default();
        let firmware = status.firmware.map(|firmware| firmware.version).unwrap_or_default();
        let creates = self.creates(version).await?;
        self.check(
            status.phase == Some(Phase::Completed) && firmware == version && creates.len() == jobs,
            format!(
                "Healthy, and the rollout is complete at {firmware} with {} creates (promised: {jobs})",
                creates.len()
            ),
        )
    }

    async fn creates(&self, version: &str) -> Result<Vec<String>> {
        let id = manifests::package_id(self.lane.letter, version);
        Ok(self.ground.admin.creates(&id).await?.into_iter().filter_map(|call| call.job_id).collect())
    }

    /// Waits for the n-th job of a firmware, and for the rollout to know it; returns its id.
    async fn running(&self, version: &str, n: usize) -> Result<String> {
        let job = eventually(&format!("job {n} of {version}"), ROLLED, async || {
            Ok(self.creates(version).await?.get(n - 1).cloned())
        })
        .await?;
        let knows = |r: &FirmwareRollout| {
            r.status.iter().flat_map(|s| &s.stages).flat_map(|s| &s.jobs).any(|known| known.id == job)
        };
        self.rollout("knows its job", knows).await?;
        Ok(job)
    }

    /// Nothing of the job is pending, and that is so because it was cancelled.
    async fn cancelled(&self, by: &str, job: &str) -> Result<()> {
        let admin = &self.ground.admin;
        let tasks = eventually(&format!("{by}: nothing of job {job} is pending"), SOON, async || {
            let tasks = admin.tasks(job).await?;
            let pending =
                ["QUEUED", "NOTIFIED", "CONFIRM"].iter().any(|state| tasks.get(*state).is_some_and(|n| *n > 0));
            Ok((!pending).then_some(tasks))
        })
        .await?;
        let (calls, count) = (admin.cancels(job).await?, tasks.get("CANCELED").copied().unwrap_or_default());
        self.check(
            calls > 0 && count > 0,
            format!("{by}: {count} tasks of the running job cancelled, by {calls} calls"),
        )
    }

    fn act(&self, action: &str) -> Result<()> {
        self.note(&format!("argocd app actions run {} {action}", self.lane.name))?;
        self.ground.argo.act(self.lane.name, ROLLOUT, action)
    }

    /// Which actions Argo CD offers.
    fn offers(&self, state: &str, promised: &[&str]) -> Result<()> {
        let offered = self.ground.argo.actions(self.lane.name, ROLLOUT)?;
        self.check(offered == promised, format!("actions offered when {state}: {offered:?} (promised: {promised:?})"))
    }

    fn note(&self, text: &str) -> Result<()> {
        self.report().act(self.lane.name, text)
    }

    fn check(&self, right: bool, text: impl Into<String>) -> Result<()> {
        self.report().check(self.lane.name, right, text)
    }

    fn report(&self) -> &Report {
        &self.ground.report
    }
}

fn phase(rollout: &FirmwareRollout) -> Option<Phase> {
    rollout.status.as_ref().and_then(|status| status.phase)
}

fn stage(rollout: &FirmwareRollout, name: &str) -> Option<StageState> {
    rollout.status.iter().flat_map(|s| &s.stages).find(|s| s.name == name).map(|s| s.state)
}

fn at(view: &View, commit: &str, health: &str) -> bool {
    view.sync == "Synced" && view.revision == commit && view.health == health
}

/// The states from when a commit was first in sync.
fn at_commit(views: &[View], commit: &str) -> Vec<View> {
    views.iter().filter(|view| view.revision == commit && view.sync == "Synced").cloned().collect()
}

/// The healths, one after the other.
fn path(views: &[View]) -> Vec<String> {
    let mut path: Vec<String> = views.iter().map(|view| view.health.clone()).collect();
    path.dedup();
    path
}
