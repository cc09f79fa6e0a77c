//! The server over real sockets: what a client and a person at the admin side see.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::cloud::{Edition, Fleet};
use crate::ota::sign::v1::{signature, string_to_sign};
use crate::ota::sign::{canonical_query, encode};

const FLEET: &str = r#"
accounts: [{accessKeyId: key, accessKeySecret: secret}]
products: [{productKey: pk, groups: [{prefix: d, count: 10, version: "1"}]}]
firmware: [{id: fw, productKey: pk, version: "2", needToVerify: false}]
"#;

struct Running {
    base: String,
    http: reqwest::Client,
    server: Server,
    calls: u32,
}

impl Running {
    async fn start() -> Self {
        Self::with(FLEET).await
    }

    async fn with(fleet: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fleet = Fleet::parse(fleet).unwrap();
        let cloud = Cloud::new(&fleet, 1, Edition::Current, fleet.switches.clone());
        let server = Server::new(cloud, 1.0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, server.clone(), std::future::pending()));
        Self { base, http: reqwest::Client::builder().no_proxy().build().unwrap(), server, calls: 0 }
    }

    /// A signed request; `form` of the pairs go into the body.
    async fn call(&mut self, verb: &str, params: &[(&str, &str)], form: bool) -> reqwest::Result<reqwest::Response> {
        self.calls += 1;
        let (nonce, at) = (format!("n{}", self.calls), format!("{:.0}", clock::wall()));
        let common = [
            ("Version", "2018-01-20"),
            ("Format", "JSON"),
            ("AccessKeyId", "key"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", nonce.as_str()),
            ("Timestamp", at.as_str()),
        ];
        let pairs: Vec<_> = common.into_iter().chain(params.iter().copied()).collect();
        let signed = signature("secret", &string_to_sign(verb, &canonical_query(pairs.iter().copied())));
        let text: Vec<_> =
            pairs.iter().chain(&[("Signature", signed.as_str())]).map(|(k, v)| format!("{k}={}", encode(v))).collect();
        let url = if form { format!("{}/", self.base) } else { format!("{}/?{}", self.base, text.join("&")) };
        let mut request = self.http.request(verb.parse().unwrap(), url);
        if form {
            // `+` for space is legal in a form.
            let body = text.join("&").replace("%20", "+");
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        request.send().await
    }

    async fn admin(&self, verb: &str, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}/_admin/{path}", self.base);
        let answer = self.http.request(verb.parse().unwrap(), url).body(body.to_owned()).send().await.unwrap();
        assert!(answer.headers().contains_key("x-fota-now"), "{path}");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }
}

const CREATE: [(&str, &str); 6] = [
    ("Action", "CreateOTAStaticUpgradeJob"),
    ("FirmwareId", "fw"),
    ("ProductKey", "pk"),
    ("TargetSelection", "ALL"),
    ("Tag.1.Key", "fota.id"),
    ("Tag.1.Value", "a b+c/%"),
];

