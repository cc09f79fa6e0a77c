//! What an effect's outcome makes of a status. The effect itself was carried out by the shell.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{Claim, FirmwareRolloutStatus, JobStatus, Refusal, StageKind, StageState};
use crate::api::{Percent, Time};
use crate::ota::code::{self, Class, Requeue};
use crate::ota::id::JobId;
use crate::ota::outcome::{CallError, Outcome};

use super::observed::{self, Tagged, Verdict};
use super::owner::Own;
use super::stage;
use super::story::{Situation, bounded, tell};
use crate::sabotage::{Bad, on};

/// First pause after a refusal that closed its claim and is worth another try, in seconds; doubles up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: i64 = 5;
/// Longest one, in seconds, whatever the cloud asks for: a pause that ends later was reckoned by a clock that has been
/// set right since.
const LONGEST_PAUSE: i64 = 300;

/// The outcome of a claim's create, sent by its ticket. Taken: the job is recorded. Refused for good: the claim is over.
/// Put off: the claim stays, and the identical request is sent again. Unknown: the claim stays, and is marked as sent.
pub fn create(
    status: &FirmwareRolloutStatus,
    outcome: &Outcome,
    generation: i64,
    now: Timestamp,
) -> FirmwareRolloutStatus {
    let mut status = status.clone();
    match (outcome, observed::verdict(outcome)) {
        (Outcome::Accepted { job_id, utc_create, request_id }, _) => {
            record(&mut status, job_id, *utc_create, Some(request_id.as_str()));
            let running = Situation::waiting("JobStarted", "the job was created; its devices are being counted");
            tell(&mut status, &running, Some(generation), now);
        }
        (Outcome::Rejected(error) | Outcome::Unknown(error), Verdict::Refused) => {
            let situation = refuse(&mut status, error, generation, now);
            tell(&mut status, &situation, Some(generation), now);
        }
        (_, Verdict::PutOff) => {}
        (_, Verdict::Unknown) if on(Bad::RetryOnTimeout) => {
            withdraw(&mut status);
        }
        (Outcome::Rejected(error) | Outcome::Unknown(error), verdict) => {
            if let Some(claim) = status.claim.as_mut().filter(|_| verdict == Verdict::Unknown) {
                claim.sent = true;
            }
            let unknown = Situation::waiting(
                "OutcomeUnknown",
                format!("whether the create took effect is not known ({error}); looking for its tag"),
            );
            tell(&mut status, &unknown, Some(generation), now);
        }
    }
    status
}

/// A claim's create was put off: shown beside the claim, which stays.
pub fn put_off(
    status: &mut FirmwareRolloutStatus,
    error: &CallError,
    count: u32,
    now: Timestamp,
    left: Duration,
) -> Situation {
    let stage = status.claim.as_ref().map(|c| c.stage.clone()).unwrap_or_default();
    let generation = status.observed_generation.unwrap_or(0);
    let retry_at = SignedDuration::try_from(left).ok().and_then(|left| now.checked_add(left).ok()).unwrap_or(now);
    let refusal = refusal(error, generation, i32::try_from(count).unwrap_or(i32::MAX), Some(retry_at));
    let situation = refused(&stage, &refusal);
    if let Some(entry) = status.stages.iter_mut().find(|s| s.name == stage) {
        // One write per send: what is left of the pause shrinks from pass to pass.
        let told = entry.refusal.as_ref().filter(|old| old.count == refusal.count && old.code == refusal.code);
        if let Some(told) = told {
            return refused(&stage, told);
        }
        entry.refusal = Some(refusal);
    }
    situation
}

/// Records a claim's job and ends the claim.
pub fn record(
    status: &mut FirmwareRolloutStatus,
    job_id: &JobId,
    utc_create: Option<Timestamp>,
    request_id: Option<&str>,
) {
    let Some(claim) = status.claim.take() else { return };
    let job = JobStatus {
        request_id: request_id.map(|id| bounded(id, 64)),
        sent_percent: claim.call.parameters.get("GrayPercent").and_then(|p| Percent::parse(p).ok()),
        succeeded_before: claim.succeeded_before,
        ..unclaimed(job_id, claim.attempt, claim.part, claim.token, utc_create)
    };
    take(status, &claim.stage, job);
}

/// A job without a claim of ours to go with it.
pub fn unclaimed(id: &JobId, attempt: i32, part: i32, token: String, utc_create: Option<Timestamp>) -> JobStatus {
    JobStatus {
        id: id.as_str().to_owned(),
        attempt,
        part,
        token,
        utc_create: utc_create.map(Time),
        request_id: None,
        sent_percent: None,
        succeeded_before: 0,
        total: None,
        cancelled_before: 0,
        counts: None,
        moving: 0,
        drained: false,
        gone: false,
        accepted: None,
        view: None,
    }
}

/// Takes a job in as a stage's: that runs from now on.
pub fn take(status: &mut FirmwareRolloutStatus, stage: &str, job: JobStatus) {
    if let Some(entry) = status.stages.iter_mut().find(|s| s.name == stage) {
        if entry.jobs.iter().all(|j| j.id != job.id) {
            entry.jobs.push(job);
        }
        entry.refusal = None;
        if stage::legal(entry.state, StageState::Running) {
            entry.state = StageState::Running;
        }
    }
}

