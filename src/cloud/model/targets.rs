//! Which package and which devices a create call means (ota-api: sections 3, 3.1, 4).
//!
//! Here belong the selectors, source versions, device lists and groups, and how they exclude each other.

use std::collections::BTreeSet;

use super::answer::Refusal;
use super::devices::DeviceId;
use super::jobs::Selection;
use super::parameters::Given;
use super::random::Random;
use super::switches::{DestinationInArray, Edition, GrayBase};
use super::world::{Package, World};

pub(super) const VERIFY_DEVICES_MAX: usize = 10;
const SPECIFIC_DEVICES_MAX: usize = 200;
const SRC_VERSIONS_MAX: usize = 10;

/// The domain of the random streams that choose GRAY devices.
const GRAY: u64 = 0x6A47;

/// How SPECIFIC names its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeviceList<'a> {
    /// TargetDeviceName.N.
    Names(Vec<&'a str>),
    /// DnListFileUrl.
    File(&'a str),
}

impl<'a> DeviceList<'a> {
    /// Exactly one of both for SPECIFIC, none otherwise.
    pub(super) fn of(given: &Given<'a>, selection: Selection) -> Result<Option<Self>, Refusal> {
        let (names, file) = (given.has("TargetDeviceName"), given.text("DnListFileUrl"));
        let not_allowed = |why| Err(Refusal::firmware("TargetDeviceNamesNotAllowed", why));
        if selection != Selection::Specific {
            return match (names, file) {
                (false, "") => Ok(None),
                _ => not_allowed("Device names are for SPECIFIC only."),
            };
        }
        match (names, file) {
            (true, file) if !file.is_empty() => not_allowed("Device names exclude DnListFileUrl."),
            (false, file) if !file.is_empty() => Ok(Some(Self::File(file))),
            _ => Ok(Some(Self::Names(device_names(given, SPECIFIC_DEVICES_MAX)?))),
        }
    }
}

impl World {
    /// The package that FirmwareId and ProductKey name together.
    pub(super) fn wanted_package(&self, given: &Given<'_>) -> Result<u32, Refusal> {
        let number = self.find_package(given.text("FirmwareId"))?;
        let product = self.wanted_product(given)?;
        if self.package(number).is_some_and(|p| p.product == product) {
            Ok(number)
        } else {
            Err(Refusal::firmware("FirmwareAndProductKeyMismatch", "The firmware is of another product."))
        }
    }

    /// The product that ProductKey names.
    pub(super) fn wanted_product(&self, given: &Given<'_>) -> Result<usize, Refusal> {
        let unknown = || Refusal::firmware("InvalidProductKey", "The product does not exist.");
        self.devices.product(given.text("ProductKey")).map(|(index, _)| index).ok_or_else(unknown)
    }

    /// The package with an id.
    pub(super) fn find_package(&self, id: &str) -> Result<u32, Refusal> {
        if id.is_empty() {
            return Err(Refusal::firmware("NullFirmwareId", "FirmwareId is empty."));
        }
        self.package_ids.get(id).copied().ok_or_else(no_firmware)
    }

    /// The platform group that GroupId names, of the kind that goes with the job.
    pub(super) fn wanted_group(&self, given: &Given<'_>, package: &Package, dynamic: bool) -> Result<u32, Refusal> {
        let group = self.devices.platform_group(package.product, given.text("GroupId"));
        let fits = |number: &u32| {
            self.devices.platform.get(*number as usize).is_some_and(|group| group.traits.dynamic == dynamic)
        };
        group.filter(fits).ok_or_else(|| Refusal::format("GroupId"))
    }

    /// The devices of a list of names, inline or uploaded.
    pub(super) fn listed(&self, package: &Package, list: &DeviceList<'_>, wall: i64) -> Result<Vec<DeviceId>, Refusal> {
        match list {
            DeviceList::Names(names) => self.named(package, names.iter().copied()),
            // A file may hold devices at another source version: those are left out.
            DeviceList::File(url) => {
                let names = self.name_lists.uploaded(url, wall)?;
                let mut devices = Vec::with_capacity(names.len());
                for name in names {
                    devices.push(self.device_of(package, name)?);
                }
                devices.retain(|id| {
                    let version = self.devices.slot(*id, package.module).map(|slot| slot.version);
                    package.src.is_none() || version == package.src
                });
                Ok(devices)
            }
        }
    }

    /// Named devices: they exist, have the package's module and, for a differential package, its source version.
    pub(super) fn named<'a>(
        &self,
        package: &Package,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<DeviceId>, Refusal> {
        let mut found = Vec::new();
        for name in names {
            let device = self.device_of(package, name)?;
            let version = self.devices.slot(device, package.module).map(|slot| slot.version);
            if version != Some(package.dest) && package.src.is_some() && version != package.src {
                let message = format!("Device {name} is not at the package's source version.");
                return Err(Refusal::firmware("UpgradeSrcVersionMismatch", message));
            }
            found.push(device);
        }
        Ok(found)
    }

    fn device_of(&self, package: &Package, name: &str) -> Result<DeviceId, Refusal> {
        let Some(product) = self.devices.products.get(package.product) else { return Err(nobody()) };
        let device = self.devices.find(product, name).ok_or_else(|| {
            let message = format!("Device {name} is not in the product.");
            Refusal::product("iot.common.InvalidFormattedParameter", message)
        })?;
        if !self.has_module(device, package) {
            let message = format!("Device {name} never reported a version of the module.");
            return Err(Refusal::firmware("NonVersionedDeviceInArray", message));
        }
        Ok(device)
    }

    /// Named devices without those at the destination.
    pub(super) fn not_there_yet(
        &self,
        package: &Package,
        mut devices: Vec<DeviceId>,
    ) -> Result<Vec<DeviceId>, Refusal> {
        let all = devices.len();
        devices.retain(|id| self.devices.slot(*id, package.module).is_some_and(|slot| slot.version != package.dest));
        if devices.len() < all && self.switches.destination_in_array == DestinationInArray::Refused {
            let message = "A device runs the destination version already.";
            return Err(Refusal::firmware("DeviceWithDestinationVersionInArray", message));
        }
        if devices.is_empty() { Err(nobody()) } else { Ok(devices) }
    }

    /// The devices that GRAY means: a share of the base, at least one, chosen by the seed.
    pub(super) fn share(&self, package: &Package, sources: Option<&[u32]>, thousandths: u32) -> Vec<DeviceId> {
        let mut devices = self.eligible(package, None, sources);
        let base = match self.switches.gray_base {
            GrayBase::Eligible => devices.len(),
            GrayBase::Fleet => self
                .devices
                .products
                .get(package.product)
                .map_or(0, |p| p.devices.clone().filter(|id| self.has_module(*id, package)).count()),
        };
        let count = (base * thousandths as usize / 100_000).max(1);
        let jobs = u64::try_from(self.jobs.len()).unwrap_or(0);
        Random::of([self.seed, GRAY, jobs]).choose(&mut devices, count);
        devices.truncate(count);
        devices
    }
}

pub(super) fn no_firmware() -> Refusal {
    Refusal::firmware("FirmwareNotFound", "The firmware does not exist.")
}

pub(super) fn nobody() -> Refusal {
    Refusal::firmware("NoDeviceCanUpgrade", "No device can be upgraded.")
}

/// TargetSelection of a static job, and the group that comes with GROUP alone.
pub(super) fn selection(given: &Given<'_>, edition: Edition) -> Result<Selection, Refusal> {
    let selection = match (given.text("TargetSelection"), edition) {
        ("", _) => return Err(Refusal::firmware("NullTargetSelection", "TargetSelection is empty.")),
        ("ALL", _) => Selection::All,
        ("SPECIFIC", _) => Selection::Specific,
        ("GRAY", _) => Selection::Gray,
        ("GROUP", Edition::Current) => Selection::Group,
        _ => return Err(Refusal::firmware("InvalidTargetSelection", "TargetSelection is unknown.")),
    };
    if selection == Selection::Group {
        group_given(given, false)?;
    } else if given.has("GroupId") || given.has("GroupType") {
        return Err(Refusal::firmware("InvalidTargetSelection", "A group is for TargetSelection GROUP only."));
    }
    Ok(selection)
}

/// GroupId and GroupType, both, and the type that goes with the job.
pub(super) fn group_given(given: &Given<'_>, dynamic: bool) -> Result<(), Refusal> {
    if let Some(absent) = ["GroupId", "GroupType"].into_iter().find(|name| given.text(name).is_empty()) {
        return Err(Refusal::missing(absent));
    }
    let wanted = if dynamic { "LINK_PLATFORM_DYNAMIC" } else { "LINK_PLATFORM" };
    if given.text("GroupType") == wanted { Ok(()) } else { Err(Refusal::format("GroupType")) }
}

/// What a dynamic job cannot be told: it is for whoever matches.
pub(super) fn only_standing(given: &Given<'_>) -> Result<(), Refusal> {
    match given.text("TargetSelection") {
        "" | "ALL" => {}
        "GRAY" => return Err(Refusal::firmware("DynamicGrayNotSupported", "A dynamic job takes no GRAY.")),
        "SPECIFIC" => return Err(Refusal::firmware("DynamicSpecificNotSupported", "A dynamic job takes no SPECIFIC.")),
        _ => return Err(Refusal::firmware("InvalidTargetSelection", "A dynamic job takes no other TargetSelection.")),
    }
    if given.has("GrayPercent") {
        return Err(Refusal::firmware("GrayAppliesToStaticOnly", "GrayPercent is for static jobs only."));
    }
    if given.has("TargetDeviceName") {
        return Err(Refusal::firmware("DynamicSpecificNotSupported", "A dynamic job takes no device names."));
    }
    Ok(())
}

/// TargetDeviceName.N.
pub(super) fn device_names<'a>(given: &Given<'a>, most: usize) -> Result<Vec<&'a str>, Refusal> {
    let names = given.list("TargetDeviceName")?;
    if names.is_empty() {
        return Err(Refusal::firmware("NullTargetDeviceNames", "Device names are mandatory."));
    }
    distinct(names, "TargetDeviceName", most)
}

