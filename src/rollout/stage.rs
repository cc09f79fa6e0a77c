//! Stages: the plan that a spec means, and the one table of legal transitions.
//!
//! Whether a transition should happen is `decide`'s business.

use std::collections::BTreeSet;

use crate::api::delivery::Delivery;
use crate::api::rollout::{DevicesFrom, DynamicFull, Gate, Group, Schedule};
use crate::api::status::{
    Claim, EffectiveStage, FirmwareRolloutStatus, JobStatus, Phase, StageKind, StageState, StageStatus,
};
use crate::api::{FULL, FirmwareRolloutSpec, Percent, VERIFY};
use crate::ota::id::JobId;
use crate::ota::job::JobStatus as CloudStatus;

use super::{edits, effective, owner};

/// Whom a stage targets, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What the stage does.
    pub kind: StageKind,
    /// Cumulative share, for percent steps.
    pub percent: Option<Percent>,
    /// Named devices, for the verification and devices steps.
    pub devices: Vec<String>,
    /// Where the names of a devices step are kept instead: they are read when it is reached.
    pub devices_from: Option<DevicesFrom>,
    /// The device group, for group steps and a full stage that is for a group only.
    pub group: Option<String>,
    /// When the job starts and ends.
    pub schedule: Option<Schedule>,
    /// The standing policy, for a dynamic stage.
    pub policy: Option<DynamicFull>,
}

impl Target {
    /// Nobody in particular.
    pub const fn of(kind: StageKind) -> Self {
        Self { kind, percent: None, devices: Vec::new(), devices_from: None, group: None, schedule: None, policy: None }
    }
}

/// One stage of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// `verify`, the gray step's name, or `full`.
    pub name: String,
    /// Whom it targets.
    pub target: Target,
    /// How its job reaches devices.
    pub delivery: Delivery,
    /// Its gate, with defaults.
    pub settings: EffectiveStage,
}

/// The stages that a spec means, in order.
pub fn plan(spec: &FirmwareRolloutSpec) -> Vec<Stage> {
    let base = spec.delivery.as_ref();
    let id = |group: &Option<Group>| group.as_ref().map(|g| g.id.clone());
    let mut stages = Vec::new();
    if let Some(verify) = &spec.verify {
        // A verification has no gate of its own: the package's status is the verdict.
        let written = effective::written_of_verify(base, verify.delivery.as_ref());
        let target = Target { devices: verify.devices.clone(), ..Target::of(StageKind::Verify) };
        stages.push(declared(VERIFY, target, None, written));
    }
    for step in spec.gray.iter().flatten() {
        let kind = match (&step.percent, &step.group) {
            (Some(_), _) => StageKind::Percent,
            (None, Some(_)) => StageKind::Group,
            (None, None) => StageKind::Devices,
        };
        let devices = step.devices.clone().unwrap_or_default();
        let devices_from = step.devices_from.clone();
        let target =
            Target { percent: step.percent, devices, devices_from, group: id(&step.group), ..Target::of(kind) };
        let written = effective::written(base, step.delivery.as_ref());
        stages.push(declared(&step.name, target, step.gate.as_ref(), written));
    }
    if let Some(full) = &spec.full {
        let target = match (&full.dynamic, full.fixed.clone().unwrap_or_default()) {
            (Some(policy), _) => {
                Target { group: id(&policy.group), policy: Some(policy.clone()), ..Target::of(StageKind::Dynamic) }
            }
            (None, fixed) => {
                Target { group: id(&fixed.group), schedule: fixed.schedule, ..Target::of(StageKind::Full) }
            }
        };
        let written = effective::written(base, full.delivery.as_ref());
        stages.push(declared(FULL, target, full.gate.as_ref(), written));
    }
    stages
}

fn declared(name: &str, target: Target, gate: Option<&Gate>, written: Delivery) -> Stage {
    let hashes = (edits::targets(&target), edits::delivery(&written));
    let delivery = effective::delivery(written);
    let settings = effective::stage(name, gate, &delivery, target.kind.is_full());
    let settings = EffectiveStage { targets: Some(hashes.0), delivery: Some(hashes.1), ..settings };
    Stage { name: name.to_owned(), target, delivery, settings }
}

