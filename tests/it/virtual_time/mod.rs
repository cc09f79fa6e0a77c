//! The whole operator in virtual time: the real passes and polls over the pure cloud model and a simulated API server.
//!
//! Nothing here sleeps or reads a clock, so that days of rollouts take milliseconds and one seed means one history.

mod audit;
mod bad;
mod commands;
mod differential;
mod drive;
mod edits;
mod external;
mod good;
mod guards;
mod habits;
mod kinds;
mod lists;
mod lost;
mod mapping;
mod meanings;
mod owners;
mod refused;
mod restart;
mod shadowed;
mod standing;
mod started;
mod supersede;
mod world;

use fota::api::FirmwareRollout;
use fota::cloud::{Fleet, Switches};
use serde_json::{Value, json};

/// The product of every test.
pub const PRODUCT: &str = "pk";
/// A good package that needs verification.
pub const GOOD: &str = "good";
/// An exempt package, for a change of mind.
pub const OTHER: &str = "other";
/// A package whose failure rate the test sets.
pub const BAD: &str = "bad";
/// When a device counts as silent, in fleet minutes; every manifest here says so.
pub const SILENT_MINUTES: f64 = 30.0;

/// A fleet of so many devices, a share of them online, and three lab devices.
pub fn fleet(count: u32, online: f64, bad: f64) -> Fleet {
    let text = format!(
        r#"
accounts:
- {{accessKeyId: operator, accessKeySecret: secret}}
- {{accessKeyId: auditor, accessKeySecret: secret}}
products:
- productKey: {PRODUCT}
  groups:
  - {{prefix: dev-, count: {count}, version: "1.0", online: {online}, minutes: [2, 6], failureRate: 0.002, silentRate: 0.001}}
  - {{names: [lab-1, lab-2, lab-3], version: "1.0"}}
firmware:
- {{id: {GOOD}, productKey: {PRODUCT}, version: "2.0", needToVerify: true}}
- {{id: {OTHER}, productKey: {PRODUCT}, version: "3.0", needToVerify: false}}
- {{id: {BAD}, productKey: {PRODUCT}, version: "2.1", needToVerify: false, failureRate: {bad}}}
"#
    );
    Fleet::parse(&text).unwrap()
}

/// The model's conduct for big runs: unsigned, and without quotas, which one run of `good` has.
pub fn switches() -> Switches {
    Switches { unsigned: true, quotas: false, ..Switches::default() }
}

fn gate(limit: u32) -> Value {
    json!({"matureAfter": "10m", "soak": "5m", "silentAfter": "30m", "maxFailurePercent": limit})
}

/// The manifest of the good story: verify on three, gray 1, 10 and 50 %, then everyone.
pub fn manifest() -> FirmwareRollout {
    gated(GOOD, 5)
}

/// The same for another package, with a limit on failures at every gate.
pub fn gated(firmware: &str, limit: u32) -> FirmwareRollout {
    let step = |name: &str, percent: u32| json!({"name": name, "percent": percent, "gate": gate(limit)});
    let mut spec = json!({
        "accountRef": {"name": "account"},
        "productKey": PRODUCT,
        "firmware": {"id": firmware},
        "sourceVersions": ["1.0"],
        "gray": [step("canary", 1), step("pilots", 10), step("broad", 50)],
        "full": {"static": {}, "gate": gate(limit)},
    });
    if firmware == GOOD {
        spec["verify"] = json!({"devices": ["lab-1", "lab-2", "lab-3"]});
    }
    let object = json!({
        "apiVersion": "fota.dev/v1alpha1",
        "kind": "FirmwareRollout",
        "metadata": {
            "name": "thermostat", "namespace": "heating", "uid": "uid-1", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-03-01T00:00:00Z",
        },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}
