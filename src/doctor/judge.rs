//! From what was seen to findings: whether each assumption holds, what it means, and what to do. Pure: no calls, no
//! clocks.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::account::{Diagnosis, Finding, Holds, finding};
use crate::api::{Replay, Span, Time};
use crate::ota::code;
use crate::ota::outcome::clean;
use crate::ota::{CallError, Firmware, FirmwareStatus};
use crate::rollout::effective;

use super::gray::{self, Base};
use super::harmless::ACTIONS;
use super::seen::{Laboratory, Repeated, Reply, Seen, Spec, Way};

/// Longest message of a finding, in characters.
const LONGEST: usize = 512;
/// As far as the clocks may be apart: rollouts make no claims beyond it.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// A proposed `listLag` is so many times what was measured once…
const LAG_FACTOR: u32 = 3;
/// …in steps of so many seconds, one at least.
const LAG_STEP: u64 = 5;

/// Findings that stand until another examination finds out otherwise: about the cloud's conduct, not about today.
const LASTING: [&str; 5] =
    [finding::NONCE_REPLAY, finding::TAGS_QUERIED, finding::TAGS_LISTED, finding::LIST_LAG, finding::GRAY_BASE];

/// Everything that was found, about this subject at this instant.
pub fn diagnosis(spec: &Spec, seen: &Seen, subject: String, at: Time) -> Diagnosis {
    let (nonce, lag) = (nonce_replay(spec, seen), list_lag(spec, seen));
    let replay = match nonce.holds {
        Holds::Yes => Some(Replay::Nonce),
        Holds::No => Some(Replay::Settle),
        Holds::Unknown => None,
    };
    let list_lag = proposed_lag(seen);
    let first = [endpoint(spec, seen), keys(seen), instance(spec, seen), clock(seen), actions(seen), quota(seen)];
    let last = [nonce, tags_queried(seen), tags_listed(seen), lag, gray_base(seen)];
    let findings = first.into_iter().chain([product(spec, seen)]).chain(package(spec, seen)).chain(last).collect();
    Diagnosis { subject, at, replay, list_lag, findings }
}

/// A diagnosis, with what an earlier one of the same subject had found out and this one could not.
pub fn with_earlier(new: Diagnosis, earlier: Option<&Diagnosis>) -> Diagnosis {
    let Some(earlier) = earlier.filter(|earlier| earlier.subject == new.subject) else { return new };
    let mut merged = new;
    for finding in merged.findings.iter_mut().filter(|f| f.holds == Holds::Unknown && LASTING.contains(&&*f.name)) {
        let Some(known) = earlier.findings.iter().find(|k| k.name == finding.name && k.holds != Holds::Unknown) else {
            continue;
        };
        let dated = known.message.starts_with("on ");
        let date = earlier.at.0.strftime("%Y-%m-%d");
        let message = if dated { known.message.clone() } else { format!("on {date}: {}", known.message) };
        *finding = Finding { message: clean(&message, LONGEST), ..known.clone() };
        match finding.name.as_str() {
            finding::NONCE_REPLAY => merged.replay = earlier.replay,
            finding::LIST_LAG => merged.list_lag.clone_from(&earlier.list_lag),
            _ => {}
        }
    }
    merged
}

/// What became of the verify job, for a person; none: there is none.
pub fn verify_job(seen: &Seen) -> Option<String> {
    let Laboratory::Made(made) = &seen.laboratory else { return None };
    let (job, firmware) = (clean(made.job.as_str(), 64), clean(made.firmware.as_str(), 64));
    Some(if made.cancelled {
        format!(
            "verify job {job} of package {firmware}: its pending tasks were cancelled; the package has to be verified again"
        )
    } else {
        format!(
            "verify job {job} of package {firmware} goes on: when its device succeeds, the package is verified, and \
             rollouts of it skip their verification"
        )
    })
}

fn said(name: &str, holds: Holds, message: impl AsRef<str>) -> Finding {
    Finding { name: name.to_owned(), holds, message: clean(message.as_ref(), LONGEST) }
}

/// What the first call was refused with.
fn refused(seen: &Seen) -> Option<&CallError> {
    seen.first.as_ref()?.as_ref().err()
}

