//! Packages that are only the difference to one version: devices that are named must be at that version, and one that is
//! not is told before anything is created.

use fota::api::FirmwareRollout;
use fota::cloud::Fleet;
use serde_json::json;

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{PRODUCT, audit, manifest, switches};

fn fleet(module: &str) -> Fleet {
    let text = format!(
        r#"
accounts:
- {{accessKeyId: operator, accessKeySecret: secret}}
- {{accessKeyId: auditor, accessKeySecret: secret}}
products:
- productKey: {PRODUCT}
  groups:
  - {{prefix: dev-, count: 60, version: "1.0", modules: {{mcu: "1.0"}}, minutes: [2, 6]}}
  - {{prefix: old-, count: 90, version: "0.9", modules: {{mcu: "0.9"}}}}
  - {{names: [lab-1], version: "1.0", modules: {{mcu: "1.0"}}}}
  - {{names: [lab-2], version: "0.9", modules: {{mcu: "0.9"}}}}
firmware:
- {{id: delta, productKey: {PRODUCT}, version: "2.0", module: {module}, srcVersion: "1.0"}}
"#
    );
    Fleet::parse(&text).unwrap()
}

/// A verification on one device, a step of another, and everyone.
fn rollout(verify: &str, pilot: &str) -> FirmwareRollout {
    let mut rollout = manifest();
    let mut spec = serde_json::to_value(&rollout.spec).unwrap();
    let gate = json!({"matureAfter": "1m", "soak": "1m", "silentAfter": "30m", "minDecided": 1});
    spec["firmware"] = json!({"id": "delta"});
    spec["verify"] = json!({"devices": [verify]});
    spec["gray"] = json!([{"name": "pilots", "devices": [pilot], "gate": gate}]);
    spec["full"]["gate"] = gate;
    rollout.spec = serde_json::from_value(spec).unwrap();
    rollout
}

fn run(module: &str, verify: &str, pilot: &str) -> Run {
    let setting =
        Setting { fleet: fleet(module), seed: 2, switches: switches(), rollout: rollout(verify, pilot), speed: 60 };
    Run::new(setting)
}

#[test]
fn devices_at_its_source_version_are_taken() {
    for module in ["default", "mcu"] {
        let mut run = run(module, "lab-1", "dev-07");
        run.until_end();
        run.expect_completed();
        assert_eq!(audit::accepted(&run.state().cloud).len(), 3, "{module}");
    }
}

#[test]
fn a_device_at_another_version_is_told_and_the_stage_goes_on_when_it_is_mended() {
    for module in ["default", "mcu"] {
        for (verify, pilot, field) in
            [("lab-2", "dev-07", "spec.verify.devices"), ("lab-1", "lab-2", "spec.gray[pilots].devices")]
        {
            let mut run = run(module, verify, pilot);
            run.until("told", 300, |state| stalled(&state.status()).is_some());
            let (reason, message) = stalled(&run.status()).unwrap();
            assert_eq!(reason, "SourceVersionMismatch");
            assert!(message.contains("device lab-2") && message.contains("at version 0.9"), "{message}");
            assert!(message.contains(&format!("take it out of {field}, or bring it to 1.0 first")), "{message}");
            assert!(run.state().cloud.calls().iter().all(|c| c.code.is_none()), "nothing that is refused was sent");
            assert!(run.state().cloud.report(PRODUCT, "lab-2", module, "1.0"));
            run.until("going on", 100, |state| stalled(&state.status()).is_none());
            run.until_end();
            run.expect_completed();
        }
    }
}

#[test]
fn more_devices_at_another_version_than_are_read_at_once_are_told() {
    let mut run = run("default", "lab-1", "dev-07");
    run.state().edit(|r| {
        let step = r.spec.gray.as_mut().unwrap().first_mut().unwrap();
        step.devices = Some((0..90).map(|n| format!("old-{n:02}")).collect());
    });
    run.until("told", 300, |state| stalled(&state.status()).is_some());
    assert_eq!(stalled(&run.status()).unwrap().0, "SourceVersionMismatch");
}

#[test]
fn one_that_is_not_there_is_told_as_well() {
    let mut run = run("default", "lab-1", "nobody");
    run.until("told", 300, |state| stalled(&state.status()).is_some());
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!(reason, "SourceVersionMismatch");
    assert!(message.contains("device nobody of stage pilots is at no version that it told"), "{message}");
}
