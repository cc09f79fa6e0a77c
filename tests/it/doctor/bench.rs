//! One namespace with one account, the cloud behind it, and somebody who may do what `fota doctor --help` says.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fota::api::OTAAccount;
use fota::cloud::log::Entry;
use fota::cloud::model::JobReport;
use fota::cloud::{Cloud, Edition, Fleet, Server, serve};
use fota::controller::accounts::resolve;
use fota::controller::keys::{Keys, Rules};
use fota::ota::AllowedEndpoints;
use fota::rollout::observed::Account;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::shared;

pub const LIMIT: Duration = Duration::from_secs(120);
pub const PRODUCT: &str = "a1Le6d0abcd";
pub const SECRET: &str = "testAccessKeySecret";
const KEY: &str = "testAccessKeyId";

pub struct Bench {
    pub namespace: String,
    pub cloud: Server,
    pub address: String,
    pub runtime: Runtime,
    kubeconfig: PathBuf,
}

/// What a run of the command left.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The document; the test fails with what was said where there is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.stdout, self.stderr))
    }

    /// How a finding ended, and its words.
    pub fn finding(&self, name: &str) -> (String, String) {
        let json = self.json();
        let all = json["diagnosis"]["findings"].as_array().unwrap();
        let finding = all.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}"));
        let text = |field: &str| finding[field].as_str().unwrap().to_owned();
        (text("holds"), text("message"))
    }

    /// A finding that ends so and says this.
    pub fn assert_finding(&self, name: &str, holds: &str, says: &str) {
        let (found, message) = self.finding(name);
        assert!(found == holds && message.contains(says), "{name} {found}: {message}\n{}", self.stderr);
    }

    /// The names of what fails.
    pub fn failing(&self) -> Vec<String> {
        let json = self.json();
        let all = json["diagnosis"]["findings"].as_array().unwrap();
        let failing = all.iter().filter(|f| f["holds"] == "No");
        failing.map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Bench {
    /// A cloud with these switches.
    pub fn switched(purpose: &str, switches: Value) -> Self {
        Self::new(purpose, &json!({"switches": switches}), &json!({}))
    }

    /// A cloud and an account, with changes laid over its fleet file and its spec. The fleet lives 600 times as fast as we.
    pub fn new(purpose: &str, fleet: &Value, spec: &Value) -> Self {
        let mut file = json!({
            "accounts": [{"accessKeyId": KEY, "accessKeySecret": SECRET, "instanceId": ""}],
            "products": [{"productKey": PRODUCT, "groups": [
                {"prefix": "dev-", "count": 400, "version": "3.2.0", "minutes": [1, 2]},
                {"names": ["lab-1", "lab-2"], "version": "3.2.0", "minutes": [1, 2]},
            ]}],
            "firmware": [
                {"id": "fw-4", "productKey": PRODUCT, "version": "4.0.0", "needToVerify": true},
                {"id": "fw-5", "productKey": PRODUCT, "version": "5.0.0", "needToVerify": false},
            ],
        });
        lay(&mut file, fleet);
        let fleet = Fleet::parse(&file.to_string()).unwrap();
        let cloud = Server::new(Cloud::new(&fleet, 7, Edition::Current, fleet.switches.clone()), 600.0);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, cloud.clone(), std::future::pending()));

        shared().install_crds().unwrap();
        let namespace = shared().namespace(purpose).unwrap();
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "doctor"}}),
            // Word for word what the command's help says.
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "doctor"}, "rules": [
                {"apiGroups": ["fota.dev"], "resources": ["otaaccounts"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["keys"], "verbs": ["get"]},
                {"apiGroups": ["fota.dev"], "resources": ["otaaccounts/status"], "verbs": ["patch"]},
            ]}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "doctor"},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "doctor"},
                   "subjects": [{"kind": "ServiceAccount", "name": "doctor", "namespace": namespace}]}),
        ] {
            apply(&namespace, &object);
        }
        let kubeconfig = shared().operator_kubeconfig(&namespace, "doctor").unwrap();
        let bench = Self { namespace, cloud, address, runtime, kubeconfig };
        bench.set_keys(KEY, SECRET);
        bench.set_account(spec);
        bench
    }

    /// The account, with changes laid over its usual spec.
    pub fn set_account(&self, spec: &Value) {
        let mut account = json!({
            "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "cloud"},
            "spec": {"endpoint": self.address, "credentials": {"secretRef": {"name": "keys"}}},
        });
        lay(&mut account["spec"], spec);
        self.apply(&account);
    }

    pub fn set_keys(&self, id: &str, secret: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"ALIBABA_CLOUD_ACCESS_KEY_ID": id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret},
        }));
    }

    pub fn apply(&self, object: &Value) {
        apply(&self.namespace, object);
    }

    /// The command for the account, with these arguments besides.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fota"));
        command.args(["doctor", "--account", "cloud", "--allow-insecure-endpoints", "--kubeconfig"]);
        command.arg(&self.kubeconfig).args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts it for a product, with a report for machines.
    pub fn start(&self, product: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(&["--product", product, "-o", "json"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end.
    pub fn doctor(&self, arguments: &[&str]) -> Outcome {
        ended(self.start(PRODUCT, arguments))
    }

    /// Every create and cancel that the cloud carried out.
    pub fn effects(&self) -> Vec<Entry> {
        let changes = |c: &&Entry| c.operation.starts_with("Create") || c.operation.starts_with("Cancel");
        self.cloud.with(|cloud, _| cloud.calls().iter().filter(changes).filter(|c| c.code.is_none()).cloned().collect())
    }

    pub fn jobs(&self) -> Vec<JobReport> {
        self.cloud.with(|cloud, _| cloud.jobs())
    }

    /// The account as it is stored.
    pub fn account(&self) -> Value {
        let arguments = ["get", "otaaccount", "cloud", "-n", &self.namespace, "-o", "json", "--show-managed-fields"];
        serde_json::from_str(&shared().kubectl_ok(arguments).unwrap()).unwrap()
    }

    /// The account as the controller takes it: with the mode and the lag that it goes by.
    pub fn as_taken(&self) -> Account {
        let resource: OTAAccount = serde_json::from_value(self.account()).unwrap();
        let allowed = AllowedEndpoints::new(["*.aliyuncs.com"], true).unwrap();
        self.runtime.block_on(async {
            let kube = shared().admin_client().await.unwrap();
            let keys = Keys::new(Rules::without_own_identity(allowed));
            resolve(&kube, &keys, &self.namespace, &resource).await.unwrap().account
        })
    }
}

pub fn ended(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let outcome = Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
    assert!(!outcome.stdout.contains(SECRET) && !outcome.stderr.contains(SECRET), "the secret was told");
    outcome
}

fn apply(namespace: &str, object: &Value) {
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(namespace);
    shared().apply_yaml(&object.to_string()).unwrap();
}

/// Lays top-level fields over an object.
fn lay(object: &mut Value, changes: &Value) {
    for (field, value) in changes.as_object().unwrap() {
        object[field] = value.clone();
    }
}
