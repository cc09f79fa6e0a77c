//! One pass: read, decide, carry out at most one effect, write the status, end.
//!
//! The order of effect and write is the exactly-once protocol's: a claim is written before its create, a record after.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, info, warn};

use crate::api::status::Claim;
use crate::api::{FirmwareRollout, FirmwareRolloutStatus};
use crate::ota::outcome::Outcome;
use crate::ota::{Request, Stamp};
use crate::rollout::observed::{self, NameList, Verdict};
use crate::rollout::{Act, Step, absorb, claim, decide, names, stage, story};
use crate::sabotage::{Bad, on};

use super::memory::Memory;
use super::world::{Key, World, WriteError};

/// How often a recorded job's write is tried again on a newer version of the object. Losing it is harmless: the look-up
/// finds the job by its tag.
const RECORD_TRIES: usize = 5;

/// What to do after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Something happened: pass again at once.
    Again,
    /// Nothing to do until something changes.
    Rest,
    /// An error: pass again after a pause.
    Pause,
}

/// One pass over one rollout. `progress` is the least time between two writes of progress alone.
pub async fn pass<W: World>(world: &W, memory: &Memory, key: &Key, progress: Duration) -> After {
    let Some(rollout) = world.rollout(key).filter(|rollout| world.leadership(rollout).is_some()) else {
        return After::Rest;
    };
    let step = decided(world, memory, &rollout).await;
    debug!(rollout = %key, act = ?step.act, because = %step.because, "decided");
    let done = carry_out(world, memory, key, &rollout, step, progress).await;
    match done {
        Ok(after) => after,
        Err(WriteError::Conflict) => {
            // Whatever was decided rests on an old version: read again before anything else.
            world.refresh(key).await;
            After::Again
        }
        Err(WriteError::Gone | WriteError::NotOurs) => After::Rest,
        Err(error) => {
            warn!(rollout = %key, %error, "a write failed");
            world.refresh(key).await;
            After::Pause
        }
    }
}

/// Whether a pass would do anything: what the poller asks before it wakes somebody.
pub async fn is_due<W: World>(world: &W, memory: &Memory, rollout: &FirmwareRollout, progress: Duration) -> bool {
    let step = decided(world, memory, rollout).await;
    step.act != Act::Wait || is_worth_writing(world, memory, rollout, &step.status, progress)
}

async fn decided<W: World>(world: &W, memory: &Memory, rollout: &FirmwareRollout) -> Step {
    let mut observed = memory.observed(rollout, world.monotonic());
    observed.account = Some(world.account(rollout).await);
    observed.rival = world.rival(rollout);
    if let Some(from) = names::wanted(rollout) {
        observed.list = Some(NameList { from: from.clone(), names: world.names(rollout, from).await });
    }
    if observed.asks_for_siblings(rollout.status.as_ref()) {
        observed.siblings = world.siblings(rollout);
    }
    decide(rollout, &observed, world.wall())
}

