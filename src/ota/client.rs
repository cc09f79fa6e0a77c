//! The exchange over HTTPS: signing, waiting for a slot of the quota, one bounded answer (ota-api: sections 1, 8).
//!
//! Here belongs what happens on the wire. Nothing is retried here, and what an answer means is not looked at, except to
//! see a throttle.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::credentials::{Credentials, hex};
use super::denials::Denials;
use super::endpoint::Endpoint;
use super::limits::{Limits, Permit};
use super::quota::Quota;
use super::signed::signed;
use super::wire::{LONGEST_BODY, code_of, refused};
use super::{Answer, Api, Class, NoAnswer, Operation, Request, Sender, Stamp, code, sign};
use crate::api::Signature;
use crate::clock;
use crate::telemetry::Metrics;

/// Longest pause that we let the gateway ask for (section 8).
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The quota of one quota group, shared by its clients.
pub type SharedQuota = Arc<Mutex<Quota>>;

/// The HTTP client could not be made: no TLS provider or no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client: {0}")]
pub struct ClientError(String);

/// Talks to one endpoint with one access key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    credentials: Credentials,
    quota: SharedQuota,
    limits: Limits,
    permit: Option<Permit>,
    signature: Signature,
    denials: Arc<Mutex<Denials>>,
    metrics: Option<Metrics>,
}

impl Client {
    /// A client that takes its slots from `quota`. A TLS provider must have been installed (`main` does).
    ///
    /// # Errors
    /// If there are no root certificates, or there is no TLS provider.
    pub fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        quota: SharedQuota,
        limits: Limits,
    ) -> Result<Self, ClientError> {
        let http = http(&endpoint, limits)?;
        let (signature, denials) = (Signature::default(), Arc::default());
        Ok(Self { http, endpoint, credentials, quota, limits, permit: None, metrics: None, signature, denials })
    }

    /// The same, sending only what `permit` allows at that very moment.
    #[must_use]
    pub fn permitted(self, permit: Permit) -> Self {
        Self { permit: Some(permit), ..self }
    }

    /// The same, telling how long calls wait and take, and how they fail.
    #[must_use]
    pub fn measured(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn measure(&self, operation: Operation, waited: Duration, took: Option<Duration>, failed: Option<&'static str>) {
        let Some(metrics) = &self.metrics else { return };
        metrics.waited(operation.name(), waited);
        if let Some(took) = took {
            metrics.called(operation.name(), took);
        }
        if let Some(class) = failed {
            metrics.refused(operation.name(), class);
        }
    }

    /// The same, signing this way whatever has no stamp.
    #[must_use]
    pub fn signing(self, signature: Signature) -> Self {
        Self { signature, ..self }
    }

    /// How it signs what has no stamp.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// The operations that the cloud lately forbade to these credentials.
    pub fn forbidden(&self) -> Vec<Operation> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).missing(clock::monotonic())
    }

    /// What sends: bounded in time, without redirects and repetitions.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Where it calls.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// With which key.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What it signs as.
    pub fn sender(&self) -> Sender {
        Sender {
            endpoint: self.endpoint.url().to_string(),
            region: self.endpoint.region().map(str::to_owned),
            access_key: self.credentials.digest(),
        }
    }

    fn quota(&self) -> MutexGuard<'_, Quota> {
        // A panic between two of its fields' updates loses at most a slot.
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot.
    async fn turn(&self, operation: Operation, patience: Option<Duration>) -> Result<(), NoAnswer> {
        let deadline = patience.map(|p| clock::monotonic() + p);
        loop {
            let now = clock::monotonic();
            let slot = {
                let mut quota = self.quota();
                let next = quota.next_slot(operation, now);
                if deadline.is_some_and(|deadline| next > deadline) {
                    return Err(NoAnswer::NotSent(format!("the account's quota for {operation} is used up")));
                }
                quota.reserve(operation, now)
            };
            if slot > now {
                tokio::time::sleep_until(slot.into()).await;
            }
            // A refusal meanwhile holds the slots that were given before it, too.
            let held = self.quota().held_until(operation);
            if held.is_none_or(|until| until <= clock::monotonic()) {
                return Ok(());
            }
        }
    }

    /// How and when a request is signed that has no stamp of its own.
    fn stamp(&self) -> Stamp {
        Stamp { nonce: fresh_nonce(), at: clock::wall(), signature: self.signature, sender: self.sender() }
    }

    /// Error answers may echo what was sent (section 8: the string to sign, with an STS token in it).
    fn without_secrets(&self, http_status: u16, body: Vec<u8>) -> Vec<u8> {
        // Refusals are short, at whatever status; long answers with a good status are lists.
        if http_status < 400 && body.len() >= 64 * 1024 {
            return body;
        }
        let text = match String::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return error.into_bytes(),
        };
        let token = self.credentials.token().map(|t| t.expose_secret());
        let secrets: Vec<&str> =
            [Some(self.credentials.secret().expose_secret()), token].into_iter().flatten().collect();
        scrub(text, &secrets).into_bytes()
    }

    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let stamp = request.stamp.clone().unwrap_or_else(|| self.stamp());
        let signed = signed(request, &self.endpoint, &self.credentials, &stamp);
        let mut url = self.endpoint.url().clone();
        url.set_query(Some(&signed.query));
        let stamped = self.limits.stamped.min(self.limits.total);
        let longest = if request.stamp.is_some() { stamped } else { Duration::ZERO };
        if self.permit.as_ref().is_some_and(|permit| !permit.allows(longest)) {
            return Err(NoAnswer::NotSent("another replica owns the account, or will before an answer".to_owned()));
        }
        let mut post = self.http.post(url);
        for (name, value) in signed.headers {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| NoAnswer::NotSent(format!("the credentials cannot be sent as header {name}")))?;
            value.set_sensitive(true);
            post = post.header(name, value);
        }
        if request.stamp.is_some() {
            post = post.timeout(stamped);
        }
        let response = post.send().await.map_err(|e| match e.is_connect() || e.is_builder() {
            true => NoAnswer::NotSent(reason(e)),
            false => NoAnswer::Lost(reason(e)),
        })?;
        let http_status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = bounded_body(response, LONGEST_BODY).await?;
        let date = header(&headers, "date").and_then(http_date);
        let now = header(&headers, "x-fota-now").and_then(|text| text.parse().ok()).or(date);
        let retry_after = header(&headers, "x-acs-retry-after").and_then(pause);
        let body = self.without_secrets(http_status, body);
        Ok(Answer { http_status, body, date, now, retry_after })
    }
}

