//! `make sim`: many seeds on all cores, with progress; what breaks a rule is shrunk, told and kept.
//!
//! `SEEDS` says how many (100,000), `FROM` which is the first, `JOBS` on how many threads, `REPLAY` plays one file of the
//! corpus and tells its story.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::corpus::{self, Script};
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
        keep(*seed, &shrink(script));
    }
    if tally.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seeds, and says what they add up to, how much processor time and how much time they took.
fn search(from: u64, seeds: u64, jobs: u64) -> (Tally, Duration, Duration) {
    let began = fota::clock::monotonic();
    let (next, done, found) = (AtomicU64::new(from), AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    let sum = Mutex::new((Tally::default(), Duration::ZERO));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    while found.load(Ordering::Relaxed) < ENOUGH as u64 {
                        let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                        if first >= from + seeds {
                            break;
                        }
                        for seed in first..(first + CHUNK).min(from + seeds) {
                            let report = tally::seed(seed);
                            found.fetch_add(u64::from(report.violation.is_some()), Ordering::Relaxed);
                            tally.add(seed, report);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    let mut sum = sum.lock().unwrap();
                    sum.0.merge(tally);
                    sum.1 += processor_time();
                })
            })
            .collect();
        scope.spawn(|| {
            let mut told = began;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= PROGRESS {
                    told = fota::clock::monotonic();
                    let done = done.load(Ordering::Relaxed);
                    let pace = done as f64 / began.elapsed().as_secs_f64();
                    let found = found.load(Ordering::Relaxed);
                    println!("{done} of {seeds} seeds, {pace:.0} a second, {found} violations");
                }
            }
        });
        let ends: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        for end in ends {
            end.unwrap();
        }
    });
    let (tally, busy) = sum.into_inner().unwrap();
    (tally, busy, began.elapsed())
}

/// Tells a shrunk schedule's story, and keeps it.
fn keep(seed: u64, script: &Script) {
    let report = script.play(true);
    let why = report.violation.unwrap_or_default();
    let text = script.text(&why);
    for line in &report.story {
        println!("{}", line.chars().take(400).collect::<String>());
    }
    println!("{text}");
    let path = corpus::folder().join(format!("seed-{seed}.txt"));
    match std::fs::write(&path, text) {
        Ok(()) => println!("kept as {}", path.display()),
        Err(error) => println!("could not be kept as {}: {error}", path.display()),
    }
}

fn replay(file: &Path) -> ExitCode {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
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
