//! Retries: which devices another attempt of a step takes, and what its counts mean beside those of earlier attempts.
//!
//! A retry never draws devices anew: it names those of the step that did not get there. Their names are known from the
//! cloud's task lists alone, so they are kept by digest and must be reproduced.

use jiff::Timestamp;

use crate::api::status::{Ledger, RetryList, StageStatus};
use crate::ota::id::JobId;

use super::claim;
use super::observed::Unfinished;

/// Names that one job takes (ota-api: section 3).
pub const NAMES_PER_JOB: usize = 200;
/// Parts of one attempt.
pub const MOST_PARTS: usize = 20;

/// The jobs whose devices an attempt retries: those of the last attempt before it that made any. None for a first
/// attempt, and for kinds that are simply done again.
pub fn retried_jobs(stage: &StageStatus) -> Vec<JobId> {
    if !stage.kind.is_gray() {
        return Vec::new();
    }
    let earlier = stage.jobs.iter().filter(|j| j.attempt < stage.attempt);
    let Some(last) = earlier.clone().map(|j| j.attempt).max() else { return Vec::new() };
    earlier.filter(|j| j.attempt == last).map(|j| JobId::new(j.id.clone())).collect()
}

/// The list of the stage's present attempt, once its first claim was made.
pub fn list(stage: &StageStatus) -> Option<&RetryList> {
    stage.retries.iter().find(|r| r.attempt == stage.attempt)
}

/// How many parts the present attempt has.
pub fn parts(stage: &StageStatus) -> usize {
    list(stage).map_or(1, |l| usize::try_from(l.devices.count).unwrap_or(0).div_ceil(NAMES_PER_JOB))
}

/// How many of them have their job.
pub fn parts_done(stage: &StageStatus) -> usize {
    stage.jobs.iter().filter(|j| j.attempt == stage.attempt).count()
}

/// The names of unfinished devices, sorted: those up to the instant that a list was closed at, if it was.
pub fn names(unfinished: &Unfinished, until: Option<Timestamp>) -> Vec<String> {
    let in_time = |at: &Option<Timestamp>| until.is_none_or(|until| at.is_none_or(|at| at <= until));
    let mut names: Vec<_> =
        unfinished.names.iter().filter(|(_, at)| in_time(at)).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The names of one part, from 1.
pub fn part(names: &[String], part: i32) -> Vec<String> {
    let before = usize::try_from(part).unwrap_or(1).saturating_sub(1).saturating_mul(NAMES_PER_JOB);
    names.iter().skip(before).take(NAMES_PER_JOB).cloned().collect()
}

/// The names of a claimed part, if the cloud's lists still reproduce the attempt's digest.
pub fn claimed_part(stage: &StageStatus, number: i32, unfinished: Option<&Unfinished>) -> Option<Vec<String>> {
    let list = list(stage)?;
    let unfinished = unfinished.filter(|u| u.of == retried_jobs(stage))?;
    let names = names(unfinished, list.until.map(|t| t.0));
    (claim::device_list(&names).as_ref() == Some(&list.devices)).then(|| part(&names, number))
}

/// The counts of a stage over all its attempts: a device that was retried counts where its last task is.
///
/// `counts` are the jobs' counts, in the order of `stage.jobs`.
pub fn combined(stage: &StageStatus, counts: &[Ledger]) -> Ledger {
    let mut sum = Ledger::default();
    let mut unfinished = 0;
    for (job, c) in stage.jobs.iter().zip(counts) {
        if job.attempt == stage.attempt {
            sum = super::decide::add(sum, c);
        } else if stage.kind.is_full() {
            // The later job takes everyone who is not there yet.
            sum.at_target += c.at_target;
        } else {
            let open = Ledger { failed: 0, timed_out: 0, conflict: 0, cancelled: 0, ..*c };
            unfinished += c.failed + c.timed_out + c.conflict + c.cancelled;
            sum = super::decide::add(sum, &open);
        }
    }
    let retried: i64 = stage.retries.iter().map(|r| i64::from(r.devices.count)).sum();
    if stage.attempt > 1 && !stage.kind.is_full() {
        // Ended after the list was closed: retried by nobody, so whatever it was it counts against the step.
        sum.failed += (unfinished - retried).max(0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::StageKind;

    fn stage(attempt: i32, jobs: &[i32], retried: &[i32]) -> StageStatus {
        let jobs: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(n, attempt)| serde_json::json!({"id": n.to_string(), "attempt": attempt, "part": 1, "token": ""}))
            .collect();
        let retries: Vec<_> = retried
            .iter()
            .zip(2..)
            .map(|(count, attempt)| serde_json::json!({"attempt": attempt, "devices": {"count": count, "digest": ""}}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": "s", "kind": "Percent", "state": "Running", "attempt": attempt, "jobs": jobs, "retries": retries,
        }))
        .unwrap()
    }

    #[test]
    fn the_last_attempt_with_jobs_is_retried() {
        let ids = |stage: &StageStatus| retried_jobs(stage).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(ids(&stage(1, &[1], &[])).is_empty());
        assert_eq!(ids(&stage(2, &[1], &[])), ["0"]);
        assert_eq!(ids(&stage(3, &[1, 2, 2, 3], &[3, 3])), ["1", "2"]);
        assert_eq!(ids(&stage(3, &[1], &[])), ["0"], "an attempt that was stopped before its job");
        assert_eq!(retried_jobs(&StageStatus { kind: StageKind::Full, ..stage(2, &[1], &[]) }), []);
    }

    #[test]
    fn a_retried_device_counts_once_and_a_late_failure_counts_against_the_step() {
        let first = Ledger { at_target: 90, failed: 4, cancelled: 5, in_progress: 1, ..Ledger::default() };
        let second = Ledger { at_target: 7, failed: 2, ..Ledger::default() };
        let sum = combined(&stage(2, &[1, 2], &[9]), &[first, second]);
        assert_eq!(sum, Ledger { at_target: 97, failed: 2, in_progress: 1, ..Ledger::default() });
        let late = Ledger { failed: 5, in_progress: 0, ..first };
        assert_eq!(combined(&stage(2, &[1, 2], &[9]), &[late, second]).failed, 3);
    }

    #[test]
    fn names_are_cut_into_parts_that_hold_each_once() {
        let all: Vec<_> = (0..450).map(|n| format!("d{n:03}")).collect();
        let parts: Vec<_> = (1..=3).flat_map(|n| part(&all, n)).collect();
        assert_eq!(parts, all);
        assert!(part(&all, 4).is_empty());
        let at = |s| Timestamp::from_second(s).ok();
        let unfinished =
            Unfinished { of: vec![], names: vec![("b".into(), at(2)), ("a".into(), at(1)), ("c".into(), at(3))] };
        assert_eq!(names(&unfinished, at(2)), ["a", "b"]);
        assert_eq!(names(&unfinished, None), ["a", "b", "c"]);
    }
}
