//! Sentences that two people would build differently, one test each: what commands, edits and ends of runs mean.

use std::collections::BTreeSet;

use fota::api::status::{Phase, StageState};
use fota::api::{ABORT, PAUSE, RESUME, RETRY, condition};
use jiff::SignedDuration;

use super::drive::{Run, command, stalled};
use super::world::{Setting, State};
use super::{BAD, OTHER, audit, fleet, gated, manifest, switches};

fn run() -> Run {
    Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout: manifest(), speed: 60 })
}

fn failed() -> Run {
    let fleet = fleet(300, 1.0, 0.5);
    let mut run = Run::new(Setting { fleet, seed: 3, switches: switches(), rollout: gated(BAD, 5), speed: 60 });
    run.until_end();
    assert_eq!(run.status().phase, Some(Phase::Failed));
    run.turns(20);
    run
}

fn created(run: &Run) -> usize {
    audit::creates(&run.state().cloud).len()
}

fn go_to(run: &Run, firmware: &str) {
    run.state().edit(|r| {
        r.spec.firmware.id = Some(firmware.to_owned());
        r.spec.source_versions = Some(vec!["1.0".to_owned(), "2.0".to_owned()]);
    });
}

#[test]
fn of_retry_and_abort_at_once_the_one_that_holds_back_wins() {
    let mut run = failed();
    let before = created(&run);
    command(&run, RETRY, "1");
    command(&run, ABORT, "1");
    run.turns(20);
    let status = run.status();
    assert_eq!((status.phase, stalled(&status).unwrap().0.as_str()), (Some(Phase::Aborted), "Aborted"));
    assert_eq!(created(&run), before);
    assert_eq!(status.handled.len(), 2, "both were heard: {:?}", status.handled);
    run.restart();
    run.turns(20);
    assert_eq!(created(&run), before, "neither acts again");
}

#[test]
fn a_retry_under_a_pause_waits_for_resume() {
    let mut run = failed();
    let before = created(&run);
    command(&run, PAUSE, "1");
    command(&run, RETRY, "1");
    run.turns(20);
    assert_eq!((run.status().phase, created(&run)), (Some(Phase::Paused), before));
    command(&run, RESUME, "1");
    run.until("tried again", 50, |state| audit::creates(&state.cloud).len() > before);
}

#[test]
fn suspend_and_pause_are_two_and_both_have_to_end() {
    let mut run = run();
    run.until_stage(1, "canary");
    command(&run, PAUSE, "1");
    run.state().edit(|r| r.spec.suspend = Some(true));
    run.until("held", 400, |state| state.status().next.is_some_and(|n| n.reason == "Suspended"));
    let before = created(&run);
    command(&run, RESUME, "1");
    run.turns(20);
    assert_eq!((run.status().phase, created(&run)), (Some(Phase::Paused), before), "spec.suspend still holds it");
    assert!(run.status().next.unwrap().because.contains("spec.suspend"));
    command(&run, PAUSE, "2");
    run.turn();
    run.state().edit(|r| r.spec.suspend = None);
    run.turns(20);
    assert_eq!((run.status().phase, created(&run)), (Some(Phase::Paused), before), "and so does the pause");
    command(&run, RESUME, "2");
    run.until_stage(1, "pilots");
}

#[test]
fn what_a_pause_holds_keeps_what_runs_in_sight() {
    // The cloud has no pause: status says what the running job still pushes to.
    let fleet = fleet(300, 0.9, 0.0);
    let mut run = Run::new(Setting { fleet, seed: 11, switches: switches(), rollout: manifest(), speed: 10 });
    run.interval = SignedDuration::from_millis(300);
    run.until_stage(1, "broad");
    command(&run, PAUSE, "1");
    run.turns(3);
    let counted = |state: &State| {
        let status = state.status();
        let broad = &status.stages.last().unwrap().jobs[0];
        broad.counts.map(|c| c.queued + c.notified + c.in_progress)
    };
    let first = counted(&run.state());
    run.until("it moves on", 100, |state| counted(state) != first);
    assert_eq!(run.status().phase, Some(Phase::Paused));
}

#[test]
fn a_pause_outlives_its_run_and_new_firmware_does_not_end_it() {
    let mut run = run();
    run.until_end();
    command(&run, PAUSE, "1");
    run.turns(3);
    assert_eq!(run.status().phase, Some(Phase::Completed), "there is nothing to hold");
    let before = created(&run);
    go_to(&run, OTHER);
    run.turns(30);
    assert_eq!((run.status().run, run.status().phase, created(&run)), (2, Some(Phase::Paused), before));
    command(&run, RESUME, "1");
    run.until_stage(2, "canary");
}

