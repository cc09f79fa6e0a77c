//! The reasons are all there: every word in the decision core and the controller that looks like one is listed, as a
//! reason or as what else it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::reasons;
use crate::harness::root;

/// Words in capitals that are no reason of a condition.
const OTHERS: &[&str] = &[
    // Reasons of events.
    "AdoptRefused",
    "DuplicateJob",
    "ExternalChangeAccepted",
    "JobAdopted",
    "JobRecorded",
    "Paused",
    "Resumed",
    "RunStarted",
    "StageAborted",
    "StageFailed",
    "StagePassed",
    "StageRetried",
    "StageSkipped",
    "Superseded",
    // Why a stage ended or began again, on the stage itself.
    "AlreadyVerified",
    "NotRequired",
    "NothingToAdd",
    "PolicyEnded",
    "Recreated",
    // Conditions, and how they stand.
    "AccountUnusable",
    "EditsIgnored",
    "False",
    "Queued",
    "Ready",
    "Reconciling",
    "Shadowed",
    "Stalled",
    "True",
    // Words of the cloud and of the spec in sentences.
    "GrayPercent",
    "Never",
    "Pending",
    "TargetSelection",
];

/// Names of the cloud's parameters only.
const WITHOUT: &[&str] = &["src/rollout/call.rs"];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

fn looks_like_one(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_uppercase())
        && letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_alphabetic())
}

/// What stands between quotes and looks like a reason, outside of tests and comments.
fn words(text: &str) -> BTreeSet<String> {
    let production = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = production.lines().filter(|line| !line.trim_start().starts_with("//"));
    // What is outside of the quotes has spaces or marks in it: nobody needs to know which parts are inside.
    lines.flat_map(|line| line.split('"')).filter(|part| looks_like_one(part)).map(str::to_owned).collect()
}

#[test]
fn every_word_that_looks_like_a_reason_is_listed_and_every_listed_one_is_there() {
    let mut all = Vec::new();
    for room in ["src/rollout", "src/controller"] {
        files(&root().join(room), &mut all);
    }
    all.retain(|path| WITHOUT.iter().all(|without| !path.ends_with(without)));
    let texts = all.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let found: BTreeSet<String> = texts.flat_map(|text| words(&text)).collect();
    let (reasons, literal) = (reasons::words(), reasons::literal());
    let unlisted: Vec<_> =
        found.iter().filter(|w| !reasons.contains(w.as_str()) && !OTHERS.contains(&w.as_str())).collect();
    let stale: Vec<_> = literal.iter().chain(OTHERS).filter(|word| !found.contains(**word)).collect();
    let both: Vec<_> = OTHERS.iter().filter(|word| reasons.contains(*word)).collect();
    assert!(unlisted.is_empty(), "neither in flux/reasons.rs nor in flux/sources.rs: {unlisted:?}");
    assert!(stale.is_empty(), "listed, and nowhere in the code: {stale:?}");
    assert!(both.is_empty(), "listed as a reason and as something else: {both:?}");
}

#[test]
fn words_are_found_where_they_stand() {
    let text = "stall(\"StepRemoved\", why)\n// \"NotThis\"\nformat!(\"{} is \\\n  gone\", \"ThatOne\")\nx(\"two words\")\n\
                #[cfg(test)]\nmod tests { \"NorThis\" }";
    assert_eq!(words(text).into_iter().collect::<Vec<_>>(), ["StepRemoved", "ThatOne"]);
}
