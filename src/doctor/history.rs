//! What the account's earlier jobs show: whether their tags come back, and what a gray percentage was of. Only reads.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::Percent;
use crate::ota::calls;
use crate::ota::polling;
use crate::ota::{Api, CallError, FirmwareId, Job, JobId, JobSummary, JobType, TaskStatus};

use super::examine::Patient;
use super::laboratory::is_ours;
use super::seen::{Gray, GrayPair, Seen, Tagged};

/// Packages whose jobs are looked at.
const PACKAGES: usize = 20;
/// Jobs without tags in a listing that are asked for their tags one by one, of each package.
const ASKED: usize = 5;
/// Gray jobs of a package that are compared.
const GRAYS: usize = 4;
/// Jobs and updated devices of a package up to which its gray jobs are compared: every device is a line of a list.
const JOBS: usize = 12;
const UPDATED: u64 = 2_000;

/// Looks at the jobs of the package that was named, then of the product's others, until both questions are answered.
pub async fn read<A: Api>(patient: &Patient<'_, A>, seen: &mut Seen) {
    let named = patient.order.firmware.iter().cloned();
    let others = seen.packages.iter().flatten().flatten().map(|firmware| firmware.id.clone());
    let mut ids: Vec<FirmwareId> = named.collect();
    ids.extend(others.filter(|id| patient.order.firmware.as_ref() != Some(id)));
    for id in ids.into_iter().take(PACKAGES) {
        if !seen.tagged.is_empty() && !seen.grays.is_empty() {
            return;
        }
        // What cannot be read stays unknown; the findings say so.
        let Ok(read) = patient.ask(|| calls::all_jobs_of_firmware(&patient.api, &patient.ctx, &id)).await else {
            return;
        };
        let mut jobs = read.value.jobs;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.utc_create));
        if seen.tagged.is_empty() {
            seen.tagged.extend(tagged(patient, &jobs).await);
        }
        if seen.grays.is_empty()
            && let Ok(Some(pairs)) = grays(patient, &jobs).await
        {
            seen.grays = pairs;
        }
    }
}

/// A job that carries a tag of ours, by whoever shows it.
async fn tagged<A: Api>(patient: &Patient<'_, A>, jobs: &[JobSummary]) -> Option<Tagged> {
    let query = |id: JobId| async move {
        let read = patient.ask(|| calls::query_job(&patient.api, &patient.ctx, &id)).await;
        read.ok().map(|read| is_ours(&read.value.tags))
    };
    if let Some(job) = jobs.iter().find(|job| is_ours(&job.tags)) {
        let queried = query(job.job_id.clone()).await;
        return Some(Tagged { job: job.job_id.clone(), listed: Some(true), queried });
    }
    for job in jobs.iter().take(ASKED) {
        if query(job.job_id.clone()).await == Some(true) {
            return Some(Tagged { job: job.job_id.clone(), listed: Some(false), queried: Some(true) });
        }
    }
    None
}

/// The gray jobs of a package in pairs, as far as the devices that were updated in between can be counted.
async fn grays<A: Api>(
    patient: &Patient<'_, A>,
    newest_first: &[JobSummary],
) -> Result<Option<Vec<GrayPair>>, CallError> {
    let of_gray = |job: &&JobSummary| job.target_selection == "GRAY" && job.job_type == JobType::Upgrade;
    let mut chosen: Vec<&JobSummary> = newest_first.iter().filter(of_gray).take(GRAYS).collect();
    chosen.reverse();
    if chosen.len() < 2 || newest_first.len() > JOBS {
        return Ok(None);
    }
    let Some(updates) = updates(patient, newest_first).await? else { return Ok(None) };
    let mut read: Vec<(Gray, Job, Timestamp)> = Vec::new();
    for job in chosen {
        let full = patient.ask(|| calls::query_job(&patient.api, &patient.ctx, &job.job_id)).await?.value;
        let total = total(patient, &job.job_id, None).await?;
        let percent = full.gray_percent.as_deref().and_then(|text| Percent::parse(text).ok()).filter(|p| p.milli() > 0);
        let (Some(percent), Some(created)) = (percent, full.utc_create) else { return Ok(None) };
        read.push((Gray { job: job.job_id.clone(), percent, total }, full, created));
    }
    let pairs = read.iter().zip(read.iter().skip(1)).filter(|(a, b)| a.1.src_versions == b.1.src_versions);
    let pairs = pairs.map(|((earlier, _, from), (later, _, to))| {
        let between = updates.iter().filter(|at| *at > from && *at <= to).count();
        let updated_between = u64::try_from(between).unwrap_or(u64::MAX);
        GrayPair { earlier: earlier.clone(), later: later.clone(), updated_between }
    });
    Ok(Some(pairs.collect()))
}

/// When each device reached the target, over all jobs; none: too many to list, or one that does not say when.
async fn updates<A: Api>(patient: &Patient<'_, A>, jobs: &[JobSummary]) -> Result<Option<Vec<Timestamp>>, CallError> {
    let mut counts = BTreeMap::new();
    for job in jobs {
        counts.insert(job.job_id.clone(), total(patient, &job.job_id, Some(&TaskStatus::Succeeded)).await?);
    }
    if counts.values().sum::<u64>() > UPDATED {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (job, _) in counts.iter().filter(|(_, count)| **count > 0) {
        let tasks = || polling::tasks_in(&patient.api, &patient.ctx, job, &TaskStatus::Succeeded);
        all.extend(patient.ask(tasks).await?.value.into_iter().map(|task| task.utc_modified));
    }
    Ok(all.into_iter().collect())
}

async fn total<A: Api>(patient: &Patient<'_, A>, job: &JobId, status: Option<&TaskStatus>) -> Result<u64, CallError> {
    let read = patient.ask(|| calls::list_tasks(&patient.api, &patient.ctx, job, status, 1, 1)).await?;
    Ok(read.value.total)
}
