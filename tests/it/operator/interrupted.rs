//! The operator is killed and started again.

use serde_json::json;

use super::scene::{Devices, LIMIT, Scene};
use crate::harness::wait::until_true;

#[test]
fn killed_in_every_stage_it_goes_on_without_a_second_job() {
    let mut scene = Scene::new("kill", &Devices::default());
    scene.start_operator();
    scene.apply(&Scene::rollout("killed", &json!({})));
    for created in 1..=4 {
        until_true("the next create", LIMIT, || scene.creates().len() >= created).unwrap();
        scene.kill_operator();
        scene.start_operator();
    }
    let rollout = scene.until_phase("killed", "Completed");
    scene.assert_created_once(4);
    assert_eq!(rollout["status"]["run"], 1);
}

#[test]
fn killed_before_the_answer_it_finds_its_job_by_the_tag() {
    let mut scene = Scene::new("adopt", &Devices { count: 100, ..Devices::default() });
    scene.start_operator();
    scene.apply(&Scene::rollout("adopts", &json!({"suspend": true})));
    scene.until_phase("adopts", "Paused");
    // The work is done at once and the answer comes late: the process dies in between.
    scene.faults(&json!({"latencyMs": 3_000}));
    scene.kubectl(&["patch", "fwr", "adopts", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    until_true("the create", LIMIT, || !scene.creates().is_empty()).unwrap();
    scene.kill_operator();
    let claimed = scene.get("adopts");
    assert!(claimed["status"]["claim"]["token"].is_string(), "the claim was written first: {claimed}");
    scene.faults(&json!({"latencyMs": 0}));
    scene.start_operator();
    let rollout =
        scene.until("adopts", "the job is adopted", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    let job = &rollout["status"]["stages"][0]["jobs"][0];
    assert_eq!(job["id"].as_str(), Some(scene.creates()[0].0.as_str()));
    assert!(job["requestId"].is_null(), "it was found, not answered");
    // One write records the job and ends its claim; the next step's claim may stand there already.
    assert_ne!(rollout["status"]["claim"]["token"], claimed["status"]["claim"]["token"]);
    scene.until_phase("adopts", "Completed");
    scene.assert_created_once(4);
}

#[test]
fn a_create_without_answer_and_without_job_is_sent_again_as_it_was() {
    let mut scene = Scene::new("lost", &Devices { count: 100, ..Devices::default() });
    scene.start_operator();
    let suspend = |on: bool| {
        let patch = json!({"spec": {"suspend": on}}).to_string();
        scene.kubectl(&["patch", "fwr", "lost", "--type=merge", "-p", &patch]);
    };
    scene.apply(&Scene::rollout("lost", &json!({})));
    scene.until("lost", "the verification runs", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    suspend(true);
    // A run's later creates need nothing more from the cloud: the package is known, and nobody else's jobs are there.
    scene.until("lost", "the first step is held back", |r| {
        r["status"]["stages"][0]["state"] == "Passed" && r["status"]["next"]["reason"] == "Suspended"
    });
    // Every call fails before it has an effect; whether it had one, nobody can tell from the answer.
    scene.faults(&json!({"errorRate": 1.0}));
    suspend(false);
    scene.until("lost", "the claim", |r| r["status"]["claim"]["token"].is_string());
    until_true("the create", LIMIT, || {
        scene.cloud.with(|cloud, _| cloud.calls().iter().any(|c| c.operation == "CreateOTAStaticUpgradeJob"))
    })
    .unwrap();
    scene.faults(&json!({"errorRate": 0.0}));
    scene.until_phase("lost", "Completed");
    scene.assert_created_once(4);
    let sent = scene.cloud.with(|cloud, _| {
        let tag = |c: &fota::cloud::log::Entry| c.params.get("Tag.1.Value").cloned();
        let steps: Vec<_> = cloud.calls().iter().filter(|c| c.operation == "CreateOTAStaticUpgradeJob").collect();
        let first = steps.iter().filter(|c| tag(c) == tag(steps[0]));
        first.map(|c| c.params.clone()).collect::<Vec<_>>()
    });
    assert!(sent[0].contains_key("SignatureNonce") && sent[0].contains_key("Timestamp"));
    assert!(sent.len() >= 2 && sent.iter().all(|s| *s == sent[0]), "not the identical request: {sent:?}");
}
