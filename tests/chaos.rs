//! `make chaos`: operators killed at every request that a rollout makes, and fifty rollouts in all kinds of trouble, on a
//! real API server and the real simulated cloud. It ends by itself, prints a table, and fails when a job was made twice,
//! when one is missing, or when a rollout did not come to its end. Whatever was started ends with this process, however
//! it ends.
//!
//! `SEED` repeats the choices that are left to chance; `ONLY` names the scenarios to run, by a part of their names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod harness;

#[path = "chaos/mod.rs"]
mod rig;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use harness::Result;
use harness::control_plane::{ControlPlane, Options};
use rig::rollouts::Follow;
use rig::series::{self, EveryRequest, Ground};
use rig::storm::{self, Storm, Trouble};
use rig::table::{Kills, Row};

/// What the whole has to reach: fewer kills would prove less than the documents say.
const LEAST_KILLS: usize = 500;
/// Operators that are killed beside each other. They mostly wait: for Leases of the dead to run out, and for devices.
const LANES: usize = 12;
/// Rollouts that one lane has place for.
const PLACES: usize = 100;

const PAIR: &[&str] = &["first", "second"];

/// Fifty rollouts each.
fn storms(seed: u64) -> [Storm; 6] {
    // With two operators the cloud is not behind their taps, and only what they write counts.
    let storm = |number, scenario, operators: &'static [&'static str], troubles| {
        let life = if operators.len() == 1 { (40, 250) } else { (3, 30) };
        Storm { scenario, rollouts: 50, accounts: 25, operators, troubles, life, seed: seed + number }
    };
    [
        storm(1, "two operators, one stopped", PAIR, &[(Trouble::Stops, 6)]),
        storm(2, "API server restarted", PAIR, &[(Trouble::ApiServer, 4)]),
        storm(3, "etcd stopped", PAIR, &[(Trouble::Etcd, 2)]),
        storm(4, "cloud errs and loses answers", &["operator"], &[(Trouble::Cloud, 4)]),
        storm(5, "Leases deleted", PAIR, &[(Trouble::Leases, 8)]),
        storm(
            6,
            "all of it at once",
            PAIR,
            &[
                (Trouble::Stops, 4),
                (Trouble::ApiServer, 2),
                (Trouble::Etcd, 1),
                (Trouble::Cloud, 3),
                (Trouble::Leases, 5),
            ],
        ),
    ]
}

fn main() -> ExitCode {
    // kube and reqwest link rustls with one provider; installing it twice is harmless here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let seed = match env::var("SEED") {
        Ok(seed) => seed.parse().map_err(|_| format!("SEED: {seed:?} is not a number"))?,
        Err(_) => 1,
    };
    let only = env::var("ONLY").unwrap_or_default();
    let began = Instant::now();
    // Never dropped: the servers' supervisors see this process end.
    let control_plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(&Options::default())?));
    control_plane.install_crds()?;
    let client = control_plane.admin_client().await?;
    let follow = Follow::start(client.clone());
    let ground = Ground { control_plane, client: &client, follow: &follow };

    println!("seed {seed}; creates and accepted are counted in the cloud's log");
    println!("{}", Row::head());
    let mut rows = Vec::new();
    let series = "killed at every request";
    if series.contains(&only) {
        let every = EveryRequest::default();
        let mut row = series::run(ground, &every, LANES, PLACES).await?;
        row.scenario = series.to_owned();
        match every.end() {
            Some(end) => {
                row.notes.insert(0, format!("a rollout makes {} requests, and each was the last one", end - 1))
            }
            None => row.verdict.wrong.push("the series did not come to a rollout's end: raise PLACES".to_owned()),
        }
        rows.push(told(row));
    }
    for storm in storms(seed).into_iter().filter(|storm| storm.scenario.contains(&only)) {
        rows.push(told(storm::run(ground, storm).await?));
    }

    let mut kills = Kills::default();
    for row in &rows {
        kills.add(&row.kills);
    }
    println!();
    for line in kills.lines() {
        println!("{line}");
    }
    println!();
    let wrong = rows.iter().filter(|row| !row.verdict.holds()).count();
    let (duplicates, lost) = rows
        .iter()
        .map(|row| &row.verdict)
        .fold((0, 0), |(duplicates, lost), verdict| (duplicates + verdict.duplicates.len(), lost + verdict.lost.len()));
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{} kills, {duplicates} jobs made twice, {lost} lost, in {minutes:.1} minutes", kills.total());
    if wrong > 0 {
        return Err(format!("{wrong} scenarios did not end as they must, see above").into());
    }
    if only.is_empty() && kills.total() < LEAST_KILLS {
        return Err(format!("only {} kills, fewer than {LEAST_KILLS}", kills.total()).into());
    }
    Ok(())
}

/// Prints a row as soon as it is known.
fn told(row: Row) -> Row {
    println!("{}", row.line());
    for text in row.verdict.findings().chain(row.notes.iter().cloned()) {
        for line in text.lines() {
            println!("    {line}");
        }
    }
    row
}
