//! Signature V3: what it must cover, and which headers stand for which parameters.

use super::*;
use crate::ota::sign::canonical_query;
use crate::ota::sign::v3::{self, Authorization};

type Pairs = Vec<(String, String)>;

fn owned(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A request signed V3 over all its headers but those named; `change` alters the headers afterwards.
fn signed(query: &[(&str, &str)], body: &str, unsigned: &[&str], change: impl Fn(&mut Pairs)) -> Call {
    let hash = v3::content_hash(body.as_bytes());
    let mut headers = owned(&[
        ("host", "iot.example"),
        ("accept", "application/json"),
        ("user-agent", "x/1 (y)"),
        ("x-acs-action", "CreateOTAStaticUpgradeJob"),
        ("x-acs-version", "2018-01-20"),
        ("x-acs-date", "2026-03-01T00:00:00Z"),
        ("x-acs-signature-nonce", "n"),
        ("x-acs-content-sha256", &hash),
    ]);
    if !body.is_empty() {
        headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    }
    let covered: Vec<_> = headers.iter().filter(|(name, _)| !unsigned.contains(&name.as_str())).cloned().collect();
    let covered = || covered.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let text = canonical_query(query.iter().copied());
    let text = v3::string_to_sign(&v3::canonical_request("POST", "/", &text, covered(), &hash));
    let authorization = Authorization {
        credential: "key".to_owned(),
        signed_headers: v3::signed_headers(covered()),
        signature: v3::signature("secret", &text),
    };
    headers.push(("authorization".to_owned(), authorization.to_string()));
    change(&mut headers);
    let form = body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    Call::of_request("POST", owned(query), form.collect(), headers, body.as_bytes())
}

const CREATE: &[(&str, &str)] =
    &[("FirmwareId", "fw"), ("ProductKey", "pk"), ("TargetSelection", "ALL"), ("Empty", "")];

fn set(name: &'static str, value: &'static str) -> impl Fn(&mut Pairs) {
    move |headers| {
        headers.retain(|(k, _)| k != name);
        if value != "-" {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
}

fn code(call: &Call) -> String {
    let mut bench = Bench::switched(|s| s.unsigned = false);
    let answer = bench.cloud.handle(call, bench.clocks);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["Code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn whatever_the_caller_lists_is_what_was_signed() {
    assert_eq!(code(&signed(CREATE, "", &[], |_| {})), "");
    assert_eq!(code(&signed(CREATE, "", &["accept", "user-agent"], |_| {})), "");
    assert_eq!(code(&signed(CREATE, "", &["accept"], set("accept", "application/json;q=1"))), "");
    assert_eq!(code(&signed(CREATE, "", &[], set("user-agent", "z"))), "SignatureDoesNotMatch");
    // A form body is covered by its hash, and its pairs count.
    let (in_query, in_body) = CREATE.split_at(1);
    let body: Vec<_> = in_body.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(code(&signed(in_query, &body.join("&"), &[], |_| {})), "");
    let mut touched = signed(in_query, &body.join("&"), &[], |_| {});
    touched.headers.as_mut().unwrap().body_hash = v3::content_hash(b"other");
    assert_eq!(code(&touched), "SignatureDoesNotMatch");
    for must in ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256", "x-acs-version"]
    {
        assert_eq!(code(&signed(CREATE, "", &[must], |_| {})), "IncompleteSignature", "{must}");
    }
    assert_eq!(code(&signed(in_query, &body.join("&"), &["content-type"], |_| {})), "IncompleteSignature");
    for (change, value, expected) in [
        ("x-acs-more", "1", "IncompleteSignature"),
        ("user-agent", "-", "IncompleteSignature"),
        ("authorization", "-", "MissingAccessKeyId"),
        ("authorization", "ACS3-HMAC-SHA256 nonsense", "MissingAccessKeyId"),
        ("x-acs-action", "QueryOTAJob", "SignatureDoesNotMatch"),
        ("x-acs-security-token", "t", "IncompleteSignature"),
    ] {
        assert_eq!(code(&signed(CREATE, "", &[], set(change, value))), expected, "{change}: {value}");
    }
}

#[test]
fn headers_stand_for_the_common_parameters() {
    let mut bench = Bench::switched(|s| s.unsigned = false);
    let call = signed(CREATE, "", &[], |_| {});
    bench.cloud.handle(&call, bench.clocks);
    let again = bench.cloud.handle(&call, bench.clocks);
    assert!(again.body.contains("SignatureNonceUsed"), "{}", again.body);
    bench.wall_ms(16 * 60_000);
    let late = bench.cloud.handle(&call, bench.clocks);
    assert!(late.body.contains("InvalidTimeStamp.Expired"), "{}", late.body);
    let entry = &bench.cloud.calls()[0];
    assert_eq!((entry.operation.as_str(), entry.access_key_id.as_str()), ("CreateOTAStaticUpgradeJob", "key"));
    assert_eq!((entry.params["SignatureNonce"].as_str(), entry.params["FirmwareId"].as_str()), ("n", "fw"));
    let xml = signed(CREATE, "", &["accept"], set("accept", "application/xml"));
    let answer = Bench::switched(|s| s.unsigned = false);
    let (mut cloud, clocks) = (answer.cloud, answer.clocks);
    assert!(cloud.handle(&xml, clocks).body.contains("<CreateOTAStaticUpgradeJobResponse>"));
}

#[test]
fn a_call_signed_v1_may_carry_headers_of_v3() {
    let headers =
        owned(&[("x-acs-action", "QueryOTAJob"), ("x-acs-version", "2018-01-20"), ("accept-encoding", "identity")]);
    let call = Call::of_request("POST", owned(&[("Action", "ListOTAFirmware")]), vec![], headers.clone(), b"");
    assert_eq!((call.headers, call.pairs.len()), (None, 1));
    assert!(Call::of_request("POST", vec![], vec![], headers, b"").headers.is_some());
}

#[test]
fn sts_tokens_go_with_their_key() {
    let fleet = FLEET
        .replace("accessKeySecret: secret}", "accessKeySecret: secret, securityToken: t, securityTokenExpired: false}");
    for (expired, token, expected) in [
        ("false", Some("t"), ""),
        ("false", None, "MissingSecurityToken"),
        ("false", Some("u"), "InvalidSecurityToken.MismatchWithAccessKey"),
        ("true", Some("t"), "InvalidSecurityToken.Expired"),
    ] {
        let fleet = fleet.replace("Expired: false", &format!("Expired: {expired}"));
        let mut bench = Bench::with(&fleet, |s| s.unsigned = false);
        let at = format!("{:.0}", bench.clocks.wall);
        let mut pairs = owned(CREATE);
        pairs.extend(owned(&[
            ("Action", "CreateOTAStaticUpgradeJob"),
            ("Version", "2018-01-20"),
            ("Format", "JSON"),
            ("AccessKeyId", "key"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureType", ""),
            ("SignatureNonce", "n"),
            ("Timestamp", &at),
        ]));
        pairs.extend(token.map(|token| ("SecurityToken".to_owned(), token.to_owned())));
        let text = canonical_query(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let text = crate::ota::sign::v1::string_to_sign("POST", &text);
        pairs.push(("Signature".to_owned(), crate::ota::sign::v1::signature("secret", &text)));
        let answer = bench.cloud.handle(&Call { verb: "POST".to_owned(), pairs, ..Call::default() }, bench.clocks);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["Code"].as_str().unwrap_or_default(), expected);
    }
}

#[test]
fn keys_of_one_account_share_its_quota_and_a_disabled_key_has_none() {
    let fleet = FLEET.replace("{accessKeyId: key, ", "{accessKeyId: key, accountId: a, ").replace(
        "secret2, instanceId: iot-1}",
        "secret2, accountId: a}\n- {accessKeyId: gone, accessKeySecret: s, inactive: true}",
    );
    let mut bench = Bench::with(&fleet, |s| (s.quotas, s.throttle_status) = (true, 429));
    for key in ["key", "other", "key", "other", "key"] {
        bench.key = key;
        assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true"), "iot.firmware.InvalidOTAJobId");
    }
    bench.key = "other";
    assert_eq!(bench.send("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true").http_status, 429);
    bench.key = "gone";
    assert_eq!(bench.code("QueryOTAJob", "JobId=x"), "InvalidAccessKeyId.Inactive");
}
