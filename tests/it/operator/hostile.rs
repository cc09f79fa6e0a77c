//! A cloud whose every text is written to steer whoever reads it: line breaks with forged lines behind them, escape
//! sequences, characters that turn the direction of writing, and no end. Nobody is steered, and the rollout goes on.

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::scene::{Devices, LEASE, PRODUCT, Scene};
use crate::harness::control_plane::SERVICE_ACCOUNT;

/// What stands in front of every line of our logs, and then some.
const FORGED: &str = "\r\n2026-01-01T00:00:00.000000Z  INFO fota::forged: all is well";

/// A text with everything in it that could steer a reader, a terminal or a parser.
fn poison(text: &str) -> String {
    let steering = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{0}\u{8}";
    format!("{text}{steering}{FORGED}{}", "long ".repeat(2_000))
}

/// Texts of an answer that mean something: where they change, nothing is left of the story.
const MEANT: &[&str] = &[
    "FirmwareId",
    "ProductKey",
    "Status",
    "JobStatus",
    "JobType",
    "SelectionType",
    "TargetSelection",
    "TaskStatus",
    "TaskId",
    "DeviceName",
    "DestVersion",
    "ModuleName",
    "SrcVersion",
    "Key",
    "Value",
    "Success",
    "Code",
    "Host",
    "FileUrl",
    "GrayPercent",
    "Progress",
];

/// Poisons every text of an answer that may be any, the names of jobs only when they are made.
fn poisoned(value: &mut Value, created: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let moment = name.starts_with("Utc");
                match value {
                    Value::String(_) if moment || MEANT.contains(&name.as_str()) || (name == "JobId" && !created) => {}
                    // No longer than a status takes: else the API server would refuse it for us.
                    Value::String(text) if name == "JobId" => *text = poison(text).chars().take(120).collect(),
                    Value::String(text) => *text = poison(text),
                    _ => poisoned(value, created),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|value| poisoned(value, created)),
        _ => {}
    }
}

/// Stands before the cloud, and returns its own address.
fn stand_before(
    runtime: &Runtime,
    cloud: &str,
    answer: impl Fn(&str, &mut Value) + Clone + Send + Sync + 'static,
) -> String {
    // Others in this process may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (http, cloud) = (reqwest::Client::builder().no_proxy().build().unwrap(), cloud.to_owned());
    let hand_on = move |method: Method, uri: Uri, headers: axum::http::HeaderMap, body: Bytes| async move {
        let asked = format!("{} {}", uri, String::from_utf8_lossy(&body));
        let request = http.request(method, format!("{cloud}{uri}")).headers(headers).body(body);
        let answered = request.send().await.unwrap();
        let (status, mut headers) = (answered.status(), answered.headers().clone());
        let bytes = answered.bytes().await.unwrap();
        // Its clocks are in the others.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else {
            return (status, headers, bytes).into_response();
        };
        answer(&asked, &mut json);
        (status, headers, json.to_string()).into_response()
    };
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, Router::new().fallback(hand_on)).await });
    address
}

fn steers(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Fails with a text in which a character steers.
#[track_caller]
fn assert_plain(what: &str, text: &str) {
    let found = text.char_indices().find(|(_, c)| steers(*c));
    let around =
        |at: usize| text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    assert!(found.is_none(), "{what}: {:?} after {:?}", found.unwrap().1, around(found.unwrap().0));
}

/// Every text in an object, which is one line each, and short.
#[track_caller]
fn assert_texts_are_plain(what: &str, value: &Value) {
    match value {
        Value::String(text) => {
            assert_plain(what, text);
            assert!(!text.contains('\n') && text.chars().count() <= 1_024, "{what}: {text:?}");
        }
        Value::Array(all) => all.iter().for_each(|value| assert_texts_are_plain(what, value)),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| assert_texts_are_plain(&format!("{what}.{name}"), value))
        }
        _ => {}
    }
}

impl Scene {
    fn cloud_url(&self) -> String {
        let account: Value =
            serde_json::from_str(&self.kubectl(&["get", "otaaccount", "cloud", "-o", "json"])).unwrap();
        account["spec"]["endpoint"].as_str().unwrap().to_owned()
    }

    fn set_endpoint(&self, url: &str) {
        let patch = json!({"spec": {"endpoint": url}}).to_string();
        self.kubectl(&["patch", "otaaccount", "cloud", "--type=merge", "-p", &patch]);
    }

