//! What a controller process does: a task that passes and a task that polls, as the real shell runs them. Only the
//! pauses are longer, and grow while nothing happens, so that hours are cheap.

use fota::controller::pass::{self, After, pass};
use fota::controller::poll::{Polls, poll};
use fota::controller::world::{Key, World as _};
use fota::rollout::course;
use fota::rollout::wanted::{Wanted, wanted};

use super::event::{Place, Point};
use super::view::View;

/// Passes in one wake-up.
const PASSES: usize = 16;
/// Pause after an error.
const PAUSE_MS: i64 = 2_000;
/// Longest rest between two passes, and between two polls: first and last value.
const PASS_EVERY_MS: [i64; 2] = [60_000, 240_000];
const POLL_EVERY_MS: [i64; 2] = [15_000, 120_000];
/// Least time between two polls.
pub const LEAST_GAP_MS: i64 = 300;
/// Least time between two writes of progress alone.
pub const PROGRESS: std::time::Duration = std::time::Duration::from_secs(30);

pub fn key() -> Key {
    Key { namespace: "heating".to_owned(), name: "thermostat".to_owned() }
}

/// Passes, woken by the watch, by the polls and by time.
pub async fn passes(view: View) {
    let key = key();
    let [mut rest, longest] = PASS_EVERY_MS;
    loop {
        view.at(Place::before(Point::Wake)).await;
        let mut after = After::Again;
        for n in 0..PASSES {
            let memory = view.memory();
            after = pass(&view, &memory, &key, PROGRESS).await;
            if n > 0 {
                rest = PASS_EVERY_MS[0];
            }
            if after != After::Again {
                break;
            }
        }
        // A write may want something else to be read.
        view.lock().hurry(view.process, LEAST_GAP_MS);
        match after {
            After::Again => {}
            After::Rest => {
                view.sleep(rest).await;
                rest = (rest * 2).min(longest);
            }
            After::Pause => view.wait(PAUSE_MS).await,
        }
    }
}

/// Polls, and wakes the passes when a reading matters.
pub async fn polls(view: View) {
    let key = key();
    let mut polls = Polls::default();
    let mut of = None;
    let mut last = (i64::MIN / 2, Wanted::default());
    let [mut every, longest] = POLL_EVERY_MS;
    loop {
        let now = view.lock().now;
        let (since, wants) = (now - last.0, next(&view, &key));
        let rests = match &wants {
            None => longest,
            Some((wants, cancelling)) if *wants != last.1 || *cancelling => LEAST_GAP_MS - since,
            Some(_) => every - since,
        };
        let Some((wants, _)) = wants.filter(|_| rests <= 0) else {
            view.sleep(rests).await;
            continue;
        };
        if wants != last.1 {
            every = POLL_EVERY_MS[0];
        }
        last = (now, wants.clone());
        let Some(rollout) = view.rollout(&key) else { continue };
        let term = view.term();
        if of != Some((term, rollout.metadata.uid.clone())) {
            of = Some((term, rollout.metadata.uid.clone()));
            polls = Polls::default();
        }
        let Ok(account) = view.ready().await else {
            view.wait(POLL_EVERY_MS[0]).await;
            continue;
        };
        let status = rollout.status.clone().unwrap_or_default();
        let revision = course::revision(&rollout.spec, &status);
        let findings = poll(&view, &account, &wants, &revision, &mut polls, || view.moment()).await;
        if findings.echoed.is_some() {
            view.echoed(&account);
        }
        if view.term() != term || term.is_none() {
            continue;
        }
        let memory = view.memory();
        findings.remember(&memory, &rollout);
        let Some(newest) = view.rollout(&key) else { continue };
        if pass::is_due(&view, &memory, &newest, PROGRESS).await {
            view.lock().wake(view.process);
            every = POLL_EVERY_MS[0];
        } else {
            every = (every * 3).min(longest);
        }
    }
}

/// What is to be read, and whether a cancel's effect is awaited.
fn next(view: &View, key: &Key) -> Option<(Wanted, bool)> {
    view.term()?;
    let rollout = view.rollout(key)?;
    let memory = view.memory();
    let wants = memory.sooner(&rollout, wanted(&rollout, memory.ticket(&rollout, view.monotonic())));
    let cancelling = memory.change(&rollout, |known| {
        known.cancelled.iter().any(|(id, at)| known.jobs.get(id).is_some_and(|reading| reading.taken_at <= *at))
    });
    (!wants.is_empty() || memory.unsettled(&rollout)).then_some((wants, cancelling))
}
