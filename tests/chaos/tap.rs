//! The tap: all of one operator's traffic passes it, and it kills the operator at the request that it is told.
//!
//! One loopback address. `/` is the cloud; everything else is the API server, which is reached over TLS with the
//! operator's own token. What is asked of the cloud and what is written to the API server counts as a request; reads of
//! the API server do not. Here belongs what happens to a request; when and why is up to the series and the storms.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use fota::cloud::connection::{CuttableListener, Peer};
use serde_json::Value;
use tokio::sync::watch;

use crate::harness::Result;
use crate::harness::process::Process;

/// How an operator dies of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Before the request is sent.
    Unsent,
    /// The request is on its way, and arrives when the next operator is at work.
    Late,
    /// The work is done; the answer never comes.
    Unanswered,
    /// Right after the answer.
    Answered,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Unsent, Self::Late, Self::Unanswered, Self::Answered];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unsent => "before it",
            Self::Late => "it came late",
            Self::Unanswered => "no answer",
            Self::Answered => "after it",
        })
    }
}

/// A request that counts, by what it does.
pub type Kind = String;

/// When to kill: the number of the request since the operator was started, from 1, and what it does.
pub type When = Box<dyn FnMut(u64, &str) -> bool + Send>;

/// Where an operator dies.
pub struct Kill {
    pub when: When,
    pub way: Way,
    /// A late request arrives when the next operators have made so many.
    pub after: u64,
}

/// At the nth request.
pub fn nth(n: u64) -> When {
    Box::new(move |number, _| number == n)
}

/// At the nth request that is not about a Lease: of those there are many more, and each is like the other.
pub fn nth_of_work(n: u64) -> When {
    let mut work = 0;
    Box::new(move |_, kind| {
        work += u64::from(kind != LEASE);
        work == n
    })
}

const LEASE: &str = "Lease";

/// A late request is not held longer, also when no further operator comes to work.
const LATEST: Duration = Duration::from_secs(20);

/// One operator's tap. It is open until its runtime ends.
#[derive(Clone)]
pub struct Tap {
    url: String,
    inner: Arc<Inner>,
}

struct Inner {
    api: kube::Client,
    http: reqwest::Client,
    cloud: String,
    state: Mutex<Run>,
    /// All requests so far.
    total: watch::Sender<u64>,
    struck: watch::Sender<Option<Strike>>,
}

/// One operator, from its start to its end.
#[derive(Default)]
struct Run {
    operator: Option<Process>,
    requests: u64,
    armed: Option<Kill>,
    /// Rollouts whose last status had a claim: the next one without it records what became of it.
    claimed: BTreeSet<String>,
}

/// A kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    pub kind: Kind,
    pub way: Way,
}

/// What is to become of a request.
struct Blow {
    strike: Strike,
    /// Whose last request it is.
    operator: Option<Process>,
    /// A late one arrives when there were so many requests more.
    after: u64,
}

impl Tap {
    /// Opens one: `api` calls the API server as the operator, `cloud` is the cloud's address.
    pub async fn open(api: kube::Client, cloud: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (total, struck) = (watch::Sender::new(0), watch::Sender::new(None));
        let inner = Arc::new(Inner { api, http, cloud: cloud.to_owned(), state: Mutex::default(), total, struck });
        let router = Router::new().fallback(pass).with_state(inner.clone());
        let service = router.into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move { axum::serve(CuttableListener(listener), service).await });
        Ok(Self { url, inner })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on another operator runs, to its kill.
    pub fn begin(&self, operator: Process, kill: Option<Kill>) {
        self.inner.struck.send_replace(None);
        let mut run = self.inner.run();
        (run.operator, run.requests, run.armed) = (Some(operator), 0, kill);
    }

    /// Nobody is killed any more.
    pub fn disarm(&self) {
        self.inner.run().armed = None;
    }

