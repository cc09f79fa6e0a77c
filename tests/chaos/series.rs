//! The kill series: a rollout, all alone, whose operator dies of its nth request; and the next two operators of one of
//! their first, in the middle of finding out; and the fourth brings it to its end. For every n.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cast::{Cast, name, promise};
use super::judge::{End, Promise};
use super::rollouts::{Follow, create, remove};
use super::site::{Plan, Site};
use super::table::{Kills, Row};
use super::tap::{Kill, Way, nth};
use crate::harness::Result;
use crate::harness::control_plane::ControlPlane;

/// From one kill to the next, or to the end of the rollout; some seconds are usual.
const LIMIT: Duration = Duration::from_secs(180);
/// The requests of a second and a third operator among which it is killed: from its Lease over the look-up to the second
/// send.
const SECOND: u64 = 16;

/// The operators of one rollout die so, one after the other; the last one lives.
pub struct Run {
    /// Its place in the series.
    pub number: u64,
    pub kills: Vec<Kill>,
}

/// Runs that the lanes take, each one once.
pub trait Runs: Sync {
    /// The next; none: there is nothing left.
    fn take(&self) -> Option<Run>;
    /// The rollout of this run had ended before the first kill.
    fn survived(&self, run: u64);
}

/// The ways of an n.
const EACH: u64 = Way::ALL.len() as u64;

/// Every n from 1 on, each in all ways, until a rollout has no nth request any more.
#[derive(Default)]
pub struct EveryRequest(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    /// For each n, in how many ways a rollout had ended before its nth request.
    survived: BTreeMap<u64, u64>,
}

impl EveryRequest {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The n that no rollout reaches, once it is known. One alone may be short by luck.
    pub fn end(&self) -> Option<u64> {
        self.state().end()
    }
}

impl State {
    fn end(&self) -> Option<u64> {
        self.survived.iter().find(|(_, ways)| **ways == EACH).map(|(n, _)| *n)
    }
}

impl Runs for EveryRequest {
    fn take(&self) -> Option<Run> {
        let mut state = self.state();
        if state.end().is_some() {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let n = number / EACH + 1;
        if number.is_multiple_of(10 * EACH) {
            eprintln!("  … killed at request {n} and on");
        }
        let way = Way::ALL[(number % EACH) as usize];
        let first = Kill { when: nth(n), way, after: 3 + number % 12 };
        // The second one walks through its own square of requests and ways, out of step with the first.
        let second = Kill {
            when: nth(1 + (number * 5) % SECOND),
            way: Way::ALL[((number / SECOND + number * 3) % 4) as usize],
            after: 3 + (number * 7) % 12,
        };
        let third = Kill {
            when: nth(1 + (number * 7) % SECOND),
            way: Way::ALL[((number / 3) % 4) as usize],
            after: 3 + (number * 11) % 12,
        };
        Some(Run { number, kills: vec![first, second, third] })
    }

    fn survived(&self, run: u64) {
        *self.state().survived.entry(run / EACH + 1).or_default() += 1;
    }
}

/// A given list of runs, taken from its end.
pub struct List(pub Mutex<Vec<Run>>);

impl Runs for List {
    fn take(&self) -> Option<Run> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn survived(&self, _: u64) {}
}

/// What a series runs on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub control_plane: &'static ControlPlane,
    pub client: &'a kube::Client,
    pub follow: &'a Follow,
}

/// Runs a series in so many lanes beside each other, each a site of its own with products for so many rollouts.
pub async fn run(ground: Ground<'_>, runs: &impl Runs, lanes: usize, rollouts: usize) -> Result<Row> {
    let began = Instant::now();
    let cast = Cast { accounts: 1, products: rollouts };
    let plan = Plan { purpose: "series", cast, operators: &["operator"], lease: "2s" };
    let lane = async || {
        let mut lane = Lane::new(ground, Site::new(ground.control_plane, plan).await?);
        while lane.promises.len() < rollouts
            && let Some(run) = runs.take()
        {
            let number = run.number;
            if !lane.run(run).await? {
                runs.survived(number);
            }
        }
        lane.judged().await
    };
    let lanes: Vec<_> = (0..lanes).map(|_| lane()).collect();
    let mut all = Row { scenario: "killed at every request".to_owned(), ..Row::default() };
    for row in futures::future::join_all(lanes).await {
        all.add(row?);
    }
    all.took = began.elapsed();
    Ok(all)
}

/// One site, and the rollouts that go through it one after the other.
struct Lane<'a> {
    ground: Ground<'a>,
    site: Site,
    promises: Vec<Promise>,
    kills: Kills,
    notes: Vec<String>,
}

impl<'a> Lane<'a> {
    fn new(ground: Ground<'a>, site: Site) -> Self {
        Self { ground, site, promises: Vec::new(), kills: Kills::default(), notes: Vec::new() }
    }

    /// One rollout from its start to its end. False: it had ended before the first kill.
    async fn run(&mut self, run: Run) -> Result<bool> {
        let Ground { client, follow, .. } = self.ground;
        let number = self.promises.len();
        let rollout = (self.site.namespace.clone(), name(number));
        let [operator] = self.site.operators.as_mut_slice() else { return Err("a series has one operator".into()) };
        create(client, &rollout.0, self.site.cast.rollout(&rollout.0, number)).await?;
        let mut struck = 0;
        for kill in run.kills {
            operator.start(Some(kill))?;
            tokio::select! {
                biased;
                strike = operator.tap.struck() => {
                    self.kills.count(strike);
                    struck += 1;
                }
                () = follow.until_completed(std::slice::from_ref(&rollout), LIMIT) => break,
            }
        }
        if operator.process().is_some_and(|process| !process.alive()) {
            operator.start(None)?;
            follow.until_completed(std::slice::from_ref(&rollout), LIMIT).await;
        }
        let end = follow.end(&rollout);
        if end != End::Completed {
            self.notes.push(format!("{}/{}: {end}\n{}", rollout.0, rollout.1, self.site.log_tail(25)));
        }
        let [operator] = self.site.operators.as_slice() else { return Err("a series has one operator".into()) };
        operator.retire().await?;
        remove(client, &rollout).await?;
        self.promises.push(promise(number, end));
        Ok(struck > 0)
    }

    async fn judged(self) -> Result<Row> {
        let verdict = self.site.judge(&self.promises).await?;
        let Self { promises, kills, notes, .. } = self;
        Ok(Row { rollouts: promises.len(), kills, verdict, notes, ..Row::default() })
    }
}
