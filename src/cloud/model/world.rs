//! Packages, devices and jobs together, and the transitions that concern more than one of them.
//!
//! Here belongs what must stay consistent: a device's open task, a job's end, a package's verdict. When things happen
//! belongs to `life`, what may be asked for to the operations. No wall clock but as a note on a job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::devices::{DeviceId, Devices, TaskOf};
use super::jobs::{Failures, Job, JobStatus, Kind, Policy, Reason, Task, TaskStatus, Tasks};
use super::life::Event;
use super::name_lists::NameLists;
use super::random::Random;
use super::switches::{BusyDevices, Completion, JobEnd, Switches, VerifyCancelled, VerifyVerdict};
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
    /// What its maker said about it and nobody acts upon.
    pub(super) notes: Notes,
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

/// Texts of a package that are shown again as they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) description: String,
    pub(super) sign_method: Option<String>,
    pub(super) sign: Option<String>,
    pub(super) url: Option<String>,
    pub(super) udi: Option<String>,
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
    /// Running dynamic jobs, oldest first.
    pub(super) policies: Vec<u32>,
    /// Uploaded lists of device names.
    pub(super) name_lists: NameLists,
    /// Whether the fleet clock has begun to move.
    started: bool,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub(super) ids: Random,
}

impl World {
    pub(super) fn new(fleet: &Fleet, seed: u64, switches: Switches) -> Self {
        let devices = Devices::new(fleet, seed);
        let faults = Faults { list_lag_ms: switches.list_lag_ms, ..Faults::default() };
        let mut world = Self {
            seed,
            switches,
            faults,
            now: UPLOADED,
            devices,
            packages: Vec::new(),
            package_ids: BTreeMap::new(),
            jobs: Vec::new(),
            job_ids: BTreeMap::new(),
            policies: Vec::new(),
            name_lists: NameLists::default(),
            started: false,
            events: BinaryHeap::new(),
            scheduled: 0,
            ids: Random::of([seed, JOB_IDS]),
        };
        for traits in &fleet.firmware {
            world.add_package(traits.clone(), Notes::default());
        }
        world
    }

