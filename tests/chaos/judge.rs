//! The judge: were all jobs made, each once, in order? By the cloud's own log alone.
//!
//! It reads `GET /_admin/calls` and `GET /_admin/jobs`, and what was promised: which steps each rollout declares, and
//! how it ended. It knows nothing of claims, tokens or status, and takes no line of the operator's code. It tells steps
//! apart by what the cast writes into each of them (its operation and its MaximumPerMinute), so that a second job for a
//! step is seen whatever tag it carries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

/// One line of `GET /_admin/calls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Call {
    pub operation: String,
    pub params: BTreeMap<String, String>,
    pub code: Option<String>,
    pub job_id: Option<String>,
}

/// One line of `GET /_admin/jobs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Job {
    pub job_id: String,
    pub product_key: String,
}

/// A step as it can be recognised in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub operation: &'static str,
    /// MaximumPerMinute, which no other step of a rollout has; none for a verification, which has no such parameter.
    pub rate: Option<&'static str>,
}

/// How a rollout ended, by what a person would see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Completed,
    /// The Stalled condition's reason.
    Stalled(String),
    /// It had not ended when it should have.
    Open(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("Completed"),
            Self::Stalled(reason) => write!(f, "Stalled {reason}"),
            Self::Open(why) => write!(f, "not ended: {why}"),
        }
    }
}

/// A rollout: its product is its own, so that the log's calls can be told apart.
#[derive(Debug, Clone)]
pub struct Promise {
    pub rollout: String,
    pub product: String,
    /// In the order in which they must come.
    pub steps: Vec<Step>,
    pub end: End,
}

/// Reasons to stop that the documents name: a person is asked, and nothing was made twice.
const DOCUMENTED: [&str; 1] = ["Ambiguous"];

/// What the log shows.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Creates that reached the cloud.
    pub sent: usize,
    /// Those that made a job.
    pub accepted: usize,
    /// Jobs beyond the first of their step or tag.
    pub duplicates: Vec<String>,
    /// Steps without their job, or out of their order.
    pub lost: Vec<String>,
    /// Whatever else must not be.
    pub wrong: Vec<String>,
    /// How many rollouts ended how.
    pub ends: BTreeMap<End, usize>,
}

impl Verdict {
    /// Whether everything is as promised.
    pub fn holds(&self) -> bool {
        self.duplicates.is_empty() && self.lost.is_empty() && self.wrong.is_empty()
    }

    /// What is not, one finding a line.
    pub fn findings(&self) -> impl Iterator<Item = String> {
        let named = |kind: &'static str, all: &[String]| {
            all.iter().map(move |finding| format!("{kind}: {finding}")).collect::<Vec<_>>()
        };
        [named("duplicate", &self.duplicates), named("lost", &self.lost), named("wrong", &self.wrong)]
            .into_iter()
            .flatten()
    }

    /// This one and another, as one.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.duplicates.extend(other.duplicates);
        self.lost.extend(other.lost);
        self.wrong.extend(other.wrong);
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
    }
}

/// Judges a whole log.
pub fn judge(calls: &[Call], jobs: &[Job], promises: &[Promise]) -> Verdict {
    let mut verdict = Verdict::default();
    let creates: Vec<&Call> = calls.iter().filter(|call| call.operation.starts_with("Create")).collect();
    let accepted: Vec<&Call> = creates.iter().copied().filter(|call| call.code.is_none()).collect();
    (verdict.sent, verdict.accepted) = (creates.len(), accepted.len());
    // By job: one that is a second one twice over, by its tag and by its step, is told of once.
    let mut extra: BTreeMap<&str, String> = BTreeMap::new();
    tags(&accepted, &mut extra, &mut verdict);
    jobs_are_the_accepted(&accepted, jobs, &mut verdict);
    let mut ours = BTreeSet::new();
    for promise in promises {
        ours.insert(promise.product.as_str());
        *verdict.ends.entry(promise.end.clone()).or_default() += 1;
        let made: Vec<&Call> = accepted.iter().copied().filter(|call| product(call) == promise.product).collect();
        steps(promise, &made, &mut extra, &mut verdict);
    }
    for call in accepted.iter().filter(|call| !ours.contains(product(call))) {
        verdict.wrong.push(format!("job {} is of product {}, which no rollout names", job(call), product(call)));
    }
    verdict.duplicates.extend(extra.into_values());
    verdict
}