/// Whether a stage may go from one state to another. Every write is checked against this table.
pub const fn legal(from: StageState, to: StageState) -> bool {
    use StageState::{Aborted, Claimed, Failed, Passed, Pending, Running, Skipped, Soaking};
    matches!(
        (from, to),
        // Running without a claim: a job that showed up late, or that a person says is ours.
        (Pending, Claimed | Running | Passed | Skipped | Failed | Aborted)
            | (Claimed, Running | Pending | Passed)
            | (Running, Claimed | Soaking | Passed | Failed | Aborted)
            | (Soaking, Running | Passed | Failed | Aborted)
    )
}

/// What makes a status impossible, or a change of status: told to a person, and never written.
///
/// `old` and `new` may be the same: then it is the status itself that is checked.
pub fn violation(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    runs(old, new)
        .or_else(|| claim(new))
        .or_else(|| claims(old, new))
        .or_else(|| stages(old, new))
        .or_else(|| jobs(old, new))
}

/// Whether two statuses say the same but for what is told to people: a broken one can still be called so.
pub fn told_alike(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> bool {
    let untold = |status: &FirmwareRolloutStatus| FirmwareRolloutStatus {
        observed_generation: None,
        next: None,
        conditions: Vec::new(),
        ..status.clone()
    };
    untold(old) == untold(new)
}

fn runs(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    if new.run < old.run || new.run > old.run + 1 {
        return Some(format!("run goes from {} to {}", old.run, new.run));
    }
    (new.run > old.run && old.claim.is_some())
        .then(|| format!("run {} starts before its forerunner's create is resolved", new.run))
}

/// A claim and its stage speak of each other.
fn claim(status: &FirmwareRolloutStatus) -> Option<String> {
    let claimed: Vec<_> = status.stages.iter().filter(|s| s.state == StageState::Claimed).map(|s| &s.name).collect();
    let expected: Vec<_> = status.claim.iter().map(|c| &c.stage).collect();
    if claimed != expected {
        return Some(format!("the claim is of stage {expected:?}, and {claimed:?} is called claimed"));
    }
    let claim = status.claim.as_ref()?;
    let entry = status.stages.iter().find(|s| s.name == claim.stage)?;
    let (is, should) = ((claim.run, claim.attempt, claim.epoch), (status.run, entry.attempt, entry.epoch));
    if is != should {
        return Some(format!("the claim is of run, attempt, epoch {is:?}, and its stage is in {should:?}"));
    }
    (claim.part < 1 || claim.epoch < 1).then(|| "the claim has no part or no epoch".to_owned())
}

/// What may become of a claim in one write.
fn claims(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    let epoch = |name: &str| old.stages.iter().find(|s| s.name == name && old.run == new.run).map_or(0, |s| s.epoch);
    match (&old.claim, &new.claim) {
        (Some(before), Some(after)) => {
            if (Claim { sent: after.sent, ..before.clone() }) != *after {
                return Some(format!("the claim of stage {} was changed", before.stage));
            }
            (before.sent && !after.sent).then(|| "a claim that may have been sent is called unsent".to_owned())
        }
        (None, Some(made)) if made.sent => Some("a claim is called sent before it was written".to_owned()),
        (None, Some(made)) if made.epoch != epoch(&made.stage) + 1 => {
            Some(format!("epoch {} of stage {} does not follow {}", made.epoch, made.stage, epoch(&made.stage)))
        }
        (None, Some(made)) => new
            .stages
            .iter()
            .flat_map(|s| &s.jobs)
            .find(|job| job.token == made.token)
            .map(|job| format!("the part of stage {} that is claimed has job {} already", made.stage, job.id)),
        (_, None) => None,
    }
}

/// Each stage moves along the table.
fn stages(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    if new.stages.iter().filter(|s| under_way(s.state)).count() > 1 {
        return Some("two stages are under way at once".to_owned());
    }
    if old.run != new.run {
        return None;
    }
    if let Some(lost) = old.stages.iter().find(|s| new.stages.iter().all(|n| n.name != s.name)) {
        return Some(format!("stage {} is gone", lost.name));
    }
    for entry in &new.stages {
        let Some(before) = old.stages.iter().find(|s| s.name == entry.name) else { continue };
        if entry.attempt < before.attempt || entry.epoch < before.epoch {
            return Some(format!("attempt or epoch of stage {} went back", entry.name));
        }
        let renewed = entry.attempt > before.attempt;
        let from = match before.state {
            // Another attempt starts over: of what ended badly, or of what somebody else cancelled.
            StageState::Failed | StageState::Aborted | StageState::Running | StageState::Soaking
                if entry.attempt == before.attempt + 1 =>
            {
                StageState::Pending
            }
            _ if renewed => return Some(format!("stage {} has another attempt without having ended", entry.name)),
            state => state,
        };
        if from != entry.state && !legal(from, entry.state) {
            return Some(format!("stage {} goes from {from} to {}", entry.name, entry.state));
        }
        let found = matches!((from, entry.state), (StageState::Pending | StageState::Claimed, StageState::Running));
        if found && entry.jobs.len() <= before.jobs.len() {
            return Some(format!("stage {} runs without a job", entry.name));
        }
    }
    None
}

/// A job that was recorded stays so, once.
fn jobs(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = owner::own(new).find(|id| !seen.insert(*id)) {
        return Some(format!("job {twice} is there twice"));
    }
    if old.run != new.run {
        return None;
    }
    let recorded = old.stages.iter().flat_map(|s| &s.jobs).map(|j| j.id.as_str());
    let mut lost = recorded.filter(|id| !seen.contains(id));
    lost.next().map(|id| format!("job {id} is recorded no more"))
}

/// Nothing more will happen in this stage by itself.
pub const fn ended(state: StageState) -> bool {
    matches!(state, StageState::Passed | StageState::Skipped | StageState::Failed | StageState::Aborted)
}

/// It was claimed or runs.
const fn under_way(state: StageState) -> bool {
    matches!(state, StageState::Claimed | StageState::Running | StageState::Soaking)
}

/// The stage that was claimed or runs. At most one is.
pub fn active(stages: &[StageStatus]) -> Option<&StageStatus> {
    stages.iter().find(|s| under_way(s.state))
}

/// The stage to start next: the first of the plan behind every stage that has ended. A step that an edit put in front
/// of one that is over is not run any more: a later stage must never be followed by an earlier one.
pub fn next<'a>(plan: &'a [Stage], stages: &[StageStatus]) -> Option<&'a Stage> {
    let over = |stage: &Stage| stages.iter().any(|s| s.name == stage.name && ended(s.state));
    let first = plan.iter().rposition(over).map_or(0, |last| last + 1);
    plan.get(first)
}

