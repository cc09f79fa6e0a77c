//! Bad packages, bad accounts.

use serde_json::json;

use super::scene::{Devices, SECRET, Scene, condition};

#[test]
fn a_bad_package_stops_in_the_step_that_ran_and_says_which_number_broke_which_limit() {
    let mut scene = Scene::new("bad", &Devices { failure_rate: 0.2, online: 1.0, count: 1_000 });
    scene.start_operator();
    let change = json!({"firmware": {"version": "5.0.0"}, "verify": null});
    scene.apply(&Scene::rollout("bad", &change));
    let rollout = scene.until("bad", "everything pending is cancelled", |r| {
        r["status"]["phase"] == "Failed" && r["status"]["progress"]["notified"] == 0
    });
    let stalled = condition(&rollout, "Stalled");
    assert_eq!((stalled["status"].as_str(), stalled["reason"].as_str()), (Some("True"), Some("GateFailed")));
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("step canary") && message.contains("maxFailurePercent 5 %"), "{message}");
    assert_eq!(condition(&rollout, "Ready")["status"], "False");
    scene.assert_created_once(1);
    scene.assert_nothing_pending();
    assert!(scene.ledger("fw-5").exposed <= 101, "a tenth of 1,003 devices, rounded up");
    let story = scene.kubectl(&["describe", "fwr", "bad"]);
    assert!(story.contains("StageFailed") && story.contains(message), "{story}");
    scene.kubectl(&["wait", "--for=condition=Stalled", "fwr/bad", "--timeout=5s"]);
}

#[test]
fn a_missing_secret_is_named_and_waited_for() {
    let mut scene = Scene::new("secret", &Devices { count: 20, ..Devices::default() });
    let secret = scene.kubectl(&["get", "secret", "keys", "-o", "yaml"]);
    scene.kubectl(&["delete", "secret", "keys"]);
    scene.start_operator();
    scene.apply(&Scene::rollout("waits", &json!({})));
    let rollout = scene.until("waits", "the secret is missed", |r| r["status"]["next"]["reason"] == "SecretNotFound");
    assert!(rollout["status"]["next"]["because"].as_str().unwrap().contains("Secret keys"));
    scene.until_account("SecretNotFound");
    crate::shared().apply_yaml(&secret).unwrap();
    scene.until("waits", "it goes on", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
}

#[test]
fn wrong_keys_show_on_the_account_and_the_rollout() {
    let mut scene = Scene::new("keys", &Devices { count: 20, ..Devices::default() });
    scene.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrongwrongwrong"},
    }));
    scene.start_operator();
    scene.apply(&Scene::rollout("refused", &json!({})));
    let rollout =
        scene.until("refused", "the refusal is told", |r| r["status"]["next"]["reason"] == "CredentialsRefused");
    let text = rollout.to_string();
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(!text.contains("wrongwrongwrong") && !scene.log().contains("wrongwrongwrong"));
    scene.until_account("CredentialsRefused");
    // Rotated, the keys are used without a restart.
    scene.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET},
    }));
    scene.until("refused", "it goes on with the right keys", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    scene.until_account("CloudAnswers");
}

#[test]
fn a_host_that_the_flags_do_not_allow_is_never_called() {
    let mut scene = Scene::new("host", &Devices { count: 20, ..Devices::default() });
    let spec = json!({"endpoint": "http://127.0.0.1:1@evil.example", "credentials": {"secretRef": {"name": "keys"}}});
    scene.apply(&json!({"apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "cloud"},
                        "spec": spec}));
    scene.start_operator();
    scene.apply(&Scene::rollout("refused", &json!({})));
    let rollout = scene.until("refused", "the endpoint is refused", |r| condition(r, "Stalled")["status"] == "True");
    assert_eq!(condition(&rollout, "Stalled")["reason"], "EndpointRefused");
    scene.until_account("EndpointRefused");
}

impl Scene {
    pub fn until_account(&self, reason: &str) {
        let told = crate::harness::wait::until_true(reason, super::scene::LIMIT, || {
            let account = self.kubectl(&["get", "otaaccount", "cloud", "-o", "json"]);
            let account: serde_json::Value = serde_json::from_str(&account).unwrap();
            crate::flux::reasons::check("OTAAccount", &account["status"]["conditions"]);
            condition(&account, "Ready")["reason"] == reason
        });
        told.unwrap_or_else(|error| panic!("{error}\n{}", self.kubectl(&["get", "otaaccount", "cloud", "-o", "yaml"])));
    }
}
