//! `make demo`: a whole rollout on this machine, from an empty control plane to its end, judged by the cloud's own log.
//!
//! `EXAMPLE` names the file of `examples/` to apply: `thermostat` (the default) must complete with exactly five
//! creates, `bad-firmware` must be stopped by its first gate. `DEMO_KUBECONFIG` names a cluster to use instead of one
//! of its own. `KEEP=1` leaves everything running until it is interrupted. Whatever was started ends with this process,
//! however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod harness;

#[path = "demo/bar.rs"]
mod bar;
#[path = "demo/cloud.rs"]
mod cloud;
#[path = "demo/cluster.rs"]
mod cluster;
#[path = "demo/show.rs"]
mod show;
#[path = "demo/verdict.rs"]
mod verdict;

use std::env;
use std::fs;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use fota::api::FirmwareRollout;
use fota::api::status::Phase;
use futures::StreamExt as _;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::signal::unix::{SignalKind, signal};

use cloud::Admin;
use cluster::Cluster;
use harness::program::Program;
use harness::supervised::{private_dir, random, temporary_dir};
use harness::{Result, root};
use show::{Follower, Screen, Tint};
use verdict::Seen;

/// Fleet minutes in a minute of ours: what takes a device two to six minutes takes it as many seconds.
const SPEED: &str = "60";
/// From the first line to the verdict.
const LIMIT: Duration = Duration::from_secs(180);
/// The endpoint in `examples/account.yaml`, which the simulated cloud's real one replaces.
const ENDPOINT: &str = "http://127.0.0.1:8043";

/// An example and how it must end.
struct Example {
    name: &'static str,
    phase: Phase,
    /// The reason of the condition that holds at the end.
    reason: &'static str,
    creates: usize,
}

const EXAMPLES: [Example; 2] = [
    Example { name: "thermostat", phase: Phase::Completed, reason: "Completed", creates: 5 },
    Example { name: "bad-firmware", phase: Phase::Failed, reason: "GateFailed", creates: 1 },
];

/// Everything that runs. Dropped in this order.
struct Stage {
    operator: Program,
    cloud: Program,
    cluster: Cluster,
    admin: Admin,
}

