//! The cloud's own guard against a second verification: for one's own job it is success, whoever hears of it.

use fota::api::Replay;
use fota::api::status::StageState;
use fota::cloud::Switches;
use fota::cloud::model::NonceBurnedBy;

use super::drive::Run;
use super::world::{Setting, State};
use super::{audit, fleet, manifest, switches};

/// A cloud that carries out a second copy, so that its guard answers; and lists a job only some time after it was made.
fn run(replay: Replay) -> Run {
    let switches = Switches { nonce: NonceBurnedBy::Never, list_lag_ms: 6_000, ..switches() };
    let run = Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 7, switches, rollout: manifest(), speed: 60 });
    run.state().account.as_mut().unwrap().replay = replay;
    run
}

fn verified_by_one_job(mut run: Run, refused: bool) {
    run.until("verified", 300, |state| state.status().stages.first().is_some_and(|s| s.state == StageState::Passed));
    let state = run.state();
    let creates = audit::creates(&state.cloud);
    let guarded =
        creates.iter().filter(|(_, end)| matches!(end, Err(code) if code.contains("InProgressVerify"))).count();
    assert_eq!(guarded > 0, refused, "{creates:?}");
    let verify = &state.status().stages[0];
    assert_eq!((verify.jobs.len(), verify.epoch), (1, 1));
    assert_eq!(Some(&verify.jobs[0].id), audit::accepted(&state.cloud).first());
}

#[test]
fn a_copy_sent_without_its_ticket_meets_the_guard() {
    let run = run(Replay::Nonce);
    run.state().lose_creates = 1;
    verified_by_one_job(run, true);
}

#[test]
fn another_process_meets_the_guard() {
    let mut run = run(Replay::Nonce);
    run.state().after_create = Some(|state: &mut State| state.die_after = Some(state.outside));
    run.until("dead", 20, State::dead);
    run.restart();
    verified_by_one_job(run, true);
}

#[test]
fn where_nothing_is_repeated_the_job_is_found_by_its_tag() {
    let run = run(Replay::Settle);
    run.state().lose_creates = 1;
    verified_by_one_job(run, false);
}

#[test]
fn somebody_else_s_verification_is_waited_for() {
    let mut run = run(Replay::Nonce);
    // It begins between our reading of the package and our create.
    run.state().before_create = Some(|state: &mut State| {
        let params = [("FirmwareId", super::GOOD), ("ProductKey", super::PRODUCT), ("TargetDeviceName.1", "lab-1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let call = fota::cloud::Call::unsigned("auditor", fota::ota::Operation::CreateOTAVerifyJob, &params, None);
        let clocks = state.clocks();
        assert!(state.cloud.handle(&call, clocks).body.contains("JobId"));
    });
    run.until_stage(1, "canary");
    let state = run.state();
    let verify = &state.status().stages[0];
    assert_eq!((verify.state, verify.reason.as_deref()), (StageState::Skipped, Some("AlreadyVerified")));
    assert!(verify.jobs.is_empty());
}
