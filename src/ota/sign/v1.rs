//! Signature v1 of the RPC gateway: HMAC-SHA1 over the sorted, twice-encoded parameters (ota-api: section 9).
//!
//! Used by the client to sign and by the simulated cloud to check.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::encode;

/// The string that is signed, for an HTTP verb and a canonical query.
pub fn string_to_sign(verb: &str, canonical_query: &str) -> String {
    format!("{verb}&%2F&{}", encode(canonical_query))
}

/// The signature, in standard base64. The key is the secret followed by `&`, with an STS token too.
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    STANDARD.encode(mac(secret, string_to_sign).finalize().into_bytes())
}

/// Whether `claimed` is the signature; compares in constant time.
pub fn verify(secret: &str, string_to_sign: &str, claimed: &str) -> bool {
    STANDARD.decode(claimed).is_ok_and(|bytes| mac(secret, string_to_sign).verify_slice(&bytes).is_ok())
}

fn mac(secret: &str, text: &str) -> Hmac<Sha1> {
    let key = format!("{secret}&");
    // HMAC takes a key of any length: this cannot fail, and an impossible error must not panic.
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::super::canonical_query;
    use super::*;
    use serde_json::Value;

    #[test]
    fn reproduces_every_vendor_vector() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sign-v1-hmac-sha1.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 20);
        for v in vectors {
            let name = v["name"].as_str().unwrap();
            let mut pairs = Vec::new();
            for group in ["params", "common_params"] {
                for (k, value) in v[group].as_object().unwrap() {
                    pairs.push((k.as_str(), value.as_str().unwrap()));
                }
            }
            let canonical = canonical_query(pairs);
            assert_eq!(canonical, v["canonicalized_query_string"].as_str().unwrap(), "{name}");
            let text = string_to_sign(v["method"].as_str().unwrap(), &canonical);
            assert_eq!(text, v["string_to_sign"].as_str().unwrap(), "{name}");
            let secret = v["access_key_secret"].as_str().unwrap();
            let expected = v["signature"].as_str().unwrap();
            assert_eq!(signature(secret, &text), expected, "{name}");
            assert!(verify(secret, &text, expected), "{name}");
            assert!(!verify("another", &text, expected), "{name}");
        }
    }
}