fn endpoint(spec: &Spec, seen: &Seen) -> Finding {
    let name = finding::ENDPOINT;
    let url = &spec.endpoint;
    match refused(seen) {
        Some(error) if [code::NOT_SENT, code::NO_ANSWER].iter().any(|c| error.is(c)) => {
            let why = format!(
                "{url} cannot be reached ({}): check spec.region or spec.endpoint, and the network",
                error.message
            );
            said(name, Holds::No, why)
        }
        Some(error) if error.is(code::UNREADABLE_ANSWER) || error.is(code::INVALID_API_NOT_FOUND) => {
            said(name, Holds::No, format!("who answers at {url} does not speak the OTA API: {error}"))
        }
        Some(error) if !told_elsewhere(error) => {
            said(name, Holds::No, format!("{url} answers nothing but {error}; nothing else could be tried"))
        }
        _ if seen.traffic.answered > 0 => said(name, Holds::Yes, format!("{url} answers")),
        _ => said(name, Holds::Unknown, format!("{url} was not called")),
    }
}

/// Whether another finding speaks of this refusal.
fn told_elsewhere(error: &CallError) -> bool {
    let codes = [code::INVALID_TIME_STAMP_EXPIRED, code::INSTANCE_NOT_FOUND, code::SRE_INSTANCE_NOT_FOUND];
    code::is_bad_key(&error.code) || code::is_denial(&error.code) || codes.iter().any(|code| error.is(code))
}

fn keys(seen: &Seen) -> Finding {
    let name = finding::KEYS;
    match (refused(seen), &seen.first) {
        (Some(error), _) if code::is_bad_key(&error.code) => said(
            name,
            Holds::No,
            format!("the cloud does not take the access key ({}): put a valid one into the Secret", error.code),
        ),
        (Some(error), _) if code::is_denial(&error.code) || of_product(&error.code) => {
            said(name, Holds::Yes, "the cloud takes the access key")
        }
        (None, Some(Ok(()))) => said(name, Holds::Yes, "the cloud takes the access key"),
        (error, _) => {
            said(name, Holds::Unknown, format!("no call got so far that the key was looked at{}", because(error)))
        }
    }
}

fn instance(spec: &Spec, seen: &Seen) -> Finding {
    let name = finding::INSTANCE;
    let errors = seen.first.iter().chain(seen.actions.values()).filter_map(|answer| answer.as_ref().err());
    let wrong =
        errors.into_iter().any(|e| [code::INSTANCE_NOT_FOUND, code::SRE_INSTANCE_NOT_FOUND].iter().any(|c| e.is(c)));
    match (&spec.instance_id, wrong) {
        (Some(id), true) => said(
            name,
            Holds::No,
            format!(
                "there is no instance {id} here: take spec.instanceId from the console's instance page, or leave it out for a public instance without an id"
            ),
        ),
        (None, true) => said(
            name,
            Holds::No,
            "the account's instance has an id: put it into spec.instanceId (the console's instance page shows it)",
        ),
        (id, false) if seen.first.as_ref().is_some_and(Result::is_ok) => {
            let which = id
                .as_ref()
                .map_or_else(|| "no instance id is needed".to_owned(), |id| format!("instance {id} is known"));
            said(name, Holds::Yes, which)
        }
        (_, false) => said(name, Holds::Unknown, format!("no call got so far{}", because(refused(seen)))),
    }
}

fn clock(seen: &Seen) -> Finding {
    let name = finding::CLOCK;
    let Some(skew) = seen.traffic.skew else {
        return said(name, Holds::Unknown, "no answer said what time it is");
    };
    let seconds = |d: SignedDuration| d.as_secs_f64().abs();
    let way = if skew.ahead.is_negative() { "behind" } else { "ahead of" };
    let apart = format!(
        "the cloud's clock is {:.1} s {way} ours (give or take {:.1} s)",
        seconds(skew.ahead),
        seconds(skew.give_or_take)
    );
    if skew.ahead.abs() <= CLOCK_SKEW {
        return said(name, Holds::Yes, apart);
    }
    said(
        name,
        Holds::No,
        format!(
            "{apart}: with more than 60 s rollouts create nothing; set the clock here, and look at those of the operator's nodes"
        ),
    )
}

fn actions(seen: &Seen) -> Finding {
    let name = finding::ACTIONS;
    if let Some(job) = &seen.impossible_job {
        let job = clean(job.as_str(), 64);
        return said(
            name,
            Holds::No,
            format!(
                "the cloud made job {job} of a package and a device that do not exist; its tasks were cancelled: do not use this endpoint"
            ),
        );
    }
    if seen.actions.is_empty() {
        return said(name, Holds::Unknown, format!("not tried{}", because(refused(seen))));
    }
    let (mut missing, mut unclear) = (Vec::new(), Vec::new());
    for (operation, answer) in &seen.actions {
        match permission(answer) {
            Some(true) => {}
            Some(false) => missing.push(format!("iot:{operation}")),
            None => {
                unclear.push(format!("iot:{operation} ({})", answer.as_ref().err().map_or("", |e| e.code.as_str())))
            }
        }
    }
    if !missing.is_empty() {
        return said(
            name,
            Holds::No,
            format!("the access key may not call {}: allow it in the RAM policy of its user", missing.join(", ")),
        );
    }
    if !unclear.is_empty() {
        return said(
            name,
            Holds::Unknown,
            format!("it cannot be told whether the access key may call {}", unclear.join(", ")),
        );
    }
    said(name, Holds::Yes, format!("the access key may call all {} actions that rollouts call", ACTIONS.len()))
}

