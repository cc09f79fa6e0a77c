//! An owner that is stopped, asked to end, or loses its Lease in the middle of a rollout.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::pair::{Pair, text};

#[test]
fn an_owner_that_was_stopped_past_its_time_does_nothing_when_it_wakes() {
    let pair = Pair::new("stopped", "5s");
    pair.start_rollout();
    pair.first.process().signal("STOP").unwrap();
    pair.until_quiet();
    let stopped = Timestamp::now();
    pair.until_owner("second");
    let taken = pair.acquired();
    pair.until("the second acts", || pair.calls().iter().any(|at| *at > taken));
    let between: Vec<_> = pair.calls().into_iter().filter(|at| *at > stopped && *at < taken).collect();
    assert!(between.is_empty(), "nobody acts before the Lease has run out: {between:?}, taken {taken}");
    pair.until("the second writes", || {
        let managers = pair.scene.kubectl(&["get", "fwr", "shared", "--show-managed-fields", "-o", "json"]);
        let managers: serde_json::Value = serde_json::from_str(&managers).unwrap();
        let written = managers["metadata"]["managedFields"].as_array().unwrap().iter();
        written.filter(|w| w["subresource"] == "status").filter_map(|w| w["time"].as_str()).any(|at| {
            // In whole seconds.
            at.parse::<Timestamp>().unwrap() > taken
        })
    });

    // The second is stopped, too: whatever is done from here on, the first does.
    pair.second.process().signal("STOP").unwrap();
    pair.until_quiet();
    let versions = pair.versions();
    let lease = pair.record();
    let woken = Timestamp::now();
    pair.first.process().signal("CONT").unwrap();
    // It waits until the second's Lease has run out before its eyes, and only then begins.
    let mut looks = 0;
    pair.until("the first owns it again", || {
        let now = pair.versions();
        let record = pair.record();
        if record == lease {
            looks += 1;
            assert_eq!(now, versions, "written by one that owns nothing\n{}", pair.logs());
            return false;
        }
        pair.owner().as_deref() == Some("first")
    });
    assert!(looks > 3, "the first took it without waiting\n{}", pair.logs());
    let regained = pair.acquired();
    let calls: Vec<_> = pair.calls().into_iter().filter(|at| *at > woken && *at < regained).collect();
    assert!(calls.is_empty(), "called by one that owns nothing: {calls:?}, woken {woken}, regained {regained}");
    assert!(regained.duration_since(woken) >= jiff::SignedDuration::from_millis(4_900), "{woken} to {regained}");

    pair.second.process().signal("CONT").unwrap();
    pair.finish();
}

#[test]
fn an_owner_that_is_asked_to_end_hands_over_long_before_its_lease_runs_out() {
    let lease = Duration::from_secs(60);
    let mut pair = Pair::new("term", &text(lease));
    pair.start_rollout();
    let asked = Instant::now();
    pair.first.process().signal("TERM").unwrap();
    pair.until_owner("second");
    let took = asked.elapsed();
    assert!(took < lease / 2, "{took:?}\n{}", pair.logs());
    pair.until("the first is gone", || !pair.first.alive());
    pair.finish();
    pair.first.stop();
}

#[test]
fn a_lease_that_somebody_deletes_is_put_back_by_its_owner() {
    let pair = Pair::new("deleted", "10s");
    pair.start_rollout();
    let uid = pair.record()["metadata"]["uid"].clone();
    pair.scene.kubectl(&["delete", "lease", &pair.lease]);
    pair.until("there is another", || {
        let record = pair.record();
        record["metadata"]["uid"].is_string() && record["metadata"]["uid"] != uid
    });
    assert_eq!(pair.owner().as_deref(), Some("first"));
    pair.finish();
    assert!(!pair.second.log_tail(200).contains("ours"), "{}", pair.logs());
}

#[test]
fn a_lease_whose_owner_is_dead_and_that_somebody_deletes_is_found_by_another() {
    let mut pair = Pair::new("bereft", "5s");
    pair.start_rollout();
    pair.first.process().signal("KILL").unwrap();
    pair.first.stop();
    let died = Timestamp::now();
    pair.scene.kubectl(&["delete", "lease", &pair.lease]);
    pair.until_owner("second");
    // It may put a Lease there at once, but not act: nobody knows whether the first is dead.
    pair.finish();
    let quiet = jiff::SignedDuration::from_millis(4_500);
    let early: Vec<_> = pair.calls().into_iter().filter(|at| *at > died && at.duration_since(died) < quiet).collect();
    assert!(early.len() <= 1, "only what was on its way may still arrive: {early:?}, died {died}");
}
