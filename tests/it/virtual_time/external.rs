//! Jobs that somebody else cancels or removes: never silently passed over, never silently made again.

use std::collections::BTreeSet;

use fota::api::rollout::OnExternalChange::{self, Accept, Pause, Recreate};
use fota::api::status::{Phase, StageState};
use fota::api::{ABORT, RESUME, RETRY, condition};
use fota::cloud::Call;
use fota::cloud::model::JobEnd;
use fota::ota::Operation;
use jiff::SignedDuration;
use serde_json::json;

use super::drive::{Run, command, stalled};
use super::world::{Setting, State};
use super::{OTHER, audit, fleet, gated, manifest, switches};

fn run(policy: Option<OnExternalChange>) -> Run {
    at_speed(policy, 60)
}

fn at_speed(policy: Option<OnExternalChange>, speed: i32) -> Run {
    let mut rollout = gated(OTHER, 5);
    rollout.spec.on_external_change = policy;
    let mut fleet = fleet(300, 0.9, 0.0);
    for package in &mut fleet.firmware {
        (package.failure_rate, package.silent_rate) = (Some(0.0), Some(0.0));
    }
    slowly(Run::new(Setting { fleet, seed: 11, switches: switches(), rollout, speed }))
}

/// Looks often enough to see a job before its devices have ended.
fn slowly(mut run: Run) -> Run {
    run.interval = SignedDuration::from_millis(300);
    run
}

const ALL: &[&str] = &["CancelQueuedTask", "CancelNotifiedTask", "CancelUnconfirmedTask", "CancelInProgressTask"];
const QUEUED: &[&str] = &["CancelQueuedTask"];

/// Somebody cancels tasks in the console.
fn cancel(state: &mut State, job: &str, flags: &[&str]) {
    let clocks = state.clocks();
    let given = [("JobId", job)].into_iter().chain(flags.iter().map(|flag| (*flag, "true")));
    let params = given.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let call = Call::unsigned("auditor", Operation::CancelOTATaskByJob, &params, None);
    assert_eq!(state.cloud.handle(&call, clocks).http_status, 200);
}

/// The last job of a stage.
fn job(run: &Run, stage: &str) -> String {
    run.status().stages.iter().find(|s| s.name == stage).unwrap().jobs.last().unwrap().id.clone()
}

/// Runs until a stage has its job, and lets somebody cancel it at once.
fn cancelled(policy: Option<OnExternalChange>, stage: &str, flags: &[&str]) -> (Run, String) {
    let mut run = run(policy);
    run.until_stage(1, stage);
    let id = job(&run, stage);
    cancel(&mut run.state(), &id, flags);
    (run, id)
}

fn asked(state: &State) -> bool {
    stalled(&state.status()).is_some_and(|(reason, _)| reason == "ExternalChange")
}

fn events(run: &Run, reason: &str) -> usize {
    run.state().notes.iter().filter(|n| n.reason == reason).count()
}

/// Devices that a job was given by name.
fn named(state: &State, job: &str) -> BTreeSet<String> {
    let mut calls = state.cloud.calls().iter();
    let call = calls.find(|c| c.job_id.as_deref() == Some(job) && c.operation.starts_with("Create")).unwrap();
    call.params.iter().filter(|(k, _)| k.starts_with("TargetDeviceName.")).map(|(_, v)| v.clone()).collect()
}

