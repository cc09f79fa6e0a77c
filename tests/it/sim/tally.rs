//! What many schedules add up to: how they ended, what they reached, how unanswered creates healed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

#[cfg(test)]
use fota::cloud::Switches;
#[cfg(test)]
use fota::rollout::observed::Account;

use super::checker::Healing;
use super::chooser::{Chooser, Random};
use super::corpus::Script;
use super::coverage::Coverage;
use super::scene::Scene;
use super::schedule::{self, Report};

/// The sum of many reports.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub schedules: u64,
    pub ends: BTreeMap<String, u64>,
    pub coverage: Coverage,
    pub healing: Healing,
    pub calls: u64,
    pub writes: u64,
    pub steps: u64,
    /// Schedules that broke a rule: which, how, and to play it again.
    pub violations: Vec<(u64, String, Script)>,
}

/// The scene of a seed: a third play in the plain one.
pub fn scene(seed: u64) -> Scene {
    let mut random = Random::new(!seed);
    Scene::new(if random.below(3) == 0 { 0 } else { random.next() })
}

/// Runs a seed in a cloud of these habits, with an account that was found to be so.
#[cfg(test)]
pub fn seed_under(seed: u64, switches: &Switches, account: &Account) -> Report {
    schedule::run(scene(seed).under(switches, account), Chooser::random(seed), false)
}

/// Runs a seed.
pub fn seed(seed: u64) -> Report {
    schedule::run(scene(seed), Chooser::random(seed), false)
}

impl Tally {
    pub fn add(&mut self, seed: u64, report: Report) {
        self.schedules += 1;
        *self.ends.entry(report.end).or_default() += 1;
        self.coverage.add(&report.visits);
        self.heal(report.healing);
        self.calls += report.calls as u64;
        self.writes += u64::from(report.writes);
        self.steps += report.steps;
        if let Some(why) = report.violation {
            self.violations.push((seed, why, Script { scene: scene(seed).number, choices: report.made }));
        }
    }

    fn heal(&mut self, healing: Healing) {
        let sums = [
            (&mut self.healing.known, healing.known),
            (&mut self.healing.unknown, healing.unknown),
            (&mut self.healing.rekeyed, healing.rekeyed),
        ];
        for (sum, more) in sums {
            sum.all += more.all;
            sum.asked += more.asked;
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.schedules += other.schedules;
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.coverage.merge(&other.coverage);
        self.heal(other.healing);
        self.calls += other.calls;
        self.writes += other.writes;
        self.steps += other.steps;
        self.violations.extend(other.violations);
    }

    /// How they ended and healed, in some lines.
    pub fn text(&self) -> String {
        let mut text = String::from("ends:");
        for (end, count) in &self.ends {
            _ = write!(text, " {end} {count}");
        }
        let Healing { known, unknown, rekeyed } = self.healing;
        for (what, of) in [
            ("tags known to be shown", known),
            ("not yet known whether tags are shown", unknown),
            ("key replaced meanwhile", rekeyed),
        ] {
            let share = 100.0 * (of.all - of.asked) as f64 / of.all.max(1) as f64;
            _ = write!(text, "\nunanswered creates, {what}: {}, healed without a person {share:.4} %", of.all);
        }
        let per = |n: u64| n as f64 / self.schedules.max(1) as f64;
        _ = write!(
            text,
            "\nper schedule: {:.1} calls, {:.1} status writes, {:.0} steps",
            per(self.calls),
            per(self.writes),
            per(self.steps),
        );
        text
    }
}
