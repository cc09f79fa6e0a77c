//! Where an account's keys come from: its Secret, a role that trusts the operator, or the operator's own environment.
//!
//! A Secret is its namespace's own. The other two are the operator's identity, which whoever may write an `OTAAccount`
//! could otherwise borrow: only namespaces that a flag names may use it, and only towards hosts that another flag names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use secrecy::SecretString;
use tracing::warn;

use crate::api::account::{CredentialsSource, WorkloadIdentity};
use crate::api::{OTAAccount, Span};
use crate::clock;
use crate::ota::credentials::Credentials;
use crate::ota::credentials::environment::{Environment, LENT_SECONDS};
use crate::ota::credentials::sts::{self, Lent, Role, StsError};
use crate::ota::endpoint::{AllowedEndpoints, Endpoint};
use crate::ota::limits::Limits;
use crate::rollout::observed::Trouble;

use super::accounts::{API_TIMEOUT, stalled, waiting};

/// Longest RoleSessionName.
const LONGEST_SESSION: usize = 64;

/// Namespaces, by name or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    all: bool,
    named: BTreeSet<String>,
}

impl Namespaces {
    /// From names; `*` is all.
    pub fn new<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let named: BTreeSet<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        Self { all: named.contains("*"), named }
    }

    /// Whether a namespace is among them.
    pub fn contain(&self, namespace: &str) -> bool {
        self.all || self.named.contains(namespace)
    }
}

/// What the flags and the environment say about keys and hosts.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Hosts that may be called.
    pub allowed: AllowedEndpoints,
    /// Hosts that keys of the operator's own identity, and its token, may go to; they must be `allowed` besides.
    pub own_endpoints: AllowedEndpoints,
    /// Namespaces whose accounts may use the operator's own identity.
    pub own_namespaces: Namespaces,
    /// The operator's own identity.
    pub environment: Environment,
}

impl Rules {
    /// The rules of an operator that lends its identity to nobody.
    pub fn without_own_identity(allowed: AllowedEndpoints) -> Self {
        Self {
            allowed,
            own_endpoints: AllowedEndpoints::default(),
            own_namespaces: Namespaces::default(),
            environment: Environment::read(|_| None),
        }
    }
}

/// A role, and who lends its keys.
type Lending = (Role, String);
/// Its keys; locked while they are asked for, so that nobody asks twice.
type Slot = Arc<tokio::sync::Mutex<Option<Lent>>>;

/// Reads keys, and keeps those that were lent until they have to be renewed.
#[derive(Debug)]
pub struct Keys {
    rules: Rules,
    lent: Mutex<BTreeMap<Lending, Slot>>,
}

