//! The poller task: decides which rollout is read when, and wakes the controller when a reading matters.
//!
//! It owns no quota: every call waits in its account's limiter. It decides nothing about rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::UnboundedSender;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

use crate::api::FirmwareRollout;
use crate::clock;
use crate::rollout::course;
use crate::rollout::wanted::{Wanted, wanted};
use crate::telemetry::Pulse;

use super::cluster::Cluster;
use super::lease::Group;
use super::memory::Memory;
use super::pass;
use super::poll::{self, Polls};
use super::world::{Key, World as _};

/// Rollouts read at the same time. Their calls share each account's quota anyway.
const AT_ONCE: usize = 16;
/// How often the poller looks for rollouts that are due.
const TICK: Duration = Duration::from_millis(100);
/// Least time between two polls of one rollout, also when something has just changed.
const LEAST_GAP: Duration = Duration::from_millis(300);

/// How often things are read and written.
#[derive(Debug, Clone, Copy)]
pub struct Cadences {
    /// Time between two polls of a rollout that runs.
    pub poll: Duration,
    /// Least time between two status writes that carry progress alone.
    pub progress: Duration,
}

#[derive(Default)]
struct Entry {
    polls: Arc<Mutex<Polls>>,
    last: Option<Instant>,
    wanted: Wanted,
    /// In which of our ownerships it was read.
    term: Option<(Group, u64)>,
}

/// Runs until the process ends.
pub async fn run(
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    cadences: Cadences,
    wake: UnboundedSender<ObjectRef<FirmwareRollout>>,
    pulse: Pulse,
) {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pulse.beat();
        let mut live = Vec::new();
        for cached in cluster.all() {
            let key = Key::of(&*cached);
            let Some(rollout) = cluster.rollout(&key) else { continue };
            let Some(uid) = rollout.metadata.uid.clone() else { continue };
            // Without an owner's right there is nothing to read, and what was read is forgotten.
            let Some(term) = cluster.term(&rollout) else { continue };
            live.push(uid.clone());
            let entry = entries.entry(uid).or_default();
            if entry.term.as_ref() != Some(&term) {
                *entry = Entry { term: Some(term.clone()), ..Entry::default() };
            }
            let wants = memory.sooner(&rollout, wanted(&rollout, memory.ticket(&rollout, cluster.monotonic())));
            if (wants.is_empty() && !memory.unsettled(&rollout))
                || !is_due(entry, &wants, &memory, &rollout, cadences.poll)
            {
                continue;
            }
            // A poll of it that is still under way: not again.
            let Ok(polls) = entry.polls.clone().try_lock_owned() else { continue };
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            entry.last = Some(clock::monotonic());
            entry.wanted = wants.clone();
            let (cluster, memory, wake) = (cluster.clone(), memory.clone(), wake.clone());
            tokio::spawn(async move {
                let mut polls = polls;
                let findings = read(&cluster, &rollout, &wants, &mut polls).await;
                drop(place);
                // What an earlier ownership read is older than what another owner may have done since.
                if cluster.term(&rollout) != Some(term) {
                    return;
                }
                if let Some(findings) = findings {
                    findings.remember(&memory, &rollout);
                }
                let newest = cluster.rollout(&key);
                if let Some(newest) = newest
                    && pass::is_due(&*cluster, &memory, &newest, cadences.progress).await
                {
                    // The receiver lives as long as the controller does.
                    let _ = wake.unbounded_send(ObjectRef::from_obj(&*newest));
                }
            });
        }
        entries.retain(|uid, _| live.contains(uid));
        memory.retain(|uid| live.iter().any(|l| l == uid));
    }
}

async fn read(
    cluster: &Cluster,
    rollout: &FirmwareRollout,
    wants: &Wanted,
    polls: &mut Polls,
) -> Option<poll::Findings> {
    let ready = cluster.ready(rollout).await.ok()?;
    let status = rollout.status.clone().unwrap_or_default();
    let revision = course::revision(&rollout.spec, &status);
    let found = poll::poll(&*ready.client, &ready.account, wants, &revision, polls, || cluster.moment()).await;
    if let Some(error) = &found.failed {
        warn!(rollout = %Key::of(rollout), request_id = error.request_id.as_deref(), %error, "a read failed");
    }
    if let Some(operation) = found.echoed {
        cluster.accounts().echoed(&ready.account, operation);
    }
    Some(found)
}

/// Due by time; or sooner, because something else is wanted now or a cancel's effect is awaited.
fn is_due(entry: &Entry, wants: &Wanted, memory: &Memory, rollout: &FirmwareRollout, every: Duration) -> bool {
    let Some(last) = entry.last else { return true };
    let since = clock::monotonic().duration_since(last);
    if since >= every {
        return true;
    }
    let cancelling = memory.change(rollout, |known| {
        known.cancelled.iter().any(|(id, at)| known.jobs.get(id).is_some_and(|reading| reading.taken_at <= *at))
    });
    since >= LEAST_GAP && (*wants != entry.wanted || cancelling)
}
