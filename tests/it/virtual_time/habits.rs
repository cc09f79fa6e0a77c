//! Clouds with other habits: where the documents leave conduct open, the good story must come out the same.

use fota::cloud::Switches;
use fota::cloud::model::{
    BusyDevices, Completion, EmptyList, GrayBase, JobEnd, ListOrder, NonceBurnedBy, VerifyVerdict,
};

use super::drive::Run;
use super::world::Setting;
use super::{audit, fleet, manifest, switches};

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
