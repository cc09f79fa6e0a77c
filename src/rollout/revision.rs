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
    let mut text = String::with_capacity(2 * bytes);
    for byte in sha256(parts).iter().take(bytes) {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// Names what a run brings to the devices: product, firmware as written, source versions. A change starts a new run.
pub fn of_spec(spec: &FirmwareRolloutSpec) -> String {
    let firmware = &spec.firmware;
    let named = [&firmware.id, &firmware.version, &firmware.module].map(|o| o.as_deref().unwrap_or_default());
    let mut versions = match &spec.source_versions {
        Some(versions) => versions.iter().map(String::as_str).collect(),
        None => vec!["*"],
    };
    // The order in which versions are written does not change what is meant.
    versions.sort_unstable();
    hex(std::iter::once(spec.product_key.as_str()).chain(named).chain(versions), 4)
}
