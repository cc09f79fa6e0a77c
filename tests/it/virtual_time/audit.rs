//! What really happened, by the cloud model's own books: who was pushed to, what was cancelled, what was created.

use std::collections::{BTreeMap, BTreeSet};

use fota::api::TAG_KEY;
use fota::api::status::{FirmwareRolloutStatus, Ledger, StageKind, StageState, StageStatus};
use fota::cloud::model::{JobReport, LedgerQuery};
use fota::cloud::{Call, Clocks, Cloud};
use fota::ota::Operation;
use serde_json::Value;

use super::{PRODUCT, SILENT_MINUTES};

/// The state of the fleet when a stage ended.
#[derive(Debug, Clone)]
pub struct Audit {
    pub stage: String,
    pub state: StageState,
    /// Distinct devices that the run's upgrade jobs have pushed to.
    pub pushed: usize,
    /// The run's upgrade jobs that have one task: each may exceed the declared share by that one.
    pub ones: usize,
}

/// Ids of the run's upgrade jobs, oldest first.
pub fn upgrade_jobs(status: &FirmwareRolloutStatus) -> Vec<String> {
    let upgrades = status.stages.iter().filter(|s| s.kind != StageKind::Verify);
    upgrades.flat_map(|s| &s.jobs).map(|j| j.id.clone()).collect()
}

/// The model's report of a job.
pub fn report(cloud: &Cloud, id: &str) -> JobReport {
    cloud.jobs().into_iter().find(|j| j.text("JobId") == id).expect("the cloud does not know the job")
}

/// A gray step may pass only when the cloud has cancelled what it never pushed.
pub fn check_drained(cloud: &Cloud, stage: &StageStatus) {
    if stage.kind == StageKind::Verify {
        return;
    }
    // Nobody can cancel anything in a job that somebody removed.
    for job in stage.jobs.iter().filter(|job| !job.gone) {
        let counts = report(cloud, &job.id).counts;
        assert_eq!((counts["QUEUED"], counts["CONFIRM"]), (0, 0), "stage {} passed with leftovers", stage.name);
    }
}

/// Takes stock. Cancelled tasks count as never pushed, which holds up to the first cancel of pushed ones.
pub fn take(cloud: &mut Cloud, clocks: Clocks, status: &FirmwareRolloutStatus, stage: &StageStatus) -> Audit {
    let jobs = upgrade_jobs(status);
    let ones = jobs.iter().filter(|id| report(cloud, id).total() == 1).count();
    let pushed = jobs.iter().flat_map(|id| pushed_by(cloud, clocks, id)).collect::<BTreeSet<_>>().len();
    Audit { stage: stage.name.clone(), state: stage.state, pushed, ones }
}

/// Names of the devices that a job pushed to.
fn pushed_by(cloud: &mut Cloud, clocks: Clocks, job: &str) -> Vec<String> {
    let mut names = Vec::new();
    for page in 1.. {
        let parameters = [("JobId", job), ("PageSize", "100"), ("CurrentPage", &page.to_string())]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let call = Call::unsigned("auditor", Operation::ListOTATaskByJob, &parameters, None);
        let answer: Value = serde_json::from_str(&cloud.handle(&call, clocks).body).unwrap();
        let tasks = answer["Data"]["SimpleOTATaskInfo"].as_array().cloned().unwrap_or_default();
        let pushed = |task: &&Value| match task["TaskStatus"].as_str().unwrap() {
            "NOTIFIED" | "IN_PROGRESS" | "SUCCEEDED" => true,
            "FAILED" => task["TaskDesc"] != "the device has an unfinished task",
            _ => false,
        };
        names.extend(tasks.iter().filter(pushed).map(|t| t["DeviceName"].as_str().unwrap().to_owned()));
        // A job that somebody removed has none.
        if answer["Total"].as_u64().is_none_or(|total| page * 100 >= total) {
            break;
        }
    }
    names
}

/// Every create of the operator: the tag it carried, and the job it made or the code it was refused with.
pub fn creates(cloud: &Cloud) -> Vec<(String, Result<String, String>)> {
    let mine = cloud.calls().iter().filter(|c| c.access_key_id == "operator");
    mine.filter(|c| Operation::from_name(&c.operation).is_some_and(Operation::creates))
        .map(|c| {
            assert_eq!(c.params["Tag.1.Key"], TAG_KEY);
            let result = match &c.code {
                None => Ok(c.job_id.clone().unwrap()),
                Some(code) => Err(code.clone()),
            };
            (c.params["Tag.1.Value"].clone(), result)
        })
        .collect()
}

/// Accepted creates, and that no tag has two of them.
pub fn accepted(cloud: &Cloud) -> Vec<String> {
    let mut by_tag: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all: Vec<_> = creates(cloud).into_iter().filter_map(|(tag, job)| Some((tag, job.ok()?))).collect();
    for (tag, job) in &all {
        by_tag.entry(tag.clone()).or_default().push(job.clone());
    }
    assert!(by_tag.values().all(|jobs| jobs.len() == 1), "two jobs for one tag: {by_tag:?}");
    all.into_iter().map(|(_, job)| job).collect()
}

/// Cancels that were accepted, by job.
pub fn cancels(cloud: &Cloud) -> Vec<String> {
    let accepted = cloud.calls().iter().filter(|c| c.operation == "CancelOTATaskByJob" && c.code.is_none());
    accepted.filter_map(|c| c.job_id.clone()).collect()
}

/// The true ledger of a run, in the operator's terms.
pub fn ledger(cloud: &Cloud, status: &FirmwareRolloutStatus) -> Ledger {
    let job_ids = upgrade_jobs(status);
    if job_ids.is_empty() {
        return Ledger::default();
    }
    let query = LedgerQuery { firmware_id: None, job_ids, silent_after_minutes: SILENT_MINUTES };
    let l = cloud.ledger(PRODUCT, &query).unwrap();
    Ledger {
        at_target: l.at_target.into(),
        in_progress: l.in_progress.into(),
        notified: l.notified.into(),
        silent: l.silent.into(),
        queued: l.queued.into(),
        failed: l.failed.into(),
        timed_out: l.timed_out.into(),
        conflict: l.conflict.into(),
        cancelled: l.cancelled.into(),
    }
}

/// A job's tasks that can still move without anybody's doing, or be pushed.
pub fn pending(cloud: &Cloud, id: &str) -> usize {
    let counts = report(cloud, id).counts;
    counts["QUEUED"] + counts["NOTIFIED"] + counts["CONFIRM"]
}

/// Checks that status tells each job's tasks as the cloud has them.
pub fn check_job_counts(cloud: &Cloud, status: &FirmwareRolloutStatus) {
    for job in status.stages.iter().flat_map(|s| &s.jobs) {
        let (truth, told) = (report(cloud, &job.id), job.counts.expect("a job without counts"));
        let n = |status: &str| i64::try_from(truth.counts[status]).unwrap();
        let f = truth.failures;
        assert_eq!(
            (told.at_target, told.in_progress, told.notified + told.silent, told.queued, told.cancelled),
            (n("SUCCEEDED"), n("IN_PROGRESS"), n("NOTIFIED"), n("QUEUED") + n("CONFIRM"), n("CANCELED")),
            "job {}",
            job.id
        );
        let failures = (i64::from(f.failed), i64::from(f.timed_out), i64::from(f.conflict));
        assert_eq!((told.failed, told.timed_out, told.conflict), failures, "job {}", job.id);
        assert_eq!(job.total, Some(i64::try_from(truth.total()).unwrap()), "job {}", job.id);
    }
}
