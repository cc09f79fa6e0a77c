//! Edits of what has started are told and not applied; edits of the rest are.

use fota::api::condition;
use fota::api::delivery::Delivery;
use fota::api::status::Phase;
use fota::api::{FirmwareRollout, Percent, RETRY};

use super::drive::{Run, command, stalled};
use super::world::{Setting, State};
use super::{BAD, OTHER, audit, fleet, gated, switches};

fn run() -> Run {
    let setting =
        Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout: gated(OTHER, 5), speed: 60 };
    Run::new(setting)
}

fn ignored(run: &Run) -> Option<String> {
    condition::find(&run.status().conditions, "EditsIgnored").map(|c| c.message.clone())
}

fn percent(rollout: &mut FirmwareRollout, step: usize, percent: u32) {
    rollout.spec.gray.as_mut().unwrap()[step].percent = Some(Percent::whole(percent));
}

/// What the cloud was sent for a stage of the first run.
fn sent(run: &Run, stage: &str, parameter: &str) -> Option<String> {
    let id = run.status().stages.iter().find(|s| s.name == stage)?.jobs[0].id.clone();
    let state = run.state();
    let call =
        state.cloud.calls().iter().find(|c| c.job_id.as_deref() == Some(&id) && c.operation.starts_with("Create"));
    call.unwrap().params.get(parameter).cloned()
}

#[test]
fn an_edited_share_is_told_while_it_differs_and_those_of_later_steps_apply() {
    let mut run = run();
    run.until_stage(1, "pilots");
    assert_eq!(ignored(&run), None);
    run.state().edit(|r| {
        percent(r, 0, 2);
        percent(r, 1, 20);
        percent(r, 2, 30);
    });
    run.turn();
    let told = ignored(&run).unwrap();
    assert!(told.contains("spec.gray[canary].percent, spec.gray[pilots].percent"), "{told}");
    assert!(!told.contains("broad"), "{told}");
    run.restart();
    run.turn();
    assert_eq!(ignored(&run), Some(told), "another process knows no less");
    run.state().edit(|r| percent(r, 0, 1));
    run.turn();
    assert!(!ignored(&run).unwrap().contains("canary"));
    run.state().edit(|r| percent(r, 1, 10));
    run.turn();
    assert_eq!(ignored(&run), None);
    run.until_stage(1, "broad");
    assert_eq!(run.status().stages.last().unwrap().percent, Some(Percent::whole(30)));
    let share: f64 = sent(&run, "broad", "GrayPercent").unwrap().parse().unwrap();
    assert!((20.0..30.0).contains(&share), "what is missing to 30 %: {share}");
    run.until_end();
    run.expect_completed();
}

#[test]
fn an_edited_delivery_is_for_the_steps_that_have_not_started() {
    let mut run = run();
    run.until_stage(1, "canary");
    run.state().edit(|r| {
        r.spec.delivery = Some(Delivery { maximum_per_minute: Some(300), ..Delivery::default() });
    });
    run.turn();
    let told = ignored(&run).unwrap();
    assert!(told.ends_with("spec.gray[canary].delivery"), "{told}");
    let rate = |run: &Run, name: &str| {
        let effective = run.status().effective.unwrap().stages;
        effective.iter().find(|s| s.name == name).unwrap().maximum_per_minute
    };
    assert_eq!((rate(&run, "canary"), rate(&run, "pilots")), (1_000, 300));
    run.until_stage(1, "pilots");
    assert_eq!(sent(&run, "pilots", "MaximumPerMinute").as_deref(), Some("300"));
    // The condition goes with the run.
    run.state().edit(|r| r.spec.firmware.id = Some(BAD.to_owned()));
    run.until_stage(2, "canary");
    assert_eq!(ignored(&run), None);
    assert_eq!(rate(&run, "canary"), 300);
}

#[test]
fn a_step_that_is_removed_while_it_runs_goes_on_to_its_gate_and_leaves_nothing_queued() {
    let mut run = run();
    run.until_stage(1, "pilots");
    run.state().edit(|r| drop(r.spec.gray.as_mut().unwrap().remove(1)));
    run.turn();
    assert!(ignored(&run).unwrap().contains("spec.gray[pilots] (removed)"), "{:?}", ignored(&run));
    let pilots = run.status().stages[1].jobs[0].id.clone();
    run.until_stage(1, "broad");
    assert!(audit::cancels(&run.state().cloud).contains(&pilots), "its leftovers are cancelled as at any promotion");
    assert!(run.status().gate.is_some());
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 4);
}