    /// Everything that a person or a program reads of it is one plain line each, and holds no forged one.
    fn assert_nobody_is_steered(&self, rollout: &Value, log: &str) {
        let events: Value =
            serde_json::from_str(&self.kubectl(&["get", "events.v1.events.k8s.io", "-o", "json"])).unwrap();
        let account: Value =
            serde_json::from_str(&self.kubectl(&["get", "otaaccount", "cloud", "-o", "json"])).unwrap();
        assert_texts_are_plain("rollout", &rollout["status"]);
        assert_texts_are_plain("account", &account["status"]);
        for event in events["items"].as_array().unwrap() {
            for part in ["note", "reason", "action"] {
                assert_texts_are_plain(&format!("event.{part}"), &event[part]);
            }
        }
        assert_plain("log", log);
        for line in log.lines() {
            let line = line.trim_start_matches("  operator: ").trim_start_matches("  json: ");
            assert!(!line.starts_with("2026-01-01T00:00:00"), "a forged line: {line}");
        }
    }
}

#[test]
fn what_the_cloud_writes_steers_no_status_event_log_or_terminal() {
    let runtime = Runtime::new().unwrap();
    let mut scene = Scene::new("hostile", &Devices { count: 200, online: 1.0, failure_rate: 0.0 });
    let hostile = stand_before(&runtime, &scene.cloud_url(), |asked, answer| {
        poisoned(answer, asked.contains("Action=CreateOTA"));
    });
    scene.set_endpoint(&hostile);
    scene.start_operator();
    // Refused by a name that is not there: the refusal's words are the cloud's.
    scene
        .apply(&Scene::rollout("refused", &json!({"firmware": {"id": "nowhere"}, "productKey": "b1", "verify": null})));
    let gate = json!({"matureAfter": "60s", "soak": "30s", "minDecided": 1});
    let spec = json!({"gray": [{"name": "canary", "percent": 10, "gate": gate}], "full": null});
    scene.apply(&Scene::rollout("steady", &spec));
    scene.until("steady", "its first job is known", |r| r["status"]["stages"][0]["jobs"][0]["id"].is_string());
    let log = scene.whole_log();
    scene.kill_operator();
    // The rest of it in the other format.
    scene.operator = Some(scene.operator_with("json", LEASE, &[], &["--log-format=json"]));
    let rollout = scene.until_phase("steady", "Completed");
    scene.assert_created_once(2);
    scene.assert_nobody_is_steered(&rollout, &log);
    let told = scene.kubectl(&["get", "events.v1.events.k8s.io", "-o", "name"]);
    assert!(told.lines().count() >= 3, "{told}");
    let json_log = scene.whole_log();
    scene.assert_nobody_is_steered(&scene.get("refused"), &json_log);
    for line in json_log.lines() {
        let line: Value = serde_json::from_str(line.trim_start_matches("  json: ")).unwrap();
        assert_texts_are_plain("log", &line);
    }

    // A person at a terminal.
    let kubeconfig = scene.plane().operator_kubeconfig(&scene.namespace, SERVICE_ACCOUNT).unwrap();
    let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_fota"));
    doctor.args(["doctor", "--account", "cloud", "--allow-insecure-endpoints", "--product", PRODUCT, "--kubeconfig"]);
    let shown = doctor.arg(kubeconfig).output().unwrap();
    let (out, err) = (String::from_utf8(shown.stdout).unwrap(), String::from_utf8(shown.stderr).unwrap());
    assert!(out.lines().count() > 5, "{out}{err}");
    assert_plain("doctor", &out);
    assert_plain("doctor", &err);
    assert!(!out.lines().chain(err.lines()).any(|line| line.starts_with("2026-01-01")), "{out}{err}");
}

#[test]
fn what_the_cloud_says_of_a_refusal_steers_nobody_either() {
    let runtime = Runtime::new().unwrap();
    let mut scene = Scene::new("refusing", &Devices { count: 20, ..Devices::default() });
    let hostile = stand_before(&runtime, &scene.cloud_url(), |asked, answer| {
        if asked.contains("Action=CreateOTA") {
            *answer = json!({"RequestId": poison("R"), "Success": false, "Code": poison("iot.firmware.NoDeviceCanUpgrade"),
                             "ErrorMessage": poison("no")});
        }
    });
    scene.set_endpoint(&hostile);
    scene.start_operator();
    scene.apply(&Scene::rollout("refused", &json!({})));
    let rollout = scene.until("refused", "the refusal is told", |r| {
        ["OutcomeUnknown", "NoDeviceCanUpgrade"].iter().any(|reason| r["status"]["next"]["reason"] == *reason)
            && scene.log().contains("create not accepted")
    });
    scene.assert_nobody_is_steered(&rollout, &scene.whole_log());
}
