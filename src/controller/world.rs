//! What a pass needs of its surroundings. One implementation talks to a real API server and a real cloud; a simulated
//! one runs the same passes in virtual time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::rollout::DevicesFrom;
use crate::api::{FirmwareRollout, FirmwareRolloutStatus};
use crate::ota::Request;
use crate::ota::id::JobId;
use crate::ota::limits::Limits;
use crate::ota::outcome::{CallError, Outcome};
use crate::rollout::decide::Pending;
use crate::rollout::observed::{Account, Trouble};
use crate::rollout::story::Note;

/// Names a rollout or an account: namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One moment by this process's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since any fixed instant of this process.
    pub monotonic: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// Why a write did not happen, or is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is newer than what was decided upon: drop everything, read again. Surely without effect.
    #[error("the object changed meanwhile")]
    Conflict,
    /// The object is gone. Surely without effect.
    #[error("the object is gone")]
    Gone,
    /// Another replica owns the rollout, or may by now. Surely without effect.
    #[error("another replica owns it")]
    NotOurs,
    /// Anything else; the write may have happened.
    #[error("{0}")]
    Other(String),
}

/// The surroundings of a pass.
pub trait World: Send + Sync {
    /// The wall clock.
    fn wall(&self) -> Timestamp;

    /// The monotonic clock, since any fixed instant of this process.
    fn monotonic(&self) -> Duration;

    /// Both clocks.
    fn moment(&self) -> Moment {
        Moment { monotonic: self.monotonic(), wall: self.wall() }
    }

    /// How much longer this process surely owns the rollout, by the monotonic clock; none: another replica does, or
    /// nobody yet. Without it nothing is done.
    fn leadership(&self, rollout: &FirmwareRollout) -> Option<Duration>;

    /// The longest that a create may take, waiting included: it is sent only while the leadership outlasts it.
    fn longest_create(&self) -> Duration {
        Limits::default().longest_stamped()
    }

    /// Asks for the leadership to be renewed at once, and for a pass when it is.
    fn prolong(&self, _: &FirmwareRollout) {}

    /// The newest version of a rollout that this process has seen; its own writes included.
    fn rollout(&self, key: &Key) -> Option<Arc<FirmwareRollout>>;

    /// The account that a rollout names.
    fn account(&self, rollout: &FirmwareRollout) -> impl Future<Output = Result<Account, Trouble>> + Send;

    /// Another rollout of the same product that goes first.
    fn rival(&self, rollout: &FirmwareRollout) -> Option<String>;

    /// The jobs that the other rollouts of the product know, and whose they are.
    fn siblings(&self, _: &FirmwareRollout) -> BTreeMap<JobId, String> {
        BTreeMap::new()
    }

    /// The device names that a step takes from elsewhere, sorted.
    fn names(
        &self,
        rollout: &FirmwareRollout,
        from: &DevicesFrom,
    ) -> impl Future<Output = Result<Arc<[String]>, Trouble>> + Send;

    /// Reads the object from the API server, past every cache.
    fn refresh(&self, key: &Key) -> impl Future<Output = Option<Arc<FirmwareRollout>>> + Send;

    /// Applies a status, if the object still has the resourceVersion that was decided upon.
    fn write_status(
        &self,
        rollout: &FirmwareRollout,
        status: &FirmwareRolloutStatus,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Adds or removes our finalizer.
    fn set_finalizer(
        &self,
        rollout: &FirmwareRollout,
        present: bool,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Sends a claim's create.
    fn create(&self, rollout: &FirmwareRollout, request: &Request) -> impl Future<Output = Outcome> + Send;

    /// Cancels a job's tasks in some states.
    fn cancel(
        &self,
        rollout: &FirmwareRollout,
        job: &JobId,
        pending: Pending,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Cancels a dynamic job; its tasks stay.
    fn end_policy(&self, rollout: &FirmwareRollout, job: &JobId) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Publishes events; losing one is harmless.
    fn announce(&self, rollout: &FirmwareRollout, notes: &[Note]) -> impl Future<Output = ()> + Send;
}
