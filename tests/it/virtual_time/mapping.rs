//! The tables of docs/api-mapping.md, row by row: a manifest that carries a field leads to a create that the cloud received
//! with exactly that value, one without it to a create without it; and what QueryOTAJob answers is seen in the status.

use std::collections::{BTreeMap, BTreeSet};

use fota::api::FirmwareRollout;
use fota::api::job_view::ANSWER;
use fota::cloud::Fleet;
use fota::ota::Operation;
use fota::rollout::call::ROWS;
use serde_json::{Map, Value, json};

use super::drive::Run;
use super::world::Setting;
use super::{GOOD, OTHER, PRODUCT, switches};

const VERIFY: Operation = Operation::CreateOTAVerifyJob;
const STATIC: Operation = Operation::CreateOTAStaticUpgradeJob;
const DYNAMIC: Operation = Operation::CreateOTADynamicUpgradeJob;

/// An account whose instance has an id, or has none.
fn fleet(instance: &str) -> Fleet {
    let text = format!(
        r#"
accounts:
- {{accessKeyId: operator, accessKeySecret: secret, instanceId: "{instance}"}}
products:
- productKey: {PRODUCT}
  platformGroups: [{{id: houses}}, {{id: pilots, dynamic: true}}]
  groups:
  - {{prefix: dev-, count: 20, version: "1.0", memberOf: [houses, pilots]}}
  - {{names: [lab-1, lab-2], version: "1.0"}}
firmware:
- {{id: {GOOD}, productKey: {PRODUCT}, version: "2.0", needToVerify: true}}
- {{id: {OTHER}, productKey: {PRODUCT}, version: "3.0", needToVerify: false}}
"#
    );
    Fleet::parse(&text).unwrap()
}

