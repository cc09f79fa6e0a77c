//! Commands by annotation: each value acts once, whatever is re-synced or restarted.

use std::collections::{BTreeMap, BTreeSet};

use fota::api::status::{Phase, StageState};
use fota::api::{ABORT, ADOPT, PAUSE, RESUME, RETRY, Replay};

use super::drive::{Run, command, stalled};
use super::world::{Setting, State};
use super::{BAD, audit, fleet, gated, manifest, switches};

fn run() -> Run {
    Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout: manifest(), speed: 60 })
}

fn stage(run: &Run, name: &str) -> fota::api::status::StageStatus {
    run.status().stages.into_iter().find(|s| s.name == name).unwrap()
}

/// Names that a create was given, by the cloud's log.
fn named(state: &State, job: &str) -> BTreeSet<String> {
    let call =
        state.cloud.calls().iter().find(|c| c.job_id.as_deref() == Some(job) && c.operation.starts_with("Create"));
    let params = &call.unwrap().params;
    params.iter().filter(|(k, _)| k.starts_with("TargetDeviceName.")).map(|(_, v)| v.clone()).collect()
}

#[test]
fn pause_holds_before_the_promotion_until_resume_and_each_acts_once() {
    let mut run = run();
    run.until_stage(1, "canary");
    command(&run, PAUSE, "1");
    run.until("held", 400, |state| state.status().next.is_some_and(|n| n.reason == "Suspended"));
    run.turns(30);
    assert_eq!((run.status().phase, audit::accepted(&run.state().cloud).len()), (Some(Phase::Paused), 2));
    command(&run, RESUME, "1");
    run.until_stage(1, "pilots");
    assert!(!run.status().paused, "the old value of pause acted again");
    // Both at once: the one that holds back wins.
    command(&run, RESUME, "2");
    command(&run, PAUSE, "2");
    run.turn();
    assert!(run.status().paused);
    assert_eq!(run.status().handled, BTreeMap::from([("pause".into(), "2".into()), ("resume".into(), "2".into())]));
    command(&run, RESUME, "3");
    run.until_end();
    run.expect_completed();
}

#[test]
fn abort_cancels_and_stays_until_retry_which_names_who_is_left() {
    let mut run = run();
    run.until_stage(1, "pilots");
    command(&run, ABORT, "now");
    run.until_end();
    assert_eq!((run.status().phase, stalled(&run.status()).unwrap().0.as_str()), (Some(Phase::Aborted), "Aborted"));
    run.until("cancelled", 50, |state| {
        state.status().stages.iter().flat_map(|s| &s.jobs).all(|j| audit::pending(&state.cloud, &j.id) == 0)
    });
    run.restart();
    run.turns(30);
    let first = stage(&run, "pilots").jobs[0].id.clone();
    assert_eq!(stage(&run, "pilots").state, StageState::Aborted);
    assert_eq!(audit::accepted(&run.state().cloud).len(), 3, "an aborted run started something");
    command(&run, RETRY, "1");
    run.turn();
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let pilots = stage(&run, "pilots");
    assert_eq!((pilots.attempt, pilots.jobs.len()), (2, 2));
    let state = run.state();
    let retried = named(&state, &pilots.jobs[1].id);
    let report = audit::report(&state.cloud, &first);
    assert_eq!(
        retried.len(),
        report.counts["CANCELED"] + report.counts["FAILED"],
        "each that is left, and nobody else"
    );
    assert_eq!(pilots.jobs[1].sent_percent, None, "no second draw");
    assert_eq!(audit::accepted(&state.cloud).len(), 6);
    audit::check_job_counts(&state.cloud, &state.status());
    // The declared share is kept, as far as one-device jobs allow.
    let pushed = state.audits.iter().find(|a| a.stage == "pilots" && a.state == StageState::Passed).unwrap();
    assert!(pushed.pushed <= 33, "{pushed:?}");
}

