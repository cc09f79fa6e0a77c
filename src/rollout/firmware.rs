//! Which package a spec means, among those that the cloud lists.

use crate::api::rollout::FirmwareRef;
use crate::api::status::PinnedFirmware;
use crate::ota::firmware::Firmware;

use super::observed::Trouble;
use super::story::bounded;

/// The module of a package that is named by version only.
pub const DEFAULT_MODULE: &str = "default";

/// Chooses among candidates (one for an id, a listing for a version). All that the spec says must agree.
///
/// # Errors
/// FirmwareNotFound, FirmwareAmbiguous or FirmwareMismatch, for a person to solve.
pub fn choose(product_key: &str, wanted: &FirmwareRef, candidates: &[Firmware]) -> Result<Firmware, Trouble> {
    let trouble = |reason, message| Trouble { reason, message, stalled: true };
    let module = wanted.module.as_deref().or(wanted.id.is_none().then_some(DEFAULT_MODULE));
    let fits = |f: &&Firmware| {
        wanted.id.as_ref().is_none_or(|id| f.id.as_str() == id)
            && wanted.version.as_ref().is_none_or(|v| f.version == *v)
            && module.is_none_or(|m| f.module.as_deref().unwrap_or(DEFAULT_MODULE) == m)
            && f.product_key.as_ref().is_none_or(|p| p == product_key)
    };
    let mut fitting = candidates.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(one), Some(other)) => Err(trouble(
            "FirmwareAmbiguous",
            format!("packages {} and {} both fit: give firmware.id", one.id, other.id),
        )),
        (None, _) => Err(match (&wanted.id, candidates.iter().find(|f| wanted.id.as_deref() == Some(f.id.as_str()))) {
            (Some(id), Some(found)) => trouble(
                "FirmwareMismatch",
                format!(
                    "package {id} is version {} of module {} for product {}: correct what firmware and productKey say",
                    found.version,
                    found.module.as_deref().unwrap_or(DEFAULT_MODULE),
                    found.product_key.as_deref().unwrap_or("(any)"),
                ),
            ),
            (Some(id), None) => {
                trouble("FirmwareNotFound", format!("the cloud has no package {id} in this region and instance"))
            }
            (None, _) => trouble(
                "FirmwareNotFound",
                format!(
                    "product {product_key} has no package of version {} for module {}",
                    wanted.version.as_deref().unwrap_or("(none)"),
                    module.unwrap_or("(any)"),
                ),
            ),
        }),
    }
}

/// The package as status pins it.
pub fn pin(firmware: &Firmware) -> PinnedFirmware {
    PinnedFirmware {
        id: firmware.id.as_str().to_owned(),
        version: bounded(&firmware.version, 64),
        module: firmware.module.as_ref().map(|module| bounded(module, 64)),
    }
}
