//! What is committed: the rollout of the story, and manifests that together set every field of the CRD, as large as it
//! takes them. Nothing is sent anywhere from here.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::harness::{Result, root};

/// The rollout's name, and its file's.
pub const ROLLOUT: &str = "thermostat";
/// The account's name.
pub const ACCOUNT: &str = "demo";
/// The ConfigMap that comes after everything else.
pub const AFTER: &str = "after";

/// Longest device name.
const LONGEST: usize = 64;

/// A manifest as a file's text.
pub fn text(manifest: &Value) -> Result<String> {
    Ok(serde_yaml::to_string(manifest)?)
}

/// The fleet of one lane: its product, with devices that are offline, so that jobs have something to cancel.
pub fn product(key: &str) -> Value {
    json!({
        "productKey": key,
        "platformGroups": [{"id": "site-7", "name": "Site 7"}, {"id": "growing", "dynamic": true}],
        "groups": [
            {"prefix": "dev-", "count": 300, "version": "3.2.0", "online": 0.9, "minutes": [1, 2]},
            {"names": ["lab-001", "lab-002"], "version": "3.2.0", "minutes": [1, 2]},
            {"names": ["named-1", "named-2"], "version": "3.2.0", "minutes": [1, 2]},
            {"names": ["listed-1", "listed-2"], "version": "3.2.0", "minutes": [1, 2]},
            {"names": ["site-1", "site-2"], "version": "3.2.0", "minutes": [1, 2], "memberOf": ["site-7"]},
        ],
    })
}

/// The packages of one lane's product; `lane` is one letter.
pub fn packages(key: &str, lane: &str) -> [Value; 4] {
    let package = |version: &str, more: Value| {
        let mut package = json!({"id": package_id(lane, version), "productKey": key, "version": version});
        if let (Value::Object(package), Value::Object(more)) = (&mut package, more) {
            package.extend(more);
        }
        package
    };
    [
        package("4.0.0", json!({"needToVerify": true})),
        package("4.1.0", json!({"needToVerify": true})),
        package("4.1.1", json!({"needToVerify": false, "failureRate": 0.5})),
        package("4.2.0", json!({"needToVerify": false})),
    ]
}

/// FirmwareId of a version.
pub fn package_id(lane: &str, version: &str) -> String {
    format!("package-{lane}-{}", version.replace('.', ""))
}

/// The account, which is in Git, a wave before its rollouts; its Secret is not.
pub fn account(endpoint: &str) -> Value {
    json!({
        "apiVersion": "fota.dev/v1alpha1",
        "kind": "OTAAccount",
        "metadata": {"name": ACCOUNT, "annotations": {"argocd.argoproj.io/sync-wave": "-1"}},
        "spec": {
            "endpoint": endpoint,
            "credentials": {"secretRef": {"name": "demo-keys"}},
            "replay": "Nonce",
            "listLag": "1s",
        },
    })
}

/// A ConfigMap with device names.
pub fn names() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sites"},
        "data": {"names.csv": "listed-1\nlisted-2\n"},
    })
}

/// The rollout that runs, with a stage of each kind.
pub fn rollout(product: &str, version: &str) -> Value {
    let gate = json!({
        "decidedPercent": 80, "minDecided": 1, "maxFailurePercent": 5,
        "matureAfter": "60s", "soak": "30s", "silentAfter": "10m",
    });
    json!({
        "apiVersion": "fota.dev/v1alpha1",
        "kind": "FirmwareRollout",
        "metadata": {"name": ROLLOUT, "annotations": {"example.com/owner": "fleet"}, "labels": {"team": "fleet"}},
        "spec": {
            "accountRef": {"name": ACCOUNT},
            "productKey": product,
            "firmware": {"version": version},
            "anySourceVersion": true,
            "suspend": false,
            "supersede": "Replace",
            "onExternalChange": "Pause",
            "deletionPolicy": "Cancel",
            "delivery": {
                "push": true, "confirm": false, "protocol": "HTTPS", "maximumPerMinute": 10000,
                "deviceTimeout": "60m", "overwrite": "Never", "multiModule": false, "tags": {"site": "north"},
            },
            "verify": {"devices": ["lab-001", "lab-002"], "delivery": {"push": true}},
            "gray": [
                {"name": "canary", "percent": "10.5", "gate": gate},
                {"name": "named", "devices": ["named-1", "named-2"], "gate": gate},
                {"name": "listed", "devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "names.csv"}}, "gate": gate},
                {"name": "site", "group": {"id": "site-7"}, "gate": gate},
            ],
            "full": {"static": {}, "gate": gate, "delivery": {"maximumPerMinute": 9999}},
        },
    })
}

/// The same with a first step that leaves the time to pause it, ten seconds of ours.
pub fn unhurried_rollout(product: &str, version: &str) -> Value {
    let mut rollout = rollout(product, version);
    rollout["spec"]["gray"][0]["gate"]["matureAfter"] = json!("10m");
    rollout
}

/// The same with a first step that goes on for a day, and has tasks to cancel all that time.
pub fn slow_rollout(product: &str, version: &str) -> Value {
    let mut rollout = rollout(product, version);
    rollout["spec"]["gray"][0]["percent"] = json!(50);
    rollout["spec"]["gray"][0]["gate"]["matureAfter"] = json!("24h");
    rollout
}

/// A ConfigMap in a wave after everything else.
pub fn after(text: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": AFTER, "annotations": {"argocd.argoproj.io/sync-wave": "2"}},
        "data": {"text": text},
    })
}

