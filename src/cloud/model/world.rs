//! Packages, devices and jobs together, and the transitions that concern more than one of them.
//!
//! Here belongs what must stay consistent: a device's open task, a job's end, a package's verdict. When things happen
//! belongs to `life`, what may be asked for to the operations. No wall clock but as a note on a job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::devices::{DeviceId, Devices};
use super::jobs::{Failures, Job, JobStatus, Policy, Reason, Task, TaskStatus, Tasks};
use super::life::Event;
use super::random::Random;
use super::switches::{BusyDevices, Completion, JobEnd, Switches, VerifyVerdict};
use crate::cloud::faults::Faults;
use crate::cloud::fleet::{self, Fleet};

/// When every package was uploaded: before any fleet clock begins.
const UPLOADED: i64 = 1_704_067_200_000;

/// Domains of random streams.
const JOB_IDS: u64 = 0x10B;

/// `Status` of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    Exempt,
    Unverified,
    Verified,
    Verifying,
    Failed,
}

impl Verification {
    pub(super) const fn number(self) -> i8 {
        match self {
            Self::Exempt => -1,
            Self::Unverified => 0,
            Self::Verified => 1,
            Self::Verifying => 2,
            Self::Failed => 3,
        }
    }
}

/// An update package.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) traits: fleet::Firmware,
    /// Index of its product.
    pub(super) product: usize,
    pub(super) module: u32,
    pub(super) dest: u32,
    pub(super) src: Option<u32>,
    pub(super) status: Verification,
    /// Its latest verify job.
    pub(super) verify_job: Option<u32>,
    pub(super) created: i64,
    pub(super) modified: i64,
    /// Its jobs, oldest first.
    pub(super) jobs: Vec<u32>,
}

/// An event at a time; the number keeps those of one instant in the order they were made.
type Scheduled = Reverse<(i64, u64, Event)>;

/// Everything behind the gateway.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) switches: Switches,
    pub(super) faults: Faults,
    /// The fleet clock, Unix milliseconds.
    pub(super) now: i64,
    pub(super) devices: Devices,
    pub(super) packages: Vec<Package>,
    pub(super) package_ids: BTreeMap<String, u32>,
    pub(super) jobs: Vec<Job>,
    pub(super) job_ids: BTreeMap<String, u32>,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    ids: Random,
}

impl World {
    pub(super) fn new(fleet: &Fleet, seed: u64, switches: Switches) -> Self {
        let mut devices = Devices::new(fleet, seed);
        let mut packages = Vec::new();
        let mut package_ids = BTreeMap::new();
        for (number, traits) in (0_u32..).zip(&fleet.firmware) {
            let Some((product, _)) = devices.product(&traits.product_key) else { continue };
            package_ids.insert(traits.id.clone(), number);
            packages.push(Package {
                product,
                module: devices.texts.number(&traits.module),
                dest: devices.texts.number(&traits.version),
                src: traits.src_version.as_ref().map(|v| devices.texts.number(v)),
                status: if traits.need_to_verify { Verification::Unverified } else { Verification::Exempt },
                verify_job: None,
                created: UPLOADED,
                modified: UPLOADED,
                jobs: Vec::new(),
                traits: traits.clone(),
            });
        }
        let faults = Faults { list_lag_ms: switches.list_lag_ms, ..Faults::default() };
        Self {
            seed,
            switches,
            faults,
            now: UPLOADED,
            devices,
            packages,
            package_ids,
            jobs: Vec::new(),
            job_ids: BTreeMap::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            ids: Random::of([seed, JOB_IDS]),
        }
    }

    pub(super) fn job(&self, job: u32) -> Option<&Job> {
        self.jobs.get(job as usize)
    }

    pub(super) fn job_mut(&mut self, job: u32) -> Option<&mut Job> {
        self.jobs.get_mut(job as usize)
    }

    pub(super) fn package(&self, package: u32) -> Option<&Package> {
        self.packages.get(package as usize)
    }

