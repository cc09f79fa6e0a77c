//! `make sim`: many seeds on all cores, with progress; what breaks a rule is shrunk, told and kept.
//!
//! `SEEDS` says how many (100,000), `FROM` which is the first, `JOBS` on how many threads. `EXHAUSTIVE=1` plays every
//! schedule of one fault, and of two between claim and record, instead; `SABOTAGE=1` looks for each known-bad variant,
//! `SABOTAGE=NAME` for one (at most `SEEDS` seeds each); `REPLAY` plays one file of the corpus and tells its story, with
//! `SABOTAGE=NAME` under that variant.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fota::sabotage::Bad;

use super::corpus::{self, Script};
use super::exhaustive;
use super::shrink::shrink;
use super::tally::{self, Tally};

/// Seeds that a thread takes at once.
const CHUNK: u64 = 64;
/// Violations after which nothing more is looked for.
const ENOUGH: usize = 5;
const PROGRESS: Duration = Duration::from_secs(5);

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        _ => default,
    }
}

/// Processor time of this thread so far.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_default())
}

pub fn main() -> ExitCode {
    if let Ok(file) = std::env::var("REPLAY") {
        return replay(Path::new(&file));
    }
    let (from, seeds) = (number("FROM", 0), number("SEEDS", 100_000));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let jobs = number("JOBS", cores).max(1);
    if let Some(wanted) = std::env::var("SABOTAGE").ok().filter(|wanted| !wanted.is_empty()) {
        return sabotage(&wanted, seeds, jobs);
    }
    if number("EXHAUSTIVE", 0) > 0 {
        return exhaustive(jobs);
    }
    for (name, script) in corpus::all() {
        if let Some(why) = script.play(false).violation {
            println!("corpus/{name}.txt: {why}");
            return ExitCode::FAILURE;
        }
    }
    println!("{seeds} seeds from {from} on {jobs} threads");
    let (tally, busy, took) = search(from, seeds, jobs);
    let per_core = tally.schedules as f64 / busy.as_secs_f64().max(0.001);
    println!("\n{}\n{}", tally.coverage.table(), tally.text());
    let (hit, all) = tally.coverage.share();
    println!(
        "coverage: {hit} of {all} combinations of place, standing and event; never drawn: {:?}",
        tally.coverage.missing()
    );
    println!(
        "{} schedules in {:.1} s: {:.0} a second, {per_core:.0} a second of one core's time",
        tally.schedules,
        took.as_secs_f64(),
        tally.schedules as f64 / took.as_secs_f64().max(0.001),
    );
    println!("{} violations", tally.violations.len());
    for (seed, why, script) in tally.violations.iter().take(ENOUGH) {
        println!("\nseed {seed}: {why}");
        keep(&format!("seed-{seed}"), &shrink(script));
    }
    if tally.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seeds, and says what they add up to, how much processor time and how much time they took.
fn search(from: u64, seeds: u64, jobs: u64) -> (Tally, Duration, Duration) {
    let sum = Mutex::new((Tally::default(), Duration::ZERO));
    let began = fota::clock::monotonic();
    let (done, found) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = |next: &AtomicU64| {
        let mut tally = Tally::default();
        while found.load(Ordering::Relaxed) < ENOUGH as u64 {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= from + seeds {
                break;
            }
            for seed in first..(first + CHUNK).min(from + seeds) {
                let report = tally::seed(seed);
                if let Some(why) = &report.violation {
                    found.fetch_add(1, Ordering::Relaxed);
                    println!("seed {seed}: {why}");
                }
                tally.add(seed, report);
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut sum = sum.lock().unwrap();
        sum.0.merge(tally);
        sum.1 += processor_time();
    };
    let progress = || {
        let done = done.load(Ordering::Relaxed);
        let pace = done as f64 / began.elapsed().as_secs_f64();
        format!("{done} of {seeds} seeds, {pace:.0} a second, {} violations", found.load(Ordering::Relaxed))
    };
    on_all(jobs, from, work, progress);
    let (tally, busy) = sum.into_inner().unwrap();
    (tally, busy, began.elapsed())
}

/// Works on so many threads, which share a counter, and prints how far it is.
fn on_all(jobs: u64, from: u64, work: impl Fn(&AtomicU64) + Sync, progress: impl Fn() -> String + Sync) {
    let (next, over) = (AtomicU64::new(from), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| work(&next))).collect();
        scope.spawn(|| {
            let mut told = fota::clock::monotonic();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= PROGRESS {
                    told = fota::clock::monotonic();
                    println!("{}", progress());
                }
            }
        });
        let ends: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        for end in ends {
            end.unwrap();
        }
    });
}

