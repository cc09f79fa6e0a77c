//! What is found out without creating anything.

use fota::api::Replay;
use serde_json::json;

use super::bench::{Bench, PRODUCT, SECRET, ended};
use crate::shared;

#[test]
fn a_fresh_account_is_examined_without_any_effect_and_the_findings_are_kept() {
    let bench = Bench::switched("doctor-fresh", json!({}));
    let outcome = bench.doctor(&[]);
    assert_eq!((outcome.code, outcome.failing()), (Some(0), vec![]), "{}", outcome.stderr);
    for name in ["Endpoint", "Keys", "Instance", "Clock", "Actions", "Quota", "Product", "NonceReplay"] {
        outcome.assert_finding(name, "Yes", "");
    }
    for name in ["TagsQueried", "TagsListed", "ListLag"] {
        outcome.assert_finding(name, "Unknown", "--lab-device");
    }
    outcome.assert_finding("NonceReplay", "Yes", "a refused request does not use its nonce up");
    outcome.assert_finding("GrayBase", "Unknown", "no two gray jobs");
    assert_eq!((bench.effects(), bench.jobs().len()), (vec![], 0), "nothing was created or cancelled");
    assert_eq!(bench.account()["status"]["doctor"], outcome.json()["diagnosis"]);
    let taken = bench.as_taken();
    assert_eq!((taken.replay, taken.list_lag.as_secs(), taken.tag_echoed), (Replay::Nonce, 30, false));
    assert_eq!(outcome.json()["inForce"], json!({"replay": "Nonce", "listLag": "30s"}));
}

#[test]
fn what_burns_a_nonce_decides_between_nonce_and_settle() {
    let any = Bench::switched("doctor-nonce-any", json!({"nonce": "any"})).doctor(&[]);
    assert_eq!(any.code, Some(0));
    any.assert_finding("NonceReplay", "Yes", "a refused request uses its nonce up, too");

    let bench = Bench::switched("doctor-nonce-never", json!({"nonce": "never"}));
    let never = bench.doctor(&[]);
    assert_eq!((never.code, never.failing()), (Some(2), vec!["NonceReplay".to_owned()]));
    assert_eq!(bench.as_taken().replay, Replay::Settle);
    assert_eq!(bench.account()["status"]["doctor"]["replay"], "Settle");

    let stubborn = Bench::new("doctor-spec", &json!({"switches": {"nonce": "never"}}), &json!({"replay": "Nonce"}));
    stubborn.doctor(&[]).assert_finding("NonceReplay", "No", "take `replay: Nonce` out");
    assert_eq!(stubborn.as_taken().replay, Replay::Nonce, "the spec wins");
}

#[test]
fn a_busy_and_failing_cloud_is_asked_again() {
    let bench = Bench::switched("doctor-faults", json!({}));
    let patch = serde_json::from_value(json!({"throttleRate": 0.15, "errorRate": 0.15})).unwrap();
    bench.cloud.with(|cloud, _| cloud.change_faults(&patch)).unwrap();
    let outcome = bench.doctor(&[]);
    outcome.assert_finding("NonceReplay", "Yes", "refuses the second copy");
    outcome.assert_finding("Actions", "Yes", "all 10 actions");
    outcome.assert_finding("Quota", "Unknown", "were refused for the account's quota");
    assert_eq!((bench.effects(), outcome.code), (vec![], Some(0)));
}

#[test]
fn denied_actions_are_named_whichever_layer_denies_them() {
    for (layer, denied) in [
        ("gateway", vec!["CreateOTAStaticUpgradeJob", "CancelOTATaskByJob"]),
        ("product", vec!["CreateOTAVerifyJob", "ListOTATaskByJob"]),
        // The very first call is one of these: the others are tried all the same.
        ("gateway", vec!["ListOTAFirmware"]),
    ] {
        let account = json!({"accessKeyId": "testAccessKeyId", "accessKeySecret": SECRET, "denied": denied});
        let fleet = json!({"accounts": [account], "switches": {"deniedBy": layer}});
        let bench = Bench::new("doctor-denied", &fleet, &json!({}));
        let outcome = bench.doctor(&[]);
        assert_eq!((outcome.code, outcome.failing()), (Some(2), vec!["Actions".to_owned()]), "{denied:?}");
        let (_, message) = outcome.finding("Actions");
        let named: Vec<_> = message.split("iot:").skip(1).map(|rest| rest.split([',', ':']).next().unwrap()).collect();
        assert_eq!(named.len(), denied.len(), "{message}");
        assert!(denied.iter().all(|action| named.contains(action)), "{message}");
        assert_eq!(bench.effects(), vec![]);
    }
}