/// Whether an action is allowed: a product that looks at the request, and finds nothing, was let be called.
fn permission(answer: &Result<(), CallError>) -> Option<bool> {
    match answer {
        Ok(()) => Some(true),
        Err(error) if code::is_denial(&error.code) => Some(false),
        Err(error)
            if [code::INVALID_API_NOT_FOUND, "iot.common.APINotSupportedInInstance"].iter().any(|c| error.is(c)) =>
        {
            Some(false)
        }
        Err(error) if of_product(&error.code) => Some(true),
        Err(_) => None,
    }
}

/// Whether the product's own layer spoke, about the request and not about itself or the instance.
fn of_product(code: &str) -> bool {
    let found_nothing =
        [code::FIRMWARE_NOT_FOUND, code::INVALID_FIRMWARE_ID, code::INVALID_OTA_JOB_ID, code::NULL_TARGET_DEVICE_NAMES];
    let by_layer = code.starts_with("iot.") && code::class_of(code, 200) == code::Class::Terminal;
    let elsewhere = [code::INSTANCE_NOT_FOUND, code::SRE_INSTANCE_NOT_FOUND];
    (by_layer || found_nothing.iter().any(|known| code::same(known, code))) && !elsewhere.contains(&code)
}

fn quota(seen: &Seen) -> Finding {
    let name = finding::QUOTA;
    let traffic = seen.traffic;
    match (traffic.answered, traffic.throttled) {
        (0, _) => said(name, Holds::Unknown, "no call was answered"),
        (calls, 0) => {
            said(name, Holds::Yes, format!("{calls} calls were answered, none was refused for the account's quota"))
        }
        (calls, refused) => said(
            name,
            Holds::Unknown,
            format!(
                "{refused} of {calls} calls were refused for the account's quota: the console, scripts or other operators use it \
                 too; accounts that share it should have the same spec.quotaGroup"
            ),
        ),
    }
}

fn product(spec: &Spec, seen: &Seen) -> Finding {
    let (name, key) = (finding::PRODUCT, &spec.product_key);
    match &seen.packages {
        None => said(name, Holds::Unknown, format!("not asked for{}", because(refused(seen)))),
        Some(Err(error)) => {
            said(name, Holds::Unknown, format!("the packages of product {key} cannot be listed: {error}"))
        }
        Some(Ok(packages)) if packages.is_empty() => said(
            name,
            Holds::No,
            format!(
                "no package of product {key} is visible: check the ProductKey, the region and the instance, or upload a package"
            ),
        ),
        Some(Ok(packages)) => {
            let first = packages.iter().take(3).map(package_and_state).collect::<Vec<_>>().join(", ");
            let more = if packages.len() > 3 { ", …" } else { "" };
            said(name, Holds::Yes, format!("product {key} has {} package(s): {first}{more}", packages.len()))
        }
    }
}

fn package_and_state(firmware: &Firmware) -> String {
    format!("{} ({}) {}", clean(&firmware.version, 40), clean(firmware.id.as_str(), 64), state(firmware.status))
}

fn state(status: FirmwareStatus) -> String {
    match status {
        FirmwareStatus::Exempt => "needs no verification".to_owned(),
        FirmwareStatus::Unverified => "is not verified".to_owned(),
        FirmwareStatus::Verified => "is verified".to_owned(),
        FirmwareStatus::Verifying => "is being verified".to_owned(),
        FirmwareStatus::VerifyFailed => "failed its verification".to_owned(),
        FirmwareStatus::Other(number) => format!("has the unknown status {number}"),
    }
}

