//! With the one verify job on a test device.

use fota::api::Replay;
use serde_json::json;

use super::bench::{Bench, LIMIT, PRODUCT, ended};
use crate::harness::process::Process;
use crate::harness::wait::until_true;

#[test]
fn one_verify_job_answers_everything_and_verifies_the_package() {
    let bench = Bench::switched("doctor-lab", json!({}));
    let outcome = bench.doctor(&["--lab-device", "lab-1"]);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome.assert_finding("NonceReplay", "Yes", "reads and a create");
    outcome.assert_finding("TagsQueried", "Yes", "");
    outcome.assert_finding("TagsListed", "Yes", "");
    outcome.assert_finding("ListLag", "Yes", "listLag 5s");
    // Said before it is done.
    assert!(
        outcome.stderr.contains("A verify job of package fw-4 (4.0.0) is made on device lab-1"),
        "{}",
        outcome.stderr
    );
    let [create] = bench.effects().try_into().unwrap();
    assert_eq!(create.operation, "CreateOTAVerifyJob");
    let job = create.job_id.unwrap();
    assert!(outcome.json()["verifyJob"].as_str().unwrap().contains(&job));
    // The identical request was sent a second time, and refused.
    let same = |c: &&fota::cloud::log::Entry| c.params.get("SignatureNonce") == create.params.get("SignatureNonce");
    let copies = bench.cloud.with(|cloud, _| cloud.calls().iter().filter(same).cloned().collect::<Vec<_>>());
    assert_eq!((copies.len(), copies[1].code.as_deref()), (2, Some("SignatureNonceUsed")));
    assert_eq!(copies[0].params, copies[1].params);
    let taken = bench.as_taken();
    assert_eq!((taken.replay, taken.list_lag.as_secs(), taken.tag_echoed), (Replay::Nonce, 5, true));

    let verified = || bench.jobs().iter().any(|job| job.counts.get("SUCCEEDED") == Some(&1));
    until_true("the device takes the package", LIMIT, verified).unwrap();
    // Nothing is left to verify: said so, and what was found out before stands.
    let again = bench.doctor(&["--lab-device", "lab-1"]);
    assert_eq!((again.code, bench.jobs().len()), (Some(0), 1));
    again.assert_finding("ListLag", "Yes", "on 20");
    again.assert_finding("TagsListed", "Yes", "shows the tag of job");
    assert_eq!(bench.as_taken().list_lag.as_secs(), 5);
}

#[test]
fn each_tag_switch_is_named() {
    for (switches, listed, queried) in [
        (json!({"tagsListed": false}), "No", "Yes"),
        (json!({"tagsQueried": false}), "Yes", "No"),
        (json!({"tagsListed": false, "tagsQueried": false}), "No", "No"),
        (json!({"listOrder": "shuffled", "emptyList": "absent", "legacySpelling": true}), "Yes", "Yes"),
    ] {
        let bench = Bench::switched("doctor-tags", switches.clone());
        let outcome = bench.doctor(&["--lab-device", "lab-2", "--firmware", "fw-4"]);
        outcome.assert_finding("TagsListed", listed, "ListOTAJobByFirmware");
        outcome.assert_finding("TagsQueried", queried, "QueryOTAJob");
        let fails = [listed, queried].contains(&"No");
        assert_eq!(outcome.code, Some(if fails { 2 } else { 0 }), "{switches}");
        assert_eq!(bench.as_taken().tag_echoed, [listed, queried].contains(&"Yes"), "{switches}");
        assert_eq!(bench.jobs().len(), 1);
    }
}

