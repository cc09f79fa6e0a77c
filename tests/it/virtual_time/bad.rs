//! A bad package is stopped within the running step's share, and nothing of it is left pending.

use fota::api::Percent;
use fota::api::status::{Phase, StageState};
use jiff::SignedDuration;

use super::drive::{Run, stalled};
use super::good::within;
use super::world::Setting;
use super::{BAD, audit, fleet, gated, switches};

const FLEET: u32 = 10_000;
const SEEDS: u64 = 100;

/// Runs a package that fails at a rate against a limit; says at which stage it was stopped.
fn stopped_at(seed: u64, rate: f64, limit: u32) -> String {
    let mut run = Run::new(Setting {
        fleet: fleet(FLEET, 0.95, rate),
        seed,
        switches: switches(),
        rollout: gated(BAD, limit),
        speed: 60,
    });
    run.until_end();
    if run.status().phase != Some(Phase::Failed) {
        run.fail(&format!("seed {seed}: not stopped"));
    }
    let creates = audit::accepted(&run.state().cloud).len();
    run.until("drained", 20, |state| {
        audit::upgrade_jobs(&state.status()).iter().all(|id| audit::pending(&state.cloud, id) == 0)
    });
    run.turns(20);
    let state = run.state();
    let status = state.status();
    assert_eq!(audit::creates(&state.cloud).len(), creates, "seed {seed}: a create after the stop");
    assert_eq!(audit::accepted(&state.cloud), audit::upgrade_jobs(&status));
    let failed = status.stages.last().unwrap();
    assert_eq!((failed.state, failed.jobs.len()), (StageState::Failed, 1));
    for audit in &state.audits {
        let share = status.stages.iter().find(|s| s.name == audit.stage).and_then(|s| s.percent);
        assert!(within(audit.pushed, audit.ones, share.unwrap_or(Percent::ALL), FLEET), "seed {seed}: {audit:?}");
    }
    assert_eq!(state.audits.last().map(|a| (&a.stage, a.state)), Some((&failed.name, StageState::Failed)));
    for id in audit::accepted(&state.cloud) {
        assert_eq!(audit::pending(&state.cloud, &id), 0, "seed {seed}: {id}");
    }
    let (reason, message) = stalled(&status).expect("a stopped rollout needs a person");
    assert_eq!(reason, "GateFailed");
    let says = |text: &str| {
        let decided = text.contains("devices") && text.contains("failed or timed out");
        decided && text.contains(&format!("more than maxFailurePercent {limit} %")) && text.contains(&failed.name)
    };
    assert!(says(&message), "{message}");
    let event = state.notes.iter().find(|n| n.warning && n.reason == "StageFailed").expect("no event");
    assert!(says(&event.note), "{}", event.note);
    assert!(state.notes.iter().any(|n| n.warning && n.reason == "GateFailed" && says(&n.note)));
    failed.name.clone()
}

/// Stops at every seed; prints where.
fn always_stopped(rate: f64, limit: u32) {
    let mut at = std::collections::BTreeMap::<String, u32>::new();
    for seed in 1..=SEEDS {
        *at.entry(stopped_at(seed, rate, limit)).or_default() += 1;
    }
    println!("{} % failures against {limit} %: stopped at {at:?}", rate * 100.0);
    assert_eq!(at.get("full"), None, "everyone got a package that fails at {rate}");
}

#[test]
fn five_percent_failures_never_pass_a_limit_of_3() {
    always_stopped(0.05, 3);
}

#[test]
fn eight_percent_failures_never_pass_a_limit_of_5() {
    always_stopped(0.08, 5);
}

#[test]
fn twenty_percent_failures_never_pass_a_limit_of_5() {
    always_stopped(0.2, 5);
}

#[test]
fn tasks_that_fail_between_the_count_and_the_list_are_not_counted_twice() {
    // Every reading is checked against the job's total by the driver; half of a poll passes between its two ends.
    for seed in 1..=20 {
        for speed in [5, 60, 300] {
            let rollout = gated(BAD, 90);
            let switches = switches();
            let mut run = Run::new(Setting { fleet: fleet(300, 1.0, 0.9), seed, switches, rollout, speed });
            run.interval = SignedDuration::from_millis(300);
            run.turns(150);
        }
    }
}
