//! What can be asked of a running operator over HTTP, and what its log says to a machine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::scene::{Devices, LIMIT, Scene};
use crate::harness::control_plane::SERVICE_ACCOUNT;
use crate::harness::supervised::Supervised;
use crate::harness::wait::{until, until_true};

/// One that runs, and where it is asked.
pub struct Observed {
    operator: Supervised,
    pub address: String,
}

impl Observed {
    pub fn new(operator: Supervised) -> Self {
        let address = until("it serves probes", LIMIT, || {
            let served = log(&operator).into_iter().find(|l| l["message"] == "probes and metrics are served");
            Ok(served.and_then(|line| line["address"].as_str().map(str::to_owned)))
        });
        let address = address.unwrap_or_else(|error| panic!("{error}\n{}", operator.log_tail(20)));
        Self { operator, address }
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: fota\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn until_ready(&self, says: &str) {
        let ready = until_true(says, LIMIT, || self.get("/readyz") == (200, format!("{says}\n")));
        ready.unwrap_or_else(|error| panic!("{error}\n{:?}\n{}", self.get("/readyz"), self.operator.log_tail(20)));
    }

    /// The value of a metric with its labels.
    fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    }

    fn until_metric(&self, series: &str, at_least: f64) {
        let reached = until_true(series, LIMIT, || self.metric(series).is_some_and(|v| v >= at_least));
        reached.unwrap_or_else(|error| panic!("{error}\n{}", self.get("/metrics").1));
    }
}

/// Every line of a log, each of which is a JSON object.
fn log(operator: &Supervised) -> Vec<Value> {
    let text = operator.log_tail(usize::MAX);
    let lines = text.lines().map(|line| line.split_once(": ").unwrap().1);
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn an_operator_tells_how_it_stands_and_what_it_did() {
    let scene = Scene::new("telemetry", &Devices { count: 100, ..Devices::default() });
    let first = Observed::new(scene.observed_operator("first", SERVICE_ACCOUNT));
    first.until_ready("owns 1 of 1 quota groups");
    assert_eq!(first.get("/livez"), (200, "live\n".to_owned()));
    let second = Observed::new(scene.observed_operator("second", SERVICE_ACCOUNT));
    second.until_ready("standing by: owns 0 of 1 quota groups");

    scene.apply(&Scene::rollout("observed-by-name", &json!({})));
    scene.until_phase("observed-by-name", "Gray");
    first.until_metric("fota_rollouts{phase=\"Gray\"}", 1.0);
    first.until_metric("fota_cloud_call_seconds_count{operation=\"CreateOTAVerifyJob\"}", 1.0);
    first.until_metric("fota_quota_wait_seconds_count{operation=\"QueryOTAJob\"}", 1.0);
    first.until_metric("fota_reconcile_seconds_count{result=\"ok\"}", 1.0);
    first.until_metric("fota_lease_changes_total{change=\"gained\"}", 1.0);
    scene.faults(&json!({"throttleRate": 1.0}));
    first.until_metric("fota_cloud_call_errors_total{operation=\"ListOTATaskByJob\",class=\"Throttled\"}", 1.0);
    assert_eq!(first.metric("fota_leases_owned"), Some(1.0));
    // The one that stands by counts nothing of it: a sum over the replicas is right.
    assert_eq!(second.metric("fota_rollouts{phase=\"Gray\"}"), Some(0.0));
    assert_eq!(second.metric("fota_leases_owned"), Some(0.0));

    let (status, text) = first.get("/metrics");
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    for name in ["observed-by-name", &scene.namespace, "testAccessKey", super::scene::PRODUCT] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
    let created = log(&first.operator).into_iter().find(|line| line["message"] == "job created").unwrap();
    let (job, _) = &scene.creates()[0];
    let rollout = format!("{}/observed-by-name", scene.namespace);
    assert_eq!((&created["rollout"], &created["stage"]), (&json!(rollout), &json!("verify")));
    assert_eq!(&created["job"], &json!(job));
    assert!(created["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{created}");
}

#[test]
fn one_that_cannot_read_its_resources_lives_and_is_not_ready() {
    let scene = Scene::new("blind", &Devices { count: 1, ..Devices::default() });
    scene.kubectl(&["create", "serviceaccount", "blind"]);
    let blind = Observed::new(scene.observed_operator("blind", "blind"));
    let refused = || log(&blind.operator).iter().any(|line| line["message"] == "watching rollouts");
    until_true("it was refused", LIMIT, refused).unwrap();
    assert_eq!(blind.get("/livez").0, 200);
    let (status, why) = blind.get("/readyz");
    assert_eq!((status, why.as_str()), (503, "not every FirmwareRollout and OTAAccount has been read yet\n"));
}
