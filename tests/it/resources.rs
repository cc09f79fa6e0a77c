//! The two resources before a real API server: what it serves, takes and refuses.

use std::collections::BTreeSet;

use fota::api::{FirmwareRollout, OTAAccount};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::harness::root;
use crate::shared;

#[test]
fn the_crd_files_are_what_the_types_say() {
    for (name, text) in fota::cli::manifests().unwrap() {
        let path = root().join("crds").join(name);
        let file = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(file == text, "crds/{name} drifted: run `cargo run -- crds --write crds`");
    }
}

#[test]
fn the_page_of_parameters_is_what_the_tables_say() {
    let path = root().join("docs/api-mapping.md");
    if std::env::var_os("FOTA_WRITE_DOCS").is_some() {
        std::fs::write(&path, fota::cli::api_mapping()).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == fota::cli::api_mapping(),
        "docs/api-mapping.md drifted: run FOTA_WRITE_DOCS=1 cargo test page_of_parameters"
    );
}

fn rollout(changes: &Value) -> Value {
    let mut spec = json!({
        "accountRef": {"name": "cloud"}, "productKey": "a1", "firmware": {"version": "4.0.0"},
        "sourceVersions": ["3.2.0"], "full": {"static": {}},
    });
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    json!({"apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout", "metadata": {"name": "r"}, "spec": spec})
}