#[test]
fn a_failed_step_is_retried_in_parts_and_a_death_anywhere_makes_no_part_twice() {
    // Everyone fails; 2,000 devices at 25 % are 500 names: three parts.
    let story = || {
        let mut fleet = fleet(2_000, 1.0, 1.0);
        fleet.firmware[2].silent_rate = Some(0.0);
        let mut rollout = gated(BAD, 5);
        let steps = rollout.spec.gray.as_mut().unwrap();
        steps.truncate(1);
        steps[0].percent = Some(fota::api::Percent::whole(25));
        rollout.spec.full = None;
        let mut run = Run::new(Setting { fleet, seed: 3, switches: switches(), rollout, speed: 60 });
        run.until_end();
        assert_eq!(run.status().phase, Some(Phase::Failed));
        run.turns(60);
        command(&run, RETRY, "again");
        run
    };
    let check = |run: &Run, what: &str| {
        let canary = stage(run, "canary");
        assert_eq!((canary.attempt, canary.jobs.len()), (2, 4), "{what}");
        let state = run.state();
        assert_eq!(audit::accepted(&state.cloud).len(), 4, "{what}");
        let parts: Vec<_> = canary.jobs[1..].iter().map(|j| named(&state, &j.id)).collect();
        assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 500, "{what}");
        assert_eq!(parts.iter().flatten().collect::<BTreeSet<_>>().len(), 500, "{what}: a device in two parts");
    };
    let four = |state: &State| state.status().stages[0].jobs.len() == 4;
    let mut plain = story();
    let before = plain.state().outside;
    plain.until("all parts", 100, four);
    check(&plain, "undisturbed");
    let length = plain.state().outside - before;
    // Every seventh point, and all near the creates would be hundreds of runs: the simulation has the rest.
    for k in (0..length).step_by(7) {
        let mut run = story();
        let now = run.state().outside;
        run.state().die_after = Some(now + k);
        run.until("dead", 100, State::dead);
        run.restart();
        run.until("all parts", 300, four);
        check(&run, &format!("death after {k}"));
    }
}

#[test]
fn a_failed_verification_is_retried_with_a_job_of_its_own() {
    let mut fleet = fleet(300, 1.0, 0.0);
    fleet.firmware[0].failure_rate = Some(1.0);
    let mut run = Run::new(Setting { fleet, seed: 7, switches: switches(), rollout: manifest(), speed: 60 });
    run.until_end();
    assert_eq!(stalled(&run.status()).unwrap().0, "VerifyFailed");
    command(&run, RETRY, "1");
    run.until("a second job", 50, |state| state.status().stages[0].jobs.len() == 2);
    run.until_end();
    assert_eq!((run.status().phase, stage(&run, "verify").attempt), (Some(Phase::Failed), 2));
    run.turns(30);
    assert_eq!(audit::accepted(&run.state().cloud).len(), 2, "the same value retried again");
}

#[test]
fn an_abort_before_anything_started_starts_nothing() {
    let mut run = run();
    command(&run, ABORT, "1");
    run.turns(20);
    assert_eq!((run.status().phase, audit::creates(&run.state().cloud).len()), (Some(Phase::Aborted), 0));
    command(&run, RETRY, "1");
    run.turn();
    run.until_end();
    run.expect_completed();
}

#[test]
fn an_abort_meets_a_claim_that_got_no_answer() {
    for lost in [true, false] {
        let mut run = run();
        if lost {
            run.state().lose_creates = 1;
        } else {
            run.die_after_claim();
        }
        run.until("claimed", 10, |state| state.status().claim.is_some());
        command(&run, ABORT, "1");
        run.until("resolved", 600, |state| {
            state.status().claim.is_none() && state.status().phase == Some(Phase::Aborted)
        });
        run.turns(30);
        let state = run.state();
        let made = audit::accepted(&state.cloud);
        assert_eq!(made.len(), usize::from(lost), "an abort repeated a create");
        assert!(made.iter().all(|id| audit::pending(&state.cloud, id) == 0), "lost {lost}: tasks were left");
    }
}

/// A claim that nobody sent, in an account that repeats nothing and has never shown a tag.
fn unanswered() -> Run {
    let mut run = run();
    run.state().account.as_mut().unwrap().tag_echoed = false;
    run.state().account.as_mut().unwrap().replay = Replay::Settle;
    run.die_after_claim();
    run
}

#[test]
fn a_person_says_that_an_unanswered_create_made_no_job() {
    let mut run = unanswered();
    run.until("ambiguous", 600, |state| stalled(&state.status()).is_some_and(|(reason, _)| reason == "Ambiguous"));
    run.turns(50);
    assert_eq!(audit::creates(&run.state().cloud), []);
    let (_, message) = stalled(&run.status()).unwrap();
    assert!(message.contains(RETRY) && message.contains(ADOPT), "{message}");
    command(&run, RETRY, "1");
    run.turn();
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
}

#[test]
fn a_word_given_too_early_waits_for_its_time() {
    // `retry` before the epoch is over proves nothing yet; it acts when it can.
    let mut run = unanswered();
    let claimed = run.status().claim.unwrap().at.0;
    command(&run, RETRY, "early");
    run.turns(20);
    assert_eq!(audit::creates(&run.state().cloud), []);
    assert!(!run.status().handled.contains_key("retry"));
    run.until("created", 600, |state| !audit::creates(&state.cloud).is_empty());
    assert!(run.state().wall.duration_since(claimed).as_secs() >= 16 * 60);
}
