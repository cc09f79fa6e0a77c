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
    let setting = Setting { fleet: fleet(300, 0.9, 0.0), seed: 3, switches, rollout: manifest(), speed: 60 };
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
    let lost = death.claimed.is_some() && !death.took_effect;
    match stalled(&status) {
        Some((reason, _)) => {
            assert!(lost, "death after call {k}: stalled {reason} without need");
            assert_eq!(reason, "Ambiguous", "death after call {k}");
            assert_eq!(status.claim.map(|c| c.token), death.claimed);
        }
        None => {
            assert!(!lost, "death after call {k}: a create that nobody sent was forgotten");
            assert_eq!((status.phase, jobs.len()), (Some(Phase::Completed), 5), "death after call {k}");
            assert_eq!(recorded(&status), jobs, "death after call {k}");
            audit::check_job_counts(&state.cloud, &status);
        }
    }
}

fn recorded(status: &FirmwareRolloutStatus) -> Vec<String> {
    assert!(status.stages.iter().all(|s| s.state == StageState::Passed));
    status.stages.iter().flat_map(|s| &s.jobs).map(|j| j.id.clone()).collect()
}

/// How many calls and writes the undisturbed story takes.
fn length(switches: Switches) -> usize {
    let mut run = small(switches);
    run.to_end();
    run.expect_completed();
    run.to_rest();
    run.state().outside
}

fn die_after_every_call(switches: impl Fn() -> Switches) {
    let length = length(switches());
    let (mut ambiguous, mut between) = (0, 0);
    for k in 0..=length {
        let mut run = small(switches());
        run.state().die_after = Some(k);
        run.until("dead", 600, State::dead);
        let death = death(&run.state());
        run.restart();
        run.to_end();
        if stalled(&run.status()).is_none() {
            run.to_rest();
        } else {
            run.turns(10);
        }
        ambiguous += usize::from(stalled(&run.status()).is_some());
        between += usize::from(death.claimed.is_some() && death.took_effect);
        check_end(&run, k, &death);
    }
    println!("{length} calls and writes; {ambiguous} deaths before a create, {between} between create and record");
    // One claim for each of the five jobs: each has one point before its create and one before its record.
    assert_eq!((ambiguous, between), (5, 5));
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
fn a_claim_whose_write_was_not_acknowledged_is_never_sent() {
    let mut run = small(switches());
    run.state().unclear_writes = 1;
    run.to_end();
    let state = run.state();
    // Whoever wrote it may send it: without the acknowledgement nobody does.
    assert!(state.status().claim.is_some());
    assert_eq!(stalled(&state.status()).map(|s| s.0).as_deref(), Some("Ambiguous"));
    assert_eq!(audit::creates(&state.cloud), []);
}