/// The least manifest that leads to an operation, with changes laid over it.
fn rollout(operation: Operation, changes: &Value) -> FirmwareRollout {
    let mut spec = json!({
        "accountRef": {"name": "account"}, "productKey": PRODUCT, "firmware": {"id": OTHER}, "sourceVersions": ["1.0"],
    });
    match operation {
        VERIFY => (spec["firmware"], spec["verify"]) = (json!({"id": GOOD}), json!({"devices": ["lab-1"]})),
        DYNAMIC => spec["full"] = json!({"dynamic": {}}),
        _ => spec["full"] = json!({"static": {}}),
    }
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let object = json!({
        "apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout",
        "metadata": {"name": "thermostat", "namespace": "heating", "uid": "uid-1", "generation": 1, "resourceVersion": "1"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// A run of a manifest until the cloud took the create of its operation.
fn run(operation: Operation, changes: &Value, instance: &str) -> Run {
    let setting = Setting {
        fleet: fleet(instance),
        seed: 1,
        switches: switches(),
        rollout: rollout(operation, changes),
        speed: 1,
    };
    let mut run = Run::new(setting);
    let account = run.state().account.clone().unwrap();
    let instance_id = Some(instance.to_owned()).filter(|id| !id.is_empty());
    run.state().account = Ok(fota::rollout::observed::Account { instance_id, ..account });
    run.state().names = Ok(["dev-03".to_owned(), "dev-07".to_owned()].into());
    run.until(&format!("a create of {changes}"), 20, |state| {
        state.cloud.calls().iter().any(|c| c.operation == operation.name() && c.code.is_none())
    });
    run
}

/// What the cloud received.
fn received(operation: Operation, changes: &Value, instance: &str) -> BTreeMap<String, String> {
    let run = run(operation, changes, instance);
    let state = run.state();
    state.cloud.calls().iter().find(|c| c.operation == operation.name()).unwrap().params.clone()
}

/// A row of the table, carried by a manifest: what is received, exactly.
struct Carried {
    parameter: &'static str,
    operation: Operation,
    changes: Value,
    received: Vec<(&'static str, &'static str)>,
}

fn carried() -> Vec<Carried> {
    let mut all = Vec::new();
    let mut row = |parameter, operation, changes: Value, received: &[(&'static str, &'static str)]| {
        all.push(Carried { parameter, operation, changes, received: received.to_vec() });
    };
    let delivery = |settings: Value| json!({"delivery": settings});
    row("FirmwareId", VERIFY, json!({}), &[("FirmwareId", GOOD)]);
    row("FirmwareId", STATIC, json!({"firmware": {"version": "3.0"}}), &[("FirmwareId", OTHER)]);
    row("FirmwareId", DYNAMIC, json!({"firmware": {"id": OTHER, "version": "3.0"}}), &[("FirmwareId", OTHER)]);
    for operation in [VERIFY, STATIC, DYNAMIC] {
        row("ProductKey", operation, json!({}), &[("ProductKey", PRODUCT)]);
        row("IotInstanceId", operation, json!({}), &[("IotInstanceId", "iot-1")]);
        row("TimeoutInMinutes", operation, delivery(json!({"deviceTimeout": "2h"})), &[("TimeoutInMinutes", "120")]);
        row("NeedPush", operation, delivery(json!({"push": false})), &[("NeedPush", "false")]);
        row("NeedPush", operation, delivery(json!({"push": true})), &[("NeedPush", "true")]);
        row("DownloadProtocol", operation, delivery(json!({"protocol": "MQTT"})), &[("DownloadProtocol", "MQTT")]);
        row("DownloadProtocol", operation, delivery(json!({"protocol": "HTTPS"})), &[("DownloadProtocol", "HTTPS")]);
        row(
            "Tag.N.Key, Tag.N.Value",
            operation,
            delivery(json!({"tags": {"campaign": "winter", "site": "north"}})),
            &[
                ("Tag.1.Key", "fota.id"),
                ("Tag.2.Key", "campaign"),
                ("Tag.2.Value", "winter"),
                ("Tag.3.Key", "site"),
                ("Tag.3.Value", "north"),
            ],
        );
    }
    row(
        "TimeoutInMinutes",
        VERIFY,
        json!({"verify": {"devices": ["lab-1"], "delivery": {"deviceTimeout": "24h"}}}),
        &[("TimeoutInMinutes", "1440")],
    );
    row(
        "NeedConfirm",
        VERIFY,
        json!({"verify": {"devices": ["lab-1"], "delivery": {"confirm": true}}}),
        &[("NeedConfirm", "true")],
    );
    for operation in [STATIC, DYNAMIC] {
        row("NeedConfirm", operation, delivery(json!({"confirm": true})), &[("NeedConfirm", "true")]);
        row("MaximumPerMinute", operation, delivery(json!({"maximumPerMinute": 10})), &[("MaximumPerMinute", "10")]);
        row("OverwriteMode", operation, delivery(json!({"overwrite": "Never"})), &[("OverwriteMode", "1")]);
        row("OverwriteMode", operation, delivery(json!({"overwrite": "Pending"})), &[("OverwriteMode", "2")]);
        row("MultiModuleMode", operation, delivery(json!({"multiModule": true})), &[("MultiModuleMode", "true")]);
        for (interval, minutes) in [("0s", "0"), ("10m", "10"), ("30m", "30"), ("1h", "60"), ("24h", "1440")] {
            let retry = delivery(json!({"retry": {"count": 2, "interval": interval}}));
            row("RetryInterval", operation, retry, &[("RetryInterval", minutes)]);
        }
        for (count, text) in [(1, "1"), (2, "2"), (5, "5")] {
            let retry = delivery(json!({"retry": {"count": count, "interval": "10m"}}));
            row("RetryCount", operation, retry, &[("RetryCount", text)]);
        }
        row(
            "SrcVersion.N",
            operation,
            json!({"sourceVersions": ["1.0", "0.9"]}),
            &[("SrcVersion.1", "1.0"), ("SrcVersion.2", "0.9")],
        );
    }
    row("TargetSelection", STATIC, json!({}), &[("TargetSelection", "ALL")]);
    let gray = |step: Value| {
        let mut step = step;
        step["name"] = json!("canary");
        json!({"gray": [step], "full": null})
    };
    row(
        "GrayPercent",
        STATIC,
        gray(json!({"percent": "12.5"})),
        &[("TargetSelection", "GRAY"), ("GrayPercent", "12.5")],
    );
    row(
        "TargetDeviceName.N",
        STATIC,
        gray(json!({"devices": ["dev-01", "dev-02"]})),
        &[("TargetSelection", "SPECIFIC"), ("TargetDeviceName.1", "dev-01"), ("TargetDeviceName.2", "dev-02")],
    );
    row(
        "TargetDeviceName.N",
        VERIFY,
        json!({"verify": {"devices": ["lab-2", "lab-1"]}}),
        &[("TargetDeviceName.1", "lab-2"), ("TargetDeviceName.2", "lab-1")],
    );
    row(
        "DnListFileUrl",
        STATIC,
        gray(json!({"devicesFrom": {"configMapKeyRef": {"name": "sites", "key": "k"}}})),
        &[("TargetSelection", "SPECIFIC")],
    );
    let houses: &[(&str, &str)] =
        &[("TargetSelection", "GROUP"), ("GroupId", "houses"), ("GroupType", "LINK_PLATFORM")];
    for parameter in ["GroupId", "GroupType"] {
        row(parameter, STATIC, gray(json!({"group": {"id": "houses"}})), houses);
        row(parameter, STATIC, json!({"full": {"static": {"group": {"id": "houses"}}}}), houses);
        row(
            parameter,
            DYNAMIC,
            json!({"full": {"dynamic": {"group": {"id": "pilots"}}}}),
            &[("GroupId", "pilots"), ("GroupType", "LINK_PLATFORM_DYNAMIC")],
        );
    }
    for (mode, text) in [("Always", "1"), ("OnReport", "2")] {
        row("DynamicMode", DYNAMIC, json!({"full": {"dynamic": {"mode": mode}}}), &[("DynamicMode", text)]);
    }
    let schedule = json!({"start": "2026-03-01T12:00:00Z", "finish": "2026-03-02T12:00:00Z"});
    for (parameter, text) in [("ScheduleTime", "1772366400000"), ("ScheduleFinishTime", "1772452800000")] {
        row(parameter, STATIC, json!({"full": {"static": {"schedule": schedule}}}), &[(parameter, text)]);
    }
    all
}

/// Whether a received parameter belongs to a row.
fn of_row(parameter: &str, row: &str) -> bool {
    row.split(", ").any(|name| match name.split_once(".N") {
        Some((name, rest)) => {
            let numbered = parameter.strip_prefix(name).and_then(|p| p.strip_prefix('.'));
            numbered.is_some_and(|p| p.trim_start_matches(|c: char| c.is_ascii_digit()) == rest)
        }
        None => parameter == name,
    })
}

#[test]
fn a_manifest_that_carries_a_row_leads_to_exactly_that_value() {
    let mut rows: BTreeSet<_> =
        ROWS.iter().flat_map(|row| row.operations.iter().map(|o| (row.parameter, o.name()))).collect();
    for Carried { parameter, operation, changes, received: expected } in carried() {
        rows.remove(&(parameter, operation.name()));
        let params = received(operation, &changes, "iot-1");
        for (name, value) in &expected {
            assert_eq!(params.get(*name).map(String::as_str), Some(*value), "{name} of {changes}: {params:?}");
        }
        let got = params.keys().filter(|name| of_row(name, parameter)).count();
        // The token of our own tag is nobody's choice; the list file's URL is the cloud's.
        let more = usize::from(parameter.starts_with("Tag.") || parameter == "DnListFileUrl");
        let named = expected.iter().filter(|(name, _)| of_row(name, parameter)).count();
        assert_eq!(got, named + more, "{parameter} of {changes}: {params:?}");
    }
    assert_eq!(rows, BTreeSet::new(), "rows that no manifest here carries");
}

#[test]
fn a_manifest_without_a_row_leads_to_a_create_without_it_or_with_the_documented_default() {
    for row in ROWS {
        for operation in row.operations {
            let any = json!({"sourceVersions": null, "anySourceVersion": true});
            let by_group = json!({"sourceVersions": null, "anySourceVersion": true,
                                  "full": {"dynamic": {"group": {"id": "pilots"}}}});
            let (changes, instance) = match (row.parameter, *operation) {
                ("SrcVersion.N", STATIC) => (any, "iot-1"),
                ("SrcVersion.N", DYNAMIC) => (by_group, "iot-1"),
                ("IotInstanceId", _) => (json!({}), ""),
                _ => (json!({}), "iot-1"),
            };
            let params = received(*operation, &changes, instance);
            let got: Vec<_> = params.iter().filter(|(name, _)| of_row(name, row.parameter)).collect();
            let expected: Option<&str> = match row.parameter {
                "FirmwareId" | "ProductKey" | "TargetSelection" => continue, // always sent
                "TargetDeviceName.N" if *operation == VERIFY => continue,
                "Tag.N.Key, Tag.N.Value" => {
                    assert_eq!((got.len(), got[0].1.as_str()), (2, "fota.id"), "ours alone: {params:?}");
                    continue;
                }
                "MaximumPerMinute" => Some("1000"),
                _ => None,
            };
            let values: Vec<_> = got.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(
                values,
                expected.into_iter().collect::<Vec<_>>(),
                "{} of {operation}: {params:?}",
                row.parameter
            );
        }
    }
}

#[test]
fn what_a_job_is_said_to_be_is_seen_in_the_status_field_by_field() {
    // Named so that the job is there and does not end while it is looked at.
    let mut run = run(STATIC, &json!({"delivery": {"confirm": true}}), "iot-1");
    run.turns(4);
    let status = run.status();
    let job = &status.stages[0].jobs[0];
    let (id, first) = (job.id.clone(), serde_json::to_value(job.view.as_ref().unwrap()).unwrap());
    for (field, place) in ANSWER {
        let Some(name) = place.strip_prefix("….view.") else {
            // They say which job it is: what is shown of them is our own.
            assert!(["JobId", "FirmwareId", "ProductKey", "Tags"].contains(field), "{field}");
            continue;
        };
        let time = || json!("2026-03-01T09:08:07.000Z");
        let (answered, shown) = match *field {
            "SrcVersions" => (json!({"SrcVersion": ["7", "8"]}), json!(["7", "8"])),
            "NeedPush" => (json!(false), json!(false)),
            "NeedConfirm" => (json!(false), json!(false)),
            "MultiModuleMode" => (json!(true), json!(true)),
            "DynamicMode" | "RetryInterval" | "RetryCount" | "TimeoutInMinutes" | "MaximumPerMinute"
            | "OverwriteMode" => (json!(57), json!(57)),
            name if name.starts_with("Utc") => (time(), json!("2026-03-01T09:08:07Z")),
            "JobStatus" => (json!("PLANNED"), json!("PLANNED")),
            "JobType" => (json!("SOMETHING_NEW"), json!("SOMETHING_NEW")),
            // No longer than the shortest of the fields.
            _ => (json!("changed there"), json!("changed there")),
        };
        assert_ne!(first[name], shown, "{field} has that value already");
        let mut fields = Map::new();
        fields.insert((*field).to_owned(), answered);
        assert!(run.state().cloud.pretend(&id, fields));
        // Progress alone is written every half minute.
        run.turns(12);
        let view = run.status().stages[0].jobs[0].view.clone().unwrap();
        assert_eq!(serde_json::to_value(view).unwrap()[name], shown, "{field}");
    }
}
