//! Whatever the cloud's habits are: doctor names the one that is unlike the documents, and under the mode that it chooses
//! the simulation breaks no rule.

use serde_json::json;

use super::bench::Bench;
use crate::sim::tally;

/// Schedules under each habit.
const SEEDS: u64 = 150;

#[test]
fn under_the_mode_that_doctor_chose_no_rule_is_broken() {
    let never_listed = json!({"listLagMs": 3_600_000});
    for (switches, failing) in [
        (json!({"nonce": "accepted"}), vec![]),
        (json!({"nonce": "any"}), vec![]),
        (json!({"nonce": "never"}), vec!["NonceReplay"]),
        (json!({"tagsListed": false}), vec!["TagsListed"]),
        (json!({"tagsQueried": false}), vec!["TagsQueried"]),
        (json!({"tagsListed": false, "tagsQueried": false}), vec!["TagsQueried", "TagsListed"]),
        (json!({"listLagMs": 3000, "listOrder": "shuffled"}), vec![]),
        (never_listed, vec!["ListLag"]),
        (json!({"nonce": "never", "listLagMs": 2000, "listOrder": "oldestFirst"}), vec!["NonceReplay"]),
    ] {
        let bench = Bench::switched("doctor-sim", switches.clone());
        let outcome = bench.doctor(&["--lab-device", "lab-1", "--list-timeout", "10s"]);
        assert_eq!(outcome.failing(), failing, "{switches}: {}", outcome.stdout);
        let (account, habits) = (bench.as_taken(), bench.cloud.with(|cloud, _| cloud.switches().clone()));
        for seed in 0..SEEDS {
            let report = tally::seed_under(seed, &habits, &account);
            assert_eq!(report.violation, None, "seed {seed} under {switches}: {}", report.end);
        }
    }
}
