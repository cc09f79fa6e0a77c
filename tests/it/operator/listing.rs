//! A step's devices out of a ConfigMap, all the way: read under the chart's rights, uploaded over HTTP, named in the create.

use serde_json::json;

use super::scene::{Devices, Scene};

#[test]
fn a_config_maps_devices_are_uploaded_and_the_files_url_is_shown_nowhere() {
    let mut scene = Scene::new("listed", &Devices { count: 300, online: 1.0, failure_rate: 0.0 });
    scene.start_operator();
    let gate = json!({"matureAfter": "60s", "soak": "30s", "minDecided": 1});
    let from = json!({"configMapKeyRef": {"name": "sites", "key": "names.csv"}});
    scene.apply(&Scene::rollout(
        "listed",
        &json!({"gray": [{"name": "sites", "devicesFrom": from, "gate": gate}], "full": null}),
    ));
    let rollout = scene.until("listed", "its list is missed", |r| r["status"]["next"]["reason"] == "ConfigMapNotFound");
    assert_eq!(
        rollout["status"]["next"]["because"],
        format!("there is no ConfigMap sites in namespace {}, which devicesFrom names", scene.namespace)
    );
    let names: String = (0..250).map(|n| format!("dev-{n:03}\r\n")).collect();
    let map = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sites"}, "data": {"names.csv": text}});
    scene.apply(&map(&format!("{names}dev-007\r\n")));
    let rollout = scene.until("listed", "a name twice is told", |r| r["status"]["next"]["reason"] == "DevicesInvalid");
    assert_eq!(
        rollout["status"]["next"]["because"],
        "key names.csv of ConfigMap sites: device dev-007 stands there twice (again in line 251)"
    );
    scene.apply(&map(&names));
    let rollout = scene.until_phase("listed", "Completed");
    let job = &rollout["status"]["stages"][1]["jobs"][0];
    assert_eq!((&job["total"], &job["view"]["targetSelection"]), (&json!(250), &json!("SPECIFIC")));
    scene.assert_created_once(2);
    let url = scene.cloud.with(|cloud, _| {
        let create = cloud.calls().iter().find(|c| c.operation == "CreateOTAStaticUpgradeJob").unwrap();
        assert!(!create.params.contains_key("TargetDeviceName.1"));
        create.params["DnListFileUrl"].clone()
    });
    let (_, file) = url.rsplit_once('/').unwrap();
    let shown =
        [rollout.to_string(), scene.kubectl(&["get", "events.v1.events.k8s.io", "-o", "yaml"]), scene.whole_log()];
    for text in shown {
        assert!(!text.contains(file), "{file} in {text}");
    }
}
