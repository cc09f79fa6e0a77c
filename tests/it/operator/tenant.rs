//! A tenant who may write OTAAccounts and nothing else: keys that are not theirs, and hosts of their choice.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::scene::{Devices, KEY, LEASE, SECRET, Scene, condition};
use crate::harness::supervised::temporary_dir;

fn few() -> Devices {
    Devices { count: 20, ..Devices::default() }
}

/// A host of the tenant's own: whoever connects is heard.
struct Trap(TcpListener);

impl Trap {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn host(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// The kernel takes a connection before anybody accepts it: one that was ever made is found here.
    #[track_caller]
    fn assert_nobody_came(&self, why: &str) {
        let came = self.0.accept();
        assert!(came.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{why}: {came:?} called");
    }
}

impl Scene {
    /// Gives the account another spec, and waits until the operator has judged that.
    fn until_judged(&self, spec: &Value, reason: &str) {
        let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]).to_string();
        self.kubectl(&["patch", "otaaccount", "cloud", "--type=json", "-p", &patch]);
        let judged = crate::harness::wait::until_true(reason, super::scene::LIMIT, || {
            let account: Value =
                serde_json::from_str(&self.kubectl(&["get", "otaaccount", "cloud", "-o", "json"])).unwrap();
            account["status"]["observedGeneration"] == account["metadata"]["generation"]
                && condition(&account, "Ready")["reason"] == reason
        });
        let account = || self.kubectl(&["get", "otaaccount", "cloud", "-o", "yaml"]);
        judged.unwrap_or_else(|error| panic!("{spec}: {error}\n{}\n{}", account(), self.log()));
    }
}

#[test]
fn an_account_cannot_use_a_secret_of_another_namespace() {
    // The owner's namespace has the Secret that the tenant's account names, and the operator may read both.
    let mut scene = Scene::new("tenant", &few());
    let owner = scene.plane().namespace("owner").unwrap();
    let secret = scene.kubectl(&["get", "secret", "keys", "-o", "json"]);
    let mut secret: Value = serde_json::from_str(&secret).unwrap();
    secret["metadata"] = json!({"name": "keys", "namespace": owner});
    scene.plane().apply_yaml(&secret.to_string()).unwrap();
    scene.kubectl(&["delete", "secret", "keys"]);
    scene.operator = Some(scene.operator_with("both", LEASE, &[], &["--namespace", &owner]));
    scene.apply(&Scene::rollout("borrower", &json!({})));
    scene.until_account("SecretNotFound");
    scene.until("borrower", "it waits", |r| r["status"]["next"]["reason"] == "SecretNotFound");
    let calls = || scene.cloud.with(|cloud, _| cloud.calls().len());
    assert_eq!(calls(), 0, "the cloud was called with somebody else's keys");
    // Spelled out, it is no name: the API server refuses it before anybody reads it.
    for name in [format!("{owner}/keys"), format!("../{owner}/keys"), format!("../../{owner}/secrets/keys")] {
        let patch = json!({"spec": {"credentials": {"secretRef": {"name": name}}}}).to_string();
        let arguments = ["-n", &scene.namespace, "patch", "otaaccount", "cloud", "--type=merge", "-p", &patch];
        let refused = scene.plane().kubectl_ok(arguments).unwrap_err().to_string();
        assert!(refused.contains("spec.credentials.secretRef.name"), "{refused}");
    }
    for field in ["namespace", "kind"] {
        let patch = json!({"spec": {"credentials": {"secretRef": {"name": "keys", field: owner}}}}).to_string();
        let arguments = ["-n", &scene.namespace, "patch", "otaaccount", "cloud", "--type=merge", "-p", &patch];
        let _ = scene.plane().kubectl(arguments).unwrap();
        let account: Value =
            serde_json::from_str(&scene.kubectl(&["get", "otaaccount", "cloud", "-o", "json"])).unwrap();
        assert_eq!(account["spec"]["credentials"], json!({"secretRef": {"name": "keys"}}), "there is no such field");
    }
    assert_eq!(calls(), 0);
}

