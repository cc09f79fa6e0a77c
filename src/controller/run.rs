//! The controller process: stores, watches, and the loop that passes.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::runtime::controller::{Action, Config as ControllerConfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Resource};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::{FirmwareRollout, OTAAccount};

use super::accounts::Accounts;
use super::cluster::{Cluster, account_of, prune};
use super::keys::{Keys, Rules};
use super::lease::{self, Keeper, Leases};
use super::memory::Memory;
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
    /// Which namespace; none: all of them.
    pub namespace: Option<String>,
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
}

#[derive(Debug, thiserror::Error)]
#[error("a pass failed")]
struct PassFailed;

/// Runs until SIGTERM or ctrl-c.
pub async fn run(kube: kube::Client, settings: Settings) {
    let rollouts: Api<FirmwareRollout> = api(&kube, settings.namespace.as_deref());
    let accounts: Api<OTAAccount> = api(&kube, settings.namespace.as_deref());

    let (account_store, account_writer) = reflector::store();
    let account_events = watcher(accounts, watcher::Config::default())
        .default_backoff()
        .modify(prune)
        .reflect(account_writer)
        .applied_objects()
        .inspect_err(|error| warn!(%error, "watching accounts"));
    let (store, writer) = reflector::store();
    let changes = watcher(rollouts, watcher::Config::default())
        .default_backoff()
        .modify(prune)
        .reflect(writer)
        .touched_objects()
        .inspect_err(|error| warn!(%error, "watching rollouts"))
        // Not the generation alone: that would swallow our finalizer's patch and the final removal.
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            PredicateConfig::default(),
        );

    let reporter = Reporter { controller: "fota".to_owned(), instance: std::env::var("HOSTNAME").ok() };
    let leases = Arc::new(Leases::new(settings.lease.duration));
    let accounts = Accounts::new(kube.clone(), account_store, Keys::new(settings.rules.clone()), leases);
    let recorder = Recorder::new(kube.clone(), reporter);
    let cluster = Arc::new(Cluster::new(kube.clone(), store.clone(), accounts, recorder));
    let memory = Arc::new(Memory::default());
    let (wake, woken) = futures::channel::mpsc::unbounded();
    let keeper = Keeper { cluster: cluster.clone(), memory: memory.clone(), wake: wake.clone() };
    let (stop, stopped) = watch::channel(false);
    let keeper = tokio::spawn(lease::run(keeper, settings.lease, stopped));
    let poller = tokio::spawn(poller::run(cluster.clone(), memory.clone(), settings.cadences, wake));
    let readiness = tokio::spawn(readiness::run(kube, cluster.clone()));

    let users = store.clone();
    let context = Arc::new(Context { cluster, memory, cadences: settings.cadences });
    info!("the controller starts");
    let unready = asked_before(store.clone());
    let controller = Controller::for_stream(changes, store)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .watches_stream(account_events, move |account: OTAAccount| users_of(&users, &account))
        .reconcile_on(woken)
        .shutdown_on_signal()
        .run(reconcile, |_, _, _| Action::requeue(PAUSE), context)
        .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = controller => {}
        () = unready => {}
    }
    poller.abort();
    readiness.abort();
    // Last: whatever was under way has ended, and another replica may begin.
    stop.send_replace(true);
    if keeper.await.is_err() {
        warn!("the Leases were not released; the others wait until they expire");
    }
    info!("the controller stopped");
}

/// Ends when this process is asked to end before the first list of rollouts is here. Nothing has been done then, and the
/// controller would wait for ever: it reads no more, and what it waits for is that list.
async fn asked_before(rollouts: reflector::Store<FirmwareRollout>) {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            // The controller listens, too, and says so.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Once it is filled, or can never be, the end is the controller's.
        _ = rollouts.wait_until_ready() => std::future::pending().await,
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn api<K>(kube: &kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(kube.clone(), namespace),
        None => Api::all(kube.clone()),
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
        match pass(&*context.cluster, &context.memory, &key, context.cadences.progress).await {
            After::Again => {}
            After::Rest => return Ok(Action::requeue(AT_LATEST)),
            After::Pause => return Err(PassFailed),
        }
    }
    Ok(Action::requeue(Duration::ZERO))
}
