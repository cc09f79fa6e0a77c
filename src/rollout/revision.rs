//! Hashes that name things: revisions of a spec, tokens of claims. What they name is decided elsewhere.

use sha2::{Digest as _, Sha256};

use crate::api::FirmwareRolloutSpec;

/// SHA-256 over parts, each with its length before it, so that ("ab","c") and ("a","bc") differ.
pub fn sha256<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The first `bytes` bytes of the hash over `parts`, in lower-case hex.
pub fn hex<'a>(parts: impl IntoIterator<Item = &'a str>, bytes: usize) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    sha256(parts).iter().take(bytes).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Names what a run brings to the devices: product, firmware as written, source versions. A change starts a new run.
pub fn of_spec(spec: &FirmwareRolloutSpec) -> String {
    let text = |o: &Option<String>| o.clone().unwrap_or_default();
    let mut parts = vec![
        spec.product_key.clone(),
        text(&spec.firmware.id),
        text(&spec.firmware.version),
        text(&spec.firmware.module),
    ];
    match &spec.source_versions {
        // The order in which versions are written does not change what is meant.
        Some(versions) => {
            let mut versions = versions.clone();
            versions.sort();
            parts.extend(versions);
        }
        None => parts.push("*".to_owned()),
    }
    hex(parts.iter().map(String::as_str), 4)
}