impl Keys {
    /// Keys by these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, lent: Mutex::default() }
    }

    /// Hosts that may be called.
    pub const fn allowed(&self) -> &AllowedEndpoints {
        &self.rules.allowed
    }

    /// Where an account's calls go, if the flags allow it.
    ///
    /// # Errors
    /// EndpointRefused needs a person.
    pub fn endpoint(&self, resource: &OTAAccount) -> Result<Endpoint, Trouble> {
        let own = resource.spec.credentials.secret_ref.is_none();
        endpoint(&self.rules.allowed, resource)
            .and_then(|found| if own { endpoint(&self.rules.own_endpoints, resource) } else { Ok(found) })
            .map_err(|why| {
                let whose = if own { " for the operator's own identity (--own-identity-endpoints)" } else { "" };
                stalled("EndpointRefused", format!("{why}{whose}"))
            })
    }

    /// An account's keys.
    ///
    /// # Errors
    /// SecretNotFound, SecretUnreadable and RoleUnavailable wait; CredentialsInvalid, IdentityNotLent, OidcTokenMissing
    /// and RoleRefused need a person.
    pub async fn read(
        &self,
        kube: &kube::Client,
        namespace: &str,
        resource: &OTAAccount,
    ) -> Result<Credentials, Trouble> {
        match &resource.spec.credentials {
            CredentialsSource { secret_ref: Some(secret), workload_identity: None, operator: None } => {
                of_secret(kube, namespace, &secret.name, &resource.name_any()).await
            }
            CredentialsSource { secret_ref: None, workload_identity: Some(identity), operator: None } => {
                self.lend(namespace)?;
                let role = role(identity, namespace, &resource.name_any());
                let host = identity.sts_endpoint.as_ref().unwrap_or(&self.rules.environment.sts);
                self.of_role(role, host).await
            }
            CredentialsSource { secret_ref: None, workload_identity: None, operator: Some(_) } => {
                self.lend(namespace)?;
                let environment = &self.rules.environment;
                match (&environment.keys, &environment.role) {
                    (Some(keys), _) => Ok(keys.clone()),
                    (None, Some(role)) => self.of_role(role.clone(), &environment.sts).await,
                    (None, None) => {
                        let why = "spec.credentials.operator: the operator's environment has neither \
                                   ALIBABA_CLOUD_ACCESS_KEY_ID with its secret nor ALIBABA_CLOUD_ROLE_ARN with \
                                   ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
                        Err(stalled("CredentialsInvalid", why.to_owned()))
                    }
                }
            }
            _ => {
                let why = "spec.credentials: give exactly one of secretRef, workloadIdentity and operator";
                Err(stalled("CredentialsInvalid", why.to_owned()))
            }
        }
    }

    /// Whether accounts of a namespace may use the operator's identity.
    fn lend(&self, namespace: &str) -> Result<(), Trouble> {
        if self.rules.own_namespaces.contain(namespace) {
            return Ok(());
        }
        let why = format!(
            "spec.credentials: accounts of namespace {namespace} may not use the operator's own identity: use a \
             secretRef, or start the operator with --own-identity-namespaces {namespace}"
        );
        Err(stalled("IdentityNotLent", why))
    }

    async fn of_role(&self, role: Role, host: &str) -> Result<Credentials, Trouble> {
        let endpoint = self.rules.own_endpoints.endpoint(host).map_err(|why| {
            stalled("EndpointRefused", format!("the host that lends keys: {why} (--own-identity-endpoints)"))
        })?;
        let slot = self.slot((role.clone(), endpoint.to_string()));
        let mut known = slot.lock().await;
        let now = clock::wall();
        if let Some(lent) = known.as_ref().filter(|lent| !lent.is_stale(now)) {
            return Ok(lent.credentials.clone());
        }
        match self.ask(&endpoint, &role).await {
            Ok(lent) => Ok(known.insert(lent).credentials.clone()),
            // What was lent is good to its last minute; the vendor's client would stop a quarter of an hour before.
            Err(trouble) => match known.as_ref().filter(|lent| !lent.is_expired(now)) {
                Some(lent) => {
                    warn!(role = %role.arn, reason = trouble.reason, why = %trouble.message, "keys could not be renewed");
                    Ok(lent.credentials.clone())
                }
                None => Err(trouble),
            },
        }
    }

    fn slot(&self, lending: Lending) -> Slot {
        let now = clock::wall();
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        // Roles that nobody asks for any more.
        lent.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.try_lock().is_ok_and(|keys| keys.as_ref().is_some_and(|keys| !keys.is_expired(now)))
        });
        lent.entry(lending).or_default().clone()
    }

    async fn ask(&self, endpoint: &Endpoint, role: &Role) -> Result<Lent, Trouble> {
        // Read anew each time: the kubelet replaces it.
        let path = &self.rules.environment.token_file;
        let token = std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        if token.is_empty() {
            let why = format!(
                "there is no OIDC token in {}: mount a projected ServiceAccount token with audience sts.aliyuncs.com into \
                 the operator's pod, and name it in ALIBABA_CLOUD_OIDC_TOKEN_FILE",
                path.display()
            );
            return Err(stalled("OidcTokenMissing", why));
        }
        let lent = sts::assume(endpoint, role, &SecretString::from(token), Limits::default(), clock::wall()).await;
        lent.map_err(|error| match error {
            StsError::Refused(error) => stalled(
                "RoleRefused",
                format!(
                    "the keys of role {} are not lent: check the role, its trust policy for the operator's \
                     ServiceAccount, and the OIDC provider: {error}",
                    role.arn
                ),
            ),
            StsError::Unavailable(why) => {
                waiting("RoleUnavailable", format!("the keys of role {} cannot be asked for: {why}", role.arn))
            }
        })
    }
}

/// The role of an account.
fn role(identity: &WorkloadIdentity, namespace: &str, name: &str) -> Role {
    let named = || format!("fota-{namespace}-{name}").chars().take(LONGEST_SESSION).collect();
    let seconds = identity.duration.as_ref().map(Span::length).map(|length| length.as_secs());
    Role {
        arn: identity.role_arn.clone(),
        provider_arn: identity.oidc_provider_arn.clone(),
        session: identity.session_name.clone().unwrap_or_else(named),
        seconds: seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(LENT_SECONDS),
    }
}

async fn of_secret(kube: &kube::Client, namespace: &str, name: &str, account: &str) -> Result<Credentials, Trouble> {
    let secrets: Api<Secret> = Api::namespaced(kube.clone(), namespace);
    let read = tokio::time::timeout(API_TIMEOUT, secrets.get_opt(name)).await;
    let secret = match read {
        Ok(Ok(Some(secret))) => secret,
        Ok(Ok(None)) => {
            let message = format!("there is no Secret {name}, which OTAAccount {account} names");
            return Err(waiting("SecretNotFound", message));
        }
        Ok(Err(error)) => {
            return Err(waiting("SecretUnreadable", format!("Secret {name} cannot be read: {error}")));
        }
        Err(_) => return Err(waiting("SecretUnreadable", format!("Secret {name} cannot be read in time"))),
    };
    let data = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    Credentials::from_secret_data(&data)
        .map_err(|error| stalled("CredentialsInvalid", format!("Secret {name}: {error}")))
}

fn endpoint(allowed: &AllowedEndpoints, resource: &OTAAccount) -> Result<Endpoint, String> {
    let spec = &resource.spec;
    let told = |field: &str, error: &dyn std::fmt::Display| format!("spec.{field}: {error}");
    match (&spec.endpoint, &spec.region) {
        (Some(endpoint), region) => {
            let endpoint = allowed.endpoint(endpoint).map_err(|e| told("endpoint", &e))?;
            Ok(region.iter().fold(endpoint, |endpoint, region| endpoint.with_region(region)))
        }
        (None, Some(region)) => allowed.region(region).map_err(|e| told("region", &e)),
        (None, None) => Err("give spec.region or spec.endpoint".to_owned()),
    }
}

#[cfg(test)]
mod tests;
