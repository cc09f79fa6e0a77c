//! The examination: what is asked of the cloud, in which order, and how often when it does not answer. What the answers
//! mean never comes in.

use std::time::Duration;

use crate::clock;
use crate::ota::calls::{self, CallContext};
use crate::ota::changing;
use crate::ota::code::{self, Class};
use crate::ota::{Api, CallError, Operation, Outcome, Request};

use super::Order;
use super::harmless::{ACTIONS, Nothing, Sending, stamped};
use super::history;
use super::laboratory::{self, Leftover};
use super::seen::{Repeated, Reply, Seen, Way};
use super::witness::Witness;

/// How often something harmless is asked before its answer counts as missing.
const ATTEMPTS: u32 = 5;
/// Pause before it is asked again; grows with each attempt. A throttle makes the client wait by itself.
const PAUSE: Duration = Duration::from_millis(400);

/// Whom we examine, and what for.
pub struct Patient<'a, A> {
    /// The cloud.
    pub api: Witness<A>,
    /// What every call carries.
    pub ctx: CallContext,
    /// Who sends, and how it is signed.
    pub sending: Sending,
    /// What was asked for.
    pub order: &'a Order,
    /// Tells a person what is about to happen.
    pub announce: &'a (dyn Fn(&str) + Send + Sync),
}