#[test]
fn new_firmware_begins_whatever_the_old_run_came_to() {
    let completed = || {
        let mut run = run();
        run.until_end();
        run
    };
    let aborted = || {
        let mut run = run();
        run.until_stage(1, "pilots");
        command(&run, ABORT, "1");
        run.turns(3);
        run
    };
    for (mut run, phase) in [(completed(), Phase::Completed), (aborted(), Phase::Aborted), (failed(), Phase::Failed)] {
        assert_eq!(run.status().phase, Some(phase));
        let old = audit::accepted(&run.state().cloud);
        go_to(&run, OTHER);
        run.until_stage(2, "canary");
        for id in &old {
            assert_eq!(audit::pending(&run.state().cloud, id), 0, "{phase}: {id}");
        }
        assert_eq!(stalled(&run.status()), None);
    }
}

#[test]
fn an_abort_of_a_completed_run_cancels_what_is_left_and_a_retry_makes_nothing_anew() {
    let mut run = run();
    run.until_end();
    run.turns(3);
    let full = run.status().stages.last().unwrap().jobs[0].id.clone();
    assert!(audit::pending(&run.state().cloud, &full) > 0, "a tenth is offline");
    command(&run, ABORT, "1");
    run.until("cancelled", 50, |state| audit::pending(&state.cloud, &full) == 0);
    let before = created(&run);
    command(&run, RETRY, "1");
    run.turns(20);
    run.expect_completed();
    assert_eq!(created(&run), before);
}

#[test]
fn commands_without_an_object_do_nothing_and_are_over() {
    let mut run = run();
    command(&run, RESUME, "1");
    command(&run, RETRY, "1");
    run.until_stage(1, "canary");
    assert_eq!(run.status().handled.len(), 2);
    assert!(run.status().stages.iter().all(|s| s.attempt == 1));
    run.until_end();
    run.expect_completed();
    command(&run, RETRY, "2");
    run.turns(10);
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
}

#[test]
fn the_events_tell_the_story_once_whoever_dies_in_between() {
    let told = |every: usize| {
        let mut run = run();
        for turn in 1..600 {
            run.turn();
            if turn % every == 0 {
                run.restart();
            }
            if run.status().phase == Some(Phase::Completed) {
                break;
            }
        }
        run.turns(10);
        let notes = run.state().notes.clone();
        let distinct: BTreeSet<_> = notes.iter().map(|n| (n.reason.clone(), n.action.clone())).collect();
        assert_eq!(distinct.len(), notes.len(), "{notes:?}");
        notes.into_iter().map(|n| n.reason).collect::<Vec<_>>()
    };
    let expected = ["JobRecorded", "StagePassed"].repeat(5).into_iter().chain(["Completed"]).collect::<Vec<_>>();
    // One that looks only once never sees two counts that agree.
    for every in [1_000, 7, 3] {
        assert_eq!(told(every), expected, "a restart after every {every} turns");
    }
}

#[test]
fn the_events_tell_of_holds_ends_and_new_beginnings() {
    let mut run = run();
    run.until_stage(1, "canary");
    command(&run, PAUSE, "1");
    run.turns(2);
    command(&run, RESUME, "1");
    run.turns(2);
    run.until_stage(1, "broad");
    command(&run, ABORT, "1");
    run.turns(5);
    command(&run, RETRY, "1");
    run.until("tried again", 100, |state| state.status().stages.last().is_some_and(|s| s.jobs.len() == 2));
    go_to(&run, OTHER);
    run.until_stage(2, "canary");
    let reasons: Vec<_> = run.state().notes.iter().map(|n| n.reason.clone()).collect();
    let mut rest = reasons.iter();
    let story =
        ["Paused", "Resumed", "StageAborted", "Aborted", "StageRetried", "Superseded", "RunStarted", "JobRecorded"];
    for reason in story {
        assert!(rest.any(|r| r == reason), "{reason} is missing, or in the wrong place: {reasons:?}");
    }
    let broad = run.state().notes.iter().filter(|n| n.reason == "StageAborted").count();
    assert_eq!(broad, 1);
    assert!(condition::find(&run.status().conditions, "Stalled").is_some_and(|c| c.status == "False"));
    assert_eq!(run.status().stages.last().map(|s| s.state), Some(StageState::Running));
}
