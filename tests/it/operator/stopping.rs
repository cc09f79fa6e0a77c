//! Deletion, and a new firmware in the middle.

use serde_json::json;

use super::scene::{Devices, LIMIT, Scene};
use crate::harness::wait::until_true;

#[test]
fn deleting_in_the_middle_cancels_what_is_pending_and_goes_away() {
    let mut scene = Scene::new("delete", &Devices { online: 0.7, ..Devices::default() });
    scene.start_operator();
    scene.apply(&Scene::rollout("gone", &json!({})));
    scene.until("gone", "the canary runs", |r| {
        r["status"]["stages"]
            .as_array()
            .is_some_and(|s| s.iter().any(|s| s["name"] == "canary" && !s["jobs"].is_null()))
    });
    let wait = format!("--timeout={}s", LIMIT.as_secs());
    scene.kubectl(&["delete", "fwr", "gone", "--wait", &wait]);
    scene.assert_nothing_pending();
    scene.assert_created_once(2);
}

#[test]
fn one_that_never_started_goes_away_at_once_even_without_an_account() {
    let mut scene = Scene::new("fresh", &Devices { count: 10, ..Devices::default() });
    scene.start_operator();
    scene.kubectl(&["delete", "otaaccount", "cloud"]);
    scene.apply(&Scene::rollout("fresh", &json!({})));
    scene.until("fresh", "the account is missed", |r| r["status"]["next"]["reason"] == "AccountNotFound");
    scene.kubectl(&["delete", "fwr", "fresh", "--wait", "--timeout=20s"]);
}

#[test]
fn new_firmware_in_the_middle_replaces_and_a_revert_stops() {
    let mut scene = Scene::new("replace", &Devices::default());
    scene.start_operator();
    scene.apply(&Scene::rollout("moves", &json!({})));
    scene.until_phase("moves", "Completed");
    // On to 5.0.0, from both versions that are out there.
    let five = json!({"firmware": {"version": "5.0.0"}, "sourceVersions": ["3.2.0", "4.0.0"]});
    scene.apply(&Scene::rollout("moves", &five));
    scene.until("moves", "the second run", |r| r["status"]["run"] == 2 && r["status"]["step"] == "canary");
    until_true("its job", LIMIT, || scene.ledger("fw-5").exposed > 0).unwrap();
    let before = scene.creates().len();
    // git revert.
    scene.apply(&Scene::rollout("moves", &json!({})));
    let rollout = scene.until("moves", "reverted", |r| r["status"]["run"] == 3 && r["status"]["phase"] == "Completed");
    assert_eq!(super::scene::condition(&rollout, "Ready")["reason"], "Reverted");
    assert_eq!(scene.creates().len(), before, "nothing is created to go back");
    scene.assert_nothing_pending();
}

#[test]
fn without_its_account_a_deleted_rollout_says_how_to_be_released() {
    let mut scene = Scene::new("orphan", &Devices { count: 50, ..Devices::default() });
    scene.start_operator();
    scene.apply(&Scene::rollout("stuck", &json!({})));
    scene.until("stuck", "a job", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    // By force: it is in use.
    scene.kubectl(&["delete", "otaaccount", "cloud", "--wait=false"]);
    scene.kubectl(&["patch", "otaaccount", "cloud", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    scene.kubectl(&["delete", "fwr", "stuck", "--wait=false"]);
    let rollout = scene.until("stuck", "it says what to do", |r| {
        r["status"]["next"]["because"].as_str().is_some_and(|b| b.contains("fota.dev/orphan"))
    });
    assert_eq!(super::scene::condition(&rollout, "Stalled")["reason"], "AccountNotFound");
    scene.kubectl(&["annotate", "fwr", "stuck", "fota.dev/orphan=yes"]);
    scene.kubectl(&["wait", "--for=delete", "fwr/stuck", "--timeout=20s"]);
}