/// A list of at most so many different, filled entries.
pub(super) fn distinct<'a>(entries: Vec<&'a str>, name: &str, most: usize) -> Result<Vec<&'a str>, Refusal> {
    if entries.len() > most {
        return Err(Refusal::firmware("ParameterSizeExceedMax", format!("At most {most} entries of {name}.")));
    }
    if entries.iter().collect::<BTreeSet<_>>().len() != entries.len() || entries.iter().any(|e| e.is_empty()) {
        return Err(Refusal::format(name));
    }
    Ok(entries)
}

/// SrcVersion.N of a static job, as far as no package is needed to judge it.
pub(super) fn static_sources(given: &Given<'_>, selection: Selection, mandatory: bool) -> Result<Vec<String>, Refusal> {
    let versions = src_versions(given, "SrcVersion")?;
    match selection {
        Selection::Specific | Selection::Group if !versions.is_empty() => {
            let message = "Source versions are not for SPECIFIC or GROUP.";
            Err(Refusal::firmware("SrcVersionsNotAllowed", message))
        }
        Selection::All | Selection::Gray if versions.is_empty() && mandatory => Err(no_sources()),
        _ => Ok(versions),
    }
}

/// SrcVersion.N of a dynamic job: a group in its place, or, in the older edition, nothing.
pub(super) fn dynamic_sources(given: &Given<'_>, by_group: bool, edition: Edition) -> Result<Vec<String>, Refusal> {
    let versions = src_versions(given, "SrcVersion")?;
    if by_group && !versions.is_empty() {
        return Err(Refusal::firmware("SrcVersionsNotAllowed", "Source versions exclude a group."));
    }
    if !by_group && versions.is_empty() && edition == Edition::Current {
        return Err(no_sources());
    }
    Ok(versions)
}