#[test]
fn the_list_lag_is_measured_and_a_multiple_of_it_goes_by_from_then_on() {
    let bench = Bench::switched("doctor-lag", json!({"listLagMs": 4000}));
    let outcome = bench.doctor(&["--lab-device", "lab-1"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    let lag = bench.as_taken().list_lag.as_secs();
    assert!((15..=60).contains(&lag) && lag.is_multiple_of(5), "{lag} s: at least three times 4 s");

    let short = Bench::new("doctor-lag", &json!({"switches": {"listLagMs": 3000}}), &json!({"listLag": "1s"}));
    let outcome = short.doctor(&["--lab-device", "lab-1"]);
    assert_eq!((outcome.code, outcome.failing()), (Some(2), vec!["ListLag".to_owned()]));
    outcome.assert_finding("ListLag", "No", "spec.listLag says 1s");
}

#[test]
fn a_job_that_is_never_listed_is_cancelled_after_the_time_given() {
    let bench = Bench::switched("doctor-unlisted", json!({"listLagMs": 3_600_000}));
    // Its task stays pending: nobody is there to take it.
    let fleet_is_away = json!({"silentRate": 1.0});
    bench.cloud.with(|cloud, _| cloud.change_faults(&serde_json::from_value(fleet_is_away).unwrap())).unwrap();
    let outcome = bench.doctor(&["--lab-device", "lab-1", "--list-timeout", "2s"]);
    assert_eq!((outcome.code, outcome.failing()), (Some(2), vec!["ListLag".to_owned()]));
    outcome.assert_finding("TagsQueried", "Yes", "");
    assert!(outcome.json()["verifyJob"].as_str().unwrap().contains("cancelled"));
    until_true("its task is cancelled", LIMIT, || bench.jobs()[0].counts.get("CANCELED") == Some(&1)).unwrap();
}

#[test]
fn a_gateway_that_forgets_nonces_is_seen_on_the_create_and_its_guard_holds() {
    let bench = Bench::switched("doctor-lab-never", json!({"nonce": "never"}));
    let outcome = bench.doctor(&["--lab-device", "lab-1"]);
    assert_eq!((outcome.failing(), bench.jobs().len()), (vec!["NonceReplay".to_owned()], 1));
    assert_eq!(bench.as_taken().replay, Replay::Settle);
    let refusals = bench.cloud.with(|cloud, _| {
        let guard =
            |c: &&fota::cloud::log::Entry| c.code.as_deref().is_some_and(|c| c.contains("InProgressVerifyJobExisted"));
        cloud.calls().iter().filter(guard).count()
    });
    assert_eq!(refusals, 1, "the second copy came through the gateway and met the guard");
}

#[test]
fn whoever_stops_it_gets_the_verify_job_cancelled_and_told() {
    for (name, signal) in [("doctor-stop", "INT"), ("doctor-term", "TERM")] {
        let bench = Bench::switched(name, json!({"listLagMs": 3_600_000}));
        let away = serde_json::from_value(json!({"silentRate": 1.0})).unwrap();
        bench.cloud.with(|cloud, _| cloud.change_faults(&away)).unwrap();
        let child = bench.start(PRODUCT, &["--lab-device", "lab-1"]);
        let listed = || {
            let after = |cloud: &fota::cloud::Cloud| {
                let made = cloud.calls().iter().position(|c| c.operation == "CreateOTAVerifyJob" && c.code.is_none());
                made.is_some_and(|n| cloud.calls()[n..].iter().any(|c| c.operation == "ListOTAJobByFirmware"))
            };
            bench.cloud.with(|cloud, _| after(cloud))
        };
        until_true("it waits for its verify job to be listed", LIMIT, listed).unwrap();
        Process::of(child.id()).unwrap().signal(signal).unwrap();
        let outcome = ended(child);
        let job = bench.jobs()[0].data["JobId"].as_str().unwrap().to_owned();
        assert!(outcome.code == Some(1) && outcome.stderr.contains(&job), "{:?}: {}", outcome.code, outcome.stderr);
        until_true("its task is cancelled", LIMIT, || bench.jobs()[0].counts.get("CANCELED") == Some(&1)).unwrap();
        assert_eq!(bench.account()["status"]["doctor"], json!(null), "half of it is nothing");
    }
}

#[test]
fn without_a_package_to_verify_it_says_so_and_makes_nothing() {
    let exempt = Bench::switched("doctor-exempt", json!({}));
    let outcome = exempt.doctor(&["--lab-device", "lab-1", "--firmware", "fw-5"]);
    outcome.assert_finding("ListLag", "Unknown", "package fw-5 takes no verify job");
    let denied = json!({"accounts": [{"accessKeyId": "testAccessKeyId", "accessKeySecret": super::bench::SECRET,
                                      "denied": ["CreateOTAVerifyJob"]}]});
    let denied = Bench::new("doctor-denied-lab", &denied, &json!({}));
    let outcome = denied.doctor(&["--lab-device", "lab-1"]);
    outcome.assert_finding("ListLag", "Unknown", "the verify job failed: Forbidden.RAM");
    assert_eq!((exempt.effects(), denied.effects()), (vec![], vec![]));
}
