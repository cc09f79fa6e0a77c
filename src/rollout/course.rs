//! Which run is in force when the firmware changes: the one under way, or one of the spec's. What is done about it is
//! decided elsewhere.

use std::sync::Arc;

use crate::api::FirmwareRolloutSpec;
use crate::api::rollout::{FirmwareRef, Supersede};
use crate::api::status::{FirmwareRolloutStatus, Phase, StageKind};
use crate::api::{FULL, VERIFY};

use super::stage::{Stage, Target};
use super::{effective, revision};

/// How a run stands to its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is the run of the spec's own firmware, or none has begun.
    Own,
    /// The spec has other firmware, which waits until the run has ended.
    Queued,
    /// The spec has other firmware, or had it when the run was left: the run is over.
    Superseded,
}

/// How a run stands to its spec, of which `wanted` is the revision. Only a run that has made something of itself is
/// waited for: one that cannot begin, as by a wrong version, must not keep its correction out.
pub fn of(spec: &FirmwareRolloutSpec, wanted: &str, status: &FirmwareRolloutStatus) -> Course {
    if status.phase == Some(Phase::Superseded) {
        // Tasks of it were cancelled: going back to its firmware is another run.
        return Course::Superseded;
    }
    if status.run == 0 || status.revision.as_deref() == Some(wanted) {
        return Course::Own;
    }
    let back = status.last_completed.as_ref().is_some_and(|last| last.revision == wanted);
    let ended = status.phase.is_some_and(Phase::has_ended);
    let under_way = status.claim.is_some() || status.stages.iter().any(|s| !s.jobs.is_empty());
    if spec.supersede == Some(Supersede::Queue) && under_way && !ended && !back {
        Course::Queued
    } else {
        Course::Superseded
    }
}

/// The plan in force: the spec's, or the one of the run that other firmware waits for, as `status.effective` has it. What
/// the spec says of such a stage counts where its hashes agree; [`super::edits::of`] tells where they do not.
pub fn plan(declared: &Arc<[Stage]>, course: Course, status: &FirmwareRolloutStatus) -> Arc<[Stage]> {
    if course != Course::Queued {
        return declared.clone();
    }
    let force = status.effective.iter().flat_map(|e| &e.stages);
    force
        .map(|settings| {
            let entry = status.stages.iter().find(|s| s.name == settings.name);
            let declared = declared.iter().find(|s| s.name == settings.name).cloned();
            let known = declared.filter(|d| d.settings.targets == settings.targets);
            let kind = match settings.name.as_str() {
                VERIFY => StageKind::Verify,
                FULL => known.as_ref().map_or(StageKind::Full, |k| k.target.kind),
                _ => known.as_ref().map_or(StageKind::Devices, |k| k.target.kind),
            };
            let target = known.as_ref().map_or_else(|| Target::of(kind), |k| k.target.clone());
            let percent = entry.and_then(|e| e.percent).or(target.percent);
            Stage {
                name: settings.name.clone(),
                target: Target { kind: entry.map_or(kind, |e| e.kind), percent, ..target },
                delivery: known.map_or_else(|| effective::delivery(effective::written(None, None)), |k| k.delivery),
                settings: settings.clone(),
            }
        })
        .collect()
}

/// The package in force, as it is named.
pub fn firmware(spec: &FirmwareRolloutSpec, course: Course, status: &FirmwareRolloutStatus) -> FirmwareRef {
    match (&status.firmware, course) {
        (Some(pinned), Course::Own) => FirmwareRef { id: Some(pinned.id.clone()), ..spec.firmware.clone() },
        (Some(pinned), Course::Queued) => FirmwareRef {
            id: Some(pinned.id.clone()),
            version: Some(pinned.version.clone()),
            module: pinned.module.clone(),
        },
        _ => spec.firmware.clone(),
    }
}

/// The revision in force: readings of a package belong to it.
pub fn revision(spec: &FirmwareRolloutSpec, status: &FirmwareRolloutStatus) -> String {
    let wanted = revision::of_spec(spec);
    match (&status.revision, of(spec, &wanted, status)) {
        (Some(revision), Course::Queued) => revision.clone(),
        _ => wanted,
    }
}
