//! What the chart's hooks ask of an installation: the image has no shell to ask with.

use std::io::Write as _;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::api::{FINALIZER, FirmwareRollout};
use crate::ota::client::reason;

/// Rollouts that a refusal names; the rest are counted.
const NAMED: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks a URL, prints the answer, and succeeds when it is a 2xx.
///
/// # Errors
/// What was answered instead, or why nothing was.
pub async fn probe(url: &str) -> Result<(), String> {
    let told = |error: reqwest::Error| format!("{url}: {}", reason(error));
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(told)?;
    let answer = client.get(url).send().await.map_err(told)?;
    let status = answer.status();
    let text = answer.text().await.map_err(told)?;
    if !status.is_success() {
        return Err(format!("{url}: {status}: {}", text.trim_end()));
    }
    // A closed stdout only means that nobody reads it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(())
}

/// Succeeds when the operator may go: when it goes first, a rollout's deletion waits for it for ever, and nobody counts
/// or stops what its jobs still push to.
///
/// # Errors
/// Which rollouts are left and what to do, or why they cannot be read.
pub async fn unused(kube: &kube::Client, namespaces: &[String]) -> Result<(), String> {
    let everywhere = namespaces.is_empty().then(|| Api::all(kube.clone()));
    let places = everywhere.into_iter().chain(namespaces.iter().map(|name| Api::namespaced(kube.clone(), name)));
    let mut all: Vec<FirmwareRollout> = Vec::new();
    for rollouts in places {
        match tokio::time::timeout(TIMEOUT, rollouts.list(&ListParams::default())).await {
            Ok(Ok(some)) => all.extend(some.items),
            // No such resource: the definitions are gone, and every rollout with them.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(()),
            Ok(Err(error)) => return Err(format!("the FirmwareRollouts cannot be listed: {error}")),
            Err(_) => return Err("the API server did not answer in time".to_owned()),
        }
    }
    let held = all.iter().filter(|r| r.finalizers().iter().any(|f| f == FINALIZER));
    let mut held: Vec<_> = held.map(|r| format!("{}/{}", r.namespace().unwrap_or_default(), r.name_any())).collect();
    if held.is_empty() {
        return Ok(());
    }
    held.sort();
    let more = held.len().saturating_sub(NAMED);
    held.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(format!(
        "these FirmwareRollouts still need the operator: {}{more}. Delete them first, which cancels what is pending \
         (deletionPolicy: Orphan lets their jobs go on); or go without this check: helm uninstall --no-hooks. To keep the \
         release instead, `helm rollback RELEASE REVISION` to its last revision: until then Helm takes no upgrade",
        held.join(", ")
    ))
}
