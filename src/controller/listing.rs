//! The jobs of a package with their tags, as one full listing shows them.
//!
//! What a tag means to a rollout never comes in: it is `rollout::owner`'s affair.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::TAG_KEY;
use crate::ota::calls;
use crate::ota::id::{FirmwareId, JobId};
use crate::ota::job::JobSummary;
use crate::ota::outcome::CallError;
use crate::ota::{Api, Operation};
use crate::rollout::observed::{Listed, Tagged};

use super::poll::Reader;
use super::world::Moment;

/// Jobs that are listed without tags are asked for them one by one, at most so many in one listing.
const UNTAGGED_ASKED: usize = 200;

/// Packages whose jobs' tags are remembered: a claim's and the one that the spec names by now may differ.
const PACKAGES: usize = 2;

/// Our tag's value on jobs that were listed without tags, by their own answers: a job's tags stay as they are.
#[derive(Debug, Default)]
pub struct Tags(BTreeMap<FirmwareId, BTreeMap<JobId, Option<String>>>);

impl Tags {
    /// Those of one package's jobs.
    fn of(&mut self, firmware: &FirmwareId) -> &mut BTreeMap<JobId, Option<String>> {
        if self.0.len() >= PACKAGES && !self.0.contains_key(firmware) {
            self.0.clear();
        }
        self.0.entry(firmware.clone()).or_default()
    }
}

/// A package's jobs.
pub struct Listing {
    /// Oldest first, each with the value of our tag, if it has one.
    jobs: Vec<(JobSummary, Option<String>)>,
    /// As many distinct jobs as the cloud counted, and the tags of all that were of interest are known.
    pub complete: bool,
    /// The cloud's `Date`.
    pub date: Option<Timestamp>,
}

impl Listing {
    /// The jobs that carry our tag, oldest first.
    pub fn tagged(&self) -> impl Iterator<Item = (&JobSummary, &str)> {
        self.jobs.iter().filter_map(|(job, tag)| Some((job, tag.as_deref()?)))
    }

    /// Those of them that have not ended.
    pub fn live(&self, firmware: FirmwareId, asked: Duration) -> Listed {
        let live = self.tagged().filter(|(job, _)| !job.status.is_terminal());
        let jobs = live.map(|(job, tag)| Tagged {
            id: job.job_id.clone(),
            token: tag.to_owned(),
            product_key: job.product_key.clone(),
            utc_create: job.utc_create,
        });
        Listed { firmware, asked, complete: self.complete, jobs: jobs.collect() }
    }
}

impl<A: Api, C: Fn() -> Moment + Send> Reader<'_, A, C> {
    /// Lists all jobs of a package. Of those without tags in the list, the ones of interest are asked for theirs.
    pub(super) async fn listing(
        &mut self,
        firmware: &FirmwareId,
        tags: &mut Tags,
        of_interest: fn(&JobSummary) -> bool,
    ) -> Result<Listing, CallError> {
        let read = calls::all_jobs_of_firmware(self.api, self.ctx, firmware).await?;
        self.note(&read);
        let mut jobs = read.value.jobs;
        self.hear(Operation::ListOTAJobByFirmware, jobs.iter().find_map(|job| job.tag(TAG_KEY)));
        let tags = tags.of(firmware);
        tags.retain(|id, _| jobs.iter().any(|job| job.job_id == *id));
        jobs.sort_by(|a, b| (a.utc_create, &a.job_id).cmp(&(b.utc_create, &b.job_id)));
        let unknown = |job: &&JobSummary| job.tags.is_empty() && of_interest(job) && !tags.contains_key(&job.job_id);
        // The youngest first: a job that is looked for was made just now.
        let unknown: Vec<_> = jobs.iter().rev().filter(unknown).map(|job| job.job_id.clone()).collect();
        for id in unknown.iter().take(UNTAGGED_ASKED) {
            let full = calls::query_job(self.api, self.ctx, id).await?.value;
            self.hear(Operation::QueryOTAJob, full.tag(TAG_KEY));
            tags.insert(id.clone(), full.tag(TAG_KEY).map(str::to_owned));
        }
        let complete = read.value.complete && unknown.len() <= UNTAGGED_ASKED;
        let tag = |job: &JobSummary| match job.tag(TAG_KEY) {
            Some(tag) => Some(tag.to_owned()),
            None => tags.get(&job.job_id).cloned().flatten(),
        };
        let jobs = jobs.into_iter().map(|job| (tag(&job), job)).map(|(tag, job)| (job, tag)).collect();
        Ok(Listing { jobs, complete, date: read.date })
    }
}
