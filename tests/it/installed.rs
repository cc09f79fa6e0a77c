//! What the chart's hooks ask, asked by the real binary.

use std::process::{Command, Output};

use serde_json::json;

use crate::harness::control_plane::SERVICE_ACCOUNT;
use crate::operator::scene::{Devices, Scene};
use crate::shared;

fn fota(scene: &Scene, arguments: &[&str]) -> Output {
    let kubeconfig = shared().operator_kubeconfig(&scene.namespace, SERVICE_ACCOUNT).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fota"));
    command.args(arguments).env("KUBECONFIG", kubeconfig).output().unwrap()
}

#[test]
fn the_operator_may_go_when_no_rollout_needs_it() {
    let mut scene = Scene::new("unused", &Devices { count: 50, ..Devices::default() });
    let check = |scene: &Scene| fota(scene, &["unused", "--namespace", &scene.namespace]);
    assert!(check(&scene).status.success());
    scene.start_operator();
    scene.apply(&Scene::rollout("held", &json!({})));
    scene.until("held", "it is held", |r| !r["metadata"]["finalizers"].is_null());
    let refused = check(&scene);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains(&format!("{}/held", scene.namespace)), "{why}");
    assert!(why.contains("--no-hooks"), "it says how to go nevertheless: {why}");
    scene.kubectl(&["delete", "fwr", "held", "--timeout=60s"]);
    assert!(check(&scene).status.success());
}

#[test]
fn of_several_namespaces_each_one_is_asked() {
    let held = Scene::new("several-held", &Devices { count: 1, ..Devices::default() });
    let free = Scene::new("several-free", &Devices { count: 1, ..Devices::default() });
    let mut rollout = Scene::rollout("held", &json!({}));
    rollout["metadata"]["finalizers"] = json!(["fota.dev/jobs"]);
    held.apply(&rollout);
    let asked = |names: &str| fota(&held, &["unused", "--namespace", names]).status.success();
    assert!(asked(&free.namespace));
    assert!(!asked(&format!("{},{}", free.namespace, held.namespace)));
    held.kubectl(&["patch", "fwr", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
}

#[test]
fn a_probe_prints_the_answer_and_judges_the_status() {
    let scene = Scene::new("probe", &Devices { count: 1, ..Devices::default() });
    let observed = crate::operator::telemetry::Observed::new(scene.observed_operator("probed", SERVICE_ACCOUNT));
    observed.until_ready("owns 1 of 1 quota groups");
    let good = fota(&scene, &["probe", &format!("http://{}/readyz", observed.address)]);
    assert!(good.status.success());
    assert_eq!(String::from_utf8(good.stdout).unwrap(), "owns 1 of 1 quota groups\n");
    let bad = fota(&scene, &["probe", &format!("http://{}/nowhere", observed.address)]);
    assert!(!bad.status.success() && String::from_utf8(bad.stderr).unwrap().contains("404"));
}