#[test]
fn an_account_cannot_send_its_keys_to_a_host_of_its_choice() {
    let mut scene = Scene::new("choice", &few());
    let trap = Trap::new();
    scene.operator = Some(scene.strict_operator("strict", &[], &[]));
    let host = trap.host();
    let port = host.rsplit(':').next().unwrap();
    let spellings = [
        host.clone(),
        format!("https://{host}"),
        format!("http://{host}"),
        format!("iot.cn-shanghai.aliyuncs.com@{host}"),
        format!("https://iot.cn-shanghai.aliyuncs.com:x@{host}/"),
        format!("https://{host}/.aliyuncs.com"),
        format!("https://{host}#.aliyuncs.com"),
        format!("https://{host}?.aliyuncs.com"),
        format!("{host}\\.aliyuncs.com"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("aliyuncs.com.localhost:{port}"),
        format!("http://iot.cn-shanghai.aliyuncs.com:{port}"),
    ];
    let keys = json!({"secretRef": {"name": "keys"}});
    for endpoint in spellings {
        scene.until_judged(&json!({"endpoint": endpoint, "credentials": keys}), "EndpointRefused");
        trap.assert_nobody_came(&endpoint);
    }
    scene.apply(&Scene::rollout("sender", &json!({})));
    scene.until("sender", "it is refused, too", |r| condition(r, "Stalled")["reason"] == "EndpointRefused");
    trap.assert_nobody_came("the rollout");
    assert!(!scene.whole_log().contains(SECRET));
}

#[test]
fn an_allowed_host_cannot_hand_keys_on_by_a_redirect() {
    let mut scene = Scene::new("redirect", &few());
    let trap = Trap::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let allowed = format!("http://{}", listener.local_addr().unwrap());
    let (heard, asked) = std::sync::mpsc::channel::<()>();
    let elsewhere = format!("http://{}/", trap.host());
    let redirect = move || async move {
        let _ = heard.send(());
        axum::response::Redirect::temporary(&elsewhere)
    };
    runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(redirect)).await });
    scene.start_operator();
    scene.until_judged(
        &json!({"endpoint": allowed, "credentials": {"secretRef": {"name": "keys"}}}),
        "CloudUnreachable",
    );
    asked.try_recv().expect("the host was asked");
    trap.assert_nobody_came("the host that the redirect named");
}

#[test]
fn the_operators_own_identity_goes_to_no_host_of_a_tenants_choice() {
    let mut scene = Scene::new("own", &few());
    let (cloud, lender) = (Trap::new(), Trap::new());
    let token = temporary_dir("token").unwrap().join("token");
    std::fs::write(&token, "header.payload.signature").unwrap();
    let variables = [
        format!("ALIBABA_CLOUD_ACCESS_KEY_ID={KEY}"),
        format!("ALIBABA_CLOUD_ACCESS_KEY_SECRET={SECRET}"),
        format!("ALIBABA_CLOUD_OIDC_TOKEN_FILE={}", token.display()),
    ];
    let variables: Vec<_> = variables.iter().map(String::as_str).collect();
    // Also where any host may be called, and every namespace may use the identity: its hosts are listed one by one.
    scene.operator = Some(scene.operator_with("generous", LEASE, &variables, &["--own-identity-namespaces=*"]));
    for (endpoint, source) in [
        (format!("http://{}", cloud.host()), json!({"operator": {}})),
        (cloud.host(), json!({"operator": {}})),
        (
            "iot.cn-shanghai.aliyuncs.com".to_owned(),
            json!({"workloadIdentity": {"roleArn": "acs:ram::1:role/r", "oidcProviderArn": "acs:ram::1:oidc-provider/p",
                                        "stsEndpoint": lender.host()}}),
        ),
        (
            format!("http://{}", cloud.host()),
            json!({"workloadIdentity": {"roleArn": "acs:ram::1:role/r", "oidcProviderArn": "acs:ram::1:oidc-provider/p"}}),
        ),
    ] {
        scene.until_judged(&json!({"endpoint": endpoint, "credentials": source}), "EndpointRefused");
        cloud.assert_nobody_came("the account's endpoint");
        lender.assert_nobody_came("the one that lends keys");
    }
    std::fs::remove_dir_all(token.parent().unwrap()).unwrap();
}

#[test]
fn a_rollout_cannot_use_an_account_or_a_list_of_another_namespace() {
    let mut scene = Scene::new("visitor", &few());
    let owner = scene.plane().namespace("host").unwrap();
    for kind in ["otaaccount/cloud", "secret/keys"] {
        let mut object: Value = serde_json::from_str(&scene.kubectl(&["get", kind, "-o", "json"])).unwrap();
        let name = object["metadata"]["name"].clone();
        object["metadata"] = json!({"name": name, "namespace": owner});
        scene.plane().apply_yaml(&object.to_string()).unwrap();
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sites", "namespace": owner},
                     "data": {"names": "dev-01\n"}});
    scene.plane().apply_yaml(&map.to_string()).unwrap();
    scene.operator = Some(scene.operator_with("both", LEASE, &[], &["--namespace", &owner]));
    let step = json!({"name": "sites", "devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "names"}}});
    scene.apply(&Scene::rollout(
        "lists",
        &json!({"gray": [step], "full": null, "verify": null, "firmware": {"version": "5.0.0"}}),
    ));
    scene.until("lists", "its list is missed", |r| r["status"]["next"]["reason"] == "ConfigMapNotFound");
    scene.kubectl(&["delete", "fwr", "lists", "--wait", "--timeout=60s"]);
    scene.kubectl(&["delete", "otaaccount", "cloud", "--wait", "--timeout=60s"]);
    scene.apply(&Scene::rollout("visitor", &json!({})));
    scene.until("visitor", "its account is missed", |r| r["status"]["next"]["reason"] == "AccountNotFound");
    assert!(scene.creates().is_empty());
}
