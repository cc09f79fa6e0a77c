//! Jobs that carry a tag of ours and should not be there, or are somebody else's; and a person's word about them.

use std::collections::BTreeMap;

use fota::api::status::{StageState, StageStatus};
use fota::api::{ADOPT, RETRY, Replay, TAG_KEY};
use fota::cloud::{Call, Switches};
use fota::ota::{JobId, Operation, Params};
use fota::rollout::claim::{Part, token};

use super::drive::{Run, stalled};
use super::world::{Setting, State};
use super::{BAD, GOOD, OTHER, PRODUCT, audit, fleet, gated, manifest, switches};

fn run_with(switches: Switches) -> Run {
    Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches, rollout: gated(OTHER, 5), speed: 60 })
}

fn run() -> Run {
    run_with(switches())
}

fn command(run: &Run, annotation: &str, value: &str) {
    run.state().edit(|r| {
        r.metadata.annotations.get_or_insert_default().insert(annotation.to_owned(), value.to_owned());
    });
}

/// The tag of a stage's first part.
fn tag(stage: &str) -> String {
    token(&Part { uid: "uid-1", run: 1, stage, attempt: 1, part: 1 })
}

/// A static job that somebody else makes, pushed slowly.
fn plant(state: &mut State, firmware: &str, tag: Option<&str>, target: &[(&str, &str)]) -> String {
    let mut params: Params = [("FirmwareId", firmware), ("ProductKey", PRODUCT), ("MaximumPerMinute", "10")]
        .iter()
        .chain(target)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    for (key, value) in tag.map(|tag| [("Tag.1.Key", TAG_KEY), ("Tag.1.Value", tag)]).into_iter().flatten() {
        params.insert(key.to_owned(), value.to_owned());
    }
    let clocks = state.clocks();
    let call = Call::unsigned("auditor", Operation::CreateOTAStaticUpgradeJob, &params, None);
    let answer = state.cloud.handle(&call, clocks);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["Data"]["JobId"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

const ALL: &[(&str, &str)] = &[("TargetSelection", "ALL")];
const TENTH: &[(&str, &str)] = &[("TargetSelection", "GRAY"), ("GrayPercent", "10")];
const ONE: &[(&str, &str)] = &[("TargetSelection", "SPECIFIC"), ("TargetDeviceName.1", "dev-001")];

fn stage(run: &Run, name: &str) -> StageStatus {
    run.status().stages.into_iter().find(|s| s.name == name).unwrap()
}

fn is_cancelled(state: &State, job: &str) -> bool {
    audit::cancels(&state.cloud).iter().any(|id| id == job) && audit::pending(&state.cloud, job) == 0
}

#[test]
fn of_two_jobs_with_one_tag_the_oldest_is_kept_and_the_other_cancelled_and_told() {
    for tags_listed in [true, false] {
        let mut run = run_with(Switches { tags_listed, ..switches() });
        run.state().lose_creates = 1;
        run.until("sent", 20, |state| state.status().claim.is_some_and(|c| c.sent));
        let oldest = audit::accepted(&run.state().cloud)[0].clone();
        let other = plant(&mut run.state(), OTHER, Some(&tag("canary")), ALL);
        assert!(audit::pending(&run.state().cloud, &other) > 0);
        run.until("recorded", 20, |state| state.status().claim.is_none());
        assert_eq!(stage(&run, "canary").jobs[0].id, oldest);
        let status = run.status();
        assert_eq!(
            status.duplicates.iter().map(|d| (&d.id, d.stage.as_str())).collect::<Vec<_>>(),
            [(&other, "canary")]
        );
        let told = |state: &State| {
            state.notes.iter().any(|n| n.warning && n.reason == "DuplicateJob" && n.note.contains(&other))
        };
        assert!(told(&run.state()));
        run.until("cancelled", 20, |state| is_cancelled(state, &other));
        run.until("seen cancelled", 20, |state| state.status().duplicates[0].ended);
        assert!(!audit::cancels(&run.state().cloud).contains(&oldest));
    }
}

#[test]
fn a_second_job_that_is_listed_later_than_any_lag_is_found_by_the_audit() {
    for restart in [false, true] {
        let rollout = gated(OTHER, 5);
        let fleet = fleet(300, 0.9, 0.0);
        let mut run = Run::new(Setting { fleet, seed: 11, switches: switches(), rollout, speed: 1 });
        run.until_stage(1, "canary");
        run.turns(20);
        let other = plant(&mut run.state(), OTHER, Some(&tag("canary")), ALL);
        if restart {
            let now = run.state().outside;
            // Right behind the write that names it: whoever comes next cancels it.
            run.until("told", 20, |state| !state.status().duplicates.is_empty());
            run.state().die_after = Some(now);
            run.restart();
        }
        run.until("cancelled", 20, |state| is_cancelled(state, &other));
        run.until("seen cancelled", 20, |state| state.status().duplicates[0].ended);
        let recorded = stage(&run, "canary").jobs;
        assert_eq!(recorded.len(), 1);
        assert_ne!(recorded[0].id, other);
        assert_eq!(run.state().notes.iter().filter(|n| n.reason == "DuplicateJob").count(), 1);
    }
}

#[test]
fn a_job_that_shows_up_when_its_claim_is_over_is_taken_and_none_is_made() {
    let mut run = run();
    run.state().after_claim = Some(|state: &mut State| state.edit(|r| r.spec.suspend = Some(true)));
    run.turns(5);
    assert_eq!((run.status().claim, stage(&run, "canary").epoch), (None, 1));
    let late = plant(&mut run.state(), OTHER, Some(&tag("canary")), TENTH);
    run.state().edit(|r| r.spec.suspend = None);
    run.until_stage(1, "canary");
    let canary = stage(&run, "canary");
    assert_eq!((canary.state, canary.jobs[0].id.as_str()), (StageState::Running, late.as_str()));
    run.turns(3);
    assert_eq!(audit::creates(&run.state().cloud), []);
    assert_eq!(stage(&run, "canary").jobs[0].sent_percent.unwrap().to_string(), "10", "read from the job itself");
}

/// Stopped in front of its first create, by a job of somebody else.
fn stopped(switches: Switches) -> (Run, String) {
    let mut run = run_with(switches);
    let theirs = plant(&mut run.state(), OTHER, Some("aaaaaaaaaaaaaaaaaaaaaaaaaa"), TENTH);
    run.until("stopped", 20, |state| stalled(&state.status()).is_some());
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!(reason, "ForeignOwner");
    for word in [theirs.as_str(), ADOPT, RETRY, "canary"] {
        assert!(message.contains(word), "{message}");
    }
    (run, theirs)
}

#[test]
fn jobs_of_another_owner_stop_the_first_create_until_a_person_says_to_go_on() {
    for tags_listed in [true, false] {
        let (mut run, theirs) = stopped(Switches { tags_listed, ..switches() });
        run.turns(30);
        run.restart();
        run.turns(5);
        assert_eq!(audit::creates(&run.state().cloud), []);
        command(&run, RETRY, "1");
        run.until_stage(1, "canary");
        assert_eq!((run.status().beside, audit::accepted(&run.state().cloud).len()), (vec![theirs.clone()], 1));
        assert!(!audit::cancels(&run.state().cloud).contains(&theirs), "it is not ours to cancel");
    }
}

#[test]
fn a_job_of_another_owner_that_ends_is_waited_for_and_no_more() {
    let (mut run, theirs) = stopped(switches());
    let cancel: Params = [
        ("JobId", theirs.as_str()),
        ("CancelQueuedTask", "true"),
        ("CancelNotifiedTask", "true"),
        ("CancelInProgressTask", "true"),
    ]
    .iter()
    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
    .collect();
    let mut state = run.state();
    let clocks = state.clocks();
    state.cloud.handle(&Call::unsigned("auditor", Operation::CancelOTATaskByJob, &cancel, None), clocks);
    drop(state);
    run.until_stage(1, "canary");
    assert!(run.status().beside.is_empty());
}

#[test]
fn a_job_of_another_owner_is_adopted_when_it_is_of_the_stage_s_kind() {
    let (mut run, theirs) = stopped(switches());
    command(&run, ADOPT, &theirs);
    run.until_stage(1, "canary");
    let canary = stage(&run, "canary");
    assert_eq!((canary.jobs[0].id.as_str(), canary.state), (theirs.as_str(), StageState::Running));
    assert_eq!(canary.jobs[0].token, tag("canary"));
    assert_eq!(run.status().handled["adopt"], theirs);
    assert!(run.state().notes.iter().any(|n| n.note.contains("adopted for stage canary by command")));
    assert_eq!(audit::creates(&run.state().cloud), []);
    run.until_stage(1, "pilots");
    assert_eq!(audit::accepted(&run.state().cloud).len(), 1, "none for the canary");
}

#[test]
fn a_job_of_another_kind_is_not_adopted() {
    let mut run = run();
    let theirs = plant(&mut run.state(), OTHER, Some("aaaaaaaaaaaaaaaaaaaaaaaaaa"), ALL);
    run.until("stopped", 20, |state| stalled(&state.status()).is_some());
    command(&run, ADOPT, &theirs);
    run.until("refused", 5, |state| state.status().adopt_refused.is_some());
    let why = run.status().adopt_refused.unwrap();
    assert!(why.contains(&theirs) && why.contains("ALL") && why.contains("Percent"), "{why}");
    assert_eq!(
        (run.status().handled["adopt"].clone(), stalled(&run.status()).unwrap().0),
        (theirs, "ForeignOwner".into())
    );
    assert!(run.state().notes.iter().any(|n| n.warning && n.reason == "AdoptRefused" && n.note == why));
    assert!(run.status().stages.iter().all(|s| s.jobs.is_empty()));
}

#[test]
fn jobs_that_another_rollout_has_recorded_are_no_strangers() {
    let mut run = run();
    let theirs = plant(&mut run.state(), OTHER, Some("aaaaaaaaaaaaaaaaaaaaaaaaaa"), ONE);
    run.state().siblings = BTreeMap::from([(JobId::new(theirs), "heating/other".to_owned())]);
    run.until_stage(1, "canary");
}

#[test]
fn jobs_of_its_own_earlier_run_are_no_strangers() {
    let mut run = run();
    run.until_stage(1, "canary");
    run.turns(1);
    run.state().edit(|r| r.spec.source_versions = Some(vec!["1.0".to_owned(), "0.9".to_owned()]));
    run.until_stage(2, "canary");
    assert!(run.state().notes.iter().all(|n| !n.warning), "{:?}", run.state().notes);
    run.turns(20);
    assert!(run.status().duplicates.is_empty());
}

/// A create that got no answer, in an account that has never shown a tag of ours: a person is asked.
fn ambiguous() -> Run {
    let mut run = run();
    run.state().account.as_mut().unwrap().tag_echoed = false;
    run.state().account.as_mut().unwrap().replay = Replay::Settle;
    run.die_after_claim();
    run.until("ambiguous", 600, |state| stalled(&state.status()).is_some_and(|(reason, _)| reason == "Ambiguous"));
    run
}

#[test]
fn what_a_person_adopts_is_looked_at_first() {
    let mut run = ambiguous();
    let mut state = run.state();
    let (other, kind) = (plant(&mut state, BAD, None, TENTH), plant(&mut state, OTHER, None, ONE));
    let (foreign, right) = (plant(&mut state, OTHER, Some("t"), TENTH), plant(&mut state, OTHER, None, TENTH));
    drop(state);
    for (value, said) in [
        ("nonsense", "does not show it"),
        (other.as_str(), "package bad, not of other"),
        (kind.as_str(), "SPECIFIC"),
        (foreign.as_str(), "tag of another create"),
    ] {
        command(&run, ADOPT, value);
        run.until("handled", 5, |state| state.status().handled.get("adopt").is_some_and(|v| v == value));
        let why = run.status().adopt_refused.unwrap();
        assert!(why.contains(said) && why.contains(value), "{why}");
        assert!(run.status().claim.is_some());
    }
    command(&run, ADOPT, &right);
    run.until("adopted", 5, |state| state.status().claim.is_none());
    assert_eq!((stage(&run, "canary").jobs[0].id.clone(), run.status().adopt_refused), (right.clone(), None));
    assert_eq!(audit::creates(&run.state().cloud), []);
    command(&run, ADOPT, &kind);
    run.until("handled", 5, |state| state.status().handled["adopt"] == kind);
    assert!(run.status().adopt_refused.unwrap().contains("no create is unanswered"));
    assert_eq!(stage(&run, "canary").jobs.len(), 1);
}

#[test]
fn a_verification_that_ended_meanwhile_is_adopted_and_the_run_goes_on() {
    let setting =
        Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout: manifest(), speed: 60 };
    let mut run = Run::new(setting);
    run.state().account.as_mut().unwrap().tag_echoed = false;
    run.state().account.as_mut().unwrap().replay = Replay::Settle;
    run.die_after_claim();
    let mut state = run.state();
    let params: Params = [("FirmwareId", GOOD), ("ProductKey", PRODUCT), ("TargetDeviceName.1", "lab-1")]
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let clocks = state.clocks();
    let answer = state.cloud.handle(&Call::unsigned("auditor", Operation::CreateOTAVerifyJob, &params, None), clocks);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let job = body["Data"]["JobId"].as_str().unwrap().to_owned();
    drop(state);
    run.until("ambiguous", 600, |state| stalled(&state.status()).is_some_and(|(reason, _)| reason == "Ambiguous"));
    command(&run, ADOPT, &job);
    run.until_stage(1, "canary");
    let verify = stage(&run, "verify");
    assert_eq!((verify.state, verify.jobs[0].id.as_str()), (StageState::Passed, job.as_str()));
}

#[test]
fn a_status_that_somebody_broke_is_called_so_and_nothing_is_created() {
    let mut run = run();
    run.state().after_claim = Some(|state: &mut State| state.edit(|r| r.status.as_mut().unwrap().claim = None));
    run.turns(10);
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!(reason, "StatusInvalid");
    assert!(message.contains("canary"), "{message}");
    run.turns(20);
    assert_eq!(audit::creates(&run.state().cloud), []);
    run.state().edit(|r| r.status.as_mut().unwrap().stages[0].state = StageState::Pending);
    run.until_stage(1, "canary");
}
