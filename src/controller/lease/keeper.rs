//! Keeps the Leases of every group that there is: the election's reads, writes and waits, and what a gain or a loss
//! means for this process. What to do next is the election's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::api::{FIELD_MANAGER, FirmwareRollout};
use crate::controller::cluster::{Cluster, account_of, timely};
use crate::controller::memory::Memory;
use crate::controller::world::{Key, WriteError};
use crate::telemetry::Metrics;

use super::election::{Answer, Draft, Election, Next, Terms};
use super::record::{object, record};
use super::{Group, Settings, identity};

/// How often the groups are looked through.
const LOOK: Duration = Duration::from_millis(200);
/// Accounts whose Secret is read at the same time to learn their group.
const AT_ONCE: usize = 8;

/// What keeping Leases needs of the process around it.
#[derive(Clone)]
pub struct Keeper {
    /// Accounts and rollouts, and what is owned.
    pub cluster: Arc<Cluster>,
    /// Forgets a group's rollouts when it is gained or lost.
    pub memory: Arc<Memory>,
    /// Wakes a group's rollouts when it is gained.
    pub wake: UnboundedSender<ObjectRef<FirmwareRollout>>,
    /// Counts what is gained and lost.
    pub metrics: Metrics,
}

struct Held {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Takes part in the election of every group, until `stop` says true; then releases what is owned.
pub async fn run(keeper: Keeper, settings: Settings, mut stop: watch::Receiver<bool>) {
    let me = identity();
    info!(identity = %me, namespace = %settings.namespace, "takes part in the election of owners");
    let terms = Terms { duration: settings.duration };
    let mut held: BTreeMap<Group, Held> = BTreeMap::new();
    // Before the accounts are known, every rollout would seem to lack its own.
    let mut filled = false;
    while !*stop.borrow() {
        tokio::select! {
            () = keeper.cluster.accounts().filled(), if !filled => filled = true,
            () = tokio::time::sleep(LOOK), if filled => {}
            _ = stop.changed() => continue,
        }
        let groups = tokio::select! {
            groups = keeper.groups() => groups,
            _ = stop.changed() => continue,
        };
        held.retain(|_, held| !held.task.is_finished());
        for (group, held) in &held {
            if !groups.contains_key(group) {
                held.stop.send_replace(true);
            }
        }
        for (group, unclaimed) in groups {
            held.entry(group.clone()).or_insert_with(|| {
                let (stop, stopped) = watch::channel(false);
                let seat = Seat {
                    keeper: keeper.clone(),
                    api: Api::namespaced(settings.client.clone(), &settings.namespace),
                    name: group.lease(),
                    nudge: keeper.cluster.leases().nudge(&group),
                    group,
                    terms,
                    object: None,
                    ill: false,
                };
                let election = Election::new(me.clone(), terms, unclaimed);
                Held { stop, task: tokio::spawn(seat.keep(election, stopped)) }
            });
        }
    }
    for held in held.values() {
        held.stop.send_replace(true);
    }
    for (group, held) in held {
        if held.task.await.is_err() {
            warn!(%group, "its keeper ended by a panic");
        }
    }
}

impl Keeper {
    /// Every group that something belongs to, and whether it can have had no owner yet.
    async fn groups(&self) -> BTreeMap<Group, bool> {
        let accounts = self.cluster.accounts();
        let all = accounts.all();
        let stale: Vec<Key> = all.iter().map(|a| Key::of(&**a)).filter(|key| accounts.group_is_stale(key)).collect();
        futures::stream::iter(&stale).for_each_concurrent(AT_ONCE, async |key| _ = accounts.ready(key).await).await;

        let mut groups = BTreeMap::new();
        for account in &all {
            let Some(group) = accounts.group(&Key::of(&**account)) else { continue };
            // An owner's first act is to judge the account. Without a Lease nobody else needs to be waited for then.
            let judged = account.status.as_ref().is_some_and(|status| !status.conditions.is_empty());
            let unclaimed = !judged || group == Group::Unusable;
            let so_far = groups.entry(group).or_insert(true);
            *so_far = *so_far && unclaimed;
        }
        let mut named: BTreeSet<Key> = self.cluster.all().iter().map(|r| account_of(r)).collect();
        named.retain(|key| accounts.resource(key).is_none());
        if !named.is_empty() {
            groups.insert(Group::Unusable, true);
        }
        groups
    }

    fn rollouts(&self, group: &Group) -> Vec<Arc<FirmwareRollout>> {
        let mut all = self.cluster.all();
        all.retain(|rollout| self.cluster.group(rollout).as_ref() == Some(group));
        all
    }

    fn forget(&self, group: &Group) {
        for rollout in self.rollouts(group) {
            self.memory.forget(&rollout);
        }
    }

