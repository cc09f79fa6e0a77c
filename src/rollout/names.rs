//! Lists of device names that a step takes from elsewhere: when they are needed, and what a text of them says. Reading
//! them never comes in.

use std::collections::BTreeSet;

use crate::api::rollout::DevicesFrom;
use crate::api::{FirmwareRollout, FirmwareRolloutSpec, FirmwareRolloutStatus, VERIFY};
use crate::ota::id::MOST_LISTED;

use super::stage;

/// Longest device name, as `devices` takes it.
const LONGEST: usize = 64;

/// The list that the next decision needs: that of the claimed step, or of the step that comes next.
pub fn wanted(rollout: &FirmwareRollout) -> Option<&DevicesFrom> {
    let steps = rollout.spec.gray.as_deref().unwrap_or_default();
    if steps.iter().all(|step| step.devices_from.is_none()) {
        return None;
    }
    let name = stage::upcoming(&rollout.spec, rollout.status.as_ref()?)?;
    steps.iter().find(|step| step.name == name)?.devices_from.as_ref()
}

/// The devices that are named in the spec for the stage that comes next: a package that is only the difference to one
/// version is for devices at that version.
pub fn named<'a>(spec: &'a FirmwareRolloutSpec, status: &'a FirmwareRolloutStatus) -> &'a [String] {
    let step = |name: &str| spec.gray.iter().flatten().find(|step| step.name == name)?.devices.as_deref();
    let named = match stage::upcoming(spec, status) {
        Some(VERIFY) => spec.verify.as_ref().map(|verify| verify.devices.as_slice()),
        Some(name) => step(name),
        None => None,
    };
    named.unwrap_or_default()
}

/// The names in a text, one a line, sorted.
///
/// # Errors
/// What is wrong and in which line, for a person: no name, too many, a name twice, one that cannot be a name.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines().map(str::trim));
    let mut names = BTreeSet::new();
    for (number, name) in lines.filter(|(_, name)| !name.is_empty()) {
        if name.chars().count() > LONGEST || name.contains([',', ';', '"', '\'', ' ', '\t']) {
            let shown: String = name.chars().take(LONGEST).collect();
            return Err(format!("line {number} is no device name ({shown:?}): write one name a line and nothing else"));
        }
        if !names.insert(name.to_owned()) {
            return Err(format!("device {name} stands there twice (again in line {number})"));
        }
        if names.len() > MOST_LISTED {
            return Err(format!(
                "it has more than {MOST_LISTED} names: make two steps of them, each with a key of its own"
            ));
        }
    }
    if names.is_empty() { Err("it holds no device name".to_owned()) } else { Ok(names.into_iter().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rollout(status: &Value) -> FirmwareRollout {
        let from = |key| json!({"configMapKeyRef": {"name": "sites", "key": key}});
        serde_json::from_value(json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout", "metadata": {"name": "r"},
            "spec": {
                "accountRef": {"name": "a"}, "productKey": "p", "firmware": {"id": "f"}, "sourceVersions": ["1"],
                "verify": {"devices": ["lab"]},
                "gray": [{"name": "a", "devicesFrom": from("a")}, {"name": "b", "percent": 5},
                         {"name": "c", "devicesFrom": from("c")}],
            },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_list_is_read_when_its_step_comes_next_and_while_it_is_claimed() {
        let stages = |all: &[(&str, &str)]| {
            let stages = all.iter().map(|(name, state)| {
                let kind = if *name == "verify" { "Verify" } else { "Devices" };
                json!({"name": name, "kind": kind, "state": state, "attempt": 1})
            });
            json!({"run": 1, "stages": stages.collect::<Vec<_>>()})
        };
        let key = |status: &Value| wanted(&rollout(status)).map(|from| from.config_map_key_ref.key.clone());
        let passed = |more: &[(&str, &str)]| key(&stages(&[&[("verify", "Passed")], more].concat()));
        assert_eq!(key(&json!({})), None);
        assert_eq!(key(&stages(&[("verify", "Pending")])), None);
        assert_eq!(key(&stages(&[("verify", "Running")])), None);
        let object = rollout(&stages(&[("verify", "Pending")]));
        assert_eq!(named(&object.spec, object.status.as_ref().unwrap()), ["lab"]);
        assert_eq!(passed(&[]).as_deref(), Some("a"));
        assert_eq!(passed(&[("a", "Pending")]).as_deref(), Some("a"));
        assert_eq!(passed(&[("a", "Running")]), None);
        assert_eq!(passed(&[("a", "Passed")]), None, "b takes a share");
        assert_eq!(passed(&[("a", "Passed"), ("b", "Passed")]).as_deref(), Some("c"));
        let mut claimed = stages(&[("verify", "Passed"), ("a", "Claimed")]);
        claimed["claim"] = json!({
            "run": 1, "stage": "a", "attempt": 1, "part": 1, "epoch": 1, "at": "2026-01-01T00:00:00Z", "token": "t",
            "call": {"operation": "o", "parameters": {}, "firmwareId": "f", "endpoint": "e", "accessKey": "k"},
        });
        assert_eq!(key(&claimed).as_deref(), Some("a"));
    }

    #[test]
    fn a_text_has_one_name_a_line() {
        let parsed = |text: &str| parse(text).map(|names| names.join(" "));
        assert_eq!(parsed("\u{feff}b\r\n\n  a \nc"), Ok("a b c".to_owned()));
        for (text, told) in [
            ("", "it holds no device name"),
            ("\n \n", "it holds no device name"),
            ("a\nb,c\n", "line 2 is no device name (\"b,c\"): write one name a line and nothing else"),
            ("a b", "line 1 is no device name (\"a b\"): write one name a line and nothing else"),
            ("a\nb\n\na\n", "device a stands there twice (again in line 4)"),
        ] {
            assert_eq!(parsed(text), Err(told.to_owned()), "{text:?}");
        }
        assert!(parsed(&"x".repeat(65)).is_err() && parsed(&"x".repeat(64)).is_ok());
        let many = |n: usize| (0..n).map(|n| format!("d{n}\n")).collect::<String>();
        assert_eq!(parse(&many(10_000)).unwrap().len(), 10_000);
        assert_eq!(
            parse(&many(10_001)).unwrap_err(),
            "it has more than 10000 names: make two steps of them, each with a key of its own"
        );
    }
}
