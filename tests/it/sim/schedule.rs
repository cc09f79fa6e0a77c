//! One schedule: who goes on when, what strikes whom, and when it is over. One thread, no wall clock: a scene and a list
//! of choices mean one history.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Waker};
use std::time::Instant;

use fota::api::{ABORT, ADOPT, RESUME, RETRY, condition};

use super::checker::Healing;
use super::chooser::Chooser;
use super::coverage::{Standing, Visits};
use super::event::{Choice, Event, Place, Point};
use super::process::{passes, polls};
use super::scene::Scene;
use super::state::{PROCESSES, State, TASKS};
use super::view::View;

const MINUTE_MS: i64 = 60_000;
/// Faults end after this.
const FAULTS_MS: i64 = 3 * 60 * MINUTE_MS;
/// It must have ended so long after the last fault.
const PATIENCE_MS: i64 = 6 * 60 * MINUTE_MS;
/// Nothing stirred for so long: it rests. What is complete needs the least; a refused create is tried again after minutes; a
/// claim may wait for its epoch to end.
const COMPLETE_REST_MS: i64 = MINUTE_MS / 2;
const REST_MS: i64 = 8 * MINUTE_MS;
const CLAIM_REST_MS: i64 = 25 * MINUTE_MS;
/// Longest step of the true clock.
const TICK_MS: i64 = 5_000;
/// More yields than this are a livelock.
const MOST_STEPS: u64 = 60_000;

/// The zero of every monotonic clock: differences alone matter.
static BASE: LazyLock<Instant> = LazyLock::new(fota::clock::monotonic);

/// What became of a schedule.
pub struct Report {
    pub violation: Option<String>,
    /// What happened, in order: with the scene it makes the same history again.
    pub made: Vec<Choice>,
    /// Every place that was passed while something could still happen, if the chooser kept them.
    pub trail: Vec<(Place, u32, bool)>,
    pub visits: Visits,
    pub healing: Healing,
    pub writes: u32,
    pub calls: usize,
    pub steps: u64,
    /// How it stood in the end.
    pub end: String,
    pub story: Vec<String>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Schedule {
    state: Arc<Mutex<State>>,
    tasks: Vec<Option<Task>>,
    healed: Option<i64>,
    /// A person said what becomes of what was changed in the console.
    answered: bool,
    steps: u64,
}

/// Runs a schedule to its end.
pub fn run(scene: Scene, chooser: Chooser, told: bool) -> Report {
    let state = Arc::new(Mutex::new(State::new(scene, chooser, *BASE, told)));
    let mut schedule =
        Schedule { state, tasks: (0..TASKS).map(|_| None).collect(), healed: None, answered: false, steps: 0 };
    for process in 0..PROCESSES {
        schedule.start(process);
    }
    while schedule.step() {}
    schedule.tasks.clear();
    let mut state = schedule.state.lock().unwrap();
    let state = &mut *state;
    let status = state.server.current().and_then(|o| o.status.as_ref());
    let end = match status {
        None => "gone".to_owned(),
        Some(status) => {
            let standing = ["Ready", "Stalled", "Reconciling"]
                .iter()
                .find_map(|kind| condition::find(&status.conditions, kind).filter(|c| c.status == "True"));
            standing.map(|c| c.reason.clone()).unwrap_or_default()
        }
    };
    Report {
        violation: state.checker.violation.take(),
        made: std::mem::take(&mut state.chooser.made),
        trail: state.chooser.trail.take().unwrap_or_default(),
        visits: std::mem::take(&mut state.visits),
        healing: state.checker.healing(),
        writes: state.checker.writes,
        calls: state.cloud.calls().len(),
        steps: schedule.steps,
        end,
        story: state.story.take().unwrap_or_default(),
    }
}

impl Schedule {
    fn start(&mut self, process: usize) {
        let view = |task| View { state: self.state.clone(), process, task };
        self.tasks[process * 2] = Some(Box::pin(passes(view(process * 2))));
        self.tasks[process * 2 + 1] = Some(Box::pin(polls(view(process * 2 + 1))));
    }

    /// One more turn of one task. False: it is over.
    fn step(&mut self) -> bool {
        self.steps += 1;
        let shared = self.state.clone();
        let mut guard = shared.lock().unwrap();
        let state = &mut *guard;
        if state.checker.violation.is_some() {
            return false;
        }
        if self.steps > MOST_STEPS {
            state.checker.fail(|| "it finds no rest: too many steps".to_owned());
            return false;
        }
        // Who is next: the earliest, and of those the first.
        let ready = |state: &State, task: usize| {
            let frozen = state.processes[task / 2].frozen_until;
            state.slots[task].ready.max(frozen)
        };
        let (task, due) =
            (0..TASKS).map(|task| (task, ready(state, task))).min_by_key(|(task, due)| (*due, *task)).unwrap();
        let arrival = state.late.iter().map(|late| late.due).min().unwrap_or(i64::MAX);
        if due.min(arrival) > state.now {
            if due - state.now > 1_000 && state.late.is_empty() && !self.rest(&mut guard, due) {
                return false;
            }
            let state = &mut *guard;
            // Somebody may have been woken.
            let due = (0..TASKS).map(|task| ready(state, task)).min().unwrap_or(i64::MAX);
            // In steps, so that who owns the Lease has the time to renew it.
            state.now = state.now.max(due.min(arrival).min(state.now + TICK_MS));
            state.arrive();
            state.elect();
            self.steps -= 1;
            return true;
        }
        let process = task / 2;
        if state.processes[process].dead_until.take_if(|until| *until <= state.now).is_some() {
            state.say(|| format!("process {process} starts"));
            drop(guard);
            self.start(process);
            return true;
        }
        state.deliver(process);
        let place = state.slots[task].place.take();
        if let Some(place) = place {
            let object = state.server.current();
            let standing = Standing::of(object.map(|o| &**o));
            let hot = matches!(standing, Standing::Claimed | Standing::Sent);
            let event = state.chooser.choose(place, hot);
            state.visits.note(place, event, standing);
            if let Some(event) = event {
                state.say(|| format!("*** {event} at {place} of process {process}"));
                if !Self::strike(&mut self.tasks, state, event, process, task) {
                    return true;
                }
            }
        }
        drop(guard);
        if let Some(future) = &mut self.tasks[task] {
            let mut context = Context::from_waker(Waker::noop());
            _ = future.as_mut().poll(&mut context);
        }
        true
    }

