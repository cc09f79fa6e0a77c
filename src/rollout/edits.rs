//! Edits of what has started: they do not apply, and are told. What a stage was started with is known by hashes, which
//! `status.effective` keeps; what follows from an edit is decided elsewhere.

use crate::api::delivery::{Delivery, Overwrite};
use crate::api::rollout::DynamicMode;
use crate::api::status::{EffectiveStage, FirmwareRolloutStatus, StageKind, StageState, StageStatus};
use crate::api::{FULL, VERIFY};

use super::revision;
use super::stage::{Stage, Target};

/// Most stages that a status holds.
pub const MOST_STAGES: usize = 24;

/// One difference between what a spec says of a stage and what the run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// Whom it targets.
    Targets,
    /// How its job reaches them.
    Delivery,
    /// It is not in the spec any more.
    Removed,
    /// It has another place among the stages.
    Moved,
}

/// Hash of whom a stage targets. The order in which devices are written does not change what is meant.
pub fn targets(target: &Target) -> String {
    let mut names: Vec<&str> = target.devices.iter().map(String::as_str).collect();
    names.sort_unstable();
    let kind = format!("{:?}", target.kind);
    let percent = target.percent.map(|p| p.to_string()).unwrap_or_default();
    let mut parts = vec![kind, percent];
    parts.extend(target.group.iter().map(|id| format!("group {id}")));
    if let Some(from) = &target.devices_from {
        // What stands there is read once, when the step starts.
        parts.push(format!("from {}", from.config_map_key_ref));
    }
    if let Some(schedule) = &target.schedule {
        let finish = schedule.finish.map(|at| at.to_string()).unwrap_or_default();
        parts.extend(["schedule".to_owned(), schedule.start.to_string(), finish]);
    }
    if let Some(policy) = &target.policy {
        // When it ends applies at once, as gates do.
        parts.push(format!("policy {:?}", policy.mode.unwrap_or(DynamicMode::Always)));
    }
    revision::hex(parts.iter().map(String::as_str).chain(names), 8)
}

/// Hash of a delivery as it is written: without defaults, so that a version with other ones sees no edit.
pub fn delivery(written: &Delivery) -> String {
    let number = |n: Option<i32>| n.map(|n| n.to_string()).unwrap_or_default();
    let seconds = |span: &crate::api::Span| span.length().as_secs().to_string();
    let mut parts = vec![
        number(written.maximum_per_minute),
        written.device_timeout.as_ref().map(seconds).unwrap_or_default(),
        number(written.retry.as_ref().map(|r| r.count)),
        written.retry.as_ref().map(|r| seconds(&r.interval)).unwrap_or_default(),
        match written.overwrite {
            None => "",
            Some(Overwrite::Never) => "1",
            Some(Overwrite::Pending) => "2",
        }
        .to_owned(),
    ];
    let flag = |name: &str, flag: Option<bool>| flag.map(|on| format!("{name}={on}"));
    parts.extend(flag("push", written.push));
    parts.extend(flag("confirm", written.confirm));
    parts.extend(flag("multiModule", written.multi_module));
    parts.extend(written.protocol.map(|protocol| format!("{protocol:?}")));
    parts.extend(written.tags.iter().flatten().flat_map(|(key, value)| [key.clone(), value.clone()]));
    revision::hex(parts.iter().map(String::as_str), 8)
}

/// Whether the present attempt of a stage has begun.
fn begun(entry: &StageStatus) -> bool {
    entry.state != StageState::Pending || entry.jobs.iter().any(|j| j.attempt == entry.attempt)
}

/// Whether its targets are fixed: a later attempt of a gray step takes over the devices of the one before.
fn targeted(entry: &StageStatus) -> bool {
    let handed_on = entry.kind.is_gray() && !entry.jobs.is_empty();
    handed_on || begun(entry)
}

/// The settings in force: gates of edited stages at once, what a stage was started with as it was then, and stages that
/// an edit removed as they were, before all others.
pub fn settings(plan: &[Stage], old: &[EffectiveStage], stages: &[StageStatus]) -> Vec<EffectiveStage> {
    let entry = |name: &str| stages.iter().find(|s| s.name == name);
    let planned = |name: &str| plan.iter().any(|p| p.name == name);
    let removed: Vec<_> = old.iter().filter(|s| !planned(&s.name) && entry(&s.name).is_some()).cloned().collect();
    let surplus = (removed.len() + plan.len()).saturating_sub(MOST_STAGES);
    let kept = plan.iter().map(|stage| {
        let mut new = stage.settings.clone();
        let (Some(entry), Some(old)) = (entry(&stage.name), old.iter().find(|o| o.name == stage.name)) else {
            return new;
        };
        if targeted(entry) {
            new.targets.clone_from(&old.targets);
        }
        if begun(entry) {
            new.delivery.clone_from(&old.delivery);
            new.maximum_per_minute = old.maximum_per_minute;
        }
        new
    });
    removed.into_iter().skip(surplus).chain(kept).collect()
}

