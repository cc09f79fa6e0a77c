//! Tables: what was seen, and which finding it makes.

use super::*;
use crate::api::Percent;
use crate::doctor::seen::{Gray, GrayPair, Skew, Tagged, Traffic, VerifyJob};
use crate::ota::Operation;
use crate::ota::code::Class;

fn error(code: &str) -> CallError {
    CallError::new(code::class_of(code, 400), code, "")
}

fn package_with(id: &str, status: FirmwareStatus) -> Firmware {
    Firmware {
        id: id.into(),
        name: String::new(),
        version: "4.0".into(),
        src_version: None,
        differential: false,
        module: None,
        product_key: Some("pk".into()),
        status,
        verify_progress: None,
        files: None,
        size: None,
    }
}

fn repeated(way: Way, first: Reply, second: Reply) -> Repeated {
    Repeated { way, first, second }
}

fn made(listed_after: Option<u64>, watched: u64) -> Laboratory {
    let ms = Duration::from_millis;
    Laboratory::Made(VerifyJob {
        job: "job".into(),
        firmware: "fw".into(),
        absent: listed_after.map_or(ms(watched), |listed| ms(listed.saturating_sub(100))),
        listed_after: listed_after.map(ms),
        watched: ms(watched),
        cancelled: listed_after.is_none(),
    })
}

fn spec() -> Spec {
    Spec { endpoint: "https://e/".into(), product_key: "pk".into(), ..Spec::default() }
}

/// An account on which everything holds, and was seen to.
fn sound() -> Seen {
    let skew = Skew { ahead: SignedDuration::from_millis(300), give_or_take: SignedDuration::from_millis(500) };
    let gray = |percent, total| Gray { job: "g".into(), percent: Percent::whole(percent), total };
    Seen {
        traffic: Traffic { answered: 30, throttled: 0, skew: Some(skew) },
        first: Some(Ok(())),
        actions: ACTIONS.iter().map(|o| (*o, Err(error(code::FIRMWARE_NOT_FOUND)))).collect(),
        impossible_job: None,
        repeated: [Way::Read, Way::Together, Way::Later, Way::Create]
            .map(|way| repeated(way, Reply::Done, Reply::NonceUsed))
            .to_vec(),
        packages: Some(Ok(vec![package_with("fw", FirmwareStatus::Unverified)])),
        firmware: None,
        tagged: vec![Tagged { job: "job".into(), listed: Some(true), queried: Some(true) }],
        grays: vec![GrayPair { earlier: gray(50, 500), later: gray(50, 250), updated_between: 500 }],
        laboratory: made(Some(400), 1_200),
    }
}

fn judged(spec: &Spec, seen: &Seen) -> Diagnosis {
    diagnosis(spec, seen, "s".into(), Time("2026-01-02T03:04:05Z".parse().unwrap()))
}

fn finding_of(seen: &Seen, name: &str) -> Finding {
    judged(&spec(), seen).findings.into_iter().find(|f| f.name == name).unwrap()
}

/// A change of what was seen, the finding that it touches, how that ends, and what it must say.
type Case = (&'static str, fn(&mut Seen), Holds, &'static str);

#[test]
fn on_a_sound_account_everything_holds() {
    let all = judged(&spec(), &sound());
    for finding in &all.findings {
        assert_eq!(finding.holds, Holds::Yes, "{finding:?}");
    }
    assert_eq!(all.findings.len(), 12);
    assert_eq!((all.replay, all.list_lag), (Some(Replay::Nonce), Some(Span::parse("5s").unwrap())));
}

#[test]
fn without_a_single_answer_nothing_is_claimed() {
    let all = judged(&spec(), &Seen::default());
    assert!(all.findings.iter().all(|f| f.holds == Holds::Unknown), "{all:?}");
    assert_eq!((all.replay, all.list_lag), (None, None));
}

