//! Other people's policies: a younger one takes ours its devices, and a group's share their settings.

use fota::api::{FirmwareRollout, condition};
use fota::cloud::{Call, Fleet};
use fota::ota::{Operation, Params};
use serde_json::{Value, json};

use super::drive::{Run, stalled};
use super::world::{Setting, State};
use super::{BAD, OTHER, PRODUCT, audit, fleet, gated, switches};

/// Somebody else makes a policy.
fn policy(run: &Run, params: &[(&str, &str)]) -> String {
    let mut state = run.state();
    let clocks = state.clocks();
    let params: Params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let call = Call::unsigned("auditor", Operation::CreateOTADynamicUpgradeJob, &params, None);
    let body: Value = serde_json::from_str(&state.cloud.handle(&call, clocks).body).unwrap();
    body["Data"]["JobId"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

fn rollout(full: &Value) -> FirmwareRollout {
    let mut rollout = gated(OTHER, 5);
    rollout.spec.gray = None;
    let mut spec = serde_json::to_value(&rollout.spec).unwrap();
    for (field, value) in full.as_object().unwrap() {
        spec["full"][field] = value.clone();
    }
    spec["full"].as_object_mut().unwrap().remove("static");
    rollout.spec = serde_json::from_value(spec).unwrap();
    rollout
}

fn shadow(state: &State) -> Option<String> {
    condition::find(&state.status().conditions, "Shadowed").map(|c| c.message.clone())
}

#[test]
fn a_younger_policy_of_another_version_is_told_as_long_as_it_stands() {
    let rollout = rollout(&json!({"dynamic": {}}));
    let mut run = Run::new(Setting { fleet: fleet(100, 1.0, 0.0), seed: 5, switches: switches(), rollout, speed: 60 });
    run.until("standing", 600, |state| {
        condition::find(&state.status().conditions, "Ready").is_some_and(|c| c.reason == "DynamicActive")
    });
    assert_eq!(shadow(&run.state()), None);
    let base = [("ProductKey", PRODUCT), ("FirmwareId", BAD), ("SrcVersion.1", "1.0")];
    let theirs = policy(&run, &base);
    // They are listed once an hour.
    run.until("told", 800, |state| shadow(state).is_some());
    assert_eq!(
        shadow(&run.state()).unwrap(),
        format!(
            "policy {theirs} of version 2.1 is younger than this rollout's: devices that both cover are given that version"
        )
    );
    let ready = condition::find(&run.status().conditions, "Ready").unwrap().clone();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "DynamicActive"), "it is only told");
    {
        let mut state = run.state();
        let clocks = state.clocks();
        let params = Params::from([("JobId".to_owned(), theirs)]);
        state.cloud.handle(&Call::unsigned("auditor", Operation::CancelOTAStrategyByJob, &params, None), clocks);
    }
    run.until("no more told", 800, |state| shadow(state).is_none());
}

/// The same fleet, on an instance that has dynamic groups.
fn grouped() -> Fleet {
    let text = format!(
        r#"
accounts:
- {{accessKeyId: operator, accessKeySecret: secret, instanceId: iot-1}}
- {{accessKeyId: auditor, accessKeySecret: secret, instanceId: iot-1}}
products:
- productKey: {PRODUCT}
  platformGroups: [{{id: pilots, dynamic: true}}]
  groups:
  - {{prefix: dev-, count: 50, version: "1.0", memberOf: [pilots], minutes: [2, 6]}}
firmware:
- {{id: {OTHER}, productKey: {PRODUCT}, version: "3.0", needToVerify: false}}
- {{id: {BAD}, productKey: {PRODUCT}, version: "2.1", needToVerify: false}}
"#
    );
    Fleet::parse(&text).unwrap()
}

#[test]
fn a_groups_policy_with_other_settings_is_told_before_a_create() {
    let rollout = rollout(&json!({"dynamic": {"group": {"id": "pilots"}}}));
    let mut run = Run::new(Setting { fleet: grouped(), seed: 5, switches: switches(), rollout, speed: 60 });
    let account = run.state().account.clone().unwrap();
    let instance_id = Some("iot-1".to_owned());
    run.state().account = Ok(fota::rollout::observed::Account { instance_id, ..account });
    let group = [("IotInstanceId", "iot-1"), ("GroupId", "pilots"), ("GroupType", "LINK_PLATFORM_DYNAMIC")];
    let theirs =
        policy(&run, &[&group[..], &[("ProductKey", PRODUCT), ("FirmwareId", BAD), ("OverwriteMode", "2")]].concat());
    run.until("told", 100, |state| stalled(&state.status()).is_some());
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!(reason, "GroupPolicyDiffers");
    assert_eq!(
        message,
        format!(
            "group pilots has policy {theirs} already, and the cloud takes another one only with the same settings: write \
             overwrite: Pending and multiModule: false in full.delivery, or cancel that policy"
        )
    );
    assert_eq!(audit::creates(&run.state().cloud), []);
    run.state().edit(|r| {
        let full = r.spec.full.as_mut().unwrap();
        full.delivery.get_or_insert_default().overwrite = Some(fota::api::delivery::Overwrite::Pending);
    });
    run.until("standing", 600, |state| {
        condition::find(&state.status().conditions, "Ready").is_some_and(|c| c.reason == "DynamicActive")
    });
}
