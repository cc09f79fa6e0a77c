//! The real surroundings of a pass: an API server, and the cloud behind each account.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::warn;

use crate::api::rollout::DevicesFrom;
use crate::api::{FIELD_MANAGER, FINALIZER, FirmwareRollout, FirmwareRolloutStatus, OTAAccount};
use crate::clock;
use crate::ota::Request;
use crate::ota::calls::{self, CallContext, CancelFlags};
use crate::ota::changing;
use crate::ota::code::{self, Class};
use crate::ota::id::JobId;
use crate::ota::outcome::{CallError, Outcome};
use crate::rollout::decide::Pending;
use crate::rollout::observed::{Account, Trouble};
use crate::rollout::story::Note;
use crate::rollout::{rival, stage};

use super::accounts::{API_TIMEOUT, Accounts, Ready};
use super::lease::{Group, Leases};
use super::lists;
use super::usage::{self, Holds};
use super::world::{Key, World, WriteError};

/// The real surroundings.
pub struct Cluster {
    kube: kube::Client,
    store: Store<FirmwareRollout>,
    accounts: Accounts,
    recorder: Recorder,
    holds: Holds,
    began: Instant,
    /// What our own writes returned, until the watch has caught up with them.
    overlay: Mutex<BTreeMap<Key, Arc<FirmwareRollout>>>,
}

/// The key of the account that a rollout names.
pub fn account_of(rollout: &FirmwareRollout) -> Key {
    Key {
        namespace: rollout.metadata.namespace.clone().unwrap_or_default(),
        name: rollout.spec.account_ref.name.clone(),
    }
}

impl Cluster {
    /// Surroundings over filled stores.
    pub fn new(kube: kube::Client, store: Store<FirmwareRollout>, accounts: Accounts, recorder: Recorder) -> Self {
        Self {
            kube,
            store,
            accounts,
            recorder,
            holds: Holds::default(),
            began: clock::monotonic(),
            overlay: Mutex::default(),
        }
    }

    /// Every rollout there is.
    pub fn all(&self) -> Vec<Arc<FirmwareRollout>> {
        self.store.state()
    }

    /// The accounts.
    pub const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What this process owns.
    pub fn leases(&self) -> &Arc<Leases> {
        self.accounts.leases()
    }

    /// The group that a rollout belongs to; none: not known yet.
    pub fn group(&self, rollout: &FirmwareRollout) -> Option<Group> {
        self.accounts.group(&account_of(rollout))
    }

    /// Whether this process owns an account.
    pub fn owns(&self, account: &Key) -> bool {
        self.accounts.group(account).and_then(|group| self.leases().left(&group)).is_some()
    }

    /// The rollouts that use an account.
    pub fn users(&self, account: &Key) -> Vec<String> {
        let all: Vec<_> = self.all().iter().filter_map(|r| self.rollout(&Key::of(&**r))).collect();
        usage::users(account, all.iter().map(AsRef::as_ref))
    }

    /// Marks an account as in use, or as not.
    pub async fn mark(&self, account: &OTAAccount, used: bool) {
        if self.holds.has(account) == used || (used && account.metadata.deletion_timestamp.is_some()) {
            return;
        }
        if let Err(error) = self.holds.set(&self.kube, account, used).await {
            warn!(account = %Key::of(account), %error, "the account could not be marked");
        }
    }

    /// Which of our ownerships of a rollout this is; none: it is not ours.
    pub fn term(&self, rollout: &FirmwareRollout) -> Option<(Group, u64)> {
        let group = self.group(rollout)?;
        let term = self.leases().term(&group)?;
        Some((group, term))
    }

    /// A rollout's account, ready to be called.
    ///
    /// # Errors
    /// As [`Accounts::ready`].
    pub async fn ready(&self, rollout: &FirmwareRollout) -> Result<Ready, Trouble> {
        self.accounts.ready(&account_of(rollout)).await
    }

    fn api(&self, key: &Key) -> Api<FirmwareRollout> {
        Api::namespaced(self.kube.clone(), &key.namespace)
    }

