//! Whether an account works, told on its own resource: its Secret is there, its host may be called, and the cloud
//! answers to its keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;
use tracing::{debug, warn};

use crate::api::account::TagEcho;
use crate::api::condition::{self, Condition};
use crate::api::{FIELD_MANAGER, OTAAccount, OTAAccountStatus, Time};
use crate::clock;
use crate::ota::Operation;
use crate::ota::calls::{self, CallContext};
use crate::ota::code;
use crate::rollout::observed::Trouble;

use super::accounts::API_TIMEOUT;
use super::cluster::{Cluster, timely};
use super::poll;
use super::usage;
use super::world::{Key, WriteError};

/// How often an account that works is asked again; one that does not, at every look.
const EVERY: Duration = Duration::from_secs(60);
/// How often accounts are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// One that does not work is asked again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// What was found the last time that an account was asked.
struct Asked {
    generation: Option<i64>,
    found: Result<String, Trouble>,
    since: Instant,
}

/// Runs until the process ends.
pub async fn run(kube: kube::Client, cluster: Arc<Cluster>) {
    let mut asked: BTreeMap<Key, Asked> = BTreeMap::new();
    let mut gains = cluster.leases().gains();
    loop {
        let accounts = cluster.accounts().all();
        let keys: Vec<Key> = accounts.iter().map(|a| Key::of(&**a)).collect();
        // Somebody else's account is somebody else's to judge; regained, it is judged anew.
        asked.retain(|key, _| keys.contains(key) && cluster.owns(key));
        for (account, key) in accounts.iter().zip(keys) {
            if !cluster.owns(&key) {
                continue;
            }
            let generation = account.metadata.generation;
            let fresh = asked.get(&key).filter(|a| {
                let life = if a.found.is_ok() { EVERY } else { AGAIN };
                a.generation == generation && clock::monotonic().duration_since(a.since) < life
            });
            let found = match fresh {
                Some(asked) => asked.found.clone(),
                None => {
                    let found = match (ask(&cluster, &key).await, asked.get(&key).map(|a| &a.found)) {
                        (Err(now), Some(Err(earlier))) if now.repeats(earlier) => Err(earlier.clone()),
                        (found, _) => found,
                    };
                    let since = clock::monotonic();
                    asked.insert(key, Asked { generation, found: found.clone(), since });
                    found
                }
            };
            let echo = found.as_ref().ok().and_then(|subject| cluster.accounts().echo(subject));
            let key = Key::of(&**account);
            let users = cluster.users(&key);
            if cluster.owns(&key) {
                tell(&kube, account, found, echo, usage::deleting(account, &users)).await;
            }
            if cluster.owns(&key) {
                cluster.mark(account, !users.is_empty()).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // The process ends when there is nobody left to tell.
            _ = gains.changed() => {}
        }
    }
}

/// The account's subject, if the cloud answers to its keys.
async fn ask(cluster: &Cluster, key: &Key) -> Result<String, Trouble> {
    let ready = cluster.accounts().ready(key).await?;
    let ctx = CallContext { instance_id: ready.account.instance_id.clone() };
    calls::probe(&*ready.client, &ctx).await.map_err(|error| {
        warn!(account = %key, request_id = error.request_id.as_deref(), %error, "a read failed");
        poll::trouble(&error)
    })?;
    match missing(&ready.client.forbidden()) {
        Some(trouble) => Err(trouble),
        None => Ok(ready.account.subject()),
    }
}

/// What the account's principal may not do, though its keys are good.
fn missing(forbidden: &[Operation]) -> Option<Trouble> {
    if forbidden.is_empty() {
        return None;
    }
    let actions: Vec<_> = forbidden.iter().map(|operation| format!("iot:{operation}")).collect();
    let message =
        format!("the cloud forbids {}: allow it in the RAM policy of the account's user or role", actions.join(", "));
    Some(Trouble { reason: code::ACTION_FORBIDDEN, message, stalled: true })
}

/// Our part of the status: what `fota doctor` found has another field manager, and is no business of ours. An apply
/// that carried it would make us its owner, and the next diagnosis could take nothing out of it.
fn ours(
    old: OTAAccountStatus,
    ready: Condition,
    echo: Option<TagEcho>,
    deleting: Option<Condition>,
) -> OTAAccountStatus {
    let mut new = OTAAccountStatus { observed_generation: ready.observed_generation, doctor: None, ..old };
    if let Some(echo) = echo
        && new.tag_echo.as_ref().is_none_or(|known| known.subject != echo.subject)
    {
        new.tag_echo = Some(echo);
    }
    condition::set(&mut new.conditions, ready);
    match deleting {
        Some(deleting) => condition::set(&mut new.conditions, deleting),
        None => new.conditions.retain(|c| c.kind != "Deleting"),
    }
    new
}

async fn tell(
    kube: &kube::Client,
    account: &OTAAccount,
    found: Result<String, Trouble>,
    echo: Option<TagEcho>,
    deleting: Option<Condition>,
) {
    let (holds, reason, message) = match found {
        Ok(_) => ("True", "CloudAnswers", "the cloud answers to these keys".to_owned()),
        Err(trouble) => ("False", trouble.reason, trouble.message),
    };
    let ready = Condition {
        kind: "Ready".to_owned(),
        status: holds.to_owned(),
        observed_generation: account.metadata.generation,
        last_transition_time: Time::whole_seconds(clock::wall()),
        reason: reason.to_owned(),
        message,
    };
    let old = OTAAccountStatus { doctor: None, ..account.status.clone().unwrap_or_default() };
    let new = ours(old.clone(), ready, echo, deleting);
    if old == new {
        return;
    }
    let key = Key::of(account);
    let body = json!({
        "apiVersion": OTAAccount::api_version(&()),
        "kind": OTAAccount::kind(&()),
        "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": account.metadata.resource_version},
        "status": new,
    });
    let api: Api<OTAAccount> = Api::namespaced(kube.clone(), &key.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match timely(API_TIMEOUT, api.patch_status(&key.name, &params, &Patch::Apply(&body))).await {
        Ok(_) => debug!(account = %key, reason, "account judged"),
        Err(WriteError::Conflict) => debug!(account = %key, "changed meanwhile: judged at the next look"),
        Err(error) => warn!(account = %key, %error, "the account's status could not be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(subject: &str, second: i64) -> TagEcho {
        let at = Time(jiff::Timestamp::from_second(second).unwrap());
        TagEcho { subject: subject.into(), operation: "QueryOTAJob".into(), at }
    }

    #[test]
    fn missing_permissions_are_named_as_actions() {
        assert_eq!(missing(&[]), None);
        let trouble = missing(&[Operation::QueryOTAJob, Operation::CancelOTATaskByJob]).unwrap();
        assert_eq!((trouble.reason, trouble.stalled), ("ActionForbidden", true));
        assert!(trouble.message.contains("iot:QueryOTAJob, iot:CancelOTATaskByJob"), "{}", trouble.message);
    }

    #[test]
    fn an_echo_is_told_once_and_kept_and_the_doctors_part_is_left_alone() {
        let ready = Condition {
            kind: "Ready".into(),
            status: "True".into(),
            observed_generation: Some(3),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            reason: "CloudAnswers".into(),
            message: String::new(),
        };
        let doctor: crate::api::account::Diagnosis =
            serde_json::from_value(json!({"subject": "s", "at": "2026-01-01T00:00:00Z"})).unwrap();
        let old = OTAAccountStatus { doctor: Some(doctor), ..OTAAccountStatus::default() };
        let first = ours(old, ready.clone(), Some(echo("s", 1)), None);
        assert_eq!((&first.tag_echo, &first.doctor), (&Some(echo("s", 1)), &None));
        assert_eq!(
            ours(first.clone(), ready.clone(), Some(echo("s", 2)), None),
            first,
            "of the same account once is enough"
        );
        assert_eq!(
            ours(first.clone(), ready.clone(), None, None),
            first,
            "forgotten by this process, not by the status"
        );
        let rotated = ours(first, ready, Some(echo("t", 2)), None);
        assert_eq!(rotated.tag_echo, Some(echo("t", 2)));
    }
}