#[test]
fn each_assumption_that_fails_is_named() {
    let cases: &[Case] = &[
        (
            finding::ENDPOINT,
            |s| s.first = Some(Err(CallError::new(Class::Transient, code::NOT_SENT, "refused"))),
            Holds::No,
            "cannot be reached (refused)",
        ),
        (
            finding::ENDPOINT,
            |s| s.first = Some(Err(error(code::INVALID_API_NOT_FOUND))),
            Holds::No,
            "does not speak the OTA API",
        ),
        (finding::ENDPOINT, |s| s.first = Some(Err(error(code::SIGNATURE_DOES_NOT_MATCH))), Holds::Yes, "answers"),
        (
            finding::KEYS,
            |s| s.first = Some(Err(error(code::SIGNATURE_DOES_NOT_MATCH))),
            Holds::No,
            "valid one into the Secret",
        ),
        (
            finding::KEYS,
            |s| s.first = Some(Err(error("InvalidAccessKeyId.NotFound"))),
            Holds::No,
            "InvalidAccessKeyId.NotFound",
        ),
        (
            finding::KEYS,
            |s| s.first = Some(Err(error("InvalidSecurityToken.Expired"))),
            Holds::No,
            "InvalidSecurityToken.Expired",
        ),
        (finding::KEYS, |s| s.first = Some(Err(error("Forbidden.RAM"))), Holds::Yes, "takes the access key"),
        (
            finding::KEYS,
            |s| s.first = Some(Err(error(code::INSTANCE_NOT_FOUND))),
            Holds::Unknown,
            code::INSTANCE_NOT_FOUND,
        ),
        (
            finding::KEYS,
            |s| s.first = Some(Err(error("InvalidTimeStamp.Expired"))),
            Holds::Unknown,
            "InvalidTimeStamp.Expired",
        ),
        (
            finding::INSTANCE,
            |s| s.first = Some(Err(error(code::INSTANCE_NOT_FOUND))),
            Holds::No,
            "put it into spec.instanceId",
        ),
        (
            finding::INSTANCE,
            |s| s.first = Some(Err(error("iot.Sre.IotInstanceNotFound"))),
            Holds::No,
            "spec.instanceId",
        ),
        (finding::INSTANCE, |s| s.first = Some(Err(error("InternalError"))), Holds::Unknown, "InternalError"),
        (finding::ENDPOINT, |s| s.first = Some(Err(error("InternalError"))), Holds::No, "nothing but InternalError"),
        (
            finding::ENDPOINT,
            |s| s.first = Some(Err(error("Forbidden.RiskControl"))),
            Holds::No,
            "Forbidden.RiskControl",
        ),
        (finding::ENDPOINT, |s| s.first = Some(Err(error("InvalidTimeStamp.Expired"))), Holds::Yes, "answers"),
        (
            finding::INSTANCE,
            |s| {
                s.first = Some(Err(error("Forbidden.RAM")));
                s.actions.insert(Operation::QueryOTAJob, Err(error(code::INSTANCE_NOT_FOUND)));
            },
            Holds::No,
            "spec.instanceId",
        ),
        (
            finding::CLOCK,
            |s| s.traffic.skew.as_mut().unwrap().ahead = SignedDuration::from_secs(-61),
            Holds::No,
            "61.0 s behind ours",
        ),
        (
            finding::CLOCK,
            |s| s.traffic.skew.as_mut().unwrap().ahead = SignedDuration::from_secs(3600),
            Holds::No,
            "3600.0 s ahead of ours",
        ),
        (
            finding::CLOCK,
            |s| s.traffic.skew.as_mut().unwrap().ahead = SignedDuration::from_secs(60),
            Holds::Yes,
            "60.0 s ahead",
        ),
        (finding::CLOCK, |s| s.traffic.skew = None, Holds::Unknown, "what time"),
        (finding::QUOTA, |s| s.traffic.throttled = 3, Holds::Unknown, "3 of 30 calls"),
        (finding::PRODUCT, |s| s.packages = Some(Ok(vec![])), Holds::No, "check the ProductKey"),
        (finding::PRODUCT, |s| s.packages = Some(Err(error("Forbidden.RAM"))), Holds::Unknown, "Forbidden.RAM"),
        (
            finding::PACKAGE,
            |s| s.firmware = Some(("x".into(), Err(error("iot.ota.FirmwareNotFound")))),
            Holds::No,
            "there is no package x",
        ),
        (
            finding::PACKAGE,
            |s| s.firmware = Some(("x".into(), Err(error("InternalError")))),
            Holds::Unknown,
            "cannot be read",
        ),
        (
            finding::PACKAGE,
            |s| s.firmware = Some(("x".into(), Ok(package_with("x", FirmwareStatus::Verifying)))),
            Holds::Yes,
            "is being verified",
        ),
        (
            finding::PACKAGE,
            |s| {
                let of_other =
                    Firmware { product_key: Some("other".into()), ..package_with("x", FirmwareStatus::Exempt) };
                s.firmware = Some(("x".into(), Ok(of_other)));
            },
            Holds::No,
            "is of product other",
        ),
    ];
    check(cases);
}

