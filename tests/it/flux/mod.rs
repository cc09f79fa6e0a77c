//! What Flux is told: an object for every reason that the operator can give, written by the operator's own functions into
//! `tests/flux/testdata`, where the library that Flux judges health by reads them (`make test-flux`).

pub mod reasons;
mod sources;

use std::collections::BTreeMap;

use fota::api::{FirmwareRollout, FirmwareRolloutStatus, OTAAccount, OTAAccountStatus};
use fota::controller::readiness;
use fota::rollout::observed::Trouble;
use fota::rollout::story::{self, Kind, Situation};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::root;

/// Objects by what they show: kind, standing and reason.
type Objects = BTreeMap<String, Value>;

const GENERATION: i64 = 3;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn rollout(status: &FirmwareRolloutStatus) -> FirmwareRollout {
    let object = json!({
        "apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout",
        "metadata": {"name": "thermostat", "namespace": "heating", "generation": GENERATION},
        "spec": {"accountRef": {"name": "prod"}, "productKey": "a1Le6d0abcd", "firmware": {"version": "4.0.0"},
                 "sourceVersions": ["3.2.0"], "full": {"static": {}}},
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn account(status: &OTAAccountStatus) -> OTAAccount {
    let object = json!({
        "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount",
        "metadata": {"name": "prod", "namespace": "heating", "generation": GENERATION},
        "spec": {"region": "cn-shanghai", "credentials": {"secretRef": {"name": "prod-keys"}}},
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

/// A rollout in this situation, as `decide` ends.
fn told(kind: Kind, reason: &'static str) -> FirmwareRolloutStatus {
    let situation = Situation { kind, ..Situation::waiting(reason, "one sentence for a person") };
    let mut status =
        FirmwareRolloutStatus { observed_generation: Some(GENERATION), ..FirmwareRolloutStatus::default() };
    story::tell(&mut status, &situation, Some(GENERATION), now());
    status
}

fn judged(found: &Result<String, Trouble>) -> OTAAccountStatus {
    readiness::judged(&account(&OTAAccountStatus::default()), found, None, &[], now())
}

fn value(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn objects() -> Objects {
    let mut all = Objects::new();
    for (kind, reason) in reasons::of_rollouts() {
        all.insert(format!("FirmwareRollout {kind:?} {reason}"), value(&rollout(&told(kind, reason))));
    }
    for (kind, reason) in reasons::of_accounts() {
        let found = match kind {
            Kind::Ready => Ok("subject".to_owned()),
            kind => {
                Err(Trouble { reason, message: "one sentence for a person".into(), stalled: kind == Kind::Stalled })
            }
        };
        let status = judged(&found);
        assert_eq!(status.conditions[0].reason, reason, "the reason of a good account is the operator's own");
        all.insert(format!("OTAAccount {kind:?} {reason}"), value(&account(&status)));
    }
    // Conditions beside those of the standing change nothing about it.
    for (condition, reason) in reasons::REMARKS {
        for (kind, standing) in [(Kind::Ready, "Completed"), (Kind::Waiting, "Soaking")] {
            let mut status = told(kind, standing);
            let message = Some("one sentence for a person".to_owned());
            story::remark(&mut status, condition, reason, message, Some(GENERATION), now());
            all.insert(format!("FirmwareRollout {kind:?} {standing}+{condition}"), value(&rollout(&status)));
        }
    }
    let done = value(&rollout(&told(Kind::Ready, "Completed")));
    let good = value(&account(&judged(&Ok("subject".into()))));
    for (name, object) in [("FirmwareRollout", done), ("OTAAccount", good)] {
        // As the API server shows what the operator has not seen yet: the definition's default.
        let mut fresh = object.clone();
        fresh["status"] = default_status(name);
        all.insert(format!("{name} - Unobserved"), fresh);
        let mut edited = object.clone();
        edited["metadata"]["generation"] = json!(GENERATION + 1);
        all.insert(format!("{name} - Edited"), edited);
        let mut going = object;
        going["metadata"]["deletionTimestamp"] = json!(now().to_string());
        all.insert(format!("{name} - Deleted"), going);
    }
    let mut held = account(&OTAAccountStatus::default());
    held.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    held.status = Some(readiness::judged(&held, &Ok("subject".into()), None, &["thermostat".into()], now()));
    all.insert("OTAAccount - InUse".to_owned(), value(&held));
    all
}

/// What the API server gives an object as its status, by the definition.
fn default_status(kind: &str) -> Value {
    let file = format!("crds/{}s.yaml", kind.to_lowercase());
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let crd: Value = serde_yaml::from_str(&text).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/default").unwrap().clone()
}

#[test]
fn the_objects_that_flux_judges_are_what_the_operator_writes() {
    let path = root().join("tests/flux/testdata/objects.json");
    let text = format!("{:#}\n", json!(objects()));
    if std::env::var_os("FOTA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == text,
        "tests/flux/testdata/objects.json drifted: run FOTA_WRITE_DOCS=1 cargo test --test it objects_that_flux_judges, \
         judge what is new in tests/flux/health.txt, and run make test-flux"
    );
}

#[test]
fn each_object_has_been_judged_by_a_person() {
    let table = std::fs::read_to_string(root().join("tests/flux/health.txt")).unwrap();
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let judged: Vec<_> = lines.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect();
    let all: Vec<_> = objects().into_keys().collect();
    let missing: Vec<_> = all.iter().filter(|name| !judged.contains(name)).collect();
    let stale: Vec<_> = judged.iter().filter(|name| !all.contains(name)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "tests/flux/health.txt lacks {missing:#?} and has {stale:#?}");
}
