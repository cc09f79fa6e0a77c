//! The commands a person types. Arguments in, an exit code out; what a command does lives in the room it is about.

mod connect;
mod crds;
mod doctor;
mod installed;
mod mapping;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::api::Span;
use crate::controller::keys::{Namespaces, Rules};
use crate::controller::lease;
use crate::controller::poller::Cadences;
use crate::controller::run::{Settings, run};
use crate::ota::credentials::environment::Environment;
use crate::ota::endpoint::AllowedEndpoints;
use crate::termination::Termination;
use crate::{cloud, telemetry};

use connect::{Connect, client};

pub use crds::manifests;
pub use mapping::api_mapping;

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
    /// Find out which assumptions about the cloud hold on an account
    Doctor(Box<doctor::Doctor>),
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
    /// Look in these namespaces only
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
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
    #[command(flatten)]
    connect: Connect,
    /// Watch these namespaces only
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
    /// Namespaces whose OTAAccounts may use the operator's own identity: roles that trust its ServiceAccount
    /// (workloadIdentity) and the keys in its environment (operator); `*` for all
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    own_identity_namespaces: Vec<String>,
    /// Hosts that the operator's own identity may go to, `*.` for any subdomain; also the one that lends a role's keys
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "*.aliyuncs.com")]
    own_identity_endpoints: Vec<String>,
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
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(what) => {
            // Help and version go to stdout and are no failure. 1, not clap's 2, which `fota doctor` has a meaning for.
            let _ = what.print();
            return if what.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match line.command {
        Command::Crds(Crds { write: None }) => match crds::print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        Command::Crds(Crds { write: Some(dir) }) => match crds::write(&dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        Command::Cloud(Cloud { options, logs }) => {
            asynchronously(&logs, async { cloud::run(options).await.map_err(|e| e.to_string()).map(success) })
        }
        Command::Controller(controller) => {
            asynchronously(&controller.logs, async { start(&controller).await.map(success) })
        }
        Command::Doctor(doctor) => {
            let logs = doctor.logs.clone();
            asynchronously(&logs, doctor::examine(*doctor))
        }
        Command::Probe(Probe { url }) => {
            asynchronously(&Logs::default(), async move { installed::probe(&url).await.map(success) })
        }
        Command::Unused(Unused { namespace }) => asynchronously(&Logs::default(), async move {
            let kube = client(Connect::default().config().await?)?;
            installed::unused(&kube, &namespace).await.map(success)
        }),
    }
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

async fn start(given: &Controller) -> Result<(), String> {
    let termination = Termination::listen().map_err(|error| format!("signals: {error}"))?;
    let allowed = given.connect.allowed()?;
    let insecure = given.connect.allow_insecure_endpoints;
    let own_endpoints = AllowedEndpoints::listed(&given.own_identity_endpoints, insecure)
        .map_err(|error| format!("--own-identity-endpoints: {error}"))?;
    let rules = Rules {
        allowed,
        own_endpoints,
        own_namespaces: Namespaces::new(&given.own_identity_namespaces),
        environment: Environment::read(|name| std::env::var(name).ok()),
    };
    let config = given.connect.config().await?;
    // The pod's own namespace, or the one that the kubeconfig's context names.
    let own = config.default_namespace.clone();
    let mut once = config.clone();
    once.default_retry = false;
    let lease = lease::Settings {
        client: client(once)?,
        namespace: given.lease_namespace.clone().filter(|n| !n.is_empty()).unwrap_or(own),
        duration: given.lease_duration,
    };
    let client = client(config)?;
    let namespaces = given.namespace.iter().cloned().collect();
    let cadences = Cadences { poll: given.poll_interval, progress: given.progress_interval };
    let telemetry = match given.telemetry_addr.as_str() {
        "off" => None,
        address => Some(telemetry::listen(address).await.map_err(|why| format!("--telemetry-addr: {why}"))?),
    };
    run(client, Settings { namespaces, rules, cadences, lease }, telemetry, termination).await;
    Ok(())
}

fn asynchronously(logs: &Logs, work: impl Future<Output = Result<ExitCode, String>>) -> ExitCode {
    if let Err(why) = telemetry::start(logs.log_format, &logs.log) {
        return fail(&format!("--log: {why}"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    match runtime.block_on(work) {
        Ok(code) => code,
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
