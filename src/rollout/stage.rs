//! Stages: the plan that a spec means, and the one table of legal transitions.
//!
//! Whether a transition should happen is `decide`'s business.

use crate::api::rollout::Delivery;
use crate::api::status::{EffectiveStage, FirmwareRolloutStatus, Phase, StageKind, StageState, StageStatus};
use crate::api::{FULL, FirmwareRolloutSpec, Percent, VERIFY};

use super::effective;

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
        let delivery = effective::delivery(None, None);
        stages.push(Stage {
            name: VERIFY.to_owned(),
            kind: StageKind::Verify,
            percent: None,
            devices: verify.devices.clone(),
            settings: effective::stage(VERIFY, None, &delivery, false),
            delivery,
        });
    }
    for step in spec.gray.iter().flatten() {
        let delivery = effective::delivery(base, step.delivery.as_ref());
        stages.push(Stage {
            name: step.name.clone(),
            kind: if step.percent.is_some() { StageKind::Percent } else { StageKind::Devices },
            percent: step.percent,
            devices: step.devices.clone().unwrap_or_default(),
            settings: effective::stage(&step.name, step.gate.as_ref(), &delivery, false),
            delivery,
        });
    }
    if let Some(full) = &spec.full {
        let delivery = effective::delivery(base, full.delivery.as_ref());
        stages.push(Stage {
            name: FULL.to_owned(),
            kind: StageKind::Full,
            percent: None,
            devices: Vec::new(),
            settings: effective::stage(FULL, full.gate.as_ref(), &delivery, true),
            delivery,
        });
    }
    stages
}

/// Whether a stage may go from one state to another. Every write is checked against this table.
pub const fn legal(from: StageState, to: StageState) -> bool {
    use StageState::{Claimed, Failed, Passed, Pending, Running, Skipped, Soaking};
    matches!(
        (from, to),
        (Pending, Claimed | Passed | Skipped | Failed)
            | (Claimed, Running | Pending | Passed)
            | (Running, Soaking | Passed | Failed)
            | (Soaking, Running | Passed | Failed)
    )
}

/// Nothing more will happen in this stage by itself.
pub const fn ended(state: StageState) -> bool {
    matches!(state, StageState::Passed | StageState::Skipped | StageState::Failed)
}

/// The stage that was claimed or runs. At most one is.
pub fn active(stages: &[StageStatus]) -> Option<&StageStatus> {
    stages.iter().find(|s| matches!(s.state, StageState::Claimed | StageState::Running | StageState::Soaking))
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
        let all = [Pending, Claimed, Running, Soaking, Passed, Skipped, Failed];
        for from in [Passed, Skipped, Failed] {
            assert!(all.iter().all(|to| !legal(from, *to)), "{from}");
        }
        assert!(all.iter().all(|s| !legal(*s, *s)));
        assert!(!legal(Pending, Running), "no job without a claim");
        assert!(!legal(Claimed, Failed), "a claim is resolved before anything is judged");
        assert!(legal(Running, Soaking) && legal(Soaking, Running));
    }
}
