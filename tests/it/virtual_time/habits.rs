//! Clouds with other habits: where the documents leave conduct open, the good story must come out the same.

use std::collections::BTreeSet;

use fota::api::status::Phase;
use fota::cloud::Switches;
use fota::cloud::model::{
    BusyDevices, Completion, EmptyList, GrayBase, JobEnd, ListOrder, NonceBurnedBy, VerifyVerdict,
};

use serde_json::{Value, json};

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{BAD, audit, fleet, gated, manifest, switches};

fn comes_out_the_same(habit: Switches) {
    let setting = Setting { fleet: fleet(2_000, 0.9, 0.0), seed: 3, switches: habit, rollout: manifest(), speed: 60 };
    let mut run = Run::new(setting);
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let state = run.state();
    assert_eq!(audit::accepted(&state.cloud).len(), 5);
    let status = state.status();
    audit::check_job_counts(&state.cloud, &status);
    assert_eq!(status.progress.as_ref().unwrap().ledger, audit::ledger(&state.cloud, &status));
}

#[test]
fn tasks_that_appear_after_their_job() {
    comes_out_the_same(Switches { creation_spread_seconds: 90.0, ..switches() });
}

#[test]
fn cancels_that_take_a_while() {
    comes_out_the_same(Switches { cancel_delay_seconds: 7.0, ..switches() });
}

#[test]
fn lists_in_any_order_late_and_without_tags() {
    let habit = Switches {
        list_order: ListOrder::Shuffled,
        tags_listed: false,
        list_lag_ms: 2_000,
        empty_list: EmptyList::Absent,
        legacy_spelling: true,
        ..switches()
    };
    comes_out_the_same(habit);
}

#[test]
fn no_tags_shown_anywhere_and_empty_lists_null() {
    let habit = Switches { tags_queried: false, tags_listed: false, empty_list: EmptyList::Null, ..switches() };
    comes_out_the_same(habit);
}

#[test]
fn jobs_that_never_end_by_themselves() {
    comes_out_the_same(Switches { completion: Completion::Never, ..switches() });
}

#[test]
fn cancelled_jobs_that_say_completed_and_errors_with_another_status() {
    let habit = Switches {
        cancelled_job: JobEnd::Completed,
        product_error_status: 400,
        verify_verdict: VerifyVerdict::FirstFailure,
        empty_list: EmptyList::EmptyObject,
        ..switches()
    };
    comes_out_the_same(habit);
}

#[test]
fn shares_of_the_whole_fleet_and_busy_devices_left_out() {
    comes_out_the_same(Switches { busy_devices: BusyDevices::Excluded, ..switches() });
    comes_out_the_same(Switches { gray_base: GrayBase::Fleet, ..switches() });
}

#[test]
fn nonces_burned_by_anything_or_nothing() {
    comes_out_the_same(Switches { nonce: NonceBurnedBy::Any, ..switches() });
    comes_out_the_same(Switches { nonce: NonceBurnedBy::Never, ..switches() });
}

#[test]
fn devices_that_come_and_go() {
    comes_out_the_same(Switches { reconnect_minutes: Some(30.0), ..switches() });
}

/// Every switch with each setting that it does not have by itself.
fn settings() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("nonce", vec![json!("any"), json!("never")]),
        ("deniedBy", vec![json!("product")]),
        ("clockAheadSeconds", vec![json!(40.0), json!(-40.0)]),
        ("quotas", vec![json!(true)]),
        ("tagsListed", vec![json!(false)]),
        ("tagsQueried", vec![json!(false)]),
        ("listOrder", vec![json!("oldestFirst"), json!("shuffled")]),
        ("listLagMs", vec![json!(900), json!(3_000)]),
        ("pageShiftRate", vec![json!(0.5), json!(1.0)]),
        ("grayBase", vec![json!("fleet")]),
        ("busyDevices", vec![json!("excluded")]),
        ("destinationInArray", vec![json!("refused")]),
        ("strictSrcVersions", vec![json!(true), json!(false)]),
        ("completion", vec![json!("never")]),
        ("cancelledJob", vec![json!("completed")]),
        ("scheduleFinishedJob", vec![json!("canceled")]),
        ("cancelDelaySeconds", vec![json!(0.0), json!(7.0)]),
        ("allFalseIsAnOption", vec![json!(true)]),
        ("creationSpreadSeconds", vec![json!(30.0), json!(90.0)]),
        ("reconnectMinutes", vec![json!(30.0)]),
        ("verifyVerdict", vec![json!("firstFailure")]),
        ("verifyCancelled", vec![json!("unverified")]),
        ("verifiedAgain", vec![json!("verifyFirmwareFailed")]),
        ("legacySpelling", vec![json!(true)]),
        ("emptyList", vec![json!("emptyObject"), json!("null"), json!("absent")]),
        ("successCode", vec![json!("empty"), json!("success")]),
        ("endTimeWhileRunning", vec![json!(true)]),
        ("productErrorStatus", vec![json!(400), json!(500)]),
        ("throttleStatus", vec![json!(429), json!(503)]),
    ]
}

#[test]
fn both_stories_come_out_the_same_under_every_setting_of_every_switch() {
    let Value::Object(all) = serde_json::to_value(Switches::default()).unwrap() else { unreachable!() };
    let listed: BTreeSet<_> = settings().iter().map(|(name, _)| (*name).to_owned()).collect();
    // Signatures are checked by tests over HTTP: virtual time has none.
    let expected: BTreeSet<_> = all.keys().filter(|name| *name != "unsigned").cloned().collect();
    assert_eq!(listed, expected);
    for (name, values) in settings() {
        for value in values {
            let what = format!("{name}: {value}");
            let patch = [(name.to_owned(), value)].into_iter().collect();
            let habit = switches().changed(&patch).unwrap_or_else(|why| panic!("{what}: {why}"));
            let story = |rollout, failing| {
                let fleet = fleet(400, 0.95, failing);
                let mut run = Run::new(Setting { fleet, seed: 4, switches: habit.clone(), rollout, speed: 60 });
                run.until_end();
                run
            };
            let mut good = story(manifest(), 0.0);
            assert_eq!(good.status().phase, Some(Phase::Completed), "{what}: {:?}", stalled(&good.status()));
            assert_eq!(audit::accepted(&good.state().cloud).len(), 5, "{what}");
            // Once it is complete, devices that were never pushed to are not waited for: where they come back, nobody counts.
            if name != "reconnectMinutes" {
                good.until_rest();
                let state = good.state();
                let truth = audit::ledger(&state.cloud, &state.status());
                assert_eq!(state.status().progress.unwrap().ledger, truth, "{what}");
            }

            let mut bad = story(gated(BAD, 5), 0.4);
            let status = bad.status();
            assert_eq!(status.phase, Some(Phase::Failed), "{what}: {:?}", stalled(&status));
            assert_eq!(stalled(&status).unwrap().0, "GateFailed", "{what}");
            let jobs = audit::accepted(&bad.state().cloud);
            bad.until("drained", 40, |state| jobs.iter().all(|id| audit::pending(&state.cloud, id) == 0));
            bad.turns(20);
            assert_eq!(audit::accepted(&bad.state().cloud), jobs, "{what}: a create after the stop");
        }
    }
}
