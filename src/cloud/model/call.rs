//! One request as it arrived, whichever way it was signed.
//!
//! Here belongs how query, form and headers become one set of named values. Judging them belongs to `gateway`.

use crate::ota::sign::v3;
use crate::ota::{Operation, Params, Stamp};

/// One request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The HTTP verb; it is part of what is signed.
    pub verb: String,
    /// Every pair of the query and of a form body, decoded. Of a call signed V3, the headers that stand for common
    /// parameters follow under the parameters' names.
    pub pairs: Vec<(String, String)>,
    /// The `Host` header: where the caller reaches this cloud.
    pub host: String,
    /// What signature V3 covers; absent: the call is signed v1, in its parameters.
    pub headers: Option<Headers>,
}

/// The parts of a call signed V3 that its signature covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Every header but `Authorization`, names in lower case.
    pub all: Vec<(String, String)>,
    /// `Authorization`; empty when absent.
    pub authorization: String,
    /// The pairs of the query alone: those of a form body are covered by its hash.
    pub query: Vec<(String, String)>,
    /// Hexadecimal SHA-256 of the body as it arrived.
    pub body_hash: String,
}

impl Headers {
    /// A header's value, trimmed, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(n, _)| n == name).map(|(_, value)| value.trim())
    }
}

impl Call {
    /// An unsigned call, for a cloud with the switch `unsigned`.
    pub fn unsigned(access_key_id: &str, operation: Operation, parameters: &Params, stamp: Option<&Stamp>) -> Self {
        let mut call = Self { verb: "POST".to_owned(), ..Self::default() };
        call.pairs.reserve(parameters.len() + 6);
        let common = [
            ("Action", operation.name()),
            ("Version", "2018-01-20"),
            ("Format", "JSON"),
            ("AccessKeyId", access_key_id),
        ];
        call.pairs.extend(common.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        call.pairs.extend(parameters.iter().map(|(k, v)| (k.clone(), v.clone())));
        if let Some(stamp) = stamp {
            call.pairs.push(("SignatureNonce".to_owned(), stamp.nonce.clone()));
            call.pairs.push(("Timestamp".to_owned(), format!("{:.0}", stamp.at)));
        }
        call
    }

    /// A call from the parts of an HTTP request: names of `headers` in lower case, `form` only of a form body.
    pub fn of_request(
        verb: &str,
        query: Vec<(String, String)>,
        form: Vec<(String, String)>,
        headers: Vec<(String, String)>,
        body: &[u8],
    ) -> Self {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.trim().to_owned());
        let host = header("host").unwrap_or_default();
        let authorization = header("authorization").unwrap_or_default();
        let verb = verb.to_owned();
        // SDKs that sign v1 send some of V3's headers as well: the operation's place tells which of both is meant.
        let in_parameters = query.iter().chain(&form).any(|(name, _)| name == "Action");
        let in_headers = authorization.starts_with(v3::SCHEME) || header("x-acs-action").is_some() && !in_parameters;
        if !in_headers {
            return Self { verb, pairs: query.into_iter().chain(form).collect(), host, headers: None };
        }
        let claimed = v3::Authorization::parse(&authorization);
        let accept = header("accept").unwrap_or_default().to_ascii_lowercase();
        let common = [
            ("Action", header("x-acs-action")),
            ("Version", header("x-acs-version")),
            ("AccessKeyId", claimed.map(|claimed| claimed.credential)),
            ("SignatureNonce", header("x-acs-signature-nonce")),
            ("Timestamp", header("x-acs-date")),
            ("SecurityToken", header("x-acs-security-token")),
            // The Tea SDKs that sign this way read JSON only; whoever wants XML asks for it.
            ("Format", Some(if accept.contains("xml") { "XML" } else { "JSON" }.to_owned())),
        ];
        let common = common.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let pairs = query.iter().cloned().chain(form).chain(common).collect();
        let all = headers.into_iter().filter(|(name, _)| name != "authorization").collect();
        let headers = Headers { all, authorization, query, body_hash: v3::content_hash(body) };
        Self { verb, pairs, host, headers: Some(headers) }
    }
}
