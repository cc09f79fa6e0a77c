//! A create whose answer is lost is found by its tag: whatever lists show, however late, on whichever page.

use fota::cloud::model::ListOrder;
use fota::cloud::{Call, Faults, Switches};
use fota::ota::{Operation, Params};

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{GOOD, OTHER, PRODUCT, audit, fleet, gated, manifest, switches};

fn lossy(switches: Switches, creates: u32) -> Run {
    let setting = Setting { fleet: fleet(300, 0.9, 0.0), seed: 5, switches, rollout: manifest(), speed: 60 };
    let run = Run::new(setting);
    run.state().lose_creates = creates;
    run
}

fn completes_with_adopted(mut run: Run, adopted: usize) {
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let state = run.state();
    let jobs = audit::accepted(&state.cloud);
    let status = state.status();
    let recorded: Vec<_> = status.stages.iter().flat_map(|s| &s.jobs).map(|j| j.id.clone()).collect();
    assert_eq!(recorded, jobs);
    let without_answer = status.stages.iter().flat_map(|s| &s.jobs).filter(|j| j.request_id.is_none()).count();
    assert_eq!(without_answer, adopted);
    assert_eq!(state.notes.iter().filter(|n| n.note.contains("found by its tag and adopted")).count(), adopted);
    audit::check_job_counts(&state.cloud, &status);
}

#[test]
fn a_lost_reply_is_adopted_by_its_tag() {
    completes_with_adopted(lossy(switches(), 1), 1);
}

#[test]
fn every_reply_may_be_lost() {
    completes_with_adopted(lossy(switches(), 5), 5);
}

#[test]
fn lists_without_tags_are_asked_job_by_job() {
    completes_with_adopted(lossy(Switches { tags_listed: false, ..switches() }, 5), 5);
}

#[test]
fn a_list_that_lags_longer_than_configured_is_waited_for() {
    // listLag is 1 s, the list lags 3 s: an unclear create waits four times the lag.
    completes_with_adopted(lossy(Switches { list_lag_ms: 3_000, ..switches() }, 5), 5);
}

/// More jobs of the same package than a page shows, made and cancelled by somebody else.
fn crowd(run: &Run, firmware: &str, jobs: usize) {
    let mut state = run.state();
    let clocks = state.clocks();
    let params =
        |pairs: &[(&str, &str)]| -> Params { pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
    for _ in 0..jobs {
        let create = params(&[
            ("FirmwareId", firmware),
            ("ProductKey", PRODUCT),
            ("TargetSelection", "SPECIFIC"),
            ("TargetDeviceName.1", "dev-000"),
        ]);
        let call = Call::unsigned("auditor", Operation::CreateOTAStaticUpgradeJob, &create, None);
        let answer = state.cloud.handle(&call, clocks);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let job = body["Data"]["JobId"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        let cancel = params(&[("JobId", &job), ("CancelQueuedTask", "true")]);
        state.cloud.handle(&Call::unsigned("auditor", Operation::CancelOTATaskByJob, &cancel, None), clocks);
    }
}

#[test]
fn a_job_on_the_second_page_is_found() {
    for order in [ListOrder::OldestFirst, ListOrder::NewestFirst] {
        let switches = Switches { list_order: order, cancel_delay_seconds: 0.0, ..switches() };
        let setting = Setting { fleet: fleet(300, 0.9, 0.0), seed: 5, switches, rollout: gated(OTHER, 5), speed: 60 };
        let run = Run::new(setting);
        crowd(&run, OTHER, 230);
        run.state().lose_creates = 4;
        let mut run = run;
        run.until_end();
        run.expect_completed();
        let state = run.state();
        assert_eq!(audit::accepted(&state.cloud).len(), 4);
        let pages = state.cloud.calls().iter().filter(|c| c.operation == "ListOTAJobByFirmware");
        assert!(pages.filter(|c| c.params["CurrentPage"] == "2").count() >= 4, "{order:?}");
        let asked = state.cloud.calls().iter().filter(|c| c.operation == "QueryOTAJob").count();
        assert!(asked < 1_000, "foreign jobs were asked again and again: {asked}");
    }
}

#[test]
fn a_create_that_had_no_effect_and_no_answer_is_ambiguous_and_found_when_it_shows_up_late() {
    // The list lags a whole minute, far beyond what is configured, and this account never showed a tag: a person is
    // called, and the job still adopted.
    let mut run = lossy(Switches { list_lag_ms: 60_000, ..switches() }, 1);
    run.state().account.as_mut().unwrap().tag_echoed = false;
    run.until("stalled", 100, |state| stalled(&state.status()).is_some());
    assert_eq!(stalled(&run.status()).unwrap().0, "Ambiguous");
    run.until("adopted", 100, |state| state.status().stages.iter().any(|s| !s.jobs.is_empty()));
    completes_with_adopted(run, 1);
}

#[test]
fn random_misfortune_never_makes_a_second_job() {
    for seed in 1..=40 {
        let mut setting =
            Setting { fleet: fleet(300, 0.9, 0.0), seed, switches: switches(), rollout: manifest(), speed: 60 };
        // One silent device of three would hold the canary's gate for ever, and rightly.
        setting.fleet.firmware[0].silent_rate = Some(0.0);
        let mut run = Run::new(setting);
        run.state().faults =
            Faults { error_rate: 0.03, lost_reply_rate: 0.03, throttle_rate: 0.03, ..Faults::default() };
        run.until_end();
        run.expect_completed();
        assert_eq!(audit::accepted(&run.state().cloud).len(), 5, "seed {seed}");
    }
}

#[test]
fn the_package_of_a_crowd_is_the_right_one() {
    // The look-up asks for the claim's package: jobs of another one, however many, are not its jobs.
    let run = lossy(Switches { cancel_delay_seconds: 0.0, ..switches() }, 5);
    crowd(&run, OTHER, 3);
    let mut run = run;
    run.until_end();
    run.expect_completed();
    let state = run.state();
    let listed = state.cloud.calls().iter().filter(|c| c.operation == "ListOTAJobByFirmware");
    assert!(listed.into_iter().all(|c| c.params["FirmwareId"] == GOOD));
}