/// The stage that is claimed, or that comes next and has no job yet; by name, because that needs no plan.
pub fn upcoming<'a>(spec: &'a FirmwareRolloutSpec, status: &'a FirmwareRolloutStatus) -> Option<&'a str> {
    if let Some(claim) = &status.claim {
        return Some(&claim.stage);
    }
    let gray = spec.gray.iter().flatten().map(|step| step.name.as_str());
    let names: Vec<_> = spec.verify.iter().map(|_| VERIFY).chain(gray).chain(spec.full.iter().map(|_| FULL)).collect();
    let entry = |name: &str| status.stages.iter().find(|s| s.name == name);
    let over = |name: &&str| entry(name).is_some_and(|s| ended(s.state));
    let next = names.get(names.iter().rposition(over).map_or(0, |last| last + 1))?;
    entry(next).is_none_or(|s| s.state == StageState::Pending).then_some(*next)
}

/// Whether a job was made with a schedule: its tasks wait for their time, and a cancel has to name them apart.
pub fn is_scheduled(status: Option<&FirmwareRolloutStatus>, job: &JobId) -> bool {
    let mut jobs = status.iter().flat_map(|s| &s.stages).flat_map(|s| &s.jobs);
    jobs.any(|j| j.id == job.as_str() && j.view.as_ref().is_some_and(|v| v.utc_schedule_time.is_some()))
}

/// Whether it is a standing policy, which gives devices the firmware until it is cancelled.
pub fn stands(stage: &StageStatus) -> bool {
    stage.kind == StageKind::Dynamic && stage.state == StageState::Running
}

/// Whether the cloud has said of a job that it is over: it never becomes anything else.
pub fn is_over(job: &JobStatus) -> bool {
    let told = job.view.as_ref().is_some_and(|view| CloudStatus::from_text(&view.job_status).is_terminal());
    told || job.gone
}

