//! What the cloud would refuse and the API server cannot know: rules that need the account's edition, its region, or the
//! package. Checked before a claim is made, so that a call which must fail is never sent.
//!
//! What the manifest alone shows is refused by schema and CEL (`api`); it never comes in here.

use crate::api::account::Edition;
use crate::api::delivery::Protocol;
use crate::ota::firmware::Firmware;

use super::call::takes_sources;
use super::observed::Account;
use super::stage::Stage;

/// The longest value of a tag in the older edition (ota-api: section 5.1).
const LEGACY_TAG: usize = 128;
/// The highest rate in the older edition (5.2).
const LEGACY_RATE: i32 = 1_000;
/// The largest package that is downloaded over MQTT, in bytes (5.4).
const MQTT_BYTES: u64 = 16 * 1024 * 1024;
/// The region with dynamic groups (section 4).
const DYNAMIC_GROUP_REGION: &str = "cn-shanghai";
/// Regions with downloads over MQTT (5.4, the newer pages).
const MQTT_REGIONS: [&str; 3] = ["cn-shanghai", "cn-beijing", "cn-shenzhen"];

/// What stands in the way of a stage: one word and one sentence that says what to write instead.
pub type Obstacle = (&'static str, String);

/// The first obstacle, if any. `sources` are the run's source versions; none: any.
pub fn obstacle(sources: &[String], stage: &Stage, account: &Account, firmware: &Firmware) -> Option<Obstacle> {
    let checks = [edition, destination, differential, mqtt, multi_module, dynamic_group];
    checks.iter().find_map(|check| check(sources, stage, account, firmware))
}

fn edition(sources: &[String], stage: &Stage, account: &Account, _: &Firmware) -> Option<Obstacle> {
    if account.edition == Edition::Current {
        return None;
    }
    let told = |what: String| Some(("EditionRefuses", format!("the account's apiEdition is Legacy: {what}")));
    let name = &stage.name;
    if let Some(rate) = stage.delivery.maximum_per_minute.filter(|rate| *rate > LEGACY_RATE) {
        return told(format!("maximumPerMinute of stage {name} is {rate}; write at most {LEGACY_RATE}"));
    }
    if let Some((key, _)) = stage.delivery.tags.iter().flatten().find(|(_, v)| v.chars().count() > LEGACY_TAG) {
        return told(format!("the value of tag {key} is longer than {LEGACY_TAG} characters; shorten it"));
    }
    if takes_sources(stage) && sources.is_empty() {
        return told(
            "it takes no jobs for any source version; write sourceVersions instead of anySourceVersion".into(),
        );
    }
    None
}

/// The versions that are upgraded from and the one that is brought differ (ota-api: section 8.2, `SrcDestVersionMatched`).
fn destination(sources: &[String], stage: &Stage, _: &Account, firmware: &Firmware) -> Option<Obstacle> {
    (takes_sources(stage) && sources.contains(&firmware.version)).then(|| {
        let because = format!(
            "package {} brings version {}, which sourceVersions has as well, and devices at that version have it already: \
             take it out",
            firmware.id, firmware.version
        );
        ("SourceVersionMismatch", because)
    })
}

/// A differential package is for devices of one version (ota-api: section 3).
fn differential(sources: &[String], stage: &Stage, _: &Account, firmware: &Firmware) -> Option<Obstacle> {
    let for_version = firmware.src_version.as_ref().filter(|_| firmware.differential)?;
    if !takes_sources(stage) || sources == [for_version.clone()] {
        return None;
    }
    let because = format!(
        "package {} holds only the difference to version {for_version}: write sourceVersions: [\"{for_version}\"]",
        firmware.id
    );
    Some(("SourceVersionMismatch", because))
}

fn mqtt(_: &[String], stage: &Stage, account: &Account, firmware: &Firmware) -> Option<Obstacle> {
    if stage.delivery.protocol != Some(Protocol::Mqtt) {
        return None;
    }
    let what = if firmware.files.is_some_and(|files| files > 1) {
        format!("and package {} has several", firmware.id)
    } else if firmware.size.is_some_and(|bytes| bytes > MQTT_BYTES) {
        format!("of at most 16 MB, and package {} is larger", firmware.id)
    } else {
        let region = account.region.as_deref().filter(|region| !MQTT_REGIONS.contains(region))?;
        format!("in {}, and the account is in {region}", MQTT_REGIONS.join(", "))
    };
    Some(("ProtocolRefused", format!("protocol: MQTT takes packages of one file {what}; write protocol: HTTPS")))
}

fn multi_module(_: &[String], stage: &Stage, account: &Account, _: &Firmware) -> Option<Obstacle> {
    (stage.delivery.multi_module == Some(true) && account.instance_id.is_none()).then(|| {
        let because = "multiModule: true is for instances with an ID: give the OTAAccount's instanceId, or leave \
                       multiModule out";
        ("InstanceRequired", because.to_owned())
    })
}

fn dynamic_group(_: &[String], stage: &Stage, account: &Account, _: &Firmware) -> Option<Obstacle> {
    stage.target.policy.as_ref().and(stage.target.group.as_ref())?;
    let elsewhere = account.region.as_deref().filter(|region| *region != DYNAMIC_GROUP_REGION);
    let why = match (elsewhere, &account.instance_id) {
        (Some(region), _) => format!("in region {DYNAMIC_GROUP_REGION}, and the account is in {region}"),
        (None, None) => "on instances with an ID: give the OTAAccount's instanceId".to_owned(),
        (None, Some(_)) => return None,
    };
    Some(("GroupRefused", format!("dynamic groups are served only {why}, or write full.dynamic without group")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{FirmwareRolloutSpec, Replay, Signature};
    use crate::ota::firmware::FirmwareStatus;
    use crate::ota::id::FirmwareId;
    use crate::rollout::stage::plan;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn account() -> Account {
        Account {
            endpoint: "https://e/".into(),
            region: Some("cn-shanghai".into()),
            instance_id: None,
            access_key: "k".into(),
            list_lag: Duration::ZERO,
            replay: Replay::Settle,
            tag_echoed: true,
            unlisted: false,
            edition: Edition::Current,
            principal: "k".into(),
            signature: Signature::V1,
        }
    }

    fn package() -> Firmware {
        Firmware {
            id: FirmwareId::new("f"),
            name: String::new(),
            version: "2".into(),
            src_version: None,
            differential: false,
            module: None,
            product_key: None,
            status: FirmwareStatus::Verified,
            verify_progress: None,
            files: Some(1),
            size: Some(1),
        }
    }

    /// The obstacle of each stage, by name.
    fn obstacles(changes: &Value, account: &Account, firmware: &Firmware) -> Vec<(String, &'static str)> {
        let mut spec = json!({
            "accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "sourceVersions": ["1"],
            "verify": {"devices": ["d"]}, "gray": [{"name": "named", "devices": ["d"]}, {"name": "share", "percent": 1}],
            "full": {"static": {}},
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let spec: FirmwareRolloutSpec = serde_json::from_value(spec).unwrap();
        let sources = spec.source_versions.as_deref().unwrap_or_default();
        let found = |stage: &Stage| Some((stage.name.clone(), obstacle(sources, stage, account, firmware)?.0));
        plan(&spec).iter().filter_map(found).collect()
    }

    fn of(names: &[&str], reason: &'static str) -> Vec<(String, &'static str)> {
        names.iter().map(|name| ((*name).to_owned(), reason)).collect()
    }

    const UPGRADES: [&str; 3] = ["named", "share", "full"];
    const EVERY: [&str; 4] = ["verify", "named", "share", "full"];

    #[test]
    fn the_older_edition_takes_less() {
        let legacy = Account { edition: Edition::Legacy, ..account() };
        let fast = json!({"delivery": {"maximumPerMinute": 1001}});
        let tag = |length| json!({"delivery": {"tags": {"k": "ü".repeat(length)}}});
        let any = json!({"sourceVersions": null, "anySourceVersion": true});
        for (changes, stages) in [
            (json!({}), &[][..]),
            (json!({"delivery": {"maximumPerMinute": 1000}}), &[]),
            (fast, &UPGRADES),
            (tag(128), &[]),
            (tag(129), &EVERY),
            (any, &["share", "full"]),
        ] {
            assert_eq!(obstacles(&changes, &legacy, &package()), of(stages, "EditionRefuses"), "{changes}");
            assert_eq!(obstacles(&changes, &account(), &package()), [], "{changes}");
        }
    }

    #[test]
    fn a_version_is_not_upgraded_to_itself() {
        let package = Firmware { version: "1".into(), ..package() };
        let expected = of(&["share", "full"], "SourceVersionMismatch");
        assert_eq!(obstacles(&json!({}), &account(), &package), expected);
        assert_eq!(obstacles(&json!({"sourceVersions": ["0"]}), &account(), &package), []);
    }

    #[test]
    fn a_differential_package_is_for_its_source_version_alone() {
        let package = Firmware { differential: true, src_version: Some("1".into()), ..package() };
        assert_eq!(obstacles(&json!({}), &account(), &package), []);
        for changes in [
            json!({"sourceVersions": ["1", "0"]}),
            json!({"sourceVersions": ["0"]}),
            json!({"sourceVersions": null, "anySourceVersion": true}),
        ] {
            let expected = of(&["share", "full"], "SourceVersionMismatch");
            assert_eq!(obstacles(&changes, &account(), &package), expected, "{changes}");
        }
    }

    #[test]
    fn mqtt_is_for_small_single_files_in_some_regions() {
        let mqtt = json!({"delivery": {"protocol": "MQTT"}});
        let refused = of(&EVERY, "ProtocolRefused");
        assert_eq!(obstacles(&mqtt, &account(), &package()), []);
        assert_eq!(obstacles(&mqtt, &account(), &Firmware { size: Some(MQTT_BYTES), ..package() }), []);
        assert_eq!(obstacles(&mqtt, &account(), &Firmware { size: Some(MQTT_BYTES + 1), ..package() }), refused);
        assert_eq!(obstacles(&mqtt, &account(), &Firmware { files: Some(2), ..package() }), refused);
        let elsewhere = Account { region: Some("eu-central-1".into()), ..account() };
        assert_eq!(obstacles(&mqtt, &elsewhere, &package()), refused);
        assert_eq!(obstacles(&json!({}), &elsewhere, &package()), []);
        let unknown = Account { region: None, ..account() };
        assert_eq!(obstacles(&mqtt, &unknown, &package()), [], "another vendor's host: the cloud will say");
    }

    #[test]
    fn several_modules_at_once_need_an_instance() {
        let several = json!({"delivery": {"multiModule": true}});
        assert_eq!(obstacles(&several, &account(), &package()), of(&UPGRADES, "InstanceRequired"));
        let instance = Account { instance_id: Some("iot-1".into()), ..account() };
        assert_eq!(obstacles(&several, &instance, &package()), []);
    }
}
