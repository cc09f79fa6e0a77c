//! A person's word that a job is this rollout's: what it must be for that, and what is said where it is not.

use super::*;
use crate::ota::Operation;
use crate::ota::job::{Job, JobStatus as CloudStatus};
use crate::rollout::owner;

impl<'a> Draft<'a> {
    /// Obeys `fota.dev/adopt`. None: it has to wait for what is being read; else why it was refused, if it was.
    pub(super) fn adopt_by_word(&mut self, value: &str) -> Option<Result<(), String>> {
        let id = JobId::new(value.to_owned());
        let claim = self.status.claim.clone();
        // Whoever holds the ticket may still send it.
        if claim.as_ref().is_some_and(|claim| !claim.sent && !self.is_over(claim)) {
            return None;
        }
        if claim.is_none() && !self.foreign().iter().any(|job| job.id == id) {
            let listing = self.observed.listed.is_none() && self.status.next.as_ref().is_some_and(is_about_owners);
            let why = "no create is unanswered, and it is no job of another owner that holds this rollout up";
            return (!listing).then(|| Err(format!("{value} was not adopted: {why}")));
        }
        let proposed = self.observed.proposed.as_ref().filter(|p| p.id == id)?;
        let next = stage::next(&self.plan, &self.status.stages).cloned();
        let checked = match (&proposed.job, &claim, &next) {
            (Err(said), ..) => Err(format!("the cloud does not show it: {said}")),
            (Ok(job), Some(claim), _) => self.fits_claim(job, claim).map(|()| job),
            (Ok(job), None, Some(next)) => self.fits(job, next.target.kind, self.pinned()).map(|()| job),
            (Ok(_), None, None) => Err("no stage is left to start".to_owned()),
        };
        let job = match checked {
            Ok(job) => job.clone(),
            Err(why) => return Some(Err(format!("{value} was not adopted: {why}"))),
        };
        match (&claim, next) {
            (Some(_), _) | (None, None) => absorb::record(&mut self.status, &id, job.utc_create, None),
            (None, Some(next)) => {
                let index = self.reach(&next);
                let uid = self.rollout.metadata.uid.clone().unwrap_or_default();
                let attempt = self.status.stages.get(index).map_or(1, |s| s.attempt);
                let part = claim::Part { uid: &uid, run: self.status.run, stage: &next.name, attempt, part: 1 };
                let token = claim::token(&part);
                absorb::take(&mut self.status, &next.name, absorb::unclaimed(&id, attempt, 1, token, job.utc_create));
            }
        }
        Some(Ok(()))
    }

    fn pinned(&self) -> &str {
        self.status.firmware.as_ref().map_or("", |f| f.id.as_str())
    }

    fn fits_claim(&self, job: &Job, claim: &Claim) -> Result<(), String> {
        if job.tag(TAG_KEY).is_some_and(|tag| tag != claim.token) {
            return Err(format!("it carries the tag of another create than {}", claim.token));
        }
        let kind = match claim.call.parameters.get("TargetSelection").map(String::as_str) {
            _ if claim.call.operation == Operation::CreateOTAVerifyJob.name() => StageKind::Verify,
            _ if claim.call.operation == Operation::CreateOTADynamicUpgradeJob.name() => StageKind::Dynamic,
            Some("GROUP") => StageKind::Group,
            Some("GRAY") => StageKind::Percent,
            Some("SPECIFIC") => StageKind::Devices,
            _ => StageKind::Full,
        };
        self.fits(job, kind, &claim.call.firmware_id)
    }

    /// Whether a job may be the one of a stage of this kind. What the service leaves out of its answer speaks against
    /// nothing.
    fn fits(&self, job: &Job, wanted: StageKind, firmware: &str) -> Result<(), String> {
        let id = job.job_id.as_str();
        let product = self.rollout.spec.product_key.as_str();
        if !job.firmware_id.as_str().is_empty() && job.firmware_id.as_str() != firmware {
            return Err(format!("it is a job of package {}, not of {firmware}", job.firmware_id));
        }
        if !job.product_key.is_empty() && job.product_key != product {
            return Err(format!("it is a job of product {}, not of {product}", job.product_key));
        }
        if owner::kind(&job.job_type, &job.selection_type, &job.target_selection) != Some(wanted) {
            let (is, target) = (job.job_type.as_str(), job.target_selection.as_str());
            return Err(format!(
                "it is a {} {is} of {target}, and a job of kind {wanted:?} is needed",
                job.selection_type
            ));
        }
        if job.status == CloudStatus::Canceled {
            return Err("it is cancelled".to_owned());
        }
        if let Some(stage) = self.status.stages.iter().find(|s| s.jobs.iter().any(|j| j.id == id)) {
            return Err(format!("it is a job of stage {} already", stage.name));
        }
        if self.status.duplicates.iter().any(|d| d.id == id) {
            return Err("it is one job too many, and its pending tasks are being cancelled".to_owned());
        }
        if let Some(other) = self.observed.siblings.get(&job.job_id) {
            return Err(format!("it is a job of rollout {other}"));
        }
        Ok(())
    }
}

/// The question that only a listing answers.
fn is_about_owners(next: &crate::api::status::Next) -> bool {
    next.reason == "ForeignOwner"
}