#[test]
fn missing_actions_are_told_from_other_refusals() {
    let cases: &[Case] = &[
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::CancelOTATaskByJob, Err(error("Forbidden.RAM"))),
            Holds::No,
            "may not call iot:CancelOTATaskByJob: allow",
        ),
        (
            finding::ACTIONS,
            |s| {
                for operation in [Operation::CreateOTAVerifyJob, Operation::QueryOTAJob] {
                    s.actions.insert(operation, Err(error("iot.common.RamActionPermissionDeny")));
                }
            },
            Holds::No,
            "iot:CreateOTAVerifyJob, iot:QueryOTAJob",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("iot.common.APINotSupportedInInstance"))),
            Holds::No,
            "iot:QueryOTAJob",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("Throttling.User"))),
            Holds::Unknown,
            "iot:QueryOTAJob (Throttling.User)",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("MissingJobId"))),
            Holds::Unknown,
            "MissingJobId",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("Forbidden.RiskControl"))),
            Holds::Unknown,
            "RiskControl",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("iot.system.SystemException"))),
            Holds::Unknown,
            "SystemException",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error(code::INSTANCE_NOT_FOUND))),
            Holds::Unknown,
            "InstanceNotFound",
        ),
        (
            finding::ACTIONS,
            |s| _ = s.actions.insert(Operation::QueryOTAJob, Err(error("FirmwareNotFound"))),
            Holds::Yes,
            "all 10 actions",
        ),
        (finding::ACTIONS, |s| s.actions.clear(), Holds::Unknown, "not tried"),
        (finding::ACTIONS, |s| s.impossible_job = Some("j".into()), Holds::No, "do not use this endpoint"),
    ];
    check(cases);
}

#[test]
fn a_second_copy_that_is_carried_out_once_is_enough_to_settle() {
    use Reply::{Done, NonceUsed, Refused, Throttled, Unclear};
    let cases: &[Case] = &[
        (finding::NONCE_REPLAY, |s| s.repeated[0].second = Done, Holds::No, "(Settle)"),
        (finding::NONCE_REPLAY, |s| s.repeated[1].second = Done, Holds::No, "under way together"),
        (finding::NONCE_REPLAY, |s| s.repeated[2].second = Done, Holds::No, "a while later"),
        // Let through by the gateway; only the verify job's own guard stood in the way.
        (
            finding::NONCE_REPLAY,
            |s| s.repeated[3].second = Refused,
            Holds::No,
            "create of the verify job was let through",
        ),
        (finding::NONCE_REPLAY, |s| s.repeated[3].second = Done, Holds::No, "create of the verify job was let through"),
        // A create whose first answer was lost, and a second that was refused for its nonce.
        (finding::NONCE_REPLAY, |s| s.repeated[3].first = Unclear, Holds::Yes, "reads and a create"),
        (finding::NONCE_REPLAY, |s| s.repeated[3].second = Unclear, Holds::Yes, "a create was not tried"),
        (finding::NONCE_REPLAY, |s| s.repeated.truncate(3), Holds::Yes, "a create was not tried"),
        (finding::NONCE_REPLAY, |s| s.repeated.truncate(2), Holds::Unknown, "no request could be repeated"),
        (finding::NONCE_REPLAY, |s| s.repeated[0].second = Throttled, Holds::Unknown, "no request could be repeated"),
        // An earlier attempt that said nothing does not count against a later one that did.
        (
            finding::NONCE_REPLAY,
            |s| s.repeated.insert(0, repeated(Way::Read, Unclear, Unclear)),
            Holds::Yes,
            "refuses the second copy",
        ),
        (
            finding::NONCE_REPLAY,
            |s| s.repeated.push(repeated(Way::Refused, Refused, NonceUsed)),
            Holds::Yes,
            "a refused request uses its nonce up, too",
        ),
        (
            finding::NONCE_REPLAY,
            |s| s.repeated.push(repeated(Way::Refused, Refused, Refused)),
            Holds::Yes,
            "a refused request does not use its nonce up",
        ),
        (
            finding::NONCE_REPLAY,
            |s| s.repeated.push(repeated(Way::Read, Throttled, NonceUsed)),
            Holds::Yes,
            "a throttled request uses its nonce up, too",
        ),
        (
            finding::NONCE_REPLAY,
            |s| s.repeated.push(repeated(Way::Read, Throttled, Done)),
            Holds::Yes,
            "a throttled request does not use its nonce up",
        ),
    ];
    check(cases);
    let mut seen = sound();
    seen.repeated[0].second = Done;
    assert_eq!(judged(&spec(), &seen).replay, Some(Replay::Settle));
    let wrong = judged(&Spec { replay: Some(Replay::Nonce), ..spec() }, &seen);
    assert!(wrong.findings.iter().any(|f| f.message.contains("take `replay: Nonce` out")), "{wrong:?}");
    seen.repeated.clear();
    assert_eq!(judged(&spec(), &seen).replay, None);
}

