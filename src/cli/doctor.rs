//! `fota doctor`: arguments in, a report and an exit code out. What is examined lives in [`crate::doctor`].

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::doctor::{Order, run};
use crate::ota::{DeviceName, FirmwareId};
use crate::termination::Termination;

use super::connect::{Connect, client};
use super::{Logs, length};

/// What a wrong assumption exits with.
const SOMETHING_FAILS: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 nothing was found that does not hold; 1 it could not run, or the findings could not be kept; 2 something \
does not hold.

Needs these rights in the account's namespace: get on otaaccounts.fota.dev and on the account's Secret, patch on \
otaaccounts/status.fota.dev. The operator need not run.")]
pub(super) struct Doctor {
    /// The OTAAccount to examine
    #[arg(long, value_name = "NAME")]
    account: String,
    /// ProductKey of the product that rollouts are for
    #[arg(long, value_name = "KEY")]
    product: String,
    /// Also make one verify job on this test device, to measure how long a new job is missing from lists, and to see its
    /// tags and the second copy of its create.
    ///
    /// The device is pushed the package and installs it. The job counts: if the device succeeds, the package is verified,
    /// and rollouts of it skip their verification; if it fails, the package has to be verified again. Without this flag
    /// nothing is created.
    #[arg(long, value_name = "NAME")]
    lab_device: Option<String>,
    /// FirmwareId of the package to look at, and to verify on the test device; default for that: the product's only
    /// package that waits for its verification
    #[arg(long, value_name = "ID")]
    firmware: Option<String>,
    /// Longest wait until the verify job is listed; then its pending tasks are cancelled
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = length)]
    list_timeout: Duration,
    /// Namespace of the OTAAccount; default: the kubeconfig's
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How the report is written
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    pub(super) logs: Logs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Lines for a person
    Text,
    /// One JSON document
    Json,
}

/// Examines, and prints the report.
pub(super) async fn examine(given: Doctor) -> Result<ExitCode, String> {
    let allowed = given.connect.allowed()?;
    let config = given.connect.config().await?;
    let namespace = given.namespace.unwrap_or_else(|| config.default_namespace.clone());
    let order = Order {
        namespace,
        account: given.account,
        product_key: given.product,
        firmware: given.firmware.map(FirmwareId::from),
        lab_device: given.lab_device.map(DeviceName::from),
        list_timeout: given.list_timeout,
        allowed,
    };
    let announce = |what: &str| {
        // To stderr: stdout is the report's.
        let _ = writeln!(std::io::stderr(), "{what}");
    };
    let mut termination = Termination::listen().map_err(|error| format!("signals: {error}"))?;
    let stop = async move { termination.asked().await };
    let (report, not_kept) = run(&client(config)?, &order, announce, stop).await.map_err(|error| error.to_string())?;
    let text = match given.output {
        Output::Text => report.to_string(),
        Output::Json => format!("{:#}\n", report.json()),
    };
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("the report: {error}"))?;
    match not_kept {
        Some(error) => Err(error.to_string()),
        None if report.holds() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(SOMETHING_FAILS)),
    }
}
