//! Which replica acts for which accounts: one Lease for each quota group, and what this process knows of its own.
//!
//! Here belongs who may act. What is done with it (passes, polls, status writes) asks here and stays where it is.

mod election;
#[cfg(test)]
mod election_tests;
mod keeper;
mod record;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::clock;
use crate::ota::limits::Limits;

pub use election::Terms;
pub use keeper::{Keeper, run};

use super::world::Moment;
use election::Tenure;

/// Accounts that share their quota, and so one owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// `spec.quotaGroup`.
    Named(String),
    /// By the digest of the access key id: `spec.quotaGroup` is not set.
    Key(String),
    /// Accounts that cannot be called, for they lack a Secret or more, and rollouts without an account. No call is made
    /// for them, but somebody has to say what is missing.
    Unusable,
}

impl Group {
    /// The name of its Lease; two groups never share one.
    pub fn lease(&self) -> String {
        match self {
            Self::Named(name) => format!("fota-group-{name}"),
            Self::Key(digest) => format!("fota-key-{digest}"),
            Self::Unusable => "fota-unusable".to_owned(),
        }
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lease())
    }
}

/// How the election is held.
#[derive(Clone)]
pub struct Settings {
    /// A client that does not retry by itself: an answer that comes late is worse than none.
    pub client: kube::Client,
    /// Where the Leases are.
    pub namespace: String,
    /// How long a Lease lasts.
    pub duration: Duration,
}

/// Who this process is: its pod, and what tells it from every other process of that name.
pub fn identity() -> String {
    let name = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let name = name.or_else(|| std::fs::read_to_string("/etc/hostname").ok()).unwrap_or_default();
    let name = Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("fota").to_owned();
    // The keys of RandomState are drawn from the operating system; the clock is for one that has nothing to draw from.
    let seed = (std::process::id(), clock::wall().as_nanosecond());
    format!("{name}_{:016x}", RandomState::new().hash_one(seed))
}

/// What this process owns at the moment.
pub struct Leases {
    terms: Terms,
    began: Instant,
    owned: Mutex<BTreeMap<Group, Tenure>>,
    nudges: Mutex<BTreeMap<Group, Arc<Notify>>>,
    gained: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain values: a panic elsewhere cannot leave them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leases {
    /// Nothing is owned yet.
    pub fn new(duration: Duration) -> Self {
        let (gained, _) = watch::channel(0);
        let (owned, nudges) = (Mutex::default(), Mutex::default());
        Self { terms: Terms { duration }, began: clock::monotonic(), owned, nudges, gained }
    }

    /// What calls may take: a create's time has to fit into an ownership.
    pub fn limits(&self) -> Limits {
        Limits::default().within(self.terms.longest_effect())
    }

    /// How much longer a group is surely ours; none: it is not.
    pub fn left(&self, group: &Group) -> Option<Duration> {
        let tenure = lock(&self.owned).get(group).copied();
        tenure.and_then(|tenure| tenure.left(self.now()))
    }

    /// Which of our ownerships of the group this is; none: it is not ours.
    pub fn term(&self, group: &Group) -> Option<u64> {
        let tenure = lock(&self.owned).get(group).copied();
        tenure.filter(|tenure| tenure.left(self.now()).is_some()).map(|tenure| tenure.term)
    }

    /// Renews a group at once and then wakes its rollouts: one of them needs the ownership at its longest.
    pub fn hurry(&self, group: &Group) {
        self.nudge(group).notify_one();
    }

    /// Told each time that a group is gained.
    pub fn gains(&self) -> watch::Receiver<u64> {
        self.gained.subscribe()
    }

    fn nudge(&self, group: &Group) -> Arc<Notify> {
        lock(&self.nudges).entry(group.clone()).or_default().clone()
    }

    fn now(&self) -> Moment {
        Moment { monotonic: clock::monotonic().duration_since(self.began), wall: clock::wall() }
    }

    fn publish(&self, group: &Group, tenure: Option<Tenure>) {
        let mut owned = lock(&self.owned);
        match tenure {
            Some(tenure) => owned.insert(group.clone(), tenure),
            None => owned.remove(group),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_groups_share_a_lease_and_no_two_processes_a_name() {
        let named = |name: &str| Group::Named(name.to_owned());
        let names = [named("key-a"), Group::Key("a".to_owned()), named("unusable"), Group::Unusable, named("a")];
        let leases: std::collections::BTreeSet<_> = names.iter().map(Group::lease).collect();
        assert_eq!(leases.len(), names.len());
        assert_ne!(identity(), identity());
    }

    #[test]
    fn a_create_fits_into_every_ownership() {
        for seconds in [1, 2, 5, 15, 60] {
            let leases = Leases::new(Duration::from_secs(seconds));
            let (longest, validity) = (leases.limits().longest_stamped(), leases.terms.validity());
            assert!(longest <= validity.mul_f64(0.9), "{seconds}: {longest:?} of {validity:?}");
        }
        assert_eq!(Leases::new(Duration::from_secs(15)).limits(), Limits::default(), "the default is not cut");
    }
}
