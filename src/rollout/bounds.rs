//! What a status can hold: an object of the API server must stay small, whatever a rollout goes through.
//!
//! A create whose job would find no room is refused before it is claimed. Why a job is made never comes in here.

use std::collections::BTreeSet;

use crate::api::FirmwareRolloutStatus;
use crate::api::status::{JobView, StageStatus};

/// Most bytes of a status as JSON.
pub const MOST_BYTES: usize = 64 * 1024;
/// Most jobs of a stage, as its schema says.
pub const JOBS: usize = 32;
/// Most lists of what a stage's attempts retry, as its schema says.
pub const RETRIES: usize = 16;
/// Most answers of QueryOTAJob that are kept, of one stage and in all.
const VIEWS_OF_STAGE: usize = 2;
const VIEWS: usize = 8;
/// Bytes of one job with a brief view, of one full view, and of one list, at most.
const JOB: usize = 1_100;
const VIEW: usize = 2_600;
const RETRY: usize = 200;
/// By how many bytes the rest may grow after a check: claim, conditions, messages, gate, duplicates and so on.
const GROWTH: usize = 24 * 1024;

/// Whether a stage has room for so many more jobs, and for one more list if they are a retry's by name.
///
/// # Errors
/// What is full, and what to do.
pub fn room(status: &FirmwareRolloutStatus, stage: &StageStatus, jobs: usize, list: bool) -> Result<(), String> {
    let what = |full: &str| {
        let name = &stage.name;
        format!(
            "the status has no room for {jobs} more jobs of stage {name}: {full}; bring new firmware, or make a new \
             FirmwareRollout"
        )
    };
    if stage.jobs.len() + jobs > JOBS {
        return Err(what(&format!("a stage keeps at most {JOBS}")));
    }
    if list && stage.retries.len() >= RETRIES {
        return Err(what(&format!("a stage is retried by name at most {RETRIES} times")));
    }
    let more = jobs * JOB + jobs.min(VIEWS_OF_STAGE) * VIEW + if list { RETRY } else { 0 };
    if bytes(status) + more + GROWTH > MOST_BYTES {
        return Err(what(&format!("it is at most {} KiB", MOST_BYTES / 1024)));
    }
    Ok(())
}

/// Its size as JSON.
fn bytes(status: &FirmwareRolloutStatus) -> usize {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, status).map_or(usize::MAX / 2, |()| length.0)
}

/// Counts what is written, and keeps none of it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The jobs whose view is kept in full: each stage's last, and of its present attempt the one before; of these the
/// youngest.
pub fn shown(stages: &[StageStatus]) -> BTreeSet<String> {
    let wanted = stages.iter().rev().flat_map(|stage| {
        let youngest = stage.jobs.iter().rev().take(VIEWS_OF_STAGE).enumerate();
        youngest.filter(|(n, job)| *n == 0 || job.attempt == stage.attempt).map(|(_, job)| job.id.clone())
    });
    wanted.take(VIEWS).collect()
}

