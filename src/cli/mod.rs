//! The commands a person types. Arguments in, an exit code out; what a command does lives in the room it is about.

mod crds;
mod installed;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::api::Span;
use crate::controller::lease;
use crate::controller::poller::Cadences;
use crate::controller::run::{Settings, run};
use crate::ota::endpoint::AllowedEndpoints;
use crate::{cloud, telemetry};

pub use crds::manifests;

/// Firmware rollouts over Alibaba Cloud IoT Platform's OTA jobs.
#[derive(Debug, Parser)]
#[command(name = "fota", version, about)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator
    Controller(Controller),
    /// Run a simulated OTA cloud, for tests and rehearsals
    Cloud(Cloud),
    /// Print the CustomResourceDefinitions
    Crds(Crds),
    /// Ask a URL and succeed when it answers 2xx: for `helm test`
    #[command(hide = true)]
    Probe(Probe),
    /// Succeed when no rollout needs the operator any more: for `helm uninstall`
    #[command(hide = true)]
    Unused(Unused),
}

#[derive(Debug, clap::Args)]
struct Probe {
    /// http or https; SSL_CERT_FILE names other CA certificates than the system's
    url: String,
}

#[derive(Debug, clap::Args)]
struct Unused {
    /// Look in this namespace only
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Logs {
    /// How logs are written
    #[arg(long, value_enum, default_value_t = telemetry::Format::Text)]
    log_format: telemetry::Format,
    /// What is logged: a level, or tracing's filter syntax
    #[arg(long, env = "FOTA_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

impl Default for Logs {
    fn default() -> Self {
        Self { log_format: telemetry::Format::Text, log: "info".to_owned() }
    }
}

#[derive(Debug, clap::Args)]
struct Controller {
    /// Kubeconfig; default: $KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Watch this namespace only
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Hosts that may be called, `*.` for any subdomain
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "*.aliyuncs.com")]
    allowed_endpoints: Vec<String>,
    /// Also allow plain http and any host: for a simulated cloud only
    #[arg(long)]
    allow_insecure_endpoints: bool,
    /// Time between two polls of a rollout that runs
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = length)]
    poll_interval: Duration,
    /// Least time between two status writes that carry progress alone
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = length)]
    progress_interval: Duration,
    /// Namespace of the Leases by which replicas share the work; default: the operator's own. Operators that watch
    /// different namespaces need different ones
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// How long a replica that is gone without a word is waited for
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_length)]
    lease_duration: Duration,
    /// Where /livez, /readyz and /metrics are served: HOST:PORT, :PORT, or off
    #[arg(long, value_name = "ADDRESS", default_value = ":8080")]
    telemetry_addr: String,
    #[command(flatten)]
    logs: Logs,
}

#[derive(Debug, clap::Args)]
struct Cloud {
    #[command(flatten)]
    options: cloud::Options,
    #[command(flatten)]
    logs: Logs,
}

#[derive(Debug, clap::Args)]
struct Crds {
    /// Write one file per resource into this folder instead of printing
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// A duration of at least 100 ms: anything shorter is a slip that would burn the account's quota.
fn length(text: &str) -> Result<Duration, String> {
    let length = Span::parse(text)?.length();
    if length < Duration::from_millis(100) { Err("must be at least 100ms".to_owned()) } else { Ok(length) }
}

/// How long a Lease lasts. Shorter than a second there is no time to renew it, and nobody waits for an hour.
fn lease_length(text: &str) -> Result<Duration, String> {
    let length = Span::parse(text)?.length();
    let sensible = Duration::from_secs(1)..=Duration::from_secs(3600);
    if sensible.contains(&length) { Ok(length) } else { Err("must be between 1s and 1h".to_owned()) }
}

/// The whole program.
pub fn main() -> ExitCode {
    // First thing: with two providers compiled in, rustls would panic at the first connection.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("the TLS provider was installed twice");
    }
    match Line::parse().command {
        Command::Crds(Crds { write: None }) => match crds::print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        Command::Crds(Crds { write: Some(dir) }) => match crds::write(&dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        Command::Cloud(Cloud { options, logs }) => {
            asynchronously(&logs, async { cloud::run(options).await.map_err(|error| error.to_string()) })
        }
        Command::Controller(controller) => asynchronously(&controller.logs, start(&controller)),
        Command::Probe(Probe { url }) => asynchronously(&Logs::default(), installed::probe(&url)),
        Command::Unused(Unused { namespace }) => asynchronously(&Logs::default(), async move {
            let config = kube::Config::infer().await.map_err(|e| format!("no way to reach an API server: {e}"))?;
            let kube = kube::Client::try_from(config).map_err(|e| format!("the API server's settings: {e}"))?;
            installed::unused(kube, namespace.as_deref()).await
        }),
    }
}

async fn start(given: &Controller) -> Result<(), String> {
    let allowed = AllowedEndpoints::new(&given.allowed_endpoints, given.allow_insecure_endpoints)
        .map_err(|error| format!("--allowed-endpoints: {error}"))?;
    let config = match &given.kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| format!("{}: {e}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                .await
                .map_err(|e| format!("{}: {e}", path.display()))?
        }
        None => kube::Config::infer().await.map_err(|e| format!("no way to reach an API server: {e}"))?,
    };
    // The pod's own namespace, or the one that the kubeconfig's context names.
    let own = config.default_namespace.clone();
    let client =
        |config: kube::Config| kube::Client::try_from(config).map_err(|e| format!("the API server's settings: {e}"));
    let mut once = config.clone();
    once.default_retry = false;
    let lease = lease::Settings {
        client: client(once)?,
        namespace: given.lease_namespace.clone().filter(|n| !n.is_empty()).unwrap_or(own),
        duration: given.lease_duration,
    };
    let client = client(config)?;
    let cadences = Cadences { poll: given.poll_interval, progress: given.progress_interval };
    let telemetry = match given.telemetry_addr.as_str() {
        "off" => None,
        address => Some(telemetry::listen(address).await.map_err(|why| format!("--telemetry-addr: {why}"))?),
    };
    run(client, Settings { namespace: given.namespace.clone(), allowed, cadences, lease }, telemetry).await;
    Ok(())
}

fn asynchronously(logs: &Logs, work: impl Future<Output = Result<(), String>>) -> ExitCode {
    if let Err(why) = telemetry::start(logs.log_format, &logs.log) {
        return fail(&format!("--log: {why}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    use std::io::Write as _;
    // Where stderr is closed, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "fota: {why}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Line as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_slip_in_an_interval_is_refused() {
        assert!(length("1ms").is_err() && length("5").is_err());
        assert_eq!(length("1s"), Ok(Duration::from_secs(1)));
        assert!(lease_length("900ms").is_err() && lease_length("2h").is_err());
        assert_eq!(lease_length("15s"), Ok(Duration::from_secs(15)));
    }
}
