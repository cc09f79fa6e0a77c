//! Statuses in one line, for the story of a schedule.

use fota::api::condition;
use fota::api::status::FirmwareRolloutStatus;

/// Where a rollout stands, in one line.
pub fn summary(status: Option<&FirmwareRolloutStatus>) -> String {
    let Some(status) = status else { return "none".to_owned() };
    let stages: Vec<_> = status
        .stages
        .iter()
        .map(|s| {
            let attempt = if s.attempt > 1 { format!("#{}", s.attempt) } else { String::new() };
            format!("{}{attempt}={}({})", s.name, s.state, s.jobs.len())
        })
        .collect();
    let claim = status.claim.as_ref().map(|c| {
        let sent = if c.sent { " sent" } else { "" };
        format!(" claim {}@{}{sent}", &c.token[..4], c.epoch)
    });
    let told = ["Ready", "Stalled", "Reconciling"]
        .iter()
        .filter_map(|kind| condition::find(&status.conditions, kind).filter(|c| c.status == "True"))
        .map(|c| format!("{} {}", c.kind, c.reason))
        .next();
    format!(
        "run {} {} [{}]{} {}",
        status.run,
        status.phase.map(|p| p.to_string()).unwrap_or_default(),
        stages.join(" "),
        claim.unwrap_or_default(),
        told.unwrap_or_default(),
    )
}