async fn carry_out<W: World>(
    world: &W,
    memory: &Memory,
    key: &Key,
    rollout: &FirmwareRollout,
    step: Step,
    progress: Duration,
) -> Result<After, WriteError> {
    match step.act {
        Act::Wait => {
            let wrote = write_if_due(world, memory, rollout, &step.status, progress).await?;
            Ok(if wrote { After::Again } else { After::Rest })
        }
        Act::AddFinalizer => {
            ours(world, rollout)?;
            world.set_finalizer(rollout, true).await.map(|()| After::Again)
        }
        Act::Release => {
            ours(world, rollout)?;
            world.set_finalizer(rollout, false).await?;
            info!(rollout = %key, "released");
            Ok(After::Rest)
        }
        Act::Claim => {
            if on(Bad::CreateBeforeClaim)
                && let Some(request) = step.status.claim.as_ref().and_then(|claim| claim::request(claim, &[]))
            {
                world.create(rollout, &request).await;
            }
            write(world, rollout, &step.status).await?;
            if let Some(claim) = &step.status.claim {
                memory.issue(rollout, claim, world.monotonic());
            }
            Ok(After::Again)
        }
        Act::Withdraw => {
            if let Some(claim) = rollout.status.as_ref().and_then(|s| s.claim.as_ref()) {
                memory.redeem(rollout, claim, world.monotonic());
            }
            write(world, rollout, &step.status).await.map(|()| After::Again)
        }
        Act::Create(request) => {
            let Some(claim) = rollout.status.as_ref().and_then(|s| s.claim.clone()) else { return Ok(After::Again) };
            // Not yet: the ticket is kept for when it is.
            if !outlasts(world, rollout)? {
                return Ok(After::Rest);
            }
            if !memory.redeem(rollout, &claim, world.monotonic()) {
                return Ok(After::Again);
            }
            let outcome = send(world, memory, key, rollout, &claim, &request, true).await;
            if observed::verdict(&outcome) == Verdict::PutOff {
                return Ok(After::Again);
            }
            record(world, key, rollout, &step.status, &outcome).await
        }
        Act::Replay(request) => {
            let Some(claim) = rollout.status.as_ref().and_then(|s| s.claim.clone()) else { return Ok(After::Again) };
            if !outlasts(world, rollout)? {
                return Ok(After::Rest);
            }
            match send(world, memory, key, rollout, &claim, &request, false).await {
                outcome @ Outcome::Accepted { .. } => record(world, key, rollout, &step.status, &outcome).await,
                // What it says is in the memory: the next decision tells of it.
                _ => Ok(After::Again),
            }
        }
        Act::Cancel(..) | Act::EndPolicy(_) if world.leadership(rollout).is_none() => Err(WriteError::NotOurs),
        Act::Cancel(ref job, _) | Act::EndPolicy(ref job) => {
            let outcome = match step.act {
                Act::Cancel(_, pending) => world.cancel(rollout, job, pending).await,
                _ => world.end_policy(rollout, job).await,
            };
            match outcome {
                Ok(()) => {
                    info!(rollout = %key, %job, act = ?step.act, "cancelled");
                    let now = world.monotonic();
                    memory.change(rollout, |known| known.cancelled.insert(job.clone(), now));
                    write_if_due(world, memory, rollout, &step.status, progress).await?;
                    Ok(After::Again)
                }
                Err(error) => {
                    let request_id = error.request_id.as_deref();
                    warn!(rollout = %key, %job, request_id, %error, "cancel not accepted");
                    write_if_due(world, memory, rollout, &step.status, progress).await?;
                    Ok(After::Pause)
                }
            }
        }
    }
}

/// Sends a claim's create and notes how that ended.
async fn send<W: World>(
    world: &W,
    memory: &Memory,
    key: &Key,
    rollout: &FirmwareRollout,
    claim: &Claim,
    request: &Request,
    ticketed: bool,
) -> Outcome {
    let anew = on(Bad::PauseBeforeSend).then(|| stamped_anew(request, world.wall()));
    let outcome = world.create(rollout, anew.as_ref().unwrap_or(request)).await;
    memory.sent(rollout, claim, &outcome, ticketed, world.monotonic());
    match &outcome {
        Outcome::Accepted { job_id, request_id, .. } => {
            info!(rollout = %key, stage = %claim.stage, job = %job_id, %request_id, "job created");
        }
        Outcome::Rejected(error) | Outcome::Unknown(error) => {
            let request_id = error.request_id.as_deref();
            warn!(rollout = %key, stage = %claim.stage, epoch = claim.epoch, request_id, %error, "create not accepted");
        }
    }
    outcome
}

/// The request under a nonce and a time of its own.
fn stamped_anew(request: &Request, now: Timestamp) -> Request {
    let anew = |stamp: &Stamp| Stamp { nonce: format!("sabotage-{now}"), at: now, ..stamp.clone() };
    Request { stamp: request.stamp.as_ref().map(anew), ..request.clone() }
}

