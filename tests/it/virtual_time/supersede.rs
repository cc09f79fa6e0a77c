//! New firmware while a run is under way: it replaces the run, or waits for its end.

use fota::api::condition;
use fota::api::rollout::Supersede;
use fota::api::status::{FirmwareRolloutStatus, Phase, StageState};
use fota::api::{ABORT, Percent, RETRY};

use super::drive::{Run, command, stalled};
use super::world::{Setting, State};
use super::{BAD, GOOD, OTHER, audit, fleet, gated, manifest, switches};

fn run() -> Run {
    let mut rollout = manifest();
    rollout.spec.supersede = Some(Supersede::Queue);
    Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout, speed: 60 })
}

/// A commit that brings other firmware, from both versions that are out there then.
fn commit(state: &mut State) {
    state.edit(|r| {
        r.spec.firmware.id = Some(OTHER.to_owned());
        r.spec.source_versions = Some(vec!["1.0".to_owned(), "2.0".to_owned()]);
    });
}

fn holds(status: &FirmwareRolloutStatus, kind: &str) -> bool {
    condition::find(&status.conditions, kind).is_some_and(|c| c.status == "True")
}

/// Package and source versions of every job, in the order in which they were made.
fn jobs(state: &State) -> Vec<(String, usize)> {
    let created = state.cloud.calls().iter().filter(|c| c.operation.starts_with("Create") && c.code.is_none());
    let sources = |p: &fota::ota::Params| p.keys().filter(|k| k.starts_with("SrcVersion.")).count();
    created.map(|c| (c.params["FirmwareId"].clone(), sources(&c.params))).collect()
}

#[test]
fn a_queued_firmware_waits_for_the_end_of_the_run_whoever_dies_meanwhile() {
    for died_in in ["none", "canary", "pilots", "broad", "full"] {
        let mut run = run();
        run.until_stage(1, "canary");
        commit(&mut run.state());
        for name in ["canary", "pilots", "broad", "full"] {
            run.until_stage(1, name);
            run.turn();
            assert!(holds(&run.status(), "Queued"), "{name}");
            if died_in == name {
                run.restart();
            }
        }
        run.until("the second run", 600, |state| {
            let status = state.status();
            assert!(!holds(&status, "Ready"), "what the spec declares is not reached yet");
            status.run == 2
        });
        assert!(!holds(&run.status(), "Queued"));
        {
            let state = run.state();
            let last = state.status().last_completed.unwrap();
            assert_eq!((last.run, last.firmware.id.as_str()), (1, GOOD));
            let good = |sources| (GOOD.to_owned(), sources);
            // The verification takes no source versions.
            assert_eq!(jobs(&state)[..5], [good(0), good(1), good(1), good(1), good(1)], "died in {died_in}");
            assert!(state.notes.iter().any(|n| n.reason == "Completed"), "{:?}", state.notes);
        }
        run.until_stage(2, "canary");
        let old = audit::accepted(&run.state().cloud);
        for id in &old[..5] {
            assert_eq!(audit::pending(&run.state().cloud, id), 0, "{id}");
        }
        run.until_end();
        run.expect_completed();
        assert!(jobs(&run.state())[5..].iter().all(|job| *job == (OTHER.to_owned(), 2)));
    }
}

#[test]
fn a_run_that_fails_or_is_aborted_makes_way_for_the_firmware_that_waits() {
    for aborted in [false, true] {
        let mut rollout = gated(BAD, 5);
        rollout.spec.supersede = Some(Supersede::Queue);
        let fleet = fleet(300, 1.0, if aborted { 0.0 } else { 0.5 });
        let mut run = Run::new(Setting { fleet, seed: 11, switches: switches(), rollout, speed: 60 });
        run.until_stage(1, "canary");
        commit(&mut run.state());
        run.turn();
        assert_eq!((run.status().run, holds(&run.status(), "Queued")), (1, true));
        if aborted {
            command(&run, ABORT, "1");
        }
        run.until("the second run", 600, |state| state.status().run == 2);
        assert_eq!(run.status().last_completed, None);
        let failed = run.state().notes.iter().any(|n| n.reason == "StageFailed");
        assert_eq!(failed, !aborted, "{:?}", run.state().notes);
        run.until_end();
        run.expect_completed();
        assert_eq!(run.status().last_completed.unwrap().firmware.id, OTHER);
    }
}

#[test]
fn a_step_that_was_edited_with_a_queued_firmware_is_not_started_in_another_way() {
    let edited = |state: &mut State| {
        commit(state);
        state.edit(|r| r.spec.gray.as_mut().unwrap()[2].percent = Some(Percent::whole(40)));
    };
    let blocked = || {
        let mut run = run();
        run.until_stage(1, "canary");
        edited(&mut run.state());
        run.until("blocked", 300, |state| stalled(&state.status()).is_some());
        let (reason, message) = stalled(&run.status()).unwrap();
        assert_eq!(reason, "QueueBlocked");
        assert!(message.contains("gray[broad].percent") && message.contains("supersede: Replace"), "{message}");
        run.restart();
        run.turns(30);
        assert_eq!(audit::creates(&run.state().cloud).len(), 3, "verify, canary and pilots, which were as before");
        run
    };
    // Put back as it was.
    let mut run = blocked();
    run.state().edit(|r| r.spec.gray.as_mut().unwrap()[2].percent = Some(Percent::whole(50)));
    run.until_stage(1, "full");
    // Replaced after all.
    let mut run = blocked();
    run.state().edit(|r| r.spec.supersede = None);
    run.until_stage(2, "canary");
    // Aborted.
    let mut run = blocked();
    command(&run, ABORT, "1");
    run.until_stage(2, "canary");
}

