//! The gateway: signatures, freshness, nonces, quotas, faults, the log.

use super::*;
use crate::ota::sign::canonical_query;
use crate::ota::sign::v1::{signature, string_to_sign};

/// A signed call; `change` alters the pairs after signing when `late`, else before.
fn signed(bench: &Bench, nonce: &str, change: impl Fn(&mut Vec<(String, String)>), late: bool) -> Call {
    let at = format!("{:.0}", bench.clocks.wall);
    let mut pairs: Vec<(String, String)> = [
        ("Action", "CreateOTAStaticUpgradeJob"),
        ("Version", "2018-01-20"),
        ("Format", "json"),
        ("AccessKeyId", "key"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce),
        ("Timestamp", &at),
        ("FirmwareId", "fw"),
        ("ProductKey", "pk"),
        ("TargetSelection", "ALL"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    if !late {
        change(&mut pairs);
    }
    let text = canonical_query(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    pairs.push(("Signature".to_owned(), signature("secret", &string_to_sign("POST", &text))));
    if late {
        change(&mut pairs);
    }
    Call { verb: "POST".to_owned(), pairs, ..Call::default() }
}

fn code_of(answer: &Response) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["Code"].as_str().unwrap_or_default().to_owned()
}

fn set(name: &'static str, value: &'static str) -> impl Fn(&mut Vec<(String, String)>) {
    move |pairs| {
        pairs.retain(|(k, _)| k != name);
        if value != "-" {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
}

#[test]
fn each_check_has_its_code_and_status() {
    let cases: [(&'static str, &'static str, bool, u16, &str); 17] = [
        ("Format", "YAML", false, 400, "UnsupportedParameter"),
        ("SecurityToken", "t", false, 400, "InvalidSecurityToken.MismatchWithAccessKey"),
        ("AccessKeyId", "-", false, 400, "MissingAccessKeyId"),
        ("AccessKeyId", "nobody", false, 404, "InvalidAccessKeyId.NotFound"),
        ("AccessKeyId", "other", false, 400, "SignatureDoesNotMatch"),
        ("SignatureMethod", "-", false, 400, "MissingSignatureMethod"),
        ("SignatureMethod", "HMAC-SHA256", false, 400, "IncompleteSignature"),
        ("Signature", "-", true, 400, "MissingSignature"),
        ("FirmwareId", "next", true, 400, "SignatureDoesNotMatch"),
        ("Timestamp", "2026-03-01T00:00:00.000Z", false, 400, "InvalidTimeStamp.Format"),
        ("Timestamp", "2026-02-28T23:44:59Z", false, 400, "InvalidTimeStamp.Expired"),
        ("Timestamp", "2026-03-01T00:15:01Z", false, 400, "InvalidTimeStamp.Expired"),
        ("SignatureNonce", "-", false, 400, "MissingSignatureNonce"),
        ("Version", "2017-04-20", false, 400, "NoSuchVersion"),
        ("Action", "updateOTAJob", false, 404, "InvalidApi.NotFound"),
        ("FirmwareId", "-", false, 400, "MissingFirmwareId"),
        ("TargetSelection", "-", false, 400, "MissingTargetSelection"),
    ];
    for (name, value, late, status, expected) in cases {
        let mut bench = Bench::switched(|s| s.unsigned = false);
        let call = signed(&bench, "n", set(name, value), late);
        let answer = bench.cloud.handle(&call, bench.clocks);
        assert_eq!((answer.http_status, code_of(&answer).as_str()), (status, expected), "{name}={value}");
        assert!(bench.cloud.jobs().is_empty());
    }
    let mut bench = Bench::switched(|s| s.unsigned = false);
    for at in ["2026-02-28T23:45:00Z", "2026-03-01T00:15:00Z"] {
        let call = signed(&bench, at, set("Timestamp", at), false);
        assert_eq!(code_of(&bench.cloud.handle(&call, bench.clocks)), "", "{at}");
    }
    let mut get = signed(&bench, "get", |_| {}, false);
    get.verb = "GET".to_owned();
    assert_eq!(code_of(&bench.cloud.handle(&get, bench.clocks)), "SignatureDoesNotMatch", "the verb is signed");
}

#[test]
fn nonces_are_remembered_for_fifteen_wall_minutes() {
    let mut bench = Bench::switched(|s| s.unsigned = false);
    let first = signed(&bench, "n", |_| {}, false);
    assert_eq!(code_of(&bench.cloud.handle(&first, bench.clocks)), "");
    bench.wall_ms(15 * 60_000 - 1);
    assert_eq!(code_of(&bench.cloud.handle(&first, bench.clocks)), "SignatureNonceUsed");
    bench.wall_ms(1);
    let later = signed(&bench, "n", |_| {}, false);
    assert_eq!(code_of(&bench.cloud.handle(&later, bench.clocks)), "");
    assert_eq!(bench.cloud.jobs().len(), 2);
}

#[test]
fn what_burns_a_nonce_is_a_switch() {
    // By turns: refused by the product, refused by a fault, carried out, sent again.
    for (burned_by, expected) in [
        (NonceBurnedBy::Accepted, ["iot.firmware.FirmwareNotFound", "Throttling.User", "", "SignatureNonceUsed"]),
        (NonceBurnedBy::Never, ["iot.firmware.FirmwareNotFound", "Throttling.User", "", ""]),
        (
            NonceBurnedBy::Any,
            ["iot.firmware.FirmwareNotFound", "SignatureNonceUsed", "SignatureNonceUsed", "SignatureNonceUsed"],
        ),
    ] {
        let mut bench = Bench::switched(|s| (s.unsigned, s.nonce) = (false, burned_by));
        let refused = signed(&bench, "n", set("FirmwareId", "x"), false);
        let good = signed(&bench, "n", |_| {}, false);
        let mut codes = vec![code_of(&bench.cloud.handle(&refused, bench.clocks))];
        bench.fault(r#"{"throttleRate": 1}"#);
        codes.push(code_of(&bench.cloud.handle(&good, bench.clocks)));
        bench.fault(r#"{"throttleRate": 0}"#);
        codes.push(code_of(&bench.cloud.handle(&good, bench.clocks)));
        codes.push(code_of(&bench.cloud.handle(&good, bench.clocks)));
        assert_eq!(codes, expected, "{burned_by:?}");
    }
}

#[test]
fn a_nonce_belongs_to_its_access_key_and_a_bad_signature_burns_none() {
    let mut bench = Bench::switched(|s| (s.unsigned, s.nonce) = (false, NonceBurnedBy::Any));
    let forged = signed(&bench, "n", set("FirmwareId", "next"), true);
    assert_eq!(code_of(&bench.cloud.handle(&forged, bench.clocks)), "SignatureDoesNotMatch");
    let good = signed(&bench, "n", |_| {}, false);
    assert_eq!(code_of(&bench.cloud.handle(&good, bench.clocks)), "");
    let mut bench = Bench::new();
    bench.key = "other";
    bench.ok("ListOTAFirmware", "CurrentPage=1 PageSize=1 SignatureNonce=n IotInstanceId=iot-1");
    bench.key = "key";
    bench.ok("ListOTAFirmware", "CurrentPage=1 PageSize=1 SignatureNonce=n");
    assert_eq!(bench.code("ListOTAFirmware", "CurrentPage=1 PageSize=1 SignatureNonce=n"), "SignatureNonceUsed");
}

#[test]
fn quotas_count_per_account_operation_and_wall_second() {
    let mut bench = Bench::switched(|s| s.quotas = true);
    bench.wall_ms(300);
    for _ in 0..5 {
        assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true"), "iot.firmware.InvalidOTAJobId");
    }
    let answer = bench.send("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true");
    assert_eq!((answer.http_status, code_of(&answer).as_str()), (400, "Throttling.User"));
    assert_eq!(answer.retry_after_ms, Some(700));
    assert_eq!(bench.code("QueryOTAJob", "JobId=x"), "iot.firmware.InvalidOTAJobId", "another operation");
    bench.key = "other";
    assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x"), "iot.system.InstanceNotFound", "another account");
    bench.key = "key";
    bench.minutes(10);
    assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x"), "Throttling.User", "fleet time does not refill it");
    bench.wall_ms(700);
    assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true"), "iot.firmware.InvalidOTAJobId");
}

#[test]
fn a_missing_parameter_costs_no_quota() {
    let mut bench = Bench::switched(|s| s.quotas = true);
    for _ in 0..30 {
        assert_eq!(bench.code("CancelOTATaskByJob", "CancelQueuedTask=true"), "MissingJobId");
    }
}

#[test]
fn the_instance_must_be_the_accounts() {
    let mut bench = Bench::new();
    let list = "CurrentPage=1 PageSize=1";
    assert_eq!(bench.code("ListOTAFirmware", &format!("{list} IotInstanceId=iot-1")), "iot.system.InstanceNotFound");
    bench.key = "other";
    assert_eq!(bench.code("ListOTAFirmware", list), "iot.system.InstanceNotFound");
    assert_eq!(bench.code("ListOTAFirmware", &format!("{list} IotInstanceId=iot-2")), "iot.system.InstanceNotFound");
    bench.ok("ListOTAFirmware", &format!("{list} IotInstanceId=iot-1"));
}

#[test]
fn errors_strike_before_the_work_and_lost_replies_after_it() {
    let create = "FirmwareId=fw ProductKey=pk TargetSelection=GRAY GrayPercent=1 SignatureNonce=";
    let mut bench = Bench::new();
    bench.fault(r#"{"errorRate": 1}"#);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = bench.send("CreateOTAStaticUpgradeJob", &format!("{create}a"));
        seen.insert((answer.http_status, code_of(&answer)));
        assert!(!answer.lost);
    }
    let expected = [(500, "InternalError".to_owned()), (503, "ServiceUnavailable".to_owned())];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(bench.cloud.jobs().len(), 0);
    bench.fault(r#"{"errorRate": 0, "lostReplyRate": 1}"#);
    assert!(bench.send("CreateOTAStaticUpgradeJob", &format!("{create}a")).lost);
    assert_eq!(bench.cloud.jobs().len(), 1);
    bench.fault(r#"{"lostReplyRate": 0}"#);
    assert_eq!(bench.code("CreateOTAStaticUpgradeJob", &format!("{create}a")), "SignatureNonceUsed", "it did arrive");
}

#[test]
fn the_log_holds_every_request_without_its_signature() {
    let mut bench = Bench::switched(|s| s.unsigned = false);
    let call = signed(&bench, "n", set("Unheard", "of"), false);
    bench.cloud.handle(&call, bench.clocks);
    bench.cloud.handle(&call, bench.clocks);
    let id = bench.cloud.jobs()[0].text("JobId").to_owned();
    let [first, second] = bench.cloud.calls() else { panic!("{:?}", bench.cloud.calls()) };
    assert_eq!((first.job_id.as_deref(), first.http_status, first.code.as_deref()), (Some(id.as_str()), 200, None));
    assert_eq!((second.job_id.as_deref(), second.code.as_deref()), (None, Some("SignatureNonceUsed")));
    assert_ne!(first.request_id, second.request_id);
    let document = serde_json::to_value(first).unwrap();
    assert_eq!(document["at"], "2026-03-01T00:00:00.000Z");
    assert_eq!(document["params"]["Unheard"], "of");
    assert_eq!(document["params"]["Timestamp"], "2026-03-01T00:00:00Z");
    assert!(document["params"].get("Signature").is_none() && document["params"].get("SignatureNonce").is_some());
}

#[test]
fn a_denied_action_is_refused_by_either_layer_before_its_parameters_are_looked_at() {
    let denied = FLEET.replace("accessKeySecret: secret}", "accessKeySecret: secret, denied: [QueryOTAJob]}");
    for (by, status, code) in
        [(DeniedBy::Gateway, 403, "Forbidden.RAM"), (DeniedBy::Product, 200, "iot.common.RamActionPermissionDeny")]
    {
        let mut bench = Bench::with(&denied, |switches| switches.denied_by = by);
        for params in ["JobId=x", ""] {
            let answer = bench.send("QueryOTAJob", params);
            assert_eq!((answer.http_status, code_of(&answer).as_str()), (status, code), "{params}");
        }
        bench.ok("QueryOTAFirmware", "FirmwareId=fw");
        bench.key = "other";
        assert_eq!(bench.code("QueryOTAJob", "JobId=x IotInstanceId=iot-1"), "iot.firmware.InvalidOTAJobId");
    }
}
