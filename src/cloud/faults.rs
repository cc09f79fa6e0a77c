//! Faults that can be switched on while the simulated cloud runs.
//!
//! Here belong the rates and their bounds. When a fault strikes is decided in [`super::model`], by the seed.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// What goes wrong at present. Rates are shares, 0..1.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Faults {
    /// Answers 503 or 500 before any work is done.
    pub error_rate: f64,
    /// Work that is done but never answered: the connection is dropped.
    pub lost_reply_rate: f64,
    /// Every answer waits this long after the work, in wall milliseconds.
    pub latency_ms: u64,
    /// Calls refused with `Throttling.User` without work.
    pub throttle_rate: f64,
    /// A new job is missing from ListOTAJobByFirmware for this long, in wall milliseconds.
    pub list_lag_ms: u64,
    /// In place of every device's own failure rate, for tasks pushed from now on; null leaves them alone.
    pub failure_rate: Option<f64>,
    /// In place of every device's own silent rate, for tasks pushed from now on; null leaves them alone.
    pub silent_rate: Option<f64>,
}

/// A change of some faults: fields that are absent stay as they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultsPatch {
    error_rate: Option<f64>,
    lost_reply_rate: Option<f64>,
    latency_ms: Option<u64>,
    throttle_rate: Option<f64>,
    list_lag_ms: Option<u64>,
    #[serde(deserialize_with = "given")]
    failure_rate: Option<Option<f64>>,
    #[serde(deserialize_with = "given")]
    silent_rate: Option<Option<f64>>,
}

/// A faults file: faults, and under `switches` conduct that differs from the fleet file's. Says what it cannot read.
pub fn parse(text: &str) -> Result<(FaultsPatch, Map<String, Value>), String> {
    let mut all: Map<String, Value> = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    let switches = match all.remove("switches") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(switches)) => switches,
        Some(_) => return Err("switches: must be a map".to_owned()),
    };
    let faults = serde_json::from_value(Value::Object(all)).map_err(|e| e.to_string())?;
    Ok((faults, switches))
}

/// Tells `null` (back to the devices' own rates) from an absent field (unchanged).
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Faults {
    /// Applies a change, all of it or, when a rate is out of bounds, none of it.
    pub fn apply(&mut self, patch: &FaultsPatch) -> Result<(), String> {
        let mut next = self.clone();
        for (name, from, to) in [
            ("errorRate", patch.error_rate, &mut next.error_rate),
            ("lostReplyRate", patch.lost_reply_rate, &mut next.lost_reply_rate),
            ("throttleRate", patch.throttle_rate, &mut next.throttle_rate),
        ] {
            if let Some(rate) = from {
                *to = share(name, rate)?;
            }
        }
        for (name, from, to) in [
            ("failureRate", patch.failure_rate, &mut next.failure_rate),
            ("silentRate", patch.silent_rate, &mut next.silent_rate),
        ] {
            if let Some(rate) = from {
                *to = rate.map(|rate| share(name, rate)).transpose()?;
            }
        }
        next.latency_ms = patch.latency_ms.unwrap_or(next.latency_ms);
        next.list_lag_ms = patch.list_lag_ms.unwrap_or(next.list_lag_ms);
        *self = next;
        Ok(())
    }
}

fn share(name: &str, rate: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&rate) { Ok(rate) } else { Err(format!("{name}: must be between 0 and 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(text: &str) -> FaultsPatch {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut faults = Faults::default();
        faults.apply(&patch(r#"{"errorRate": 0.5, "latencyMs": 20, "failureRate": 1}"#)).unwrap();
        faults.apply(&patch(r#"{"listLagMs": 7}"#)).unwrap();
        let expected =
            Faults { error_rate: 0.5, latency_ms: 20, failure_rate: Some(1.0), list_lag_ms: 7, ..Faults::default() };
        assert_eq!(faults, expected);
        faults.apply(&patch(r#"{"failureRate": null}"#)).unwrap();
        assert_eq!(faults.failure_rate, None);
    }

    #[test]
    fn a_rate_out_of_bounds_changes_nothing() {
        for field in ["errorRate", "lostReplyRate", "throttleRate", "failureRate", "silentRate"] {
            let mut faults = Faults::default();
            let error = faults.apply(&patch(&format!(r#"{{"latencyMs": 5, "{field}": 1.1}}"#))).unwrap_err();
            assert!(error.starts_with(field), "{error}");
            assert_eq!(faults, Faults::default());
        }
        assert!(serde_json::from_str::<FaultsPatch>(r#"{"errorrate": 1}"#).is_err());
    }
}