    pub(super) fn package_mut(&mut self, package: u32) -> Option<&mut Package> {
        self.packages.get_mut(package as usize)
    }

    /// Lets an event happen at a time, not before now.
    pub(super) fn schedule(&mut self, at: i64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at.max(self.now), self.scheduled, event)));
    }

    /// Moves the fleet clock on, and with it everything that is due. A clock that goes back is ignored.
    pub(super) fn advance(&mut self, fleet_ms: i64) {
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= fleet_ms
        {
            if let Some(Reverse((at, _, event))) = self.events.pop() {
                self.now = self.now.max(at);
                self.happen(event);
            }
        }
        self.now = self.now.max(fleet_ms);
    }

    /// Devices that ALL and GRAY choose from: they have the module, match the sources, and are elsewhere than at the
    /// destination.
    pub(super) fn eligible(&self, package: &Package, sources: &[u32], any_source: bool) -> Vec<DeviceId> {
        let Some(product) = self.devices.products.get(package.product) else { return Vec::new() };
        let include_busy = self.switches.busy_devices == BusyDevices::Included;
        let fits = |id: &DeviceId| {
            self.has_module(*id, package)
                && self.devices.get(*id).is_some_and(|d| {
                    d.version != package.dest
                        && (any_source || sources.contains(&d.version))
                        && (include_busy || d.open.is_none())
                })
        };
        product.devices.clone().filter(fits).collect()
    }

    /// Whether a device has a package's module.
    pub(super) fn has_module(&self, device: DeviceId, package: &Package) -> bool {
        self.devices.group(device).is_some_and(|g| g.module == package.module)
    }

    /// Makes a job; its tasks are created now or, with the switch, over time. Returns its number.
    pub(super) fn create_job(&mut self, package: u32, policy: Policy, targets: Vec<DeviceId>, wall: i64) -> u32 {
        let number = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        let kind = if policy.verify { "01" } else { "02" };
        let id = format!("{}{kind}{number:04}", self.ids.text(20));
        let planned = policy.schedule.is_some();
        let (verify, start, finish) = (policy.verify, policy.schedule, policy.schedule_finish);
        self.job_ids.insert(id.clone(), number);
        self.jobs.push(Job {
            id,
            firmware: package,
            policy,
            status: if planned { JobStatus::Planned } else { JobStatus::InProgress },
            created: self.now,
            created_wall: wall,
            modified: self.now,
            started: (!planned).then_some(self.now),
            ended: None,
            tasks: Tasks::default(),
            failures: Failures::default(),
            pending: targets.into(),
            cursor: 0,
            late: std::collections::VecDeque::new(),
            pushing: false,
            window: (0, 0),
        });
        let now = self.now;
        if let Some(package) = self.package_mut(package) {
            package.jobs.push(number);
            if verify {
                (package.status, package.verify_job, package.modified) = (Verification::Verifying, Some(number), now);
            }
        }
        if let Some(start) = start {
            self.schedule(start, Event::Start { job: number });
        }
        if let Some(finish) = finish {
            self.schedule(finish, Event::Finish { job: number });
        }
        self.begin_creation(number);
        number
    }

    /// Creates the task of one more target.
    pub(super) fn create_task(&mut self, number: u32) {
        let Some(job) = self.job_mut(number) else { return };
        let Some(device_id) = job.pending.pop_front() else { return };
        let (overwrites, confirm) = (job.policy.overwrite || job.policy.multi_module, job.policy.need_confirm);
        let Some(device) = self.devices.get(device_id) else { return };
        let (src, open) = (device.version, device.open);
        if let Some((other, task)) = open {
            let status = self.job(other).and_then(|j| j.tasks.get(task)).map(|t| t.status);
            if !overwrites || status == Some(TaskStatus::InProgress) {
                let task = Task::new(device_id, src, TaskStatus::Failed, Reason::Busy, self.now);
                if let Some(job) = self.job_mut(number) {
                    job.failures.conflict += 1;
                    job.tasks.push(task);
                }
                return;
            }
            self.set_status(other, task, TaskStatus::Canceled, Reason::Overwritten);
        }
        let status = if confirm { TaskStatus::Confirm } else { TaskStatus::Queued };
        let task = Task::new(device_id, src, status, Reason::None, self.now);
        if let Some(job) = self.job_mut(number) {
            let task = job.tasks.push(task);
            if let Some(device) = self.devices.get_mut(device_id) {
                device.open = Some((number, task));
            }
        }
    }

    /// Moves a task to another status, and draws the consequences for device, job and package.
    pub(super) fn set_status(&mut self, number: u32, task_number: u32, status: TaskStatus, reason: Reason) {
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        let Some(task) = job.tasks.get(task_number) else { return };
        let (device, was_terminal) = (task.device, task.status.terminal());
        job.tasks.set(task_number, status, reason, now);
        job.modified = now;
        if !status.terminal() || was_terminal {
            return;
        }
        if status == TaskStatus::Failed {
            match reason {
                Reason::Timeout => job.failures.timed_out += 1,
                Reason::Busy => job.failures.conflict += 1,
                _ => job.failures.failed += 1,
            }
        }
        let (package_number, verify) = (job.firmware, job.policy.verify);
        let dest = self.package(package_number).map(|p| p.dest);
        if let Some(device) = self.devices.get_mut(device) {
            if device.open == Some((number, task_number)) {
                device.open = None;
            }
            if let (TaskStatus::Succeeded, Some(dest)) = (status, dest) {
                device.version = dest;
            }
        }
        if verify
            && status == TaskStatus::Failed
            && self.switches.verify_verdict == VerifyVerdict::FirstFailure
            && let Some(package) = self.package_mut(package_number)
        {
            (package.status, package.modified) = (Verification::Failed, now);
        }
        self.settle_job(number);
    }

    /// Ends a job that has nothing left to do.
    pub(super) fn settle_job(&mut self, number: u32) {
        let Some(job) = self.job(number) else { return };
        if job.status.ended() || !job.pending.is_empty() || job.tasks.open() > 0 {
            return;
        }
        let count = |status| job.tasks.count(status);
        let all_cancelled = count(TaskStatus::Succeeded) + count(TaskStatus::Failed) == 0;
        if self.switches.completion == Completion::Never && !all_cancelled && !job.policy.verify {
            return;
        }
        let end = if all_cancelled { self.switches.cancelled_job } else { JobEnd::Completed };
        self.end_job(number, end);
    }

    /// Ends a job, and judges the package it verified.
    pub(super) fn end_job(&mut self, number: u32, end: JobEnd) {
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        job.status = match end {
            JobEnd::Completed => JobStatus::Completed,
            JobEnd::Canceled => JobStatus::Canceled,
        };
        (job.ended, job.modified) = (Some(now), now);
        let (verify, package) = (job.policy.verify, job.firmware);
        let all_succeeded = job.tasks.count(TaskStatus::Succeeded) == job.tasks.len();
        if verify
            && let Some(package) = self.package_mut(package)
            && package.verify_job == Some(number)
            && package.status == Verification::Verifying
        {
            package.status = if all_succeeded { Verification::Verified } else { Verification::Failed };
            package.modified = now;
        }
    }

    /// Percent of a package's verification that is finished.
    pub(super) fn verify_progress(&self, package: &Package) -> usize {
        match package.status {
            Verification::Exempt | Verification::Unverified => 0,
            Verification::Verified | Verification::Failed => 100,
            Verification::Verifying => package.verify_job.and_then(|j| self.job(j)).map_or(0, |job| {
                let all = job.tasks.len() + job.pending.len();
                100 * (job.tasks.len() - job.tasks.open()) / all.max(1)
            }),
        }
    }
}
