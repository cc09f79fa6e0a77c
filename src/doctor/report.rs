//! The words for a person, and the document for a machine. What is in them is decided elsewhere.

use std::fmt;

use serde::Serialize;

use crate::api::account::{Diagnosis, Holds};
use crate::api::{Replay, Span};
use crate::rollout::effective;

use super::seen::Spec;

/// What an examination ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `namespace/name`.
    pub account: String,
    /// What its spec says.
    pub spec: Spec,
    /// What was found, as it is kept.
    pub diagnosis: Diagnosis,
    /// What became of the verify job.
    pub verify_job: Option<String>,
}

/// A [`Report`] for a machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    account: &'a str,
    endpoint: &'a str,
    instance_id: Option<&'a str>,
    product_key: &'a str,
    holds: bool,
    in_force: InForce,
    verify_job: Option<&'a str>,
    diagnosis: &'a Diagnosis,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InForce {
    replay: Replay,
    list_lag: Span,
}

impl Report {
    /// Whether nothing was found that does not hold.
    pub fn holds(&self) -> bool {
        self.diagnosis.findings.iter().all(|finding| finding.holds != Holds::No)
    }

    /// What rollouts of the account go by from now on: the spec, else what was found, else the careful default.
    fn in_force(&self) -> InForce {
        let found = &self.diagnosis;
        let spec_lag = self.spec.list_lag.map(Span::from_duration);
        InForce {
            replay: self.spec.replay.or(found.replay).unwrap_or(Replay::Settle),
            list_lag: spec_lag.or(found.list_lag.clone()).unwrap_or_else(|| Span::from_duration(effective::LIST_LAG)),
        }
    }

    /// As one JSON document.
    pub fn json(&self) -> serde_json::Value {
        let document = Document {
            account: &self.account,
            endpoint: &self.spec.endpoint,
            instance_id: self.spec.instance_id.as_deref(),
            product_key: &self.spec.product_key,
            holds: self.holds(),
            in_force: self.in_force(),
            verify_job: self.verify_job.as_deref(),
            diagnosis: &self.diagnosis,
        };
        serde_json::to_value(document).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instance = self.spec.instance_id.as_deref().unwrap_or("none");
        writeln!(
            f,
            "OTAAccount {} at {}, instance {instance}, product {}\n",
            self.account, self.spec.endpoint, self.spec.product_key
        )?;
        let width = self.diagnosis.findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
        for finding in &self.diagnosis.findings {
            let holds = match finding.holds {
                Holds::Yes => "ok",
                Holds::No => "FAILS",
                Holds::Unknown => "unknown",
            };
            writeln!(f, "{holds:<7}  {:<width$}  {}", finding.name, finding.message)?;
        }
        let InForce { replay, list_lag } = self.in_force();
        let from = |spec: bool, found: bool| match (spec, found) {
            (true, _) => "its spec says so",
            (false, true) => "found out",
            (false, false) => "the default, as nothing was found out",
        };
        let replay_from = from(self.spec.replay.is_some(), self.diagnosis.replay.is_some());
        let lag_from = from(self.spec.list_lag.is_some(), self.diagnosis.list_lag.is_some());
        writeln!(
            f,
            "\nrollouts of this account go by replay {replay:?} ({replay_from}) and listLag {list_lag} ({lag_from})"
        )?;
        match &self.verify_job {
            Some(job) => writeln!(f, "{job}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use serde_json::json;

    fn report(spec: Spec) -> Report {
        let diagnosis = json!({"subject": "s", "at": "2026-01-01T00:00:00Z", "replay": "Nonce", "findings": [
            {"name": "Clock", "holds": "Yes", "message": "in step"},
            {"name": "NonceReplay", "holds": "Unknown", "message": "not tried"},
        ]});
        let diagnosis = serde_json::from_value(diagnosis).unwrap();
        Report { account: "ns/a".into(), spec, diagnosis, verify_job: None }
    }

    #[test]
    fn a_line_for_each_finding_and_what_is_in_force() {
        let mut report = report(Spec { endpoint: "https://e/".into(), product_key: "pk".into(), ..Spec::default() });
        assert_eq!(
            report.to_string(),
            "OTAAccount ns/a at https://e/, instance none, product pk\n\n\
             ok       Clock        in step\n\
             unknown  NonceReplay  not tried\n\n\
             rollouts of this account go by replay Nonce (found out) and listLag 30s (the default, as nothing was found out)\n"
        );
        assert!(report.holds());
        report.diagnosis.findings[0].holds = Holds::No;
        assert!(!report.holds() && report.to_string().contains("FAILS    Clock"));
    }

    #[test]
    fn the_spec_wins() {
        let spec = Spec { replay: Some(Replay::Settle), list_lag: Some(Duration::from_secs(7)), ..Spec::default() };
        let json = report(spec).json();
        assert_eq!(json["inForce"], json!({"replay": "Settle", "listLag": "7s"}));
        assert_eq!((&json["holds"], &json["diagnosis"]["replay"]), (&json!(true), &json!("Nonce")));
    }
}
