//! One namespace with one cloud and one operator that watches only it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fota::cloud::model::{JobReport, Ledger, LedgerQuery};
use fota::cloud::{Cloud, Edition, Fleet, Server, serve};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::flux::reasons;
use crate::harness::control_plane::{ControlPlane, SERVICE_ACCOUNT};
use crate::harness::supervised::{Supervised, temporary_dir};
use crate::harness::wait::until;
use crate::shared;

/// Long enough for a machine that compiles something beside.
pub const LIMIT: Duration = Duration::from_secs(120);
/// One that is killed is waited for so long; short enough to be waited for often, long enough for a busy machine.
pub const LEASE: &str = "5s";
pub const PRODUCT: &str = "a1Le6d0abcd";
pub const KEY: &str = "testAccessKeyId";
pub const SECRET: &str = "testAccessKeySecret";
/// The key of a role, which calls must use with its token.
pub const LENT_KEY: &str = "lentAccessKeyId";
/// That token.
pub const LENT_TOKEN: &str = "lent-for-an-hour";

pub struct Scene {
    pub namespace: String,
    pub cloud: Server,
    _runtime: Runtime,
    kubeconfig: PathBuf,
    pub operator: Option<Supervised>,
    /// Where it is not the shared one. Last: it outlives its operator.
    own: Option<ControlPlane>,
}

/// What a scene's fleet has.
pub struct Devices {
    pub count: u32,
    pub online: f64,
    pub failure_rate: f64,
}

impl Default for Devices {
    fn default() -> Self {
        Self { count: 300, online: 0.9, failure_rate: 0.0 }
    }
}

impl Scene {
    /// A scene whose fleet lives 600 times as fast as we do.
    pub fn new(purpose: &str, devices: &Devices) -> Self {
        Self::on(None, purpose, devices)
    }

