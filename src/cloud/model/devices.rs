//! The devices of a product: compact, numbered, found by name, with the version they run.
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

/// One device.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) group: u32,
    /// The version it runs, of its group's module.
    pub(super) version: u32,
    pub(super) online: bool,
    /// The job and task it is pending or updating in.
    pub(super) open: Option<(u32, u32)>,
}

/// Devices that are alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) traits: fleet::Group,
    pub(super) module: u32,
    /// The number of its first device; the others follow.
    first: DeviceId,
}

/// A product.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) key: String,
    pub(super) devices: Range<DeviceId>,
    groups: Range<u32>,
}

/// All products and devices.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) products: Vec<Product>,
    pub(super) texts: Texts,
    groups: Vec<Group>,
    devices: Vec<Device>,
}

impl Devices {
    /// The devices of a fleet; the seed decides which of a group are offline.
    pub(super) fn new(fleet: &Fleet, seed: u64) -> Self {
        let mut all = Self::default();
        for product in &fleet.products {
            let (first_device, first_group) = (all.count(), all.group_count());
            for traits in &product.groups {
                all.add(traits, seed);
            }
            all.products.push(Product {
                key: product.product_key.clone(),
                devices: first_device..all.count(),
                groups: first_group..all.group_count(),
            });
        }
        all
    }

    fn add(&mut self, traits: &fleet::Group, seed: u64) {
        let (group, first, count) = (self.group_count(), self.count(), traits.len());
        let module = self.texts.number(&traits.module);
        let version = self.texts.number(&traits.version);
        self.groups.push(Group { traits: traits.clone(), module, first });
        self.devices.extend((0..count).map(|_| Device { group, version, online: true, open: None }));
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

    /// The product with a key, by its index.
    pub(super) fn product(&self, key: &str) -> Option<(usize, &Product)> {
        self.products.iter().enumerate().find(|(_, p)| p.key == key)
    }

    /// The device of a product that has a name.
    pub(super) fn find(&self, product: &Product, name: &str) -> Option<DeviceId> {
        product.groups.clone().find_map(|g| {
            let group = self.groups.get(g as usize)?;
            Some(group.first + group.traits.index(name)?)
        })
    }
}