fn no_sources() -> Refusal {
    Refusal::firmware("NullSrcVersions", "Source versions are mandatory.")
}

/// A list of source versions.
pub(super) fn src_versions(given: &Given<'_>, name: &str) -> Result<Vec<String>, Refusal> {
    let bad = |why: &str| Refusal::firmware("IncorrectFormattedSrcVersion", why);
    let versions = given.list(name).map_err(|_| bad("Source versions must be numbered from 1."))?;
    if versions.len() > SRC_VERSIONS_MAX {
        return Err(Refusal::firmware("SrcVersionsSizeExceedMax", "At most 10 source versions are allowed."));
    }
    let distinct: BTreeSet<_> = versions.iter().collect();
    if distinct.len() != versions.len() || versions.iter().any(|v| v.is_empty()) {
        return Err(bad("Source versions must be distinct and not empty."));
    }
    Ok(versions.into_iter().map(str::to_owned).collect())
}

/// GrayPercent in thousandths of a percent: decimal arithmetic, for binary fractions would lose a device.
pub(super) fn gray_percent(given: &Given<'_>, selection: Selection) -> Result<Option<u32>, Refusal> {
    if selection != Selection::Gray {
        return Ok(None);
    }
    let text = match given.text("GrayPercent") {
        "" => return Err(Refusal::firmware("NullGrayPercent", "GrayPercent is mandatory for GRAY.")),
        text => text,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 9) || !digits(fraction, 3) {
        let message = "GrayPercent must be a plain number with at most 3 decimals.";
        return Err(Refusal::firmware("BadlyFormattedGrayPercent", message));
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u64>().unwrap_or(u64::MAX);
    match u32::try_from(thousandths) {
        Ok(thousandths @ 1..=100_000) => Ok(Some(thousandths)),
        _ => Err(Refusal::firmware("InvalidGrayPercent", "GrayPercent must be above 0 and at most 100.")),
    }
}

/// As the service writes it back: two decimals, three where they are needed.
pub(super) fn percent_text(thousandths: u32) -> String {
    let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
    if fraction % 10 == 0 { format!("{whole}.{:02}", fraction / 10) } else { format!("{whole}.{fraction:03}") }
}

/// Source versions against the package.
pub(super) fn check_sources(package: &Package, selection: Selection, src_versions: &[String]) -> Result<(), Refusal> {
    if src_versions.contains(&package.traits.version) {
        return Err(Refusal::firmware("SrcDestVersionMatched", "A source version is the destination version."));
    }
    let Some(needed) = &package.traits.src_version else { return Ok(()) };
    match (selection, src_versions) {
        (Selection::Specific | Selection::Group, _) => Ok(()),
        (_, []) => Err(Refusal::firmware("SrcVersionIsMandatory", "A differential package needs its source version.")),
        (_, [only]) if only == needed => Ok(()),
        (_, [_]) => Err(Refusal::firmware("SrcVersionMismatch", "The package has another source version.")),
        _ => Err(Refusal::firmware("MoreThanOneSrcVersion", "A differential package has one source version.")),
    }
}
