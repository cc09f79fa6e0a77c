//! A good package goes to its end.

use serde_json::json;

use super::scene::{Devices, LIMIT, Scene, condition};

#[test]
fn a_good_package_goes_from_apply_to_completed_with_one_create_per_stage() {
    let mut scene = Scene::new("good", &Devices::default());
    scene.start_operator();
    scene.apply(&Scene::rollout("good", &json!({})));
    let wait = format!("--timeout={}s", LIMIT.as_secs());
    scene.kubectl(&["wait", "--for=condition=Ready", "fwr/good", &wait]);
    let rollout = scene.get("good");
    assert_eq!(rollout["status"]["phase"], "Completed");
    assert_eq!(condition(&rollout, "Reconciling")["status"], "False");
    assert_eq!(condition(&rollout, "Stalled")["status"], "False");
    scene.assert_created_once(4);

    // Once the fleet is quiet the status says what is true, class by class.
    let rollout = scene.until("good", "the ledger equals the cloud's", |r| {
        let truth = serde_json::to_value(scene.ledger("fw-4")).unwrap();
        let truth = truth.as_object().unwrap();
        truth.iter().all(|(class, count)| r["status"]["progress"][class] == *count)
    });
    assert_eq!(rollout["status"]["progress"]["atTarget"], 270, "nine in ten are online");
    assert_eq!(rollout["status"]["progress"]["queued"], 30);

    for stage in rollout["status"]["stages"].as_array().unwrap() {
        assert_eq!(stage["state"], "Passed", "{stage}");
        let job = &stage["jobs"][0];
        let truth = scene.jobs().into_iter().find(|j| Some(j.text("JobId")) == job["id"].as_str()).unwrap();
        assert_eq!(Some(truth.text("JobStatus")), job["view"]["jobStatus"].as_str());
        assert_eq!(Some(truth.text("TargetSelection")), job["view"]["targetSelection"].as_str());
    }

    let line = scene.kubectl(&["get", "fwr", "good"]);
    assert!(line.lines().next().unwrap().contains("PHASE") && line.contains("Completed"), "{line}");
    assert!(line.lines().all(|l| l.len() <= 120), "{line}");
    let story = scene.kubectl(&["describe", "fwr", "good"]);
    for word in ["JobRecorded", "StagePassed", "Stage canary passed", "Completed"] {
        assert!(story.contains(word), "{word} in {story}");
    }
    let account = scene.kubectl(&["get", "otaaccount", "cloud"]);
    assert!(account.contains("True") && account.contains("CloudAnswers"), "{account}");
}

#[test]
fn a_suspended_rollout_starts_nothing_and_goes_on_when_it_may() {
    let mut scene = Scene::new("suspend", &Devices::default());
    scene.start_operator();
    scene.apply(&Scene::rollout("held", &json!({"suspend": true})));
    let rollout = scene.until_phase("held", "Paused");
    assert_eq!(rollout["status"]["next"]["reason"], "Suspended");
    assert_eq!(scene.creates(), vec![]);
    scene.kubectl(&["patch", "fwr", "held", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    scene.until("held", "the canary runs", |r| r["status"]["step"] == "canary");
    scene.kubectl(&["patch", "fwr", "held", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    let rollout = scene.until("held", "held before promotion", |r| {
        r["status"]["phase"] == "Paused" && r["status"]["next"]["reason"] == "Suspended"
    });
    let reached = rollout["status"]["stages"].as_array().unwrap().len();
    assert_eq!(scene.creates().len(), reached.min(2), "{rollout}");
    scene.kubectl(&["patch", "fwr", "held", "--type=merge", "-p", r#"{"spec":{"suspend":null}}"#]);
    scene.until_phase("held", "Completed");
    scene.assert_created_once(4);
}

#[test]
fn two_rollouts_of_one_product_take_turns() {
    let mut scene = Scene::new("turns", &Devices { online: 1.0, ..Devices::default() });
    scene.apply(&Scene::rollout("first", &json!({})));
    let second = json!({"firmware": {"version": "5.0.0"}, "sourceVersions": ["4.0.0"], "verify": null});
    scene.apply(&Scene::rollout("second", &second));
    scene.start_operator();
    let waiting =
        scene.until("second", "waits for the first", |r| r["status"]["next"]["reason"] == "WaitingForRollout");
    let because = waiting["status"]["next"]["because"].as_str().unwrap();
    assert!(because.contains(&format!("{}/first", scene.namespace)), "{because}");
    scene.until_phase("second", "Completed");
    let jobs = scene.jobs();
    let firmware: Vec<_> = jobs.iter().map(|j| j.text("FirmwareId").to_owned()).collect();
    let mut sorted = firmware.clone();
    sorted.sort();
    assert_eq!(firmware, sorted, "no job of the second before the first had ended");
    assert_eq!(scene.ledger("fw-5").at_target, 303, "every device, the three of the laboratory included");
}

#[test]
fn an_account_that_signs_v3_goes_the_same_way() {
    let mut scene = Scene::new("v3", &Devices { count: 100, online: 1.0, failure_rate: 0.0 });
    scene.kubectl(&["patch", "otaaccount", "cloud", "--type=merge", "-p", r#"{"spec":{"signature":"V3"}}"#]);
    scene.start_operator();
    scene.apply(&Scene::rollout("third", &json!({})));
    scene.until_phase("third", "Completed");
    scene.assert_created_once(4);
    let signed = scene.cloud.with(|cloud, _| {
        let creates = cloud.calls().iter().filter(|c| c.operation.starts_with("CreateOTA"));
        creates.map(|c| c.params.contains_key("SignatureMethod")).collect::<Vec<_>>()
    });
    assert_eq!(signed, [false; 4], "V1 would name its method among the parameters");
}

#[test]
fn of_two_namespaces_it_sees_both_and_not_a_third() {
    let [first, second, third] = ["both-a", "both-b", "both-c"].map(|name| Scene::new(name, &Devices::default()));
    let suspended = json!({"suspend": true});
    // One before it starts, in the place that is read last or first; the others while it watches.
    second.apply(&Scene::rollout("early", &suspended));
    let operator = first.operator_with("both", "2s", &[], &["--namespace", &second.namespace]);
    second.until("early", "it is looked at", |r| r["status"]["phase"] == "Paused");
    third.apply(&Scene::rollout("late", &suspended));
    for scene in [&first, &second] {
        scene.apply(&Scene::rollout("late", &suspended));
        scene.until("late", "it is looked at", |r| r["status"]["phase"] == "Paused");
        scene.kubectl(&["delete", "fwr", "late", "--timeout=60s"]);
    }
    assert!(third.get("late")["status"]["phase"].is_null(), "nobody was asked to look there");
    drop(operator);
}
