//! What a rollout tells people: conditions, the line that says why it waits, events.
//!
//! Conditions follow kstatus: `Ready`, abnormal-true `Reconciling` and `Stalled`. Waiting is Reconciling with its
//! reason; what needs a person is Stalled; Ready only at the declared end state. No counters in messages that change
//! from poll to poll: they would make every poll a write.

use jiff::Timestamp;

use crate::api::condition::{self, Condition};
use crate::api::status::{FirmwareRolloutStatus, Next, Phase, StageState};
use crate::api::{Time, status};
use crate::ota::outcome::clean;

use super::{external, stage};

/// Most characters of a condition's message.
pub const LONGEST_MESSAGE: usize = 768;

/// Where a rollout stands, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// What kind of standing.
    pub kind: Kind,
    /// One CamelCase word out of the documented set.
    pub reason: &'static str,
    /// One sentence.
    pub because: String,
    /// Not before, by the cloud's clock.
    pub earliest: Option<Timestamp>,
    /// Everything that is missing.
    pub missing: Vec<String>,
}

/// Kinds of standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes on by itself.
    Waiting,
    /// It needs a person.
    Stalled,
    /// The declared end state.
    Ready,
}

impl Situation {
    /// It goes on by itself.
    pub fn waiting(reason: &'static str, because: impl Into<String>) -> Self {
        Self { kind: Kind::Waiting, reason, because: because.into(), earliest: None, missing: Vec::new() }
    }

    /// It needs a person.
    pub fn stalled(reason: &'static str, because: impl Into<String>) -> Self {
        Self { kind: Kind::Stalled, ..Self::waiting(reason, because) }
    }

    /// The declared end state.
    pub fn ready(reason: &'static str, because: impl Into<String>) -> Self {
        Self { kind: Kind::Ready, ..Self::waiting(reason, because) }
    }

    /// Not before this instant of the cloud's clock.
    pub const fn until(mut self, earliest: Option<Timestamp>) -> Self {
        self.earliest = earliest;
        self
    }

    /// With everything that is missing.
    pub fn missing(mut self, missing: Vec<String>) -> Self {
        self.missing = missing;
        self
    }
}

/// The three conditions of a standing: of a rollout, and of an account.
pub fn conditions(kind: Kind, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) -> [Condition; 3] {
    [("Ready", Kind::Ready), ("Reconciling", Kind::Waiting), ("Stalled", Kind::Stalled)].map(|(name, holds)| {
        Condition {
            kind: name.to_owned(),
            status: if kind == holds { "True" } else { "False" }.to_owned(),
            observed_generation: generation,
            last_transition_time: Time::whole_seconds(now),
            reason: reason.to_owned(),
            message: bounded(message, LONGEST_MESSAGE),
        }
    })
}

/// Writes a situation into a status.
pub fn tell(status: &mut FirmwareRolloutStatus, situation: &Situation, generation: Option<i64>, now: Timestamp) {
    for new in conditions(situation.kind, situation.reason, &situation.because, generation, now) {
        condition::set(&mut status.conditions, new);
    }
    status.next = (situation.kind != Kind::Ready).then(|| Next {
        reason: situation.reason.to_owned(),
        because: bounded(&situation.because, 512),
        earliest: situation.earliest.map(Time),
        missing: situation.missing.iter().take(8).map(|m| bounded(m, 160)).collect(),
    });
}

/// Condition: new firmware waits for the run under way to end.
pub const QUEUED: &str = "Queued";
/// Condition: a younger policy takes the rollout's its devices.
pub const SHADOWED: &str = "Shadowed";
/// Condition: edits of what has started are not applied.
pub const EDITS_IGNORED: &str = "EditsIgnored";