/// A job of a part whose claim was over when it showed up. `succeeded`: devices of the run's gray jobs by now.
pub fn late(status: &mut FirmwareRolloutStatus, own: &Own, job: &Tagged, succeeded: i64) {
    let found = unclaimed(&job.id, own.attempt, own.part, job.token.clone(), job.utc_create);
    take(status, &own.stage, JobStatus { succeeded_before: succeeded, ..found });
}

/// Ends a claim whose create surely had no effect.
pub fn withdraw(status: &mut FirmwareRolloutStatus) -> Option<Claim> {
    let claim = status.claim.take()?;
    if let Some(entry) = status.stages.iter_mut().find(|s| s.name == claim.stage)
        && stage::legal(entry.state, StageState::Pending)
    {
        entry.state = StageState::Pending;
    }
    Some(claim)
}

/// Ends a claim whose create was refused for good, or because of somebody else's job.
pub fn refuse(status: &mut FirmwareRolloutStatus, error: &CallError, generation: i64, now: Timestamp) -> Situation {
    let none = || Situation::waiting("ClaimWithdrawn", "the create was refused");
    let Some(claim) = withdraw(status) else { return none() };
    let upgraded_before = status
        .stages
        .iter()
        .filter(|s| s.name != claim.stage && s.kind != StageKind::Verify)
        .any(|s| !s.jobs.is_empty());
    let Some(entry) = status.stages.iter_mut().find(|s| s.name == claim.stage) else { return none() };
    if code::same(&error.code, code::NO_DEVICE_CAN_UPGRADE) && upgraded_before {
        // Earlier steps took every device there was: nothing is left to do in this one.
        entry.state = StageState::Passed;
        entry.reason = Some("NothingLeft".to_owned());
        entry.message = Some("no device is left that can be upgraded".to_owned());
        entry.refusal = None;
        return Situation::waiting("NothingLeft", format!("no device is left for stage {}", claim.stage));
    }
    let count = entry.refusal.as_ref().filter(|r| r.generation == generation).map_or(1, |r| r.count.saturating_add(1));
    let meaning = error.meaning();
    let again = meaning.requeue != Requeue::AfterEdit || matches!(error.class, Class::Transient | Class::Unknown);
    let grown = FIRST_PAUSE.saturating_mul(1 << count.clamp(1, 10).saturating_sub(1)).min(LONGEST_PAUSE);
    let pause = if meaning.requeue == Requeue::Slowly { LONGEST_PAUSE } else { grown };
    let hinted = error.retry_after.map_or(0, |after| i64::try_from(after.as_secs()).unwrap_or(LONGEST_PAUSE) + 1);
    let retry_at =
        again.then(|| now.checked_add(SignedDuration::from_secs(pause.max(hinted).min(LONGEST_PAUSE))).unwrap_or(now));
    let refusal = refusal(error, generation, count, retry_at);
    let situation = refused(&claim.stage, &refusal);
    entry.refusal = Some(refusal);
    situation
}

/// Whether a refused create may be tried again, as far as time goes.
pub fn is_due(refusal: &Refusal, now: Timestamp) -> bool {
    let left = refusal.retry_at.map(|at| at.0.duration_since(now));
    left.is_some_and(|left| left <= SignedDuration::ZERO || left > SignedDuration::from_secs(LONGEST_PAUSE))
}

/// What the cloud said, within the bounds of a status.
fn refusal(error: &CallError, generation: i64, count: i32, retry_at: Option<Timestamp>) -> Refusal {
    let message = match error.missing_action() {
        Some(action) => format!("{action} is not allowed: {}", error.message),
        None => error.message.clone(),
    };
    Refusal {
        code: bounded(&error.code, 128),
        message: bounded(&message, 256),
        request_id: error.request_id.as_ref().map(|id| bounded(id, 64)),
        generation,
        count,
        retry_at: retry_at.map(Time::whole_seconds),
    }
}

/// How a refusal is told.
pub fn refused(stage: &str, refusal: &Refusal) -> Situation {
    // It had no effect: a code that nobody knows came with HTTP 429.
    let meaning = match code::meaning(&refusal.code, 0) {
        unclear if unclear.class == Class::Unknown => code::meaning(&refusal.code, 429),
        known => known,
    };
    let request = refusal.request_id.as_deref().map(|id| format!(", RequestId {id}")).unwrap_or_default();
    let said = format!("{} ({}{request})", refusal.message, refusal.code);
    let until = refusal.retry_at.map(|at| at.0);
    match meaning.requeue {
        Requeue::Soon => {
            let because = format!("the cloud put off stage {stage}: {said}; trying again; {}", meaning.advice);
            Situation::waiting(meaning.reason, because).until(until)
        }
        Requeue::Slowly => {
            let because = format!("the cloud refused stage {stage}: {said}; {}; it is tried again", meaning.advice);
            Situation::stalled(meaning.reason, because).until(until)
        }
        Requeue::AfterEdit => {
            let because =
                format!("the cloud refused stage {stage}: {}; {said}; edit the rollout to try again", meaning.advice);
            Situation::stalled(meaning.reason, because).until(until)
        }
    }
}
