//! What the admin side and tests in virtual time may know that the API does not say: counts and the true ledger.
//!
//! Here belong views for judging a client. Nothing that is answered to signed calls is made here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::answer::Fields;
use super::jobs::{Failures, Job, Reason, Task, TaskStatus};
use super::query::add_tags;
use super::switches::Edition;
use super::world::World;

const MINUTE_MS: f64 = 60_000.0;

/// A job with its counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobReport {
    /// QueryOTAJob's `Data`, tags always included.
    #[serde(flatten)]
    pub data: Fields,
    /// Tasks by `TaskStatus`, all seven.
    pub counts: BTreeMap<&'static str, usize>,
    /// The failed ones by kind.
    pub failures: Failures,
}

impl JobReport {
    /// A text field of the data, such as `JobId` or `JobStatus`; empty when absent.
    pub fn text(&self, field: &str) -> &str {
        self.data.get(field).and_then(|v| v.as_str()).unwrap_or_default()
    }

    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let tags = self.data.get("Tags")?.get("OtaTagDTO")?.as_array()?;
        let tag = tags.iter().find(|tag| tag.get("Key").and_then(|k| k.as_str()) == Some(key))?;
        tag.get("Value")?.as_str()
    }

    /// All tasks.
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }
}

/// Which jobs a ledger counts.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerQuery {
    /// Only jobs of this package; absent: of all packages of the product.
    pub firmware_id: Option<String>,
    /// Only these jobs; empty: all.
    pub job_ids: Vec<String>,
    /// A pushed task unchanged for this long, in fleet minutes, is silent.
    pub silent_after_minutes: f64,
}

impl Default for LedgerQuery {
    fn default() -> Self {
        Self { firmware_id: None, job_ids: Vec::new(), silent_after_minutes: 720.0 }
    }
}

/// Devices that ever had a task of the upgrade jobs asked for, each once, in the first class that fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// A task SUCCEEDED.
    pub at_target: u32,
    /// IN_PROGRESS.
    pub in_progress: u32,
    /// NOTIFIED, not silent yet.
    pub notified: u32,
    /// NOTIFIED, unchanged for long.
    pub silent: u32,
    /// QUEUED or CONFIRM.
    pub queued: u32,
    /// FAILED by the device.
    pub failed: u32,
    /// FAILED by timeout.
    pub timed_out: u32,
    /// FAILED at once on a busy device.
    pub conflict: u32,
    /// CANCELED.
    pub cancelled: u32,
    /// The sum of all classes.
    pub exposed: u32,
}

/// A product's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DevicesReport {
    /// All of them.
    pub total: u32,
    /// By module and version.
    pub versions: BTreeMap<String, BTreeMap<String, u32>>,
    /// Those that had tasks.
    pub ledger: Ledger,
}

/// The ledger's classes; the smaller one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    AtTarget,
    InProgress,
    Notified,
    Silent,
    Queued,
    Failed,
    TimedOut,
    Conflict,
    Cancelled,
}

impl World {
    pub(super) fn job_reports(&self, edition: Edition) -> Vec<JobReport> {
        let report = |job: &Job| {
            let mut data = self.job_view(job, edition);
            add_tags(&mut data, job);
            let counts = TaskStatus::ALL.into_iter().map(|s| (s.name(), job.tasks.count(s))).collect();
            JobReport { data, counts, failures: job.failures }
        };
        self.jobs.iter().map(report).collect()
    }

    pub(super) fn ledger(&self, product_key: &str, query: &LedgerQuery) -> Option<Ledger> {
        let (index, product) = self.devices.product(product_key)?;
        let job_ids: BTreeSet<&str> = query.job_ids.iter().map(String::as_str).collect();
        let silent_ms = (query.silent_after_minutes * MINUTE_MS) as i64;
        let first = product.devices.start;
        let mut classes: Vec<Option<Class>> = vec![None; product.devices.len()];
        let counts = |job: &&Job| {
            let package = self.package(job.firmware);
            !job.policy.verify()
                && (job_ids.is_empty() || job_ids.contains(job.id.as_str()))
                && package.is_some_and(|p| {
                    p.product == index && query.firmware_id.as_ref().is_none_or(|id| *id == p.traits.id)
                })
        };
        for task in self.jobs.iter().filter(counts).flat_map(|job| job.tasks.iter()) {
            let class = self.class(task, silent_ms);
            if let Some(known) = classes.get_mut((task.device - first) as usize) {
                *known = Some(known.map_or(class, |known| known.min(class)));
            }
        }
        let mut ledger = Ledger::default();
        for class in classes.into_iter().flatten() {
            ledger.exposed += 1;
            *match class {
                Class::AtTarget => &mut ledger.at_target,
                Class::InProgress => &mut ledger.in_progress,
                Class::Notified => &mut ledger.notified,
                Class::Silent => &mut ledger.silent,
                Class::Queued => &mut ledger.queued,
                Class::Failed => &mut ledger.failed,
                Class::TimedOut => &mut ledger.timed_out,
                Class::Conflict => &mut ledger.conflict,
                Class::Cancelled => &mut ledger.cancelled,
            } += 1;
        }
        Some(ledger)
    }

    fn class(&self, task: &Task, silent_ms: i64) -> Class {
        match task.status {
            TaskStatus::Succeeded => Class::AtTarget,
            TaskStatus::InProgress => Class::InProgress,
            TaskStatus::Notified if self.now - task.modified >= silent_ms => Class::Silent,
            TaskStatus::Notified => Class::Notified,
            TaskStatus::Queued | TaskStatus::Confirm => Class::Queued,
            TaskStatus::Failed if task.conflict() => Class::Conflict,
            TaskStatus::Failed if task.reason == Reason::Timeout => Class::TimedOut,
            TaskStatus::Failed => Class::Failed,
            TaskStatus::Canceled => Class::Cancelled,
        }
    }

    pub(super) fn devices_report(&self, product_key: &str, query: &LedgerQuery) -> Option<DevicesReport> {
        let ledger = self.ledger(product_key, query)?;
        let (_, product) = self.devices.product(product_key)?;
        let mut report = DevicesReport { ledger, ..DevicesReport::default() };
        let mut by_number: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for id in product.devices.clone() {
            if !self.devices.get(id).is_some_and(|device| device.joined) {
                continue;
            }
            for (module, slot) in self.devices.slots(id) {
                *by_number.entry((module, slot.version)).or_default() += 1;
            }
            report.total += 1;
        }
        for ((module, version), count) in by_number {
            let text = |number| self.devices.texts.text(number).to_owned();
            report.versions.entry(text(module)).or_default().insert(text(version), count);
        }
        Some(report)
    }
}
