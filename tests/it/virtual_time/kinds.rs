//! Whole runs with the other kinds of steps: groups, named devices, a schedule, a confirmation by the device's owner; and
//! the older edition of the service.

use fota::api::account::Edition as Served;
use fota::api::status::{Phase, StageState};
use fota::api::{FirmwareRollout, Time};
use fota::cloud::{Call, Edition, Fleet};
use fota::ota::{Operation, Params};
use fota::rollout::observed::Account;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{OTHER, PRODUCT, audit, fleet, gated, manifest, switches};

fn houses() -> Fleet {
    let text = format!(
        r#"
accounts:
- {{accessKeyId: operator, accessKeySecret: secret}}
- {{accessKeyId: auditor, accessKeySecret: secret}}
products:
- productKey: {PRODUCT}
  platformGroups: [{{id: houses}}]
  groups:
  - {{prefix: in-, count: 40, version: "1.0", memberOf: [houses], minutes: [2, 6]}}
  - {{prefix: out-, count: 40, version: "1.0", minutes: [2, 6]}}
firmware:
- {{id: {OTHER}, productKey: {PRODUCT}, version: "3.0", needToVerify: false}}
"#
    );
    Fleet::parse(&text).unwrap()
}

fn of(changes: &Value) -> FirmwareRollout {
    let mut rollout = gated(OTHER, 5);
    let mut spec = serde_json::to_value(&rollout.spec).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    rollout.spec = serde_json::from_value(spec).unwrap();
    rollout
}

fn run(fleet: Fleet, rollout: FirmwareRollout) -> Run {
    Run::new(Setting { fleet, seed: 6, switches: switches(), rollout, speed: 60 })
}

fn gate() -> Value {
    json!({"matureAfter": "10m", "soak": "5m", "silentAfter": "30m", "minDecided": 1})
}

#[test]
fn a_rollout_for_one_group_reaches_nobody_else() {
    let rollout = of(&json!({
        "gray": [{"name": "two", "devices": ["in-03", "in-17"], "gate": gate()}],
        "full": {"static": {"group": {"id": "houses"}}, "gate": gate()},
    }));
    let mut run = run(houses(), rollout);
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let status = run.status();
    let totals: Vec<_> = status.stages.iter().map(|s| s.jobs[0].total).collect();
    assert_eq!(totals, [Some(2), Some(38)]);
    assert_eq!(status.progress.unwrap().ledger.at_target, 40);
    let view = status.stages[1].jobs[0].view.clone().unwrap();
    assert_eq!((view.target_selection.as_str(), view.group_id.as_deref()), ("GROUP", Some("houses")));
}

#[test]
fn a_scheduled_job_waits_for_its_time_and_ends_by_it() {
    let rollout = of(&json!({"gray": null}));
    let mut run = run(houses(), rollout);
    let fleet_now = run.state().clocks().fleet;
    let (start, finish) =
        (fleet_now + SignedDuration::from_hours(8 * 24), fleet_now + SignedDuration::from_hours(9 * 24));
    run.state().edit(|r| {
        let full = r.spec.full.as_mut().unwrap().fixed.as_mut().unwrap();
        full.schedule = Some(fota::api::rollout::Schedule { start: Time(start), finish: Some(Time(finish)) });
    });
    run.turns(5);
    let next = run.status().next.unwrap();
    assert_eq!(
        (next.reason.as_str(), next.earliest.map(|t| t.0)),
        ("ScheduleAhead", Some(start - SignedDuration::from_hours(7 * 24)))
    );
    run.interval = SignedDuration::from_secs(60);
    run.until("made", 200, |state| state.status().stages.iter().any(|s| !s.jobs.is_empty()));
    run.turns(10);
    let job = run.status().stages[0].jobs[0].clone();
    assert_eq!(job.view.as_ref().unwrap().job_status, "PLANNED");
    assert_eq!((job.counts.unwrap().decided(), run.status().stages[0].state), (0, StageState::Running));
    run.until("ended", 600, |state| state.status().phase == Some(Phase::Completed));
    assert!(run.state().clocks().fleet > start);
    assert_eq!(audit::accepted(&run.state().cloud).len(), 1);
}