/// The names of [`largest`].
pub const LARGEST: [&str; 3] = ["largest-names", "largest-group", "largest-policy"];

/// Every field of the CRD, as long and as many as it takes them; `names` device names in each step. They are suspended: no
/// fleet has such devices. One manifest cannot have all fields, for some exclude each other.
pub fn largest(product: &str, names: usize) -> [Value; 3] {
    let tags = |filling: usize| -> Value {
        let tags = (0..9).map(|n| (format!("key.{n}.{}", "k".repeat(20)), json!("v".repeat(filling))));
        Value::Object(tags.collect())
    };
    // 4,063 characters in all.
    let delivery = json!({
        "push": true, "confirm": true, "protocol": "HTTPS", "maximumPerMinute": 10000, "deviceTimeout": "24h",
        "retry": {"count": 5, "interval": "60m"}, "overwrite": "Pending", "multiModule": false, "tags": tags(425),
    });
    let gate = json!({
        "decidedPercent": "99.999", "minDecided": 1_000_000, "maxFailurePercent": "0.001",
        "matureAfter": "999999h", "soak": "999999s", "silentAfter": "1h30m",
    });
    let verify = json!({
        "devices": (0..10).map(|n| name(0, n)).collect::<Vec<_>>(),
        "delivery": {"push": true, "confirm": false, "protocol": "HTTPS", "deviceTimeout": "1440m"},
    });
    let manifest = |name: &str, gray: Vec<Value>, full: Value, more: Value| {
        let mut spec = json!({
            "accountRef": {"name": ACCOUNT},
            "productKey": product,
            "suspend": true,
            "supersede": "Queue",
            "onExternalChange": "Recreate",
            "delivery": delivery,
            "verify": verify,
            "gray": gray,
            "full": full,
        });
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more);
        }
        json!({
            "apiVersion": "fota.dev/v1alpha1",
            "kind": "FirmwareRollout",
            "metadata": {"name": name, "annotations": {"argocd.argoproj.io/sync-wave": "1"}},
            "spec": spec,
        })
    };
    let step = |n: usize, target: &str, value: Value| json!({"name": format!("{:a<37}-{n:02}", "step-"), target: value, "gate": gate, "delivery": delivery});
    let named = |step_number: usize| json!((0..names).map(|n| name(step_number + 1, n)).collect::<Vec<_>>());
    let sources: Vec<_> = (0..10).map(|n| format!("{n}{}", "9".repeat(63))).collect();
    let firmware = json!({"id": "f".repeat(128), "version": "v".repeat(64), "module": "m".repeat(64)});
    let listed = json!({"configMapKeyRef": {"name": "n".repeat(253), "key": "k".repeat(253)}});
    let group = json!({"id": "g".repeat(128)});
    [
        manifest(
            LARGEST[0],
            (0..17).map(|n| step(n, "devices", named(n))).chain([step(17, "percent", json!("99.999"))]).collect(),
            json!({
                "static": {"schedule": {"start": "2099-01-01T00:00:00Z", "finish": "2099-01-30T00:00:00Z"}},
                "gate": gate, "delivery": delivery,
            }),
            json!({"firmware": firmware, "sourceVersions": sources, "deletionPolicy": "Orphan"}),
        ),
        manifest(
            LARGEST[1],
            vec![step(0, "group", group.clone()), step(1, "devicesFrom", listed)],
            json!({"static": {"group": group}}),
            json!({"firmware": firmware, "anySourceVersion": true, "deletionPolicy": "Cancel"}),
        ),
        manifest(
            LARGEST[2],
            vec![step(0, "devices", named(0))],
            json!({"dynamic": {"mode": "Always", "until": "2099-01-01T00:00:00Z", "group": group}}),
            json!({"firmware": firmware, "anySourceVersion": true}),
        ),
    ]
}

/// The n-th device name of a step, as long as the CRD takes them.
fn name(step: usize, n: usize) -> String {
    format!("{:-<57}{step:02}-{n:04}", "device")[..LONGEST].to_owned()
}

/// Fields of the CRD's `spec` that none of these manifests sets.
pub fn unset_fields(manifests: &[&Value]) -> Result<Vec<String>> {
    let crd: Value = serde_yaml::from_str(&fs::read_to_string(root().join("crds/firmwarerollouts.yaml"))?)?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    declared(schema, "spec", &mut fields);
    if fields.len() < 50 {
        return Err(format!("only {} fields were found in the CRD", fields.len()).into());
    }
    let mut set = BTreeSet::new();
    for manifest in manifests {
        used(&manifest["spec"], "spec", &mut set);
    }
    Ok(fields.difference(&set).cloned().collect())
}

fn declared(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    fields.insert(path.to_owned());
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        declared(inner, &format!("{path}.{name}"), fields);
    }
    if schema["items"].is_object() {
        declared(&schema["items"], &format!("{path}[]"), fields);
    }
}

fn used(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    fields.insert(path.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        used(inner, &format!("{path}.{name}"), fields);
    }
    for inner in value.as_array().into_iter().flatten() {
        used(inner, &format!("{path}[]"), fields);
    }
}