#[test]
fn steps_that_a_queued_firmware_adds_are_its_own() {
    let mut run = run();
    run.until_stage(1, "broad");
    commit(&mut run.state());
    run.state().edit(|r| {
        let steps = r.spec.gray.as_mut().unwrap();
        let mut more = steps[2].clone();
        (more.name, more.percent) = ("most".to_owned(), Some(Percent::whole(80)));
        steps.push(more);
        // And what its gates say is for it, not for the run under way.
        steps[2].gate.as_mut().unwrap().min_decided = Some(1_000_000);
    });
    run.until("the second run", 600, |state| state.status().run == 2);
    assert_eq!(jobs(&run.state()).iter().filter(|(id, _)| id == GOOD).count(), 5);
}

#[test]
fn the_last_of_several_queued_firmwares_runs() {
    let mut run = run();
    run.until_stage(1, "canary");
    run.state().edit(|r| r.spec.firmware.id = Some(BAD.to_owned()));
    run.until_stage(1, "pilots");
    commit(&mut run.state());
    run.until_stage(2, "canary");
    assert!(jobs(&run.state()).iter().all(|(id, _)| id != BAD));
}

#[test]
fn back_to_the_completed_firmware_stops_a_run_at_once_in_every_phase_also_under_queue() {
    let story = |policy: Option<Supersede>, until: &str| {
        let mut rollout = manifest();
        rollout.spec.supersede = policy;
        let mut fleet = fleet(300, 0.9, 0.3);
        fleet.firmware[2].need_to_verify = false;
        let mut run = Run::new(Setting { fleet, seed: 11, switches: switches(), rollout, speed: 60 });
        run.until_end();
        run.expect_completed();
        let forward = |r: &mut fota::api::FirmwareRollout| {
            r.spec.firmware.id = Some(if until == "Failed" { BAD } else { OTHER }.to_owned());
            r.spec.source_versions = Some(vec!["1.0".to_owned(), "2.0".to_owned()]);
        };
        run.state().edit(forward);
        if until == "claimed" {
            run.state().after_claim = Some(|state: &mut State| state.edit(back));
        } else {
            run.until_stage(2, "canary");
        }
        match until {
            "Failed" => run.until("failed", 200, |s| s.status().phase == Some(Phase::Failed)),
            "Aborted" => {
                command(&run, ABORT, "1");
                run.turns(2);
                assert_eq!(run.status().phase, Some(Phase::Aborted));
            }
            "Paused" => {
                run.state().edit(|r| r.spec.suspend = Some(true));
                run.until("held", 300, |s| s.status().next.is_some_and(|n| n.reason == "Suspended"));
            }
            _ => {}
        }
        let before = audit::creates(&run.state().cloud).len();
        if until != "claimed" {
            run.state().edit(back);
        }
        run.until(&format!("reverted from {until}"), 300, |state| {
            let ready = condition::find(&state.status().conditions, "Ready").cloned();
            ready.is_some_and(|c| c.reason == "Reverted" && c.status == "True")
        });
        run.turns(20);
        let state = run.state();
        assert_eq!(audit::creates(&state.cloud).len(), before, "{until}: something was created to go back");
        let status = state.status();
        assert_eq!((status.phase, status.run, status.stages.len()), (Some(Phase::Completed), 3, 0), "{until}");
        for id in audit::accepted(&state.cloud) {
            assert_eq!(audit::pending(&state.cloud, &id), 0, "{until}: {id}");
        }
    };
    fn back(r: &mut fota::api::FirmwareRollout) {
        r.spec.firmware.id = Some(GOOD.to_owned());
        r.spec.source_versions = Some(vec!["1.0".to_owned()]);
    }
    for policy in [None, Some(Supersede::Replace), Some(Supersede::Queue)] {
        for until in ["running", "claimed", "Failed", "Aborted", "Paused"] {
            story(policy, until);
        }
    }
}

#[test]
fn a_run_that_cannot_begin_is_corrected_at_once_also_under_queue() {
    let mut rollout = gated("none such", 5);
    rollout.spec.supersede = Some(Supersede::Queue);
    let mut run = Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 11, switches: switches(), rollout, speed: 60 });
    run.until("missed", 20, |state| state.status().next.is_some_and(|n| n.reason == "FirmwareNotFound"));
    commit(&mut run.state());
    run.until_stage(2, "canary");
}

#[test]
fn an_abort_while_the_old_run_is_being_left_stops_the_new_one_before_it_begins() {
    let mut run = run();
    run.until_stage(1, "broad");
    run.state().edit(|r| r.spec.supersede = None);
    commit(&mut run.state());
    run.turn();
    assert_eq!((run.status().run, run.status().next.unwrap().reason.as_str()), (1, "Superseding"));
    command(&run, ABORT, "1");
    run.until("aborted", 50, |state| state.status().phase == Some(Phase::Aborted));
    run.turns(30);
    let status = run.status();
    assert_eq!((status.run, status.phase, status.stages.len()), (2, Some(Phase::Aborted), 0));
    assert!(jobs(&run.state()).iter().all(|(id, _)| id == GOOD));
    command(&run, RETRY, "1");
    run.until_stage(2, "canary");
    assert_eq!(run.status().stages.last().unwrap().state, StageState::Running);
}
