//! The process may die after any write and any call, and another one takes over: never two jobs, never none untold.

use fota::api::status::{FirmwareRolloutStatus, Phase, StageState};
use fota::cloud::Switches;

use super::drive::{Run, stalled};
use super::world::{Setting, State};
use super::{audit, fleet, manifest, switches};

/// What the world looked like when the process died.
struct Death {
    claimed: Option<String>,
    took_effect: bool,
}

fn small(switches: Switches) -> Run {
    let mut setting = Setting { fleet: fleet(300, 0.9, 0.0), seed: 3, switches, rollout: manifest(), speed: 60 };
    // A silent device is watched for ever; without one polling comes to rest, and must not do so too early.
    setting.fleet.firmware[0].silent_rate = Some(0.0);
    Run::new(setting)
}

fn death(state: &State) -> Death {
    let claimed = state.status().claim.map(|c| c.token);
    let took_effect =
        audit::creates(&state.cloud).iter().any(|(tag, job)| Some(tag) == claimed.as_ref() && job.is_ok());
    Death { claimed, took_effect }
}

fn check_end(run: &Run, k: usize, death: &Death) {
    let state = run.state();
    let status = state.status();
    let jobs = audit::accepted(&state.cloud);
    assert_eq!(stalled(&status), None, "death after call {k}");
    assert_eq!((status.phase, jobs.len()), (Some(Phase::Completed), 5), "death after call {k}");
    assert_eq!(recorded(&status), jobs, "death after call {k}");
    audit::check_job_counts(&state.cloud, &status);
    // Whoever came next repeated what had been claimed: nothing was claimed a second time.
    assert!(status.stages.iter().all(|s| s.epoch == 1), "death after call {k}, claimed {:?}", death.claimed);
}

fn recorded(status: &FirmwareRolloutStatus) -> Vec<String> {
    assert!(status.stages.iter().all(|s| s.state == StageState::Passed));
    status.stages.iter().flat_map(|s| &s.jobs).map(|j| j.id.clone()).collect()
}

/// How many calls and writes the undisturbed story takes.
fn length(switches: Switches) -> usize {
    let mut run = small(switches);
    run.until_end();
    run.expect_completed();
    run.until_rest();
    run.state().outside
}

fn die_after_every_call(switches: impl Fn() -> Switches) {
    let length = length(switches());
    let (mut before, mut between) = (0, 0);
    for k in 0..=length {
        let mut run = small(switches());
        run.state().die_after = Some(k);
        run.until("dead", 600, State::dead);
        let death = death(&run.state());
        run.restart();
        run.until_end();
        run.until_rest();
        before += usize::from(death.claimed.is_some() && !death.took_effect);
        between += usize::from(death.claimed.is_some() && death.took_effect);
        check_end(&run, k, &death);
    }
    println!("{length} calls and writes; {before} deaths before a create, {between} between create and record");
    // One claim for each of the five jobs: each has one point before its create and one before its record.
    assert_eq!((before, between), (5, 5));
}

#[test]
fn a_death_after_any_call_makes_no_second_job() {
    die_after_every_call(switches);
}

#[test]
fn a_death_after_any_call_makes_no_second_job_where_lists_show_no_tags() {
    die_after_every_call(|| Switches { tags_listed: false, list_lag_ms: 1_000, ..switches() });
}

#[test]
fn a_claim_whose_write_was_not_acknowledged_is_sent_once() {
    let mut run = small(switches());
    run.state().unclear_writes = 1;
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
}

#[test]
fn where_nothing_may_be_repeated_a_death_before_a_create_costs_time_only() {
    let mut run = small(switches());
    run.state().account.as_mut().unwrap().replay = fota::api::Replay::Settle;
    run.die_after_claim();
    run.until_end();
    run.expect_completed();
    let state = run.state();
    assert_eq!(audit::accepted(&state.cloud).len(), 5);
    assert_eq!(state.status().stages[0].epoch, 2);
}
