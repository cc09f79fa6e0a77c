//! The operator's part of an account's status and the doctor's, side by side.

use std::path::Path;

use serde_json::{Value, json};

use super::bench::{Bench, LIMIT};
use crate::harness::control_plane::SERVICE_ACCOUNT;
use crate::harness::supervised::{Supervised, temporary_dir};
use crate::harness::wait::until;
use crate::shared;

fn operator(bench: &Bench) -> Supervised {
    shared().install_rbac(&bench.namespace).unwrap();
    let kubeconfig = shared().operator_kubeconfig(&bench.namespace, SERVICE_ACCOUNT).unwrap();
    let arguments = [
        "controller",
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--namespace",
        &bench.namespace,
        "--telemetry-addr=off",
        "--allow-insecure-endpoints",
        "--lease-namespace",
        &bench.namespace,
        "--lease-duration=5s",
    ];
    let dir = temporary_dir("operator").unwrap();
    Supervised::spawn("operator", &dir, Path::new(env!("CARGO_BIN_EXE_fota")), arguments).unwrap()
}

fn ready(account: &Value) -> (Option<&str>, Option<&str>) {
    let all = account["status"]["conditions"].as_array();
    let ready = all.and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
    ready.map_or((None, None), |ready| (ready["status"].as_str(), ready["reason"].as_str()))
}

fn until_ready(bench: &Bench, operator: &Supervised, status: &str) -> Value {
    let found = until(&format!("Ready is {status}"), LIMIT, || {
        let account = bench.account();
        Ok((ready(&account).0 == Some(status)).then_some(account))
    });
    found.unwrap_or_else(|error| panic!("{error}\n{:#}\n{}", bench.account(), operator.log_tail(30)))
}

/// Which fields of the status each manager owns.
fn owned(account: &Value) -> Vec<(String, Vec<String>)> {
    let entries = account["metadata"]["managedFields"].as_array().unwrap().iter();
    let mut all: Vec<_> = entries
        .filter(|entry| entry["subresource"] == "status")
        .map(|entry| {
            let fields = entry["fieldsV1"]["f:status"].as_object().unwrap();
            (entry["manager"].as_str().unwrap().to_owned(), fields.keys().cloned().collect())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn neither_takes_away_what_the_other_wrote() {
    let bench = Bench::switched("doctor-beside", json!({}));
    let operator = operator(&bench);
    until_ready(&bench, &operator, "True");
    let first = bench.doctor(&["--firmware", "fw-4"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let account = bench.account();
    assert_eq!(account["status"]["doctor"], first.json()["diagnosis"]);
    assert_eq!(ready(&account), (Some("True"), Some("CloudAnswers")));
    let (doctor, fota) =
        (vec!["f:doctor".to_owned()], vec!["f:conditions".to_owned(), "f:observedGeneration".to_owned()]);
    assert_eq!(owned(&account), [("fota".to_owned(), fota), ("fota-doctor".to_owned(), doctor)]);

    // The operator writes again, with the doctor's part in its cache.
    bench.set_account(&json!({"credentials": {"secretRef": {"name": "gone"}}}));
    let account = until_ready(&bench, &operator, "False");
    assert_eq!(account["status"]["doctor"], first.json()["diagnosis"]);
    bench.set_account(&json!({}));
    until_ready(&bench, &operator, "True");

    // The doctor writes again, with one finding less.
    let second = bench.doctor(&[]);
    let account = bench.account();
    assert_eq!(account["status"]["doctor"], second.json()["diagnosis"]);
    let names = |account: &Value| account["status"]["doctor"]["findings"].to_string().contains("\"Package\"");
    assert!(!names(&account), "what is no finding any more is gone");
    assert_eq!(ready(&account).0, Some("True"));
}
