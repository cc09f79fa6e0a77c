//! Accounts in use: one that rollouts have jobs in must not vanish under them, because those jobs could be neither read
//! nor cancelled any more. Here belong who uses an account, and its finalizer. What a rollout does with it never comes in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::api::condition::Condition;
use crate::api::{FirmwareRollout, IN_USE, OTAAccount, Time};
use crate::rollout::decide::has_finalizer;
use crate::rollout::observed::Trouble;

use super::accounts::API_TIMEOUT;
use super::cluster::{account_of, at_least, timely};
use super::world::{Key, WriteError};

/// How often a patch is tried on a newer version of the account.
const TRIES: usize = 4;
/// Rollouts that the condition names.
const NAMED: usize = 10;

/// Whether a rollout has made, or promised, anything in its account.
fn has_jobs(rollout: &FirmwareRollout) -> bool {
    let status = rollout.status.as_ref();
    status.is_some_and(|s| s.claim.is_some() || s.stages.iter().any(|stage| !stage.jobs.is_empty()))
}

/// Whether a rollout uses its account, or is about to: our finalizer comes before its first claim.
fn uses(rollout: &FirmwareRollout) -> bool {
    has_finalizer(rollout) || has_jobs(rollout)
}

/// The names of the rollouts that use an account, in order.
pub fn users<'a>(account: &Key, rollouts: impl Iterator<Item = &'a FirmwareRollout>) -> Vec<String> {
    let mut names: Vec<_> = rollouts.filter(|r| account_of(r) == *account && uses(r)).map(|r| r.name_any()).collect();
    names.sort();
    names
}

/// What an account that is being deleted says while it is in use.
pub fn deleting(account: &OTAAccount, users: &[String], now: Timestamp) -> Option<Condition> {
    account.metadata.deletion_timestamp.as_ref()?;
    let named = users.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = users.len().checked_sub(NAMED).filter(|n| *n > 0).map(|n| format!(" and {n} more")).unwrap_or_default();
    (!users.is_empty()).then(|| Condition {
        kind: "Deleting".to_owned(),
        status: "True".to_owned(),
        observed_generation: account.metadata.generation,
        last_transition_time: Time::whole_seconds(now),
        reason: "InUse".to_owned(),
        message: format!(
            "waits for the rollouts that have jobs in it: {named}{more}; they go when they are deleted and their pending \
             tasks cancelled"
        ),
    })
}

/// Holds accounts for the rollouts that use them.
#[derive(Default)]
pub struct Holds {
    /// By uid: the version that our own patch made, until the watch has caught up.
    made: Mutex<BTreeMap<String, String>>,
}

impl Holds {
    /// Whether our finalizer is on an account, as far as is known.
    pub fn has(&self, account: &OTAAccount) -> bool {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let own = made.get(&account.uid().unwrap_or_default());
        account.finalizers().iter().any(|f| f == IN_USE)
            || own.is_some_and(|version| !at_least(account.metadata.resource_version.as_deref(), Some(version)))
    }

    /// Makes sure that an account stays as long as a rollout uses it.
    ///
    /// # Errors
    /// AccountDeleting: it goes, and nothing new begins in it. HoldingAccount: it could not be marked yet.
    pub async fn hold(
        &self,
        kube: &kube::Client,
        account: &OTAAccount,
        rollout: &FirmwareRollout,
    ) -> Result<(), Trouble> {
        if account.metadata.deletion_timestamp.is_some() {
            return if has_jobs(rollout) || rollout.metadata.deletion_timestamp.is_some() {
                Ok(())
            } else {
                let message =
                    format!("OTAAccount {} is being deleted: nothing new is started in it", account.name_any());
                Err(Trouble { reason: "AccountDeleting", message, stalled: true })
            };
        }
        if !uses(rollout) || self.has(account) {
            return Ok(());
        }
        self.set(kube, account, true).await.map_err(|error| {
            let message = format!("OTAAccount {} could not be marked as in use: {error}", account.name_any());
            Trouble { reason: "HoldingAccount", message, stalled: false }
        })
    }

