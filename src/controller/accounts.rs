//! Accounts: from an `OTAAccount` and its keys to a client that may be called.
//!
//! What was read lives in `secrecy` types and is kept only briefly, so that a rotated key is used without a restart.
//! Where keys come from is `keys`' affair.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::account::{Edition, Holds, TagEcho, finding};
use crate::api::{OTAAccount, Replay, Signature, Span, Time};
use crate::clock;
use crate::ota::Operation;
use crate::ota::client::{Client, SharedQuota};
use crate::ota::credentials::Credentials;
use crate::ota::endpoint::{AllowedEndpoints, Endpoint};
use crate::ota::limits::Permit;
use crate::ota::quota::Quota;
use crate::rollout::effective;
use crate::rollout::observed::{Account, Trouble};
use crate::telemetry::Metrics;

use super::keys::Keys;
use super::lease::{Group, Leases};
use super::world::Key;

/// How long a Secret that was read is believed.
const SECRET_LIFE: Duration = Duration::from_secs(10);
/// How long it is believed whose the account is that a Secret belongs to. Whoever owns it reads it again much sooner.
const GROUP_LIFE: Duration = Duration::from_secs(60);
/// Longest wait for the API server.
pub const API_TIMEOUT: Duration = Duration::from_secs(15);

/// An account, ready to be called.
#[derive(Clone)]
pub struct Ready {
    /// What decisions need of it.
    pub account: Account,
    /// Who shares its quota and its owner.
    pub group: Group,
    /// Who calls it, as long as this process owns the group.
    pub client: Arc<Client>,
}

/// Every account of the cluster.
pub struct Accounts {
    kube: kube::Client,
    store: Store<OTAAccount>,
    keys: Keys,
    known: Mutex<BTreeMap<Key, Known>>,
    leases: Arc<Leases>,
    quotas: Mutex<BTreeMap<Group, SharedQuota>>,
    /// By subject: the first time that an account showed this process a tag of ours.
    echoes: Mutex<BTreeMap<String, TagEcho>>,
    metrics: Metrics,
}

struct Known {
    generation: Option<i64>,
    read: Instant,
    outcome: Result<Ready, Trouble>,
    /// The last that was found, also when there is trouble now: a Secret that is gone does not change whose account it is.
    group: Option<Group>,
}

pub(super) fn stalled(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: true }
}

pub(super) fn waiting(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: false }
}

impl Accounts {
    /// Accounts out of a store.
    pub fn new(
        kube: kube::Client,
        store: Store<OTAAccount>,
        keys: Keys,
        leases: Arc<Leases>,
        metrics: Metrics,
    ) -> Self {
        let (known, quotas, echoes) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { kube, store, keys, known, leases, quotas, echoes, metrics }
    }

    /// What this process owns.
    pub const fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// Hosts that may be called.
    pub const fn allowed(&self) -> &AllowedEndpoints {
        self.keys.allowed()
    }

