//! Everything that outsiders write, at random: answers in both formats, and what is signed, against an implementation of
//! the signatures that shares no code with `sign`. No input may panic, and none may be taken for what it is not.
//!
//! A short run is part of `cargo test`; a long one is `PROPTEST_CASES=1000000 cargo test --release --lib fuzz`.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::code::Class;
use super::outcome::Outcome;
use super::wire::{judge, tests::answer, xml};
use super::{Answer, decode, list_file, sign};

/// Names that answers have, and some that they have not.
const NAMES: &[&str] = &[
    "RequestId",
    "Success",
    "success",
    "Code",
    "code",
    "Message",
    "ErrorMessage",
    "HostId",
    "Data",
    "FirmwareInfo",
    "Total",
    "PageCount",
    "CurrentPage",
    "JobId",
    "TaskId",
    "DeviceName",
    "FirmwareId",
    "DestVersion",
    "Status",
    "Type",
    "JobStatus",
    "TaskStatus",
    "Tags",
    "OtaTagDTO",
    "Key",
    "Value",
    "SrcVersions",
    "SrcVersion",
    "SimpleOTATaskInfo",
    "SimpleOTAJobInfo",
    "SimpleFirmwareInfo",
    "SimpleOTAModuleInfo",
    "MultiFiles",
    "UtcCreate",
    "GrayPercent",
    "DynamicMode",
    "NeedPush",
    "ModuleName",
    "Host",
    "Policy",
    "Signature",
    "AccessKeyId",
    "FileUrl",
    "Other",
    "é",
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "true",
            "False",
            "",
            "0",
            "-1",
            "1",
            "IN_PROGRESS",
            "2024-05-04T06:22:19.566Z",
            "Throttling"
        ])
        .prop_map(Value::from),
    ]
}

/// Objects, lists and scalars under names of answers.
fn document() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(NAMES), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// Every decoder, over one answer. An answer that is refused as unreadable is fine, one that panics is not.
fn decoded(answer: &Answer) -> Option<Class> {
    match judge(answer) {
        Err(error) => {
            assert!(error.code.chars().count() <= 128 && error.message.chars().count() <= 256, "bounded");
            Some(error.class)
        }
        Ok(document) => {
            let _ = document.read(decode::created);
            let _ = document.read(decode::job);
            let _ = document.read(decode::jobs);
            let _ = document.read(decode::tasks);
            let _ = document.read(decode::tasks_unpaged);
            let _ = document.read(decode::firmware);
            let _ = document.read(decode::firmwares);
            let _ = document.read(decode::device);
            let _ = document.read(decode::modules);
            let _ = document.read(list_file::form);
            None
        }
    }
}

/// Section 9's and 10's encoding, a byte at a time.
fn independently_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => {
                out.push('%');
                for nibble in [other >> 4, other & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
    out
}

/// RFC 2104 over any digest with blocks of 64 bytes.
fn independent_hmac<D: Digest>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        let short = D::digest(key);
        block[..short.len()].copy_from_slice(&short);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let inner = D::digest([padded(0x36), text.to_vec()].concat());
    D::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}

fn independent_hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from_digit(u32::from(n), 16).unwrap()).collect()
}