    fn cached(&self, key: &Key) -> Option<Arc<FirmwareRollout>> {
        self.store.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    fn keep(&self, mut object: FirmwareRollout) -> Arc<FirmwareRollout> {
        prune(&mut object);
        let object = Arc::new(object);
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        overlay.insert(Key::of(&*object), object.clone());
        object
    }

    fn drop_overlay(&self, key: &Key) {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Every rollout of the same product in the same cloud.
    fn of_product(&self, rollout: &FirmwareRollout) -> Vec<Arc<FirmwareRollout>> {
        let Some(cloud) = self.cloud_of(rollout) else { return Vec::new() };
        let mut all = self.store.state();
        all.retain(|o| o.spec.product_key == rollout.spec.product_key && self.cloud_of(o).as_ref() == Some(&cloud));
        all
    }

    /// Where the account's calls go, without asking anybody: which rollouts share a product.
    fn cloud_of(&self, rollout: &FirmwareRollout) -> Option<(Option<String>, Option<String>, Option<String>)> {
        let account = self.accounts.resource(&account_of(rollout))?;
        let spec = &account.spec;
        Some((spec.endpoint.clone(), spec.region.clone(), spec.instance_id.clone()))
    }
}

/// Drops what no decision looks at; managed fields are most of an object's size.
pub fn prune<K: kube::Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Whether one resourceVersion is at least another. They are decimal numbers of growing size (KEP-5504 makes them
/// comparable); anything else counts as newer, so that an overlay never outlives what it stands for.
pub(super) fn at_least(version: Option<&str>, other: Option<&str>) -> bool {
    let number = |v: Option<&str>| v.and_then(|v| v.parse::<u128>().ok());
    match (number(version), number(other)) {
        (Some(version), Some(other)) => version >= other,
        _ => true,
    }
}

/// An answer of the API server in time, or what is known without one.
pub(super) async fn timely<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>> + Send,
) -> Result<T, WriteError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(WriteError::Conflict),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(WriteError::Gone),
        Ok(Err(error)) => Err(WriteError::Other(error.to_string())),
        Err(_) => Err(WriteError::Other("the API server did not answer in time".to_owned())),
    }
}

impl World for Cluster {
    fn wall(&self) -> Timestamp {
        clock::wall()
    }

    fn monotonic(&self) -> Duration {
        clock::monotonic().duration_since(self.began)
    }

    fn leadership(&self, rollout: &FirmwareRollout) -> Option<Duration> {
        self.leases().left(&self.group(rollout)?)
    }

    fn longest_create(&self) -> Duration {
        self.leases().limits().longest_stamped()
    }

    fn prolong(&self, rollout: &FirmwareRollout) {
        if let Some(group) = self.group(rollout) {
            self.leases().hurry(&group);
        }
    }

    fn rollout(&self, key: &Key) -> Option<Arc<FirmwareRollout>> {
        let cached = self.cached(key);
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = overlay.get(key).cloned() else { return cached };
        let caught_up = cached.as_ref().is_none_or(|cached| {
            cached.metadata.uid != own.metadata.uid
                || at_least(cached.metadata.resource_version.as_deref(), own.metadata.resource_version.as_deref())
        });
        if caught_up {
            overlay.remove(key);
            return cached;
        }
        Some(own)
    }

    async fn account(&self, rollout: &FirmwareRollout) -> Result<Account, Trouble> {
        let ready = self.ready(rollout).await?;
        if let Some(account) = self.accounts.resource(&account_of(rollout)) {
            self.holds.hold(&self.kube, &account, rollout).await?;
        }
        Ok(ready.account)
    }

    fn rival(&self, rollout: &FirmwareRollout) -> Option<String> {
        let others = self.of_product(rollout);
        rival::before(rollout, others.iter().map(AsRef::as_ref)).map(|other| Key::of(other).to_string())
    }

    fn siblings(&self, rollout: &FirmwareRollout) -> BTreeMap<JobId, String> {
        rival::siblings(rollout, self.of_product(rollout).iter().map(AsRef::as_ref))
    }

    async fn names(&self, rollout: &FirmwareRollout, from: &DevicesFrom) -> Result<Arc<[String]>, Trouble> {
        lists::read(&self.kube, rollout.metadata.namespace.as_deref().unwrap_or_default(), from).await
    }

