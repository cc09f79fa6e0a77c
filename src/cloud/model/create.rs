//! CreateOTAVerifyJob and CreateOTAStaticUpgradeJob: which package, which devices, and what forbids it.
//!
//! Here belong the rules of ota-api sections 2, 3 and 3.1 in their precedence: format, then existence, then state.

use std::collections::BTreeSet;

use super::answer::{Done, Fields, Refusal, utc};
use super::devices::DeviceId;
use super::jobs::{Policy, Selection};
use super::parameters::Given;
use super::policy;
use super::random::Random;
use super::switches::{DestinationInArray, Edition, GrayBase, VerifiedAgain};
use super::world::{Package, Verification, World};

const VERIFY_DEVICES_MAX: usize = 10;
const SPECIFIC_DEVICES_MAX: usize = 200;
const SRC_VERSIONS_MAX: usize = 10;

/// The domain of the random streams that choose GRAY devices.
const GRAY: u64 = 0x6A47;

impl World {
    /// CreateOTAVerifyJob.
    pub(super) fn create_verify_job(
        &mut self,
        given: &Given<'_>,
        edition: Edition,
        wall: i64,
    ) -> Result<Done, Refusal> {
        let policy = policy::of_verify_job(given, edition)?;
        let names = device_names(given, VERIFY_DEVICES_MAX)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        let targets = self.named(package, &names)?;
        let again = match self.switches.verified_again {
            VerifiedAgain::InProgressVerifyJobExisted => "InProgressVerifyJobExisted",
            VerifiedAgain::VerifyFirmwareFailed => "VerifyFirmwareFailed",
        };
        match package.status {
            Verification::Unverified | Verification::Failed => {}
            Verification::Verifying => {
                return Err(Refusal::firmware("InProgressVerifyJobExisted", "A verify job is already in progress."));
            }
            Verification::Verified => return Err(Refusal::firmware(again, "The firmware is verified already.")),
            Verification::Exempt => {
                return Err(Refusal::firmware("VerifyFirmwareFailed", "The firmware needs no verification."));
            }
        }
        let targets = self.not_there_yet(package, targets)?;
        self.made(number, policy, targets, wall)
    }

    /// CreateOTAStaticUpgradeJob.
    pub(super) fn create_static_job(
        &mut self,
        given: &Given<'_>,
        edition: Edition,
        wall: i64,
    ) -> Result<Done, Refusal> {
        let selection = selection(given)?;
        let src_versions = self.src_versions(given, selection)?;
        let gray = gray_percent(given, selection)?;
        let names = match selection {
            Selection::Specific => device_names(given, SPECIFIC_DEVICES_MAX)?,
            _ if given.has("TargetDeviceName") => {
                let message = "Device names are for SPECIFIC only.";
                return Err(Refusal::firmware("TargetDeviceNamesNotAllowed", message));
            }
            _ => Vec::new(),
        };
        let policy = policy::of_static_job(given, edition, self.now)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        check_sources(package, selection, &src_versions)?;
        let named = self.named(package, &names)?;
        if !matches!(package.status, Verification::Exempt | Verification::Verified) {
            return Err(Refusal::firmware("FirmwareNotVerified", "The firmware is not verified."));
        }
        let targets = match selection {
            Selection::Specific => self.not_there_yet(package, named)?,
            Selection::All => self.matching(package, &src_versions),
            Selection::Gray => self.share(package, &src_versions, gray.unwrap_or_default()),
        };
        if targets.is_empty() {
            return Err(nobody());
        }
        let policy = Policy { selection, src_versions, gray_percent: gray.map(percent_text), ..policy };
        self.made(number, policy, targets, wall)
    }

