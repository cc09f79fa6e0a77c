//! A site: one namespace, one simulated cloud, and one operator or two, each behind its tap.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cast::{Cast, SPEED};
use super::judge::{Call, Job, Promise, Verdict, judge};
use super::tap::{Kill, Tap};
use crate::harness::control_plane::{ControlPlane, SERVICE_ACCOUNT};
use crate::harness::process::Process;
use crate::harness::program::Program;
use crate::harness::supervised::temporary_dir;
use crate::harness::{Result, kubeconfig};

/// Both are quick programs; a compiler next door makes them slow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a site is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub purpose: &'static str,
    pub cast: Cast,
    /// The operators, by name.
    pub operators: &'static [&'static str],
    /// `--lease-duration`.
    pub lease: &'static str,
}

/// A namespace with its cloud and its operators.
pub struct Site {
    pub namespace: String,
    pub cast: Cast,
    pub operators: Vec<Operator>,
    cloud: Cloud,
}

/// The simulated cloud, and its admin side.
struct Cloud {
    program: Program,
    url: String,
    http: reqwest::Client,
}

/// An operator that can be killed and started again.
pub struct Operator {
    name: &'static str,
    pub tap: Tap,
    home: PathBuf,
    arguments: Vec<String>,
    program: Option<Program>,
}

impl Site {
    /// Everything but the operators runs. With one operator, its cloud is behind the tap, too; with two, nobody could
    /// tell whose request it is, and only what they write to the API server passes their taps.
    pub async fn new(control_plane: &ControlPlane, plan: Plan) -> Result<Self> {
        let Plan { purpose, cast, operators: names, lease } = plan;
        let home = temporary_dir(purpose)?;
        let cloud = Cloud::start(&home, cast)?;
        let namespace = control_plane.namespace(purpose)?;
        control_plane.install_rbac(&namespace)?;
        let token = control_plane.token(&namespace, SERVICE_ACCOUNT)?;
        let direct = control_plane.kubeconfig_with_token(SERVICE_ACCOUNT, &namespace, &token)?;
        let mut operators = Vec::new();
        for name in names {
            let mut config = kubeconfig::load(&direct).await?;
            // What fails, fails for the operator to see.
            config.default_retry = false;
            let tap = Tap::open(kube::Client::try_from(config)?, &cloud.url).await?;
            let kubeconfig = control_plane.kubeconfig_by_way_of(tap.url(), SERVICE_ACCOUNT, &namespace, &token)?;
            let kubeconfig = kubeconfig.to_str().ok_or("the temporary folder's path is not text")?;
            let arguments = [
                "controller",
                "--kubeconfig",
                kubeconfig,
                "--namespace",
                &namespace,
                "--allow-insecure-endpoints",
                "--poll-interval=300ms",
                "--progress-interval=1s",
                "--lease-namespace",
                &namespace,
                "--lease-duration",
                lease,
            ];
            let arguments = arguments.map(str::to_owned).to_vec();
            operators.push(Operator { name, tap, home: home.clone(), arguments, program: None });
        }
        let endpoint = if let [only] = operators.as_slice() { only.tap.url() } else { &cloud.url };
        control_plane.apply_yaml(&cast.accounts(&namespace, endpoint).to_string())?;
        Ok(Self { namespace, cast, operators, cloud })
    }

    /// Changes the cloud's faults.
    pub async fn faults(&self, patch: &Value) -> Result<()> {
        let url = format!("{}/_admin/faults", self.cloud.url);
        let answer = self.cloud.http.put(url).body(patch.to_string()).send().await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("PUT /_admin/faults: {}", answer.status()).into())
        }
    }

    /// Judges all that was called, by the cloud's log.
    pub async fn judge(&self, promises: &[Promise]) -> Result<Verdict> {
        let calls: Vec<Call> = self.cloud.get("calls").await?;
        let jobs: Vec<Job> = self.cloud.get("jobs").await?;
        Ok(judge(&calls, &jobs, promises))
    }

    /// The last lines of every program's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let operators = self.operators.iter().filter_map(|o| o.program.as_ref()).map(|program| program.tail(lines));
        operators.chain([self.cloud.program.tail(5)]).collect()
    }
}

impl Cloud {
    fn start(home: &std::path::Path, cast: Cast) -> Result<Self> {
        let fleet = home.join("fleet.json");
        fs::write(&fleet, cast.fleet().to_string())?;
        let fleet = fleet.to_str().ok_or("the temporary folder's path is not text")?;
        let arguments = ["cloud", "--listen", "127.0.0.1:0", "--fleet", fleet, "--speed", SPEED];
        let program = Program::start("cloud", home, false, &arguments)?;
        let listens = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
        let url = program.says("the simulated cloud's address", listens)?;
        fs::remove_file(fleet)?;
        let http = reqwest::Client::builder().no_proxy().timeout(START_LIMIT).build()?;
        Ok(Self { program, url, http })
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let text = self.http.get(format!("{}/_admin/{what}", self.url)).send().await?.text().await?;
        serde_json::from_str(&text).map_err(|error| format!("GET /_admin/{what}: {error}").into())
    }
}

impl Operator {
    /// Starts it, or starts it again if it runs or ran; it runs to its kill.
    pub fn start(&mut self, kill: Option<Kill>) -> Result<()> {
        if let Some(program) = &mut self.program {
            program.restart()?;
        } else {
            let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
            self.program = Some(Program::start(self.name, &self.home, false, &arguments)?);
        }
        if let Some(process) = self.process() {
            self.tap.begin(process, kill);
        }
        Ok(())
    }

    /// The process that runs, or ran last.
    pub fn process(&self) -> Option<Process> {
        self.program.as_ref().map(Program::process)
    }

    /// SIGTERM, and gone: its Leases are released.
    pub async fn retire(&self) -> Result<()> {
        self.tap.disarm();
        let Some(process) = self.process() else { return Ok(()) };
        process.signal("TERM")?;
        let gone = async {
            while process.alive() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let gone = tokio::time::timeout(START_LIMIT, gone).await;
        let log = || self.program.as_ref().map(|program| program.tail(25)).unwrap_or_default();
        gone.map_err(|_| format!("{} goes on {START_LIMIT:?} after SIGTERM\n{}", self.name, log()).into())
    }
}
