//! A request as it goes out: its query and its headers, signed either way (ota-api: sections 1.1, 9, 10).
//!
//! Pure: the nonce and the time come in. The same request with the same stamp and key makes the same bytes. Sending them
//! never comes in.

use secrecy::ExposeSecret as _;

use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::{Request, Stamp, sign};
use crate::api::Signature;

/// Every OTA call is a POST with an empty body.
const VERB: &str = "POST";
const PATH: &str = "/";
const VERSION: &str = "2018-01-20";

/// What goes out besides the verb and the host.
pub(super) struct Signed {
    /// Percent-encoded.
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// Signs a request for an endpoint. The stamp says how and when; that of the request itself, if it has one, is the
/// caller's affair.
pub(super) fn signed(request: &Request, endpoint: &Endpoint, credentials: &Credentials, stamp: &Stamp) -> Signed {
    let at = stamp.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    match stamp.signature {
        Signature::V1 => v1(request, endpoint, credentials, &stamp.nonce, &at),
        Signature::V3 => v3(request, endpoint, credentials, &stamp.nonce, &at),
    }
}

fn v1(request: &Request, endpoint: &Endpoint, credentials: &Credentials, nonce: &str, at: &str) -> Signed {
    let mut pairs = vec![
        ("AccessKeyId", credentials.id()),
        ("Action", request.operation.name()),
        ("Format", "JSON"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", nonce),
        ("SignatureVersion", "1.0"),
        ("Timestamp", at),
        ("Version", VERSION),
    ];
    pairs.extend(endpoint.region().map(|region| ("RegionId", region)));
    pairs.extend(credentials.token().map(|token| ("SecurityToken", token.expose_secret())));
    pairs.extend(request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let canonical = sign::canonical_query(pairs);
    let text = sign::v1::string_to_sign(VERB, &canonical);
    let signature = sign::v1::signature(credentials.secret().expose_secret(), &text);
    Signed { query: format!("{canonical}&Signature={}", sign::encode(&signature)), headers: Vec::new() }
}

fn v3(request: &Request, endpoint: &Endpoint, credentials: &Credentials, nonce: &str, at: &str) -> Signed {
    let content = sign::v3::content_hash(b"");
    let mut headers = vec![
        ("accept", "application/json".to_owned()),
        ("host", endpoint.host_header()),
        ("x-acs-action", request.operation.name().to_owned()),
        ("x-acs-content-sha256", content.clone()),
        ("x-acs-date", at.to_owned()),
        ("x-acs-signature-nonce", nonce.to_owned()),
        ("x-acs-version", VERSION.to_owned()),
    ];
    if let Some(token) = credentials.token() {
        headers.push(("x-acs-accesskey-id", credentials.id().to_owned()));
        headers.push(("x-acs-security-token", token.expose_secret().to_owned()));
    }
    let query = sign::canonical_query(request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let named = || headers.iter().map(|(name, value)| (*name, value.as_str()));
    let canonical = sign::v3::canonical_request(VERB, PATH, &query, named(), &content);
    let authorization = sign::v3::Authorization {
        credential: credentials.id().to_owned(),
        signed_headers: sign::v3::signed_headers(named()),
        signature: sign::v3::signature(credentials.secret().expose_secret(), &sign::v3::string_to_sign(&canonical)),
    };
    headers.push(("authorization", authorization.to_string()));
    Signed { query, headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::{AllowedEndpoints, Operation, Params, Sender};
    use secrecy::SecretString;
    use serde_json::Value;

    fn vectors(file: &str) -> Vec<Value> {
        let file: Value = serde_json::from_str(file).unwrap();
        file["vectors"].as_array().unwrap().clone()
    }

    fn text<'a>(vector: &'a Value, field: &str) -> Option<&'a str> {
        vector[field].as_str()
    }

    fn sign(vector: &Value, signature: Signature) -> Signed {
        let parameters: Params = vector["params"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap().into()))
            .collect();
        let operation = Operation::from_name(text(vector, "operation").unwrap()).unwrap();
        let endpoint = AllowedEndpoints::default().endpoint(text(vector, "endpoint").unwrap()).unwrap();
        let secret = SecretString::from(text(vector, "access_key_secret").unwrap());
        let token = text(vector, "security_token").map(SecretString::from);
        let credentials = Credentials::new(text(vector, "access_key_id").unwrap(), secret, token);
        let at = text(vector, "timestamp").unwrap().parse().unwrap();
        let sender = Sender { endpoint: endpoint.to_string(), region: None, access_key: credentials.digest() };
        let stamp = Stamp { nonce: text(vector, "nonce").unwrap().to_owned(), at, signature, sender };
        signed(&Request { operation, parameters, list: None, stamp: None }, &endpoint, &credentials, &stamp)
    }

    #[test]
    fn whole_requests_are_those_of_the_vendors_client() {
        let all = vectors(include_str!("../../tests/vectors/sign-v3-acs3-hmac-sha256.json"));
        let mut compared = 0;
        for vector in all.iter().filter(|v| text(v, "method") == Some("POST") && v["body"].is_null()) {
            let name = text(vector, "name").unwrap();
            if Operation::from_name(text(vector, "operation").unwrap()).is_none() {
                continue;
            }
            let signed = sign(vector, Signature::V3);
            assert_eq!(Some(signed.query.as_str()), text(vector, "encoded_query"), "{name}");
            for (header, value) in vector["headers"].as_object().unwrap() {
                // What the vendor's client says about itself, and the accept header where it sends none.
                if header == "user-agent" || header == "x-acs-credentials-provider" {
                    continue;
                }
                let ours = signed.headers.iter().find(|(name, _)| name == header).map(|(_, value)| value.as_str());
                assert_eq!(ours, value.as_str(), "{name}: {header}");
            }
            compared += 1;
        }
        assert!(compared >= 8, "{compared}");
    }

    #[test]
    fn no_secret_goes_into_a_v3_query() {
        let all = vectors(include_str!("../../tests/vectors/sign-v3-acs3-hmac-sha256.json"));
        let sts = all.iter().find(|v| text(v, "name") == Some("min-verify-sts")).unwrap();
        let signed = sign(sts, Signature::V3);
        assert!(!signed.query.contains("CAIS") && !signed.query.contains("STS."), "{}", signed.query);
        assert!(sign(sts, Signature::V1).query.contains("CAIS"), "v1 has no other place");
    }
}
