//! A good package reaches everyone, within the declared shares, told to the last device.

use fota::api::Percent;
use fota::api::status::StageState;
use fota::cloud::Switches;

use super::drive::Run;
use super::world::Setting;
use super::{audit, fleet, manifest, switches};

const FLEET: u32 = 10_000;

fn good(seed: u64, online: f64, switches: Switches) -> Run {
    Run::new(Setting { fleet: fleet(FLEET, online, 0.0), seed, switches, rollout: manifest(), speed: 60 })
}

/// Runs to the end and checks everything that must hold of a good story.
fn check(mut run: Run) -> Run {
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let state = run.state();
    let status = state.status();
    let creates = audit::creates(&state.cloud);
    assert!(creates.iter().all(|(_, result)| result.is_ok()), "{creates:?}");
    assert_eq!(audit::accepted(&state.cloud).len(), 5);
    assert!(status.stages.iter().all(|s| s.state == StageState::Passed && s.jobs.len() == 1));
    let names: Vec<_> = status.stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["verify", "canary", "pilots", "broad", "full"]);
    audit::check_job_counts(&state.cloud, &status);
    assert_eq!(status.progress.as_ref().unwrap().ledger, audit::ledger(&state.cloud, &status));
    assert!(state.notes.iter().all(|n| !n.warning), "{:?}", state.notes);
    for audit in &state.audits {
        let Some(share) = status.stages.iter().find(|s| s.name == audit.stage).and_then(|s| s.percent) else {
            continue;
        };
        assert!(within(audit.pushed, audit.ones, share, FLEET), "{audit:?} beyond {share} %");
    }
    drop(state);
    run
}

pub fn within(pushed: usize, ones: usize, share: Percent, fleet: u32) -> bool {
    let most = u64::from(share.milli()) * u64::from(fleet) / 100_000;
    pushed as u64 <= most + ones as u64
}

fn five_seeds(online: f64) {
    for seed in 1..=5 {
        let run = check(good(seed, online, switches()));
        assert_eq!(run.state().audits.len(), 5, "every stage was audited");
    }
}

#[test]
fn a_good_package_reaches_everyone_with_1_percent_offline() {
    five_seeds(0.99);
}

#[test]
fn a_good_package_reaches_everyone_with_10_percent_offline() {
    five_seeds(0.9);
}

#[test]
fn a_good_package_reaches_everyone_with_30_percent_offline() {
    five_seeds(0.7);
}

#[test]
fn status_is_small_and_seldom_written_and_quotas_are_kept() {
    let mut run = good(1, 0.99, Switches { quotas: true, ..switches() });
    run.until_end();
    let writes = run.state().writes;
    let run = check(run);
    let state = run.state();
    let throttled = state.cloud.calls().iter().filter(|c| c.code.is_some()).count();
    let size = serde_json::to_string(&state.status()).unwrap().len();
    println!(
        "good story: {writes} status writes to the end, {} in all; {size} bytes; {} calls",
        state.writes,
        state.cloud.calls().len()
    );
    assert_eq!(throttled, 0);
    assert!(size <= 12 * 1024, "{size}");
    assert!(state.writes <= 40, "{}", state.writes);
}

#[test]
fn while_nobody_is_online_nothing_is_promoted() {
    let mut run = good(1, 0.0, switches());
    run.until_stage(1, "canary");
    run.turns(100);
    let state = run.state();
    let status = state.status();
    assert_eq!(audit::accepted(&state.cloud).len(), 2, "the verification and the canary");
    let canary = status.stages.last().unwrap();
    assert_eq!((canary.name.as_str(), canary.state), ("canary", StageState::Running));
    let next = status.next.unwrap();
    assert_eq!(next.reason, "WaitingForDevices");
    assert!(next.because.contains("a device to come online"), "{}", next.because);
}