    /// Adds a package; its product exists.
    pub(super) fn add_package(&mut self, traits: fleet::Firmware, notes: Notes) {
        let Some((product, _)) = self.devices.product(&traits.product_key) else { return };
        let number = u32::try_from(self.packages.len()).unwrap_or(u32::MAX);
        self.package_ids.insert(traits.id.clone(), number);
        let texts = &mut self.devices.texts;
        self.packages.push(Package {
            product,
            module: texts.number(&traits.module),
            dest: texts.number(&traits.version),
            src: traits.src_version.as_ref().map(|v| texts.number(v)),
            status: if traits.need_to_verify { Verification::Unverified } else { Verification::Exempt },
            verify_job: None,
            created: self.now,
            modified: self.now,
            jobs: Vec::new(),
            traits,
            notes,
        });
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
        if !self.started {
            self.started = true;
            self.now = self.now.max(fleet_ms);
            self.schedule_fleet();
        }
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

    /// Devices that ALL, GRAY and GROUP choose from: they are there, have the module, are at one of the sources (none
    /// given: at any) and not at the destination.
    pub(super) fn eligible(&self, package: &Package, group: Option<u32>, sources: Option<&[u32]>) -> Vec<DeviceId> {
        let Some(product) = self.devices.products.get(package.product) else { return Vec::new() };
        let include_busy = self.switches.busy_devices == BusyDevices::Included;
        let fits = |id: &DeviceId| {
            self.matches(*id, package, group, sources)
                && (include_busy || self.devices.slots(*id).all(|(_, slot)| slot.open.is_none()))
        };
        product.devices.clone().filter(fits).collect()
    }

    /// Whether a device is one of those.
    pub(super) fn matches(&self, id: DeviceId, package: &Package, group: Option<u32>, sources: Option<&[u32]>) -> bool {
        self.devices.get(id).is_some_and(|d| d.joined)
            && self.devices.slot(id, package.module).is_some_and(|slot| {
                slot.version != package.dest
                    && package.src.is_none_or(|src| slot.version == src)
                    && sources.is_none_or(|sources| sources.contains(&slot.version))
            })
            && group.is_none_or(|group| self.devices.group(id).is_some_and(|g| g.member_of.contains(&group)))
    }

    /// Whether a device has a package's module.
    pub(super) fn has_module(&self, device: DeviceId, package: &Package) -> bool {
        self.devices.slot(device, package.module).is_some()
    }

    /// Makes a job; its tasks are created now or, with the switch, over time. Returns its number.
    pub(super) fn create_job(&mut self, package: u32, policy: Policy, targets: Vec<DeviceId>, wall: i64) -> u32 {
        let number = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        let kind = if policy.verify() { "01" } else { "02" };
        let id = format!("{}{kind}{number:04}", self.ids.text(20));
        let planned = policy.schedule.is_some();
        let (kind, start, finish) = (policy.kind, policy.schedule, policy.schedule_finish);
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
            pretence: Default::default(),
            covered: Default::default(),
        });
        let now = self.now;
        if let Some(package) = self.package_mut(package) {
            package.jobs.push(number);
            if kind == Kind::Verify {
                (package.status, package.verify_job, package.modified) = (Verification::Verifying, Some(number), now);
            }
        }
        if let Some(start) = start {
            self.schedule(start, Event::Start { job: number });
        }
        if let Some(finish) = finish {
            self.schedule(finish, Event::Finish { job: number });
        }
        if matches!(kind, Kind::Dynamic(_)) {
            self.policies.push(number);
        }
        self.begin_creation(number);
        number
    }

    /// Creates the task of one more target.
    pub(super) fn create_task(&mut self, number: u32) {
        let Some(job) = self.job_mut(number) else { return };
        let Some(device) = job.pending.pop_front() else { return };
        let (confirm, timeout) = (job.policy.need_confirm, job.policy.timeout_minutes.unwrap_or(0));
        let Some(module) = self.job(number).and_then(|j| self.package(j.firmware)).map(|p| p.module) else { return };
        let Some(src) = self.devices.slot(device, module).map(|slot| slot.version) else { return };
        let (status, reason) = match (self.make_way(number, device, module), confirm) {
            (false, _) => (TaskStatus::Failed, Reason::Busy),
            (true, true) => (TaskStatus::Confirm, Reason::None),
            (true, false) => (TaskStatus::Queued, Reason::None),
        };
        let mut task = Task::new(device, src, status, reason, self.now);
        task.timeout_minutes = timeout;
        let Some(job) = self.job_mut(number) else { return };
        if job.policy.dynamic() {
            job.covered.insert((device, src));
        }
        let task = job.tasks.push(task);
        if status == TaskStatus::Failed {
            job.failures.conflict += 1;
        } else if let Some(slot) = self.devices.slot_mut(device, module) {
            slot.open = Some((number, task));
        }
    }

    /// Frees a device for a job's task by displacing others, where the job may; false: the device stays busy.
    pub(super) fn make_way(&mut self, number: u32, device: DeviceId, module: u32) -> bool {
        let Some(policy) = self.job(number).map(|job| &job.policy) else { return false };
        // Modules of their own do not get into each other's way; and within one, the later job always wins.
        let (overwrites, only) = (policy.overwrite || policy.multi_module, policy.multi_module.then_some(module));
        let concerns = move |module: u32| only.is_none_or(|only| only == module);
        let stays = |open: Option<TaskOf>| {
            let status = open.and_then(|(job, task)| Some(self.job(job)?.tasks.get(task)?.status));
            status.is_some_and(|status| !overwrites || status == TaskStatus::InProgress)
        };
        if self.devices.slots(device).any(|(module, slot)| concerns(module) && stays(slot.open)) {
            return false;
        }
        loop {
            let open = {
                let mut slots = self.devices.slots(device).filter(|(module, _)| concerns(*module));
                slots.find_map(|(_, slot)| slot.open)
            };
            let Some((job, task)) = open else { return true };
            self.set_status(job, task, TaskStatus::Canceled, Reason::Overwritten);
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
        let (package_number, verify) = (job.firmware, job.policy.verify());
        let Some((module, dest)) = self.package(package_number).map(|p| (p.module, p.dest)) else { return };
        if let Some(slot) = self.devices.slot_mut(device, module) {
            if slot.open == Some((number, task_number)) {
                slot.open = None;
            }
            if status == TaskStatus::Succeeded {
                slot.version = dest;
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
        if status == TaskStatus::Succeeded {
            self.cover(device, module);
        }
    }

    /// Ends a job that has nothing left to do; a dynamic one never has.
    pub(super) fn settle_job(&mut self, number: u32) {
        let Some(job) = self.job(number) else { return };
        if job.status.ended() || job.policy.dynamic() || !job.pending.is_empty() || job.tasks.open() > 0 {
            return;
        }
        let count = |status| job.tasks.count(status);
        let all_cancelled = count(TaskStatus::Succeeded) + count(TaskStatus::Failed) == 0;
        if self.switches.completion == Completion::Never && !all_cancelled && !job.policy.verify() {
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
        let (verify, package) = (job.policy.verify(), job.firmware);
        let count = |status| job.tasks.count(status);
        let verdict = if count(TaskStatus::Succeeded) == job.tasks.len() {
            Verification::Verified
        } else if count(TaskStatus::Canceled) > 0 && count(TaskStatus::Failed) == 0 {
            match self.switches.verify_cancelled {
                VerifyCancelled::Failed => Verification::Failed,
                VerifyCancelled::Unverified => Verification::Unverified,
            }
        } else {
            Verification::Failed
        };
        if verify
            && let Some(package) = self.package_mut(package)
            && package.verify_job == Some(number)
            && package.status == Verification::Verifying
        {
            (package.status, package.modified) = (verdict, now);
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
