//! What every test run plays: the plain story, the corpus, every single event and pairs around a claim, some hundred
//! seeds, and the known-bad variants that are found soon.

use std::sync::atomic::{AtomicUsize, Ordering};

use fota::sabotage::{self, Bad};

use super::corpus::{self, Script};
use super::event::Point;
use super::{exhaustive, tally};

/// Every how many of the pairs is played: `make sim EXHAUSTIVE=1` plays all.
const PAIRS: usize = 12;

/// Plays all of them, on all cores.
fn play(scripts: &[Script]) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = script.play(false);
                    assert_eq!(report.violation, None, "{}", script.text("REPLAY tells its story"));
                }
            });
        }
    });
}

#[test]
fn the_plain_story_completes() {
    let report = Script { scene: 0, choices: Vec::new() }.play(true);
    assert_eq!((report.violation, report.end.as_str()), (None, "Completed"), "{}", report.story.join("\n"));
}

#[test]
fn what_once_broke_a_rule_breaks_none_any_more() {
    for (name, script) in corpus::all() {
        let report = script.play(true);
        assert_eq!(report.violation, None, "{name}\n{}", report.story.join("\n"));
    }
}

#[test]
fn a_schedule_is_played_again_exactly() {
    for seed in 0..20 {
        let first = tally::seed(seed);
        let again = Script { scene: tally::scene(seed).number, choices: first.made.clone() }.play(false);
        assert_eq!(
            (first.made, first.steps, first.calls, first.end),
            (again.made, again.steps, again.calls, again.end)
        );
    }
}

#[test]
fn scripts_are_read_as_they_are_written() {
    for seed in 0..20 {
        let script = Script { scene: tally::scene(seed).number, choices: tally::seed(seed).made };
        assert_eq!(Script::parse(&script.text("why")).unwrap(), script);
    }
}

#[test]
fn one_event_anywhere_breaks_no_rule() {
    let mut scripts = exhaustive::one(0);
    // Eight of these follow each other at every reading of a job, and nothing else happens in between.
    scripts.retain(|script| script.choices.iter().all(|c| c.place.point != Point::ReadTasks || c.nth % 8 == 1));
    assert!(scripts.len() > 2_000, "{}", scripts.len());
    play(&scripts);
}

#[test]
fn two_events_between_claim_and_record_break_no_rule() {
    let scripts: Vec<_> = exhaustive::two(0).into_iter().step_by(PAIRS).collect();
    assert!(scripts.len() > 500, "{}", scripts.len());
    play(&scripts);
}

#[test]
fn some_seeds_break_no_rule() {
    for seed in 0..300 {
        let report = tally::seed(seed);
        let script = Script { scene: tally::scene(seed).number, choices: report.made };
        assert_eq!(report.violation, None, "seed {seed}\n{}", script.text("REPLAY tells its story"));
    }
}

#[test]
fn bad_variants_are_found() {
    // Those that `make sim SABOTAGE=1` finds within a few dozen schedules; it looks for all.
    for bad in SOON {
        sabotage::set(Some(*bad));
        let found = (0..MOST_SEEDS).find(|seed| tally::seed(*seed).violation.is_some());
        sabotage::set(None);
        assert!(found.is_some(), "{bad:?} was not found in {MOST_SEEDS} schedules");
    }
}

const MOST_SEEDS: u64 = 1_500;
const SOON: &[Bad] = &[Bad::CreateBeforeClaim, Bad::PromoteWithoutDrain, Bad::RetryOnTimeout];