#[test]
fn a_clock_that_is_off_is_named_with_its_skew() {
    for (ahead, says) in [(90.0, "ahead of ours"), (-120.0, "behind ours")] {
        let outcome = Bench::switched("doctor-clock", json!({"clockAheadSeconds": ahead})).doctor(&[]);
        assert_eq!((outcome.code, outcome.failing()), (Some(2), vec!["Clock".to_owned()]));
        outcome.assert_finding("Clock", "No", says);
        let (_, message) = outcome.finding("Clock");
        let told: f64 = message.split(" s ").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((told - f64::abs(ahead)).abs() <= 5.0, "{message}");
        // Within the fifteen minutes of the gateway everything else can be found out.
        outcome.assert_finding("NonceReplay", "Yes", "");
    }
    let outcome = Bench::switched("doctor-clock-far", json!({"clockAheadSeconds": 3600})).doctor(&[]);
    assert_eq!(outcome.failing(), ["Clock"]);
    outcome.assert_finding("Keys", "Unknown", "InvalidTimeStamp.Expired");
    outcome.assert_finding("NonceReplay", "Unknown", "InvalidTimeStamp.Expired");
    assert_eq!(outcome.json()["inForce"]["replay"], "Settle");
}

#[test]
fn a_wrong_or_missing_instance_id_is_told_apart() {
    let with_id =
        json!({"accounts": [{"accessKeyId": "testAccessKeyId", "accessKeySecret": SECRET, "instanceId": "iot-1"}]});
    let missing = Bench::new("doctor-instance", &with_id, &json!({})).doctor(&[]);
    missing.assert_finding("Instance", "No", "put it into spec.instanceId");
    let wrong = Bench::new("doctor-instance", &with_id, &json!({"instanceId": "iot-2"})).doctor(&[]);
    wrong.assert_finding("Instance", "No", "there is no instance iot-2");
    let too_much = Bench::new("doctor-instance", &json!({}), &json!({"instanceId": "iot-1"})).doctor(&[]);
    too_much.assert_finding("Instance", "No", "leave it out");
    for outcome in [missing, wrong, too_much] {
        assert_eq!((outcome.code, outcome.failing()), (Some(2), vec!["Instance".to_owned()]));
    }
    let right = Bench::new("doctor-instance", &with_id, &json!({"instanceId": "iot-1"})).doctor(&[]);
    assert_eq!(right.code, Some(0));
    right.assert_finding("Instance", "Yes", "iot-1");
}

#[test]
fn keys_product_package_and_endpoint_are_told_apart() {
    let bench = Bench::switched("doctor-keys", json!({}));
    let product = ended(bench.start("nobody", &[]));
    assert_eq!((product.code, product.failing()), (Some(2), vec!["Product".to_owned()]));
    let package = bench.doctor(&["--firmware", "nothing"]);
    assert_eq!((package.code, package.failing()), (Some(2), vec!["Package".to_owned()]));
    bench.doctor(&["--firmware", "fw-4"]).assert_finding("Package", "Yes", "is not verified");

    bench.set_keys("testAccessKeyId", "not-the-secret-0123");
    let secret = bench.doctor(&[]);
    assert_eq!((secret.code, secret.failing()), (Some(2), vec!["Keys".to_owned()]));
    secret.assert_finding("Keys", "No", "SignatureDoesNotMatch");
    bench.set_keys("nobody", SECRET);
    bench.doctor(&[]).assert_finding("Keys", "No", "InvalidAccessKeyId.NotFound");

    // A port that was free a moment ago, and where nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Bench::new("doctor-away", &json!({}), &json!({"endpoint": format!("http://{free}/")})).doctor(&[]);
    assert_eq!((away.code, away.failing()), (Some(2), vec!["Endpoint".to_owned()]));
}

#[test]
fn where_it_cannot_run_it_says_why_and_exits_with_1() {
    let bench = Bench::switched("doctor-cannot", json!({}));
    let refused = |arguments: &[&str], says: &str| {
        let outcome = bench.doctor(arguments);
        assert!(outcome.code == Some(1) && outcome.stderr.contains(says), "{:?}: {}", outcome.code, outcome.stderr);
    };
    refused(&["-n", "default"], "forbidden");
    refused(&["--list-timeout", "1"], "duration");
    refused(&["--allow-insecure-endpoints"], "cannot be used multiple times");
    shared().kubectl_ok(["delete", "secret", "keys", "-n", &bench.namespace]).unwrap();
    refused(&[], "there is no Secret keys");
    shared().kubectl_ok(["delete", "otaaccount", "cloud", "-n", &bench.namespace]).unwrap();
    refused(&[], "there is none of this name");
    assert!(bench.cloud.with(|cloud, _| cloud.calls().is_empty()), "nobody was called");
}

#[test]
fn the_text_report_has_a_line_for_each_finding() {
    let account =
        json!({"accessKeyId": "testAccessKeyId", "accessKeySecret": SECRET, "denied": ["CancelOTATaskByJob"]});
    let bench = Bench::new("doctor-text", &json!({"accounts": [account]}), &json!({}));
    let output = bench.command(&["--product", PRODUCT]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for start in
        ["ok       Clock  ", "FAILS    Actions  ", "unknown  ListLag  ", "rollouts of this account go by replay Nonce"]
    {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start}\n{text}");
    }
    assert_eq!(output.status.code(), Some(2));
}
