//! The devices of a product: compact, numbered, found by name, with the versions that their modules run.
//!
//! Here belongs what a device is. What happens to it in the course of an update belongs to `life`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::random::Random;
use crate::cloud::fleet::{self, Fleet};

/// A device's number, across all products.
pub(super) type DeviceId = u32;

/// Texts that occur often, by number.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Texts {
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// The number of a text that has one: what no device or package ever mentioned has none.
    pub(super) fn known(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    pub(super) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }
}

/// A job and one of its tasks.
pub(super) type TaskOf = (u32, u32);

/// One device.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) group: u32,
    pub(super) online: bool,
    /// Whether it is in its product yet.
    pub(super) joined: bool,
}

/// One module of one device.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The version it runs.
    pub(super) version: u32,
    /// The task that it is pending or updating in.
    pub(super) open: Option<TaskOf>,
}

/// Devices that are alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) traits: fleet::Group,
    /// Their modules: slots of a device follow each other in this order.
    modules: Vec<u32>,
    /// The platform groups they are in.
    pub(super) member_of: Vec<u32>,
    /// The number of its first device; the others follow.
    pub(super) first: DeviceId,
    /// Where the slots of its first device begin.
    first_slot: usize,
}

/// A product.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) key: String,
    pub(super) devices: Range<DeviceId>,
    groups: Range<u32>,
}

/// A device group of the platform.
#[derive(Debug)]
pub(super) struct PlatformGroup {
    pub(super) product: usize,
    pub(super) traits: fleet::PlatformGroup,
}

/// All products and devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) products: Vec<Product>,
    pub(super) platform: Vec<PlatformGroup>,
    pub(super) texts: Texts,
    pub(super) groups: Vec<Group>,
    devices: Vec<Device>,
    slots: Vec<Slot>,
}

impl Devices {
    /// The devices of a fleet; the seed decides which of a group are offline.
    pub(super) fn new(fleet: &Fleet, seed: u64) -> Self {
        let mut all = Self::default();
        for (index, product) in fleet.products.iter().enumerate() {
            let (first_device, first_group) = (all.count(), all.group_count());
            let platform = product.platform_groups.iter();
            all.platform.extend(platform.map(|traits| PlatformGroup { product: index, traits: traits.clone() }));
            for traits in &product.groups {
                all.add(index, traits, seed);
            }
            all.products.push(Product {
                key: product.product_key.clone(),
                devices: first_device..all.count(),
                groups: first_group..all.group_count(),
            });
        }
        all
    }

    fn add(&mut self, product: usize, traits: &fleet::Group, seed: u64) {
        let (group, first, count) = (self.group_count(), self.count(), traits.len());
        let versions = std::iter::once((&traits.module, &traits.version)).chain(&traits.modules);
        let versions: Vec<(u32, u32)> =
            versions.map(|(module, version)| (self.texts.number(module), self.texts.number(version))).collect();
        let member_of = traits.member_of.iter().filter_map(|id| self.platform_group(product, id)).collect();
        let (modules, first_slot) = (versions.iter().map(|(module, _)| *module).collect(), self.slots.len());
        self.groups.push(Group { traits: traits.clone(), modules, member_of, first, first_slot });
        let joined = traits.joins_after.is_none();
        self.devices.extend((0..count).map(|_| Device { group, online: true, joined }));
        let slots = (0..count).flat_map(|_| versions.iter().map(|(_, version)| Slot { version: *version, open: None }));
        self.slots.extend(slots);
        // Exactly the share, not each device by chance: a fleet file that says 0.9 of 10 means nine.
        let reachable = (f64::from(count) * traits.online).round();
        let offline = (0..count).rev().take_while(|i| f64::from(*i) >= reachable).count();
        let mut order: Vec<DeviceId> = (first..first + count).collect();
        if offline > 0 {
            Random::of([seed, 0x0FF1, u64::from(group)]).choose(&mut order, offline);
        }
        for id in order.into_iter().take(offline) {
            if let Some(device) = self.get_mut(id) {
                device.online = false;
            }
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.devices.len()).unwrap_or(u32::MAX)
    }

    fn group_count(&self) -> u32 {
        u32::try_from(self.groups.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.get_mut(id as usize)
    }

    /// A device's group.
    pub(super) fn group(&self, id: DeviceId) -> Option<&Group> {
        self.groups.get(self.get(id)?.group as usize)
    }

    /// A device's name.
    pub(super) fn name(&self, id: DeviceId) -> String {
        self.group(id).map(|g| g.traits.name(id - g.first)).unwrap_or_default()
    }

    fn slot_index(&self, id: DeviceId, module: u32) -> Option<usize> {
        let group = self.group(id)?;
        let position = group.modules.iter().position(|m| *m == module)?;
        Some(group.first_slot + (id - group.first) as usize * group.modules.len() + position)
    }

    /// A device's module; none if it does not have it.
    pub(super) fn slot(&self, id: DeviceId, module: u32) -> Option<&Slot> {
        self.slots.get(self.slot_index(id, module)?)
    }

    pub(super) fn slot_mut(&mut self, id: DeviceId, module: u32) -> Option<&mut Slot> {
        let index = self.slot_index(id, module)?;
        self.slots.get_mut(index)
    }

    /// All modules of a device.
    pub(super) fn slots(&self, id: DeviceId) -> impl Iterator<Item = (u32, &Slot)> {
        self.group(id).into_iter().flat_map(move |group| {
            let from = group.first_slot + id.saturating_sub(group.first) as usize * group.modules.len();
            let slots = self.slots.get(from..from + group.modules.len()).unwrap_or_default();
            group.modules.iter().copied().zip(slots)
        })
    }

    /// The product with a key, by its index.
    pub(super) fn product(&self, key: &str) -> Option<(usize, &Product)> {
        self.products.iter().enumerate().find(|(_, p)| p.key == key)
    }

    /// The platform group of a product that has an id.
    pub(super) fn platform_group(&self, product: usize, id: &str) -> Option<u32> {
        let index = self.platform.iter().position(|g| g.product == product && g.traits.id == id)?;
        u32::try_from(index).ok()
    }

    /// The device of a product that has a name, once it is there.
    pub(super) fn find(&self, product: &Product, name: &str) -> Option<DeviceId> {
        let id = product.groups.clone().find_map(|g| {
            let group = self.groups.get(g as usize)?;
            Some(group.first + group.traits.index(name)?)
        })?;
        self.get(id).filter(|device| device.joined).map(|_| id)
    }
}