impl<A: Api> Patient<'_, A> {
    /// Asks something that may be asked again: until there is an answer to keep, or none is to be had.
    pub(super) async fn ask<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut attempt = 1;
        loop {
            match call().await {
                Err(error) if attempt < ATTEMPTS && passes(&error) => tokio::time::sleep(PAUSE * attempt).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// Sends a request twice as it is; again with another nonce, where the first copy said nothing. Returns the last one.
    async fn twice(&self, way: Way, request: &Request, seen: &mut Seen) -> Request {
        let mut attempt = 1;
        loop {
            let copy = stamped(request.clone(), clock::wall(), &self.sending);
            let (first, second) = if way == Way::Together {
                let (first, second) = futures::join!(self.reply(&copy), self.reply(&copy));
                // Who of the two came first is not known: the one that was carried out is called so.
                if second == Reply::Done { (second, first) } else { (first, second) }
            } else {
                let first = self.reply(&copy).await;
                (first, self.again(&copy).await)
            };
            seen.repeated.push(Repeated { way, first, second });
            let tells = matches!(first, Reply::Done | Reply::Refused) && is_clear(second);
            if tells || attempt == ATTEMPTS {
                return copy;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }

    /// A further copy of a request that was sent before.
    async fn again(&self, copy: &Request) -> Reply {
        let mut reply = self.reply(copy).await;
        for attempt in 1..ATTEMPTS {
            if is_clear(reply) {
                break;
            }
            tokio::time::sleep(PAUSE * attempt).await;
            reply = self.reply(copy).await;
        }
        reply
    }

    async fn reply(&self, request: &Request) -> Reply {
        calls::send(&self.api, request).await.map_or_else(|error| reply(&error), |()| Reply::Done)
    }
}

/// Whether asking again may help.
fn passes(error: &CallError) -> bool {
    let in_vain = [code::NOT_SENT, code::INVALID_TIME_STAMP_EXPIRED, code::INVALID_SECURITY_TOKEN_EXPIRED];
    error.class != Class::Terminal && !in_vain.iter().any(|code| error.is(code))
}

fn is_clear(reply: Reply) -> bool {
    !matches!(reply, Reply::Throttled | Reply::Unclear)
}

/// What an error says about the gateway and the nonce.
pub(super) fn reply(error: &CallError) -> Reply {
    if error.is(code::SIGNATURE_NONCE_USED) {
        Reply::NonceUsed
    } else if code::is_throttling(&error.code, 0) {
        Reply::Throttled
    } else if error.class == Class::Terminal && !code::is_denial(&error.code) {
        Reply::Refused
    } else {
        Reply::Unclear
    }
}

/// Everything that can be found out. `leftover` says at any time which job would be left behind.
pub async fn examine<A: Api>(patient: &Patient<'_, A>, leftover: &Leftover) -> Seen {
    let mut seen = Seen::default();
    let first = patient.ask(|| calls::probe(&patient.api, &patient.ctx)).await;
    // Without this one permission the others can still be tried. Whatever else is wrong would be wrong with each call.
    let go_on = first.as_ref().err().is_none_or(|error| code::is_denial(&error.code));
    seen.first = Some(first.map(|_| ()));
    if go_on {
        packages(patient, &mut seen).await;
        let nothing = Nothing::draw();
        actions(patient, &nothing, &mut seen).await;
        let kept = repeats(patient, &nothing, &mut seen).await;
        history::read(patient, &mut seen).await;
        laboratory::verify(patient, &mut seen, leftover).await;
        if let Some((kept, first)) = kept {
            // What the gateway refused at once it must refuse later on, too.
            let second = patient.again(&kept).await;
            seen.repeated.push(Repeated { way: Way::Later, first, second });
        }
    }
    seen.traffic = patient.api.traffic();
    seen
}

async fn packages<A: Api>(patient: &Patient<'_, A>, seen: &mut Seen) {
    let (api, ctx, order) = (&patient.api, &patient.ctx, patient.order);
    let all = patient.ask(|| calls::list_product_firmware(api, ctx, &order.product_key)).await;
    seen.packages = Some(all.map(|read| read.value));
    if let Some(id) = &order.firmware {
        let read = patient.ask(|| calls::query_firmware(api, ctx, id)).await;
        seen.firmware = Some((id.clone(), read.map(|read| read.value)));
    }
}

/// Reads that are sent twice; returns the first of them, and what was answered to it.
async fn repeats<A: Api>(patient: &Patient<'_, A>, nothing: &Nothing, seen: &mut Seen) -> Option<(Request, Reply)> {
    let (ctx, product) = (&patient.ctx, patient.order.product_key.as_str());
    let read = match (&seen.first, &seen.firmware) {
        (Some(Ok(())), _) => nothing.request(ctx, product, Operation::ListOTAFirmware)?,
        (_, Some((id, Ok(_)))) => ctx.request(Operation::QueryOTAFirmware, [("FirmwareId", id.to_string())]),
        // Nothing can be read, so nothing can be carried out a second time.
        _ => return None,
    };
    let kept = patient.twice(Way::Read, &read, seen).await;
    let first = seen.repeated.last().map_or(Reply::Unclear, |repeated| repeated.first);
    patient.twice(Way::Together, &read, seen).await;
    let refused = nothing.request(ctx, product, Operation::QueryOTAJob)?;
    patient.twice(Way::Refused, &refused, seen).await;
    Some((kept, first))
}

/// One request of each action, none of which has an effect.
async fn actions<A: Api>(patient: &Patient<'_, A>, nothing: &Nothing, seen: &mut Seen) {
    for operation in &ACTIONS {
        let request = nothing.request(&patient.ctx, &patient.order.product_key, *operation);
        let Some(request) = request else { continue };
        let answer = if operation.creates() {
            // Asked again where the answer says nothing: whatever became of the first, it was nothing.
            patient.ask(|| async { job_of(calls::create(&patient.api, &request).await) }).await
        } else {
            patient.ask(|| calls::send(&patient.api, &request)).await.map(|()| None)
        };
        if let Ok(Some(job)) = &answer {
            // Cannot be. Should some cloud do it all the same, the job has no device, and shall not get one.
            laboratory::cancel(patient, job).await;
            if *operation == Operation::CreateOTADynamicUpgradeJob {
                // What cannot be ended is told with the rest.
                let _ = patient.ask(|| changing::cancel_policy(&patient.api, &patient.ctx, job)).await;
            }
            seen.impossible_job = Some(job.clone());
        }
        seen.actions.insert(*operation, answer.map(|_| ()));
    }
}

fn job_of(outcome: Outcome) -> Result<Option<crate::ota::JobId>, CallError> {
    match outcome {
        Outcome::Accepted { job_id, .. } => Ok(Some(job_id)),
        Outcome::Rejected(error) | Outcome::Unknown(error) => Err(error),
    }
}
