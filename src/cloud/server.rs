//! The simulated cloud over real HTTP: the signed API at `/`, and the admin side for people and tests.
//!
//! Here belong sockets, real clocks and documents. What is answered is decided in [`super::model`].
//!
//! Signed calls are POST or GET `/`, with pairs in the query and, as a form, in the body; signed in their parameters (v1)
//! or in their headers (V3). Every answer carries `X-Fota-Now`, the fleet clock, besides `Date`, the wall clock. Forms of
//! device names are posted to `/_oss`.
//!
//! The admin side takes no signature and talks to loopback peers only:
//!
//! | request | answer |
//! |---|---|
//! | `GET /_admin/calls` | `[{at, operation, params: {…}, accessKeyId, httpStatus, code, requestId, jobId, lost?}]` |
//! | `GET /_admin/jobs` | `[{…QueryOTAJob's Data with Tags, counts: {QUEUED: 1, …}, failures: {failed, timedOut, conflict}}]` |
//! | `PUT /_admin/jobs` | takes `{jobId, fields: {…}}`: QueryOTAJob shows these fields in place of the true ones; answers `{now}` |
//! | `GET /_admin/devices?productKey=` | `{total, versions: {module: {version: n}}, ledger: {atTarget, inProgress, notified, silent, queued, failed, timedOut, conflict, cancelled, exposed}}`; also `firmwareId=`, `jobId=` (repeatable), `silentAfterMinutes=` (720) |
//! | `GET /_admin/faults` | `{errorRate, lostReplyRate, latencyMs, throttleRate, listLagMs, failureRate, silentRate}` |
//! | `PUT /_admin/faults` | takes any of these fields, answers all of them |
//! | `GET /_admin/switches` | every switch with its value |
//! | `PUT /_admin/switches` | takes any of them, answers all of them |
//! | `POST /_admin/report` | takes `{productKey, deviceName, module, version}` (module: `default`): the device reports the version by itself; answers `{now}` |
//! | `POST /_admin/advance` | takes `{minutes}`, answers `{now}` |
//!
//! Admin refusals are `{"error": "…"}` with 400, 403 or 404.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::connection::{CuttableListener, Peer};
use super::faults::FaultsPatch;
use super::model::{Call, Clocks, Cloud, LedgerQuery, STORAGE_PATH};
use super::storage;
use crate::clock;

/// A century in minutes: nobody means to advance further, and the fleet clock must stay a date.
const ADVANCE_MAX_MINUTES: f64 = 52_560_000.0;

/// The fleet clock: it starts with the wall clock, runs at its own speed, and can be advanced.
#[derive(Debug, Clone, Copy)]
struct FleetClock {
    start: Timestamp,
    started: Instant,
    speed: f64,
    advanced_ms: f64,
}

impl FleetClock {
    fn at(&self, monotonic: Instant) -> Timestamp {
        let elapsed_ms = monotonic.duration_since(self.started).as_secs_f64() * 1000.0 * self.speed;
        let ms = self.start.as_millisecond().saturating_add((elapsed_ms + self.advanced_ms) as i64);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Debug)]
struct Inner {
    cloud: Cloud,
    clock: FleetClock,
}

impl Inner {
    /// The cloud's wall clock, which may differ from this machine's.
    fn wall(&self) -> Timestamp {
        clock::wall().saturating_add(self.cloud.clock_ahead()).unwrap_or_else(|_| clock::wall())
    }
}

/// A cloud with running clocks. Clones share it.
#[derive(Debug, Clone)]
pub struct Server(Arc<Mutex<Inner>>);