#[test]
fn tags_lag_and_gray_base() {
    let cases: &[Case] = &[
        (
            finding::TAGS_LISTED,
            |s| s.tagged[0].listed = Some(false),
            Holds::No,
            "ListOTAJobByFirmware does not show the tag of job job",
        ),
        (finding::TAGS_QUERIED, |s| s.tagged[0].queried = Some(false), Holds::No, "QueryOTAJob does not show"),
        (finding::TAGS_QUERIED, |s| s.tagged[0].queried = None, Holds::Unknown, "no job with a tag"),
        (
            finding::TAGS_LISTED,
            |s| s.tagged.push(Tagged { job: "k".into(), listed: Some(false), queried: Some(true) }),
            Holds::No,
            "job k",
        ),
        (
            finding::TAGS_LISTED,
            |s| (s.tagged, s.laboratory) = (vec![], Laboratory::NotAsked),
            Holds::Unknown,
            "--lab-device",
        ),
        (
            finding::TAGS_LISTED,
            |s| (s.tagged, s.laboratory) = (vec![], Laboratory::Failed(error("Forbidden.RAM"))),
            Holds::Unknown,
            "the verify job failed: Forbidden.RAM",
        ),
        (finding::LIST_LAG, |s| s.laboratory = Laboratory::NotAsked, Holds::Unknown, "not measured, 30s counts"),
        (
            finding::LIST_LAG,
            |s| s.laboratory = Laboratory::Impossible("all are verified".into()),
            Holds::Unknown,
            "no verify job, because all are verified",
        ),
        (
            finding::LIST_LAG,
            |s| s.laboratory = made(Some(4_100), 6_000),
            Holds::Yes,
            "4.1 s after its create: listLag 15s",
        ),
        (finding::LIST_LAG, |s| s.laboratory = made(None, 120_000), Holds::No, "in no list for 120 s"),
        (finding::GRAY_BASE, |s| s.grays[0].later.total = 500, Holds::No, "write them as device names"),
        (finding::GRAY_BASE, |s| s.grays[0].updated_between = 0, Holds::Unknown, "as large either way"),
        (finding::GRAY_BASE, |s| s.grays.clear(), Holds::Unknown, "no two gray jobs"),
        (
            finding::GRAY_BASE,
            |s| {
                let mut other = s.grays[0].clone();
                other.later.total = 500;
                s.grays.push(other);
            },
            Holds::Unknown,
            "contradict",
        ),
    ];
    check(cases);
    let lag = |laboratory| judged(&spec(), &Seen { laboratory, ..sound() }).list_lag.map(|lag| lag.to_string());
    for (measured, proposed) in [(0, "5s"), (1_600, "5s"), (1_700, "10s"), (5_000, "15s"), (40_000, "2m")] {
        assert_eq!(lag(made(Some(measured), measured)).as_deref(), Some(proposed), "{measured}");
    }
    assert_eq!(lag(made(None, 120_000)).as_deref(), Some("6m"));
    assert_eq!(lag(Laboratory::NotAsked), None);
    let short = Spec { list_lag: Some(Duration::from_secs(1)), ..spec() };
    let of = |seen: &Seen| judged(&short, seen).findings.into_iter().find(|f| f.name == finding::LIST_LAG).unwrap();
    assert_eq!(of(&sound()).holds, Holds::Yes);
    let late = of(&Seen { laboratory: made(Some(1_200), 2_000), ..sound() });
    assert!(late.holds == Holds::No && late.message.contains("spec.listLag says 1s: set it to 5s"), "{late:?}");
}