#[test]
fn a_cancelled_job_is_held_for_a_person_and_nothing_is_made_again() {
    for policy in [None, Some(Pause)] {
        let (mut run, id) = cancelled(policy, "pilots", ALL);
        run.until("asked", 20, asked);
        run.turns(60);
        run.restart();
        run.turns(60);
        let (_, message) = stalled(&run.status()).unwrap();
        assert!([id.as_str(), "pilots", RESUME, RETRY, ABORT].iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(audit::accepted(&run.state().cloud).len(), 2);
        assert_eq!(events(&run, "ExternalChange"), 1, "a restart tells nothing twice");

        // Going on with it decides nothing here: nobody was reached.
        command(&run, RESUME, "1");
        run.turns(100);
        let (_, message) = stalled(&run.status()).unwrap();
        assert!(message.contains("nothing more of it can be decided") && message.contains(RETRY), "{message}");
        assert_eq!(audit::accepted(&run.state().cloud).len(), 2);

        command(&run, RETRY, "1");
        run.turn();
        run.until_end();
        run.expect_completed();
        let status = run.status();
        let pilots = status.stages.iter().find(|s| s.name == "pilots").unwrap();
        assert_eq!((pilots.attempt, pilots.jobs.len()), (2, 2));
        let report = audit::report(&run.state().cloud, &id);
        assert_eq!(named(&run.state(), &pilots.jobs[1].id).len(), report.counts["CANCELED"], "by name, and no others");
    }
}

#[test]
fn a_person_may_go_on_with_what_was_decided_or_abort() {
    let story = || {
        let (mut run, _) = cancelled(None, "pilots", QUEUED);
        run.until("asked", 20, asked);
        run.turns(100);
        assert_eq!(audit::accepted(&run.state().cloud).len(), 2, "it passed over the head of whom it asked");
        run
    };
    let mut run = story();
    command(&run, RESUME, "1");
    run.until_stage(1, "broad");
    run.until_end();
    run.expect_completed();
    assert_eq!(run.status().stages.iter().map(|s| s.attempt).max(), Some(1));

    let mut run = story();
    command(&run, ABORT, "1");
    run.turns(20);
    assert_eq!((run.status().phase, audit::accepted(&run.state().cloud).len()), (Some(Phase::Aborted), 2));
}

#[test]
fn what_is_cancelled_after_a_person_went_on_is_asked_about_again() {
    let mut run = at_speed(None, 10);
    run.until_stage(1, "broad");
    let id = job(&run, "broad");
    cancel(&mut run.state(), &id, QUEUED);
    run.until("asked", 20, asked);
    command(&run, RESUME, "1");
    run.turns(2);
    assert_eq!(stalled(&run.status()), None);
    let counts = audit::report(&run.state().cloud, &id).counts;
    let open = counts["IN_PROGRESS"] + counts["NOTIFIED"];
    cancel(&mut run.state(), &id, ALL);
    assert!(open > 0, "nothing to cancel makes no test");
    run.until("asked again", 20, asked);
}

#[test]
fn accepted_changes_are_counted_and_the_stage_ends_by_its_gate() {
    let (mut run, id) = cancelled(Some(Accept), "pilots", QUEUED);
    run.until_stage(1, "broad");
    let pilots = run.status().stages.iter().find(|s| s.name == "pilots").cloned().unwrap();
    let cancelled = audit::report(&run.state().cloud, &id).counts["CANCELED"];
    assert_eq!(pilots.jobs[0].counts.unwrap().cancelled, cancelled as i64);
    run.restart();
    run.until_end();
    run.expect_completed();
    run.until_rest();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 4, "nothing is made again");
    assert!((1..=2).contains(&events(&run, "ExternalChangeAccepted")), "{:?}", run.state().notes);
    let status = run.status();
    audit::check_job_counts(&run.state().cloud, &status);
}

#[test]
fn accepted_or_not_a_stage_of_which_nothing_can_be_decided_is_held() {
    let (mut run, id) = cancelled(Some(Accept), "pilots", ALL);
    run.until("asked", 100, asked);
    run.turns(60);
    let (_, message) = stalled(&run.status()).unwrap();
    assert!(message.contains(&id) && message.contains("nothing more of it can be decided"), "{message}");
    assert_eq!(audit::accepted(&run.state().cloud).len(), 2, "never made again but by a person's word");
    command(&run, RETRY, "1");
    run.turn();
    run.until_end();
    run.expect_completed();
}

