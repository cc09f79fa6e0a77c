//! Whether an account works, told on its own resource: its Secret is there, its host may be called, and the cloud
//! answers to its keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;
use tracing::{debug, warn};

use crate::api::condition::{self, Condition};
use crate::api::{FIELD_MANAGER, OTAAccount, OTAAccountStatus, Time};
use crate::clock;
use crate::ota::calls::{self, CallContext};
use crate::rollout::observed::Trouble;

use super::accounts::API_TIMEOUT;
use super::cluster::Cluster;
use super::poll;
use super::world::Key;

/// How often an account that works is asked again; one that does not, at every look.
const EVERY: Duration = Duration::from_secs(60);
/// How often accounts are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// One that does not work is asked again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs until the process ends.
pub async fn run(kube: kube::Client, cluster: Arc<Cluster>) {
    let mut asked: BTreeMap<Key, (Option<i64>, bool, Instant)> = BTreeMap::new();
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
            let fresh = asked.get(&key).is_some_and(|(at, works, since)| {
                let life = if *works { EVERY } else { AGAIN };
                *at == generation && clock::monotonic().duration_since(*since) < life
            });
            if fresh {
                continue;
            }
            let found = ask(&cluster, &key).await;
            if !cluster.owns(&key) {
                continue;
            }
            asked.insert(key, (generation, found.is_ok(), clock::monotonic()));
            tell(&kube, account, found).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // The process ends when there is nobody left to tell.
            _ = gains.changed() => {}
        }
    }
}

async fn ask(cluster: &Cluster, key: &Key) -> Result<(), Trouble> {
    let ready = cluster.accounts().ready(key).await?;
    let ctx = CallContext { instance_id: ready.account.instance_id.clone() };
    calls::probe(&*ready.client, &ctx).await.map_err(|error| poll::trouble(&error))
}

async fn tell(kube: &kube::Client, account: &OTAAccount, found: Result<(), Trouble>) {
    let (holds, reason, message) = match found {
        Ok(()) => ("True", "CloudAnswers", "the cloud answers to these keys".to_owned()),
        Err(trouble) => ("False", trouble.reason, trouble.message),
    };
    let old = account.status.clone().unwrap_or_default();
    let mut new = OTAAccountStatus { observed_generation: account.metadata.generation, ..old.clone() };
    let ready = Condition {
        kind: "Ready".to_owned(),
        status: holds.to_owned(),
        observed_generation: account.metadata.generation,
        last_transition_time: Time::whole_seconds(clock::wall()),
        reason: reason.to_owned(),
        message,
    };
    condition::set(&mut new.conditions, ready);
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
    match tokio::time::timeout(API_TIMEOUT, api.patch_status(&key.name, &params, &Patch::Apply(&body))).await {
        Ok(Ok(_)) => debug!(account = %key, reason, "account judged"),
        // A newer version is judged at the next look.
        Ok(Err(error)) => warn!(account = %key, %error, "the account's status could not be written"),
        Err(_) => warn!(account = %key, "the API server did not answer in time"),
    }
}
