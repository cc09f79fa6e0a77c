//! Accounts: from an `OTAAccount` and its Secret to a client that may be called.
//!
//! Secrets are read by `get`, never listed; what was read lives in `secrecy` types and is kept only briefly, so that a
//! rotated key is used without a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt as _};

use crate::api::{OTAAccount, Span};
use crate::clock;
use crate::ota::client::{Client, SharedQuota};
use crate::ota::credentials::Credentials;
use crate::ota::endpoint::{AllowedEndpoints, Endpoint};
use crate::ota::limits::Permit;
use crate::ota::quota::Quota;
use crate::rollout::effective;
use crate::rollout::observed::{Account, Trouble};

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
    allowed: AllowedEndpoints,
    known: Mutex<BTreeMap<Key, Known>>,
    leases: Arc<Leases>,
    quotas: Mutex<BTreeMap<Group, SharedQuota>>,
}

struct Known {
    generation: Option<i64>,
    read: Instant,
    outcome: Result<Ready, Trouble>,
    /// The last that was found, also when there is trouble now: a Secret that is gone does not change whose account it is.
    group: Option<Group>,
}

fn stalled(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: true }
}

fn waiting(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: false }
}

impl Accounts {
    /// Accounts out of a store.
    pub fn new(kube: kube::Client, store: Store<OTAAccount>, allowed: AllowedEndpoints, leases: Arc<Leases>) -> Self {
        Self { kube, store, allowed, known: Mutex::default(), leases, quotas: Mutex::default() }
    }

    /// What this process owns.
    pub const fn leases(&self) -> &Arc<Leases> {
        &self.leases
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
    /// AccountNotFound, SecretNotFound and what passes by itself wait; EndpointRefused and CredentialsInvalid need a
    /// person.
    pub async fn ready(&self, key: &Key) -> Result<Ready, Trouble> {
        let Some(resource) = self.resource(key) else {
            return Err(self.missing(key).await);
        };
        if let Some(known) = self.known().get(key)
            && known.generation == resource.metadata.generation
            && clock::monotonic().duration_since(known.read) < SECRET_LIFE
        {
            return known.outcome.clone();
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
        outcome
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
        let endpoint = self.endpoint(resource).map_err(|why| stalled("EndpointRefused", why))?;
        let name = &resource.spec.credentials.secret_ref.name;
        let secrets: Api<Secret> = Api::namespaced(self.kube.clone(), &key.namespace);
        let read = tokio::time::timeout(API_TIMEOUT, secrets.get_opt(name)).await;
        let secret = match read {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => {
                let message = format!("there is no Secret {name}, which OTAAccount {} names", resource.name_any());
                return Err(waiting("SecretNotFound", message));
            }
            Ok(Err(error)) => {
                return Err(waiting("SecretUnreadable", format!("Secret {name} cannot be read: {error}")));
            }
            Err(_) => return Err(waiting("SecretUnreadable", format!("Secret {name} cannot be read in time"))),
        };
        let data = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
        let credentials = Credentials::from_secret_data(&data)
            .map_err(|error| stalled("CredentialsInvalid", format!("Secret {name}: {error}")))?;
        let account = Account {
            endpoint: endpoint.url().to_string(),
            region: endpoint.region().map(str::to_owned),
            instance_id: resource.spec.instance_id.clone(),
            access_key: credentials.digest(),
            list_lag: resource.spec.list_lag.as_ref().map_or(effective::LIST_LAG, Span::length),
        };
        let group = match &resource.spec.quota_group {
            Some(name) => Group::Named(name.clone()),
            None => Group::Key(credentials.digest()),
        };
        // Asked after every wait: a process that was stopped, or waited for its quota, may own the group no more.
        let (leases, owned) = (self.leases.clone(), group.clone());
        let permit = Permit::new(move |longest| leases.left(&owned).is_some_and(|left| left > longest));
        let client = Client::new(endpoint, credentials, self.quota(&group), self.leases.limits())
            .map_err(|error| stalled("ClientInvalid", error.to_string()))?;
        Ok(Ready { account, group, client: Arc::new(client.permitted(permit)) })
    }

    fn endpoint(&self, resource: &OTAAccount) -> Result<Endpoint, String> {
        let spec = &resource.spec;
        let told = |field: &str, error: &dyn std::fmt::Display| format!("spec.{field}: {error}");
        match (&spec.endpoint, &spec.region) {
            (Some(endpoint), region) => {
                let endpoint = self.allowed.endpoint(endpoint).map_err(|e| told("endpoint", &e))?;
                Ok(region.iter().fold(endpoint, |endpoint, region| endpoint.with_region(region)))
            }
            (None, Some(region)) => self.allowed.region(region).map_err(|e| told("region", &e)),
            (None, None) => Err("give spec.region or spec.endpoint".to_owned()),
        }
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
        && a.client.credentials().same_as(b.client.credentials())
}
