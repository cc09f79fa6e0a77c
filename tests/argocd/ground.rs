//! What the story takes place on: the control plane, the simulated cloud, the operator under the chart's rights, and Argo CD.
//! What is told on it never comes in here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::argo::ArgoCd;
use super::cloud::Admin;
use super::harness::control_plane::{ControlPlane, Options, SERVICE_ACCOUNT};
use super::harness::program::Program;
use super::harness::supervised::{private_dir, random, temporary_dir};
use super::harness::{Result, root};
use super::manifests;
use super::report::Report;

/// Fleet minutes in a minute of ours.
const SPEED: &str = "60";
/// The operator's namespace, as the chart's README says.
const SYSTEM: &str = "fota-system";
/// The endpoint and the Secret that every lane's account names.
const KEYS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: demo-keys}
stringData: {ALIBABA_CLOUD_ACCESS_KEY_ID: testAccessKeyId, ALIBABA_CLOUD_ACCESS_KEY_SECRET: testAccessKeySecret}
";

/// The two variants of the customizations.
pub const PAUSED_IS_SUSPENDED: &str = "examples/argocd/argocd-cm.paused-is-suspended.yaml";
pub const PAUSED_IS_HEALTHY: &str = "examples/argocd/argocd-cm.paused-is-healthy.yaml";

/// Everything that runs. Dropped in this order.
pub struct Ground {
    pub argo: ArgoCd,
    operator: Program,
    cloud: Program,
    pub control_plane: ControlPlane,
    pub admin: Admin,
    pub report: Arc<Report>,
    endpoint: String,
}

impl Ground {
    /// Starts all of it, with a product in the fleet for each lane.
    pub fn start(report: Arc<Report>, products: &[(&str, &str)]) -> Result<Self> {
        let home = temporary_dir("argocd")?;
        let fleet = std::env::temp_dir().join(format!("fota-fleet-{}.yaml", random()));
        fs::write(&fleet, fleet_of(products).to_string())?;
        let listen = ["cloud", "--listen", "127.0.0.1:0", "--fleet", text(&fleet)?, "--speed", SPEED];
        let cloud = Program::start("cloud", &home, false, &listen)?;
        let endpoint =
            cloud.says("the simulated cloud's address", |line| line.strip_prefix("listening on ").map(str::to_owned));
        fs::remove_file(&fleet)?;
        let endpoint = endpoint?;
        report.note("cloud", &format!("simulated devices at {endpoint}, {SPEED} times faster than life"))?;

        let control_plane = ControlPlane::start(&Options::default())?;
        control_plane.install_crds()?;
        control_plane.kubectl_ok(["create", "namespace", SYSTEM])?;
        control_plane.install_rbac(SYSTEM)?;
        report.note("cluster", "etcd and kube-apiserver are ready; CRDs and RBAC are installed")?;

        let kubeconfig = control_plane.operator_kubeconfig(SYSTEM, SERVICE_ACCOUNT)?;
        let arguments = ["controller", "--kubeconfig", text(&kubeconfig)?, "--lease-namespace", SYSTEM];
        let quick =
            ["--telemetry-addr=off", "--allow-insecure-endpoints", "--poll-interval=1s", "--progress-interval=1s"];
        let operator = Program::start("operator", &home, false, &[&arguments[..], &quick].concat())?;
        report.note("operator", "fota controller runs, with the rights of its ServiceAccount only")?;

        let argo = ArgoCd::start(&control_plane, &home, &root().join(PAUSED_IS_SUSPENDED))?;
        report.note("argocd", &format!("{} runs: repo-server, application-controller, API server", argo.version()?))?;
        let admin = Admin::new(&endpoint)?;
        Ok(Self { argo, operator, cloud, control_plane, admin, report, endpoint })
    }

    /// A namespace with the account's keys.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.control_plane.kubectl_ok(["create", "namespace", name])?;
        self.control_plane.apply_yaml(&KEYS.replace("demo-keys}", &format!("demo-keys, namespace: {name}}}"))).map(drop)
    }

    /// The account's manifest, for Git.
    pub fn account(&self) -> Value {
        manifests::account(&self.endpoint)
    }

    /// A folder for a lane's repository; it goes with the cloud's.
    pub fn repository_dir(&self, lane: &str) -> PathBuf {
        self.cloud.dir().join(format!("{lane}.git"))
    }

    /// Waits until something ends that should run.
    pub async fn broken(&self) {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(250));
        while self.operator.alive() && self.cloud.alive() && self.control_plane.alive() && self.argo.alive() {
            tick.tick().await;
        }
    }

    /// After a failure: the last log lines, and where the operator's whole log is.
    pub fn explain(&self) -> Result<()> {
        eprintln!("\n{}{}", self.argo.log_tail(12), self.operator.tail(25));
        let dir = std::env::temp_dir().join(format!("fota-argocd-logs-{}", random()));
        private_dir(&dir)?;
        eprintln!("log: {}", self.operator.keep_log(&dir)?.display());
        self.argo.keep_logs(&dir)
    }
}

fn fleet_of(products: &[(&str, &str)]) -> Value {
    let packages: Vec<_> = products.iter().flat_map(|(key, lane)| manifests::packages(key, lane)).collect();
    json!({
        "accounts": [{"accessKeyId": "testAccessKeyId", "accessKeySecret": "testAccessKeySecret", "instanceId": ""}],
        "products": products.iter().map(|(key, _)| manifests::product(key)).collect::<Vec<_>>(),
        "firmware": packages,
    })
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not text", path.display()).into())
}
