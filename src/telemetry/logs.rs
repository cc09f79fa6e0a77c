//! How logs are written.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr. To be called once.
///
/// # Errors
/// What is wrong with the filter.
pub fn start(format: Format, filter: &str) -> Result<(), String> {
    // The client tells every attempt of its own retries, as an error; whoever asked for the call tells the outcome.
    let quiet = if filter.contains("kube_client") { "" } else { ",kube_client::client=off" };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}")).map_err(|error| error.to_string())?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => logs.try_init(),
        Format::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    }
    .map_err(|error| error.to_string())
}