#[test]
fn a_stage_is_made_again_once_for_each_cancelled_job_by_name_and_told() {
    for (stage, flags) in [("canary", ALL), ("pilots", ALL), ("pilots", QUEUED), ("broad", ALL), ("full", ALL)] {
        let (mut run, id) = cancelled(Some(Recreate), stage, flags);
        run.until("made again", 300, |state| {
            state.status().stages.iter().any(|s| s.name == stage && s.jobs.len() == 2)
        });
        let (second, attempt) = {
            let entry = run.status().stages.iter().find(|s| s.name == stage).cloned().unwrap();
            assert_eq!(entry.reason.as_deref(), Some("Recreated"));
            (entry.jobs[1].clone(), entry.attempt)
        };
        assert_eq!((attempt, second.sent_percent), (2, None), "{stage}: no second draw");
        if stage != "full" {
            let report = audit::report(&run.state().cloud, &id);
            assert_eq!(named(&run.state(), &second.id).len(), report.counts["CANCELED"], "{stage}");
        }
        let told: Vec<_> = run.state().notes.iter().filter(|n| n.reason == "StageRetried").cloned().collect();
        assert_eq!((told.len(), told[0].warning), (1, true));
        assert!(told[0].note.contains(&id), "{}", told[0].note);
        // Cancelled again: again once.
        cancel(&mut run.state(), &second.id, ALL);
        run.turn();
        run.until_end();
        run.expect_completed();
        let entry = run.status().stages.iter().find(|s| s.name == stage).cloned().unwrap();
        assert_eq!((entry.attempt, entry.jobs.len()), (3, 3), "{stage}");
        audit::accepted(&run.state().cloud);
    }
}

#[test]
fn a_death_anywhere_makes_no_stage_again_twice() {
    let story = || cancelled(Some(Recreate), "pilots", ALL).0;
    let two = |state: &State| state.status().stages.iter().any(|s| s.name == "pilots" && s.jobs.len() == 2);
    let mut plain = story();
    let before = plain.state().outside;
    plain.until("made again", 300, two);
    let length = plain.state().outside - before;
    for k in 0..=length {
        let mut run = story();
        let now = run.state().outside;
        run.state().die_after = Some(now + k);
        run.until("dead", 300, State::dead);
        run.restart();
        run.until("made again", 300, two);
        run.turns(20);
        let pilots = run.status().stages.iter().find(|s| s.name == "pilots").cloned().unwrap();
        assert_eq!((pilots.attempt, pilots.jobs.len()), (2, 2), "death after {k}");
        assert!(run.state().notes.iter().filter(|n| n.reason == "StageRetried").count() <= 1, "death after {k}");
        let recorded: usize = run.status().stages.iter().map(|s| s.jobs.len()).sum();
        assert_eq!(audit::accepted(&run.state().cloud).len(), recorded, "death after {k}");
    }
}

#[test]
fn a_verification_that_somebody_cancelled_follows_the_policy() {
    for policy in [Pause, Accept, Recreate] {
        let mut rollout = manifest();
        rollout.spec.on_external_change = Some(policy);
        let fleet = fleet(300, 1.0, 0.0);
        let mut run = slowly(Run::new(Setting { fleet, seed: 3, switches: switches(), rollout, speed: 60 }));
        run.until_stage(1, "verify");
        let id = job(&run, "verify");
        cancel(&mut run.state(), &id, ALL);
        if policy != Recreate {
            // Accepted, the package's own word counts: this cloud calls a cancelled verification failed.
            let failed = |state: &State| state.status().phase == Some(Phase::Failed);
            run.until("asked", 50, |state| if policy == Accept { failed(state) } else { asked(state) });
            run.turns(20);
            assert_eq!(audit::accepted(&run.state().cloud).len(), 1, "{policy:?}");
            command(&run, RETRY, "1");
        }
        run.turn();
        run.until_end();
        run.expect_completed();
        assert_eq!(run.status().stages[0].attempt, 2, "{policy:?}");
    }
}