    /// Lets an event happen. False: the task does not go on now.
    fn strike(tasks: &mut [Option<Task>], state: &mut State, event: Event, process: usize, task: usize) -> bool {
        let crash = match event {
            Event::Crash => Some(3_000),
            Event::CrashLong => Some(150_000),
            _ => None,
        };
        if let Some(for_ms) = crash {
            state.kill(process, for_ms);
        }
        if event == Event::Upgrade {
            state.act(event, process);
        }
        if crash.is_some() || event == Event::Upgrade {
            tasks[process * 2] = None;
            tasks[process * 2 + 1] = None;
            return false;
        }
        let freeze = match event {
            Event::Freeze8s => 8_000,
            Event::Freeze3m => 3 * MINUTE_MS,
            Event::Freeze12m => 12 * MINUTE_MS,
            Event::Freeze20m => 20 * MINUTE_MS,
            _ => 0,
        };
        if freeze > 0 {
            state.freeze(process, freeze);
            return false;
        }
        state.slots[task].event = Some(event);
        state.act(event, process);
        true
    }

    /// Looks whether it rests, and what comes then. False: it is over.
    fn rest(&mut self, state: &mut State, due: i64) -> bool {
        let object = state.server.current().cloned();
        let status = object.as_ref().and_then(|o| o.status.as_ref());
        let ready = status.is_some_and(|s| {
            s.claim.is_none() && condition::find(&s.conditions, "Ready").is_some_and(|c| c.status == "True")
        });
        let claimed = status.is_some_and(|s| s.claim.is_some());
        // What is being deleted is not over before it is gone, whatever its status still says.
        let deleting = object.as_ref().is_some_and(|o| o.metadata.deletion_timestamp.is_some());
        let over = object.is_none() || (ready && !deleting);
        // A policy is looked after for as long as it stands.
        let stands = status.is_some_and(|s| s.stages.iter().any(fota::rollout::stage::stands));
        let rest = match (over && !stands, claimed) {
            (true, _) => COMPLETE_REST_MS,
            (false, true) => CLAIM_REST_MS,
            (false, false) => REST_MS,
        };
        let still = due - state.stirred >= rest;
        if still {
            let standing = Standing::of(object.as_deref());
            if self.healed.is_none() {
                let place = Place::before(Point::Rest);
                let event = state.chooser.choose(place, false);
                state.visits.note(place, event, standing);
                if let Some(event) = event {
                    state.say(|| format!("*** {event} at rest"));
                    let process = state.holder.map_or(0, |(process, _)| process);
                    state.stirred = state.stirred.max(state.now);
                    if event == Event::Upgrade {
                        self.tasks[process * 2] = None;
                        self.tasks[process * 2 + 1] = None;
                    }
                    state.act(event, process);
                    return true;
                }
            }
            // A person answers what only a person can know.
            let asked = status.and_then(|s| s.claim.as_ref()).map(|claim| claim.token.clone());
            let stalled = status.and_then(|s| condition::find(&s.conditions, "Stalled"));
            if let Some(token) =
                asked.filter(|_| stalled.is_some_and(|c| c.status == "True" && c.reason == "Ambiguous"))
            {
                match state.checker.console(&token) {
                    _ if object.as_ref().is_some_and(|o| o.metadata.deletion_timestamp.is_some()) => {
                        state.act(Event::Orphan, 0);
                    }
                    Some(job) => {
                        state.checker.commanded(ADOPT);
                        state.annotate(ADOPT, job);
                    }
                    None => state.command(RETRY),
                }
                state.say(|| "a person looked into the console and answered".to_owned());
                return true;
            }
            // … and what only a person can decide, once.
            let changed = stalled.is_some_and(|c| c.status == "True" && c.reason == "ExternalChange");
            if changed && !std::mem::replace(&mut self.answered, true) {
                state.command([RESUME, RETRY, ABORT][(state.scene.number % 3) as usize]);
                state.say(|| "a person says what becomes of the job that was changed".to_owned());
                return true;
            }
            if self.healed.is_some() && status.is_some_and(|s| s.paused) {
                // A pause that nobody had seen yet when everything was put right.
                state.command(RESUME);
                return true;
            }
            if self.healed.is_some() {
                // Nobody does anything before; the cloud does.
                state.now = state.now.max(due);
                let clocks = state.clocks();
                state.cloud.tick(clocks);
                state.checker.finish(object.as_deref(), &state.cloud);
                return false;
            }
            self.heal(state);
        } else if self.healed.is_none() && state.now > FAULTS_MS {
            self.heal(state);
        }
        if self.healed.is_some_and(|since| state.now - since > PATIENCE_MS) {
            let summary = super::story::summary(status);
            state.checker.fail(|| format!("it does not end: {summary}"));
            return false;
        }
        true
    }

    fn heal(&mut self, state: &mut State) {
        state.say(|| "everything is put right, and nothing goes wrong any more".to_owned());
        state.chooser.quiet = true;
        state.heal();
        state.stirred = state.stirred.max(state.now);
        self.healed = Some(state.now);
    }
}