#[test]
fn a_schedule_that_was_missed_needs_a_person() {
    let mut run = run(houses(), of(&json!({"gray": null})));
    let start = run.state().clocks().fleet + SignedDuration::from_mins(2);
    run.state().edit(|r| {
        let full = r.spec.full.as_mut().unwrap().fixed.as_mut().unwrap();
        full.schedule = Some(fota::api::rollout::Schedule { start: Time(start), finish: None });
    });
    run.until_end();
    assert_eq!(stalled(&run.status()).unwrap().0, "ScheduleMissed");
    assert_eq!(audit::creates(&run.state().cloud), []);
}

#[test]
fn devices_that_wait_for_a_confirmation_are_counted_apart_and_go_on_with_it() {
    let rollout = of(&json!({
        "delivery": {"confirm": true},
        "gray": [{"name": "two", "devices": ["in-03", "in-17"], "gate": gate()}],
        "full": null,
    }));
    let mut run = run(houses(), rollout);
    run.until_stage(1, "two");
    run.turns(40);
    let status = run.status();
    let counts = status.stages[0].jobs[0].counts.unwrap();
    assert_eq!((counts.queued, counts.exposed(), status.stages[0].state), (2, 2, StageState::Running));
    let job = status.stages[0].jobs[0].id.clone();
    {
        let mut state = run.state();
        let clocks = state.clocks();
        let list = Params::from([
            ("JobId".to_owned(), job),
            ("CurrentPage".to_owned(), "1".to_owned()),
            ("PageSize".to_owned(), "10".to_owned()),
        ]);
        let answer = state.cloud.handle(&Call::unsigned("auditor", Operation::ListOTATaskByJob, &list, None), clocks);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let tasks = body["Data"]["SimpleOTATaskInfo"].as_array().unwrap();
        let confirmed =
            (1..).zip(tasks).map(|(n, t)| (format!("TaskId.{n}"), t["TaskId"].as_str().unwrap().to_owned()));
        let call = Call::unsigned("auditor", Operation::ConfirmOTATask, &confirmed.collect(), None);
        let body: Value = serde_json::from_str(&state.cloud.handle(&call, clocks).body).unwrap();
        assert_eq!(body["Success"], true, "{body}");
    }
    run.until_end();
    run.expect_completed();
}

/// A cloud of the older edition, and an account that says so.
fn legacy(rollout: FirmwareRollout) -> Run {
    let run = run(fleet(400, 0.95, 0.0), rollout);
    {
        let mut state = run.state();
        state.cloud = fota::cloud::Cloud::new(&fleet(400, 0.95, 0.0), 6, Edition::Legacy, switches());
        let account = state.account.clone().unwrap();
        state.account = Ok(Account { edition: Served::Legacy, ..account });
    }
    run
}

#[test]
fn the_older_edition_is_served_as_well() {
    let mut run = legacy(manifest());
    run.until_end();
    run.expect_completed();
    run.until_rest();
    let state = run.state();
    assert_eq!(audit::accepted(&state.cloud).len(), 5);
    assert!(state.cloud.calls().iter().all(|c| c.code.is_none()), "nothing was refused");
}

#[test]
fn what_the_older_edition_refuses_is_told_and_never_sent() {
    let long = "x".repeat(129);
    for (changes, says) in [
        (json!({"delivery": {"maximumPerMinute": 1_001}}), "write at most 1000"),
        (json!({"delivery": {"tags": {"campaign": long}}}), "longer than 128 characters"),
        (json!({"sourceVersions": null, "anySourceVersion": true}), "write sourceVersions"),
    ] {
        let mut run = legacy(of(&changes));
        run.until_end();
        let (reason, message) = stalled(&run.status()).unwrap();
        assert_eq!(reason, "EditionRefuses");
        assert!(message.contains(says), "{message}");
        assert_eq!(audit::creates(&run.state().cloud), []);
        // The same account, if it did not say so: the cloud itself refuses each.
        let mut run = legacy(of(&changes));
        let account = run.state().account.clone().unwrap();
        run.state().account = Ok(Account { edition: Served::Current, ..account });
        run.until_end();
        assert_ne!(run.status().phase, Some(Phase::Completed), "{changes}");
        assert!(audit::creates(&run.state().cloud).iter().all(|(_, result)| result.is_err()), "{changes}");
    }
}
