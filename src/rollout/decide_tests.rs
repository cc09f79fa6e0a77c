//! Decisions over observations made by hand, and what must hold of every decision over random ones.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::decide::{Act, Step, decide};
use super::observed::{Account, Empty, JobReading, Listed, Observed, Sends, Ticket, Trouble};
use super::story::Kind;
use super::{absorb, stage};
use crate::api::account::Edition;
use crate::api::status::{Ledger, Phase, StageState};
use crate::api::{FINALIZER, FirmwareRollout, Replay, Signature};
use crate::ota::firmware::{Firmware, FirmwareStatus};
use crate::ota::id::{FirmwareId, JobId};
use crate::ota::job::{Job, JobStatus, JobType};
use crate::ota::outcome::{CallError, Outcome};
use crate::ota::{Class, Operation};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn rollout() -> FirmwareRollout {
    let gate = json!({"matureAfter": "1m", "soak": "30s"});
    serde_json::from_value(json!({
        "apiVersion": "fota.dev/v1alpha1",
        "kind": "FirmwareRollout",
        "metadata": {"name": "r", "namespace": "n", "uid": "u", "generation": 1, "finalizers": [FINALIZER]},
        "spec": {
            "accountRef": {"name": "a"},
            "productKey": "pk",
            "firmware": {"id": "fw"},
            "sourceVersions": ["1.0", "1.1"],
            "verify": {"devices": ["lab-1", "lab-2"]},
            "gray": [
                {"name": "canary", "percent": 1, "gate": gate},
                {"name": "named", "devices": ["x", "y"], "gate": gate},
                {"name": "broad", "percent": 50, "gate": gate},
            ],
            "full": {"static": {}, "gate": gate},
        },
    }))
    .unwrap()
}

fn firmware(status: FirmwareStatus) -> Firmware {
    Firmware {
        id: FirmwareId::new("fw"),
        name: "fw".into(),
        version: "2.0".into(),
        src_version: None,
        differential: false,
        module: Some("default".into()),
        product_key: Some("pk".into()),
        status,
        verify_progress: None,
        files: None,
        size: None,
    }
}

fn observed(status: FirmwareStatus) -> Observed {
    let account = Account {
        endpoint: "https://e/".into(),
        region: Some("r".into()),
        instance_id: Some("iot-1".into()),
        access_key: "k".into(),
        principal: "k".into(),
        signature: Signature::V3,
        list_lag: Duration::from_secs(1),
        replay: Replay::Nonce,
        tag_echoed: true,
        unlisted: false,
        edition: Edition::Current,
    };
    Observed {
        account: Some(Ok(account)),
        firmware: Some(Ok(firmware(status))),
        cloud: Some(at(0)),
        fleet: Some(at(0)),
        listed: Some(Listed { firmware: "fw".into(), asked: Duration::ZERO, complete: true, jobs: vec![] }),
        ..Observed::default()
    }
}

fn reason(step: &Step) -> &str {
    &step.status.conditions[0].reason
}

fn first(observed: &Observed) -> Step {
    decide(&rollout(), observed, at(0))
}

/// Takes over a step's status as the API server would.
fn write(rollout: &mut FirmwareRollout, step: &Step) {
    rollout.status = Some(step.status.clone());
}

#[test]
fn the_finalizer_comes_first() {
    let mut rollout = rollout();
    rollout.metadata.finalizers = None;
    let step = decide(&rollout, &observed(FirmwareStatus::Verified), at(0));
    assert_eq!(step.act, Act::AddFinalizer);
    assert_eq!((step.status.run, &step.status.claim), (0, &None));
}

#[test]
fn what_is_missing_is_waited_for_by_name() {
    let base = observed(FirmwareStatus::Unverified);
    let missing = Trouble { reason: "AccountNotFound", message: "no OTAAccount a".into(), stalled: true };
    let elsewhere = observed(FirmwareStatus::Verifying);
    for (observed, expected) in [
        (Observed { account: None, ..base.clone() }, "ReadingAccount"),
        (Observed { account: Some(Err(missing)), ..base.clone() }, "AccountNotFound"),
        (Observed { firmware: None, ..base.clone() }, "ReadingFirmware"),
        (Observed { cloud: None, ..base.clone() }, "ReadingFirmware"),
        (Observed { cloud: Some(at(-61)), ..base.clone() }, "ClockSkew"),
        (Observed { cloud: Some(at(61)), ..base.clone() }, "ClockSkew"),
        (Observed { rival: Some("n/older".into()), ..base.clone() }, "WaitingForRollout"),
        (elsewhere, "VerifyingElsewhere"),
    ] {
        let step = first(&observed);
        assert_eq!((&step.act, reason(&step), &step.status.claim), (&Act::Wait, expected, &None));
    }
    let edge = Observed { cloud: Some(at(60)), ..base };
    assert_eq!(first(&edge).act, Act::Claim);
}