fn account(spec: &Value) -> Value {
    json!({"apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "a"}, "spec": spec})
}

/// An account with a role that has these changes.
fn identity(changes: Value) -> Value {
    let mut role = json!({"roleArn": "acs:ram::1:role/r", "oidcProviderArn": "acs:ram::1:oidc-provider/p"});
    for (field, value) in changes.as_object().unwrap() {
        role[field] = value.clone();
    }
    role.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    json!({"region": "cn-shanghai", "credentials": {"workloadIdentity": role}})
}

/// Applies on the server without keeping it; the complaint, if it is refused.
fn applied(namespace: &str, object: &Value) -> Result<(), String> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(namespace);
    let file = shared().home().join(format!("{}.json", crate::harness::supervised::random()));
    std::fs::write(&file, object.to_string()).unwrap();
    let output = shared().kubectl(["create", "--dry-run=server", "-f", file.to_str().unwrap()]).unwrap();
    std::fs::remove_file(&file).unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn good_manifests_are_taken() {
    shared().install_crds().unwrap();
    let namespace = shared().namespace("good-manifests").unwrap();
    let largest: Vec<_> = (1..=18).map(|n| json!({"name": format!("s{n}"), "percent": n * 5})).collect();
    let names: Vec<_> = (0..200).map(|n| format!("device-{n}")).collect();
    for changes in [
        json!({}),
        json!({"firmware": {"id": "any/id at all", "version": "4", "module": "mcu"}}),
        json!({"sourceVersions": null, "anySourceVersion": true}),
        json!({"gray": largest}),
        json!({"gray": [{"name": "a", "percent": "0.001"}, {"name": "b", "devices": names}, {"name": "c", "percent": 100}]}),
        json!({"gray": [{"name": "a", "percent": "9.5"}, {"name": "b", "percent": 10}]}),
        json!({"full": null, "verify": {"devices": ["a", "b"]}}),
        json!({"suspend": true, "supersede": "Queue", "onExternalChange": "Recreate"}),
        json!({"delivery": {"maximumPerMinute": 10, "deviceTimeout": "2h", "retry": {"count": 5, "interval": "1h"},
                            "overwrite": "Pending", "tags": {"campaign": "winter"}}}),
        json!({"delivery": {"push": false, "confirm": true, "protocol": "MQTT", "multiModule": true, "overwrite": "Never",
                            "maximumPerMinute": 10_000}}),
        json!({"verify": {"devices": ["a"], "delivery": {"push": false, "confirm": true, "protocol": "MQTT",
                                                         "deviceTimeout": "24h"}}}),
        json!({"gray": [{"name": "a", "group": {"id": "g"}}, {"name": "b", "percent": 5}]}),
        json!({"gray": [{"name": "a", "devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "names.csv"}}}]}),
        json!({"gray": [{"name": "a", "group": {"id": "g"}}, {"name": "b", "devices": ["d"]},
                        {"name": "c", "devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "c"}}}],
               "full": {"static": {"group": {"id": "g"}}}}),
        json!({"full": {"static": {"schedule": {"start": "2027-01-01T00:00:00Z"}}}}),
        json!({"full": {"static": {"schedule": {"start": "2027-01-01T00:00:00Z", "finish": "2027-01-01T01:00:00Z"}}}}),
        json!({"full": {"static": {"schedule": {"start": "2027-01-01T00:00:00Z", "finish": "2027-01-31T00:00:00Z"}}}}),
        json!({"delivery": {"multiModule": true, "retry": {"count": 1, "interval": "1h"}},
               "gray": [{"name": "a", "percent": 5, "delivery": {"multiModule": false, "overwrite": "Pending",
                                                                 "deviceTimeout": "61m"}}],
               "full": {"static": {}, "delivery": {"overwrite": "Never", "deviceTimeout": "10m",
                                                   "retry": {"count": 1, "interval": "0s"}}}}),
        json!({"full": {"static": {}, "gate": {"decidedPercent": "99.5", "minDecided": 1, "maxFailurePercent": 0,
                                               "matureAfter": "0s", "soak": "168h", "silentAfter": "90m"}}}),
    ] {
        assert_eq!(applied(&namespace, &rollout(&changes)), Ok(()), "{changes}");
    }
    let keys = json!({"secretRef": {"name": "keys"}});
    let role = json!({"roleArn": "acs:ram::1:role/r", "oidcProviderArn": "acs:ram::1:oidc-provider/p",
                      "sessionName": "heating@prod", "duration": "15m", "stsEndpoint": "sts-vpc.cn-shanghai.aliyuncs.com"});
    for spec in [
        json!({"region": "cn-shanghai", "credentials": keys}),
        json!({"region": "cn-shanghai", "credentials": {"workloadIdentity": role}, "signature": "V3"}),
        json!({"region": "cn-shanghai", "credentials": {"operator": {}}, "signature": "V1"}),
        json!({"endpoint": "iot.example.com:8443", "instanceId": "iot-1", "listLag": "1s", "credentials": keys}),
    ] {
        assert_eq!(applied(&namespace, &account(&spec)), Ok(()), "{spec}");
    }
}

/// Else whoever waits for its health by kstatus would find nothing to wait for, and go on.
#[test]
fn what_the_operator_has_not_seen_yet_says_so() {
    shared().install_crds().unwrap();
    let namespace = shared().namespace("unobserved").unwrap();
    let spec = json!({"region": "cn-shanghai", "credentials": {"secretRef": {"name": "keys"}}});
    for mut object in [rollout(&json!({})), account(&spec)] {
        object["metadata"]["namespace"] = json!(namespace);
        shared().apply_yaml(&object.to_string()).unwrap();
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let shown = shared().kubectl_ok(["get", kind, name, "-n", &namespace, "-o", "jsonpath={.status}"]).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["observedGeneration"], &shown["conditions"]), (&json!(-1), &Value::Null), "{kind}");
    }
}

#[test]
fn bad_manifests_are_refused_with_the_field_and_what_to_write() {
    shared().install_crds().unwrap();
    let namespace = shared().namespace("bad-manifests").unwrap();
    let tag = |key: &str, value: &str| json!({"delivery": {"tags": {key: value}}});
    let gray = |step: Value| json!({"gray": [step]});
    let long: Vec<_> = (0..201).map(|n| format!("d{n}")).collect();
    let heavy: serde_json::Map<_, _> = (0..4).map(|n| (format!("k{n}"), json!("x".repeat(1_020)))).collect();
    let many: serde_json::Map<_, _> = (0..10).map(|n| (format!("k{n}"), json!("x"))).collect();
    let cases = [
        (json!({"firmware": {}}), "spec.firmware", "firmware.id, or firmware.version"),
        (json!({"sourceVersions": null}), "spec", "exactly one of sourceVersions"),
        (json!({"anySourceVersion": true}), "spec", "exactly one of sourceVersions"),
        (json!({"sourceVersions": null, "anySourceVersion": false}), "spec", "exactly one of sourceVersions"),
        (json!({"sourceVersions": []}), "spec.sourceVersions", "at least 1"),
        (json!({"sourceVersions": ["3.2.0", "4.0.0"]}), "spec", "sourceVersions has firmware.version in it"),
        (json!({"sourceVersions": ["1", "1"]}), "spec.sourceVersions", "Duplicate"),
        (json!({"sourceVersions": (0..11).map(|n| n.to_string()).collect::<Vec<_>>()}), "spec.sourceVersions", "10"),
        (json!({"sourceVersions": [""]}), "spec.sourceVersions[0]", "at least 1"),
        (json!({"verify": {"devices": [""]}}), "spec.verify.devices[0]", "at least 1"),
        (gray(json!({"name": "a", "devices": ["d", "d"]})), "spec.gray[0].devices", "Duplicate"),
        (gray(json!({"name": "a", "devices": []})), "spec.gray[0].devices", "at least 1"),
        (json!({"delivery": {"deviceTimeout": "0s"}}), "spec.delivery.deviceTimeout", "1m to 24h"),
        (json!({"full": null}), "spec", "at least one of verify, gray and full"),
        (json!({"verify": {"devices": []}}), "spec.verify.devices", "at least 1"),
        (json!({"verify": {"devices": ["a", "a"]}}), "spec.verify.devices", "Duplicate"),
        (
            json!({"verify": {"devices": (0..11).map(|n| n.to_string()).collect::<Vec<_>>()}}),
            "spec.verify.devices",
            "10",
        ),
        (gray(json!({"name": "a"})), "spec.gray[0]", "exactly one of percent"),
        (gray(json!({"name": "a", "percent": 1, "devices": ["d"]})), "spec.gray[0]", "exactly one of percent"),
        (
            gray(json!({"name": "a", "devices": ["d"], "devicesFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}})),
            "spec.gray[0]",
            "devicesFrom (a ConfigMap with names)",
        ),
        (
            gray(json!({"name": "a", "devicesFrom": {"configMapKeyRef": {"name": "m"}}})),
            "spec.gray[0].devicesFrom.configMapKeyRef.key",
            "Required",
        ),
        (
            gray(json!({"name": "a", "devicesFrom": {"configMapKeyRef": {"name": "", "key": "k"}}})),
            "spec.gray[0].devicesFrom.configMapKeyRef.name",
            "at least 1",
        ),
        (gray(json!({"name": "a", "devices": long})), "spec.gray[0].devices", "200"),
        (gray(json!({"name": "a", "percent": 0})), "spec.gray[0].percent", "more than 0"),
        (gray(json!({"name": "a", "percent": "0.0"})), "spec.gray[0].percent", "more than 0"),
        (gray(json!({"name": "a", "percent": 101})), "spec.gray[0].percent", "from 0 to 100"),
        (gray(json!({"name": "a", "percent": "5%"})), "spec.gray[0].percent", "no % sign"),
        (gray(json!({"name": "a", "percent": "33.3333"})), "spec.gray[0].percent", "three decimals"),
        (gray(json!({"name": "full", "percent": 1})), "spec.gray[0].name", "first and the last stage"),
        (gray(json!({"name": "Canary", "percent": 1})), "spec.gray[0].name", "lower-case"),
        (json!({"gray": [{"name": "a", "percent": 10}, {"name": "b", "percent": 5}]}), "spec.gray", "must grow"),
        (json!({"gray": [{"name": "a", "percent": "10"}, {"name": "b", "percent": 9}]}), "spec.gray", "must grow"),
        (json!({"gray": [{"name": "a", "percent": 10}, {"name": "b", "percent": 10}]}), "spec.gray", "same percent"),
        (
            json!({"gray": [{"name": "a", "percent": 10}, {"name": "b", "percent": "10.0"}]}),
            "spec.gray",
            "same percent",
        ),
        (json!({"gray": [{"name": "a", "percent": 1}, {"name": "a", "percent": 2}]}), "spec.gray[1]", "Duplicate"),
        (gray(json!({"name": "a", "percent": 1, "gate": {"soak": "7d"}})), "spec.gray[0].gate.soak", "no days"),
        (gray(json!({"name": "a", "percent": 1, "gate": {"minDecided": 0}})), "spec.gray[0].gate.minDecided", "1"),
        (json!({"delivery": {"maximumPerMinute": 9}}), "spec.delivery.maximumPerMinute", "10"),
        (json!({"delivery": {"maximumPerMinute": 10_001}}), "spec.delivery.maximumPerMinute", "10000"),
        (json!({"delivery": {"protocol": "HTTP"}}), "spec.delivery.protocol", "HTTPS"),
        (json!({"delivery": {"multiModule": true, "overwrite": "Pending"}}), "spec.delivery", "leave one of them out"),
        (
            json!({"delivery": {"multiModule": true},
                   "gray": [{"name": "a", "percent": 5, "delivery": {"overwrite": "Pending"}}]}),
            "spec",
            "a gray step takes from spec.delivery, it has multiModule",
        ),
        (
            json!({"delivery": {"overwrite": "Pending"},
                   "gray": [{"name": "a", "percent": 5, "delivery": {"multiModule": true}}]}),
            "spec",
            "a gray step takes from spec.delivery, it has multiModule",
        ),
        (
            json!({"delivery": {"multiModule": true}, "full": {"static": {}, "delivery": {"overwrite": "Pending"}}}),
            "spec",
            "full takes from spec.delivery, it has multiModule",
        ),
        (
            json!({"delivery": {"deviceTimeout": "1h"},
                   "gray": [{"name": "a", "percent": 5, "delivery": {"retry": {"count": 1, "interval": "1h"}}}]}),
            "spec",
            "give that step a longer deviceTimeout",
        ),
        (
            json!({"delivery": {"retry": {"count": 1, "interval": "1h"}},
                   "full": {"static": {}, "delivery": {"deviceTimeout": "30m"}}}),
            "spec",
            "give full.delivery a longer deviceTimeout",
        ),
        (
            json!({"verify": {"devices": ["a"], "delivery": {"deviceTimeout": "30s"}}}),
            "spec.verify.delivery.deviceTimeout",
            "1m to 24h",
        ),
        (
            json!({"verify": {"devices": ["a"], "delivery": {"maximumPerMinute": 30}}}),
            "spec.verify.delivery.maximumPerMinute",
            "unknown field",
        ),
        (gray(json!({"name": "a", "percent": 1, "group": {"id": "g"}})), "spec.gray[0]", "exactly one of percent"),
        (gray(json!({"name": "a", "group": {"id": ""}})), "spec.gray[0].group.id", "at least 1"),
        (
            json!({"gray": [{"name": "a", "percent": 5}], "full": {"static": {"group": {"id": "g"}}}}),
            "spec",
            "reach devices outside of it",
        ),
        (
            json!({"gray": [{"name": "a", "group": {"id": "h"}}], "full": {"static": {"group": {"id": "g"}}}}),
            "spec",
            "reach devices outside of it",
        ),
        (json!({"full": {}}), "spec.full", "exactly one of static"),
        (json!({"full": {"static": {}, "dynamic": {}}}), "spec.full", "exactly one of static"),
        (
            json!({"gray": [{"name": "a", "group": {"id": "g"}}], "full": {"dynamic": {"group": {"id": "g"}}}}),
            "spec",
            "may then name devices only",
        ),
        (
            json!({"sourceVersions": null, "anySourceVersion": true, "full": {"dynamic": {}}}),
            "spec",
            "full.dynamic needs sourceVersions",
        ),
        (json!({"full": {"static": {"schedule": {}}}}), "spec.full.static.schedule.start", "Required"),
        (
            json!({"full": {"static": {"schedule": {"start": "2027-01-01T00:00:00Z", "finish": "2027-01-01T00:59:59Z"}}}}),
            "spec.full.static.schedule",
            "1 hour to 30 days",
        ),
        (
            json!({"full": {"static": {"schedule": {"start": "2027-01-01T00:00:00Z", "finish": "2027-01-31T00:00:01Z"}}}}),
            "spec.full.static.schedule",
            "1 hour to 30 days",
        ),
        (json!({"delivery": {"deviceTimeout": "25h"}}), "spec.delivery.deviceTimeout", "1m to 24h"),
        (json!({"delivery": {"deviceTimeout": "90s"}}), "spec.delivery.deviceTimeout", "whole minutes"),
        (json!({"delivery": {"retry": {"count": 3, "interval": "10m"}}}), "spec.delivery.retry.count", "1, 2 or 5"),
        (json!({"delivery": {"retry": {"count": 1, "interval": "5m"}}}), "spec.delivery.retry.interval", "one of 0s"),
        (
            json!({"delivery": {"deviceTimeout": "1h", "retry": {"count": 1, "interval": "60m"}}}),
            "spec.delivery",
            "less than deviceTimeout",
        ),
        (json!({"delivery": {"overwrite": "Always"}}), "spec.delivery.overwrite", "Never"),
        (tag("fota.id", "x"), "spec.delivery.tags", "operator's own"),
        (tag("a_b", "x"), "spec.delivery.tags", "letters, digits or dots"),
        (tag(&"k".repeat(31), "x"), "spec.delivery.tags", "1 to 30 letters"),
        (tag("a", ""), "spec.delivery.tags", "must not be empty"),
        (tag("a", &"x".repeat(1_025)), "spec.delivery.tags.a", "1024"),
        (json!({"delivery": {"tags": heavy}}), "spec.delivery.tags", "4063"),
        (json!({"delivery": {"tags": many}}), "spec.delivery.tags", "9"),
        (json!({"onExternalChange": "Ignore"}), "spec.onExternalChange", "Recreate"),
        (json!({"supersede": "Wait"}), "spec.supersede", "Queue"),
        (json!({"dynamic": {}}), "spec.dynamic", "unknown field"),
        (json!({"accountRef": {"name": "../../other/otaaccounts/prod"}}), "spec.accountRef.name", "name of an object"),
        (json!({"accountRef": {"name": "prod", "namespace": "other"}}), "spec.accountRef.namespace", "unknown field"),
    ];
    let mut unbroken = rules();
    for (changes, field, says) in cases {
        let complaint = applied(&namespace, &rollout(&changes)).expect_err(&changes.to_string());
        assert!(complaint.contains(field) && complaint.contains(says), "{changes}\n{complaint}");
        unbroken.retain(|message| !complaint.contains(message));
    }
    let keys = json!({"secretRef": {"name": "keys"}});
    for (spec, field, says) in [
        (json!({"credentials": keys}), "spec", "give region"),
        (json!({"region": "CN Shanghai", "credentials": keys}), "spec.region", "region id"),
        (json!({"region": "cn-shanghai"}), "spec.credentials", "Required"),
        (
            json!({"region": "cn-shanghai", "credentials": {"secretRef": {"name": "../../other/secrets/keys"}}}),
            "spec.credentials.secretRef.name",
            "name of an object",
        ),
        (
            json!({"region": "cn-shanghai", "credentials": {"secretRef": {"name": "keys", "namespace": "other"}}}),
            "spec.credentials.secretRef.namespace",
            "unknown field",
        ),
        (json!({"region": "cn-shanghai", "credentials": keys, "listLag": "1"}), "spec.listLag", "no days"),
        (json!({"region": "cn-shanghai", "credentials": keys, "signature": "v3"}), "spec.signature", "V3"),
        (
            json!({"region": "cn-shanghai", "credentials": keys, "quotaGroup": "Prod Shanghai"}),
            "spec.quotaGroup",
            "lower-case letters, digits and '-'",
        ),
        (json!({"region": "cn-shanghai", "credentials": {}}), "spec.credentials", "exactly one of secretRef"),
        (
            json!({"region": "cn-shanghai", "credentials": {"secretRef": {"name": "keys"}, "operator": {}}}),
            "spec.credentials",
            "exactly one of secretRef",
        ),
        (identity(json!({"roleArn": null})), "spec.credentials.workloadIdentity.roleArn", "Required"),
        (identity(json!({"sessionName": "a b"})), "spec.credentials.workloadIdentity.sessionName", "letters, digits"),
        (identity(json!({"duration": "14m"})), "spec.credentials.workloadIdentity.duration", "15m to 12h"),
        (identity(json!({"duration": "13h"})), "spec.credentials.workloadIdentity.duration", "15m to 12h"),
        (identity(json!({"duration": "1d"})), "spec.credentials.workloadIdentity.duration", "no days"),
    ] {
        let complaint = applied(&namespace, &account(&spec)).expect_err(&spec.to_string());
        assert!(complaint.contains(field) && complaint.contains(says), "{spec}\n{complaint}");
        unbroken.retain(|message| !complaint.contains(message));
    }
    assert_eq!(unbroken, BTreeSet::new(), "rules that no manifest here breaks: without them no test would fail");
}

/// The messages of all CEL rules, but for those about changes, which have a test of their own.
fn rules() -> BTreeSet<String> {
    fn collect(schema: &Value, messages: &mut BTreeSet<String>) {
        for (name, value) in schema.as_object().into_iter().flatten() {
            if name == "x-kubernetes-validations" {
                let rules = value.as_array().unwrap().iter();
                let lasting = rules.filter(|rule| !rule["rule"].as_str().unwrap().contains("oldSelf"));
                messages.extend(lasting.map(|rule| rule["message"].as_str().unwrap().to_owned()));
            }
            collect(value, messages);
        }
        for value in schema.as_array().into_iter().flatten() {
            collect(value, messages);
        }
    }
    let mut messages = BTreeSet::new();
    for crd in [FirmwareRollout::crd(), OTAAccount::crd()] {
        collect(&serde_json::to_value(crd).unwrap(), &mut messages);
    }
    assert!(messages.len() > 20, "{messages:?}");
    messages
}

#[test]
fn where_jobs_live_cannot_change() {
    shared().install_crds().unwrap();
    let namespace = shared().namespace("immutable").unwrap();
    let mut object = rollout(&json!({}));
    object["metadata"]["namespace"] = json!(namespace);
    shared().apply_yaml(&object.to_string()).unwrap();
    for (changes, says) in [
        (json!({"accountRef": {"name": "other"}}), "accountRef cannot change"),
        (json!({"productKey": "b2"}), "productKey cannot change"),
    ] {
        let mut changed = rollout(&changes);
        changed["metadata"]["namespace"] = json!(namespace);
        let complaint = shared().apply_yaml(&changed.to_string()).unwrap_err().to_string();
        assert!(complaint.contains(says), "{complaint}");
    }
}