fn check(cases: &[Case]) {
    for (name, change, holds, says) in cases {
        let mut seen = sound();
        change(&mut seen);
        let finding = finding_of(&seen, name);
        assert!(finding.holds == *holds && finding.message.contains(says), "{says}: {finding:?}");
    }
}

#[test]
fn what_was_found_out_before_stands_until_it_is_found_otherwise() {
    let full = judged(&spec(), &sound());
    let mut today = sound();
    (today.laboratory, today.tagged) = (Laboratory::NotAsked, vec![]);
    today.repeated.clear();
    today.packages = None;
    let without = judged(&spec(), &today);
    assert_eq!((without.replay, &without.list_lag), (None, &None));
    let merged = with_earlier(without.clone(), Some(&full));
    assert_eq!((merged.replay, &merged.list_lag), (Some(Replay::Nonce), &full.list_lag));
    let told = |d: &Diagnosis, name: &str| d.findings.iter().find(|f| f.name == name).unwrap().clone();
    let listed = told(&merged, finding::TAGS_LISTED);
    assert_eq!((listed.holds, &listed.message[..15]), (Holds::Yes, "on 2026-01-02: "));
    assert_eq!(told(&merged, finding::PRODUCT).holds, Holds::Unknown, "today's product is today's");
    assert_eq!(
        told(&with_earlier(without.clone(), Some(&merged)), finding::TAGS_LISTED).message,
        listed.message,
        "dated once"
    );

    let of_other = Diagnosis { subject: "other".into(), ..full.clone() };
    assert_eq!(with_earlier(without.clone(), Some(&of_other)), without);
    let mut refuted = sound();
    refuted.repeated[0].second = Reply::Done;
    assert_eq!(with_earlier(judged(&spec(), &refuted), Some(&full)).replay, Some(Replay::Settle));
}

#[test]
fn messages_stay_within_what_the_schema_takes_whatever_the_cloud_says() {
    let long = "x\u{1b}[31m".repeat(400);
    let mut seen = sound();
    seen.first = Some(Err(CallError::new(Class::Unknown, &long, &long)));
    seen.packages = Some(Ok((0..9).map(|_| package_with(&long, FirmwareStatus::Exempt)).collect()));
    seen.firmware = Some((long.as_str().into(), Err(CallError::new(Class::Unknown, &long, &long))));
    seen.tagged = vec![Tagged { job: long.as_str().into(), listed: Some(false), queried: Some(false) }];
    for operation in &ACTIONS {
        seen.actions.insert(*operation, Err(CallError::new(Class::Unknown, &long, &long)));
    }
    let all = with_earlier(judged(&spec(), &seen), Some(&judged(&spec(), &seen)));
    for finding in &all.findings {
        assert!(finding.message.chars().count() <= 512 && !finding.message.contains('\u{1b}'), "{finding:?}");
    }
}

#[test]
fn the_verify_job_is_told_of_wherever_it_was_made() {
    assert!(verify_job(&sound()).unwrap().contains("verify job job of package fw goes on"));
    let cancelled = Seen { laboratory: made(None, 1), ..sound() };
    assert!(verify_job(&cancelled).unwrap().contains("cancelled"));
    assert_eq!(verify_job(&Seen::default()), None);
}
