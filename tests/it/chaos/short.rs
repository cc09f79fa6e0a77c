//! Kills around the claim, the create and the record of one step, each in every way; and a small storm.

use std::sync::Mutex;

use super::rig::judge::End;
use super::rig::rollouts::Follow;
use super::rig::series::{self, Ground, List, Run};
use super::rig::storm::{self, Storm, Trouble};
use super::rig::table::Row;
use super::rig::tap::{Kill, Way, nth};
use crate::shared;

/// Runs a scenario on the shared control plane.
fn on_ground(run: impl AsyncFnOnce(Ground<'_>) -> crate::harness::Result<Row>) -> Row {
    shared().install_crds().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let row = runtime.block_on(async {
        let client = shared().admin_client().await?;
        let follow = Follow::start(client.clone());
        run(Ground { control_plane: shared(), client: &client, follow: &follow }).await
    });
    let row = row.unwrap();
    let findings: Vec<_> = row.verdict.findings().chain(row.notes.iter().cloned()).collect();
    assert!(row.verdict.holds(), "{}\n{}\n{}", Row::head(), row.line(), findings.join("\n"));
    row
}

#[test]
fn killed_around_the_create_in_every_way_there_is_still_one_job() {
    let mut runs = Vec::new();
    for kind in ["status: claim", "CreateOTAVerifyJob", "status: what became of the claim"] {
        for way in Way::ALL {
            let number = runs.len() as u64;
            let first = Kill { when: Box::new(move |_, seen| seen == kind), way, after: 4 + number };
            // And again, while the next one finds out what happened.
            let second = Kill { when: nth(4 + number % 8), way: Way::ALL[(number as usize + 1) % 4], after: 8 };
            runs.push(Run { number, kills: vec![first, second] });
        }
    }
    let (count, runs) = (runs.len(), List(Mutex::new(runs)));
    let row = on_ground(async |ground| series::run(ground, &runs, 4, count).await);
    assert_eq!((row.rollouts, row.verdict.accepted), (count, 3 * count), "{}", row.line());
    assert!(row.kills.total() >= 2 * count - 2, "{:?}", row.kills);
}

#[test]
fn in_a_storm_every_rollout_gets_its_jobs_once() {
    let storm = Storm {
        scenario: "a small storm",
        rollouts: 8,
        accounts: 4,
        operators: &["first", "second"],
        troubles: &[(Trouble::Cloud, 1), (Trouble::Leases, 2), (Trouble::Stops, 2)],
        life: (5, 40),
        seed: 1,
    };
    let row = on_ground(async |ground| storm::run(ground, storm).await);
    assert_eq!(row.verdict.ends.get(&End::Completed), Some(&8), "{}", row.line());
    assert!(row.kills.total() > 0, "{}", row.line());
}