/// Sets a condition that is there only while there is something to say.
pub fn remark(
    status: &mut FirmwareRolloutStatus,
    kind: &str,
    reason: &str,
    message: Option<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let Some(message) = message else { return status.conditions.retain(|c| c.kind != kind) };
    let new = Condition {
        kind: kind.to_owned(),
        status: "True".to_owned(),
        observed_generation: generation,
        last_transition_time: Time::whole_seconds(now),
        reason: reason.to_owned(),
        message: bounded(&message, LONGEST_MESSAGE),
    };
    condition::set(&mut status.conditions, new);
}

/// At most so many characters, on one line, and none that steers whoever reads it: a sentence may quote what users and the
/// cloud wrote.
pub fn bounded(text: &str, most: usize) -> String {
    clean(text, most)
}

/// Something worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// The event's reason.
    pub reason: String,
    /// The event's action: what tells two events of one reason apart, because recorders aggregate without the note.
    pub action: String,
    /// One sentence.
    pub note: String,
}

/// The events between two statuses: a stage that moved, a job that was recorded or is one too many, a
/// phase, a refused adoption, a new reason to need a person.
pub fn events(old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let normal =
        |reason: &str, action: String, note: String| Note { warning: false, reason: reason.to_owned(), action, note };
    for stage in &new.stages {
        let before = old.stages.iter().find(|s| s.name == stage.name && old.run == new.run);
        for job in stage.jobs.iter().filter(|j| before.is_none_or(|b| b.jobs.iter().all(|k| k.id != j.id))) {
            let (reason, note) = match &job.request_id {
                Some(request) => {
                    ("JobRecorded", format!("Job {} runs stage {} (RequestId {request})", job.id, stage.name))
                }
                None if new.handled.get("adopt") == Some(&job.id) && old.handled.get("adopt") != Some(&job.id) => {
                    ("JobAdopted", format!("Job {} was adopted for stage {} by command", job.id, stage.name))
                }
                None => {
                    ("JobAdopted", format!("Job {} of stage {} was found by its tag and adopted", job.id, stage.name))
                }
            };
            notes.push(normal(reason, format!("Stage-{}-{}-{}", stage.name, job.attempt, job.part), note));
        }
        for job in stage.jobs.iter().filter(|j| j.accepted.is_some()) {
            let before = before.and_then(|b| b.jobs.iter().find(|k| k.id == job.id)).and_then(|j| j.accepted);
            let ended = |a: Option<status::AcceptedChange>| a.map(|a| a.ended);
            let changed = external::of(job).filter(|_| ended(before) != ended(job.accepted));
            if let Some(change) = changed {
                let note = format!(
                    "Job {} of stage {} {} outside of this rollout; it is accepted",
                    job.id,
                    stage.name,
                    change.told()
                );
                notes.push(normal("ExternalChangeAccepted", format!("Job-{}", job.id), note));
            }
        }
        if let Some(before) = before.filter(|b| b.attempt < stage.attempt) {
            let because = stage.message.as_deref().unwrap_or("by command");
            notes.push(Note {
                warning: stage.reason.as_deref() == Some("Recreated"),
                reason: "StageRetried".to_owned(),
                action: format!("Stage-{}-{}", stage.name, stage.attempt),
                note: bounded(
                    &format!(
                        "Attempt {} of stage {} follows attempt {}: {because}",
                        stage.attempt, stage.name, before.attempt
                    ),
                    1_000,
                ),
            });
        }
        if before.map(|b| b.state) == Some(stage.state) {
            continue;
        }
        let because = stage.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        let (reason, verb) = match stage.state {
            StageState::Passed => ("StagePassed", "passed"),
            StageState::Skipped => ("StageSkipped", "was skipped"),
            StageState::Failed => ("StageFailed", "failed"),
            StageState::Aborted => ("StageAborted", "was aborted"),
            _ => continue,
        };
        notes.push(Note {
            warning: stage.state == StageState::Failed,
            reason: reason.to_owned(),
            action: format!("Stage-{}", stage.name),
            note: bounded(&format!("Stage {} {verb}{because}", stage.name), 1_000),
        });
    }
    for many in new.duplicates.iter().filter(|d| old.duplicates.iter().all(|o| o.id != d.id)) {
        notes.push(Note {
            warning: true,
            reason: "DuplicateJob".to_owned(),
            action: bounded(&format!("Job-{}", many.id), 128),
            note: format!(
                "Job {} carries the tag of stage {}, which it is not the job of: its pending tasks are being cancelled",
                many.id, many.stage
            ),
        });
    }
    if let Some(why) = new.adopt_refused.as_ref().filter(|why| old.adopt_refused.as_ref() != Some(*why)) {
        notes.push(Note {
            warning: true,
            reason: "AdoptRefused".to_owned(),
            action: bounded(&format!("Adopt-{}", new.handled.get("adopt").map_or("", String::as_str)), 128),
            note: why.clone(),
        });
    }
    let run = format!("Run-{}", new.run);
    let version =
        |s: &FirmwareRolloutStatus| s.firmware.as_ref().map_or_else(String::new, |f| format!(" ({})", f.version));
    if told(new, "Reconciling") == Some("Superseding") && told(old, "Reconciling") != Some("Superseding") {
        let note = format!("Run {}{} is left: the firmware changed", new.run, version(new));
        notes.push(normal("Superseded", run.clone(), note));
    }
    let message = || condition::find(&new.conditions, "Ready").map(|c| c.message.clone()).unwrap_or_default();
    match (old.phase, new.phase) {
        _ if new.run != old.run && stage::reverted(new) => notes.push(normal("Reverted", run, message())),
        _ if new.run != old.run && new.run > 1 => {
            notes.push(normal("RunStarted", run, format!("Run {} starts: the firmware changed", new.run)));
        }
        (before, after) if before == after => {}
        (_, Some(Phase::Completed)) => {
            let note = format!("Run {}{} is complete: every stage passed", new.run, version(new));
            notes.push(normal("Completed", run, note));
        }
        (_, Some(Phase::Paused)) => notes.push(normal("Paused", run, message())),
        (Some(Phase::Paused), Some(after)) if !after.is_given_up() => {
            notes.push(normal("Resumed", run, message()));
        }
        _ => {}
    }
    let stalled = |s: &status::FirmwareRolloutStatus| {
        condition::find(&s.conditions, "Stalled")
            .filter(|c| c.status == "True")
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    if let Some((reason, message)) = stalled(new)
        && stalled(old).is_none_or(|(r, _)| r != reason)
    {
        notes.push(Note { warning: true, action: format!("Stalled-{reason}"), reason, note: bounded(&message, 1_000) });
    }
    notes
}

/// The reason of a condition that holds.
fn told<'a>(status: &'a FirmwareRolloutStatus, kind: &str) -> Option<&'a str> {
    condition::find(&status.conditions, kind).filter(|c| c.status == "True").map(|c| c.reason.as_str())
}

/// A status without what moves at every poll: two that agree in this differ only in progress.
pub fn essence(status: &FirmwareRolloutStatus) -> FirmwareRolloutStatus {
    let mut essence = status.clone();
    essence.progress = None;
    essence.gate = essence.gate.map(|mut gate| {
        (gate.decided, gate.pushed, gate.failure_percent) = (0, 0, None);
        gate
    });
    let going_on = condition::find(&status.conditions, "Reconciling").is_some_and(|c| c.status == "True");
    if going_on {
        // What it waits for within a stage changes often, and follows from the rest.
        essence.next = None;
        for condition in &mut essence.conditions {
            (condition.reason, condition.message) = Default::default();
        }
    }
    for job in essence.stages.iter_mut().flat_map(|s| &mut s.jobs) {
        job.counts = None;
        job.moving = 0;
        if let Some(accepted) = &mut job.accepted {
            accepted.cancelled = 0;
        }
        if let Some(view) = &mut job.view {
            view.utc_modified = None;
        }
    }
    essence
}