#[test]
fn a_job_that_is_gone_is_never_drawn_again() {
    for policy in [Pause, Accept, Recreate] {
        let mut run = run(Some(policy));
        run.until_stage(1, "pilots");
        // Half of it has been reached by then.
        run.until("some succeeded", 50, |state| {
            state.status().stages[1].jobs[0].counts.is_some_and(|c| c.at_target >= 15)
        });
        let id = job(&run, "pilots");
        run.state().cloud.forget_job(&id);
        if policy != Accept {
            run.until("asked", 20, asked);
            let (_, message) = stalled(&run.status()).unwrap();
            assert!(message.contains(&id) && !message.contains(RETRY), "{policy:?}: {message}");
            command(&run, RETRY, "in vain");
            run.turns(20);
            run.restart();
            run.turns(20);
            assert!(asked(&run.state()), "{policy:?}");
            command(&run, RESUME, "1");
        }
        run.until_stage(1, "broad");
        let pilots = run.status().stages[1].clone();
        assert_eq!((pilots.state, pilots.attempt, pilots.jobs[0].gone), (StageState::Passed, 1, true), "{policy:?}");
        assert!(pilots.jobs[0].counts.unwrap().at_target >= 15);
        run.restart();
        run.until_end();
        run.expect_completed();
        assert_eq!(audit::accepted(&run.state().cloud).len(), 4);
        run.until("the run's devices are counted", 100, |state| {
            state.status().progress.is_some_and(|p| p.ledger.at_target >= 270)
        });
    }
}

#[test]
fn a_policy_that_somebody_ended_is_not_said_to_stand() {
    let active = |state: &State| {
        let ready = condition::find(&state.status().conditions, "Ready").cloned();
        ready.is_some_and(|c| c.status == "True" && c.reason == "DynamicActive")
    };
    for policy in [Pause, Accept, Recreate] {
        let mut rollout = gated(OTHER, 5);
        rollout.spec.on_external_change = Some(policy);
        rollout.spec.gray = None;
        rollout.spec.full = serde_json::from_value(json!({"dynamic": {"mode": "Always"}})).unwrap();
        let mut run =
            Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 3, switches: switches(), rollout, speed: 60 });
        run.until("it stands", 100, active);
        let id = job(&run, "full");
        // Tasks of it are somebody's business, and not the rollout's.
        cancel(&mut run.state(), &id, QUEUED);
        run.turns(10);
        assert!(active(&run.state()), "{policy:?}");
        {
            let mut state = run.state();
            let clocks = state.clocks();
            let params = [("JobId".to_owned(), id.clone())].into();
            let call = Call::unsigned("auditor", Operation::CancelOTAStrategyByJob, &params, None);
            assert_eq!(state.cloud.handle(&call, clocks).http_status, 200);
        }
        if policy == Recreate {
            run.until("another stands", 100, |state| state.status().stages[0].jobs.len() == 2 && active(state));
            continue;
        }
        run.until("asked", 100, asked);
        run.restart();
        run.turns(10);
        assert!(asked(&run.state()) && !active(&run.state()), "{policy:?}");
        assert_eq!(audit::accepted(&run.state().cloud).len(), 1, "{policy:?}");
        command(&run, RETRY, "1");
        run.until("another stands", 100, |state| state.status().stages[0].jobs.len() == 2 && active(state));
    }
}

#[test]
fn our_own_cancels_are_never_taken_for_somebody_elses() {
    // A tenth is offline: every gray step leaves something over, and its job ends as cancelled.
    for (end, delay) in [(JobEnd::Canceled, 0.0), (JobEnd::Canceled, 20.0), (JobEnd::Completed, 5.0)] {
        for policy in [Pause, Recreate] {
            let mut rollout = gated(OTHER, 5);
            rollout.spec.on_external_change = Some(policy);
            let switches = fota::cloud::Switches { cancelled_job: end, cancel_delay_seconds: delay, ..switches() };
            let mut run = Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 5, switches, rollout, speed: 60 });
            for stage in ["canary", "pilots", "broad"] {
                run.until("drained", 600, |state| {
                    state.status().stages.iter().any(|s| s.name == stage && s.jobs.iter().any(|j| j.drained))
                        || state.status().stages.iter().any(|s| s.name == stage && s.state == StageState::Passed)
                });
                run.restart();
            }
            run.until_end();
            run.expect_completed();
            assert_eq!(audit::accepted(&run.state().cloud).len(), 4);
            assert!(run.state().notes.iter().all(|n| !n.warning), "{:?}", run.state().notes);
        }
    }
}