    fn made(&mut self, package: u32, policy: Policy, targets: Vec<DeviceId>, wall: i64) -> Result<Done, Refusal> {
        let number = self.create_job(package, policy, targets, wall);
        let id = self.job(number).map(|job| job.id.clone()).unwrap_or_default();
        let data =
            Fields::from_iter([("JobId".to_owned(), id.clone().into()), ("UtcCreate".to_owned(), utc(self.now))]);
        Ok(Done { created_job: Some(id), ..Done::object("Data", data) })
    }

    /// The package that FirmwareId and ProductKey name together.
    fn wanted_package(&self, given: &Given<'_>) -> Result<u32, Refusal> {
        let number = self.find_package(given.text("FirmwareId"))?;
        let (product, _) = self
            .devices
            .product(given.text("ProductKey"))
            .ok_or_else(|| Refusal::firmware("InvalidProductKey", "The product does not exist."))?;
        if self.package(number).is_some_and(|p| p.product == product) {
            Ok(number)
        } else {
            Err(Refusal::firmware("FirmwareAndProductKeyMismatch", "The firmware is of another product."))
        }
    }

    /// The package with an id.
    pub(super) fn find_package(&self, id: &str) -> Result<u32, Refusal> {
        if id.is_empty() {
            return Err(Refusal::firmware("NullFirmwareId", "FirmwareId is empty."));
        }
        self.package_ids.get(id).copied().ok_or_else(no_firmware)
    }

    /// SrcVersion.N, as far as no package is needed to judge it.
    fn src_versions(&self, given: &Given<'_>, selection: Selection) -> Result<Vec<String>, Refusal> {
        let bad = |why| Refusal::firmware("IncorrectFormattedSrcVersion", why);
        let versions = given.list("SrcVersion").map_err(|_| bad("SrcVersion.N must be numbered from 1."))?;
        if selection == Selection::Specific && !versions.is_empty() {
            return Err(Refusal::firmware("SrcVersionsNotAllowed", "Source versions are not for SPECIFIC."));
        }
        if selection != Selection::Specific && versions.is_empty() && self.switches.strict_src_versions {
            return Err(Refusal::firmware("NullSrcVersions", "Source versions are mandatory."));
        }
        if versions.len() > SRC_VERSIONS_MAX {
            return Err(Refusal::firmware("SrcVersionsSizeExceedMax", "At most 10 source versions are allowed."));
        }
        let distinct: BTreeSet<_> = versions.iter().collect();
        if distinct.len() != versions.len() || versions.iter().any(|v| v.is_empty()) {
            return Err(bad("Source versions must be distinct and not empty."));
        }
        Ok(versions.into_iter().map(str::to_owned).collect())
    }