    fn wake(&self, group: &Group) {
        for rollout in self.rollouts(group) {
            // The receiver lives as long as the controller does.
            let _ = self.wake.unbounded_send(ObjectRef::from_obj(&*rollout));
        }
    }
}

/// Our part in one group's election.
struct Seat {
    keeper: Keeper,
    group: Group,
    name: String,
    api: Api<Lease>,
    terms: Terms,
    nudge: Arc<Notify>,
    /// The Lease as it was last read or written.
    object: Option<Lease>,
    /// The last call failed: the next one that does is not told again.
    ill: bool,
}

impl Seat {
    async fn keep(mut self, mut election: Election, mut stop: watch::Receiver<bool>) {
        let cluster = self.keeper.cluster.clone();
        let leases = cluster.leases();
        let (mut served, mut hurried) = (None, false);
        while !*stop.borrow() {
            let now = leases.now();
            let tenure = election.tenure().filter(|t| t.left(now).is_some());
            let term = tenure.map(|t| t.term);
            if served != term {
                self.changed(served.is_some(), term.is_some(), election.holder());
                // What was known may be older than what somebody else has done since. Forgotten before we are the owner,
                // so that nothing old is acted upon, and after we no longer are, so that nothing new is kept.
                leases.publish(&self.group, None);
                self.keeper.forget(&self.group);
            }
            leases.publish(&self.group, tenure);
            if served != term && term.is_some() {
                leases.gained.send_modify(|count| *count += 1);
                self.keeper.wake(&self.group);
            }
            served = term;
            match election.next(now) {
                Next::Read => {
                    let answer = timely(self.terms.timeout(), self.api.get_opt(&self.name)).await;
                    let answer = self.learn(answer);
                    election.read(leases.now(), answer);
                }
                Next::Write(draft) => {
                    // The time counts from here, not from the answer.
                    let sent = leases.now();
                    let answer = self.write(&draft).await;
                    election.wrote(&draft, sent, leases.now(), answer);
                    if std::mem::take(&mut hurried) {
                        leases.publish(&self.group, election.tenure());
                        self.keeper.wake(&self.group);
                    }
                }
                Next::Wait(until) => {
                    let until = tenure.map_or(until, |t| until.min(t.end()));
                    tokio::select! {
                        () = tokio::time::sleep(until.saturating_sub(now.monotonic)) => {}
                        () = self.nudge.notified(), if tenure.is_some() => {
                            hurried = true;
                            election.hurry();
                        }
                        _ = stop.changed() => {}
                    }
                }
            }
        }
        leases.publish(&self.group, None);
        self.keeper.forget(&self.group);
        if let Some(draft) = election.resign(leases.now()) {
            match self.write(&draft).await {
                Answer::Record(_) => info!(lease = %self.name, "released"),
                _ => warn!(lease = %self.name, "could not be released; the others wait until it expires"),
            }
        }
    }

    fn changed(&self, was: bool, is: bool, holder: Option<&str>) {
        match (was, is) {
            (false, true) => {
                info!(lease = %self.name, "ours");
                self.keeper.metrics.lease("gained");
            }
            (true, false) => {
                warn!(lease = %self.name, holder, "lost");
                self.keeper.metrics.lease("lost");
            }
            _ => {
                warn!(lease = %self.name, "ours again, after it had run out");
                self.keeper.metrics.lease("regained");
            }
        }
    }

    async fn write(&mut self, draft: &Draft) -> Answer {
        let lease = object(&self.name, self.object.as_ref(), draft);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let answer = match &draft.replaces {
            Some(_) => timely(self.terms.timeout(), self.api.replace(&self.name, &params, &lease)).await,
            None => match timely(self.terms.timeout(), self.api.create(&params, &lease)).await {
                // Not the Lease: the namespace.
                Err(WriteError::Gone) => Err(WriteError::Other("its namespace does not exist".to_owned())),
                answer => answer,
            },
        };
        self.learn(answer.map(Some))
    }

    fn learn(&mut self, answer: Result<Option<Lease>, WriteError>) -> Answer {
        let ill = std::mem::take(&mut self.ill);
        match answer {
            Ok(Some(lease)) => {
                let record = record(&lease);
                self.object = Some(lease);
                Answer::Record(record)
            }
            Ok(None) | Err(WriteError::Gone) => {
                self.object = None;
                Answer::Absent
            }
            Err(WriteError::Conflict) => {
                debug!(lease = %self.name, "somebody else was faster");
                Answer::Conflict
            }
            Err(error @ (WriteError::NotOurs | WriteError::Other(_))) => {
                self.ill = true;
                if ill {
                    debug!(lease = %self.name, %error, "still no answer");
                } else {
                    warn!(lease = %self.name, %error, "the Lease could not be read or written");
                }
                Answer::Unclear
            }
        }
    }
}
