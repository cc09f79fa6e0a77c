//! The judge, judged: each fault in a log is found, and a good log has none.

use std::collections::BTreeMap;

use super::rig::cast::promise;
use super::rig::judge::{Call, End, Job, Verdict, judge};

const STEPS: [(&str, Option<&str>); 3] = [
    ("CreateOTAVerifyJob", None),
    ("CreateOTAStaticUpgradeJob", Some("501")),
    ("CreateOTAStaticUpgradeJob", Some("601")),
];

/// An accepted create of a step of rollout 0.
fn create(step: usize, job: &str, tag: &str) -> Call {
    let (operation, rate) = STEPS[step];
    let mut params: BTreeMap<String, String> =
        [("ProductKey", "product-0"), ("Tag.1.Key", "campaign"), ("Tag.1.Value", "x"), ("Tag.2.Key", "fota.id")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    params.insert("Tag.2.Value".to_owned(), tag.to_owned());
    params.extend(rate.map(|rate| ("MaximumPerMinute".to_owned(), rate.to_owned())));
    Call { operation: operation.to_owned(), params, code: None, job_id: Some(job.to_owned()) }
}

fn refused(mut call: Call) -> Call {
    (call.code, call.job_id) = (Some("SignatureNonceUsed".to_owned()), None);
    call
}

fn good() -> Vec<Call> {
    vec![create(0, "j0", "t0"), create(1, "j1", "t1"), create(2, "j2", "t2")]
}

/// Judges calls whose accepted jobs are all there.
fn judged(calls: &[Call], end: End) -> Verdict {
    let made = calls.iter().filter_map(|call| call.job_id.clone());
    let jobs: Vec<_> = made.map(|job_id| Job { job_id, product_key: "product-0".to_owned() }).collect();
    judge(calls, &jobs, &[promise(0, end)])
}

#[test]
fn a_good_log_has_no_findings_whatever_else_was_called_and_refused() {
    let mut calls = good();
    calls.insert(1, refused(create(0, "", "t0")));
    calls.push(Call { operation: "QueryOTAJob".into(), job_id: Some("j2".into()), ..Call::default() });
    let verdict = judged(&calls[..4], End::Completed);
    assert!(verdict.holds(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.accepted), (4, 3));
    assert_eq!(verdict.ends, BTreeMap::from([(End::Completed, 1)]));
}

#[test]
fn a_second_job_is_found_by_its_tag_and_by_its_step_and_counted_once() {
    for tag in ["t1", "another"] {
        let mut calls = good();
        calls.insert(2, create(1, "j9", tag));
        let verdict = judged(&calls, End::Completed);
        assert_eq!((verdict.duplicates.len(), verdict.lost.len(), verdict.wrong.len()), (1, 0, 0), "{verdict:?}");
        assert!(verdict.duplicates[0].contains("j1") && verdict.duplicates[0].contains("j9"), "{verdict:?}");
    }
    // Of another rollout, with this one's tag.
    let mut calls = good();
    let mut stray = create(1, "j9", "t1");
    stray.params.insert("ProductKey".into(), "product-1".into());
    calls.push(stray);
    let made: Vec<_> = ["j0", "j1", "j2", "j9"].map(|id| Job { job_id: id.into(), ..Job::default() }).into();
    let verdict = judge(&calls, &made, &[promise(0, End::Completed), promise(1, End::Stalled("Ambiguous".into()))]);
    assert_eq!(verdict.duplicates.len(), 1, "{verdict:?}");
}

#[test]
fn a_step_without_its_job_is_found() {
    for missing in 0..3 {
        let mut calls = good();
        calls.remove(missing);
        let verdict = judged(&calls, End::Completed);
        assert_eq!((verdict.lost.len(), verdict.duplicates.len()), (1, 0), "{missing}: {verdict:?}");
    }
    // It says that it is not complete: what is missing at its end is not lost, what is missing before that is.
    let stalled = || End::Stalled("Ambiguous".to_owned());
    assert!(judged(&good()[..2], stalled()).holds());
    assert_eq!(judged(&good()[1..], stalled()).lost.len(), 1);
}

#[test]
fn a_step_before_its_turn_is_found() {
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let mut calls = good();
        calls.swap(a, b);
        let verdict = judged(&calls, End::Completed);
        assert!(!verdict.lost.is_empty() && verdict.duplicates.is_empty(), "{a} {b}: {verdict:?}");
    }
}

#[test]
fn an_accepted_job_that_is_not_there_and_one_that_nobody_made_are_found() {
    let jobs = |ids: &[&str]| -> Vec<Job> {
        ids.iter().map(|id| Job { job_id: (*id).to_owned(), product_key: "product-0".to_owned() }).collect()
    };
    let promises = [promise(0, End::Completed)];
    assert_eq!(judge(&good(), &jobs(&["j0", "j1"]), &promises).lost.len(), 1);
    assert_eq!(judge(&good(), &jobs(&["j0", "j1", "j2", "j3"]), &promises).wrong.len(), 1);
    let mut unknown = good();
    unknown[1].params.insert("ProductKey".into(), "product-7".into());
    let verdict = judged(&unknown, End::Completed);
    assert_eq!((verdict.lost.len(), verdict.wrong.len()), (1, 1), "{verdict:?}");
}

#[test]
fn a_create_without_the_tag_or_of_no_declared_step_is_found() {
    let mut calls = good();
    calls[2].params.remove("Tag.2.Key");
    assert_eq!(judged(&calls, End::Completed).wrong.len(), 1);
    let mut calls = good();
    calls[2].params.insert("MaximumPerMinute".into(), "1000".into());
    let verdict = judged(&calls, End::Completed);
    assert_eq!((verdict.wrong.len(), verdict.lost.len()), (1, 1), "{verdict:?}");
}

#[test]
fn only_a_documented_end_is_an_end() {
    for end in [End::Open("OutcomeUnknown".into()), End::Stalled("GateFailed".into())] {
        assert_eq!(judged(&good(), end.clone()).wrong.len(), 1, "{end}");
    }
}
