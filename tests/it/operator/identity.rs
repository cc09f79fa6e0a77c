//! The operator's own identity: lent where a flag says so, and to nobody else.

use axum::Router;
use serde_json::{Value, json};

use super::scene::{Devices, KEY, LEASE, LENT_KEY, LENT_TOKEN, SECRET, Scene};

fn few() -> Devices {
    Devices { count: 20, ..Devices::default() }
}

impl Scene {
    /// Gives the account other credentials.
    fn credentials(&self, source: &Value) {
        let patch = json!([{"op": "replace", "path": "/spec/credentials", "value": source}]).to_string();
        self.kubectl(&["patch", "otaaccount", "cloud", "--type=json", "-p", &patch]);
    }

    fn until_job(&self, rollout: &str) {
        self.until(rollout, "its first job runs", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    }
}

#[test]
fn a_tenant_does_not_borrow_the_operators_keys_and_a_named_namespace_may_use_them() {
    let mut scene = Scene::new("borrowed", &few());
    scene.credentials(&json!({"operator": {}}));
    let keys = [format!("ALIBABA_CLOUD_ACCESS_KEY_ID={KEY}"), format!("ALIBABA_CLOUD_ACCESS_KEY_SECRET={SECRET}")];
    let keys = [keys[0].as_str(), keys[1].as_str()];
    let others = ["--own-identity-namespaces=another", "--own-identity-endpoints=127.0.0.1"];
    scene.operator = Some(scene.operator_with("stingy", LEASE, &keys, &others));
    scene.apply(&Scene::rollout("borrower", &json!({})));
    scene.until_account("IdentityNotLent");
    scene.until("borrower", "it is told why", |r| r["status"]["next"]["reason"] == "IdentityNotLent");
    assert!(scene.creates().is_empty());
    scene.kill_operator();
    let ours = format!("--own-identity-namespaces={}", scene.namespace);
    scene.operator =
        Some(scene.operator_with("generous", LEASE, &keys, &[&ours, "--own-identity-endpoints=127.0.0.1"]));
    scene.until_job("borrower");
    scene.until_account("CloudAnswers");
    assert!(!scene.log().contains(SECRET));
}

#[test]
fn a_roles_keys_are_lent_against_the_operators_token() {
    let mut scene = Scene::new("role", &few());
    let (told, heard) = std::sync::mpsc::channel::<String>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let lender = format!("http://{}", listener.local_addr().unwrap());
    let lend = move |form: String| async move {
        told.send(form).unwrap();
        let keys = json!({"AccessKeyId": LENT_KEY, "AccessKeySecret": SECRET, "SecurityToken": LENT_TOKEN,
                          "Expiration": "2099-05-04T07:00:00Z"});
        json!({"RequestId": "R", "Credentials": keys}).to_string()
    };
    runtime.spawn(async move { axum::serve(listener, Router::new().fallback(lend)).await });
    scene.credentials(&json!({"workloadIdentity": {
        "roleArn": "acs:ram::1:role/ota", "oidcProviderArn": "acs:ram::1:oidc-provider/c", "stsEndpoint": lender}}));
    let token = crate::harness::supervised::temporary_dir("token").unwrap().join("token");
    std::fs::write(&token, "header.payload.signature").unwrap();
    let file = format!("ALIBABA_CLOUD_OIDC_TOKEN_FILE={}", token.display());
    let flags = ["--own-identity-namespaces=*", "--own-identity-endpoints=127.0.0.1"];
    scene.operator = Some(scene.operator_with("role", LEASE, &[&file], &flags));
    scene.apply(&Scene::rollout("by-role", &json!({})));
    scene.until_job("by-role");
    let form = heard.recv().unwrap();
    assert!(form.contains("OIDCToken=header.payload.signature&RoleArn=acs%3Aram%3A%3A1%3Arole%2Fota"), "{form}");
    assert!(form.contains(&format!("RoleSessionName=fota-{}-cloud", scene.namespace)), "{form}");
    assert!(heard.try_recv().is_err(), "asked once: the keys are good for long");
    let all = format!("{}{}{}", scene.log(), scene.get("by-role"), scene.kubectl(&["get", "otaaccount", "-o", "json"]));
    for secret in [SECRET, LENT_TOKEN, "header.payload.signature"] {
        assert!(!all.contains(secret), "{secret} is shown");
    }
}