fn package(spec: &Spec, seen: &Seen) -> Option<Finding> {
    let (id, read) = seen.firmware.as_ref()?;
    let (name, id) = (finding::PACKAGE, clean(id.as_str(), 64));
    Some(match read {
        Ok(firmware) if firmware.product_key.as_ref().is_some_and(|key| *key != spec.product_key) => {
            let other = clean(firmware.product_key.as_deref().unwrap_or_default(), 64);
            said(name, Holds::No, format!("package {id} is of product {other}: name that one, or another package"))
        }
        Ok(firmware) => said(name, Holds::Yes, format!("package {}", package_and_state(firmware))),
        Err(error) if [code::FIRMWARE_NOT_FOUND, code::INVALID_FIRMWARE_ID].iter().any(|c| error.is(c)) => said(
            name,
            Holds::No,
            format!("there is no package {id}: check the FirmwareId, the region and the instance"),
        ),
        Err(error) => said(name, Holds::Unknown, format!("package {id} cannot be read: {error}")),
    })
}

fn nonce_replay(spec: &Spec, seen: &Seen) -> Finding {
    let name = finding::NONCE_REPLAY;
    let of = |way: Way| seen.repeated.iter().filter(move |r| r.way == way).filter_map(second_refused);
    let all: Vec<(Way, bool)> = [Way::Read, Way::Together, Way::Later, Way::Create]
        .into_iter()
        .flat_map(|way| of(way).map(move |refused| (way, refused)))
        .collect();
    if let Some((way, _)) = all.iter().find(|(_, refused)| !refused) {
        let which = match way {
            Way::Create => "the identical create of the verify job was let through by the gateway",
            Way::Together => "of two identical requests under way together, both were carried out",
            Way::Later => "an identical request was carried out a second time a while later",
            Way::Read | Way::Refused => "an identical request was carried out a second time",
        };
        let spec =
            if spec.replay == Some(Replay::Nonce) { "; take `replay: Nonce` out of the account's spec" } else { "" };
        let means = "a create without an answer is not repeated but looked for, which takes up to 16 minutes (Settle)";
        return said(name, Holds::No, format!("{which}: {means}{spec}"));
    }
    let proven = |way: Way| all.contains(&(way, true));
    if ![Way::Read, Way::Together, Way::Later].into_iter().all(proven) {
        return said(
            name,
            Holds::Unknown,
            format!("no request could be repeated to its end{}", because(refused(seen))),
        );
    }
    let create = if proven(Way::Create) { "reads and a create" } else { "reads; a create was not tried" };
    said(
        name,
        Holds::Yes,
        format!(
            "the gateway refuses the second copy of a request ({create}): a create without an answer can be repeated as it is \
             (Nonce){}",
            burning(&seen.repeated)
        ),
    )
}

/// Whether the second copy was refused for its nonce; none: this says nothing about it.
fn second_refused(repeated: &Repeated) -> Option<bool> {
    match (repeated.way, repeated.first, repeated.second) {
        (_, Reply::Done, Reply::NonceUsed) => Some(true),
        // However the first copy fared, the second met a gateway that knew it. Of two together neither is the first.
        (Way::Read | Way::Later | Way::Create, Reply::Unclear, Reply::NonceUsed) => Some(true),
        (_, Reply::Done, Reply::Done) => Some(false),
        // The natural guard of verify jobs spoke, behind the gateway.
        (Way::Create, Reply::Done, Reply::Refused) => Some(false),
        _ => None,
    }
}

/// What uses a nonce up besides success: good to know, as the protocol holds either way.
fn burning(repeated: &[Repeated]) -> String {
    let after = |first: Reply| {
        let seconds = repeated.iter().filter(move |r| r.first == first).map(|r| r.second);
        seconds.fold(None, |known: Option<bool>, second| match second {
            Reply::NonceUsed => Some(true),
            Reply::Done | Reply::Refused => known.or(Some(false)),
            _ => known,
        })
    };
    let words = |what: &str, used: Option<bool>| match used {
        Some(true) => format!("; a {what} request uses its nonce up, too"),
        Some(false) => format!("; a {what} request does not use its nonce up"),
        None => String::new(),
    };
    words("refused", after(Reply::Refused)) + &words("throttled", after(Reply::Throttled))
}

fn tags_queried(seen: &Seen) -> Finding {
    tags(seen, finding::TAGS_QUERIED, "QueryOTAJob", |tagged| tagged.queried)
}

fn tags_listed(seen: &Seen) -> Finding {
    tags(seen, finding::TAGS_LISTED, "ListOTAJobByFirmware", |tagged| tagged.listed)
}

