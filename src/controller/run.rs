//! The controller process: stores, watches, and the loop that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use kube::runtime::controller::{Action, Config as ControllerConfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::api::status::Phase;
use crate::api::{FirmwareRollout, OTAAccount};
use crate::clock;
use crate::telemetry::{self, Metrics, Pulse};
use crate::termination::Termination;

use super::accounts::Accounts;
use super::cluster::{Cluster, account_of, prune};
use super::keys::{Keys, Rules};
use super::lease::{self, Keeper, Leases};
use super::memory::Memory;
use super::namespaces;
use super::pass::{After, pass};
use super::poller::{self, Cadences};
use super::readiness;
use super::world::Key;

/// Rollouts passed at the same time.
const CONCURRENCY: u16 = 32;
/// Passes in one wake-up; the rest come with the next one.
const PASSES: usize = 16;
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(2);
/// Upper bound between two passes of a rollout that waits for something that nobody reports, as a missing Secret.
const AT_LATEST: Duration = Duration::from_secs(15);

/// How the controller runs.
#[derive(Clone)]
pub struct Settings {
    /// Which namespaces; none: all of them.
    pub namespaces: BTreeSet<String>,
    /// Which hosts may be called, and who may use the operator's own identity.
    pub rules: Rules,
    /// How often things are read and written.
    pub cadences: Cadences,
    /// How owners are elected.
    pub lease: lease::Settings,
}

struct Context {
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    cadences: Cadences,
    metrics: Metrics,
}

/// How the controller ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing is under way.
    Idle,
    /// Something may be.
    Cut,
}

#[derive(Debug, thiserror::Error)]
#[error("a pass failed")]
struct PassFailed;