/// Writes what a create's outcome makes of the status: on a conflict, of the newer version, as long as its claim is the
/// same one.
async fn record<W: World>(
    world: &W,
    key: &Key,
    rollout: &FirmwareRollout,
    decided: &FirmwareRolloutStatus,
    outcome: &Outcome,
) -> Result<After, WriteError> {
    let claim = decided.claim.clone();
    let mut current = rollout.clone();
    let mut base = decided.clone();
    for _ in 0..RECORD_TRIES {
        let generation = current.metadata.generation.unwrap_or(0);
        let status = absorb::create(&base, outcome, generation, world.wall());
        match write(world, &current, &status).await {
            Err(WriteError::Conflict | WriteError::Other(_)) => {}
            done => return done.map(|()| After::Again),
        }
        let Some(newer) = world.refresh(key).await else { continue };
        base = newer.status.clone().unwrap_or_default();
        if base.claim != claim {
            return Ok(After::Again);
        }
        current = (*newer).clone();
    }
    Err(WriteError::Conflict)
}

/// How much longer the rollout is ours: asked right before every effect, for a process may be stopped at any point.
fn ours<W: World>(world: &W, rollout: &FirmwareRollout) -> Result<Duration, WriteError> {
    world.leadership(rollout).ok_or(WriteError::NotOurs)
}

/// Whether the leadership outlasts a create: another replica must not begin while ours may still arrive. Where it does
/// not, a renewal is asked for, and brings the next pass.
fn outlasts<W: World>(world: &W, rollout: &FirmwareRollout) -> Result<bool, WriteError> {
    let enough = ours(world, rollout)? > world.longest_create();
    if !enough {
        world.prolong(rollout);
    }
    Ok(enough)
}

async fn write<W: World>(
    world: &W,
    rollout: &FirmwareRollout,
    status: &FirmwareRolloutStatus,
) -> Result<(), WriteError> {
    let none = FirmwareRolloutStatus::default();
    let old = rollout.status.as_ref().unwrap_or(&none);
    if let Some(why) = stage::violation(old, status).filter(|_| !stage::told_alike(old, status)) {
        return Err(WriteError::Other(format!("a status that must not be: {why}")));
    }
    ours(world, rollout)?;
    let unversioned = on(Bad::ApplyWithoutVersion).then(|| {
        let mut rollout = rollout.clone();
        rollout.metadata.resource_version = None;
        rollout
    });
    world.write_status(unversioned.as_ref().unwrap_or(rollout), status).await?;
    // The write was ours, so the story is ours to tell; unless the answer came so late that somebody else tells on.
    ours(world, rollout)?;
    let notes = story::events(old, status);
    world.announce(rollout, &notes).await;
    Ok(())
}

/// Writes a status if it says something new; progress alone only so often.
async fn write_if_due<W: World>(
    world: &W,
    memory: &Memory,
    rollout: &FirmwareRollout,
    status: &FirmwareRolloutStatus,
    progress: Duration,
) -> Result<bool, WriteError> {
    if !is_worth_writing(world, memory, rollout, status, progress) {
        return Ok(false);
    }
    write(world, rollout, status).await?;
    let now = world.monotonic();
    memory.change(rollout, |known| known.written = Some(now));
    Ok(true)
}

fn is_worth_writing<W: World>(
    world: &W,
    memory: &Memory,
    rollout: &FirmwareRollout,
    new: &FirmwareRolloutStatus,
    progress: Duration,
) -> bool {
    let none = FirmwareRolloutStatus::default();
    let old = rollout.status.as_ref().unwrap_or(&none);
    if old == new {
        return false;
    }
    let now = world.monotonic();
    story::essence(old) != story::essence(new)
        || memory.change(rollout, |known| known.written.is_none_or(|at| now.saturating_sub(at) >= progress))
}
