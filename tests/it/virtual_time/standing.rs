//! Standing policies: how one is watched, and the ways in which it ends.

use fota::api::condition;
use fota::api::status::{FirmwareRolloutStatus, Phase};
use fota::api::{ABORT, FirmwareRollout};
use serde_json::json;

use super::drive::{Run, command};
use super::world::{Setting, State};
use super::{BAD, OTHER, audit, fleet, gated, switches};

fn policy(firmware: &str) -> FirmwareRollout {
    let mut rollout = gated(firmware, 5);
    rollout.spec.gray.as_mut().unwrap().truncate(1);
    let full = rollout.spec.full.as_mut().unwrap();
    full.fixed = None;
    full.dynamic = Some(serde_json::from_value(json!({})).unwrap());
    rollout
}

/// A run whose policy stands.
fn standing() -> Run {
    let setting =
        Setting { fleet: fleet(300, 0.9, 0.0), seed: 5, switches: switches(), rollout: policy(OTHER), speed: 60 };
    let mut run = Run::new(setting);
    run.until("standing", 600, |state| ready(&state.status()).as_deref() == Some("DynamicActive"));
    run
}

fn ready(status: &FirmwareRolloutStatus) -> Option<String> {
    condition::find(&status.conditions, "Ready").filter(|c| c.status == "True").map(|c| c.reason.clone())
}

/// The dynamic jobs of the cloud, oldest first: their packages and states.
fn policies(state: &State) -> Vec<(String, String)> {
    let mut jobs = state.cloud.jobs();
    jobs.retain(|job| job.text("SelectionType") == "DYNAMIC");
    jobs.iter().map(|job| (job.text("FirmwareId").to_owned(), job.text("JobStatus").to_owned())).collect()
}

fn are(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, status)| ((*id).to_owned(), (*status).to_owned())).collect()
}

#[test]
fn a_policy_that_stands_is_the_declared_end_and_goes_on_being_read() {
    let mut run = standing();
    assert_eq!(run.status().phase, Some(Phase::Completed));
    assert_eq!(run.status().last_completed.unwrap().firmware.id, OTHER);
    assert_eq!(policies(&run.state()), are(&[(OTHER, "IN_PROGRESS")]));
    let before = run.status().progress.map_or(0, |p| p.ledger.at_target);
    run.turns(200);
    assert_eq!(ready(&run.status()).as_deref(), Some("DynamicActive"));
    assert!(run.status().progress.unwrap().ledger.at_target > before.max(100), "devices went on taking it");
    assert_eq!(audit::accepted(&run.state().cloud).len(), 2);
}

#[test]
fn newer_firmware_has_its_own_policy_before_the_old_one_ends() {
    let mut run = standing();
    run.turns(60);
    run.state().edit(|r| {
        r.spec.firmware.id = Some(BAD.to_owned());
        // Those that took the old firmware, and are not busy with it.
        r.spec.source_versions = Some(vec!["3.0".to_owned()]);
    });
    run.until_stage(2, "canary");
    assert_eq!(policies(&run.state()), are(&[(OTHER, "IN_PROGRESS")]), "it stands while the new steps run");
    assert_eq!(run.status().standing.len(), 1);
    run.restart();
    run.until_stage(2, "full");
    assert_eq!(policies(&run.state()), are(&[(OTHER, "IN_PROGRESS"), (BAD, "IN_PROGRESS")]));
    run.until("standing again", 600, |state| ready(&state.status()).as_deref() == Some("DynamicActive"));
    assert_eq!(policies(&run.state()), are(&[(OTHER, "CANCELED"), (BAD, "IN_PROGRESS")]));
    assert_eq!(run.status().standing, []);
}

#[test]
fn going_back_leaves_the_policy_of_the_completed_firmware_standing() {
    let mut run = standing();
    run.state().edit(|r| r.spec.firmware.id = Some(BAD.to_owned()));
    run.until_stage(2, "canary");
    run.state().edit(|r| r.spec.firmware.id = Some(OTHER.to_owned()));
    run.until("reverted", 300, |state| ready(&state.status()).as_deref() == Some("Reverted"));
    run.turns(20);
    assert_eq!(policies(&run.state()), are(&[(OTHER, "IN_PROGRESS")]));
    // It is not forgotten: the rollout still ends with it.
    run.state().delete();
    run.until("released", 300, |state| state.stored.is_none());
    assert_eq!(policies(&run.state()), are(&[(OTHER, "CANCELED")]));
}

#[test]
fn its_time_ends_it_and_the_run_stays_completed() {
    let mut run = standing();
    let soon = run.state().clocks().fleet + jiff::SignedDuration::from_mins(30);
    run.state().edit(|r| {
        let policy = r.spec.full.as_mut().unwrap().dynamic.as_mut().unwrap();
        policy.until = Some(fota::api::Time(soon));
    });
    run.turn();
    assert_eq!(policies(&run.state()), are(&[(OTHER, "IN_PROGRESS")]), "not before");
    run.until("ended", 600, |state| ready(&state.status()).as_deref() == Some("Completed"));
    assert_eq!(policies(&run.state()), are(&[(OTHER, "CANCELED")]));
    let full = run.status().stages.last().cloned().unwrap();
    assert_eq!(full.reason.as_deref(), Some("PolicyEnded"));
    assert_eq!(audit::pending(&run.state().cloud, &full.jobs[0].id), 0);
}

#[test]
fn deletion_and_abort_end_it() {
    for deleted in [true, false] {
        let mut run = standing();
        if deleted {
            run.state().delete();
            run.until("released", 300, |state| state.stored.is_none());
        } else {
            command(&run, ABORT, "1");
            run.until("aborted", 300, |state| policies(state) == are(&[(OTHER, "CANCELED")]));
            run.turns(50);
            assert_eq!(run.status().phase, Some(Phase::Aborted));
        }
        let state = run.state();
        assert_eq!(policies(&state), are(&[(OTHER, "CANCELED")]));
        let jobs = audit::accepted(&state.cloud);
        assert!(jobs.iter().all(|id| audit::pending(&state.cloud, id) == 0));
    }
}
