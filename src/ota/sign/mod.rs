//! Signatures of the RPC gateway: what both kinds share, and each kind in a file of its own (ota-api: sections 9, 10).
//!
//! Used by the client to sign and by the simulated cloud to check. Which parameters a request has never comes in.

pub mod v1;
pub mod v3;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986: everything but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes as the gateway does: upper-case hex, space as `%20`, `~` left alone.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The canonical query: pairs sorted by raw name, encoded once; pairs with an empty value take part. v1's `Signature` must
/// not be among them.
pub fn canonical_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort();
    let encoded: Vec<_> = pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    encoded.join("&")
}
