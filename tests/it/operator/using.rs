//! An account stays as long as rollouts have jobs in it.

use serde_json::{Value, json};

use super::scene::{Devices, LIMIT, Scene, condition};
use crate::harness::wait::until;

const IN_USE: &str = "fota.dev/in-use";

impl Scene {
    fn account(&self) -> Value {
        let found = self.kubectl(&["get", "otaaccount", "cloud", "--ignore-not-found", "-o", "json"]);
        if found.is_empty() { Value::Null } else { serde_json::from_str(&found).unwrap() }
    }

    fn until_account_is(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = until(what, LIMIT, || {
            let account = self.account();
            Ok(wanted(&account).then_some(account))
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.account(), self.log()))
    }
}

fn held(account: &Value) -> bool {
    account["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|f| f == IN_USE))
}

#[test]
fn an_account_in_use_waits_for_its_rollouts_and_says_for_which() {
    let mut scene = Scene::new("in-use", &Devices { online: 0.7, ..Devices::default() });
    scene.start_operator();
    scene.until_account_is("judged", |a| condition(a, "Ready")["status"] == "True");
    assert!(!held(&scene.account()), "nobody uses it");
    scene.apply(&Scene::rollout("user", &json!({})));
    scene.until("user", "a job", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    assert!(held(&scene.account()), "before the first job");

    scene.kubectl(&["delete", "otaaccount", "cloud", "--wait=false"]);
    let account = scene.until_account_is("told", |a| condition(a, "Deleting")["status"] == "True");
    let told = condition(&account, "Deleting");
    assert_eq!(told["reason"], "InUse");
    assert!(told["message"].as_str().unwrap().contains("user"), "{told}");
    // Another process takes it up as it is.
    scene.kill_operator();
    scene.start_operator();
    // Nothing new begins in it, and what runs goes on.
    scene.apply(&Scene::rollout("late", &json!({"productKey": "b1"})));
    let late = scene.until("late", "refused", |r| r["status"]["next"]["reason"] == "AccountDeleting");
    assert_eq!(condition(&late, "Stalled")["status"], "True");
    scene.until("user", "the canary runs", |r| r["status"]["step"] == "canary");

    let wait = format!("--timeout={}s", LIMIT.as_secs());
    scene.kubectl(&["delete", "fwr", "late", "--wait", &wait]);
    assert!(held(&scene.account()));
    scene.kubectl(&["delete", "fwr", "user", "--wait", &wait]);
    scene.assert_nothing_pending();
    scene.kubectl(&["wait", "--for=delete", "otaaccount/cloud", &wait]);
}

#[test]
fn an_account_is_let_go_when_its_last_rollout_is_gone() {
    let mut scene = Scene::new("let-go", &Devices { count: 50, ..Devices::default() });
    scene.start_operator();
    scene.apply(&Scene::rollout("held", &json!({"suspend": true})));
    scene.until_account_is("held", held);
    let wait = format!("--timeout={}s", LIMIT.as_secs());
    scene.kubectl(&["delete", "fwr", "held", "--wait", &wait]);
    scene.until_account_is("let go", |a| !held(a) && condition(a, "Deleting").is_null());
    scene.kubectl(&["delete", "otaaccount", "cloud", "--wait", &wait]);
}