/// Whether the run went back to firmware that was complete before: it has nothing to do, and no stages.
pub fn reverted(status: &FirmwareRolloutStatus) -> bool {
    status.phase == Some(Phase::Completed) && status.stages.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_stage_never_moves() {
        use StageState::*;
        let all = [Pending, Claimed, Running, Soaking, Passed, Skipped, Failed, Aborted];
        for from in [Passed, Skipped, Failed, Aborted] {
            assert!(all.iter().all(|to| !legal(from, *to)), "{from}");
        }
        assert!(all.iter().all(|s| !legal(*s, *s)));
        assert!(!legal(Claimed, Failed), "a claim is resolved before anything is judged");
        assert!(legal(Running, Soaking) && legal(Soaking, Running));
    }

    fn entry(name: &str, state: StageState) -> StageStatus {
        let stage = serde_json::json!({"name": name, "kind": "Percent", "state": state, "attempt": 1});
        serde_json::from_value(stage).unwrap()
    }

    fn with_job(mut entry: StageStatus, id: &str) -> StageStatus {
        let job = serde_json::json!({"id": id, "attempt": 1, "part": 1, "token": id});
        entry.jobs.push(serde_json::from_value(job).unwrap());
        entry
    }

    fn status(stages: &[StageStatus]) -> FirmwareRolloutStatus {
        FirmwareRolloutStatus { run: 1, stages: stages.to_vec(), ..FirmwareRolloutStatus::default() }
    }

    /// The same, with a claim of a stage in its first epoch.
    fn claimed(stage: &str) -> FirmwareRolloutStatus {
        let claim = serde_json::json!({
            "run": 1, "stage": stage, "attempt": 1, "part": 1, "epoch": 1, "at": "2026-01-01T00:00:00Z", "token": "t",
            "call": {"operation": "o", "parameters": {}, "firmwareId": "f", "endpoint": "e", "accessKey": "k"},
        });
        let entry = StageStatus { epoch: 1, ..entry(stage, StageState::Claimed) };
        FirmwareRolloutStatus { claim: serde_json::from_value(claim).unwrap(), ..status(&[entry]) }
    }

    fn change(
        mut status: FirmwareRolloutStatus,
        change: impl FnOnce(&mut FirmwareRolloutStatus),
    ) -> FirmwareRolloutStatus {
        change(&mut status);
        status
    }

    #[test]
    fn a_plan_has_each_stage_with_its_targets_and_what_they_are_known_by() {
        let spec: FirmwareRolloutSpec = serde_json::from_value(serde_json::json!({
            "accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "sourceVersions": ["1"],
            "delivery": {"maximumPerMinute": 30, "confirm": true},
            "verify": {"devices": ["lab"]},
            "gray": [
                {"name": "some", "percent": 5},
                {"name": "named", "devices": ["a", "b"], "delivery": {"maximumPerMinute": 60}},
                {"name": "listed", "devicesFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                {"name": "group", "group": {"id": "g"}},
            ],
            "full": {"dynamic": {"group": {"id": "h"}}},
        }))
        .unwrap();
        let plan = plan(&spec);
        let of = |name: &str| plan.iter().find(|s| s.name == name).unwrap();
        let kinds: Vec<_> = plan.iter().map(|s| (s.name.as_str(), s.target.kind)).collect();
        use StageKind::*;
        let expected =
            [("verify", Verify), ("some", Percent), ("named", Devices), ("listed", Devices), ("group", Group)];
        assert_eq!(kinds[..5], expected);
        assert_eq!(kinds[5], ("full", Dynamic));
        assert_eq!((of("verify").target.devices.len(), of("named").target.devices.join(" ")), (1, "a b".to_owned()));
        assert_eq!(of("some").target.percent, Some(crate::api::Percent::whole(5)));
        assert_eq!(of("listed").target.devices_from.as_ref().unwrap().config_map_key_ref.key, "k");
        assert_eq!((of("group").target.group.as_deref(), of("full").target.group.as_deref()), (Some("g"), Some("h")));
        assert!(of("full").target.policy.is_some());
        assert_eq!((of("some").settings.maximum_per_minute, of("named").settings.maximum_per_minute), (30, 60));
        assert_eq!((of("verify").delivery.confirm, of("named").delivery.confirm), (None, Some(true)));
        for stage in &plan {
            assert_eq!(stage.settings.targets, Some(edits::targets(&stage.target)), "{}", stage.name);
            assert!(stage.settings.delivery.is_some(), "{}", stage.name);
        }
        let targets: BTreeSet<_> = plan.iter().map(|s| s.settings.targets.clone()).collect();
        assert_eq!(targets.len(), plan.len());
    }

    #[test]
    fn what_is_told_to_people_is_no_difference() {
        let broken = status(&[entry("a", StageState::Running)]);
        let told = change(broken.clone(), |s| {
            s.observed_generation = Some(2);
            let condition = serde_json::json!({
                "type": "Stalled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                "reason": "StatusInvalid", "message": "why",
            });
            s.conditions = vec![serde_json::from_value(condition).unwrap()];
        });
        assert!(told_alike(&broken, &told) && told_alike(&told, &broken));
        assert!(!told_alike(&broken, &change(told, |s| s.run = 2)));
    }

    #[test]
    fn the_next_stage_stands_behind_the_last_one_that_has_ended() {
        use StageState::{Passed, Pending, Running, Skipped};
        let spec: FirmwareRolloutSpec = serde_json::from_value(serde_json::json!({
            "accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "sourceVersions": ["1"],
            "verify": {"devices": ["lab"]}, "gray": [{"name": "a", "percent": 5}, {"name": "b", "percent": 9}],
            "full": {"static": {}},
        }))
        .unwrap();
        let plan = plan(&spec);
        for (stages, follows, ahead) in [
            (&[][..], Some("verify"), Some("verify")),
            (&[("verify", Skipped)], Some("a"), Some("a")),
            (&[("verify", Passed), ("a", Pending)], Some("a"), Some("a")),
            (&[("verify", Passed), ("a", Running)], Some("a"), None),
            (&[("verify", Passed), ("b", Passed)], Some("full"), Some("full")),
            (&[("full", Passed)], None, None),
        ] {
            let stages: Vec<_> = stages.iter().map(|(name, state)| entry(name, *state)).collect();
            assert_eq!(next(&plan, &stages).map(|s| s.name.as_str()), follows, "{stages:?}");
            assert_eq!(upcoming(&spec, &status(&stages)), ahead, "{stages:?}");
        }
        assert_eq!(upcoming(&spec, &claimed("b")), Some("b"));
    }

    #[test]
    fn a_job_is_over_when_the_cloud_said_so_or_knows_it_no_more() {
        let job = |changes: serde_json::Value| {
            let mut job = serde_json::json!({"id": "j", "attempt": 1, "part": 1, "token": "t"});
            job.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            serde_json::from_value::<JobStatus>(job).unwrap()
        };
        let view = |status: &str| serde_json::json!({"view": {"jobStatus": status, "jobType": "", "selectionType": "", "targetSelection": ""}});
        assert!(is_over(&job(view("CANCELED"))) && is_over(&job(view("COMPLETED"))));
        assert!(is_over(&job(serde_json::json!({"gone": true}))));
        assert!(!is_over(&job(view("IN_PROGRESS"))) && !is_over(&job(serde_json::json!({}))));
        let mut scheduled = view("PLANNED");
        scheduled["view"]["utcScheduleTime"] = serde_json::json!("2026-01-01T00:00:00Z");
        scheduled["id"] = serde_json::json!("s");
        let mut both = entry("full", StageState::Running);
        both.jobs = vec![job(view("PLANNED")), job(scheduled)];
        let status = status(&[both]);
        let named = |id: &str| is_scheduled(Some(&status), &JobId::new(id));
        assert!(named("s") && !named("j") && !named("x") && !is_scheduled(None, &JobId::new("s")));
    }

    #[test]
    fn a_run_that_went_back_is_complete_without_stages() {
        let of = |phase, stages: &[StageStatus]| reverted(&FirmwareRolloutStatus { phase, ..status(stages) });
        assert!(of(Some(Phase::Completed), &[]));
        assert!(!of(Some(Phase::Completed), &[entry("a", StageState::Passed)]) && !of(Some(Phase::Pending), &[]));
    }

    #[test]
    fn a_policy_stands_while_its_stage_runs() {
        let of = |kind, state| stands(&StageStatus { kind, ..entry("full", state) });
        assert!(of(StageKind::Dynamic, StageState::Running));
        assert!(!of(StageKind::Dynamic, StageState::Passed) && !of(StageKind::Full, StageState::Running));
    }

    #[test]
    fn every_write_is_held_against_the_table() {
        use StageState::*;
        let none = FirmwareRolloutStatus::default();
        let (pending, ran) = (status(&[entry("a", Pending)]), status(&[with_job(entry("a", Running), "t")]));
        let claimed = claimed("a");
        let sent = change(claimed.clone(), |s| s.claim.as_mut().unwrap().sent = true);
        let failed = status(&[with_job(entry("a", Failed), "t")]);
        let again = |attempt| StageStatus { attempt, ..with_job(entry("a", Pending), "t") };
        let epoch = |epoch| {
            let mut status = claimed.clone();
            (status.claim.as_mut().unwrap().epoch, status.stages[0].epoch) = (epoch, epoch);
            status
        };
        let run = |run| FirmwareRolloutStatus { run, ..none.clone() };
        let passed = status(&[with_job(entry("a", Passed), "t")]);
        let twice = change(ran.clone(), |s| {
            s.duplicates.push(crate::api::status::Duplicate { id: "t".into(), stage: "a".into(), ended: false });
        });
        let two = status(&[with_job(entry("a", Running), "t"), with_job(entry("b", Soaking), "u")]);
        let part = change(claimed.clone(), |s| s.stages[0].jobs = ran.stages[0].jobs.clone());
        let next_run = change(claimed.clone(), |s| (s.run, s.claim.as_mut().unwrap().run) = (2, 2));
        // From, to, and what is wrong with it.
        for (old, new, wrong) in [
            (&none, &pending, None),
            (&none, &claimed, None),
            (&pending, &claimed, None),
            (&claimed, &sent, None),
            (&claimed, &pending, Some("epoch")),
            (&claimed, &status(&[StageStatus { epoch: 1, ..entry("a", Pending) }]), None),
            (&claimed, &status(&[StageStatus { epoch: 1, ..with_job(entry("a", Running), "t") }]), None),
            (&claimed, &status(&[StageStatus { epoch: 1, ..entry("a", Running) }]), Some("without a job")),
            (&pending, &ran, None),
            (&pending, &status(&[entry("a", Running)]), Some("without a job")),
            (&sent, &claimed, Some("unsent")),
            (&pending, &sent, Some("before it was written")),
            (&pending, &epoch(2), Some("does not follow")),
            (&claimed, &epoch(2), Some("changed")),
            (&status(&[StageStatus { epoch: 1, ..entry("a", Pending) }]), &epoch(2), None),
            (&status(&[StageStatus { epoch: 1, ..entry("a", Pending) }]), &claimed, Some("does not follow")),
            // Another run counts from 1 again.
            (&status(&[StageStatus { epoch: 3, ..entry("a", Passed) }]), &next_run, None),
            (&pending, &part, Some("has job t already")),
            (&claimed, &change(claimed.clone(), |s| s.claim.as_mut().unwrap().part = 2), Some("changed")),
            (&none, &change(claimed.clone(), |s| s.claim.as_mut().unwrap().attempt = 2), Some("its stage is in")),
            (&none, &change(claimed.clone(), |s| s.claim.as_mut().unwrap().part = 0), Some("no part")),
            (&none, &epoch(0), Some("no epoch")),
            (&none, &change(claimed.clone(), |s| s.claim = None), Some("called claimed")),
            (&none, &change(claimed.clone(), |s| s.stages.clear()), Some("called claimed")),
            (&ran, &passed, None),
            (&passed, &ran, Some("Passed to Running")),
            (&failed, &status(&[again(2)]), None),
            (&failed, &status(&[again(3)]), Some("another attempt")),
            // What somebody else cancelled is made again.
            (&ran, &status(&[again(2)]), None),
            (&ran, &status(&[again(3)]), Some("another attempt")),
            (&passed, &status(&[again(2)]), Some("another attempt")),
            (&status(&[again(2)]), &pending, Some("went back")),
            (&ran, &status(&[entry("a", Running)]), Some("recorded no more")),
            (&ran, &status(&[]), Some("stage a is gone")),
            (&ran, &twice, Some("twice")),
            (&ran, &two, Some("two stages")),
            (&passed, &run(2), None),
            (&passed, &run(3), Some("run goes")),
            (&run(2), &run(1), Some("run goes")),
            (&claimed, &run(2), Some("forerunner")),
        ] {
            let said = violation(old, new);
            let fits = match (&said, wrong) {
                (Some(said), Some(wrong)) => said.contains(wrong),
                (said, wrong) => said.is_none() && wrong.is_none(),
            };
            assert!(fits, "{said:?} instead of {wrong:?}\n{old:?}\n{new:?}");
        }
    }
}