impl Server {
    /// Starts the clocks: the fleet's runs at `speed` times the wall's.
    pub fn new(cloud: Cloud, speed: f64) -> Self {
        let clock = FleetClock { start: clock::wall(), started: clock::monotonic(), speed, advanced_ms: 0.0 };
        let mut inner = Inner { cloud, clock };
        inner.clock.start = inner.wall();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Lets a caller look at, or change, the cloud as it is now.
    pub fn with<T>(&self, look: impl FnOnce(&mut Cloud, Clocks) -> T) -> T {
        let mut inner = self.lock();
        let clocks = Clocks { wall: inner.wall(), fleet: inner.clock.at(clock::monotonic()) };
        inner.cloud.tick(clocks);
        look(&mut inner.cloud, clocks)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The model does not panic; if it ever did, the rest of the simulation is still worth looking at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both clocks, as they are put on answers.
    fn now(&self) -> Clocks {
        let inner = self.lock();
        Clocks { wall: inner.wall(), fleet: inner.clock.at(clock::monotonic()) }
    }
}

/// Serves until `shutdown` is done and the answers under way are sent.
pub async fn serve(
    listener: TcpListener,
    server: Server,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let admin = Router::new()
        .route("/calls", get(calls))
        .route("/jobs", get(jobs).put(pretend))
        .route("/devices", get(devices))
        .route("/faults", get(faults).put(change_faults))
        .route("/switches", get(switches).put(change_switches))
        .route("/report", post(report))
        .route("/advance", post(advance))
        .layer(axum::middleware::from_fn(loopback_only));
    let router = Router::new()
        .route("/", any(signed))
        .route(STORAGE_PATH, post(storage::post_object).layer(DefaultBodyLimit::max(storage::FORM_BYTES_MAX)))
        .nest("/_admin", admin)
        .layer(from_fn_with_state(server.clone(), show_now))
        .with_state(server);
    axum::serve(CuttableListener(listener), router.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(shutdown)
        .await
}

/// Puts both clocks on every answer.
async fn show_now(State(server): State<Server>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let now = server.now();
    if !response.headers().contains_key("x-fota-now") {
        stamp(&mut response, now.fleet);
    }
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = printer.timestamp_to_rfc9110_string(&now.wall).ok().and_then(|date| HeaderValue::try_from(date).ok());
    if let Some(date) = date {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn stamp(response: &mut Response, now: Timestamp) {
    if let Ok(now) = HeaderValue::from_str(&format!("{now:.3}")) {
        response.headers_mut().insert("x-fota-now", now);
    }
}

/// Keeps the admin side from everybody else: it is not signed.
async fn loopback_only(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if local(peer.address) {
        next.run(request).await
    } else {
        refuse(StatusCode::FORBIDDEN, "the admin side is for loopback peers only")
    }
}

/// Whether a peer is this machine, mapped IPv4 addresses included.
fn local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// One signed call.
async fn signed(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST && method != Method::GET {
        let body = json!({"Code": "UnsupportedHTTPMethod", "Message": "Use POST or GET."});
        return (StatusCode::FORBIDDEN, axum::Json(body)).into_response();
    }
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let content_type = headers.iter().find(|(name, _)| name == "content-type").map_or("", |(_, value)| value.as_str());
    let form = if content_type.starts_with("application/x-www-form-urlencoded") {
        decode(&String::from_utf8_lossy(&body))
    } else {
        Vec::new()
    };
    let call = Call::of_request(method.as_str(), decode(uri.query().unwrap_or_default()), form, headers, &body);
    let (answer, now, latency) = server.with(|cloud, clocks| {
        let answer = cloud.handle(&call, clocks);
        (answer, clocks.fleet, cloud.faults().latency_ms)
    });
    // After the work: a client that gives up meanwhile leaves an effect behind, as on a slow network.
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    if answer.lost {
        peer.cut();
    }
    let status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response();
    // The clock that the answer was made by, not the one after the latency.
    stamp(&mut response, now);
    if let Some(ms) = answer.retry_after_ms {
        response.headers_mut().insert("x-acs-retry-after", HeaderValue::from(ms));
    }
    response
}

async fn calls(State(server): State<Server>) -> Response {
    server.with(|cloud, _| document(&cloud.calls()))
}

async fn jobs(State(server): State<Server>) -> Response {
    server.with(|cloud, _| document(&cloud.jobs()))
}

async fn devices(State(server): State<Server>, uri: Uri) -> Response {
    let mut query = LedgerQuery::default();
    let mut product_key = None;
    for (name, value) in decode(uri.query().unwrap_or_default()) {
        match name.as_str() {
            "productKey" => product_key = Some(value),
            "firmwareId" => query.firmware_id = Some(value),
            "jobId" => query.job_ids.push(value),
            "silentAfterMinutes" => match value.parse::<f64>() {
                Ok(minutes) if minutes >= 0.0 => query.silent_after_minutes = minutes,
                _ => return refuse(StatusCode::BAD_REQUEST, "silentAfterMinutes: must be a number, not below 0"),
            },
            _ => return refuse(StatusCode::BAD_REQUEST, &format!("{name}: unknown parameter")),
        }
    }
    let Some(product_key) = product_key else {
        return refuse(StatusCode::BAD_REQUEST, "productKey: is missing");
    };
    server.with(|cloud, _| match cloud.devices(&product_key, &query) {
        Some(report) => document(&report),
        None => refuse(StatusCode::NOT_FOUND, "productKey: no such product"),
    })
}

async fn faults(State(server): State<Server>) -> Response {
    server.with(|cloud, _| document(cloud.faults()))
}

async fn change_faults(State(server): State<Server>, body: Bytes) -> Response {
    let patch: FaultsPatch = match read(&body) {
        Ok(patch) => patch,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    server.with(|cloud, _| match cloud.change_faults(&patch) {
        Ok(()) => document(cloud.faults()),
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    })
}

async fn switches(State(server): State<Server>) -> Response {
    server.with(|cloud, _| document(cloud.switches()))
}

async fn change_switches(State(server): State<Server>, body: Bytes) -> Response {
    let patch: Map<String, Value> = match read(&body) {
        Ok(patch) => patch,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    server.with(|cloud, _| match cloud.change_switches(&patch) {
        Ok(()) => document(cloud.switches()),
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    })
}

/// The body of `PUT /_admin/jobs`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pretence {
    job_id: String,
    fields: Map<String, Value>,
}

async fn pretend(State(server): State<Server>, body: Bytes) -> Response {
    let Pretence { job_id, fields } = match read(&body) {
        Ok(pretence) => pretence,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    server.with(|cloud, clocks| {
        if cloud.pretend(&job_id, fields) {
            document(&json!({"now": format!("{:.3}", clocks.fleet)}))
        } else {
            refuse(StatusCode::NOT_FOUND, "jobId: no such job")
        }
    })
}

/// The body of `POST /_admin/report`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Report {
    product_key: String,
    device_name: String,
    module: Option<String>,
    version: String,
}

async fn report(State(server): State<Server>, body: Bytes) -> Response {
    let Report { product_key, device_name, module, version } = match read(&body) {
        Ok(report) => report,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let module = module.unwrap_or_else(|| "default".to_owned());
    server.with(|cloud, clocks| {
        if cloud.report(&product_key, &device_name, &module, &version) {
            document(&json!({"now": format!("{:.3}", clocks.fleet)}))
        } else {
            refuse(StatusCode::NOT_FOUND, "deviceName: no such device with this module")
        }
    })
}

/// The body of `POST /_admin/advance`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    minutes: f64,
}

async fn advance(State(server): State<Server>, body: Bytes) -> Response {
    let Advance { minutes } = match read(&body) {
        Ok(advance) => advance,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    if !(0.0..=ADVANCE_MAX_MINUTES).contains(&minutes) {
        return refuse(StatusCode::BAD_REQUEST, "minutes: must not be below 0, nor above a century");
    }
    server.lock().clock.advanced_ms += minutes * 60_000.0;
    server.with(|_, clocks| {
        let mut response = document(&json!({"now": format!("{:.3}", clocks.fleet)}));
        stamp(&mut response, clocks.fleet);
        response
    })
}

fn document(value: &impl Serialize) -> Response {
    axum::Json(value).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(json!({"error": why}))).into_response()
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

/// The pairs of a query or form: percent-encoded, `+` for space.
fn decode(text: &str) -> Vec<(String, String)> {
    let part = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (part(k), part(v))).collect()
}

#[cfg(test)]
mod tests;