/// How a stage of the spec differs from the settings in force. Of one that has not started in a run of the spec's own
/// firmware, nothing does.
pub fn of(declared: Option<&Stage>, force: Option<&EffectiveStage>) -> Vec<Edit> {
    let (Some(declared), Some(force)) = (declared, force) else { return vec![Edit::Removed] };
    let mut edits = Vec::new();
    if declared.settings.targets != force.targets {
        edits.push(Edit::Targets);
    }
    if declared.settings.delivery != force.delivery {
        edits.push(Edit::Delivery);
    }
    edits
}

/// The fields of a spec that do not apply, because they speak of what has started: in the order of the stages.
pub fn ignored(plan: &[Stage], status: &FirmwareRolloutStatus) -> Vec<String> {
    let place = |name: &str| plan.iter().position(|s| s.name == name);
    // What was skipped was not started with anything.
    let started: Vec<_> = status.stages.iter().filter(|s| targeted(s) && s.state != StageState::Skipped).collect();
    let mut fields = Vec::new();
    let mut last = None;
    for entry in &started {
        let declared = place(&entry.name).and_then(|at| plan.get(at));
        let force = status.effective.iter().flat_map(|e| &e.stages).find(|s| s.name == entry.name);
        let mut edits = if force.is_none() { Vec::new() } else { of(declared, force) };
        let at = place(&entry.name);
        if at.is_some() && at < last {
            edits.push(Edit::Moved);
        }
        last = last.max(at);
        fields.extend(edits.into_iter().map(|edit| field(&entry.name, declared, edit)));
    }
    // Behind one that has started, nothing is reached any more that stands in front of it.
    let passed = plan.iter().take(last.unwrap_or(0)).filter(|s| status.stages.iter().all(|e| e.name != s.name));
    fields.extend(passed.map(|s| format!("{} (in front of what has started)", path(&s.name))));
    fields
}

/// The path of a stage in `spec`.
pub fn path(name: &str) -> String {
    if [VERIFY, FULL].contains(&name) { name.to_owned() } else { format!("gray[{name}]") }
}

/// An edit as the path of its field in `spec`.
pub fn field(name: &str, declared: Option<&Stage>, edit: Edit) -> String {
    let path = path(name);
    match edit {
        Edit::Targets if declared.is_some_and(|d| d.target.percent.is_some()) => format!("{path}.percent"),
        Edit::Targets if declared.is_some_and(|d| d.target.kind == StageKind::Full) => format!("{path}.static"),
        Edit::Targets if declared.is_some_and(|d| d.target.policy.is_some()) => format!("{path}.dynamic"),
        Edit::Targets if declared.is_some_and(|d| d.target.group.is_some()) => format!("{path}.group"),
        Edit::Targets if declared.is_some_and(|d| d.target.devices_from.is_some()) => format!("{path}.devicesFrom"),
        Edit::Targets => format!("{path}.devices"),
        Edit::Delivery => format!("{path}.delivery"),
        Edit::Removed => format!("{path} (removed)"),
        Edit::Moved => format!("{path} (moved)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Percent;
    use crate::api::Span;
    use crate::api::delivery::Retry;

    #[test]
    fn only_what_means_something_else_is_another_hash() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let devices = |all: &[&str]| targets(&Target { devices: names(all), ..Target::of(StageKind::Devices) });
        assert_eq!(devices(&["a", "b"]), devices(&["b", "a"]));
        assert_ne!(devices(&["a", "b"]), devices(&["ab"]));
        let share = |text| targets(&Target { percent: Percent::parse(text).ok(), ..Target::of(StageKind::Percent) });
        assert_eq!(share("5"), share("5.0"));
        assert_ne!(share("5"), share("5.001"));
        let span = |text| Span::parse(text).unwrap();
        let retry = |interval| Some(Retry { count: 1, interval: span(interval) });
        let base = Delivery { device_timeout: Some(span("2h")), retry: retry("1h"), ..Delivery::default() };
        let same = Delivery { device_timeout: Some(span("120m")), retry: retry("60m"), ..Delivery::default() };
        assert_eq!(delivery(&base), delivery(&same));
        for other in [
            Delivery { maximum_per_minute: Some(1_000), ..base.clone() },
            Delivery { retry: retry("10m"), ..base.clone() },
            Delivery { overwrite: Some(Overwrite::Never), ..base.clone() },
            Delivery { tags: Some([("a".to_owned(), "b".to_owned())].into()), ..base.clone() },
        ] {
            assert_ne!(delivery(&base), delivery(&other), "{other:?}");
        }
    }
}
