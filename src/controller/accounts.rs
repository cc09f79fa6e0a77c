//! Accounts: from an `OTAAccount` and its Secret to a client that may be called.
//!
//! Secrets are read by `get`, never listed; what was read lives in `secrecy` types and is kept only briefly, so that a
//! rotated key is used without a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt as _};

use crate::api::{OTAAccount, Span};
use crate::clock;
use crate::ota::client::{Client, SharedQuota};
use crate::ota::limits::Limits;
use crate::ota::credentials::Credentials;
use crate::ota::endpoint::{AllowedEndpoints, Endpoint};
use crate::ota::quota::Quota;
use crate::rollout::effective;
use crate::rollout::observed::{Account, Trouble};

use super::world::Key;

/// How long a Secret that was read is believed.
const SECRET_LIFE: Duration = Duration::from_secs(10);
/// Longest wait for the API server.
pub const API_TIMEOUT: Duration = Duration::from_secs(15);

/// An account, ready to be called.
#[derive(Clone)]
pub struct Ready {
    /// What decisions need of it.
    pub account: Account,
    /// Who calls it.
    pub client: Arc<Client>,
}

/// Every account of the cluster.
pub struct Accounts {
    kube: kube::Client,
    store: Store<OTAAccount>,
    allowed: AllowedEndpoints,
    known: Mutex<BTreeMap<Key, Known>>,
    /// By access key id: whoever shares a key shares its quota.
    quotas: Mutex<BTreeMap<String, SharedQuota>>,
}

struct Known {
    generation: Option<i64>,
    read: Instant,
    outcome: Result<Ready, Trouble>,
}

fn stalled(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: true }
}

fn waiting(reason: &'static str, message: String) -> Trouble {
    Trouble { reason, message, stalled: false }
}

impl Accounts {
    /// Accounts out of a store.
    pub fn new(kube: kube::Client, store: Store<OTAAccount>, allowed: AllowedEndpoints) -> Self {
        Self { kube, store, allowed, known: Mutex::default(), quotas: Mutex::default() }
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
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key)
            && known.generation == resource.metadata.generation
            && clock::monotonic().duration_since(known.read) < SECRET_LIFE
        {
            return known.outcome.clone();
        }
        let outcome = self.resolve(key, &resource).await;
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match (outcome, all.get(key).map(|k| &k.outcome)) {
            // The same keys for the same host: the client with its open connections stays.
            (Ok(new), Some(Ok(old))) if same(&new, old) => Ok(Ready { account: new.account, ..old.clone() }),
            // A Secret that cannot be read for a moment does not take a known account away.
            (Err(trouble), Some(Ok(old))) if trouble.reason == "SecretUnreadable" => Ok(old.clone()),
            (outcome, _) => outcome,
        };
        let generation = resource.metadata.generation;
        all.insert(key.clone(), Known { generation, read: clock::monotonic(), outcome: outcome.clone() });
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
        let quota = self.quota(credentials.id());
        let client = Client::new(endpoint, credentials, quota, Limits::default())
            .map_err(|error| stalled("ClientInvalid", error.to_string()))?;
        Ok(Ready { account, client: Arc::new(client) })
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

    fn quota(&self, access_key_id: &str) -> SharedQuota {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.entry(access_key_id.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Quota::default()))).clone()
    }
}

fn same(a: &Ready, b: &Ready) -> bool {
    let (x, y) = (a.client.endpoint(), b.client.endpoint());
    x.url() == y.url() && x.region() == y.region() && a.client.credentials().same_as(b.client.credentials())
}