    /// As [`Scene::new`], on a control plane of its own.
    pub fn on(own: Option<ControlPlane>, purpose: &str, devices: &Devices) -> Self {
        let fleet = json!({
            "accounts": [
                {"accessKeyId": KEY, "accessKeySecret": SECRET, "instanceId": ""},
                {"accessKeyId": LENT_KEY, "accessKeySecret": SECRET, "securityToken": LENT_TOKEN},
            ],
            "products": [{"productKey": PRODUCT, "groups": [
                {"prefix": "dev-", "count": devices.count, "version": "3.2.0", "online": devices.online,
                 "minutes": [2, 6], "failureRate": devices.failure_rate},
                {"names": ["lab-1", "lab-2", "lab-3"], "version": "3.2.0", "online": 1},
            ]}],
            "firmware": [
                {"id": "fw-4", "productKey": PRODUCT, "version": "4.0.0", "needToVerify": true},
                {"id": "fw-5", "productKey": PRODUCT, "version": "5.0.0", "needToVerify": false},
            ],
        });
        let fleet = Fleet::parse(&fleet.to_string()).unwrap();
        let cloud = Server::new(Cloud::new(&fleet, 7, Edition::Current, fleet.switches.clone()), 600.0);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, cloud.clone(), std::future::pending()));

        let control_plane = own.as_ref().unwrap_or_else(|| shared());
        control_plane.install_crds().unwrap();
        let namespace = control_plane.namespace(purpose).unwrap();
        control_plane.install_rbac(&namespace).unwrap();
        let kubeconfig = control_plane.operator_kubeconfig(&namespace, SERVICE_ACCOUNT).unwrap();
        let scene = Self { namespace, cloud, _runtime: runtime, kubeconfig, operator: None, own };
        scene.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"ALIBABA_CLOUD_ACCESS_KEY_ID": KEY, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET},
        }));
        scene.apply(&json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "cloud"},
            "spec": {"endpoint": format!("http://{address}"), "listLag": "1s", "replay": "Nonce",
                     "credentials": {"secretRef": {"name": "keys"}}},
        }));
        scene
    }

    /// The control plane that it is on.
    pub fn plane(&self) -> &ControlPlane {
        self.own.as_ref().unwrap_or_else(|| shared())
    }

    /// The rollout that most tests use: verification, two gray steps, everyone; with changes laid over its spec.
    pub fn rollout(name: &str, changes: &Value) -> Value {
        let gate = json!({"matureAfter": "60s", "soak": "30s", "minDecided": 1});
        let mut spec = json!({
            "accountRef": {"name": "cloud"},
            "productKey": PRODUCT,
            "firmware": {"version": "4.0.0"},
            "sourceVersions": ["3.2.0"],
            "verify": {"devices": ["lab-1", "lab-2", "lab-3"]},
            "gray": [
                {"name": "canary", "percent": 10, "gate": gate},
                {"name": "broad", "percent": 50, "gate": gate},
            ],
            "full": {"static": {}, "gate": gate},
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json!({"apiVersion": "fota.dev/v1alpha1", "kind": "FirmwareRollout", "metadata": {"name": name}, "spec": spec})
    }

    pub fn start_operator(&mut self) {
        self.operator = Some(self.another_operator("operator", LEASE));
    }

    /// Starts an operator that calls itself so, beside any other that runs.
    pub fn another_operator(&self, name: &'static str, lease: &str) -> Supervised {
        self.operator_with(name, lease, &[], &[])
    }

    /// Starts an operator whose probes can be asked, and which logs JSON.
    pub fn observed_operator(&self, name: &'static str, service_account: &str) -> Supervised {
        let kubeconfig = self.plane().operator_kubeconfig(&self.namespace, service_account).unwrap();
        let flags = ["--telemetry-addr=127.0.0.1:0", "--log-format=json", "--allow-insecure-endpoints"];
        let flags = [&flags, ["--namespace", self.namespace.as_str()].as_slice()].concat();
        self.launch(name, LEASE, &kubeconfig, &[], &flags)
    }

    /// As [`Scene::another_operator`], with variables (`NAME=value`) and flags besides.
    pub fn operator_with(&self, name: &'static str, lease: &str, variables: &[&str], flags: &[&str]) -> Supervised {
        let own = ["--telemetry-addr=off", "--allow-insecure-endpoints", "--namespace", &self.namespace];
        self.launch(name, lease, &self.kubeconfig, variables, &[&own, flags].concat())
    }

    /// As [`Scene::operator_with`], where only the vendor's hosts may be called, as it comes.
    pub fn strict_operator(&self, name: &'static str, variables: &[&str], flags: &[&str]) -> Supervised {
        let own = ["--telemetry-addr=off", "--namespace", &self.namespace];
        self.launch(name, LEASE, &self.kubeconfig, variables, &[&own, flags].concat())
    }

    /// Starts the operator as the chart does unless it is told namespaces: it watches all of them.
    pub fn start_operator_everywhere(&mut self) {
        let flags = ["--telemetry-addr=off", "--allow-insecure-endpoints"];
        self.operator = Some(self.launch("operator", LEASE, &self.kubeconfig, &[], &flags));
    }

    fn launch(
        &self,
        name: &'static str,
        lease: &str,
        kubeconfig: &Path,
        variables: &[&str],
        flags: &[&str],
    ) -> Supervised {
        let dir = temporary_dir("operator").unwrap();
        let pod = format!("POD_NAME={name}");
        let arguments = [
            env!("CARGO_BIN_EXE_fota"),
            "controller",
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--poll-interval=300ms",
            "--progress-interval=500ms",
            "--lease-namespace",
            &self.namespace,
            "--lease-duration",
            lease,
        ];
        let arguments = [&[pod.as_str()], variables, &arguments, flags].concat();
        Supervised::spawn(name, &dir, Path::new("/usr/bin/env"), arguments).unwrap()
    }

    /// SIGKILL, and gone.
    pub fn kill_operator(&mut self) {
        let mut operator = self.operator.take().unwrap();
        operator.process().signal("KILL").unwrap();
        operator.stop();
    }

    pub fn log(&self) -> String {
        self.operator.as_ref().map(|o| o.log_tail(30)).unwrap_or_default()
    }

    /// All that the operator wrote.
    pub fn whole_log(&self) -> String {
        self.operator.as_ref().map(|o| o.log_tail(usize::MAX)).unwrap_or_default()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let all = [&["--namespace", self.namespace.as_str()], arguments].concat();
        self.plane().kubectl_ok(all).unwrap()
    }

    pub fn apply(&self, object: &Value) {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(self.namespace);
        self.plane().apply_yaml(&object.to_string()).unwrap();
    }

    pub fn get(&self, name: &str) -> Value {
        let rollout: Value = serde_json::from_str(&self.kubectl(&["get", "fwr", name, "-o", "json"])).unwrap();
        reasons::check("FirmwareRollout", &rollout["status"]["conditions"]);
        rollout
    }

    /// Waits until the rollout is as wanted, and returns it.
    pub fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = until(what, LIMIT, || {
            let rollout = self.get(name);
            Ok(wanted(&rollout).then_some(rollout))
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.kubectl(&["describe", "fwr", name]), self.log()))
    }

    pub fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |r| r["status"]["phase"] == phase)
    }

    /// Every create that the cloud accepted: its JobId and its `fota.id`, in order.
    pub fn creates(&self) -> Vec<(String, String)> {
        self.cloud.with(|cloud, _| {
            let created = cloud.calls().iter().filter(|c| c.operation.starts_with("Create") && c.code.is_none());
            created.map(|c| (c.job_id.clone().unwrap_or_default(), tag(&c.params))).collect()
        })
    }

    /// Changes the cloud's faults, as PUT /_admin/faults does.
    pub fn faults(&self, patch: &Value) {
        let patch = serde_json::from_value(patch.clone()).unwrap();
        self.cloud.with(|cloud, _| cloud.change_faults(&patch)).unwrap();
    }

    pub fn jobs(&self) -> Vec<JobReport> {
        self.cloud.with(|cloud, clocks| {
            cloud.tick(clocks);
            cloud.jobs()
        })
    }

    pub fn ledger(&self, firmware: &str) -> Ledger {
        self.cloud.with(|cloud, clocks| {
            cloud.tick(clocks);
            let query = LedgerQuery { firmware_id: Some(firmware.to_owned()), ..LedgerQuery::default() };
            cloud.ledger(PRODUCT, &query).unwrap()
        })
    }

    /// One job per stage, and no tag twice.
    pub fn assert_created_once(&self, stages: usize) {
        let creates = self.creates();
        let tags: std::collections::BTreeSet<_> = creates.iter().map(|(_, tag)| tag).collect();
        assert_eq!((creates.len(), tags.len()), (stages, stages), "{creates:?}");
    }

    /// Tasks that a run must not leave behind when it is given up.
    pub fn assert_nothing_pending(&self) {
        for job in self.jobs() {
            for status in ["QUEUED", "NOTIFIED", "CONFIRM"] {
                assert_eq!(job.counts.get(status).copied().unwrap_or(0), 0, "{status} in {job:?}");
            }
        }
    }
}

fn tag(params: &std::collections::BTreeMap<String, String>) -> String {
    let number = (1..=10).find(|n| params.get(&format!("Tag.{n}.Key")).is_some_and(|k| k == "fota.id"));
    number.and_then(|n| params.get(&format!("Tag.{n}.Value"))).cloned().unwrap_or_default()
}

pub fn condition<'a>(rollout: &'a Value, kind: &str) -> &'a Value {
    let all = rollout["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|c| c["type"] == kind)).unwrap_or(&Value::Null)
}
