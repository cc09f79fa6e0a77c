//! A claim that was written and whose job is not recorded: execute it, withdraw it, or recover it. What comes after the
//! job is recorded never comes in here.
//!
//! Whoever holds the claim's ticket may send it or withdraw it. Everybody else first writes that it may have been sent;
//! from then on nobody withdraws it, and it ends in one of two ways: its job is found, or its epoch is over and the job
//! is not there.

use super::*;
use crate::rollout::call::{self, Source};
use crate::rollout::owner;
use crate::sabotage::{Bad, on};

/// After this by the cloud's clock a create is not repeated any more: well before its timestamp expires, and before the
/// gateway may forget its nonce.
const REPLAY_WINDOW: SignedDuration = SignedDuration::from_secs(10 * 60);
/// Empty full listings that a look-up takes.
const EMPTY_LISTINGS: usize = 2;
/// Empty full listings before a create is repeated: the nonce is what makes the repetition safe.
const LISTINGS_BEFORE_REPLAY: usize = 1;

impl<'a> Draft<'a> {
    /// A claim that was written and whose job is not recorded.
    pub(super) fn resolve(&mut self, claim: &Claim) -> Decision {
        match self.observed.ticket {
            Ticket::Expired => self.withdraw("the claim was not used in time"),
            Ticket::None => self.recover(claim),
            Ticket::Guarded => self.guarded(claim),
            Ticket::Fresh | Ticket::PutOff => match self.executable(claim) {
                Err(because) => self.withdraw(because),
                Ok(request) => self.execute(claim, request),
            },
        }
    }

    /// Sends a claim by its ticket, after the pause that the cloud asked for.
    fn execute(&mut self, claim: &Claim, request: Request) -> Decision {
        if let Some(decision) = self.put_off() {
            return decision;
        }
        if self.observed.cloud.is_some_and(|date| date.duration_since(claim.at.0) > REPLAY_WINDOW) {
            return self.take_over(claim);
        }
        let told = Situation::waiting("Creating", format!("creating the job of stage {}", claim.stage));
        (Act::Create(Box::new(request)), told)
    }

    /// The pause before the claim may be sent again, while it lasts.
    fn put_off(&mut self) -> Option<Decision> {
        let sends = &self.observed.sends;
        let left = sends.again?.checked_sub(self.observed.monotonic).filter(|left| !left.is_zero())?;
        let error = sends.last.as_ref()?;
        Some((Act::Wait, absorb::put_off(&mut self.status, error, sends.count, self.now, left)))
    }

