//! Storms: many rollouts at once, and all kinds of trouble at once or one after the other, while operators are killed at
//! random. Then it is calm, and everything has to come to its end.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cast::{Cast, name, promise};
use super::dice::Dice;
use super::judge::End;
use super::rollouts::{Name, create};
use super::series::Ground;
use super::site::{Operator, Plan, Site};
use super::table::{Kills, Row};
use super::tap::{Kill, Way, nth_of_work};
use crate::harness::Result;

/// From the first rollout to the calm, at most: then whatever still troubles is over.
const LONGEST: Duration = Duration::from_secs(240);
/// From the calm to the last end. A claim whose every send got lost ends by the cloud's clock, 16 minutes after it was
/// made, and none of these takes that long.
const LIMIT: Duration = Duration::from_secs(240);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// An operator is stopped (SIGSTOP) for longer than its Leases last, and goes on as if nothing had been.
    Stops,
    /// The API server is killed and started again.
    ApiServer,
    /// etcd is stopped for ten seconds.
    Etcd,
    /// The cloud answers three in ten calls with an error before it does anything, and loses one answer in five.
    Cloud,
    /// Somebody deletes all Leases.
    Leases,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stops => "an operator stopped past its Leases' time and woken",
            Self::ApiServer => "API server killed and started again",
            Self::Etcd => "etcd stopped for 10 s",
            Self::Cloud => "30 % errors and 20 % lost answers for 10 s",
            Self::Leases => "all Leases deleted",
        })
    }
}

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    pub scenario: &'static str,
    pub rollouts: usize,
    pub accounts: usize,
    pub operators: &'static [&'static str],
    /// What goes wrong, and how often.
    pub troubles: &'static [(Trouble, usize)],
    /// How many requests an operator lives, at least and at most; those about Leases do not count.
    pub life: (u64, u64),
    pub seed: u64,
}

/// `--lease-duration` of the operators.
const LEASE: Duration = Duration::from_secs(3);

/// Runs a scenario.
pub async fn run(ground: Ground<'_>, storm: Storm) -> Result<Row> {
    let began = Instant::now();
    let cast = Cast { accounts: storm.accounts, products: storm.rollouts };
    let plan = Plan { purpose: "storm", cast, operators: storm.operators, lease: "3s" };
    let mut site = Site::new(ground.control_plane, plan).await?;
    let namespace = site.namespace.clone();
    let rollouts: Vec<Name> = (0..storm.rollouts).map(|number| (namespace.clone(), name(number))).collect();
    for number in 0..storm.rollouts {
        create(ground.client, &namespace, cast.rollout(&namespace, number)).await?;
    }

    let mut dice = Dice::new(storm.seed);
    let calm = watch::Sender::new(false);
    let kills = Mutex::new(Kills::default());
    let mut operators = std::mem::take(&mut site.operators);
    let taps: Vec<_> = operators.iter().map(|operator| operator.tap.clone()).collect();
    let dying = operators.iter_mut().map(|operator| die(operator, storm.life, dice.fork(), calm.subscribe(), &kills));
    let dying = futures::future::try_join_all(dying.collect::<Vec<_>>());
    let troubles = storm.troubles.iter().map(|(trouble, rounds)| {
        let (site, taps, mut dice) = (&site, &taps, dice.fork());
        async move {
            let mut done = 0;
            for _ in 0..*rounds {
                sleep(Duration::from_millis(dice.between(500, 4_000))).await;
                trouble.make(ground, site, taps, &mut dice).await?;
                done += 1;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(format!("{done} × {trouble}"))
        }
    });
    let weather = async {
        let troubles = futures::future::try_join_all(troubles);
        let done = tokio::select! {
            done = troubles => done,
            () = ground.follow.until_completed(&rollouts, LONGEST) => Ok(vec!["all had ended before the calm".to_owned()]),
        };
        calm.send_replace(true);
        done
    };
    let (mut notes, _) = futures::future::try_join(weather, dying).await?;
    site.operators = operators;
    clear(ground, &storm, &site).await?;
    ground.follow.until_completed(&rollouts, LIMIT).await;

    let ends: Vec<End> = rollouts.iter().map(|name| ground.follow.end(name)).collect();
    let promises: Vec<_> = ends.into_iter().enumerate().map(|(number, end)| promise(number, end)).collect();
    let verdict = site.judge(&promises).await?;
    if !verdict.holds() {
        notes.push(site.log_tail(40));
    }
    let kills = kills.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Row {
        scenario: storm.scenario.to_owned(),
        rollouts: storm.rollouts,
        kills,
        verdict,
        notes,
        took: began.elapsed(),
    })
}

/// The calm after it, also where it was cut short.
async fn clear(ground: Ground<'_>, storm: &Storm, site: &Site) -> Result<()> {
    site.faults(&json!({"errorRate": 0, "lostReplyRate": 0})).await?;
    for operator in site.operators.iter().filter_map(Operator::process) {
        operator.signal("CONT")?;
    }
    if storm.troubles.iter().any(|(trouble, _)| *trouble == Trouble::Etcd) {
        let [(_, etcd), _] = ground.control_plane.processes();
        etcd.signal("CONT")?;
    }
    Ok(())
}

/// An operator that is killed at some request, again and again, until it is calm; then it lives.
async fn die(
    operator: &mut Operator,
    (least, most): (u64, u64),
    mut dice: Dice,
    mut calm: watch::Receiver<bool>,
    kills: &Mutex<Kills>,
) -> Result<()> {
    loop {
        let kill =
            Kill { when: nth_of_work(dice.between(least, most)), way: dice.one(&Way::ALL), after: dice.between(3, 30) };
        operator.start(Some(kill))?;
        let tap = operator.tap.clone();
        tokio::select! {
            strike = tap.struck() => kills.lock().unwrap_or_else(PoisonError::into_inner).count(strike),
            _ = calm.wait_for(|calm| *calm) => break,
        }
        // Whoever starts it again takes a moment.
        sleep(Duration::from_millis(dice.between(0, 1_000))).await;
    }
    operator.tap.disarm();
    if operator.process().is_some_and(|process| process.alive()) { Ok(()) } else { operator.start(None) }
}

impl Trouble {
    /// Makes it once, and takes as long as it lasts.
    async fn make(self, ground: Ground<'_>, site: &Site, taps: &[super::tap::Tap], dice: &mut Dice) -> Result<()> {
        match self {
            Self::Stops => {
                let which = dice.between(0, taps.len() as u64 - 1) as usize;
                let Some(operator) = taps[which].operator() else { return Ok(()) };
                operator.signal("STOP")?;
                sleep(LEASE.mul_f64(1.0 + dice.between(1, 10) as f64 / 10.0)).await;
                operator.signal("CONT")?;
            }
            Self::ApiServer => {
                let control_plane = ground.control_plane;
                // It blocks until the server is ready again; everything else goes on.
                tokio::task::spawn_blocking(|| control_plane.restart_api_server()).await??;
            }
            Self::Etcd => {
                let [(_, etcd), _] = ground.control_plane.processes();
                etcd.signal("STOP")?;
                sleep(Duration::from_secs(10)).await;
                etcd.signal("CONT")?;
            }
            Self::Cloud => {
                site.faults(&json!({"errorRate": 0.3, "lostReplyRate": 0.2})).await?;
                sleep(Duration::from_secs(10)).await;
                site.faults(&json!({"errorRate": 0, "lostReplyRate": 0})).await?;
            }
            Self::Leases => {
                let leases: Api<Lease> = Api::namespaced(ground.client.clone(), &site.namespace);
                leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
        }
        Ok(())
    }
}