/// Runs until it is asked to end. Probes and metrics are served at `telemetry`, from before the first resource is read.
pub async fn run(kube: kube::Client, settings: Settings, telemetry: Option<TcpListener>, mut termination: Termination) {
    let (rollouts_read, accounts_read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let listed = rollouts_read.clone();
    let (account_store, account_writer) = reflector::store();
    let account_events = namespaces::watch::<OTAAccount>(&kube, &settings.namespaces, account_store.clone())
        .modify(prune)
        .reflect(account_writer)
        .inspect_ok(filled(&accounts_read))
        .applied_objects()
        .inspect_err(|error| warn!(%error, "watching accounts"));
    let (store, writer) = reflector::store();
    let changes = namespaces::watch::<FirmwareRollout>(&kube, &settings.namespaces, store.clone())
        .modify(prune)
        .reflect(writer)
        .inspect_ok(filled(&rollouts_read))
        .touched_objects()
        .inspect_err(|error| warn!(%error, "watching rollouts"))
        // Not the generation alone: that would swallow our finalizer's patch and the final removal.
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            PredicateConfig::default(),
        );

    let reporter = Reporter { controller: "fota".to_owned(), instance: std::env::var("HOSTNAME").ok() };
    let leases = Arc::new(Leases::new(settings.lease.duration));
    let metrics = Metrics::new();
    let accounts =
        Accounts::new(kube.clone(), account_store, Keys::new(settings.rules.clone()), leases, metrics.clone());
    let recorder = Recorder::new(kube.clone(), reporter);
    let cluster = Arc::new(Cluster::new(kube.clone(), store.clone(), accounts, recorder));
    let memory = Arc::new(Memory::default());
    let (wake, woken) = futures::channel::mpsc::unbounded();
    let keeper =
        Keeper { cluster: cluster.clone(), memory: memory.clone(), wake: wake.clone(), metrics: metrics.clone() };
    let (stop, stopped) = watch::channel(false);
    let keeper = tokio::spawn(lease::run(keeper, settings.lease, stopped));
    let pulse = Pulse::default();
    let poller = poller::run(cluster.clone(), memory.clone(), settings.cadences, wake, pulse.clone());
    let poller = tokio::spawn(poller);
    let readiness = tokio::spawn(readiness::run(kube, cluster.clone()));
    if let Some(listener) = telemetry {
        let parts = [
            ("poller", poller.abort_handle()),
            ("keeper of Leases", keeper.abort_handle()),
            ("judge of accounts", readiness.abort_handle()),
        ];
        let cluster = cluster.clone();
        let parts: Arc<[(&'static str, AbortHandle)]> = parts.into();
        let state = move || {
            let synced = rollouts_read.load(Ordering::Relaxed) && accounts_read.load(Ordering::Relaxed);
            let ended = parts.iter().find(|(_, part)| part.is_finished()).map(|(name, _)| *name);
            state(&cluster, synced, pulse.idle(), ended)
        };
        tokio::spawn(telemetry::serve(listener, metrics.clone(), state));
    }

    let users = store.clone();
    let context = Arc::new(Context { cluster, memory, cadences: settings.cadences, metrics });
    info!("the controller starts");
    let (end, asked) = oneshot::channel();
    let controller = Controller::for_stream(changes, store)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .watches_stream(account_events, move |account: OTAAccount| users_of(&users, &account))
        .reconcile_on(woken)
        .graceful_shutdown_on(asked.map(|_| ()))
        .run(reconcile, |_, _, _| Action::requeue(PAUSE), context)
        .for_each(|_| std::future::ready(()));
    let ending = async {
        termination.asked().await;
        info!("asked to end; what is under way is finished first, unless asked again");
        _ = end.send(());
        // Nothing has been done then, and the controller would wait for ever: it reads no more, and what it waits for is
        // that list. The store must not be asked: it wakes only whoever asked last, and a controller that is not woken
        // neither works nor ends.
        if listed.load(Ordering::Relaxed) {
            termination.asked().await;
            return Ended::Cut;
        }
        Ended::Idle
    };
    let ended = tokio::select! {
        () = controller => Ended::Idle,
        ended = ending => ended,
    };
    poller.abort();
    readiness.abort();
    if ended == Ended::Cut {
        // A request may be under way still: the others wait until the Leases expire, as after a crash.
        keeper.abort();
        warn!("asked again: the controller was cut off, and its Leases are not released");
        return;
    }
    // Last: whatever was under way has ended, and another replica may begin.
    stop.send_replace(true);
    if keeper.await.is_err() {
        warn!("the Leases were not released; the others wait until they expire");
    }
    info!("the controller stopped");
}

/// Notes that a watch has brought every resource once. The store could be asked, too, but it wakes only whoever asked last,
/// and that must be the controller.
fn filled<K>(flag: &Arc<AtomicBool>) -> impl Fn(&watcher::Event<K>) + Send + use<K> {
    let flag = flag.clone();
    move |event| {
        if matches!(event, watcher::Event::InitDone) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// How things stand, for probes and metrics.
fn state(cluster: &Cluster, synced: bool, idle: Duration, ended: Option<&'static str>) -> telemetry::State {
    let accounts = cluster.accounts();
    let groups: BTreeSet<_> = accounts.all().iter().filter_map(|a| accounts.group(&Key::of(&**a))).collect();
    let mut rollouts: BTreeMap<_, usize> = Phase::ALL.iter().map(|phase| (phase.name(), 0)).collect();
    for rollout in cluster.all().iter().filter(|rollout| cluster.owns(&account_of(rollout))) {
        let phase = rollout.status.as_ref().and_then(|s| s.phase).unwrap_or(Phase::Pending);
        *rollouts.entry(phase.name()).or_default() += 1;
    }
    telemetry::State {
        synced,
        groups: groups.len(),
        owned: groups.iter().filter(|group| cluster.leases().left(group).is_some()).count(),
        rollouts: rollouts.into_iter().collect(),
        idle,
        ended,
    }
}

/// The rollouts that use an account.
fn users_of(store: &reflector::Store<FirmwareRollout>, account: &OTAAccount) -> Vec<ObjectRef<FirmwareRollout>> {
    let key = Key::of(account);
    store.state().iter().filter(|r| account_of(r) == key).map(|r| ObjectRef::from_obj(&**r)).collect()
}

async fn reconcile(rollout: Arc<FirmwareRollout>, context: Arc<Context>) -> Result<Action, PassFailed> {
    let key = Key::of(&*rollout);
    for _ in 0..PASSES {
        let began = clock::monotonic();
        let after = pass(&*context.cluster, &context.memory, &key, context.cadences.progress).await;
        let result = if after == After::Pause { "failed" } else { "ok" };
        context.metrics.passed(result, clock::monotonic().duration_since(began));
        match after {
            After::Again => {}
            After::Rest => return Ok(Action::requeue(AT_LATEST)),
            After::Pause => return Err(PassFailed),
        }
    }
    Ok(Action::requeue(Duration::ZERO))
}
