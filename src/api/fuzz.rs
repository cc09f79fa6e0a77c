//! Manifests at random: none may panic, and one that is taken is written as it was read.
//!
//! A short run is part of `cargo test`; a long one is `PROPTEST_CASES=1000000 cargo test --release --lib fuzz`.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{FirmwareRollout, OTAAccount, Percent, Span};

fn whole() -> Vec<Value> {
    let rollout = json!({
        "accountRef": {"name": "prod"}, "productKey": "a1", "firmware": {"version": "4.0.0", "module": "mcu"},
        "sourceVersions": ["3.2.0"], "verify": {"devices": ["lab-1"]},
        "delivery": {"maximumPerMinute": 500, "deviceTimeout": "2h", "retry": {"count": 2, "interval": "30m"},
                     "overwrite": "Never", "tags": {"campaign": "winter"}},
        "gray": [{"name": "canary", "percent": 1, "gate": {"soak": "24h"}}, {"name": "pilots", "devices": ["a"]}],
        "full": {"static": {}, "gate": {"decidedPercent": "99.5"}},
    });
    let account = json!({"region": "cn-shanghai", "credentials": {"workloadIdentity": {"roleArn": "r", "oidcProviderArn": "p",
                         "duration": "1h"}}, "listLag": "1s", "replay": "Nonce", "signature": "V3"});
    [("FirmwareRollout", rollout), ("OTAAccount", account)]
        .map(|(kind, spec)| {
            json!({"apiVersion": "fota.dev/v1alpha1", "kind": kind, "metadata": {"name": "n", "namespace": "ns"}, "spec": spec})
        })
        .to_vec()
}

fn anything() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        "\\PC{0,10}".prop_map(Value::from),
        "[0-9]{0,8}(ms|s|m|h|d|%|[.][0-9]{0,4})?".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,12}", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

/// Replaces one value somewhere in a document.
fn replaced(document: &mut Value, path: &[prop::sample::Index], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *document = with.clone();
        return;
    };
    match document {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(first.index(fields.len())).cloned().unwrap();
            replaced(fields.get_mut(&name).unwrap(), rest, with);
        }
        Value::Array(list) if !list.is_empty() => {
            let at = first.index(list.len());
            replaced(&mut list[at], rest, with);
        }
        other => *other = with.clone(),
    }
}

fn taken<T: DeserializeOwned + Serialize>(document: &Value) {
    if let Ok(read) = serde_json::from_value::<T>(document.clone()) {
        let written = serde_json::to_value(&read).unwrap();
        let again = serde_json::from_value::<T>(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written, "{document}");
    }
}

proptest! {
    #[test]
    fn fuzz_manifests_with_one_value_replaced(which in 0_usize..2, path in prop::collection::vec(any::<prop::sample::Index>(), 1..6), with in anything()) {
        let mut document = whole().swap_remove(which);
        replaced(&mut document, &path, &with);
        taken::<FirmwareRollout>(&document);
        taken::<OTAAccount>(&document);
    }

    #[test]
    fn fuzz_manifests_as_text(text in "([a-zA-Z]{1,10}|spec|metadata|[:\\-{}\\[\\], \n'\"&*!|>#]|\\PC){0,60}") {
        let _ = serde_yaml::from_str::<FirmwareRollout>(&text);
        let _ = serde_yaml::from_str::<OTAAccount>(&text);
    }

    #[test]
    fn fuzz_percentages_and_durations(text in "\\PC{0,12}|[0-9.%]{0,10}|([0-9]{0,22}(ms|s|m|h|d)){0,4}") {
        if let Ok(percent) = Percent::parse(&text) {
            prop_assert_eq!(Percent::parse(&percent.to_string()), Ok(percent));
        }
        if let Ok(span) = Span::parse(&text) {
            let again = Span::parse(&span.to_string()).unwrap();
            prop_assert_eq!(again.length(), span.length());
        }
    }
}

#[test]
fn the_manifests_that_are_changed_are_good_ones() {
    let [rollout, account] = <[Value; 2]>::try_from(whole()).unwrap();
    serde_json::from_value::<FirmwareRollout>(rollout).unwrap();
    serde_json::from_value::<OTAAccount>(account).unwrap();
}