    /// The request of a claim, if it still means what the spec says.
    fn executable(&self, claim: &Claim) -> Result<Request, &'static str> {
        if self.rollout.metadata.deletion_timestamp.is_some() {
            return Err("the rollout is being deleted");
        }
        if self.suspended() {
            return Err("the rollout was suspended");
        }
        if self.status.phase == Some(Phase::Aborted) {
            return Err("the rollout was aborted");
        }
        if self.course() == Course::Superseded {
            return Err("the firmware changed");
        }
        let same = |a: &Account| a.sender() == claim::sender(&claim.call) && a.instance_id == claim.call.instance_id;
        if !self.account().is_ok_and(same) {
            return Err("the account changed");
        }
        let rebuilt = on(Bad::CallFromSpec).then(|| self.rebuilt(claim)).flatten();
        claim::request(rebuilt.as_ref().unwrap_or(claim), &self.devices_of(claim)).ok_or("the step's devices changed")
    }

    /// The claim with the call that the spec would make now.
    fn rebuilt(&self, claim: &Claim) -> Option<Claim> {
        let stage = self.plan.iter().find(|s| s.name == claim.stage)?;
        let account = self.account().ok()?;
        let percent = claim.call.parameters.get("GrayPercent").and_then(|p| Percent::parse(p).ok());
        let source = Source {
            product_key: &self.rollout.spec.product_key,
            source_versions: self.rollout.spec.source_versions.as_deref().unwrap_or_default(),
            stage,
            firmware_id: &claim.call.firmware_id,
            account,
            token: &claim.token,
            percent,
        };
        Some(Claim { call: call::call(&source), ..claim.clone() })
    }

    fn withdraw(&mut self, because: &'static str) -> Decision {
        absorb::withdraw(&mut self.status);
        (Act::Withdraw, Situation::waiting("ClaimWithdrawn", format!("{because}; nothing was sent")))
    }

    /// From this write on nobody withdraws the claim by its ticket.
    fn take_over(&mut self, claim: &Claim) -> Decision {
        if let Some(claim) = &mut self.status.claim {
            claim.sent = true;
        }
        wait("OutcomeUnknown", unknown(claim))
    }

    /// The only send was refused because of another job: ours, if it carries the tag.
    fn guarded(&mut self, claim: &Claim) -> Decision {
        let generation = self.generation();
        if let Some(decision) = self.adopt(claim) {
            return decision;
        }
        let sends = &self.observed.sends;
        match (&sends.last, sends.ended) {
            (Some(error), Some(ended)) if self.observed.lookup.empty_since(ended) >= EMPTY_LISTINGS => {
                let situation = absorb::refuse(&mut self.status, error, generation, self.now);
                (Act::Withdraw, situation)
            }
            _ => wait("OutcomeUnknown", unknown(claim)),
        }
    }

    /// Records the job that carries the claim's tag.
    fn adopt(&mut self, claim: &Claim) -> Option<Decision> {
        // Those that are known are too many, and being cancelled.
        let known: Vec<String> = owner::known(&self.status).map(str::to_owned).collect();
        let mut all = self.observed.lookup.found.iter().filter(|f| known.iter().all(|id| id != f.id.as_str()));
        let oldest = all.next()?;
        absorb::record(&mut self.status, &oldest.id, oldest.utc_create, None);
        for other in all.filter(|f| f.live) {
            self.note_duplicate(&other.id, &claim.stage);
        }
        Some(wait("JobStarted", format!("the job of stage {} was found by its tag", claim.stage)))
    }

    /// A claim without its ticket: whether it took effect is not known.
    fn recover(&mut self, claim: &Claim) -> Decision {
        if let Some(decision) = self.adopt(claim) {
            return decision;
        }
        let account = match self.account() {
            Ok(account) => account,
            Err(decision) => return *decision,
        };
        if (&account.endpoint, &account.instance_id) != (&claim.call.endpoint, &claim.call.instance_id) {
            return stall(
                "AccountChanged",
                format!(
                    "a create of stage {} was sent to {}: point the account back there",
                    claim.stage, claim.call.endpoint
                ),
            );
        }
        if self.is_over(claim) {
            return self.nothing_came_of(claim, account);
        }
        let expiry = claim.at.0.checked_add(EPOCH_EXPIRY).ok();
        let sends = &self.observed.sends;
        if let Some(error) = &sends.refused {
            let because = format!(
                "the cloud refused stage {}: {error}; an earlier copy of the create may still arrive, so nothing else \
                 is sent before then",
                claim.stage
            );
            return (Act::Wait, Situation::stalled("CreateRefused", because).until(expiry));
        }
        let request = match self.repeatable(claim, account) {
            Ok(request) => request,
            Err(why) => {
                let situation = Situation::waiting("OutcomeUnknown", format!("{} ({why})", unknown(claim)));
                return (Act::Wait, self.doubt(situation).until(expiry));
            }
        };
        if !claim.sent && !on(Bad::ReplayUnmarked) {
            return self.take_over(claim);
        }
        let situation = self.doubt(Situation::waiting("OutcomeUnknown", unknown(claim)));
        if sends.nonce_used.is_some() || self.observed.lookup.empty.len() < LISTINGS_BEFORE_REPLAY {
            return (Act::Wait, situation);
        }
        self.put_off().unwrap_or_else(|| (Act::Replay(Box::new(request)), situation))
    }

    /// The identical request, if it may be sent again.
    fn repeatable(&self, claim: &Claim, account: &Account) -> Result<Request, &'static str> {
        if claim.call.list_file {
            return Err("a create with a list file is not repeated: it would be another file");
        }
        let request = self.executable(claim)?;
        if account.replay == Replay::Settle {
            return Err("this account does not repeat creates");
        }
        match self.observed.cloud.map(|date| date.duration_since(claim.at.0)) {
            None => Err("the cloud's clock is not known yet"),
            // The gateway might forget the nonce before the timestamp expires.
            Some(age) if age < -MAX_SKEW => Err("it was made by a clock that was ahead"),
            Some(age) if age > REPLAY_WINDOW => Err("it is too old to be repeated"),
            Some(_) => Ok(request),
        }
    }

    /// Whether no copy of the claim's create can have an effect any more, and the full listings since then are without
    /// its tag.
    pub(super) fn is_over(&self, claim: &Claim) -> bool {
        let lookup = &self.observed.lookup;
        let enough = if on(Bad::EpochWithoutLag) { 1 } else { EMPTY_LISTINGS };
        let expiry = if on(Bad::ShortSettle) { MAX_SKEW } else { EPOCH_EXPIRY };
        let used = self.observed.sends.nonce_used;
        if on(Bad::EmptyBeforeEnd) && used.is_some() {
            return lookup.empty.len() >= enough;
        }
        let by_nonce = used.is_some_and(|instant| lookup.empty_since(instant) >= enough);
        let by_date = claim.at.0.checked_add(expiry).is_ok_and(|date| lookup.empty_by_date(date) >= enough);
        by_nonce || by_date
    }

    /// The claim's epoch is over, and its job is not listed.
    fn nothing_came_of(&mut self, claim: &Claim, account: &Account) -> Decision {
        let generation = self.generation();
        let deleting = self.rollout.metadata.deletion_timestamp.is_some();
        let echoed = account.tag_echoed
            || self.observed.jobs.values().filter_map(|r| r.job.as_ref()).any(|job| job.tag(TAG_KEY).is_some());
        if (!echoed || account.unlisted) && !self.absolved {
            let doubt = if account.unlisted {
                "fota doctor saw a new job of this account that was in no list (finding ListLag)"
            } else {
                "this account has never shown a tag of ours"
            };
            let way = if deleting {
                format!("cancel such a job there, then annotate this rollout with {ORPHAN}=<any word> to let it go")
            } else {
                format!(
                    "then annotate this rollout with {RETRY}=<any new word> if there is no such job, or with \
                     {ADOPT}=<its JobId>"
                )
            };
            return stall(
                "Ambiguous",
                format!(
                    "the create of stage {} got no answer and no job with tag {TAG_KEY}={} is listed, but {doubt}: look \
                     in the cloud's console, {way}",
                    claim.stage, claim.token
                ),
            );
        }
        if deleting {
            absorb::withdraw(&mut self.status);
            return wait("Deleting", "a create that got no answer had no effect");
        }
        if let Some(error) = &self.observed.sends.refused {
            let situation = absorb::refuse(&mut self.status, error, generation, self.now);
            return (Act::Wait, situation);
        }
        absorb::withdraw(&mut self.status);
        wait("ClaimExpired", format!("the create of stage {} had no effect; it is made again", claim.stage))
    }
}

fn unknown(claim: &Claim) -> String {
    format!("whether the create of stage {} took effect is not known; looking for its tag", claim.stage)
}
