//! Whether an account works, told on its own resource: its Secret is there, its host may be called, and the cloud
//! answers to its keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;
use tracing::{debug, warn};

use crate::api::account::TagEcho;
use crate::api::condition;
use crate::api::{FIELD_MANAGER, OTAAccount, OTAAccountStatus};
use crate::clock;
use crate::ota::Operation;
use crate::ota::calls::{self, CallContext};
use crate::ota::code;
use crate::rollout::observed::Trouble;
use crate::rollout::story::{self, Kind};

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
                tell(&kube, account, &found, echo, &users).await;
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

/// An account's status, of which `fota doctor`'s findings are left out: they have another field manager. An apply that
/// carried them would make us their owner, and the next diagnosis could take nothing out of them.
///
/// `found` is what the cloud answered, `echo` whose tags this process saw, `users` the rollouts that hold the account.
pub fn judged(
    account: &OTAAccount,
    found: &Result<String, Trouble>,
    echo: Option<TagEcho>,
    users: &[String],
    now: Timestamp,
) -> OTAAccountStatus {
    let generation = account.metadata.generation;
    let mut new = OTAAccountStatus {
        observed_generation: generation,
        doctor: None,
        ..account.status.clone().unwrap_or_default()
    };
    if let Some(echo) = echo
        && new.tag_echo.as_ref().is_none_or(|known| known.subject != echo.subject)
    {
        new.tag_echo = Some(echo);
    }
    let (kind, reason, message) = match found {
        Ok(_) => (Kind::Ready, "CloudAnswers", "the cloud answers to these keys"),
        Err(trouble) => {
            (if trouble.stalled { Kind::Stalled } else { Kind::Waiting }, trouble.reason, trouble.message.as_str())
        }
    };
    for told in story::conditions(kind, reason, message, generation, now) {
        condition::set(&mut new.conditions, told);
    }
    match usage::deleting(account, users, now) {
        Some(deleting) => condition::set(&mut new.conditions, deleting),
        None => new.conditions.retain(|c| c.kind != "Deleting"),
    }
    new
}

async fn tell(
    kube: &kube::Client,
    account: &OTAAccount,
    found: &Result<String, Trouble>,
    echo: Option<TagEcho>,
    users: &[String],
) {
    let old = OTAAccountStatus { doctor: None, ..account.status.clone().unwrap_or_default() };
    let new = judged(account, found, echo, users, clock::wall());
    if old == new {
        return;
    }
    let reason = condition::find(&new.conditions, "Ready").map(|c| c.reason.as_str());
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
    use crate::api::Time;

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

    fn account(status: OTAAccountStatus, deleted: bool) -> OTAAccount {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount",
            "metadata": {"name": "a", "namespace": "n", "generation": 3, "deletionTimestamp": deleted},
            "spec": {"region": "r", "credentials": {"secretRef": {"name": "s"}}}, "status": status,
        }))
        .unwrap()
    }

    fn told(status: &OTAAccountStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{} {} {}", c.kind, c.status, c.reason)).collect()
    }

    #[test]
    fn an_account_that_needs_a_person_is_stalled_and_one_that_waits_is_not() {
        let now = Timestamp::UNIX_EPOCH;
        let trouble = |reason, stalled| Err(Trouble { reason, message: "why".into(), stalled });
        let new = account(OTAAccountStatus::default(), false);
        let waits = judged(&new, &trouble("SecretNotFound", false), None, &[], now);
        let words = ["Ready False SecretNotFound", "Reconciling True SecretNotFound", "Stalled False SecretNotFound"];
        assert_eq!((told(&waits), waits.observed_generation), (words.map(str::to_owned).to_vec(), Some(3)));
        let stuck = judged(&account(waits, false), &trouble("EndpointRefused", true), None, &[], now);
        let words =
            ["Ready False EndpointRefused", "Reconciling False EndpointRefused", "Stalled True EndpointRefused"];
        assert_eq!(told(&stuck), words);
        let good = judged(&account(stuck, false), &Ok("s".into()), None, &["held".into()], now);
        let words = ["Ready True CloudAnswers", "Reconciling False CloudAnswers", "Stalled False CloudAnswers"];
        assert_eq!(told(&good), words);
        let going = judged(&account(good, true), &Ok("s".into()), None, &["held".into()], now);
        assert_eq!(told(&going)[3], "Deleting True InUse");
        assert_eq!(told(&judged(&account(going, true), &Ok("s".into()), None, &[], now)), words);
    }

    #[test]
    fn an_echo_is_told_once_and_kept_and_the_doctors_part_is_left_alone() {
        let doctor: crate::api::account::Diagnosis =
            serde_json::from_value(json!({"subject": "s", "at": "2026-01-01T00:00:00Z"})).unwrap();
        let old = OTAAccountStatus { doctor: Some(doctor), ..OTAAccountStatus::default() };
        let judged = |old: &OTAAccountStatus, echo| {
            super::judged(&account(old.clone(), false), &Ok("s".into()), echo, &[], Timestamp::UNIX_EPOCH)
        };
        let first = judged(&old, Some(echo("s", 1)));
        assert_eq!((&first.tag_echo, &first.doctor), (&Some(echo("s", 1)), &None));
        assert_eq!(judged(&first, Some(echo("s", 2))), first, "of the same account once is enough");
        assert_eq!(judged(&first, None), first, "forgotten by this process, not by the status");
        assert_eq!(judged(&first, Some(echo("t", 2))).tag_echo, Some(echo("t", 2)));
    }
}
