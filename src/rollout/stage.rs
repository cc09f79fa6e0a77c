//! Stages: the plan that a spec means, and the one table of legal transitions.
//!
//! Whether a transition should happen is `decide`'s business.

use crate::api::rollout::{Delivery, Gate};
use crate::api::status::{EffectiveStage, FirmwareRolloutStatus, Phase, StageKind, StageState, StageStatus};
use crate::api::{FULL, FirmwareRolloutSpec, Percent, VERIFY};

use super::{edits, effective};

/// One stage of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// `verify`, the gray step's name, or `full`.
    pub name: String,
    /// What it does.
    pub kind: StageKind,
    /// Cumulative share, for percent steps.
    pub percent: Option<Percent>,
    /// Named devices, for the verification and devices steps.
    pub devices: Vec<String>,
    /// How its job reaches devices.
    pub delivery: Delivery,
    /// Its gate, with defaults.
    pub settings: EffectiveStage,
}

/// The stages that a spec means, in order.
pub fn plan(spec: &FirmwareRolloutSpec) -> Vec<Stage> {
    let base = spec.delivery.as_ref();
    let mut stages = Vec::new();
    if let Some(verify) = &spec.verify {
        // A verification takes no rate and has no gate of its own: the package's status is the verdict.
        let written = effective::written(None, None);
        stages.push(declared(VERIFY, StageKind::Verify, None, &verify.devices, None, written));
    }
    for step in spec.gray.iter().flatten() {
        let kind = if step.percent.is_some() { StageKind::Percent } else { StageKind::Devices };
        let devices = step.devices.as_deref().unwrap_or_default();
        let written = effective::written(base, step.delivery.as_ref());
        stages.push(declared(&step.name, kind, step.percent, devices, step.gate.as_ref(), written));
    }
    if let Some(full) = &spec.full {
        let written = effective::written(base, full.delivery.as_ref());
        stages.push(declared(FULL, StageKind::Full, None, &[], full.gate.as_ref(), written));
    }
    stages
}

fn declared(
    name: &str,
    kind: StageKind,
    percent: Option<Percent>,
    devices: &[String],
    gate: Option<&Gate>,
    written: Delivery,
) -> Stage {
    let hashes = (edits::targets(kind, percent, devices), edits::delivery(&written));
    let delivery = effective::delivery(written);
    let settings = effective::stage(name, gate, &delivery, kind == StageKind::Full);
    let settings = EffectiveStage { targets: Some(hashes.0), delivery: Some(hashes.1), ..settings };
    Stage { name: name.to_owned(), kind, percent, devices: devices.to_vec(), delivery, settings }
}

/// Whether a stage may go from one state to another. Every write is checked against this table.
pub const fn legal(from: StageState, to: StageState) -> bool {
    use StageState::{Aborted, Claimed, Failed, Passed, Pending, Running, Skipped, Soaking};
    matches!(
        (from, to),
        (Pending, Claimed | Passed | Skipped | Failed | Aborted)
            | (Claimed, Running | Pending | Passed)
            | (Running, Claimed | Soaking | Passed | Failed | Aborted)
            | (Soaking, Running | Passed | Failed | Aborted)
    )
}

/// What makes a status impossible, or a change of status: told to a person, and never written.
///
/// `old` and `new` may be the same: then it is the status itself that is checked.
pub fn violation(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Option<String> {
    if new.run < old.run {
        return Some(format!("run went back from {} to {}", old.run, new.run));
    }
    let claimed: Vec<_> = new.stages.iter().filter(|s| s.state == StageState::Claimed).map(|s| &s.name).collect();
    let expected: Vec<_> = new.claim.iter().map(|c| &c.stage).collect();
    if claimed != expected {
        return Some(format!("the claim is of stage {expected:?}, and {claimed:?} is called claimed"));
    }
    if new.stages.iter().filter(|s| under_way(s.state)).count() > 1 {
        return Some("two stages are under way at once".to_owned());
    }
    for entry in &new.stages {
        let before = old.stages.iter().find(|s| s.name == entry.name && old.run == new.run);
        let Some(before) = before else { continue };
        if entry.attempt < before.attempt || entry.epoch < before.epoch {
            return Some(format!("attempt or epoch of stage {} went back", entry.name));
        }
        let renewed = entry.attempt > before.attempt;
        let from = match before.state {
            // Another attempt starts over: of what ended badly, or of what somebody else cancelled.
            StageState::Failed | StageState::Aborted | StageState::Running | StageState::Soaking if renewed => {
                StageState::Pending
            }
            _ if renewed => return Some(format!("stage {} has another attempt without having ended", entry.name)),
            state => state,
        };
        if from != entry.state && !legal(from, entry.state) {
            return Some(format!("stage {} goes from {from} to {}", entry.name, entry.state));
        }
    }
    None
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
        assert!(!legal(Pending, Running), "no job without a claim");
        assert!(!legal(Claimed, Failed), "a claim is resolved before anything is judged");
        assert!(legal(Running, Soaking) && legal(Soaking, Running));
    }
}
