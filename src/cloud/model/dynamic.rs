//! Standing policies, and what devices do by themselves that policies react to: joining, reporting a version
//! (ota-api: sections 4, 7.3).
//!
//! Here belongs which policy a device falls to. Making the job of a policy belongs to `create`, ending it to `cancel`.

use super::devices::DeviceId;
use super::jobs::{Reason, TaskStatus};
use super::life::{Event, ms};
use super::random::Random;
use super::world::World;

/// Domain of random streams.
const JOINS: u64 = 0x101;

impl World {
    /// Lays out what the fleet file says that devices will do by themselves.
    pub(super) fn schedule_fleet(&mut self) {
        let mut events = Vec::new();
        for (number, group) in (0_u32..).zip(&self.devices.groups) {
            if let Some([least, most]) = group.traits.joins_after {
                let mut draw = Random::of([self.seed, JOINS, u64::from(number)]);
                let devices = group.first..group.first + group.traits.len();
                events.extend(devices.map(|device| (ms(draw.between(least, most)), Event::Join { device })));
            }
            let reports = (0_u32..).zip(&group.traits.reports);
            events.extend(reports.map(|(report, r)| (ms(r.after), Event::Report { group: number, report })));
        }
        for (after, event) in events {
            self.schedule(self.now + after, event);
        }
    }

    /// A device joins its product and reports all its versions.
    pub(super) fn join(&mut self, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(device) {
            device.joined = true;
        }
        let modules: Vec<u32> = self.devices.slots(device).map(|(module, _)| module).collect();
        modules.into_iter().for_each(|module| self.cover(device, module));
    }

    /// A group of the fleet file reports a version.
    pub(super) fn report_of_group(&mut self, group: u32, report: u32) {
        let Some(group) = self.devices.groups.get(group as usize) else { return };
        let Some(traits) = group.traits.reports.get(report as usize) else { return };
        let (version, module) = (traits.version.clone(), traits.module.clone());
        let devices = group.first..group.first + group.traits.len();
        let (version, module) = (self.devices.texts.number(&version), self.devices.texts.number(&module));
        for device in devices {
            if self.devices.get(device).is_some_and(|d| d.joined) {
                self.report_version(device, module, version);
            }
        }
    }

    /// One device reports a version; false: it does not exist or has no such module.
    pub(super) fn report_of_device(&mut self, product_key: &str, name: &str, module: &str, version: &str) -> bool {
        let device = self.devices.product(product_key).and_then(|(_, product)| self.devices.find(product, name));
        let (Some(device), Some(module)) = (device, self.devices.texts.known(module)) else { return false };
        let version = self.devices.texts.number(version);
        let has_module = self.devices.slot(device, module).is_some();
        self.report_version(device, module, version);
        has_module
    }

    /// A device reports a version. It decides its running task: the destination is success; anything that is neither
    /// that nor the source is failure, when the job named its sources.
    pub(super) fn report_version(&mut self, device: DeviceId, module: u32, version: u32) {
        let Some(slot) = self.devices.slot_mut(device, module) else { return };
        let (known, open) = (slot.version == version, slot.open);
        slot.version = version;
        if let Some((number, task)) = open
            && let Some(job) = self.job(number)
            && let Some((status, src)) = job.tasks.get(task).map(|t| (t.status, t.src))
        {
            let dest = self.package(job.firmware).map(|p| p.dest);
            let pushed = matches!(status, TaskStatus::Notified | TaskStatus::InProgress);
            if dest == Some(version) && pushed {
                // This covers the device as well.
                return self.set_status(number, task, TaskStatus::Succeeded, Reason::None);
            }
            let stray = src != version && dest != Some(version) && !job.policy.src_versions.is_empty();
            if status == TaskStatus::InProgress && stray {
                self.set_status(number, task, TaskStatus::Failed, Reason::WrongVersion);
            }
        }
        if !known {
            self.cover(device, module);
        }
    }

    /// Gives a device that came to a version a task of the latest policy that covers it; once per policy and version.
    pub(super) fn cover(&mut self, device: DeviceId, module: u32) {
        if self.policies.is_empty() {
            return;
        }
        let Some(version) = self.devices.slot(device, module).map(|slot| slot.version) else { return };
        let product = self.devices.products.iter().position(|p| p.devices.contains(&device));
        let covers = |number: &u32| {
            let Some(job) = self.job(*number) else { return false };
            let Some(package) = self.package(job.firmware) else { return false };
            let sources = self.sources(&job.policy.src_versions);
            Some(package.product) == product
                && package.module == module
                && self.matches(device, package, job.policy.group, sources.as_deref())
        };
        let Some(number) = self.policies.iter().rev().copied().find(covers) else { return };
        let Some(job) = self.job_mut(number) else { return };
        if !job.covered.contains(&(device, version)) {
            job.pending.push_back(device);
            self.create_some(number, 1);
        }
    }

    /// Source versions by number; none: any. A version that nothing ever ran has no number and matches nothing.
    pub(super) fn sources(&self, versions: &[String]) -> Option<Vec<u32>> {
        let numbers = || versions.iter().filter_map(|v| self.devices.texts.known(v)).collect();
        (!versions.is_empty()).then(numbers)
    }
}