    async fn refresh(&self, key: &Key) -> Option<Arc<FirmwareRollout>> {
        match tokio::time::timeout(API_TIMEOUT, self.api(key).get_opt(&key.name)).await {
            Ok(Ok(Some(object))) => Some(self.keep(object)),
            Ok(Ok(None)) => {
                self.drop_overlay(key);
                None
            }
            _ => None,
        }
    }

    async fn write_status(&self, rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Result<(), WriteError> {
        let key = Key::of(rollout);
        // With the resourceVersion a stale apply is refused, also a forced one; without it, it would go through.
        let body = json!({
            "apiVersion": FirmwareRollout::api_version(&()),
            "kind": FirmwareRollout::kind(&()),
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": rollout.metadata.uid,
                "resourceVersion": rollout.metadata.resource_version,
            },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written =
            timely(API_TIMEOUT, self.api(&key).patch_status(&key.name, &params, &Patch::Apply(&body))).await?;
        self.keep(written);
        Ok(())
    }

    async fn set_finalizer(&self, rollout: &FirmwareRollout, present: bool) -> Result<(), WriteError> {
        let key = Key::of(rollout);
        let mut finalizers = rollout.finalizers().to_vec();
        finalizers.retain(|f| f != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        let body = json!({
            "metadata": {"resourceVersion": rollout.metadata.resource_version, "finalizers": finalizers},
        });
        let patch = Patch::Merge(&body);
        let written = timely(API_TIMEOUT, self.api(&key).patch(&key.name, &PatchParams::default(), &patch)).await?;
        if present {
            self.keep(written);
        } else {
            self.drop_overlay(&key);
        }
        Ok(())
    }

    async fn create(&self, rollout: &FirmwareRollout, request: &Request) -> Outcome {
        match self.ready(rollout).await {
            Ok(ready) => ready.client.create(self.accounts.allowed(), request).await,
            Err(trouble) => Outcome::Rejected(CallError::new(Class::Transient, code::NOT_SENT, &trouble.message)),
        }
    }

    async fn cancel(&self, rollout: &FirmwareRollout, job: &JobId, pending: Pending) -> Result<(), CallError> {
        let ready =
            self.ready(rollout).await.map_err(|t| CallError::new(Class::Transient, code::NOT_SENT, &t.message))?;
        let ctx = CallContext { instance_id: ready.account.instance_id.clone() };
        let flags = CancelFlags {
            queued: true,
            unconfirmed: true,
            notified: pending == Pending::All,
            scheduled: stage::is_scheduled(rollout.status.as_ref(), job),
            ..CancelFlags::default()
        };
        match calls::cancel_tasks(&*ready.client, &ctx, job, flags).await {
            // Cancelled before, or unknown: there is nothing left to cancel, and the next reading shows it.
            Err(error) if error.class == Class::Done || error.is(code::INVALID_OTA_JOB_ID) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    async fn end_policy(&self, rollout: &FirmwareRollout, job: &JobId) -> Result<(), CallError> {
        let ready =
            self.ready(rollout).await.map_err(|t| CallError::new(Class::Transient, code::NOT_SENT, &t.message))?;
        let ctx = CallContext { instance_id: ready.account.instance_id.clone() };
        match changing::cancel_policy(&*ready.client, &ctx, job).await {
            Err(error) if error.class == Class::Done || error.is(code::INVALID_OTA_JOB_ID) => Ok(()),
            done => done,
        }
    }

    async fn announce(&self, rollout: &FirmwareRollout, notes: &[Note]) {
        for note in notes {
            let event = Event {
                type_: if note.warning { EventType::Warning } else { EventType::Normal },
                reason: note.reason.clone(),
                note: Some(note.note.clone()),
                action: note.action.clone(),
                secondary: None,
            };
            let reference = rollout.object_ref(&());
            let published = tokio::time::timeout(API_TIMEOUT, self.recorder.publish(&event, &reference)).await;
            if !matches!(published, Ok(Ok(()))) {
                warn!(rollout = %Key::of(rollout), reason = %note.reason, "an event could not be published");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_ends_when_the_watch_has_caught_up() {
        assert!(!at_least(Some("99"), Some("100")), "not as text");
        assert!(at_least(Some("100"), Some("100")) && at_least(Some("101"), Some("100")));
        assert!(at_least(None, Some("100")) && at_least(Some("opaque"), Some("100")));
    }
}
