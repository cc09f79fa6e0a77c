//! The table: a line for each scenario, and how often the operator died of which request.

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::Verdict;
use super::tap::{Kind, Strike, Way};

/// How often the operator died of which request, and how.
#[derive(Debug, Clone, Default)]
pub struct Kills(BTreeMap<Kind, BTreeMap<Way, usize>>);

impl Kills {
    pub fn count(&mut self, strike: Strike) {
        *self.0.entry(strike.kind).or_default().entry(strike.way).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, ways) in &other.0 {
            for (way, count) in ways {
                *self.0.entry(kind.clone()).or_default().entry(*way).or_default() += count;
            }
        }
    }

    pub fn total(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// A line for each kind of request.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let cells = |of: &dyn Fn(Way) -> String| Way::ALL.map(|way| format!("{:>13}", of(way))).concat();
        lines.push(format!("{:<32}{}", "killed at", cells(&|way| way.to_string())));
        for (kind, ways) in &self.0 {
            lines.push(format!("{kind:<32}{}", cells(&|way| ways.get(&way).copied().unwrap_or(0).to_string())));
        }
        lines
    }
}

/// A scenario that is over.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub scenario: String,
    pub rollouts: usize,
    pub kills: Kills,
    pub verdict: Verdict,
    /// What else was done, and what must be said of it.
    pub notes: Vec<String>,
    pub took: Duration,
}

impl Row {
    pub fn head() -> String {
        format!(
            "{:<34}{:>9}{:>7}{:>9}{:>9}{:>9}{:>6}{:>9}  ended",
            "scenario", "rollouts", "kills", "creates", "accepted", "doubled", "lost", "seconds"
        )
    }

    /// Takes in another part of the same scenario.
    pub fn add(&mut self, part: Self) {
        self.rollouts += part.rollouts;
        self.kills.add(&part.kills);
        self.verdict.add(part.verdict);
        self.notes.extend(part.notes);
    }

    pub fn line(&self) -> String {
        let Self { scenario, rollouts, verdict, .. } = self;
        let ends: Vec<_> = verdict.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        format!(
            "{scenario:<34}{rollouts:>9}{:>7}{:>9}{:>9}{:>9}{:>6}{:>9.0}  {}",
            self.kills.total(),
            verdict.sent,
            verdict.accepted,
            verdict.duplicates.len(),
            verdict.lost.len(),
            self.took.as_secs_f64(),
            ends.join(", ")
        )
    }
}