fn tags(seen: &Seen, name: &str, operation: &str, shows: impl Fn(&super::seen::Tagged) -> Option<bool>) -> Finding {
    let evidence: Vec<_> =
        seen.tagged.iter().filter_map(|tagged| Some((clean(tagged.job.as_str(), 64), shows(tagged)?))).collect();
    if let Some((job, _)) = evidence.iter().find(|(_, shown)| !shown) {
        let means = if name == finding::TAGS_LISTED {
            "jobs are asked for their tags one by one, which costs calls; without QueryOTAJob's tags a create without an answer \
             needs a person"
        } else {
            "a job whose create got no answer is found by the lists alone; without tags there it needs a person"
        };
        return said(name, Holds::No, format!("{operation} does not show the tag of job {job}: {means}"));
    }
    match evidence.first() {
        Some((job, _)) => said(name, Holds::Yes, format!("{operation} shows the tag of job {job}")),
        None => said(name, Holds::Unknown, format!("no job with a tag of ours to see it on{}", laboratory(seen))),
    }
}

fn proposed_lag(seen: &Seen) -> Option<Span> {
    let Laboratory::Made(made) = &seen.laboratory else { return None };
    let measured = made.listed_after.unwrap_or(made.watched);
    let seconds = (measured * LAG_FACTOR).as_millis().div_ceil(1000);
    let steps = u64::try_from(seconds).unwrap_or(u64::MAX).div_ceil(LAG_STEP).max(1);
    Some(Span::from_duration(Duration::from_secs(steps.saturating_mul(LAG_STEP))))
}

fn list_lag(spec: &Spec, seen: &Seen) -> Finding {
    let name = finding::LIST_LAG;
    let (Laboratory::Made(made), Some(proposed)) = (&seen.laboratory, proposed_lag(seen)) else {
        let used = Span::from_duration(spec.list_lag.unwrap_or(effective::LIST_LAG));
        return said(name, Holds::Unknown, format!("not measured, {used} counts{}", laboratory(seen)));
    };
    let job = clean(made.job.as_str(), 64);
    let Some(after) = made.listed_after else {
        let watched = made.watched.as_secs_f64();
        return said(
            name,
            Holds::No,
            format!(
                "verify job {job} was in no list for {watched:.0} s: a create without an answer could be made twice; listLag {proposed} \
             is a guess, find out in the console how long it takes and set spec.listLag to three times that"
            ),
        );
    };
    let measured = format!("verify job {job} was in every list {:.1} s after its create", after.as_secs_f64());
    match spec.list_lag {
        Some(spec) if spec < made.absent => {
            let spec = Span::from_duration(spec);
            said(name, Holds::No, format!("{measured}, and spec.listLag says {spec}: set it to {proposed}"))
        }
        _ => said(name, Holds::Yes, format!("{measured}: listLag {proposed}")),
    }
}

/// Why the laboratory has nothing to say.
fn laboratory(seen: &Seen) -> String {
    match &seen.laboratory {
        Laboratory::NotAsked => ": a verify job on a test device would tell (--lab-device)".to_owned(),
        Laboratory::Impossible(why) => format!(": no verify job, because {why}"),
        Laboratory::Failed(error) => format!(": the verify job failed: {error}"),
        Laboratory::Made(_) => String::new(),
    }
}

fn gray_base(seen: &Seen) -> Finding {
    let name = finding::GRAY_BASE;
    let says: Vec<_> = seen.grays.iter().filter_map(|pair| Some((pair, gray::base(pair)?))).collect();
    let of = |base: Base| says.iter().find(|(_, says)| *says == base).map(|(pair, _)| *pair);
    let sizes = |pair: &super::seen::GrayPair| {
        let one = |gray: &super::seen::Gray| format!("{} % were {}", gray.percent, gray.total);
        format!("{}, then {} ({} updated in between)", one(&pair.earlier), one(&pair.later), pair.updated_between)
    };
    match (of(Base::Eligible), of(Base::Everything)) {
        (Some(pair), None) => {
            said(name, Holds::Yes, format!("GrayPercent is of the devices that are eligible then: {}", sizes(pair)))
        }
        (None, Some(pair)) => said(
            name,
            Holds::No,
            format!(
                "GrayPercent is of all devices, the updated ones included: {}; steps after the first take more devices than they say: \
             write them as device names",
                sizes(pair)
            ),
        ),
        (Some(_), Some(_)) => said(name, Holds::Unknown, "the gray jobs there are contradict each other"),
        (None, None) if seen.grays.is_empty() => said(
            name,
            Holds::Unknown,
            "there are no two gray jobs in a row to tell it from, and none is made to find out; rollouts take GrayPercent to be \
             of the devices that are eligible then",
        ),
        (None, None) => said(name, Holds::Unknown, "the gray jobs there are would be as large either way"),
    }
}

/// The error that a finding was not made for, after a colon.
fn because(error: Option<&CallError>) -> String {
    error.map(|error| format!(": {error}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
