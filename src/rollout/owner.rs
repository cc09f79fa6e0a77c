//! Whose a job is that carries the tag `fota.id`: one of this object's parts, or somebody else's.
//!
//! A tag is a hash and tells its owner nothing, so the tags that this object may ever have sent are computed anew. What
//! is done about a job never comes in here.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::status::{FirmwareRolloutStatus, StageKind};
use crate::api::{FULL, FirmwareRollout, VERIFY};
use crate::ota::job::JobType;

use super::claim::{self, Part};
use super::{retry, stage};

/// Earlier runs whose tags are recognised.
const EARLIER_RUNS: i64 = 8;
/// Attempts of a stage of an earlier run whose tags are recognised.
const EARLIER_ATTEMPTS: i32 = 3;

/// Which part of an object a tag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// `status.run`.
    pub run: i64,
    /// Stage name.
    pub stage: String,
    /// Attempt of the stage.
    pub attempt: i32,
    /// Part of the attempt.
    pub part: i32,
}

/// The tags that an object may have sent up to now, by value.
pub fn tokens(rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> BTreeMap<String, Own> {
    let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
    let mut names: BTreeSet<String> = stage::plan(&rollout.spec).into_iter().map(|s| s.name).collect();
    names.extend(status.stages.iter().map(|s| s.name.clone()));
    names.extend([VERIFY.to_owned(), FULL.to_owned()]);
    let most_parts = i32::try_from(retry::MOST_PARTS).unwrap_or(1);
    let mut tokens = BTreeMap::new();
    for run in (status.run - EARLIER_RUNS).max(1)..=status.run {
        for name in &names {
            let entry = status.stages.iter().find(|s| s.name == *name && run == status.run);
            let attempts = if run == status.run { entry.map_or(0, |s| s.attempt) } else { EARLIER_ATTEMPTS };
            for attempt in 1..=attempts {
                // Only a retry by names has parts.
                for part in 1..=if attempt == 1 { 1 } else { most_parts } {
                    let token = claim::token(&Part { uid, run, stage: name, attempt, part });
                    tokens.insert(token, Own { run, stage: name.clone(), attempt, part });
                }
            }
        }
    }
    tokens
}

/// Ids of the jobs that an object made: recorded, or too many.
pub fn own(status: &FirmwareRolloutStatus) -> impl Iterator<Item = &str> {
    let recorded = status.stages.iter().flat_map(|s| &s.jobs).map(|j| j.id.as_str());
    recorded.chain(status.duplicates.iter().map(|d| d.id.as_str()))
}

/// Ids of all jobs that an object knows: its own, and those that it lets be.
pub fn known(status: &FirmwareRolloutStatus) -> impl Iterator<Item = &str> {
    own(status).chain(status.beside.iter().map(String::as_str))
}

/// The kind of stage that a job fits, by its `JobType`, `SelectionType` and `TargetSelection`; none: of none that there
/// is.
pub fn kind(of: &JobType, selection: &str, target: &str) -> Option<StageKind> {
    match (of, selection, target) {
        (JobType::Verify, ..) => Some(StageKind::Verify),
        (JobType::Upgrade, "STATIC" | "", "GRAY") => Some(StageKind::Percent),
        (JobType::Upgrade, "STATIC" | "", "SPECIFIC") => Some(StageKind::Devices),
        (JobType::Upgrade, "STATIC" | "", "GROUP") => Some(StageKind::Group),
        (JobType::Upgrade, "STATIC" | "", "ALL") => Some(StageKind::Full),
        // Whatever it says of its targets (ota-api: section 4).
        (JobType::Upgrade, "DYNAMIC", _) => Some(StageKind::Dynamic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_fits_one_kind_of_stage() {
        for (selection, target, expected) in [
            ("STATIC", "GRAY", Some(StageKind::Percent)),
            ("", "SPECIFIC", Some(StageKind::Devices)),
            ("STATIC", "GROUP", Some(StageKind::Group)),
            ("STATIC", "ALL", Some(StageKind::Full)),
            ("DYNAMIC", "ALL", Some(StageKind::Dynamic)),
            ("STATIC", "", None),
        ] {
            assert_eq!(kind(&JobType::Upgrade, selection, target), expected, "{selection} {target}");
        }
        assert_eq!(kind(&JobType::Verify, "STATIC", "SPECIFIC"), Some(StageKind::Verify));
        assert_eq!(kind(&JobType::Other("X".into()), "STATIC", "ALL"), None);
    }

    #[test]
    fn every_part_that_may_have_been_claimed_is_recognised_and_no_other_object_s() {
        let rollout: FirmwareRollout = serde_json::from_value(json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout", "metadata": {"name": "r", "uid": "u"},
            "spec": {"accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "anySourceVersion": true,
                     "gray": [{"name": "canary", "percent": 1}]},
        }))
        .unwrap();
        let mut status = FirmwareRolloutStatus { run: 2, ..FirmwareRolloutStatus::default() };
        for (name, attempt) in [("canary", 2), ("removed", 1)] {
            let stage = json!({"name": name, "kind": "Percent", "state": "Pending", "attempt": attempt});
            status.stages.push(serde_json::from_value(stage).unwrap());
        }
        let tokens = tokens(&rollout, &status);
        let own = |run, stage: &str, attempt, part| Own { run, stage: stage.to_owned(), attempt, part };
        let token = |uid, own: &Own| {
            claim::token(&Part { uid, run: own.run, stage: &own.stage, attempt: own.attempt, part: own.part })
        };
        for own in [own(2, "canary", 1, 1), own(2, "canary", 2, 20), own(2, "removed", 1, 1), own(1, "verify", 1, 1)] {
            assert_eq!(tokens.get(&token("u", &own)), Some(&own));
            assert_eq!(tokens.get(&token("v", &own)), None);
        }
        for own in [own(2, "canary", 3, 1), own(2, "canary", 1, 2), own(3, "canary", 1, 1), own(2, "full", 1, 1)] {
            assert_eq!(tokens.get(&token("u", &own)), None, "{own:?}");
        }
    }
}