fn independent_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, byte| (all << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = DIGITS[usize::try_from((all >> (18 - 6 * n)) & 63).unwrap()];
            out.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Sorted by selection: the smallest name by bytes first.
fn independent_query(pairs: &[(String, String)]) -> String {
    let mut left = pairs.to_vec();
    let mut parts = Vec::new();
    while !left.is_empty() {
        let mut first = 0;
        for n in 1..left.len() {
            if left[n].0.as_bytes() < left[first].0.as_bytes() {
                first = n;
            }
        }
        let (name, value) = left.remove(first);
        parts.push(format!("{}={}", independently_encoded(&name), independently_encoded(&value)));
    }
    parts.join("&")
}

/// Parameters with distinct names, some of them names of lists.
fn parameters() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof!["\\PC{1,8}", "TargetDeviceName\\.[1-9][0-9]{0,2}", "[A-Za-z.]{1,6}"];
    prop::collection::btree_map(name, "\\PC{0,12}", 0..12)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn fuzz_answers_of_any_bytes(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..300)) {
        decoded(&Answer { body, ..answer(status, "") });
    }

    #[test]
    fn fuzz_answers_in_json(status in prop::sample::select(vec![200_u16, 302, 400, 429, 503]), document in document()) {
        decoded(&answer(status, &document.to_string()));
    }

    #[test]
    fn fuzz_answers_in_xml(status in prop::sample::select(vec![200_u16, 400, 503]), document in document(), cut in any::<prop::sample::Index>()) {
        let Value::Object(fields) = document else { return Ok(()) };
        let text = xml::encode("R", &fields);
        decoded(&answer(status, &text));
        // Cut off anywhere it is no answer: its effect stays open.
        let at = (0..=cut.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        prop_assert_eq!(decoded(&answer(status, &text[..at])), Some(Class::Unknown));
    }

    #[test]
    fn fuzz_only_a_success_with_an_id_makes_a_job(document in document()) {
        let answer = answer(200, &document.to_string());
        let outcome = match judge(&answer).and_then(|d| d.read(decode::created)) {
            Ok(read) => {
                prop_assert!(!read.value.0.as_str().is_empty());
                return Ok(());
            }
            Err(error) => Outcome::from(error),
        };
        let refused = document.get("Code").or(document.get("code")).is_some();
        prop_assert!(matches!(outcome, Outcome::Unknown(_)) || refused, "{outcome:?} of {document}");
    }

    #[test]
    fn fuzz_signature_v1_against_another_implementation(pairs in parameters(), secret in "\\PC{1,80}", verb in prop::sample::select(vec!["GET", "POST"])) {
        let query = sign::canonical_query(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        prop_assert_eq!(&query, &independent_query(&pairs));
        let text = sign::v1::string_to_sign(verb, &query);
        prop_assert_eq!(&text, &format!("{verb}&%2F&{}", independently_encoded(&query)));
        let expected = independent_base64(&independent_hmac::<Sha1>(format!("{secret}&").as_bytes(), text.as_bytes()));
        prop_assert_eq!(sign::v1::signature(&secret, &text), expected.clone());
        prop_assert!(sign::v1::verify(&secret, &text, &expected));
        let another = secret + "x";
        prop_assert!(!sign::v1::verify(&another, &text, &expected));
    }

    #[test]
    fn fuzz_signature_v3_against_another_implementation(
        pairs in parameters(),
        headers in prop::collection::btree_map("x-acs-[a-z-]{1,10}", " {0,2}[!-~]{0,12} {0,2}", 0..6),
        body in prop::collection::vec(any::<u8>(), 0..40),
        secret in "\\PC{1,80}",
    ) {
        let query = sign::canonical_query(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let hash = independent_hex(&Sha256::digest(&body));
        prop_assert_eq!(sign::v3::content_hash(&body), hash.clone());
        let given: Vec<(&str, &str)> = headers.iter().rev().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let request = sign::v3::canonical_request("POST", "/", &query, given.iter().copied(), &hash);
        let mut lines = vec!["POST".to_owned(), "/".to_owned(), independent_query(&pairs)];
        lines.extend(headers.iter().map(|(k, v)| format!("{k}:{}", v.trim())));
        lines.extend([String::new(), headers.keys().cloned().collect::<Vec<_>>().join(";"), hash]);
        prop_assert_eq!(&request, &lines.join("\n"));
        prop_assert_eq!(sign::v3::signed_headers(given), headers.keys().cloned().collect::<Vec<_>>().join(";"));
        let text = sign::v3::string_to_sign(&request);
        prop_assert_eq!(&text, &format!("ACS3-HMAC-SHA256\n{}", independent_hex(&Sha256::digest(request.as_bytes()))));
        let expected = independent_hex(&independent_hmac::<Sha256>(secret.as_bytes(), text.as_bytes()));
        prop_assert_eq!(sign::v3::signature(&secret, &text), expected.clone());
        prop_assert!(sign::v3::verify(&secret, &text, &expected));
    }

    #[test]
    fn fuzz_authorization_headers(text in "(ACS3-HMAC-SHA256 )?([A-Za-z]{0,14}=?[\\PC]{0,10},?){0,6}") {
        if let Some(parsed) = sign::v3::Authorization::parse(&text) {
            prop_assert_eq!(sign::v3::Authorization::parse(&parsed.to_string()), Some(parsed));
        }
    }
}

#[test]
fn the_other_implementation_knows_the_vectors() {
    // Otherwise both could be wrong together.
    let file: Value = serde_json::from_str(include_str!("../../tests/vectors/sign-v1-hmac-sha1.json")).unwrap();
    for v in file["vectors"].as_array().unwrap() {
        let fields = |name: &str| v[name].as_object().cloned().unwrap_or_else(Map::new);
        let all = fields("params").into_iter().chain(fields("common_params"));
        let pairs: Vec<_> = all.map(|(k, v)| (k, v.as_str().unwrap().to_owned())).collect();
        assert_eq!(independent_query(&pairs), v["canonicalized_query_string"].as_str().unwrap());
        let key = format!("{}&", v["access_key_secret"].as_str().unwrap());
        let signature = independent_hmac::<Sha1>(key.as_bytes(), v["string_to_sign"].as_str().unwrap().as_bytes());
        assert_eq!(independent_base64(&signature), v["signature"].as_str().unwrap());
    }
}
