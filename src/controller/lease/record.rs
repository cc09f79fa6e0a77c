//! A Lease's object, as the election sees it and as it is written. What a record means never comes in here.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::election::{Draft, Record};

/// What the election needs of a Lease.
pub fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        // Some clients release with an empty name.
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: seconds.map(Duration::from_secs),
        acquired: spec.acquire_time.map(|t| t.0),
        renewed: spec.renew_time.map(|t| t.0),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

/// The Lease that a draft makes: of the one that it replaces, with everything on it that is not the election's.
pub fn object(name: &str, last: Option<&Lease>, draft: &Draft) -> Lease {
    let last = last.filter(|l| draft.replaces.is_some() && l.metadata.resource_version == draft.replaces);
    let mut lease = last.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "fota".to_owned())])),
            // Of the version that is replaced, or none: a create.
            resource_version: draft.replaces.clone(),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.managed_fields = None;
    lease.spec = Some(LeaseSpec {
        holder_identity: draft.holder.clone(),
        lease_duration_seconds: Some(draft.seconds),
        acquire_time: draft.acquired.map(MicroTime),
        renew_time: Some(MicroTime(draft.renewed)),
        lease_transitions: Some(draft.transitions),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_replaces_what_is_the_elections_and_nothing_else() {
        let draft = |replaces: Option<&str>, holder: Option<&str>| Draft {
            replaces: replaces.map(str::to_owned),
            holder: holder.map(str::to_owned),
            seconds: 15,
            acquired: "2026-01-02T03:04:05.678901Z".parse().ok(),
            renewed: "2026-01-02T03:04:06.678901Z".parse().unwrap(),
            transitions: 3,
        };
        let mut lease = object("fota-group-a", None, &draft(None, Some("me")));
        assert_eq!((lease.metadata.name.as_deref(), &lease.metadata.resource_version), (Some("fota-group-a"), &None));
        lease.metadata.resource_version = Some("7".to_owned());
        lease.metadata.annotations = Some(BTreeMap::from([("note".to_owned(), "kept".to_owned())]));
        let released = object("fota-group-a", Some(&lease), &draft(Some("7"), None));
        assert_eq!(released.metadata, lease.metadata);
        let json = serde_json::to_value(&released).unwrap();
        assert!(json["spec"].get("holderIdentity").is_none(), "an empty one is refused by the API server: {json}");
        let read = record(&serde_json::from_value(json).unwrap());
        let expected = draft(Some("7"), None);
        assert_eq!((read.holder, read.duration), (None, Some(Duration::from_secs(15))));
        assert_eq!((read.acquired, read.renewed), (expected.acquired, Some(expected.renewed)), "to the microsecond");
        assert_eq!((read.version.as_str(), read.transitions), ("7", 3));
        // Of another version than the one that we have: still only that one is replaced.
        let other = object("fota-group-a", Some(&lease), &draft(Some("8"), None));
        assert_eq!(other.metadata.resource_version.as_deref(), Some("8"));
    }
}