#[tokio::test]
async fn signed_calls_in_query_and_form_and_the_admin_side() {
    let mut running = Running::start().await;
    let answer = running.call("POST", &CREATE, true).await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    let now: Timestamp = header("x-fota-now").parse().unwrap();
    assert!((now.as_millisecond() - clock::wall().as_millisecond()).abs() < 60_000);
    assert_eq!(header("x-fota-now").len(), "2024-05-04T06:22:19.566Z".len());
    assert!(header("date").ends_with("GMT"));
    let created: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(created["Success"], true, "{created}");
    let id = created["Data"]["JobId"].as_str().unwrap().to_owned();

    let answer = running.call("GET", &[("Action", "QueryOTAJob"), ("JobId", &id)], false).await.unwrap();
    let job: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(job["Data"]["Tags"]["OtaTagDTO"][0]["Value"], "a b+c/%");

    let (status, advanced) = running.admin("POST", "advance", r#"{"minutes": 60}"#).await;
    assert_eq!(status, 200);
    let later: Timestamp = advanced["now"].as_str().unwrap().parse().unwrap();
    assert!(later.as_millisecond() - now.as_millisecond() >= 3_600_000);
    let (_, jobs) = running.admin("GET", "jobs", "").await;
    assert_eq!((&jobs[0]["counts"]["SUCCEEDED"], &jobs[0]["JobStatus"]), (&10.into(), &"COMPLETED".into()), "{jobs}");
    assert_eq!(jobs[0]["Tags"]["OtaTagDTO"][0]["Key"], "fota.id");
    let expected = json!({"total": 10, "versions": {"default": {"2": 10}}, "ledger": {"atTarget": 10, "inProgress": 0,
        "notified": 0, "silent": 0, "queued": 0, "failed": 0, "timedOut": 0, "conflict": 0, "cancelled": 0,
        "exposed": 10}});
    assert_eq!(running.admin("GET", "devices?productKey=pk", "").await, (200, expected));
    let (_, none) = running.admin("GET", "devices?productKey=pk&jobId=x&jobId=y", "").await;
    assert_eq!(none["ledger"]["exposed"], 0);
    let (_, ours) = running.admin("GET", &format!("devices?productKey=pk&jobId=x&jobId={id}"), "").await;
    assert_eq!(ours["ledger"]["exposed"], 10);

    let (_, calls) = running.admin("GET", "calls", "").await;
    assert_eq!(calls.as_array().unwrap().len(), 2, "admin requests are no calls");
    assert_eq!((&calls[0]["operation"], &calls[0]["jobId"]), (&"CreateOTAStaticUpgradeJob".into(), &id.into()));
    assert_eq!((&calls[0]["params"]["SignatureNonce"], &calls[0]["code"]), (&"n1".into(), &Value::Null));
    assert!(calls[0]["params"].get("Signature").is_none() && calls[0].get("lost").is_none());
}

#[tokio::test]
async fn a_lost_reply_does_the_work_and_breaks_the_connection() {
    let mut running = Running::start().await;
    assert_eq!(running.admin("PUT", "faults", r#"{"lostReplyRate": 1}"#).await.0, 200);
    let error = running.call("POST", &CREATE, false).await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_builder(), "{error:?}");
    let (_, calls) = running.admin("GET", "calls", "").await;
    assert_eq!(
        (&calls[0]["lost"], &calls[0]["httpStatus"], &calls[0]["code"]),
        (&true.into(), &200.into(), &Value::Null)
    );
    assert_eq!(calls.as_array().unwrap().len(), 1, "nobody sent it twice");
    assert_eq!(running.server.with(|cloud, _| cloud.jobs().len()), 1);
    running.admin("PUT", "faults", r#"{"lostReplyRate": 0}"#).await;
    assert_eq!(running.call("POST", &[("Action", "QueryOTAJob"), ("JobId", "x")], false).await.unwrap().status(), 200);
}

#[tokio::test]
async fn gateway_refusals_and_throttle_hints_are_http_errors() {
    let mut running = Running::start().await;
    let answer = running.http.post(format!("{}/", running.base)).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers().get("content-type").unwrap(), "text/xml;charset=utf-8", "the gateway's default");
    let refusal = answer.text().await.unwrap();
    assert!(refusal.contains("<Error><Code>MissingAccessKeyId</Code><HostId>"), "{refusal}");
    let answer = running.http.post(format!("{}/?Format=json", running.base)).send().await.unwrap();
    let refusal: BTreeMap<String, String> = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(refusal.keys().collect::<Vec<_>>(), ["Code", "HostId", "Message", "RequestId"]);
    assert_eq!(running.http.put(format!("{}/", running.base)).send().await.unwrap().status(), 403);
    let cancel = [("Action", "CancelOTATaskByJob"), ("JobId", "x")];
    let mut throttled = None;
    // Five a second: twenty in a row meet the limit whatever the second's boundaries are, unless they take 3 s.
    for _ in 0..20 {
        let answer = running.call("POST", &cancel, false).await.unwrap();
        if answer.status() == 400 {
            throttled = Some(answer);
            break;
        }
    }
    let hint = throttled.unwrap().headers().get("x-acs-retry-after").unwrap().to_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=1000).contains(&hint), "{hint}");
}