fn main() -> ExitCode {
    // kube and reqwest link rustls with one provider; installing it twice is harmless here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let screen = Screen::new();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&screen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Screen) -> Result<()> {
    let name = env::var("EXAMPLE").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| EXAMPLES[0].name.to_owned());
    let Some(example) = EXAMPLES.iter().find(|example| example.name == name) else {
        let names: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
        return Err(format!("there is no demo of {name:?}: EXAMPLE is one of {}", names.join(", ")).into());
    };
    let mut stage = Stage::start(screen)?;
    // From here on an interrupt is ours: a cluster that was given to us must be cleaned.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let work = async {
        let outcome = tokio::time::timeout(LIMIT, stage.rollout(screen, example)).await;
        outcome.unwrap_or_else(|_| Err(format!("it had not come to its end after {} s", LIMIT.as_secs()).into()))
    };
    let (outcome, interrupted) = tokio::select! {
        outcome = work => (outcome, false),
        _ = interrupt.recv() => (Err("interrupted".into()), true),
        _ = terminate.recv() => (Err("terminated".into()), true),
    };
    if outcome.is_err() && !interrupted {
        stage.explain(example)?;
    }
    if keep() && !interrupted {
        stage.how_to_connect(screen)?;
        tokio::select! {
            () = stage.broken() => eprintln!("demo: something that was running has ended"),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    let clean = stage.stop();
    outcome.and(clean)
}

fn keep() -> bool {
    env::var("KEEP").is_ok_and(|keep| !["", "0"].contains(&keep.as_str()))
}

impl Stage {
    /// Cloud, cluster and operator.
    fn start(screen: &Screen) -> Result<Self> {
        let home = temporary_dir("demo")?;
        let fleet = root().join("examples/fleet.yaml");
        let fleet = fleet.to_str().ok_or("the checkout's path is not text")?;
        let arguments = ["cloud", "--listen", "127.0.0.1:0", "--fleet", fleet, "--speed", SPEED];
        let cloud = Program::start("cloud", &home, false, &arguments)?;
        let listens = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
        let endpoint = cloud.says("the simulated cloud's address", listens)?;
        screen.note("cloud", &format!("10,000 simulated devices at {endpoint}, {SPEED} times faster than life"))?;

        let mut cluster = Cluster::start(cloud.dir())?;
        cluster.install()?;
        screen.note("cluster", &format!("{}; CRDs and RBAC are installed", cluster.describe()))?;

        let kubeconfig = cluster.operator_kubeconfig()?;
        let kubeconfig = kubeconfig.to_str().ok_or("the temporary folder's path is not text")?;
        let namespace = cluster.namespace();
        let arguments =
            ["controller", "--kubeconfig", kubeconfig, "--namespace", namespace, "--lease-namespace", cluster.system()];
        let quick = [
            "--telemetry-addr=off",
            "--allow-insecure-endpoints",
            "--poll-interval",
            "1s",
            "--progress-interval",
            "1s",
        ];
        let operator = Program::start("operator", &home, !cluster.is_own(), &[&arguments[..], &quick].concat())?;
        screen.note("operator", "fota controller runs, with the rights of its ServiceAccount only")?;

        let text = fs::read_to_string(root().join("examples/account.yaml"))?;
        if !text.contains(ENDPOINT) {
            return Err(format!("examples/account.yaml does not have the endpoint {ENDPOINT}").into());
        }
        let account = cloud.dir().join("account.yaml");
        fs::write(&account, text.replace(ENDPOINT, &endpoint))?;
        cluster.apply(&account)?;
        let admin = Admin::new(&endpoint)?;
        Ok(Self { operator, cloud, cluster, admin })
    }

    /// Applies the example, follows it to its end, and judges it.
    async fn rollout(&self, screen: &Screen, example: &Example) -> Result<()> {
        let file = format!("examples/{}.yaml", example.name);
        self.cluster.apply(&root().join(&file))?;
        screen.note("kubectl", &screen.tint(Tint::Strong, &format!("apply -f {file}")))?;
        let api: Api<FirmwareRollout> = Api::namespaced(self.cluster.client().await?, self.cluster.namespace());
        let only = watcher::Config::default().fields(&format!("metadata.name={}", example.name));
        let mut changes = pin!(watcher(api, only).default_backoff().applied_objects());
        let (mut follower, mut seen) = (Follower::default(), Seen::default());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut told = false;
        loop {
            tokio::select! {
                () = self.broken() => return Err("something that the demo needs has ended".into()),
                Some(change) = changes.next() => {
                    // An error is the watch's own to get over; the deadline is ours.
                    if let Ok(rollout) = change
                        && seen.take(rollout)
                    {
                        follower.show(screen, seen.status())?;
                        if seen.at_rest() && !std::mem::replace(&mut told, true) {
                            screen.note("ledger", "waiting for the devices that were pushed to and have not ended")?;
                        }
                    }
                }
                // Devices that were pushed to go on after the end; the ledger is right when it has followed them.
                _ = tick.tick(), if seen.at_rest() => {
                    if self.admin.agrees(&seen).await? {
                        break;
                    }
                }
            }
        }
        screen.line("")?;
        screen.line(self.cluster.ask(["get", "fwr"])?.trim_end())?;
        screen.line("")?;
        verdict::judge(screen, example, &seen, &self.admin, &self.cluster).await
    }

    /// Waits until something ends that should run.
    async fn broken(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        while self.operator.alive() && self.cloud.alive() && self.cluster.alive() {
            tick.tick().await;
        }
    }

    /// After a failure: the rollout as it is, the last log lines, and where the whole logs are.
    fn explain(&self, example: &Example) -> Result<()> {
        let status = self.cluster.ask(["get", "fwr", example.name, "-o", "yaml"]);
        eprintln!("\n{}", status.unwrap_or_else(|error| error.to_string()));
        eprintln!("\n{}{}", self.operator.tail(25), self.cloud.tail(5));
        let dir = env::temp_dir().join(format!("fota-demo-logs-{}", random()));
        private_dir(&dir)?;
        for program in [&self.operator, &self.cloud] {
            eprintln!("log: {}", program.keep_log(&dir)?.display());
        }
        Ok(())
    }

    fn how_to_connect(&self, screen: &Screen) -> Result<()> {
        let Self { operator, cloud, cluster, .. } = self;
        screen.line("")?;
        screen.line("Everything is left running (KEEP). In another terminal:")?;
        screen.line("")?;
        screen.line(&format!("  export KUBECONFIG={}", cluster.kubeconfig().display()))?;
        screen.line(&format!("  {} -n {} get fwr,events", cluster.kubectl().display(), cluster.namespace()))?;
        screen.line(&format!("  curl {}/_admin/jobs", self.admin.base()))?;
        screen.line(&format!("  less {} {}", operator.log().display(), cloud.log().display()))?;
        screen.line("")?;
        screen.line("Ctrl-C ends it all.")
    }

    /// Ends everything in order: the operator removes its finalizers before it goes.
    fn stop(&mut self) -> Result<()> {
        let clean = self.cluster.clean();
        self.operator.stop()?;
        self.cloud.stop()?;
        clean
    }
}
