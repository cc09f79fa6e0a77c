//! Whether the rollout was what its example promises, by what the cloud itself says.

use std::collections::BTreeMap;

use fota::api::{FirmwareRollout, FirmwareRolloutStatus, condition};
use serde::Deserialize;

use super::Example;
use super::cloud::{Admin, Call};
use super::cluster::Cluster;
use super::harness::Result;
use super::show::{Screen, Tint, ended};

/// What the watch told.
#[derive(Debug, Default)]
pub struct Seen {
    pub rollout: Option<FirmwareRollout>,
    status: FirmwareRolloutStatus,
    /// How often the status was written.
    pub writes: usize,
}

impl Seen {
    /// Takes a change; true: the status is another one.
    pub fn take(&mut self, rollout: FirmwareRollout) -> bool {
        let status = rollout.status.clone().unwrap_or_default();
        let news = status != self.status;
        self.writes += usize::from(news);
        self.status = status;
        self.rollout = Some(rollout);
        news
    }

    pub fn status(&self) -> &FirmwareRolloutStatus {
        &self.status
    }

    /// Nothing more happens without a person.
    pub fn at_rest(&self) -> bool {
        self.status.phase.is_some_and(ended)
    }
}

/// Prints each finding; fails when one of them is not as promised.
pub async fn judge(screen: &Screen, example: &Example, seen: &Seen, admin: &Admin, cluster: &Cluster) -> Result<()> {
    let mut wrong = 0;
    let mut check = |right: bool, text: &str| {
        wrong += usize::from(!right);
        let mark = if right { screen.tint(Tint::Good, "ok   ") } else { screen.tint(Tint::Bad, "WRONG") };
        screen.line(&format!("{mark}  {text}"))
    };
    let status = seen.status();
    let phase = status.phase.map(|phase| phase.to_string()).unwrap_or_default();
    let promised = if example.phase == fota::api::status::Phase::Completed { "Ready" } else { "Stalled" };
    let found = condition::find(&status.conditions, promised).filter(|c| c.status == "True");
    let reason = found.map(|c| c.reason.clone()).unwrap_or_default();
    check(
        status.phase == Some(example.phase) && reason == example.reason,
        &format!("phase {phase}, condition {promised} {reason} (promised: {}, {})", example.phase, example.reason),
    )?;
    if let Some(found) = found.filter(|_| promised == "Stalled") {
        screen.line(&format!("       condition: {}: {}", found.reason, found.message))?;
        let events = warnings(cluster, example)?;
        check(!events.is_empty(), "a Warning event says which number broke which limit")?;
        for event in events {
            screen.line(&format!("       event:     {event}"))?;
        }
    }

    let calls = admin.calls().await?;
    let creates: Vec<_> = calls.iter().filter(|call| call.is_create()).collect();
    check(
        creates.len() == example.creates,
        &format!("creates in the cloud's log: {} (promised: {})", creates.len(), example.creates),
    )?;
    for create in &creates {
        screen.line(&format!("       {}", describe(create)))?;
    }

    let devices = admin.devices_of(seen).await?;
    let ledger = status.progress.as_ref().map(|progress| progress.ledger).unwrap_or_default();
    let (shown, real) = (serde_json::to_value(ledger)?, serde_json::to_value(devices.ledger)?);
    check(shown == real, &format!("status counts every device as the cloud does: {}", numbers(&shown)))?;
    if shown != real {
        screen.line(&format!("       the cloud: {}", numbers(&real)))?;
    }
    let versions = devices.versions.values().flatten();
    let versions: Vec<_> = versions.map(|(version, count)| format!("{count} at {version}")).collect();
    screen.line(&format!("       devices of the product: {}", versions.join(", ")))?;

    let mut operations: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *operations.entry(&call.operation).or_default() += 1;
    }
    let refused = calls.iter().filter(|call| call.code.is_some()).count();
    let operations: Vec<_> = operations.iter().map(|(name, count)| format!("{count} {name}")).collect();
    screen.line(&format!("       {} calls, {refused} refused: {}", calls.len(), operations.join(", ")))?;
    screen.line(&format!("       {} status writes", seen.writes))?;
    screen.line("")?;
    if wrong > 0 {
        return Err(format!("{wrong} findings are not as promised, see WRONG above").into());
    }
    let what = format!("{} is {phase}, as promised, after {:.0} s", example.name, screen.seconds());
    screen.line(&screen.tint(Tint::Good, &what))
}

fn describe(create: &Call) -> String {
    let parameter = |name: &str| create.params.get(name).map(String::as_str).unwrap_or_default();
    let selection = parameter("TargetSelection");
    let what = match create.params.get("GrayPercent") {
        Some(percent) => format!("{selection} {percent} %"),
        None => selection.to_owned(),
    };
    let fate = match (&create.job_id, &create.code) {
        (Some(id), None) => format!("job {id}"),
        (_, code) => format!("refused: {}", code.as_deref().unwrap_or_default()),
    };
    format!("{:<25} {what:<14} {fate}", create.operation)
}

/// The classes that have devices.
fn numbers(ledger: &serde_json::Value) -> String {
    let fields = ledger.as_object().into_iter().flatten();
    let some = fields.filter(|(_, count)| count.as_i64() != Some(0));
    let some: Vec<_> = some.map(|(class, count)| format!("{count} {class}")).collect();
    some.join(", ")
}

/// The rollout's Warning events, as the events API has them.
fn warnings(cluster: &Cluster, example: &Example) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        note: String,
        regarding: Regarding,
    }
    #[derive(Deserialize)]
    struct Regarding {
        #[serde(default)]
        name: String,
    }
    let list: List = serde_json::from_str(&cluster.ask(["get", "events.events.k8s.io", "-o", "json"])?)?;
    let ours = list.items.into_iter().filter(|e| e.kind == "Warning" && e.regarding.name == example.name);
    Ok(ours.map(|event| format!("{}: {}", event.reason, event.note)).collect())
}
