//! CreateOTAVerifyJob, CreateOTAStaticUpgradeJob and CreateOTADynamicUpgradeJob: what forbids a job, and its making.
//!
//! Here belong the rules of ota-api sections 2 to 4 in their precedence: format, then existence, then state. Which
//! devices a call means belongs to `targets`.

use super::Context;
use super::answer::{Done, Fields, Refusal, utc};
use super::devices::DeviceId;
use super::jobs::{Policy, Selection};
use super::parameters::Given;
use super::policy;
use super::switches::VerifiedAgain;
use super::targets::{self, no_firmware, nobody};
use super::world::{Package, Verification, World};

impl World {
    /// CreateOTAVerifyJob.
    pub(super) fn create_verify_job(&mut self, given: &Given<'_>, context: &Context<'_>) -> Result<Done, Refusal> {
        let policy = policy::of_verify_job(given, context)?;
        let names = targets::device_names(given, targets::VERIFY_DEVICES_MAX)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        policy::feasible(&policy, package, context)?;
        let devices = self.named(package, names.iter().copied())?;
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
        let devices = self.not_there_yet(package, devices)?;
        self.made(number, policy, devices, context)
    }

    /// CreateOTAStaticUpgradeJob.
    pub(super) fn create_static_job(&mut self, given: &Given<'_>, context: &Context<'_>) -> Result<Done, Refusal> {
        let selection = targets::selection(given, context.edition)?;
        let mandatory = self.switches.strict_src_versions.unwrap_or(context.edition.needs_sources_of_static_jobs());
        let src_versions = targets::static_sources(given, selection, mandatory)?;
        let gray = targets::gray_percent(given, selection)?;
        let list = targets::DeviceList::of(given, selection)?;
        let policy = policy::of_static_job(given, context, self.now)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        policy::feasible(&policy, package, context)?;
        targets::check_sources(package, selection, &src_versions)?;
        let group = match selection {
            Selection::Group => Some(self.wanted_group(given, package, false)?),
            _ => None,
        };
        let listed = match &list {
            Some(list) => self.listed(package, list, context.wall)?,
            None => Vec::new(),
        };
        upgradable(package)?;
        let sources = self.sources(&src_versions);
        let devices = match selection {
            Selection::Specific => self.not_there_yet(package, listed)?,
            Selection::All => self.eligible(package, None, sources.as_deref()),
            Selection::Gray => self.share(package, sources.as_deref(), gray.unwrap_or_default()),
            Selection::Group => self.eligible(package, group, None),
        };
        if devices.is_empty() {
            return Err(nobody());
        }
        let gray_percent = gray.map(targets::percent_text);
        let policy = Policy { selection, group, src_versions, gray_percent, ..policy };
        self.made(number, policy, devices, context)
    }

    /// CreateOTADynamicUpgradeJob.
    pub(super) fn create_dynamic_job(&mut self, given: &Given<'_>, context: &Context<'_>) -> Result<Done, Refusal> {
        targets::only_standing(given)?;
        let by_group = given.has("GroupId") || given.has("GroupType");
        let src_versions = targets::dynamic_sources(given, by_group, context.edition)?;
        if by_group {
            targets::group_given(given, true)?;
        }
        let policy = policy::of_dynamic_job(given, context)?;
        let number = self.wanted_package(given)?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        if by_group && !context.has_dynamic_groups() {
            return Err(Refusal::not_here("A dynamic group"));
        }
        policy::feasible(&policy, package, context)?;
        if !by_group {
            targets::check_sources(package, Selection::All, &src_versions)?;
        }
        let group = if by_group { Some(self.wanted_group(given, package, true)?) } else { None };
        upgradable(package)?;
        let running = |wanted: &dyn Fn(&Policy, u32) -> bool| {
            let mut jobs = self.policies.iter().filter_map(|number| self.job(*number));
            jobs.any(|job| wanted(&job.policy, job.firmware))
        };
        if running(&|_, firmware| firmware == number) {
            let message = "The firmware has a running dynamic job.";
            return Err(Refusal::firmware("InProgressDynamicJobExisted", message));
        }
        let same = |other: &Policy| other.overwrite == policy.overwrite && other.multi_module == policy.multi_module;
        if group.is_some() && running(&|other, _| other.group == group && !same(other)) {
            let message = "OverwriteMode and MultiModuleMode must be those of the group's running dynamic job.";
            return Err(Refusal::firmware("InvalidOverwriteMode", message));
        }
        let sources = self.sources(&src_versions);
        let devices = match policy.kind {
            super::jobs::Kind::Dynamic(2) => Vec::new(),
            _ => self.eligible(package, group, sources.as_deref()),
        };
        let policy = Policy { group, src_versions, ..policy };
        self.made(number, policy, devices, context)
    }

    fn made(
        &mut self,
        package: u32,
        policy: Policy,
        targets: Vec<DeviceId>,
        context: &Context<'_>,
    ) -> Result<Done, Refusal> {
        let number = self.create_job(package, policy, targets, context.wall);
        let id = self.job(number).map(|job| job.id.clone()).unwrap_or_default();
        let data =
            Fields::from_iter([("JobId".to_owned(), id.clone().into()), ("UtcCreate".to_owned(), utc(self.now))]);
        Ok(Done { created_job: Some(id), ..Done::object("Data", data) })
    }
}

/// Whether upgrade jobs of a package are allowed.
fn upgradable(package: &Package) -> Result<(), Refusal> {
    if matches!(package.status, Verification::Exempt | Verification::Verified) {
        return Ok(());
    }
    Err(Refusal::firmware("FirmwareNotVerified", "The firmware is not verified."))
}