#[test]
fn what_is_put_in_front_of_a_started_step_or_moved_is_told_and_not_run() {
    let mut run = run();
    run.until_stage(1, "pilots");
    run.state().edit(|r| {
        let steps = r.spec.gray.as_mut().unwrap();
        let mut early = steps[0].clone();
        (early.name, early.percent, early.devices) = ("early".to_owned(), None, Some(vec!["lab-1".to_owned()]));
        steps.insert(0, early);
        steps.swap(1, 2);
        steps[1].percent = Some(Percent::whole(10));
    });
    run.turn();
    let told = ignored(&run).unwrap();
    assert!(told.contains("gray[early] (in front of what has started)"), "{told}");
    assert!(told.contains("gray[pilots] (moved)"), "{told}");
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 4);
    assert!(run.status().stages.iter().all(|s| s.name != "early"));
}

#[test]
fn gates_apply_at_once() {
    let mut run = run();
    run.until_stage(1, "canary");
    let least = |run: &Run, least| {
        run.state().edit(|r| r.spec.gray.as_mut().unwrap()[0].gate.as_mut().unwrap().min_decided = least);
    };
    least(&run, Some(200));
    run.until("out of reach", 100, |state| stalled(&state.status()).is_some_and(|(r, _)| r == "GateUnreachable"));
    assert_eq!(ignored(&run), None, "a gate is no part of what was started");
    least(&run, Some(1));
    run.until_stage(1, "pilots");
}

/// A failed step of 500 devices, which takes three parts to retry.
fn failed() -> Run {
    let mut fleet = fleet(2_000, 1.0, 1.0);
    fleet.firmware[2].silent_rate = Some(0.0);
    let mut rollout = gated(BAD, 5);
    let steps = rollout.spec.gray.as_mut().unwrap();
    steps.truncate(1);
    steps[0].percent = Some(Percent::whole(25));
    let mut run = Run::new(Setting { fleet, seed: 3, switches: switches(), rollout, speed: 60 });
    run.until_end();
    assert_eq!(run.status().phase, Some(Phase::Failed));
    run.turns(60);
    run
}

fn slow(rollout: &mut FirmwareRollout, rate: Option<i32>) {
    let delivery = Delivery { maximum_per_minute: rate, ..Delivery::default() };
    rollout.spec.gray.as_mut().unwrap()[0].delivery = Some(delivery);
}

#[test]
fn another_attempt_takes_the_delivery_of_its_time_for_all_of_its_parts() {
    let mut run = failed();
    run.state().edit(|r| slow(r, Some(100)));
    run.turn();
    assert!(ignored(&run).unwrap().contains("gray[canary].delivery"));
    command(&run, RETRY, "1");
    run.state().after_claim = Some(|state: &mut State| state.edit(|r| slow(r, Some(50))));
    run.until("held", 100, |state| stalled(&state.status()).is_some_and(|(r, _)| r == "EditedMeanwhile"));
    assert_eq!(run.status().stages[0].jobs.len(), 2, "the first part was promised before the edit");
    let (_, message) = stalled(&run.status()).unwrap();
    assert!(message.contains("spec.gray[canary].delivery"), "{message}");
    run.state().edit(|r| slow(r, Some(100)));
    run.until("all parts", 100, |state| state.status().stages[0].jobs.len() == 4);
    assert_eq!(ignored(&run), None, "the new attempt was started with it");
    let state = run.state();
    let created = state.cloud.calls().iter().filter(|c| c.operation.starts_with("Create") && c.code.is_none());
    let rates: Vec<_> = created.map(|c| c.params["MaximumPerMinute"].as_str()).collect();
    assert_eq!(rates, ["1000", "100", "100", "100"]);
}

#[test]
fn a_step_that_was_removed_cannot_be_retried_until_it_is_put_back() {
    let mut run = failed();
    let step = run.state().stored.clone().unwrap().spec.gray.unwrap();
    run.state().edit(|r| r.spec.gray = None);
    command(&run, RETRY, "1");
    run.until("held", 100, |state| stalled(&state.status()).is_some_and(|(r, _)| r == "StepRemoved"));
    run.turns(10);
    assert_eq!(audit::accepted(&run.state().cloud).len(), 1, "the next stage began over the failed one's head");
    run.state().edit(|r| r.spec.gray = Some(step));
    run.until("all parts", 100, |state| state.status().stages[0].jobs.len() == 4);
}