    /// Waits until the store has every account.
    pub async fn filled(&self) {
        // An error means that the watch is gone, and the process with it.
        let _ = self.store.wait_until_ready().await;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who shares the account's quota and its owner; none: not known before its Secret was read.
    pub fn group(&self, key: &Key) -> Option<Group> {
        let Some(resource) = self.resource(key) else { return Some(Group::Unusable) };
        if let Some(name) = &resource.spec.quota_group {
            return Some(Group::Named(name.clone()));
        }
        self.known().get(key).map(|known| known.group.clone().unwrap_or(Group::Unusable))
    }

    /// Whether [`Accounts::ready`] has to be asked before the group can be told.
    pub fn group_is_stale(&self, key: &Key) -> bool {
        let Some(resource) = self.resource(key) else { return false };
        if resource.spec.quota_group.is_some() {
            return false;
        }
        self.known().get(key).is_none_or(|known| {
            let life = if known.group.is_some() { GROUP_LIFE } else { SECRET_LIFE };
            known.generation != resource.metadata.generation || clock::monotonic().duration_since(known.read) >= life
        })
    }

    /// All accounts there are.
    pub fn all(&self) -> Vec<Arc<OTAAccount>> {
        self.store.state()
    }

    /// The account's resource.
    pub fn resource(&self, key: &Key) -> Option<Arc<OTAAccount>> {
        self.store.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The account, ready to be called.
    ///
    /// # Errors
    /// AccountNotFound, SecretNotFound and what passes by itself wait; EndpointRefused and CredentialsInvalid, for
    /// example, need a person.
    pub async fn ready(&self, key: &Key) -> Result<Ready, Trouble> {
        let Some(resource) = self.resource(key) else {
            return Err(self.missing(key).await);
        };
        if let Some(known) = self.known().get(key)
            && known.generation == resource.metadata.generation
            && clock::monotonic().duration_since(known.read) < SECRET_LIFE
        {
            return known.outcome.clone().map(|ready| self.informed(ready, &resource));
        }
        let outcome = self.resolve(key, &resource).await;
        let mut all = self.known();
        let outcome = match (outcome, all.get(key).map(|k| &k.outcome)) {
            // The same keys for the same host: the client with its open connections stays.
            (Ok(new), Some(Ok(old))) if same(&new, old) => Ok(Ready { account: new.account, ..old.clone() }),
            // A Secret that cannot be read for a moment does not take a known account away.
            (Err(trouble), Some(Ok(old))) if trouble.reason == "SecretUnreadable" => Ok(old.clone()),
            (outcome, _) => outcome,
        };
        let generation = resource.metadata.generation;
        let last = all.get(key).and_then(|known| known.group.clone());
        let group = outcome.as_ref().ok().map(|ready| ready.group.clone()).or(last);
        all.insert(key.clone(), Known { generation, read: clock::monotonic(), outcome: outcome.clone(), group });
        outcome.map(|ready| self.informed(ready, &resource))
    }

    /// With what is known by now: findings reach the status without a new generation.
    fn informed(&self, ready: Ready, resource: &OTAAccount) -> Ready {
        let mut account = informed(ready.account, resource);
        account.tag_echoed |= self.echo(&account.subject()).is_some();
        Ready { account, ..ready }
    }

    /// A tag of ours was seen on a job of this account.
    pub fn echoed(&self, account: &Account, operation: Operation) {
        if account.tag_echoed {
            return;
        }
        let subject = account.subject();
        let mut echoes = self.echoes.lock().unwrap_or_else(PoisonError::into_inner);
        echoes.entry(subject.clone()).or_insert_with(|| TagEcho {
            subject,
            operation: operation.name().to_owned(),
            at: Time::whole_seconds(clock::wall()),
        });
    }

    /// What this process saw of a subject's tags.
    pub fn echo(&self, subject: &str) -> Option<TagEcho> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()
    }

    /// An account that the store lacks: it may be new, or the store is not filled yet. A rollout waits for the store also
    /// when the account exists, because the store is what tells which rollouts share a product.
    async fn missing(&self, key: &Key) -> Trouble {
        let accounts: Api<OTAAccount> = Api::namespaced(self.kube.clone(), &key.namespace);
        match tokio::time::timeout(API_TIMEOUT, accounts.get_opt(&key.name)).await {
            Ok(Ok(None)) => {
                let message = format!("there is no OTAAccount {} in namespace {}", key.name, key.namespace);
                waiting("AccountNotFound", message)
            }
            _ => waiting("ReadingAccount", format!("OTAAccount {} is being read", key.name)),
        }
    }

    async fn resolve(&self, key: &Key, resource: &OTAAccount) -> Result<Ready, Trouble> {
        let Resolved { account, endpoint, credentials } =
            resolve(&self.kube, &self.keys, &key.namespace, resource).await?;
        let group = match &resource.spec.quota_group {
            Some(name) => Group::Named(name.clone()),
            None => Group::Key(account.principal.clone()),
        };
        // Asked after every wait: a process that was stopped, or waited for its quota, may own the group no more.
        let (leases, owned) = (self.leases.clone(), group.clone());
        let permit = Permit::new(move |longest| leases.left(&owned).is_some_and(|left| left > longest));
        let client = Client::new(endpoint, credentials, self.quota(&group), self.leases.limits())
            .map_err(|error| stalled("ClientInvalid", error.to_string()))?;
        let client = Arc::new(client.signing(account.signature).permitted(permit).measured(self.metrics.clone()));
        Ok(Ready { account, group, client })
    }

    fn quota(&self, group: &Group) -> SharedQuota {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.entry(group.clone()).or_insert_with(|| Arc::new(Mutex::new(Quota::default()))).clone()
    }
}

fn same(a: &Ready, b: &Ready) -> bool {
    let (x, y) = (a.client.endpoint(), b.client.endpoint());
    a.group == b.group
        && x.url() == y.url()
        && x.region() == y.region()
        && a.client.signature() == b.client.signature()
        && a.client.credentials().same_as(b.client.credentials())
}

/// Where an account's calls go, and with which keys.
#[derive(Debug)]
pub struct Resolved {
    /// What decisions need of it.
    pub account: Account,
    /// The host, allowed.
    pub endpoint: Endpoint,
    /// The keys.
    pub credentials: Credentials,
}

/// Reads an account's keys and holds its endpoint against what the flags allow.
///
/// # Errors
/// See [`Keys::endpoint`] and [`Keys::read`].
pub async fn resolve(
    kube: &kube::Client,
    keys: &Keys,
    namespace: &str,
    resource: &OTAAccount,
) -> Result<Resolved, Trouble> {
    let endpoint = keys.endpoint(resource)?;
    let credentials = keys.read(kube, namespace, resource).await?;
    let account = Account {
        endpoint: endpoint.url().to_string(),
        region: endpoint.region().map(str::to_owned),
        instance_id: resource.spec.instance_id.clone(),
        access_key: credentials.digest(),
        principal: credentials.principal(),
        signature: signature(resource),
        list_lag: effective::LIST_LAG,
        replay: Replay::Settle,
        tag_echoed: false,
        unlisted: false,
        edition: resource.spec.api_edition.unwrap_or(Edition::Current),
    };
    Ok(Resolved { account: informed(account, resource), endpoint, credentials })
}

/// The operator's own identity goes to the vendor's hosts, which know V3; a Secret may be for any endpoint.
fn signature(resource: &OTAAccount) -> Signature {
    let by_source = if resource.spec.credentials.secret_ref.is_some() { Signature::V1 } else { Signature::V3 };
    resource.spec.signature.unwrap_or(by_source)
}

/// The account with what its spec says, else with what `fota doctor` found about the very same subject, else careful.
fn informed(account: Account, resource: &OTAAccount) -> Account {
    let subject = account.subject();
    let status = resource.status.as_ref();
    let doctor = status.and_then(|s| s.doctor.as_ref()).filter(|d| d.subject == subject);
    let shown = |name| doctor.is_some_and(|d| d.holds(name) == Holds::Yes);
    let echo = status.and_then(|s| s.tag_echo.as_ref()).is_some_and(|e| e.subject == subject);
    let lag = resource.spec.list_lag.as_ref().or(doctor.and_then(|d| d.list_lag.as_ref()));
    // A longer lag than doctor's guess is a person's word that by then every job is listed.
    let guessed = doctor.and_then(|d| d.list_lag.as_ref()).map(Span::length);
    let longer = resource.spec.list_lag.as_ref().is_some_and(|lag| Some(lag.length()) >= guessed);
    Account {
        unlisted: !longer && doctor.is_some_and(|d| d.holds(finding::LIST_LAG) == Holds::No),
        list_lag: lag.map_or(effective::LIST_LAG, Span::length),
        replay: resource.spec.replay.or(doctor.and_then(|d| d.replay)).unwrap_or(Replay::Settle),
        tag_echoed: echo || shown(finding::TAGS_QUERIED) || shown(finding::TAGS_LISTED),
        ..account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn account() -> Account {
        Account {
            endpoint: "https://e/".into(),
            region: None,
            instance_id: None,
            access_key: "k".into(),
            principal: "k".into(),
            signature: Signature::default(),
            list_lag: effective::LIST_LAG,
            replay: Replay::Settle,
            tag_echoed: false,
            unlisted: false,
            edition: Edition::Current,
        }
    }

    fn resource(spec: Value, status: Value) -> OTAAccount {
        let mut all = json!({"endpoint": "e", "credentials": {"secretRef": {"name": "s"}}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({"apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "a"},
                            "spec": all, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn diagnosis(subject: &str) -> Value {
        json!({"doctor": {"subject": subject, "at": "2026-01-01T00:00:00Z", "replay": "Nonce", "listLag": "3s",
               "findings": [{"name": "TagsQueried", "holds": "Unknown", "message": ""},
                            {"name": "TagsListed", "holds": "Yes", "message": ""}]}})
    }

    fn facts(spec: Value, status: Value) -> (Replay, u64, bool) {
        let account = informed(account(), &resource(spec, status));
        (account.replay, account.list_lag.as_secs(), account.tag_echoed)
    }

    #[test]
    fn an_sts_token_stays_out_of_urls_unless_the_spec_wants_v1() {
        let own = json!({"credentials": {"operator": {}}});
        assert_eq!(signature(&resource(json!({}), json!({}))), Signature::V1);
        assert_eq!(signature(&resource(own.clone(), json!({}))), Signature::V3);
        for (text, chosen) in [("V1", Signature::V1), ("V3", Signature::V3)] {
            assert_eq!(signature(&resource(json!({"signature": text}), json!({}))), chosen);
            let mut own = own.clone();
            own["signature"] = json!(text);
            assert_eq!(signature(&resource(own, json!({}))), chosen);
        }
    }

    #[test]
    fn what_nobody_knows_is_taken_carefully() {
        assert_eq!(facts(json!({}), json!({})), (Replay::Settle, 30, false));
    }

    #[test]
    fn the_spec_wins_over_the_doctor_and_the_doctor_over_the_default() {
        let found = diagnosis(&account().subject());
        assert_eq!(facts(json!({}), found.clone()), (Replay::Nonce, 3, true));
        let spec = json!({"replay": "Settle", "listLag": "7s"});
        assert_eq!(facts(spec, found), (Replay::Settle, 7, true));
    }

    #[test]
    fn findings_about_another_subject_prove_nothing() {
        assert_eq!(facts(json!({}), diagnosis("other")), (Replay::Settle, 30, false));
        let echo = |subject: &str| json!({"tagEcho": {"subject": subject, "operation": "QueryOTAJob", "at": "2026-01-01T00:00:00Z"}});
        assert_eq!(facts(json!({}), echo("other")), (Replay::Settle, 30, false));
        assert_eq!(facts(json!({}), echo(&account().subject())), (Replay::Settle, 30, true));
        let base = account().subject();
        for other in [
            Account { endpoint: "https://f/".into(), ..account() },
            Account { instance_id: Some("iot-1".into()), ..account() },
            Account { principal: "l".into(), ..account() },
        ] {
            assert_ne!(other.subject(), base);
        }
        assert!(base.len() <= 32);
    }
}