/// For each value of the tag at most one accepted create.
fn tags<'a>(accepted: &[&'a Call], extra: &mut BTreeMap<&'a str, String>, verdict: &mut Verdict) {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for call in accepted {
        let Some(tag) = tag(call) else {
            verdict.wrong.push(format!("job {} carries no fota.id", job(call)));
            continue;
        };
        match first.get(tag) {
            Some(first) => _ = extra.insert(job(call), format!("fota.id {tag} is on job {first} and on {}", job(call))),
            None => _ = first.insert(tag, job(call)),
        }
    }
}

/// The jobs that there are, are those that were accepted.
fn jobs_are_the_accepted(accepted: &[&Call], jobs: &[Job], verdict: &mut Verdict) {
    let made: BTreeSet<&str> = accepted.iter().map(|call| job(call)).collect();
    let there: BTreeSet<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    for id in made.difference(&there) {
        verdict.lost.push(format!("job {id} was accepted and is not among the cloud's jobs"));
    }
    for id in there.difference(&made) {
        verdict.wrong.push(format!("job {id} is among the cloud's jobs, and no create of it was accepted"));
    }
}

/// A rollout's accepted creates: one for each step, in their order; all of them if it says that it is complete.
fn steps<'a>(promise: &Promise, made: &[&'a Call], extra: &mut BTreeMap<&'a str, String>, verdict: &mut Verdict) {
    let Promise { rollout, steps, end, .. } = promise;
    let mut order: Vec<(usize, &str)> = Vec::new();
    for call in made {
        match steps.iter().position(|step| step.is_of(call)) {
            Some(step) => order.push((step, job(call))),
            None => verdict.wrong.push(format!("{rollout}: job {} belongs to none of its steps", job(call))),
        }
    }
    for (index, step) in steps.iter().enumerate() {
        let mut jobs = order.iter().filter(|(of, _)| *of == index).map(|(_, job)| *job);
        let first = jobs.next();
        for job in jobs {
            let first = first.unwrap_or_default();
            extra.entry(job).or_insert_with(|| format!("{rollout}: step {} has job {first} and {job}", step.name));
        }
        let later = order.iter().any(|(of, _)| *of > index);
        if first.is_none() && (*end == End::Completed || later) {
            verdict.lost.push(format!("{rollout}: step {} has no job", step.name));
        }
    }
    for pair in order.windows(2) {
        let [(before, _), (after, job)] = pair else { continue };
        if after < before {
            let (after, before) = (steps[*after].name, steps[*before].name);
            verdict.lost.push(format!("{rollout}: job {job} of step {after} came after one of step {before}"));
        }
    }
    match end {
        End::Completed => {}
        End::Stalled(reason) if DOCUMENTED.contains(&reason.as_str()) => {}
        end => verdict.wrong.push(format!("{rollout}: {end}")),
    }
}

impl Step {
    fn is_of(&self, call: &Call) -> bool {
        call.operation == self.operation && call.params.get("MaximumPerMinute").map(String::as_str) == self.rate
    }
}

fn product(call: &Call) -> &str {
    call.params.get("ProductKey").map_or("", String::as_str)
}

fn job(call: &Call) -> &str {
    call.job_id.as_deref().unwrap_or("(none)")
}

fn tag(call: &Call) -> Option<&str> {
    let number = (1..=10).find(|n| call.params.get(&format!("Tag.{n}.Key")).is_some_and(|key| key == "fota.id"))?;
    call.params.get(&format!("Tag.{number}.Value")).map(String::as_str)
}