    /// Named devices: they exist, have the package's module and, for a differential package, its source version.
    fn named(&self, package: &Package, names: &[&str]) -> Result<Vec<DeviceId>, Refusal> {
        let Some(product) = self.devices.products.get(package.product) else { return Err(nobody()) };
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let device = self.devices.find(product, name).ok_or_else(|| {
                let message = format!("Device {name} is not in the product.");
                Refusal::product("iot.common.InvalidFormattedParameter", message)
            })?;
            if !self.has_module(device, package) {
                let message = format!("Device {name} never reported a version of the module.");
                return Err(Refusal::firmware("NonVersionedDeviceInArray", message));
            }
            let version = self.devices.get(device).map(|d| d.version);
            if version != Some(package.dest) && package.src.is_some() && version != package.src {
                let message = format!("Device {name} is not at the package's source version.");
                return Err(Refusal::firmware("UpgradeSrcVersionMismatch", message));
            }
            found.push(device);
        }
        Ok(found)
    }

    /// Named devices without those at the destination.
    fn not_there_yet(&self, package: &Package, mut devices: Vec<DeviceId>) -> Result<Vec<DeviceId>, Refusal> {
        let all = devices.len();
        devices.retain(|id| self.devices.get(*id).is_some_and(|d| d.version != package.dest));
        if devices.len() < all && self.switches.destination_in_array == DestinationInArray::Refused {
            let message = "A device runs the destination version already.";
            return Err(Refusal::firmware("DeviceWithDestinationVersionInArray", message));
        }
        if devices.is_empty() { Err(nobody()) } else { Ok(devices) }
    }

    /// The devices that ALL means.
    fn matching(&self, package: &Package, src_versions: &[String]) -> Vec<DeviceId> {
        let sources: Vec<u32> = src_versions.iter().filter_map(|v| self.devices.texts.known(v)).collect();
        self.eligible(package, &sources, src_versions.is_empty())
    }

    /// The devices that GRAY means: a share of the base, at least one, chosen by the seed.
    fn share(&self, package: &Package, src_versions: &[String], thousandths: u32) -> Vec<DeviceId> {
        let mut devices = self.matching(package, src_versions);
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

fn no_firmware() -> Refusal {
    Refusal::firmware("FirmwareNotFound", "The firmware does not exist.")
}

fn nobody() -> Refusal {
    Refusal::firmware("NoDeviceCanUpgrade", "No device can be upgraded.")
}

/// TargetSelection, and what no selection of this cloud may come with.
fn selection(given: &Given<'_>) -> Result<Selection, Refusal> {
    let unsupported = |what: &str| {
        Refusal::product("iot.common.APINotSupportedInInstance", format!("{what} is not supported in this instance."))
    };
    let selection = match given.text("TargetSelection") {
        "" => return Err(Refusal::firmware("NullTargetSelection", "TargetSelection is empty.")),
        "ALL" => Selection::All,
        "SPECIFIC" => Selection::Specific,
        "GRAY" => Selection::Gray,
        "GROUP" => return Err(unsupported("GROUP")),
        _ => return Err(Refusal::firmware("InvalidTargetSelection", "TargetSelection is unknown.")),
    };
    if given.has("GroupId") || given.has("GroupType") {
        return Err(Refusal::firmware("InvalidTargetSelection", "A group is for TargetSelection GROUP only."));
    }
    if given.has("DnListFileUrl") {
        return Err(unsupported("DnListFileUrl"));
    }
    Ok(selection)
}

/// TargetDeviceName.N.
fn device_names<'a>(given: &Given<'a>, most: usize) -> Result<Vec<&'a str>, Refusal> {
    let names = given.list("TargetDeviceName")?;
    if names.is_empty() {
        return Err(Refusal::firmware("NullTargetDeviceNames", "Device names are mandatory."));
    }
    if names.len() > most {
        return Err(Refusal::firmware("ParameterSizeExceedMax", format!("At most {most} device names are allowed.")));
    }
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        return Err(Refusal::format("TargetDeviceName"));
    }
    Ok(names)
}

/// GrayPercent in thousandths of a percent: decimal arithmetic, for binary fractions would lose a device.
fn gray_percent(given: &Given<'_>, selection: Selection) -> Result<Option<u32>, Refusal> {
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
fn percent_text(thousandths: u32) -> String {
    let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
    if fraction % 10 == 0 { format!("{whole}.{:02}", fraction / 10) } else { format!("{whole}.{fraction:03}") }
}

/// Source versions against the package.
fn check_sources(package: &Package, selection: Selection, src_versions: &[String]) -> Result<(), Refusal> {
    if src_versions.contains(&package.traits.version) {
        return Err(Refusal::firmware("SrcDestVersionMatched", "A source version is the destination version."));
    }
    let Some(needed) = &package.traits.src_version else { return Ok(()) };
    match (selection, src_versions) {
        (Selection::Specific, _) => Ok(()),
        (_, []) => Err(Refusal::firmware("SrcVersionIsMandatory", "A differential package needs its source version.")),
        (_, [only]) if only == needed => Ok(()),
        (_, [_]) => Err(Refusal::firmware("SrcVersionMismatch", "The package has another source version.")),
        _ => Err(Refusal::firmware("MoreThanOneSrcVersion", "A differential package has one source version.")),
    }
}