    /// Adds or removes our finalizer.
    ///
    /// # Errors
    /// The account changed again and again, or the API server gave no answer.
    pub async fn set(&self, kube: &kube::Client, account: &OTAAccount, present: bool) -> Result<(), WriteError> {
        let key = Key::of(account);
        let api: Api<OTAAccount> = Api::namespaced(kube.clone(), &key.namespace);
        let mut current = account.clone();
        for _ in 0..TRIES {
            let mut finalizers = current.finalizers().to_vec();
            finalizers.retain(|f| f != IN_USE);
            if present {
                finalizers.push(IN_USE.to_owned());
            }
            let body = json!({
                "metadata": {"resourceVersion": current.metadata.resource_version, "finalizers": finalizers},
            });
            let (patch, params) = (Patch::Merge(&body), PatchParams::default());
            match timely(API_TIMEOUT, api.patch(&key.name, &params, &patch)).await {
                Ok(written) => {
                    let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                    made.remove(&account.uid().unwrap_or_default());
                    if let (true, Some(version)) = (present, written.metadata.resource_version) {
                        made.insert(account.uid().unwrap_or_default(), version);
                    }
                    return Ok(());
                }
                // A status was written in between.
                Err(WriteError::Conflict) => current = timely(API_TIMEOUT, api.get(&key.name)).await?,
                Err(WriteError::Gone) if !present => return Ok(()),
                Err(error) => return Err(error),
            }
            if current.metadata.uid != account.metadata.uid {
                return Err(WriteError::Gone);
            }
        }
        Err(WriteError::Conflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FINALIZER;

    fn rollout(name: &str, account: &str, finalizers: &[&str], status: serde_json::Value) -> FirmwareRollout {
        serde_json::from_value(json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout",
            "metadata": {"name": name, "namespace": "n", "finalizers": finalizers},
            "spec": {"accountRef": {"name": account}, "productKey": "p", "firmware": {"id": "f"},
                     "anySourceVersion": true, "full": {"static": {}}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn an_account_is_used_by_whoever_may_have_jobs_in_it() {
        let stage = json!({"stages": [{"name": "full", "kind": "Full", "state": "Running", "attempt": 1,
            "jobs": [{"id": "j", "attempt": 1, "part": 1, "token": "t"}]}]});
        let all = [
            rollout("new", "a", &[], json!({})),
            rollout("held", "a", &[FINALIZER], json!({})),
            rollout("bare", "a", &[], stage.clone()),
            rollout("other", "b", &[FINALIZER], stage),
            rollout("foreign", "a", &["somebody.else/finalizer"], json!({})),
        ];
        let key = |namespace: &str| Key { namespace: namespace.to_owned(), name: "a".to_owned() };
        assert_eq!(users(&key("n"), all.iter()), ["bare", "held"]);
        assert!(users(&key("m"), all.iter()).is_empty());
    }

    #[test]
    fn only_one_that_goes_and_is_used_says_for_whom_it_waits() {
        let account = |deleted: serde_json::Value| -> OTAAccount {
            serde_json::from_value(json!({
                "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount",
                "metadata": {"name": "a", "deletionTimestamp": deleted},
                "spec": {"region": "r", "credentials": {"secretRef": {"name": "s"}}},
            }))
            .unwrap()
        };
        let many: Vec<_> = (10..22).map(|n| format!("r{n}")).collect();
        let going = account(json!("2026-01-01T00:00:00Z"));
        let deleting = |account: &OTAAccount, users: &[String]| deleting(account, users, Timestamp::UNIX_EPOCH);
        assert_eq!(deleting(&account(json!(null)), &many), None);
        assert_eq!(deleting(&going, &[]), None);
        let message = deleting(&going, &many).unwrap().message;
        assert!(message.contains("r10, r11") && message.contains("r19 and 2 more"), "{message}");
        assert!(!deleting(&going, &many[..10]).unwrap().message.contains("more"));
    }
}
