//! Signature V3 of the gateway: HMAC-SHA256 over a canonical request, headers included (ota-api: section 10).
//!
//! Used by the client to sign and by the simulated cloud to check. A checker takes the header names from
//! [`Authorization`]: which headers are signed is the caller's choice.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "ACS3-HMAC-SHA256";

/// Lower-case hexadecimal SHA-256 of the bytes that are sent: `x-acs-content-sha256`.
pub fn content_hash(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

/// The names of signed headers in the order in which they are signed, joined with `;`.
pub fn signed_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    canonical(headers).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(";")
}

/// The canonical request. `canonical_query` is encoded once and sorted; header names may have any case and values may
/// have space around them; `content_hash` is what `x-acs-content-sha256` says.
pub fn canonical_request<'a>(
    verb: &str,
    path: &str,
    canonical_query: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    content_hash: &str,
) -> String {
    let headers = canonical(headers);
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    format!("{verb}\n{path}\n{canonical_query}\n{lines}\n{}\n{content_hash}", names.join(";"))
}

fn canonical<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, &'a str)> {
    let lower = |(name, value): (&'a str, &'a str)| (name.to_ascii_lowercase(), value.trim());
    let mut headers: Vec<_> = headers.into_iter().map(lower).collect();
    headers.sort();
    headers
}

/// The string that is signed, for a canonical request.
pub fn string_to_sign(canonical_request: &str) -> String {
    format!("{SCHEME}\n{}", content_hash(canonical_request.as_bytes()))
}

/// The signature, in lower-case hexadecimal. The key is the secret alone.
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    hex(&mac(secret, string_to_sign).finalize().into_bytes())
}

/// Whether `claimed` is the signature; compares in constant time.
pub fn verify(secret: &str, string_to_sign: &str, claimed: &str) -> bool {
    unhex(claimed).is_some_and(|bytes| mac(secret, string_to_sign).verify_slice(&bytes).is_ok())
}

fn mac(secret: &str, text: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length: this cannot fail, and an impossible error must not panic.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(text.as_bytes());
    mac
}

/// The `Authorization` header, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The access key id.
    pub credential: String,
    /// Names of the signed headers, in lower case, joined with `;`.
    pub signed_headers: String,
    /// Lower-case hexadecimal.
    pub signature: String,
}

impl Authorization {
    /// Reads a header's value; none if it is of another scheme, or lacks a part or has one twice.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.strip_prefix(SCHEME)?.strip_prefix(' ')?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in parts.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if slot.replace(value.to_owned()).is_some() {
                return None;
            }
        }
        Some(Self { credential: credential?, signed_headers: signed_headers?, signature: signature? })
    }
}

impl std::fmt::Display for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { credential, signed_headers, signature } = self;
        write!(f, "{SCHEME} Credential={credential},SignedHeaders={signed_headers},Signature={signature}")
    }
}

fn hex(bytes: &[u8]) -> String {
    crate::ota::credentials::hex(bytes.iter().copied())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| pair.and_then(|digits| u8::from_str_radix(digits, 16).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::canonical_query;
    use super::*;
    use serde_json::Value;

    #[test]
    fn reproduces_every_vendor_vector_and_takes_it_apart_again() {
        let file: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/sign-v3-acs3-hmac-sha256.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 13);
        for v in vectors {
            let name = v["name"].as_str().unwrap();
            let text = |field: &str| v[field].as_str().unwrap();
            let pairs =
                |field: &str| v[field].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap()));
            let query = canonical_query(pairs("params"));
            assert_eq!(query, text("encoded_query"), "{name}");
            let hash = content_hash(v["body"].as_str().unwrap_or_default().as_bytes());
            assert_eq!(hash, text("body_sha256"), "{name}");
            let names = signed_headers(pairs("headers"));
            assert_eq!(names, text("signed_headers"), "{name}");
            let request = canonical_request(text("method"), text("path"), &query, pairs("headers"), &hash);
            assert_eq!(request, text("canonical_request"), "{name}");
            assert_eq!(content_hash(request.as_bytes()), text("canonical_request_sha256"), "{name}");
            let to_sign = string_to_sign(&request);
            assert_eq!(to_sign, text("string_to_sign"), "{name}");
            let secret = text("access_key_secret");
            assert_eq!(signature(secret, &to_sign), text("signature"), "{name}");
            let authorization = Authorization {
                credential: text("access_key_id").to_owned(),
                signed_headers: names,
                signature: text("signature").to_owned(),
            };
            assert_eq!(authorization.to_string(), text("authorization"), "{name}");
            // The other direction: as a server that gets the header and the request.
            let claimed = Authorization::parse(text("authorization")).unwrap();
            assert_eq!(claimed, authorization, "{name}");
            let signed = claimed.signed_headers.split(';').map(|h| (h, v["headers"][h].as_str().unwrap()));
            let request = canonical_request(text("method"), text("path"), &query, signed, &hash);
            assert!(verify(secret, &string_to_sign(&request), &claimed.signature), "{name}");
            assert!(!verify("another", &to_sign, &claimed.signature), "{name}");
        }
    }

    #[test]
    fn a_header_of_another_scheme_or_with_parts_missing_is_none() {
        let good = "ACS3-HMAC-SHA256 Credential=k,SignedHeaders=host,Signature=00";
        assert!(Authorization::parse(good).is_some());
        for bad in [
            "",
            "ACS3-HMAC-SHA256",
            "ACS3-HMAC-SHA256 ",
            "Bearer x",
            "ACS3-HMAC-SHA256 Credential=k,SignedHeaders=host",
            "ACS3-HMAC-SHA256 Credential=k,Credential=l,SignedHeaders=host,Signature=00",
            "ACS3-HMAC-SHA256 Credential=k,SignedHeaders=host,Signature=00,More=1",
        ] {
            assert_eq!(Authorization::parse(bad), None, "{bad}");
        }
        for claimed in ["", "0", "zz", "é", "00", "+1"] {
            assert!(!verify("s", "t", claimed), "{claimed}");
        }
    }
}