    /// Waits for the kill.
    pub async fn struck(&self) -> Strike {
        let mut struck = self.inner.struck.subscribe();
        loop {
            if let Some(strike) = struck.borrow_and_update().clone() {
                return strike;
            }
            if struck.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The operator that runs, or ran last.
    pub fn operator(&self) -> Option<Process> {
        self.inner.run().operator
    }
}

impl Inner {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; some: it is the operator's last.
    fn count(&self, kind: &str) -> Option<Blow> {
        let mut run = self.run();
        run.requests += 1;
        let number = run.requests;
        self.total.send_modify(|total| *total += 1);
        let due = run.armed.as_mut().is_some_and(|kill| (kill.when)(number, kind));
        let Kill { way, after, .. } = run.armed.take_if(|_| due)?;
        Some(Blow { strike: Strike { kind: kind.to_owned(), way }, operator: run.operator, after })
    }

    /// SIGKILL, and gone.
    async fn kill(&self, operator: Option<Process>, strike: Strike) {
        let kill = move || {
            while let Some(operator) = operator.filter(|operator| operator.alive()) {
                operator.signal("KILL")?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        // Where it fails the operator lives on, and nothing was struck.
        if let Ok(Ok(())) = tokio::task::spawn_blocking(kill).await {
            self.struck.send_replace(Some(strike));
        }
    }

    /// What a request does, if it counts.
    fn kind(&self, parts: &Parts, body: &[u8]) -> Option<Kind> {
        if parts.uri.path() == "/" {
            let query = parts.uri.query().unwrap_or_default();
            return query.split('&').find_map(|pair| pair.strip_prefix("Action=")).map(str::to_owned);
        }
        if [Method::GET, Method::HEAD].contains(&parts.method) {
            return None;
        }
        let path = parts.uri.path();
        let kind = if path.contains("/firmwarerollouts/") && path.ends_with("/status") {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let claim = &body["status"]["claim"];
            let mut run = self.run();
            match (claim.is_object(), claim["sent"] == true) {
                (true, sent) => {
                    run.claimed.insert(path.to_owned());
                    if sent { "status: claim, marked as sent" } else { "status: claim" }
                }
                (false, _) if run.claimed.remove(path) => "status: what became of the claim",
                (false, _) => "status: other",
            }
        } else if path.contains("/firmwarerollouts/") {
            "finalizer"
        } else if path.contains("/otaaccounts/") {
            "account's status"
        } else if path.contains("/leases") {
            LEASE
        } else if path.contains("/events") {
            "event"
        } else {
            "another write"
        };
        Some(kind.to_owned())
    }

    async fn forward(&self, parts: Parts, body: Bytes, counts: bool) -> Result<Response> {
        if parts.uri.path() == "/" { self.to_cloud(parts, body).await } else { self.to_api(parts, body, counts).await }
    }

    async fn to_cloud(&self, parts: Parts, body: Bytes) -> Result<Response> {
        let mut request = self.http.request(parts.method, format!("{}{}", self.cloud, path_and_query(&parts.uri)));
        if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let answer = request.body(body).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = (status, answer.bytes().await?).into_response();
        for name in [header::CONTENT_TYPE.as_str(), "date", "x-fota-now", "x-acs-retry-after"] {
            if let Some(value) = headers.get(name) {
                response.headers_mut().insert(header::HeaderName::from_bytes(name.as_bytes())?, value.clone());
            }
        }
        Ok(response)
    }

    async fn to_api(&self, parts: Parts, body: Bytes, whole: bool) -> Result<Response> {
        let mut request = axum::http::Request::builder().method(parts.method).uri(path_and_query(&parts.uri));
        for (name, value) in &parts.headers {
            // The others are about this connection, or the client's own.
            if [header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT].contains(name) {
                request = request.header(name, value);
            }
        }
        let answer = self.api.send(request.body(kube::client::Body::from(body))?).await?;
        let (mut parts, body) = answer.into_parts();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
            parts.headers.remove(name);
        }
        let body = Body::new(body);
        // A watch goes on for as long as both sides like.
        let body = if whole { Body::from(to_bytes(body, usize::MAX).await?) } else { body };
        Ok(Response::from_parts(parts, body))
    }

    /// Waits until there were so many requests, or long enough.
    async fn until(&self, total: u64) {
        let mut count = self.total.subscribe();
        // Out of time, it arrives all the same.
        let _ = tokio::time::timeout(LATEST, count.wait_for(|count| *count >= total)).await;
    }
}

/// One request, from the operator to where it goes, and its answer.
async fn pass(State(tap): State<Arc<Inner>>, ConnectInfo(peer): ConnectInfo<Peer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let cut = || {
        peer.cut();
        StatusCode::BAD_GATEWAY.into_response()
    };
    // Less than a whole request never was one.
    let Ok(body) = to_bytes(body, usize::MAX).await else { return cut() };
    let kind = tap.kind(&parts, &body);
    let blow = kind.as_deref().and_then(|kind| tap.count(kind));
    let counts = kind.is_some();
    let forward = {
        let tap = tap.clone();
        async move { tap.forward(parts, body, counts).await }
    };
    let Some(Blow { strike, operator, after }) = blow else {
        // In a task of its own: what was sent arrives, also when the sender is gone meanwhile.
        return match tokio::spawn(forward).await {
            Ok(Ok(response)) => response,
            _ => cut(),
        };
    };
    // In tasks of their own: this one is dropped when the operator's connection is.
    let way = strike.way;
    let kill = {
        let tap = tap.clone();
        async move { tap.kill(operator, strike).await }
    };
    match way {
        Way::Unsent => _ = tokio::spawn(kill).await,
        Way::Late => {
            let arrival = *tap.total.borrow() + after;
            let late = tap.clone();
            tokio::spawn(async move {
                late.until(arrival).await;
                forward.await
            });
            _ = tokio::spawn(kill).await;
        }
        Way::Unanswered => {
            let rest = async move {
                // An error is no answer, too.
                let _ = forward.await;
                kill.await;
            };
            _ = tokio::spawn(rest).await;
        }
        Way::Answered => {
            let rest = async move {
                let answer = forward.await;
                tokio::spawn(async move {
                    // Time for the answer to be taken in, more or less.
                    tokio::time::sleep(Duration::from_millis(after % 8)).await;
                    kill.await;
                });
                answer
            };
            if let Ok(Ok(response)) = tokio::spawn(rest).await {
                return response;
            }
        }
    }
    cut()
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// Only for messages.
impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tap at {}", self.url)
    }
}
