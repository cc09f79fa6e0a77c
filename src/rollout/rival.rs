//! Exclusivity: two rollouts of one product never run jobs at the same time, because a device takes one task at a time
//! and the later job's tasks would fail as conflicts.

use std::collections::BTreeMap;

use crate::api::FirmwareRollout;
use crate::api::condition;
use crate::api::status::Phase;
use crate::ota::id::JobId;

use super::owner;

/// Who goes before a rollout, among the others of its product and account: one that runs jobs, or an older one that is
/// about to.
pub fn before<'a>(
    rollout: &FirmwareRollout,
    others: impl Iterator<Item = &'a FirmwareRollout>,
) -> Option<&'a FirmwareRollout> {
    let running = is_running(rollout);
    // Timestamps have whole seconds: what one `kubectl apply` made at once goes by name.
    let age = |r: &FirmwareRollout| {
        let meta = &r.metadata;
        (meta.creation_timestamp.clone().map(|t| t.0), meta.name.clone(), meta.uid.clone())
    };
    others
        .filter(|other| other.metadata.uid != rollout.metadata.uid)
        .filter(|other| {
            let older = age(other) < age(rollout);
            if running { is_running(other) && older } else { is_running(other) || (older && is_about_to(other)) }
        })
        .min_by_key(|other| age(other))
}

/// The jobs that the other rollouts of its product and account know, and whose they are: exclusivity keeps them from
/// those.
pub fn siblings<'a>(
    rollout: &FirmwareRollout,
    others: impl Iterator<Item = &'a FirmwareRollout>,
) -> BTreeMap<JobId, String> {
    let mut all = BTreeMap::new();
    for other in others.filter(|other| other.metadata.uid != rollout.metadata.uid) {
        let name = |text: &Option<String>| text.clone().unwrap_or_default();
        let whose = format!("{}/{}", name(&other.metadata.namespace), name(&other.metadata.name));
        let known = other.status.iter().flat_map(owner::known);
        all.extend(known.map(|id| (JobId::new(id.to_owned()), whose.clone())));
    }
    all
}

/// Whether it has jobs under way: a stage was reached beyond waiting, and the run has not ended.
fn is_running(rollout: &FirmwareRollout) -> bool {
    let Some(status) = &rollout.status else { return false };
    let ended = status.phase.is_some_and(Phase::has_ended);
    status.claim.is_some() || (!ended && status.stages.iter().any(|s| !s.jobs.is_empty()))
}

/// Whether it would start by itself. One that needs a person, or is told to wait, does not hold up others.
fn is_about_to(rollout: &FirmwareRollout) -> bool {
    if rollout.metadata.deletion_timestamp.is_some() || rollout.spec.suspend == Some(true) {
        return false;
    }
    let Some(status) = &rollout.status else { return true };
    condition::find(&status.conditions, "Reconciling").is_none_or(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::FirmwareRolloutStatus;
    use crate::rollout::story::{Situation, tell};

    fn rollout(name: &str, second: i64, status: Option<FirmwareRolloutStatus>) -> FirmwareRollout {
        let spec = serde_json::json!({
            "accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "anySourceVersion": true,
            "full": {"static": {}},
        });
        let mut rollout = FirmwareRollout::new(name, serde_json::from_value(spec).unwrap());
        rollout.metadata.uid = Some(name.to_owned());
        let at = jiff::Timestamp::from_second(second).unwrap();
        rollout.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        rollout.status = status;
        rollout
    }

    fn stands(situation: Situation) -> Option<FirmwareRolloutStatus> {
        let mut status = FirmwareRolloutStatus::default();
        tell(&mut status, &situation, Some(1), jiff::Timestamp::UNIX_EPOCH);
        Some(status)
    }

    #[test]
    fn the_older_goes_first_unless_it_cannot() {
        let (old, young) = (rollout("old", 1, None), rollout("young", 2, None));
        let all = [old.clone(), young.clone()];
        assert_eq!(before(&young, all.iter()).unwrap().metadata.name.as_deref(), Some("old"));
        assert!(before(&old, all.iter()).is_none());
        let stuck = [rollout("old", 1, stands(Situation::stalled("VerifyRequired", "…"))), young.clone()];
        assert!(before(&young, stuck.iter()).is_none());
        let done = [rollout("old", 1, stands(Situation::ready("Completed", "…"))), young.clone()];
        assert!(before(&young, done.iter()).is_none());
    }

    #[test]
    fn those_made_in_the_same_second_go_by_name() {
        let (a, b) = (rollout("a", 1, None), rollout("b", 1, None));
        let all = [b.clone(), a.clone()];
        assert_eq!(before(&b, all.iter()).unwrap().metadata.name.as_deref(), Some("a"));
        assert!(before(&a, all.iter()).is_none());
    }

    #[test]
    fn one_that_runs_goes_first_even_if_it_is_younger() {
        let mut young = rollout("young", 2, stands(Situation::waiting("Creating", "…")));
        let stage = serde_json::json!({"name": "full", "kind": "Full", "state": "Running", "attempt": 1,
            "jobs": [{"id": "j", "attempt": 1, "part": 1, "token": "t"}]});
        young.status.as_mut().unwrap().stages = vec![serde_json::from_value(stage).unwrap()];
        let old = rollout("old", 1, None);
        let all = [old.clone(), young.clone()];
        assert_eq!(before(&old, all.iter()).unwrap().metadata.name.as_deref(), Some("young"));
        assert!(before(&young, all.iter()).is_none());
    }
}
