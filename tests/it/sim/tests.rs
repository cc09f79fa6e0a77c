//! What every test run plays: the plain story, the corpus, some hundred seeds.

use super::corpus::{self, Script};
use super::tally;

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
fn some_seeds_break_no_rule() {
    for seed in 0..400 {
        let report = tally::seed(seed);
        let script = Script { scene: tally::scene(seed).number, choices: report.made };
        assert_eq!(report.violation, None, "seed {seed}\n{}", script.text("make sim FROM=… tells its story"));
    }
}