#[test]
fn a_package_that_needs_verification_is_not_rolled_out_without() {
    let mut rollout = rollout();
    rollout.spec.verify = None;
    let step = decide(&rollout, &observed(FirmwareStatus::Unverified), at(0));
    assert_eq!((&step.act, reason(&step)), (&Act::Wait, "VerifyRequired"));
    let failed = decide(&self::rollout(), &observed(FirmwareStatus::VerifyFailed), at(0));
    assert_eq!((failed.status.phase, reason(&failed)), (Some(Phase::Failed), "VerifyFailed"));
}

#[test]
fn a_verified_or_exempt_package_skips_the_verification() {
    for (status, reason) in [(FirmwareStatus::Verified, "AlreadyVerified"), (FirmwareStatus::Exempt, "NotRequired")] {
        let step = first(&observed(status));
        assert_eq!(step.act, Act::Claim);
        let verify = &step.status.stages[0];
        assert_eq!((verify.state, verify.reason.as_deref()), (StageState::Skipped, Some(reason)));
        assert_eq!(step.status.claim.unwrap().stage, "canary");
    }
}

/// The wire parameters of a stage's claim, but for its token.
fn wire(rollout: &FirmwareRollout, stage: &str) -> (String, Vec<(String, String)>) {
    let status = if stage == "verify" { FirmwareStatus::Unverified } else { FirmwareStatus::Verified };
    let observed = observed(status);
    let mut rollout = rollout.clone();
    // The stages before it are skipped by hand.
    let step = decide(&rollout, &observed, at(0));
    let mut status = step.status;
    if status.claim.as_ref().is_some_and(|c| c.stage != stage) {
        status.claim = None;
        for planned in stage::plan(&rollout.spec).iter().take_while(|s| s.name != stage) {
            let mut entry = status.stages[0].clone();
            (entry.name, entry.state) = (planned.name.clone(), StageState::Skipped);
            status.stages.retain(|s| s.name != planned.name);
            status.stages.push(entry);
        }
        rollout.status = Some(status.clone());
        status = decide(&rollout, &observed, at(0)).status;
    }
    let claim = status.claim.unwrap();
    assert_eq!(claim.stage, stage);
    let mut parameters = claim.call.parameters;
    assert_eq!(parameters.remove("Tag.1.Value"), Some(claim.token));
    (claim.call.operation, parameters.into_iter().collect())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        text.split_whitespace().map(|p| p.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    pairs.sort();
    pairs
}

#[test]
fn a_claim_carries_exactly_the_wire_parameters_of_its_stage() {
    let common = "FirmwareId=fw ProductKey=pk IotInstanceId=iot-1 Tag.1.Key=fota.id";
    let sources = "SrcVersion.1=1.0 SrcVersion.2=1.1";
    let mut plain = rollout();
    let verify = Operation::CreateOTAVerifyJob.name().to_owned();
    let upgrade = Operation::CreateOTAStaticUpgradeJob.name().to_owned();
    assert_eq!(wire(&plain, "verify"), (verify.clone(), pairs(common)));
    for (stage, own) in [
        ("canary", format!("TargetSelection=GRAY GrayPercent=1 {sources}")),
        ("named", "TargetSelection=SPECIFIC".to_owned()),
        ("full", format!("TargetSelection=ALL {sources}")),
    ] {
        let expected = pairs(&format!("{common} MaximumPerMinute=1000 {own}"));
        assert_eq!(wire(&plain, stage), (upgrade.clone(), expected), "{stage}");
    }
    plain.spec.delivery = serde_json::from_value(json!({
        "maximumPerMinute": 500, "deviceTimeout": "2h", "retry": {"count": 2, "interval": "30m"},
        "overwrite": "Pending", "tags": {"campaign": "winter", "a": "b"},
    }))
    .unwrap();
    plain.spec.gray.as_mut().unwrap()[0].delivery = serde_json::from_value(json!({"maximumPerMinute": 200})).unwrap();
    let all = "TimeoutInMinutes=120 RetryCount=2 RetryInterval=30 OverwriteMode=2 Tag.2.Key=a Tag.2.Value=b \
               Tag.3.Key=campaign Tag.3.Value=winter";
    let canary = format!("{common} {sources} TargetSelection=GRAY GrayPercent=1 MaximumPerMinute=200 {all}");
    assert_eq!(wire(&plain, "canary"), (upgrade.clone(), pairs(&canary)));
    let full = format!("{common} {sources} TargetSelection=ALL MaximumPerMinute=500 {all}");
    assert_eq!(wire(&plain, "full"), (upgrade, pairs(&full)));
    let inherited =
        format!("{common} TimeoutInMinutes=120 Tag.2.Key=a Tag.2.Value=b Tag.3.Key=campaign Tag.3.Value=winter");
    assert_eq!(wire(&plain, "verify"), (verify.clone(), pairs(&inherited)), "what a verification takes");
    plain.spec.delivery = serde_json::from_value(json!({
        "push": false, "confirm": true, "protocol": "HTTPS", "multiModule": true, "overwrite": "Never",
    }))
    .unwrap();
    plain.spec.verify.as_mut().unwrap().delivery =
        serde_json::from_value(json!({"push": true, "deviceTimeout": "5m"})).unwrap();
    plain.spec.gray.as_mut().unwrap().clear();
    plain.spec.full = serde_json::from_value(json!({"static": {
        "group": {"id": "g-1"}, "schedule": {"start": "2027-01-15T09:00:00Z", "finish": "2027-01-16T08:00:00Z"},
    }}))
    .unwrap();
    let checked = format!("{common} NeedPush=true DownloadProtocol=HTTPS TimeoutInMinutes=5");
    assert_eq!(wire(&plain, "verify"), (verify, pairs(&checked)), "confirm is never inherited");
    let full = format!(
        "{common} MaximumPerMinute=1000 NeedPush=false NeedConfirm=true DownloadProtocol=HTTPS MultiModuleMode=true \
         OverwriteMode=1 TargetSelection=GROUP GroupId=g-1 GroupType=LINK_PLATFORM ScheduleTime=1800003600000 \
         ScheduleFinishTime=1800086400000"
    );
    assert_eq!(wire(&plain, "full").1, pairs(&full));
    plain.spec.gray = serde_json::from_value(json!([{"name": "group", "group": {"id": "g-2"}}])).unwrap();
    let group = format!(
        "{common} MaximumPerMinute=1000 NeedPush=false NeedConfirm=true DownloadProtocol=HTTPS MultiModuleMode=true \
         OverwriteMode=1 TargetSelection=GROUP GroupId=g-2 GroupType=LINK_PLATFORM"
    );
    assert_eq!(wire(&plain, "group").1, pairs(&group));
}

#[test]
fn a_refused_create_is_tried_again_as_its_code_deserves() {
    let mut rollout = rollout();
    let seen = observed(FirmwareStatus::Unverified);
    let claiming = decide(&rollout, &seen, at(0));
    write(&mut rollout, &claiming);
    let claimed = rollout.status.clone().unwrap();
    let refused = |class, code: &str| {
        let error = CallError::new(class, code, "no").of(Operation::CreateOTAVerifyJob).with_request_id("5EED");
        let mut status = claimed.clone();
        let situation = absorb::refuse(&mut status, &error, 1, at(0));
        assert!(status.claim.is_none() && situation.because.contains("RequestId 5EED"), "{situation:?}");
        let refusal = status.stages[0].refusal.clone().unwrap();
        (situation, refusal.retry_at.map(|again| again.0.duration_since(at(0)).as_secs()))
    };
    // Somebody has to allow it, outside of the rollout: told, and tried now and then.
    let (told, again) = refused(Class::Terminal, "Forbidden.RAM");
    assert_eq!((told.reason, told.kind, again), ("ActionForbidden", Kind::Stalled, Some(300)));
    assert!(told.because.contains("iot:CreateOTAVerifyJob is not allowed"), "{told:?}");
    // Somebody has to edit it.
    let (told, again) = refused(Class::Terminal, "iot.firmware.InvalidGrayPercent");
    assert_eq!((told.reason, told.kind, again), ("TargetsRefused", Kind::Stalled, None));
    let (told, again) = refused(Class::Done, "iot.firmware.InProgressDynamicJobExisted");
    assert_eq!((told.reason, told.kind, again), ("DynamicJobExists", Kind::Stalled, None));
    // It passes.
    for (class, code, reason) in [
        (Class::Transient, "iot.firmware.SystemBusy", "CloudBusy"),
        (Class::Transient, "NeverHeardOf", "CloudBusy"),
        (Class::Terminal, "iot.firmware.FirmwareNotVerified", "FirmwareNotVerified"),
        (Class::Done, "iot.firmware.InProgressVerifyJobExisted", "VerifyingElsewhere"),
    ] {
        let (told, again) = refused(class, code);
        assert_eq!((told.reason, told.kind, again), (reason, Kind::Waiting, Some(5)), "{code}");
    }
}

#[test]
fn a_ticket_decides_what_becomes_of_a_claim() {
    let mut rollout = rollout();
    let mut seen = observed(FirmwareStatus::Unverified);
    let claiming = decide(&rollout, &seen, at(0));
    write(&mut rollout, &claiming);
    let claim = rollout.status.clone().unwrap().claim.unwrap();
    seen.ticket = Ticket::Fresh;
    let Act::Create(request) = decide(&rollout, &seen, at(1)).act else { panic!("a fresh ticket creates") };
    assert_eq!(request.operation, Operation::CreateOTAVerifyJob);
    assert_eq!(request.stamp.as_ref().unwrap().at, claim.at.0);
    assert_eq!(request.parameters["TargetDeviceName.2"], "lab-2");
    assert_eq!(request.parameters["Tag.1.Value"], claim.token);
    // Whatever would make it another create withdraws it.
    let mut edits: Vec<(&str, FirmwareRollout, Observed)> = vec![];
    let mut edited = rollout.clone();
    edited.spec.suspend = Some(true);
    edits.push(("suspended", edited, seen.clone()));
    let mut edited = rollout.clone();
    edited.spec.verify.as_mut().unwrap().devices.push("lab-3".into());
    edits.push(("devices", edited, seen.clone()));
    let mut edited = rollout.clone();
    edited.spec.firmware.id = Some("other".into());
    edits.push(("firmware", edited, seen.clone()));
    let mut moved = seen.clone();
    moved.account.as_mut().unwrap().as_mut().unwrap().endpoint = "https://f/".into();
    edits.push(("account", rollout.clone(), moved));
    edits.push(("expired", rollout.clone(), Observed { ticket: Ticket::Expired, ..seen.clone() }));
    for (what, rollout, observed) in edits {
        let step = decide(&rollout, &observed, at(1));
        assert_eq!((&step.act, &step.status.claim), (&Act::Withdraw, &None), "{what}");
        assert_eq!(step.status.stages[0].state, StageState::Pending, "{what}");
    }
    seen.ticket = Ticket::None;
    let step = decide(&rollout, &seen, at(1));
    assert_eq!((&step.act, reason(&step)), (&Act::Wait, "OutcomeUnknown"));
    // Somebody else first writes that the claim may have been sent, then looks, then repeats it.
    assert!(step.status.claim.as_ref().unwrap().sent);
    write(&mut rollout, &step);
    let claim = step.status.claim;
    assert_eq!(decide(&rollout, &seen, at(1)).act, Act::Wait);
    let empty =
        |seconds: u64| Empty { asked: Duration::from_secs(seconds), date: Some(at(i64::try_from(seconds).unwrap())) };
    seen.lookup.empty = vec![empty(1)];
    assert_eq!(decide(&rollout, &seen, at(1)).act, Act::Replay(request.clone()));
    // It is signed as the claim says, whatever the account says by now.
    seen.account.as_mut().unwrap().as_mut().unwrap().signature = Signature::V1;
    assert_eq!(decide(&rollout, &seen, at(1)).act, Act::Replay(request));
    // It is not repeated where its nonce may be forgotten, or counts for nothing, and no other is made before its end.
    let ended = vec![empty(1), empty(959), empty(960)];
    for (what, cloud, replay, empty, expected) in [
        ("settling", at(1), Replay::Settle, vec![empty(1)], "OutcomeUnknown"),
        ("old", at(601), Replay::Nonce, vec![empty(1)], "OutcomeUnknown"),
        ("one listing after its end", at(960), Replay::Nonce, ended.clone(), "OutcomeUnknown"),
        ("two", at(960), Replay::Nonce, [ended.clone(), vec![empty(961)]].concat(), "ClaimExpired"),
        ("settled", at(960), Replay::Settle, [ended, vec![empty(961)]].concat(), "ClaimExpired"),
    ] {
        let mut seen = Observed { cloud: Some(cloud), ..seen.clone() };
        seen.lookup.empty = empty;
        seen.account.as_mut().unwrap().as_mut().unwrap().replay = replay;
        let step = decide(&rollout, &seen, cloud);
        assert_eq!((&step.act, reason(&step)), (&Act::Wait, expected), "{what}");
        assert_eq!(step.status.claim, claim.clone().filter(|_| expected != "ClaimExpired"), "{what}");
        // Where no tag was ever shown, its absence says nothing.
        seen.account.as_mut().unwrap().as_mut().unwrap().tag_echoed = false;
        let step = decide(&rollout, &seen, cloud);
        assert_eq!(reason(&step), if expected == "ClaimExpired" { "Ambiguous" } else { expected }, "{what}");
        assert_eq!(step.status.claim, claim, "{what}");
    }
    // The nonce was used, and two listings since then are without it.
    seen.sends.nonce_used = Some(Duration::from_secs(2));
    seen.lookup.empty = vec![empty(1), empty(2)];
    assert_eq!(reason(&decide(&rollout, &seen, at(3))), "OutcomeUnknown");
    seen.lookup.empty = vec![empty(2), empty(6)];
    assert_eq!(reason(&decide(&rollout, &seen, at(6))), "ClaimExpired");
    // A refusal of a copy says nothing about an earlier one.
    seen.sends = Sends { refused: Some(CallError::new(Class::Terminal, "iot.firmware.X", "no")), ..Sends::default() };
    let step = decide(&rollout, &seen, at(6));
    assert_eq!((reason(&step), &step.status.claim), ("CreateRefused", &claim));
    seen.lookup.empty = vec![empty(960), empty(961)];
    assert_eq!(decide(&rollout, &seen, at(961)).status.claim, None);
}

fn reading(counts: Ledger, now: i64, settled: bool, consistent: bool) -> JobReading {
    let job = Job {
        job_id: JobId::new("j"),
        firmware_id: FirmwareId::new("fw"),
        product_key: "pk".into(),
        name: None,
        dest_version: None,
        desc: None,
        status: JobStatus::InProgress,
        job_type: JobType::Upgrade,
        selection_type: "STATIC".into(),
        target_selection: "GRAY".into(),
        utc_create: Some(at(0)),
        utc_modified: None,
        utc_start: Some(at(0)),
        utc_end: None,
        utc_schedule: None,
        utc_schedule_finish: None,
        src_versions: vec![],
        gray_percent: None,
        dynamic_mode: None,
        retry_interval: None,
        retry_count: None,
        timeout_in_minutes: None,
        maximum_per_minute: None,
        overwrite_mode: None,
        need_push: None,
        need_confirm: None,
        multi_module_mode: None,
        download_protocol: None,
        group_id: None,
        group_name: None,
        tags: vec![],
    };
    JobReading {
        job: Some(job),
        counts,
        moving: 0,
        consistent,
        settled,
        now: at(now),
        taken_at: Duration::from_secs(now.unsigned_abs()),
        cancel_sent: None,
    }
}

fn accepted(id: &str) -> Outcome {
    Outcome::Accepted { job_id: JobId::new(id), utc_create: Some(at(0)), request_id: "R".into() }
}

#[test]
fn a_gate_that_can_never_be_met_needs_a_person() {
    let mut rollout = rollout();
    let gate = json!({"minDecided": 150, "matureAfter": "1m", "soak": "30s"});
    rollout.spec.gray.as_mut().unwrap()[0].gate = serde_json::from_value(gate).unwrap();
    let mut seen = observed(FirmwareStatus::Verified);
    let step = decide(&rollout, &seen, at(0));
    rollout.status = Some(absorb::create(&step.status, &accepted("j"), 1, at(0)));
    seen.jobs.insert(JobId::new("j"), reading(Ledger { at_target: 100, ..Ledger::default() }, 500, true, true));
    let step = decide(&rollout, &seen, at(500));
    assert_eq!((&step.act, reason(&step)), (&Act::Wait, "GateUnreachable"));
    assert!(step.because.contains("minDecided is 150"));
}

/// The canary has passed with a device that was pushed to and is silent; the create of the next stage got no answer.
fn unanswered() -> (FirmwareRollout, Observed) {
    let mut rollout = rollout();
    let mut seen = observed(FirmwareStatus::Verified);
    let step = decide(&rollout, &seen, at(0));
    rollout.status = Some(absorb::create(&step.status, &accepted("j"), 1, at(0)));
    let counts = Ledger { at_target: 99, notified: 1, ..Ledger::default() };
    seen.jobs.insert(JobId::new("j"), reading(counts, 500, true, true));
    let soaking = decide(&rollout, &seen, at(500));
    write(&mut rollout, &soaking);
    seen.jobs.insert(JobId::new("j"), reading(counts, 600, true, true));
    seen.cloud = Some(at(600));
    let step = decide(&rollout, &seen, at(600));
    assert_eq!(step.act, Act::Claim);
    let error = CallError::new(Class::Unknown, "NoAnswer", "reset");
    rollout.status = Some(absorb::create(&step.status, &Outcome::Unknown(error), 1, at(600)));
    assert!(rollout.status.as_ref().unwrap().claim.as_ref().is_some_and(|c| c.sent && c.stage == "named"));
    (rollout, seen)
}

#[test]
fn recorded_jobs_are_cancelled_at_once_while_an_unanswered_create_is_looked_for() {
    let (rollout, seen) = unanswered();
    let mut deleted = rollout.clone();
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    let mut replaced = rollout.clone();
    replaced.spec.firmware.id = Some("other".into());
    let mut aborted = rollout.clone();
    aborted.metadata.annotations = Some([(crate::api::ABORT.to_owned(), "1".to_owned())].into());
    for (what, rollout) in [("deleted", deleted), ("replaced", replaced), ("aborted", aborted)] {
        let step = decide(&rollout, &seen, at(601));
        assert_eq!(step.act, Act::Cancel(JobId::new("j"), super::decide::Pending::All), "{what}");
        assert!(step.status.claim.is_some(), "{what}");
        let mut seen = seen.clone();
        let counts = Ledger { at_target: 99, cancelled: 1, ..Ledger::default() };
        seen.jobs.insert(JobId::new("j"), reading(counts, 601, true, true));
        assert_eq!(decide(&rollout, &seen, at(602)).act, Act::Wait, "{what}: looked for, never repeated");
    }
    assert_eq!(decide(&rollout, &seen, at(601)).act, Act::Wait);
}

#[test]
fn a_job_too_many_is_written_down_before_it_is_cancelled() {
    // To whoever reads an old version, a job that was recorded since looks like one too many: the write tells.
    let mut rollout = rollout();
    let mut seen = observed(FirmwareStatus::Verified);
    let step = decide(&rollout, &seen, at(0));
    rollout.status = Some(absorb::create(&step.status, &accepted("j"), 1, at(0)));
    let counts = Ledger { notified: 100, ..Ledger::default() };
    seen.jobs = ["j", "k"].map(|id| (JobId::new(id), reading(counts, 10, true, true))).into();
    let token = rollout.status.as_ref().unwrap().stages[1].jobs[0].token.clone();
    let tagged = |id: &str, token: &str| super::observed::Tagged {
        id: JobId::new(id),
        token: token.to_owned(),
        product_key: "pk".into(),
        utc_create: None,
    };
    seen.listed.as_mut().unwrap().jobs = vec![tagged("j", &token), tagged("k", &token), tagged("f", "foreign")];
    let step = decide(&rollout, &seen, at(10));
    assert_eq!(step.act, Act::Wait);
    let noted: Vec<_> = step.status.duplicates.iter().map(|d| (d.id.as_str(), d.stage.as_str(), d.ended)).collect();
    assert_eq!(noted, [("k", "canary", false)]);
    write(&mut rollout, &step);
    let step = decide(&rollout, &seen, at(10));
    assert_eq!(step.act, Act::Cancel(JobId::new("k"), super::decide::Pending::All));
    // No stage starts before it is seen cancelled.
    let cancelled = Ledger { cancelled: 100, ..Ledger::default() };
    let done = JobReading { cancel_sent: Some(Duration::from_secs(11)), ..reading(cancelled, 12, true, true) };
    seen.jobs.insert(JobId::new("k"), done);
    let step = decide(&rollout, &seen, at(12));
    assert_eq!((&step.act, step.status.duplicates[0].ended), (&Act::Wait, true));
    write(&mut rollout, &step);
    assert_eq!(decide(&rollout, &seen, at(12)).status.duplicates, step.status.duplicates);
}

#[test]
fn a_retry_whose_jobs_find_no_room_is_not_claimed() {
    let mut rollout = rollout();
    let seen = observed(FirmwareStatus::Verified);
    let step = decide(&rollout, &seen, at(0));
    let mut status = absorb::create(&step.status, &accepted("j0"), 1, at(0));
    let job = status.stages[1].jobs[0].clone();
    status.stages[1].jobs =
        (0..25).map(|n| crate::api::status::JobStatus { id: format!("j{n}"), ..job.clone() }).collect();
    (status.stages[1].state, status.stages[1].attempt) = (StageState::Pending, 2);
    rollout.status = Some(status);
    let mut seen = seen;
    let counts = Ledger { failed: 80, ..Ledger::default() };
    let names = |many: usize| (0..many).map(|n| (format!("d{n:04}"), Some(at(1)))).collect::<Vec<_>>();
    let of: Vec<_> = (0..25).map(|n| JobId::new(format!("j{n}"))).collect();
    seen.jobs = of.iter().map(|id| (id.clone(), reading(counts, 10, true, true))).collect();
    // 25 jobs are there, and a stage keeps 32: seven more parts of 200 names fit, eight don't.
    for (many, fits) in [(1_400, true), (1_401, false)] {
        seen.unfinished = Some(super::observed::Unfinished { of: of.clone(), names: names(many) });
        let step = decide(&rollout, &seen, at(20));
        assert_eq!(step.act == Act::Claim, fits, "{many}: {}", step.because);
        assert_eq!(step.status.stages[1].retries.len(), usize::from(fits));
        assert!(fits || reason(&step) == "StatusFull" && step.because.contains("at most 32"), "{}", step.because);
    }
}

#[test]
fn a_run_s_first_create_waits_for_a_fresh_full_listing() {
    let listed = observed(FirmwareStatus::Verified).listed.unwrap();
    for (what, listed, now) in [
        ("none", None, 0),
        ("of another package", Some(Listed { firmware: "x".into(), ..listed.clone() }), 0),
        ("incomplete", Some(Listed { complete: false, ..listed.clone() }), 0),
        ("old", Some(listed.clone()), 31),
    ] {
        let monotonic = Duration::from_secs(now);
        let seen = Observed { listed, monotonic, ..observed(FirmwareStatus::Verified) };
        let step = first(&seen);
        assert_eq!((&step.act, reason(&step)), (&Act::Wait, "ReadingJobs"), "{what}");
    }
    let seen = Observed { monotonic: Duration::from_secs(30), ..observed(FirmwareStatus::Verified) };
    assert_eq!(first(&seen).act, Act::Claim);
}

/// One turn of a random world.
#[derive(Debug, Clone)]
struct Turn {
    seconds: i64,
    firmware: i64,
    ticket: u8,
    outcome: u8,
    counts: [i64; 6],
    sound: (bool, bool),
    edit: u8,
    blind: u8,
}

fn turn() -> impl Strategy<Value = Turn> {
    let counts = [0i64..200, 0..8, 0..8, 0..8, 0..8, 0..8];
    (0i64..400, -1i64..4, 0u8..8, 0u8..8, counts, (any::<bool>(), any::<bool>()), 0u8..40, 0u8..12).prop_map(
        |(seconds, firmware, ticket, outcome, counts, sound, edit, blind)| Turn {
            seconds,
            firmware,
            ticket,
            outcome,
            counts,
            sound,
            edit,
            blind,
        },
    )
}

/// What must hold of a step from one status to the next.
fn check(rollout: &FirmwareRollout, seen: &Observed, now: Timestamp, step: &Step) -> Result<(), TestCaseError> {
    prop_assert_eq!(&decide(rollout, seen, now), step, "deciding twice gives two decisions");
    let (old, new) = (rollout.status.clone().unwrap_or_default(), &step.status);
    prop_assert!(new.run >= old.run);
    for entry in &new.stages {
        if let Some(before) = old.stages.iter().find(|s| s.name == entry.name && old.run == new.run) {
            prop_assert!(entry.attempt >= before.attempt && entry.epoch >= before.epoch);
            prop_assert!(!stage::ended(before.state) || entry.state == before.state, "an ended stage moved");
        }
    }
    if step.act == Act::Claim {
        let claim = new.claim.as_ref().unwrap();
        for planned in stage::plan(&rollout.spec).iter().take_while(|s| s.name != claim.stage) {
            let state = new.stages.iter().find(|s| s.name == planned.name).map(|s| s.state);
            prop_assert!(matches!(state, Some(StageState::Passed | StageState::Skipped)), "{} is open", planned.name);
        }
        prop_assert!(rollout.metadata.deletion_timestamp.is_none() && rollout.spec.suspend != Some(true));
    }
    prop_assert!(!step.because.is_empty());
    if step.act == Act::Wait {
        let told = new.conditions.iter().all(|c| !c.reason.is_empty());
        prop_assert!(told && new.next.as_ref().is_none_or(|n| !n.reason.is_empty() && !n.because.is_empty()));
        let states = |s: &crate::api::FirmwareRolloutStatus| {
            (s.run, s.claim.clone(), s.stages.iter().map(|s| (s.name.clone(), s.state)).collect::<Vec<_>>())
        };
        let mut written = rollout.clone();
        write(&mut written, step);
        let again = decide(&written, seen, now);
        // A wait that moved nothing says all that there is to say.
        if states(&old) == states(new) && old.phase == new.phase {
            prop_assert_eq!(&again.status, new, "a wait is no fixpoint");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_is_observed_the_order_is_kept(turns in proptest::collection::vec(turn(), 1..60)) {
        let mut rollout = rollout();
        let (mut now, mut jobs, mut cancelled) = (0, 0, std::collections::BTreeSet::new());
        for t in turns {
            now += t.seconds;
            match t.edit {
                0 => rollout.spec.suspend = Some(true),
                1..=3 => rollout.spec.suspend = None,
                4 => rollout.spec.source_versions = Some(vec![format!("{now}")]),
                5 => rollout.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok(),
                6 => { rollout.spec.gray.as_mut().unwrap().pop(); }
                _ => {}
            }
            let mut seen = observed(FirmwareStatus::from_number(t.firmware));
            seen.cloud = Some(at(now));
            seen.ticket = match t.ticket { 0 => Ticket::None, 1 => Ticket::Expired, _ => Ticket::Fresh };
            match t.blind {
                0 => seen.account = None,
                1 => seen.firmware = None,
                2 => seen.cloud = None,
                3 => seen.lookup.empty = vec![Empty { asked: Duration::ZERO, date: Some(at(now)) }; 2],
                4 => seen.trouble = Some(Trouble { reason: "CloudUnreachable", message: "gone".into(), stalled: false }),
                _ => {}
            }
            let [at_target, in_progress, notified, queued, failed, conflict] = t.counts;
            for job in rollout.status.iter().flat_map(|s| &s.stages).flat_map(|s| &s.jobs) {
                let gone = cancelled.contains(&job.id);
                let (queued, notified) = if gone { (0, 0) } else { (queued, notified) };
                let counts = Ledger { at_target, in_progress, notified, queued, failed, conflict, ..Ledger::default() };
                if t.blind != 5 {
                    seen.jobs.insert(JobId::new(job.id.clone()), reading(counts, now, t.sound.0, t.sound.1));
                }
            }
            // Until it rests, or an effect was carried out.
            for _ in 0..12 {
                let step = decide(&rollout, &seen, at(now));
                check(&rollout, &seen, at(now), &step)?;
                let rests = step.act == Act::Wait && rollout.status.as_ref() == Some(&step.status);
                match &step.act {
                    Act::Create(_) | Act::Replay(_) => {
                        jobs += 1;
                        let error = |class| CallError::new(class, "Throttling.User", "later");
                        let outcome = match t.outcome {
                            0 => Outcome::Unknown(error(Class::Unknown)),
                            1 => Outcome::Rejected(error(Class::Transient)),
                            2 => Outcome::Rejected(CallError::new(
                                Class::Terminal, crate::ota::code::NO_DEVICE_CAN_UPGRADE, "nobody")),
                            _ => accepted(&format!("j{jobs}")),
                        };
                        rollout.status = Some(absorb::create(&step.status, &outcome, 1, at(now)));
                        seen.ticket = Ticket::None;
                    }
                    Act::Cancel(id, _) => { cancelled.insert(id.as_str().to_owned()); write(&mut rollout, &step); }
                    Act::Release => rollout.metadata.finalizers = None,
                    _ => write(&mut rollout, &step),
                }
                if rests || !matches!(step.act, Act::Wait | Act::Claim) {
                    break;
                }
            }
            if rollout.metadata.finalizers.is_none() {
                return Ok(());
            }
        }
    }
}

/// What the rollout says where its only stage is such a full one, by the cloud's clock.
fn full_at(full: serde_json::Value, second: i64) -> Step {
    let mut rollout = rollout();
    (rollout.spec.verify, rollout.spec.gray) = (None, None);
    rollout.spec.full = serde_json::from_value(full).unwrap();
    let seen = Observed { fleet: Some(at(second)), ..observed(FirmwareStatus::Verified) };
    decide(&rollout, &seen, at(0))
}

#[test]
fn what_depends_on_the_clock_is_said_before_anything_is_claimed() {
    let start = "2027-01-15T09:00:00Z";
    let scheduled = |second| full_at(json!({"static": {"schedule": {"start": start}}}), second);
    assert_eq!(reason(&scheduled(3_301)), "ScheduleMissed", "less than 5 minutes ahead");
    assert_eq!(scheduled(3_300).act, Act::Claim);
    assert_eq!(reason(&scheduled(3_600 - 7 * 86_400 - 1)), "ScheduleAhead");
    assert_eq!(scheduled(3_600 - 7 * 86_400).act, Act::Claim);
    let until = |second| full_at(json!({"dynamic": {"until": start}}), second);
    assert_eq!(until(3_599).act, Act::Claim);
    assert_eq!(reason(&until(3_600)), "PolicyOver");
}