/// Every schedule of one fault, and of two between claim and record, in the plain scene and in those where an answer
/// proves less.
fn exhaustive(jobs: u64) -> ExitCode {
    let mut broken = 0;
    for scene in exhaustive::SCENES {
        for (what, scripts) in [("one event", exhaustive::one(scene)), ("two events", exhaustive::two(scene))] {
            let began = fota::clock::monotonic();
            let bad = Mutex::new(Vec::new());
            let done = AtomicU64::new(0);
            let work = |next: &AtomicU64| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(script) = scripts.get(at) else { break };
                    if bad.lock().unwrap().len() < ENOUGH
                        && let Some(why) = script.play(false).violation
                    {
                        bad.lock().unwrap().push((at as u64, why));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            };
            on_all(jobs, 0, work, || format!("{} of {}", done.load(Ordering::Relaxed), scripts.len()));
            let bad = bad.into_inner().unwrap();
            println!(
                "scene {scene}, {what}: {} schedules in {:.1} s, {} violations",
                scripts.len(),
                began.elapsed().as_secs_f64(),
                bad.len()
            );
            broken += bad.len();
            for (at, why) in bad {
                println!("\n{why}");
                keep(&format!("{}-{scene}-{at}", what.replace(' ', "-")), &shrink(&scripts[at as usize]));
            }
        }
    }
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// After how many seeds each known-bad variant is found, as a table for the documents.
fn sabotage(wanted: &str, seeds: u64, jobs: u64) -> ExitCode {
    let mut missed = 0;
    println!("| variant | found after | the rule that it broke |\n|---|---|---|");
    for bad in Bad::ALL.iter().filter(|bad| wanted == "1" || format!("{bad:?}") == wanted) {
        let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
        let work = |next: &AtomicU64| {
            fota::sabotage::set(Some(*bad));
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || found.lock().unwrap().as_ref().is_some_and(|(first, _)| *first < seed) {
                    break;
                }
                if let Some(why) = tally::seed(seed).violation {
                    let mut found = found.lock().unwrap();
                    if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                        *found = Some((seed, why.chars().take(160).collect()));
                    }
                }
            }
            fota::sabotage::set(None);
        };
        on_all(jobs, 0, work, || format!("looking for {bad:?}"));
        match found.into_inner().unwrap() {
            Some((seed, why)) => println!("| `{bad:?}` | {} | {why} |", seed + 1),
            None => {
                missed += 1;
                println!("| `{bad:?}` | not in {seeds} | |");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells a shrunk schedule's story, and keeps it.
fn keep(name: &str, script: &Script) {
    let report = script.play(true);
    let why = report.violation.unwrap_or_default();
    let text = script.text(&why);
    for line in &report.story {
        println!("{}", line.chars().take(400).collect::<String>());
    }
    println!("{text}");
    let path = corpus::folder().join(format!("{name}.txt"));
    match std::fs::write(&path, text) {
        Ok(()) => println!("kept as {}", path.display()),
        Err(error) => println!("could not be kept as {}: {error}", path.display()),
    }
}

fn replay(file: &Path) -> ExitCode {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let wanted = std::env::var("SABOTAGE").unwrap_or_default();
    fota::sabotage::set(Bad::ALL.iter().copied().find(|bad| format!("{bad:?}") == wanted));
    let report = Script::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display())).play(true);
    for line in &report.story {
        println!("{line}");
    }
    match report.violation {
        Some(why) => {
            println!("violation: {why}");
            ExitCode::FAILURE
        }
        None => {
            println!("no rule was broken; it ended as {}", report.end);
            ExitCode::SUCCESS
        }
    }
}
