//! A claim that was written and whose job is not recorded: execute it, withdraw it, or look for its tag. What comes
//! after the job is recorded never comes in here.

use super::*;

impl<'a> Draft<'a> {
    /// A claim that was written and whose job is not recorded.
    pub(super) fn resolve(&mut self, claim: &Claim) -> Decision {
        match self.observed.ticket {
            Ticket::Fresh => match self.executable(claim) {
                Ok(request) => (
                    Act::Create(Box::new(request)),
                    Situation::waiting("Creating", format!("creating the job of stage {}", claim.stage)),
                ),
                Err(because) => self.withdraw(because),
            },
            Ticket::Expired => self.withdraw("the claim was not used in time"),
            Ticket::None => self.look_up(claim),
        }
    }

    /// The request of a claim that this process wrote, if it still means what the spec says.
    pub(super) fn executable(&self, claim: &Claim) -> Result<Request, &'static str> {
        if self.rollout.metadata.deletion_timestamp.is_some() {
            return Err("the rollout is being deleted");
        }
        if self.suspended() {
            return Err("the rollout was suspended");
        }
        if self.status.revision.as_deref() != Some(&self.revision) {
            return Err("the firmware changed");
        }
        let same = self.account().is_ok_and(|a| {
            (&a.endpoint, &a.instance_id, &a.access_key)
                == (&claim.call.endpoint, &claim.call.instance_id, &claim.call.access_key)
        });
        if !same {
            return Err("the account changed");
        }
        let devices =
            self.plan.iter().find(|s| s.name == claim.stage).map(|s| s.devices.as_slice()).unwrap_or_default();
        claim::request(claim, devices).ok_or("the step's devices changed")
    }

    pub(super) fn withdraw(&mut self, because: &'static str) -> Decision {
        absorb::withdraw(&mut self.status);
        (Act::Withdraw, Situation::waiting("ClaimWithdrawn", format!("{because}; nothing was sent")))
    }

    pub(super) fn look_up(&mut self, claim: &Claim) -> Decision {
        if let Some(found) = self.observed.lookup.found.first() {
            absorb::record(&mut self.status, &found.id, found.utc_create, None);
            return wait("JobStarted", format!("the job of stage {} was found by its tag", claim.stage));
        }
        if let Err(decision) = self.account() {
            return *decision;
        }
        if self
            .account()
            .is_ok_and(|a| (&a.endpoint, &a.instance_id) != (&claim.call.endpoint, &claim.call.instance_id))
        {
            return stall(
                "AccountChanged",
                format!(
                    "a create of stage {} was sent to {}: point the account back there",
                    claim.stage, claim.call.endpoint
                ),
            );
        }
        if self.observed.lookup.empty < EMPTY_LISTINGS {
            let because =
                format!("whether the create of stage {} took effect is not known; looking for its tag", claim.stage);
            let doubt = self.observed.trouble.as_ref().map(|t| format!("{because} ({})", t.message));
            return wait("OutcomeUnknown", doubt.unwrap_or(because));
        }
        stall(
            "Ambiguous",
            format!(
                "the create of stage {} got no answer and no job with tag {}={} is listed; nothing more is created until \
                 it shows up: look in the cloud's console, then delete and re-create this rollout if there is none",
                claim.stage,
                crate::api::TAG_KEY,
                claim.token
            ),
        )
    }
}
