//! The operator's rights are exact: the API server's own audit log of a whole life of it says which of them it used, and
//! that it asked for no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use fota::api::FirmwareRollout;

use crate::harness::control_plane::{ControlPlane, Options, SERVICE_ACCOUNT};
use crate::harness::supervised::temporary_dir;
use crate::harness::wait::until_true;
use crate::operator::scene::{Devices, LIMIT, Scene};
use crate::rights;

/// Who asked for what, and how it ended; of everybody. A request is told once it is answered, and a watch, which is
/// answered when it ends, also when it begins.
const POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// The folder of the policy and the log, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn log(&self) -> PathBuf {
        self.0.join("audit.log")
    }

    /// Every whole line of the log that tells of this user.
    fn of(&self, user: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.log()).unwrap();
        // The last line may still be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["user"]["username"] == user).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A control plane that writes down who asks it for what.
fn audited(folder: &Folder) -> ControlPlane {
    let policy = folder.0.join("policy.yaml");
    fs::write(&policy, POLICY).unwrap();
    let flag = |name: &str, path: &Path| format!("--audit-{name}={}", path.display());
    let api_server_flags = vec![flag("policy-file", &policy), flag("log-path", &folder.log())];
    ControlPlane::start(&Options { api_server_flags }).unwrap()
}

/// The right that a request needed, as [`rights::granted`] writes them; none: it asked for no resource.
fn right(event: &Value) -> Option<String> {
    let text = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
    let (verb, resource, group) = (event["verb"].as_str()?, text("resource"), text("apiGroup"));
    if resource.is_empty() || rights::EVERYBODYS.contains(&group) {
        return None;
    }
    let part = if text("subresource").is_empty() { String::new() } else { format!("/{}", text("subresource")) };
    Some(format!("{verb} {resource}{part}.{group}"))
}

/// Edits a rollout until the operator decided upon a version that was no longer the newest: its write is then refused,
/// and it reads the object past its watch.
fn until_it_reads_again(scene: &Scene, name: &str, used: impl Fn() -> BTreeSet<String>) {
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(scene.plane().admin_client()).unwrap();
    let rollouts: Api<FirmwareRollout> = Api::namespaced(client, &scene.namespace);
    let mut edits = 0;
    let read = until_true("a rollout is read again", LIMIT, || {
        for _ in 0..20 {
            edits += 1;
            let patch = json!({"metadata": {"annotations": {"example.com/edits": edits.to_string()}}});
            runtime.block_on(rollouts.patch(name, &PatchParams::default(), &Patch::Merge(&patch))).unwrap();
        }
        used().contains("get firmwarerollouts.fota.dev")
    });
    read.unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
}

#[test]
fn a_whole_life_uses_every_right_and_asks_for_no_other() {
    let folder = Folder(temporary_dir("audit").unwrap());
    let devices = Devices { count: 60, online: 1.0, failure_rate: 0.0 };
    let mut scene = Scene::on(Some(audited(&folder)), "audited", &devices);
    let user = format!("system:serviceaccount:{}:{SERVICE_ACCOUNT}", scene.namespace);
    let used = || folder.of(&user).iter().filter_map(right).collect::<BTreeSet<_>>();
    scene.start_operator_everywhere();

    // An account that no watch knows is asked for by name.
    let lost = json!({"accountRef": {"name": "nowhere"}, "productKey": "b1", "verify": null});
    scene.apply(&Scene::rollout("lost", &lost));
    // A rollout with every source of a right: keys, a list of devices, events, both finalizers.
    scene.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sites"},
                        "data": {"names": "dev-01\ndev-02\n"}}));
    let gate = json!({"matureAfter": "60s", "soak": "30s", "minDecided": 1});
    let from = json!({"configMapKeyRef": {"name": "sites", "key": "names"}});
    let steps = json!({"gray": [{"name": "sites", "devicesFrom": from, "gate": gate}]});
    scene.apply(&Scene::rollout("whole", &steps));
    scene.until("whole", "a job", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    // What happens a second time raises the count of the event that tells of the first.
    for turn in ["1", "2"] {
        scene.kubectl(&["annotate", "fwr", "whole", "--overwrite", &format!("fota.dev/pause={turn}")]);
        scene.until_phase("whole", "Paused");
        scene.kubectl(&["annotate", "fwr", "whole", "--overwrite", &format!("fota.dev/resume={turn}")]);
        scene.until("whole", "it goes on", |r| r["status"]["phase"] != "Paused");
    }
    until_it_reads_again(&scene, "whole", used);
    scene.until_phase("whole", "Completed");
    scene.until("lost", "its account is missed", |r| r["status"]["next"]["reason"] == "AccountNotFound");
    scene.kubectl(&["delete", "fwr", "whole", "lost", "--wait", "--timeout=60s"]);
    scene.kubectl(&["delete", "otaaccount", "cloud", "--wait", "--timeout=60s"]);
    // Told to end, it releases its Leases.
    let operator = scene.operator.as_ref().unwrap().process();
    operator.signal("TERM").unwrap();
    until_true("it ended", LIMIT, || !operator.alive()).unwrap();

    let events = folder.of(&user);
    let refused: BTreeSet<_> = events.iter().filter(|e| e["responseStatus"]["code"] == 403).map(right).collect();
    assert!(refused.is_empty(), "asked for and not granted: {refused:?}");
    let elsewhere: BTreeMap<_, _> = events
        .iter()
        .filter(|e| e["objectRef"].is_null())
        .map(|e| (e["requestURI"].as_str().unwrap_or_default(), &e["verb"]))
        .collect();
    assert!(elsewhere.is_empty(), "what is no resource is open to everybody, and not needed: {elsewhere:?}");
    let client = async {
        let kubeconfig = scene.plane().operator_kubeconfig(&scene.namespace, SERVICE_ACCOUNT).unwrap();
        let client = scene.plane().client(&kubeconfig).await.unwrap();
        rights::granted(client, &scene.namespace).await
    };
    let granted = Runtime::new().unwrap().block_on(client);
    let (unused, ungranted) = (granted.difference(&used()).cloned().collect::<Vec<_>>(), used());
    let ungranted: Vec<_> = ungranted.difference(&granted).collect();
    assert!(unused.is_empty() && ungranted.is_empty(), "granted and never used: {unused:?}; used: {ungranted:?}");
}