#[tokio::test]
async fn admin_refusals_say_what_is_wrong() {
    let running = Running::start().await;
    for (verb, path, body, status, expected) in [
        ("GET", "devices", "", 400, "productKey: is missing"),
        ("GET", "devices?productKey=x", "", 404, "productKey: no such product"),
        ("GET", "devices?productKey=pk&silentAfterMinutes=-1", "", 400, "silentAfterMinutes"),
        ("GET", "devices?productkey=pk", "", 400, "productkey: unknown"),
        ("PUT", "faults", r#"{"errorRate": 2}"#, 400, "errorRate: must be"),
        ("PUT", "faults", r#"{"error": 1}"#, 400, "unknown field"),
        ("PUT", "switches", r#"{"pageShiftRate": 2}"#, 400, "pageShiftRate: must be"),
        ("PUT", "switches", r#"{"tagsListed": 1}"#, 400, "invalid type"),
        ("PUT", "switches", r#"{"tags": true}"#, 400, "unknown field"),
        ("PUT", "jobs", r#"{"jobId": "x", "fields": {}}"#, 404, "jobId: no such"),
        ("POST", "report", r#"{"productKey": "pk", "deviceName": "x", "version": "3"}"#, 404, "deviceName: no such"),
        ("POST", "advance", r#"{"minutes": -1}"#, 400, "minutes: must not"),
        ("POST", "advance", "{}", 400, "missing field"),
    ] {
        let (actual, document) = running.admin(verb, path, body).await;
        assert_eq!(actual, status, "{verb} {path}");
        assert!(document["error"].as_str().unwrap().contains(expected), "{document}");
    }
    assert_eq!(running.admin("GET", "faults", "").await.1["failureRate"], Value::Null);
}

#[test]
fn only_loopback_peers_reach_the_admin_side() {
    for (address, expected) in
        [("127.0.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true), ("10.0.0.1:1", false)]
    {
        assert_eq!(local(address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn the_fleet_clock_runs_at_its_speed() {
    let (start, started) = (Timestamp::UNIX_EPOCH, clock::monotonic());
    let clock = FleetClock { start, started, speed: 60.0, advanced_ms: 500.0 };
    assert_eq!(clock.at(started + Duration::from_secs(2)).as_millisecond(), 120_500);
}

#[test]
fn pairs_are_decoded_as_forms_are() {
    let expected = [("a b", "c+d"), ("e", ""), ("f", "é=")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(decode("a+b=c%2Bd&e&&f=%C3%A9%3D"), expected);
}

#[tokio::test]
async fn it_stops_when_told_and_finishes_what_is_under_way() {
    let mut running = Running::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    running.base = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, running.server.clone(), async move {
        let _ = stopped.await;
    }));
    running.admin("PUT", "faults", r#"{"latencyMs": 300}"#).await;
    let server = running.server.clone();
    let calling = tokio::spawn(async move { running.call("POST", &CREATE, false).await.map(|a| a.status().as_u16()) });
    // Only once the work is done is the answer under way.
    while server.with(|cloud, _| cloud.jobs().is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(()).unwrap();
    assert_eq!(calling.await.unwrap().unwrap(), 200);
    assert!(serving.await.unwrap().is_ok());
}

#[tokio::test]
async fn switches_and_reports_take_effect_while_it_runs() {
    let mut running = Running::start().await;
    let (status, switches) = running.admin("PUT", "switches", r#"{"tagsQueried": false, "listLagMs": 60000}"#).await;
    assert_eq!((status, &switches["tagsQueried"], &switches["tagsListed"]), (200, &false.into(), &true.into()));
    assert_eq!(running.admin("GET", "faults", "").await.1["listLagMs"], 60_000);
    let made = running.call("POST", &CREATE, false).await.unwrap().text().await.unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["Data"]["JobId"].as_str().unwrap();
    let pretence = json!({"jobId": id, "fields": {"JobDesc": "another"}}).to_string();
    assert_eq!(running.admin("PUT", "jobs", &pretence).await.0, 200);
    let shown = running.call("GET", &[("Action", "QueryOTAJob"), ("JobId", id)], false).await.unwrap();
    assert!(shown.text().await.unwrap().contains(r#""JobDesc":"another""#));
    let list = [("Action", "ListOTAJobByFirmware"), ("FirmwareId", "fw"), ("CurrentPage", "1"), ("PageSize", "9")];
    let answer = running.call("GET", &list, false).await.unwrap().text().await.unwrap();
    assert!(answer.contains(r#""Total":0"#), "{answer}");
    let report = r#"{"productKey": "pk", "deviceName": "d3", "version": "9"}"#;
    assert_eq!(running.admin("POST", "report", report).await.0, 200);
    assert_eq!(running.admin("GET", "devices?productKey=pk", "").await.1["versions"]["default"]["9"], 1);
}

#[tokio::test]
async fn a_list_of_names_is_uploaded_and_used() {
    let mut running = Running::start().await;
    let generate = [("Action", "GenerateDeviceNameListURL")];
    let form: Value =
        serde_json::from_str(&running.call("POST", &generate, false).await.unwrap().text().await.unwrap()).unwrap();
    let field = |name: &str| form["Data"][name].as_str().unwrap().to_owned();
    assert_eq!(field("Host"), format!("{}/_oss", running.base));
    let mut body = String::new();
    for (name, value) in [
        ("key", field("Key")),
        ("policy", field("Policy")),
        ("OSSAccessKeyId", field("AccessKeyId")),
        ("success_action_status", "200".to_owned()),
        ("signature", field("Signature")),
    ] {
        body += &format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"names.csv\"\r\n";
    body += "Content-Type: text/csv\r\n\r\nd3\r\nd7\n\r\n--frontier--\r\n";
    let post = |body: String| {
        let request = running.http.post(field("Host"));
        request.header("content-type", "multipart/form-data; boundary=frontier").body(body).send()
    };
    let forged = post(body.replace(&field("Signature"), "x")).await.unwrap();
    assert_eq!(forged.status(), 403);
    assert!(forged.text().await.unwrap().contains("<Code>SignatureDoesNotMatch</Code>"));
    assert_eq!(post(body.clone()).await.unwrap().status(), 200);
    let url = field("FileUrl");
    let create = [
        ("Action", "CreateOTAStaticUpgradeJob"),
        ("FirmwareId", "fw"),
        ("ProductKey", "pk"),
        ("TargetSelection", "SPECIFIC"),
        ("DnListFileUrl", url.as_str()),
    ];
    let created = running.call("POST", &create, true).await.unwrap().text().await.unwrap();
    assert!(created.contains(r#""Success":true"#), "{created}");
    assert_eq!(running.admin("GET", "jobs", "").await.1[0]["counts"]["QUEUED"], 2);
}

#[tokio::test]
async fn a_clock_that_is_ahead_shows_on_every_answer_and_rules_the_gateway() {
    let near = Running::with(&format!("{FLEET}switches: {{clockAheadSeconds: 600}}\n")).await;
    let far = Running::with(&format!("{FLEET}switches: {{clockAheadSeconds: -1200}}\n")).await;
    for (mut running, ahead, status) in [(near, 600, 200), (far, -1200, 400)] {
        let answer = running.call("POST", &CREATE, false).await.unwrap();
        assert_eq!(answer.status(), status);
        let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap();
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header("date")).unwrap();
        let now: Timestamp = header("x-fota-now").parse().unwrap();
        for shown in [date, now] {
            let off = shown.as_second() - clock::wall().as_second() - ahead;
            assert!(off.abs() < 60, "{shown} {off}");
        }
    }
}
