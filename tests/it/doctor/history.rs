//! What earlier jobs of the account show.

use std::sync::{Arc, Mutex};

use fota::api::Signature;
use fota::ota::calls::{self, CallContext};
use fota::ota::client::{Client, fresh_nonce};
use fota::ota::limits::Limits;
use fota::ota::quota::Quota;
use fota::ota::{AllowedEndpoints, Credentials, Operation, Outcome, Request, Stamp};
use serde_json::json;

use super::bench::{Bench, LIMIT, PRODUCT, SECRET};
use crate::harness::wait::until_true;

/// Somebody makes the `number`th job, a gray one of half of the devices, with a tag as rollouts make it; and the devices
/// take it.
fn gray_job(bench: &Bench, tag: &str, number: usize) {
    let parameters = [
        ("FirmwareId", "fw-5"),
        ("ProductKey", PRODUCT),
        ("TargetSelection", "GRAY"),
        ("GrayPercent", "50"),
        ("SrcVersion.1", "3.2.0"),
        ("Tag.1.Key", "fota.id"),
        ("Tag.1.Value", tag),
    ];
    let own = parameters.map(|(name, value)| (name, value.to_owned()));
    let request = CallContext::default().request(Operation::CreateOTAStaticUpgradeJob, own);
    // reqwest takes the provider of whoever installed one first; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = bench.runtime.block_on(async {
        let endpoint = AllowedEndpoints::new(["*.aliyuncs.com"], true).unwrap().endpoint(&bench.address).unwrap();
        let keys = Credentials::new("testAccessKeyId", SECRET.into(), None);
        let client = Client::new(endpoint, keys, Arc::new(Mutex::new(Quota::default())), Limits::default()).unwrap();
        let (sender, signature) = (client.sender(), Signature::V1);
        let stamp = Some(Stamp { nonce: fresh_nonce(), at: jiff::Timestamp::now(), sender, signature });
        let request = Request { stamp, ..request };
        calls::create(&client, &request).await
    });
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    let done = || {
        let jobs = bench.jobs();
        let newest = &jobs[number];
        newest.counts.get("SUCCEEDED").copied().unwrap_or_default() == newest.counts.values().sum::<usize>()
    };
    until_true("the devices take it", LIMIT, done).unwrap();
}

#[test]
fn the_gray_base_and_the_tags_are_told_from_the_jobs_that_there_are() {
    for (base, holds, says) in [("eligible", "Yes", "eligible then"), ("fleet", "No", "write them as device names")] {
        let bench = Bench::switched("doctor-gray", json!({"grayBase": base}));
        gray_job(&bench, "aaaaaaaaaaaaaaaaaaaaaaaaaa", 0);
        gray_job(&bench, "bbbbbbbbbbbbbbbbbbbbbbbbbb", 1);
        let outcome = bench.doctor(&[]);
        outcome.assert_finding("GrayBase", holds, says);
        outcome.assert_finding("TagsListed", "Yes", "");
        outcome.assert_finding("TagsQueried", "Yes", "");
        outcome.assert_finding("ListLag", "Unknown", "--lab-device");
        assert_eq!((bench.jobs().len(), bench.as_taken().tag_echoed), (2, true), "by reading alone");
    }
}

#[test]
fn a_list_without_tags_is_seen_by_asking_for_a_job() {
    let bench = Bench::switched("doctor-untagged", json!({"tagsListed": false}));
    gray_job(&bench, "aaaaaaaaaaaaaaaaaaaaaaaaaa", 0);
    let outcome = bench.doctor(&[]);
    outcome.assert_finding("TagsListed", "No", "one by one");
    outcome.assert_finding("TagsQueried", "Yes", "");
    assert!(bench.as_taken().tag_echoed);
}