impl Api for Client {
    async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let operation = request.operation;
        if request.stamp.as_ref().is_some_and(|stamp| stamp.sender != self.sender()) {
            return Err(NoAnswer::NotSent("the account has other keys or another endpoint by now".to_owned()));
        }
        let asked = clock::monotonic();
        let turn = self.turn(operation, request.stamp.as_ref().map(|_| self.limits.patience)).await;
        let sent = clock::monotonic();
        let answer = match turn {
            Ok(()) => self.send(request).await,
            Err(absence) => Err(absence),
        };
        let now = clock::monotonic();
        let code = answer.as_ref().ok().and_then(|answer| code_of(&answer.body)).unwrap_or_default();
        let throttled = answer.as_ref().is_ok_and(|answer| code::is_throttling(&code, answer.http_status));
        let failed = match &answer {
            Err(NoAnswer::NotSent(_)) => Some("NotSent"),
            Err(NoAnswer::Lost(_)) => Some("Lost"),
            Ok(_) if throttled => Some("Throttled"),
            Ok(answer) => refused(answer).map(Class::name),
        };
        let took = (failed != Some("NotSent")).then(|| now.duration_since(sent));
        self.measure(operation, sent.duration_since(asked), took, failed);
        let answer = answer?;
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).note(operation, &code, now);
        if throttled {
            self.quota().throttled(operation, now, answer.retry_after);
        } else {
            self.quota().succeeded(operation, now);
        }
        Ok(answer)
    }
}

/// What sends to an endpoint: bounded in time, without redirects and repetitions.
///
/// # Errors
/// If there are no root certificates, or there is no TLS provider.
pub(super) fn http(endpoint: &Endpoint, limits: Limits) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("fota/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .timeout(limits.total)
        // A signed request goes to the endpoint that was allowed, and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        // What may be sent again is decided above.
        .retry(reqwest::retry::never())
        // Shorter than any gateway's: a create on a connection that is just being closed would be lost.
        .pool_idle_timeout(Duration::from_secs(5));
    if endpoint.is_loopback() {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| ClientError(reason(e)))
}

/// A text with every form of these secrets struck out.
pub(super) fn scrub(text: String, secrets: &[&str]) -> String {
    let mut text = text;
    for secret in secrets {
        // No real one is this short, and striking out every "a" would leave nothing to read.
        if secret.len() < 8 {
            continue;
        }
        let once = sign::encode(secret);
        let twice = sign::encode(&once);
        for form in [twice.as_str(), once.as_str(), secret] {
            if text.contains(form) {
                text = text.replace(form, "***");
            }
        }
    }
    text
}

/// Reads a body of at most `longest` bytes.
pub(super) async fn bounded_body(mut response: reqwest::Response, longest: usize) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| NoAnswer::Lost(reason(e)))? {
        if body.len() + chunk.len() > longest {
            return Err(NoAnswer::Lost(format!("the answer is longer than {longest} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A `SignatureNonce`: 32 hexadecimal digits that nobody used before. Need not be secret, only unique: the keys of
/// [`RandomState`] are drawn
/// from the operating system, and the counter tells apart what one process draws.
pub fn fresh_nonce() -> String {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let count = DRAWN.fetch_add(1, Ordering::Relaxed);
    let mut digest = Sha256::new();
    for seed in [RandomState::new(), RandomState::new(), RandomState::new()] {
        digest.update(seed.hash_one(count).to_le_bytes());
    }
    digest.update(count.to_le_bytes());
    digest.update(clock::wall().as_nanosecond().to_le_bytes());
    digest.update(std::process::id().to_le_bytes());
    hex(digest.finalize().into_iter().take(16))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str)?.ok().map(str::trim)
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// A positive number of milliseconds, capped.
fn pause(text: &str) -> Option<Duration> {
    let milliseconds: u64 = text.parse().ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(milliseconds).min(LONGEST_RETRY_AFTER))
}

/// What went wrong, without the URL: that is signed, and holds an STS token.
pub(crate) fn reason(error: reqwest::Error) -> String {
    let kind = if error.is_timeout() { "timed out" } else { "failed" };
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{kind}: {innermost}")
}

#[cfg(test)]
mod tests;
