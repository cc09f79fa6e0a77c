//! The exchange over HTTPS: signing, waiting for a slot of the quota, one bounded answer (ota-api: sections 1, 8, 9).
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
use super::endpoint::Endpoint;
use super::limits::{Limits, Permit};
use super::quota::Quota;
use super::wire::{LONGEST_BODY, refused, throttled};
use super::{Answer, Api, Class, NoAnswer, Operation, Request, Sender, sign};
use crate::clock;
use crate::telemetry::Metrics;

const VERB: &str = "POST";
const VERSION: &str = "2018-01-20";
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
        let http = builder.build().map_err(|e| ClientError(reason(e)))?;
        Ok(Self { http, endpoint, credentials, quota, limits, permit: None, metrics: None })
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

    /// The signed query: sorted as it is signed, then `Signature`. The same for the same request with a stamp.
    fn query(&self, request: &Request) -> String {
        let (nonce, at) = match &request.stamp {
            Some(stamp) => (stamp.nonce.clone(), stamp.at),
            None => (fresh_nonce(), clock::wall()),
        };
        let timestamp = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut pairs = vec![
            ("AccessKeyId", self.credentials.id()),
            ("Action", request.operation.name()),
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", &nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", &timestamp),
            ("Version", VERSION),
        ];
        pairs.extend(self.endpoint.region().map(|region| ("RegionId", region)));
        pairs.extend(self.credentials.token().map(|token| ("SecurityToken", token.expose_secret())));
        pairs.extend(request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let canonical = sign::canonical_query(pairs);
        let text = sign::string_to_sign(VERB, &canonical);
        let signature = sign::signature(self.credentials.secret().expose_secret(), &text);
        format!("{canonical}&Signature={}", sign::encode(&signature))
    }

    /// Error answers may echo what was sent (section 8: the string to sign, with an STS token in it).
    fn without_secrets(&self, http_status: u16, body: Vec<u8>) -> Vec<u8> {
        // Refusals are short, at whatever status; long answers with a good status are lists.
        if http_status < 400 && body.len() >= 64 * 1024 {
            return body;
        }
        let Ok(text) = std::str::from_utf8(&body) else { return body };
        let token = self.credentials.token().map(|t| t.expose_secret());
        let mut scrubbed = text.to_owned();
        for secret in [Some(self.credentials.secret().expose_secret()), token].into_iter().flatten() {
            // No real one is this short, and striking out every "a" would leave nothing to read.
            if secret.len() < 8 {
                continue;
            }
            let once = sign::encode(secret);
            let twice = sign::encode(&once);
            for form in [twice.as_str(), once.as_str(), secret] {
                if scrubbed.contains(form) {
                    scrubbed = scrubbed.replace(form, "***");
                }
            }
        }
        scrubbed.into_bytes()
    }

    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let mut url = self.endpoint.url().clone();
        url.set_query(Some(&self.query(request)));
        let stamped = self.limits.stamped.min(self.limits.total);
        let longest = if request.stamp.is_some() { stamped } else { Duration::ZERO };
        if self.permit.as_ref().is_some_and(|permit| !permit.allows(longest)) {
            return Err(NoAnswer::NotSent("another replica owns the account, or will before an answer".to_owned()));
        }
        let mut post = self.http.post(url);
        if request.stamp.is_some() {
            post = post.timeout(stamped);
        }
        let mut response = post.send().await.map_err(|e| match e.is_connect() || e.is_builder() {
            true => NoAnswer::NotSent(reason(e)),
            false => NoAnswer::Lost(reason(e)),
        })?;
        let http_status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| NoAnswer::Lost(reason(e)))? {
            if body.len() + chunk.len() > LONGEST_BODY {
                return Err(NoAnswer::Lost(format!("the answer is longer than {LONGEST_BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let headers = response.headers();
        let date = header(headers, "date").and_then(http_date);
        let now = header(headers, "x-fota-now").and_then(|text| text.parse().ok()).or(date);
        let retry_after = header(headers, "x-acs-retry-after").and_then(pause);
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
        let failed = match &answer {
            Err(NoAnswer::NotSent(_)) => Some("NotSent"),
            Err(NoAnswer::Lost(_)) => Some("Lost"),
            Ok(answer) if throttled(answer.http_status, &answer.body) => Some("Throttled"),
            Ok(answer) => refused(answer).map(Class::name),
        };
        let took = (failed != Some("NotSent")).then(|| now.duration_since(sent));
        self.measure(operation, sent.duration_since(asked), took, failed);
        let answer = answer?;
        if failed == Some("Throttled") {
            self.quota().throttled(operation, now, answer.retry_after);
        } else {
            self.quota().succeeded(operation, now);
        }
        Ok(answer)
    }
}

/// 32 hexadecimal digits that nobody used before. Need not be secret, only unique: the keys of [`RandomState`] are drawn
/// from the operating system, and the counter tells apart what one process draws.
fn fresh_nonce() -> String {
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
fn reason(error: reqwest::Error) -> String {
    let kind = if error.is_timeout() { "timed out" } else { "failed" };
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{kind}: {innermost}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::{AllowedEndpoints, Params, Stamp};
    use axum::Router;
    use axum::body::Body;
    use axum::extract::State;
    use axum::http::{Method, Response, Uri};
    use percent_encoding::percent_decode_str;
    use secrecy::SecretString;

    /// What arrived: verb, path and query, user agent, length of the body.
    type Seen = Arc<Mutex<Vec<(Method, String, String, usize)>>>;
    type Reply = fn(usize) -> Response<Body>;

    struct Cloud {
        seen: Seen,
        port: u16,
    }

    impl Cloud {
        /// Answers the `n`th request, from 0, with `reply(n)`.
        async fn start(reply: Reply) -> Self {
            type Shared = (Seen, Reply);
            async fn handle(
                State((seen, reply)): State<Shared>,
                method: Method,
                uri: Uri,
                headers: HeaderMap,
                body: axum::body::Bytes,
            ) -> Response<Body> {
                let n = {
                    let mut seen = seen.lock().unwrap();
                    let agent = header(&headers, "user-agent").unwrap_or_default().to_owned();
                    seen.push((method, uri.to_string(), agent, body.len()));
                    seen.len() - 1
                };
                if uri.query().is_some_and(|q| q.contains("Stall=1")) {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                reply(n)
            }
            let seen = Seen::default();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let router = Router::new().fallback(handle).with_state((seen.clone(), reply));
            tokio::spawn(async move { axum::serve(listener, router).await });
            Self { seen, port }
        }

        fn queries(&self) -> Vec<String> {
            self.seen.lock().unwrap().iter().map(|(_, uri, ..)| uri.trim_start_matches("/?").to_owned()).collect()
        }
    }

    const SECRET: &str = "testAccess+Key/Secret";
    const TOKEN: &str = "CAIS+token/with=signs";

    fn client(port: u16, limits: Limits) -> Client {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allowed = AllowedEndpoints::new(["127.0.0.1"], true).unwrap();
        let endpoint = allowed.endpoint(&format!("http://127.0.0.1:{port}")).unwrap().with_region("cn-shanghai");
        let credentials = Credentials::new("testAccessKeyId", SecretString::from(SECRET), Some(TOKEN.into()));
        Client::new(endpoint, credentials, SharedQuota::default(), limits).unwrap()
    }

    fn request(parameters: &[(&str, &str)], stamp: Option<Stamp>) -> Request {
        let parameters: Params = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Request { operation: Operation::CreateOTAStaticUpgradeJob, parameters, stamp }
    }

    fn stamp(client: &Client) -> Option<Stamp> {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        Some(Stamp { nonce: "0123456789abcdef".into(), at, sender: client.sender() })
    }

    fn ok(_: usize) -> Response<Body> {
        Response::new(Body::from(r#"{"Success":true,"Data":{"JobId":"j"}}"#))
    }

    fn decoded(query: &str) -> Params {
        let decode = |t: &str| percent_decode_str(t).decode_utf8().unwrap().into_owned();
        query.split('&').map(|p| p.split_once('=').unwrap()).map(|(k, v)| (decode(k), decode(v))).collect()
    }

    #[tokio::test]
    async fn the_request_is_signed_as_the_gateway_checks_it() {
        let cloud = Cloud::start(ok).await;
        let client = client(cloud.port, Limits::default());
        let odd = [("SrcVersion.1", "a b*~'()!"), ("SrcVersion.10", "升级"), ("SrcVersion.2", "+/&="), ("Empty", "")];
        client.exchange(&request(&odd, None)).await.unwrap();
        let (method, uri, agent, length) = cloud.seen.lock().unwrap()[0].clone();
        assert_eq!((method, length), (Method::POST, 0));
        assert_eq!(agent, concat!("fota/", env!("CARGO_PKG_VERSION")));
        assert!(uri.starts_with("/?"), "{uri}");
        let mut params = decoded(&cloud.queries()[0]);
        let signature = params.remove("Signature").unwrap();
        let canonical = sign::canonical_query(params.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        assert!(sign::verify(SECRET, &sign::string_to_sign("POST", &canonical), &signature));
        for (name, value) in odd {
            assert_eq!(params.remove(name).as_deref(), Some(value));
        }
        let nonce = params.remove("SignatureNonce").unwrap();
        assert!(nonce.len() == 32 && nonce.chars().all(|c| c.is_ascii_hexdigit()), "{nonce}");
        let timestamp = params.remove("Timestamp").unwrap();
        assert_eq!(timestamp.len(), "2026-01-02T03:04:05Z".len());
        let age = clock::wall().duration_since(timestamp.parse().unwrap());
        assert!(age.as_secs().abs() <= 5, "{timestamp}");
        let common = params.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        let expected = "AccessKeyId=testAccessKeyId Action=CreateOTAStaticUpgradeJob Format=JSON RegionId=cn-shanghai \
                        SecurityToken=CAIS+token/with=signs SignatureMethod=HMAC-SHA1 SignatureVersion=1.0 \
                        Version=2018-01-20";
        assert_eq!(common, expected);
    }

    #[tokio::test]
    async fn a_stamp_makes_the_request_repeat_byte_for_byte() {
        let cloud = Cloud::start(ok).await;
        let client = client(cloud.port, Limits::default());
        for _ in 0..2 {
            client.exchange(&request(&[("FirmwareId", "f")], stamp(&client))).await.unwrap();
        }
        for _ in 0..2 {
            client.exchange(&request(&[("FirmwareId", "f")], None)).await.unwrap();
        }
        let queries = cloud.queries();
        assert_eq!(queries[0], queries[1]);
        assert!(queries[0].contains("SignatureNonce=0123456789abcdef&"));
        assert!(queries[0].contains("Timestamp=2026-01-02T03%3A04%3A05Z&"));
        assert_ne!(queries[2], queries[3]);
    }

    #[tokio::test]
    async fn a_stamped_request_of_another_sender_is_not_sent() {
        let cloud = Cloud::start(ok).await;
        let client = client(cloud.port, Limits::default());
        let sender = client.sender();
        for other in [
            Sender { access_key: "other".into(), ..sender.clone() },
            Sender { endpoint: "http://127.0.0.1/".into(), ..sender.clone() },
            Sender { region: None, ..sender },
        ] {
            let stamp = stamp(&client).map(|stamp| Stamp { sender: other, ..stamp });
            let result = client.exchange(&request(&[], stamp)).await;
            assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("other keys")), "{result:?}");
        }
        assert_eq!(cloud.queries(), [""; 0]);
    }

    #[tokio::test]
    async fn an_answer_arrives_with_its_clocks_and_pause() {
        let cloud = Cloud::start(|n| {
            let mut response = Response::builder().status(418).header("date", "Fri, 02 Jan 2026 03:04:05 GMT");
            if n == 0 {
                response = response.header("x-fota-now", "2027-05-06T07:08:09.5Z").header("x-acs-retry-after", "1500");
            }
            response.body(Body::from("tea")).unwrap()
        })
        .await;
        let client = client(cloud.port, Limits::default());
        let date = "2026-01-02T03:04:05Z".parse().ok();
        let first = client.exchange(&request(&[], None)).await.unwrap();
        let expected = Answer {
            http_status: 418,
            body: b"tea".to_vec(),
            date,
            now: "2027-05-06T07:08:09.5Z".parse().ok(),
            retry_after: Some(Duration::from_millis(1500)),
        };
        assert_eq!(first, expected);
        let second = client.exchange(&request(&[], None)).await.unwrap();
        assert_eq!(second, Answer { now: date, retry_after: None, ..expected });
    }

    #[test]
    fn pauses_are_positive_milliseconds_and_capped() {
        assert_eq!(pause("1"), Some(Duration::from_millis(1)));
        assert_eq!(pause("99999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!((pause("0"), pause("-5"), pause("soon")), (None, None, None));
    }

    #[tokio::test]
    async fn silence_is_lost_and_names_no_url() {
        let cloud = Cloud::start(ok).await;
        let client = client(cloud.port, Limits { total: Duration::from_millis(200), ..Limits::default() });
        match client.exchange(&request(&[("Stall", "1")], stamp(&client))).await {
            Err(NoAnswer::Lost(why)) => {
                assert!(why.contains("timed out"), "{why}");
                assert!(!why.contains("Signature") && !why.contains("CAIS"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(cloud.queries().len(), 1, "it did arrive, and was not repeated");
    }

    #[tokio::test]
    async fn without_a_permit_nothing_is_sent_and_a_stamped_request_asks_for_its_whole_time() {
        let cloud = Cloud::start(ok).await;
        let limits = Limits { stamped: Duration::from_secs(3), ..Limits::default() };
        let client = client(cloud.port, limits).permitted(Permit::new(|longest| longest < Duration::from_secs(3)));
        client.exchange(&request(&[], None)).await.unwrap();
        let result = client.exchange(&request(&[], stamp(&client))).await;
        assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("replica")), "{result:?}");
        assert_eq!(cloud.queries().len(), 1);
    }

    #[tokio::test]
    async fn a_refused_connection_is_not_sent() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = client(port, Limits::default());
        match client.exchange(&request(&[], stamp(&client))).await {
            Err(NoAnswer::NotSent(why)) => assert!(!why.contains("Signature"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_after_the_request_is_lost() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.readable().await.unwrap();
                stream.try_read(&mut [0; 16]).unwrap();
            }
        });
        let client = client(port, Limits::default());
        let result = client.exchange(&request(&[], stamp(&client))).await;
        assert!(matches!(result, Err(NoAnswer::Lost(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_not_swallowed() {
        let cloud = Cloud::start(|n| Response::new(Body::from(vec![b' '; LONGEST_BODY + 1 - n]))).await;
        let client = client(cloud.port, Limits::default());
        let result = client.exchange(&request(&[], None)).await;
        assert!(matches!(&result, Err(NoAnswer::Lost(why)) if why.contains("longer")));
        assert_eq!(client.exchange(&request(&[], None)).await.unwrap().body.len(), LONGEST_BODY);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let cloud = Cloud::start(|_| {
            Response::builder().status(307).header("location", "/elsewhere").body(Body::empty()).unwrap()
        })
        .await;
        let answer = client(cloud.port, Limits::default()).exchange(&request(&[], None)).await.unwrap();
        assert_eq!((answer.http_status, cloud.queries().len()), (307, 1));
    }

    #[tokio::test]
    async fn a_throttle_holds_the_next_call_and_turns_a_stamped_one_away() {
        let cloud = Cloud::start(|n| match n {
            0 => Response::builder().status(400).body(Body::from(r#"{"Code":"Throttling.Api"}"#)).unwrap(),
            _ => ok(n),
        })
        .await;
        let client = client(cloud.port, Limits { patience: Duration::from_millis(100), ..Limits::default() });
        client.exchange(&request(&[], None)).await.unwrap();
        let refused = clock::monotonic();
        let result = client.exchange(&request(&[], stamp(&client))).await;
        assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("quota")), "{result:?}");
        client.exchange(&request(&[], None)).await.unwrap();
        assert!(refused.elapsed() >= Duration::from_millis(900), "{:?}", refused.elapsed());
        assert_eq!(cloud.queries().len(), 2);
    }

    #[tokio::test]
    async fn an_echoed_secret_is_struck_out() {
        let cloud = Cloud::start(|_| {
            let once = sign::encode(TOKEN);
            let echo = format!("{TOKEN} {once} {} {SECRET}.", sign::encode(&once));
            Response::builder().status(400).body(Body::from(echo)).unwrap()
        })
        .await;
        let client = client(cloud.port, Limits::default());
        let answer = client.exchange(&request(&[], None)).await.unwrap();
        assert_eq!(String::from_utf8(answer.body).unwrap(), "*** *** *** ***.");
        let debug = format!("{client:?}");
        assert!(!debug.contains(SECRET) && !debug.contains(TOKEN), "{debug}");
    }

    #[test]
    fn nonces_do_not_repeat() {
        let drawn: std::collections::BTreeSet<_> = (0..10_000).map(|_| fresh_nonce()).collect();
        assert_eq!(drawn.len(), 10_000);
    }
}
