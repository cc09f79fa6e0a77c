//! What a poll reads besides a rollout's own package and jobs: versions of named devices, and the policies of a product,
//! whoever made them. What they mean never comes in.

use std::collections::BTreeMap;

use crate::ota::Api;
use crate::ota::calls;
use crate::ota::code;
use crate::ota::devices;
use crate::ota::firmware::Firmware;
use crate::ota::id::{DeviceName, FirmwareId};
use crate::ota::outcome::CallError;
use crate::rollout::policies::{Policies, Policy, module};
use crate::rollout::wanted::Survey;

use super::poll::Reader;
use super::world::Moment;

/// Devices whose version is read in one poll.
const DEVICES_AT_ONCE: usize = 40;
/// Packages of a product whose jobs are listed: as many as an account may have (ota-api: section 1).
const PACKAGES: usize = 500;
/// `SelectionType` of a policy.
const DYNAMIC: &str = "DYNAMIC";

/// Versions of devices that were read for one package.
#[derive(Debug, Default)]
pub struct Versions {
    of: Option<FirmwareId>,
    known: BTreeMap<String, Option<String>>,
}

impl Versions {
    /// Each device's version of the package's module; none: it never told one, or there is no such device.
    pub fn known(&self) -> BTreeMap<String, Option<String>> {
        self.known.clone()
    }
}

impl<A: Api, C: Fn() -> Moment + Send> Reader<'_, A, C> {
    /// The versions of named devices, if the package is only the difference to one: those that do not fit are read again,
    /// for somebody may mend them.
    pub(super) async fn versions(
        &mut self,
        product: &str,
        named: &[String],
        package: &Firmware,
        versions: &mut Versions,
    ) -> Result<(), CallError> {
        if versions.of.as_ref() != Some(&package.id) {
            *versions = Versions { of: Some(package.id.clone()), known: BTreeMap::new() };
        }
        if !package.differential {
            return Ok(());
        }
        versions.known.retain(|name, _| named.contains(name));
        let fits = |version: &Option<String>| version.is_some() && *version == package.src_version;
        // Those that nobody knows come first: who waits for them waits for all.
        let unknown = named.iter().filter(|name| !versions.known.contains_key(*name));
        let off = named.iter().filter(|name| versions.known.get(*name).is_some_and(|version| !fits(version)));
        let asked: Vec<_> = unknown.chain(off).take(DEVICES_AT_ONCE).collect();
        for name in asked {
            let version = self.version(product, &DeviceName::new(name.clone()), package).await?;
            versions.known.insert(name.clone(), version);
        }
        Ok(())
    }

    async fn version(
        &mut self,
        product: &str,
        device: &DeviceName,
        package: &Firmware,
    ) -> Result<Option<String>, CallError> {
        let of = module(package.module.as_deref());
        let read = if of == module(None) {
            devices::query_device(self.api, self.ctx, product, device).await.map(|read| read.value.firmware_version)
        } else {
            let modules = devices::list_module_versions(self.api, self.ctx, product, device).await;
            modules.map(|read| read.value.into_iter().find(|m| m.module == of).and_then(|m| m.version))
        };
        match read {
            Err(error) if error.is(code::NOT_EXISTED_DEVICE) => Ok(None),
            read => read,
        }
    }

    /// The live policies of a product.
    pub(super) async fn survey(
        &mut self,
        product: &str,
        wanted: Option<Survey>,
        policies: &mut Option<Policies>,
    ) -> Result<(), CallError> {
        let Some(Survey { every, needed }) = wanted else { return Ok(()) };
        let asked = (self.clock)().monotonic;
        if policies.as_ref().is_some_and(|known| asked.saturating_sub(known.asked) < every) {
            return Ok(());
        }
        match self.policies(product).await {
            Ok(all) => *policies = Some(Policies { asked, all }),
            Err(error) if needed => return Err(error),
            // It would only tell people something: tried again when its time has come.
            Err(error) => {
                tracing::warn!(request_id = error.request_id.as_deref(), %error, "the product's policies cannot be read");
                let all = policies.take().map(|known| known.all).unwrap_or_default();
                *policies = Some(Policies { asked, all });
            }
        }
        Ok(())
    }

    async fn policies(&mut self, product: &str) -> Result<Vec<Policy>, CallError> {
        let packages = calls::list_product_firmware(self.api, self.ctx, product).await?;
        self.note(&packages);
        let mut all = Vec::new();
        for package in packages.value.iter().take(PACKAGES) {
            let jobs = calls::all_jobs_of_firmware(self.api, self.ctx, &package.id).await?.value.jobs;
            for job in jobs.iter().filter(|job| job.selection_type == DYNAMIC && !job.status.is_terminal()) {
                match calls::query_job(self.api, self.ctx, &job.job_id).await {
                    Ok(read) => all.push(Policy::of(&read.value, package)),
                    Err(error) if error.is(code::INVALID_OTA_JOB_ID) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }
}