/// What is kept of the view of the other jobs of a present attempt: what decisions look at.
pub fn brief(view: &JobView) -> JobView {
    JobView {
        job_status: view.job_status.clone(),
        job_type: view.job_type.clone(),
        selection_type: view.selection_type.clone(),
        target_selection: view.target_selection.clone(),
        utc_create: view.utc_create,
        utc_start_time: view.utc_start_time,
        maximum_per_minute: view.maximum_per_minute,
        ..JobView::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Condition;
    use serde_json::{Value, json};

    fn text(length: usize) -> String {
        "m".repeat(length)
    }

    const AT: &str = "2026-01-01T00:00:00.123456789Z";

    fn ledger() -> Value {
        let number = 10_000_000;
        json!({"atTarget": number, "inProgress": number, "notified": number, "silent": number, "queued": number,
               "failed": number, "timedOut": number, "conflict": number, "cancelled": number})
    }

    /// Every string as long as the schema lets it be.
    fn view() -> Value {
        json!({
            "name": text(128), "jobDesc": text(256), "destVersion": text(64), "jobStatus": text(32),
            "jobType": text(32), "selectionType": text(32), "targetSelection": text(32), "utcCreate": AT,
            "utcModified": AT, "utcStartTime": AT, "utcEndTime": AT, "utcScheduleTime": AT,
            "utcScheduleFinishTime": AT, "srcVersions": vec![text(64); 10], "grayPercent": text(16), "dynamicMode": 1,
            "retryInterval": 1440, "retryCount": 5, "timeoutInMinutes": 1440, "maximumPerMinute": 10_000,
            "overwriteMode": 2, "needPush": false, "needConfirm": false, "multiModuleMode": false,
            "downloadProtocol": text(16), "groupId": text(128), "groupName": text(128),
        })
    }

    fn job(id: usize) -> crate::api::status::JobStatus {
        let job = json!({
            "id": format!("{id:0>128}"), "attempt": 16, "part": 20, "token": text(32), "utcCreate": AT,
            "requestId": text(64), "sentPercent": "33.333", "succeededBefore": 10_000_000, "total": 10_000_000,
            "cancelledBefore": 10_000_000, "counts": ledger(), "moving": 10_000_000, "drained": true, "gone": true,
            "accepted": {"cancelled": 10_000_000, "ended": true},
        });
        serde_json::from_value(job).unwrap()
    }

    fn stage(n: usize) -> StageStatus {
        let stage = json!({
            "name": format!("{n:0>40}"), "kind": "Percent", "state": "Running", "reason": "AlreadyVerified",
            "attempt": 16, "epoch": 1_000, "percent": "33.333", "soakingSince": AT, "endedAt": AT,
        });
        serde_json::from_value(stage).unwrap()
    }

    fn list() -> Value {
        json!({"attempt": 16, "devices": {"count": 4_000, "digest": text(64)}, "until": AT})
    }

    /// What is there before any job, and everything that may come after the last check.
    fn grown(status: &mut FirmwareRolloutStatus) {
        let stage = text(64);
        let claim = json!({
            "run": 1_000, "stage": stage, "attempt": 16, "part": 20, "epoch": 1_000, "at": AT, "token": text(32),
            "succeededBefore": 10_000_000, "sent": true,
            "call": {
                "operation": "CreateOTAStaticUpgradeJob", "firmwareId": text(128), "endpoint": text(300),
                "region": text(64), "instanceId": text(128), "accessKey": text(32),
                "devices": {"count": 200, "digest": text(64)}, "parameters": {},
            },
        });
        let mut claim: crate::api::status::Claim = serde_json::from_value(claim).unwrap();
        let mut set = |name: &str, value: String| claim.call.parameters.insert(name.to_owned(), value);
        for n in 1..=10 {
            set(&format!("SrcVersion.{n}"), text(64));
            set(&format!("Tag.{n}.Key"), text(8));
            set(&format!("Tag.{n}.Value"), text(400));
        }
        for name in ["FirmwareId", "IotInstanceId"] {
            set(name, text(128));
        }
        for name in [
            "MaximumPerMinute",
            "TimeoutInMinutes",
            "RetryCount",
            "RetryInterval",
            "OverwriteMode",
            "TargetSelection",
            "GrayPercent",
            "ProductKey",
        ] {
            set(name, text(40));
        }
        status.claim = Some(claim);
        let condition = |kind: &str| Condition {
            kind: kind.to_owned(),
            status: "Unknown".to_owned(),
            observed_generation: Some(1_000),
            last_transition_time: serde_json::from_value(json!(AT)).unwrap(),
            reason: text(64),
            message: text(crate::rollout::story::LONGEST_MESSAGE),
        };
        status.conditions =
            ["Ready", "Reconciling", "Stalled", "AccountUnusable", "Queued", "EditsIgnored"].map(condition).to_vec();
        let rest = json!({
            "next": {"reason": text(64), "because": text(512), "earliest": AT,
                     "missing": vec![text(160); 8]},
            "gate": {"stage": stage, "result": "Hold", "decided": 10_000_000, "pushed": 10_000_000,
                     "failurePercent": text(16), "maxFailurePercent": "33.333"},
            "duplicates": (0..8).map(|n| json!({"id": format!("{n:0>128}"), "stage": text(40)})).collect::<Vec<_>>(),
            "beside": vec![text(128); 16],
            "adoptRefused": text(512),
            "handled": {"adopt": text(128), "resume": text(128), "retry": text(128), "pause": text(128),
                        "abort": text(128)},
        });
        let mut all = serde_json::to_value(&*status).unwrap();
        all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        *status = serde_json::from_value(all).unwrap();
        let last = status.stages.last_mut().unwrap();
        last.message = Some(text(512));
        let refusal = json!({"code": text(128), "message": text(256), "requestId": text(64), "generation": 1_000,
                             "count": 1_000, "retryAt": AT});
        last.refusal = serde_json::from_value(refusal).unwrap();
    }

    /// A rollout of so many stages, before its first job.
    fn rollout(stages: usize) -> FirmwareRolloutStatus {
        let settings = |n: usize| {
            json!({"name": format!("{n:0>40}"), "maximumPerMinute": 1_000, "decidedPercent": "33.333",
                   "minDecided": 1_000_000, "maxFailurePercent": "33.333", "matureAfter": "168h59m59s",
                   "soak": "168h59m59s", "silentAfter": "168h59m59s", "targets": text(16), "delivery": text(16)})
        };
        let mut progress = ledger();
        progress.as_object_mut().unwrap().extend(
            json!({"exposed": 10_000_000, "failedTotal": 10_000_000, "eligibleAtLeast": 10_000_000,
                   "overshoot": 10_000_000, "asOf": AT, "basis": text(32)})
            .as_object()
            .unwrap()
            .clone(),
        );
        let firmware = json!({"id": text(128), "version": text(64), "module": text(64)});
        serde_json::from_value(json!({
            "observedGeneration": 1_000, "phase": "Completed", "revision": text(32), "run": 1_000,
            "firmware": firmware, "step": text(64), "progress": progress,
            "effective": {"listLag": "168h59m59s", "sourceVersions": vec![text(64); 10], "stages": (0..stages).map(settings).collect::<Vec<_>>()},
            "lastCompleted": {"revision": text(32), "run": 1_000, "firmware": firmware, "at": AT},
        }))
        .unwrap()
    }

    #[test]
    fn the_largest_status_that_claims_lead_to_fits() {
        for (stages, parts) in [(1, 20), (3, 20), (3, 1), (20, 20), (20, 3), (20, 1)] {
            let mut status = rollout(stages);
            let (mut jobs, mut refused) = (0, 0);
            for n in 0..stages {
                status.stages.push(stage(n));
                // Attempt after attempt, as long as it is allowed.
                loop {
                    let entry = status.stages[n].clone();
                    let (more, retried) = (if entry.jobs.is_empty() { 1 } else { parts }, !entry.jobs.is_empty());
                    if room(&status, &entry, more, retried).is_err() {
                        refused += 1;
                        break;
                    }
                    let entry = &mut status.stages[n];
                    if retried {
                        entry.retries.push(serde_json::from_value(list()).unwrap());
                    }
                    for _ in 0..more {
                        jobs += 1;
                        entry.jobs.push(job(jobs));
                    }
                    let shown = shown(&status.stages);
                    for job in status.stages.iter_mut().flat_map(|s| &mut s.jobs) {
                        let full: JobView = serde_json::from_value(view()).unwrap();
                        job.view = Some(if shown.contains(&job.id) { full } else { brief(&full) });
                    }
                }
            }
            assert_eq!(refused, stages);
            grown(&mut status);
            let size = bytes(&status);
            println!("{stages} stages, parts of {parts}: {jobs} jobs, {size} bytes");
            assert!(size <= MOST_BYTES, "{stages} stages, parts of {parts}, {jobs} jobs: {size}");
        }
    }

    #[test]
    fn twenty_plain_stages_find_room() {
        let mut status = rollout(20);
        for settings in &mut status.effective.as_mut().unwrap().stages {
            settings.name.drain(..30);
        }
        let mut short = view();
        for name in [
            "name",
            "jobDesc",
            "destVersion",
            "jobStatus",
            "jobType",
            "selectionType",
            "targetSelection",
            "groupId",
            "groupName",
        ] {
            short[name] = json!(text(12));
        }
        short["srcVersions"] = json!(["1.0", "2.0"]);
        for n in 0..20 {
            let entry = stage(n);
            status.stages.push(StageStatus { name: entry.name[30..].to_owned(), ..entry });
            let entry = status.stages[n].clone();
            assert_eq!(room(&status, &entry, 1, false), Ok(()), "stage {n}");
            let new = job(n);
            let new = crate::api::status::JobStatus { id: new.id[100..].to_owned(), ..new };
            status.stages[n].jobs.push(new);
            let shown = shown(&status.stages);
            for job in status.stages.iter_mut().flat_map(|s| &mut s.jobs) {
                job.view = shown.contains(&job.id).then(|| serde_json::from_value(short.clone()).unwrap());
            }
        }
    }

    #[test]
    fn a_stage_keeps_its_own_bounds() {
        let mut entry = stage(0);
        let status = FirmwareRolloutStatus::default();
        assert_eq!(room(&status, &entry, 20, true), Ok(()), "as many as one attempt may have");
        let error = room(&status, &entry, JOBS + 1, true).unwrap_err();
        assert!(error.contains("at most 32") && error.contains("new firmware"), "{error}");
        entry.retries = vec![serde_json::from_value(list()).unwrap(); RETRIES];
        assert!(room(&status, &entry, 1, false).is_ok());
        assert!(room(&status, &entry, 1, true).unwrap_err().contains("at most 16 times"));
    }

    #[test]
    fn views_are_kept_of_each_stage_s_last_jobs() {
        let of = |attempt, id| crate::api::status::JobStatus { attempt, ..job(id) };
        let first = StageStatus { jobs: vec![of(1, 1), of(2, 2), of(2, 3)], attempt: 2, ..stage(0) };
        let stopped = StageStatus { attempt: 3, ..first.clone() };
        let second = StageStatus { jobs: (5..15).map(|id| of(1, id)).collect(), attempt: 1, ..stage(1) };
        let ids = |all: &[usize]| all.iter().map(|id| format!("{id:0>128}")).collect::<BTreeSet<_>>();
        assert_eq!(shown(std::slice::from_ref(&first)), ids(&[2, 3]));
        assert_eq!(shown(&[stopped]), ids(&[3]));
        assert_eq!(shown(&[first, second]), ids(&[2, 3, 13, 14]));
        let many: Vec<_> = (0..5)
            .map(|n| StageStatus { jobs: vec![of(1, n * 2), of(1, n * 2 + 1)], attempt: 1, ..stage(n) })
            .collect();
        assert_eq!(shown(&many), ids(&[2, 3, 4, 5, 6, 7, 8, 9]));
    }
}
