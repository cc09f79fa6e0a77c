//! A step that takes its devices from a list: the list goes along as a file, once; what is unclear about its create is
//! settled by waiting, never by sending another file.

use fota::api::FirmwareRollout;
use fota::cloud::Fleet;
use fota::rollout::observed::Trouble;
use jiff::SignedDuration;
use serde_json::json;

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{OTHER, audit, fleet, gated, switches};

fn rollout() -> FirmwareRollout {
    let mut rollout = gated(OTHER, 5);
    let mut spec = serde_json::to_value(&rollout.spec).unwrap();
    let gate = spec["gray"][0]["gate"].clone();
    spec["gray"] = json!([
        {"name": "sites", "devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "first"}}, "gate": gate},
        {"name": "broad", "percent": 50, "gate": gate},
    ]);
    rollout.spec = serde_json::from_value(spec).unwrap();
    rollout
}

fn listed(fleet: Fleet, names: usize) -> Run {
    let run = Run::new(Setting { fleet, seed: 5, switches: switches(), rollout: rollout(), speed: 60 });
    run.state().names = Ok((0..names).map(|n| format!("dev-{n:03}")).collect());
    run
}

/// The creates of the listed step: how many were accepted of how many, and what they had.
fn creates(run: &Run) -> Vec<(bool, String)> {
    let state = run.state();
    let all = state.cloud.calls().iter().filter(|c| c.operation == "CreateOTAStaticUpgradeJob");
    let of = all.filter(|c| c.params.get("TargetSelection").is_some_and(|s| s == "SPECIFIC"));
    of.map(|c| {
        let names = c.params.keys().filter(|k| k.starts_with("TargetDeviceName")).count();
        assert_eq!(names, 0, "a list file excludes names");
        (c.code.is_none(), c.params.get("DnListFileUrl").cloned().unwrap_or_default())
    })
    .collect()
}

#[test]
fn more_devices_than_a_call_takes_go_along_as_one_file() {
    let mut run = listed(fleet(600, 1.0, 0.0), 450);
    run.until_end();
    run.expect_completed();
    let status = run.status();
    let step = &status.stages[0];
    assert_eq!((step.name.as_str(), step.jobs.len(), step.jobs[0].total), ("sites", 1, Some(450)));
    let made = creates(&run);
    assert!(matches!(&made[..], [(true, url)] if !url.is_empty()), "{made:?}");
    let (text, url) = (serde_yaml::to_string(&run.state().stored).unwrap(), &made[0].1);
    assert!(!text.contains(url.as_str()), "the signed URL is shown nowhere");
    assert!(run.state().notes.iter().all(|n| !n.note.contains(url.as_str())));
}

#[test]
fn a_lost_answer_is_looked_for_and_the_file_is_not_sent_again() {
    let mut run = listed(fleet(600, 1.0, 0.0), 250);
    run.state().lose_creates = 1;
    run.until_end();
    run.expect_completed();
    assert_eq!(creates(&run).len(), 1);
    assert!(run.status().stages[0].jobs[0].request_id.is_none(), "found by its tag");
}

#[test]
fn a_create_that_had_no_effect_is_made_again_when_no_copy_can_arrive_any_more() {
    let mut run = listed(fleet(600, 1.0, 0.0), 250);
    run.die_after_claim();
    let began = run.state().wall;
    run.until("the step's job", 600, |state| state.status().stages.iter().any(|s| !s.jobs.is_empty()));
    let took = run.state().wall.duration_since(began);
    assert!(took >= SignedDuration::from_mins(16), "after {took}");
    assert_eq!(creates(&run).len(), 1);
    assert_eq!(run.status().stages[0].epoch, 2);
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 3);
}

#[test]
fn a_list_that_changed_before_the_send_withdraws_the_claim() {
    let mut run = listed(fleet(600, 1.0, 0.0), 250);
    run.state().after_claim = Some(|state| state.names = Ok(["dev-001".to_owned()].into()));
    run.until_end();
    run.expect_completed();
    assert_eq!(creates(&run).len(), 1);
    assert_eq!(run.status().stages[0].jobs[0].total, Some(1), "what stands there when it is sent");
}

#[test]
fn without_its_list_a_step_waits_and_says_for_what() {
    let mut run = listed(fleet(600, 1.0, 0.0), 250);
    let trouble = |reason, stalled| Err(Trouble { reason, message: "line 3 is no device name".to_owned(), stalled });
    run.state().names = trouble("ConfigMapNotFound", false);
    run.turns(20);
    assert_eq!(run.status().next.unwrap().reason, "ConfigMapNotFound");
    run.state().names = trouble("DevicesInvalid", true);
    run.turns(20);
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!((reason.as_str(), message.as_str()), ("DevicesInvalid", "line 3 is no device name"));
    assert_eq!(creates(&run), []);
    run.state().names = Ok(["dev-001".to_owned()].into());
    run.until("going on", 20, |state| stalled(&state.status()).is_none());
    run.until_end();
    run.expect_completed();
}
