//! The parameters that say how a job runs: rate, retry, timeout, schedule, delivery (ota-api: sections 2, 3, 5).
//!
//! Here belong their formats, how they limit each other, and where they exist. Targets and source versions belong to
//! `targets`.

use super::Context;
use super::answer::Refusal;
use super::jobs::{Kind, Policy, Retry, Selection};
use super::parameters::{Given, Tags};
use super::switches::Edition;
use super::world::Package;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The biggest package that MQTT carries.
const MQTT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a verify job takes: push, confirmation, protocol, timeout, tags.
pub(super) fn of_verify_job(given: &Given<'_>, context: &Context<'_>) -> Result<Policy, Refusal> {
    let protocol = match given.get("DownloadProtocol") {
        None => "HTTPS",
        Some(known @ ("HTTPS" | "MQTT")) => known,
        Some(_) => return Err(Refusal::format("DownloadProtocol")),
    };
    Ok(Policy {
        kind: Kind::Verify,
        selection: Selection::Specific,
        group: None,
        src_versions: Vec::new(),
        tags: given.tags(Tags::OfCreate, context.edition)?,
        gray_percent: None,
        retry: None,
        timeout_minutes: timeout(given)?,
        maximum_per_minute: maximum_per_minute(context.edition),
        overwrite: false,
        multi_module: false,
        need_push: given.boolean("NeedPush")?.unwrap_or(true),
        need_confirm: given.boolean("NeedConfirm")?.unwrap_or(false),
        download_protocol: protocol.to_owned(),
        schedule: None,
        schedule_finish: None,
    })
}

/// What a dynamic job takes beside its sources: all of the above, and rate, retry, overwriting, mode.
pub(super) fn of_dynamic_job(given: &Given<'_>, context: &Context<'_>) -> Result<Policy, Refusal> {
    let common = of_verify_job(given, context)?;
    let multi_module = given.boolean("MultiModuleMode")?.unwrap_or(false);
    let mode = match given.integer("DynamicMode") {
        Ok(None | Some(1)) => 1,
        Ok(Some(2)) => 2,
        _ => return Err(Refusal::firmware("InvalidDynamicMode", "DynamicMode must be 1 or 2.")),
    };
    Ok(Policy {
        kind: Kind::Dynamic(mode),
        selection: Selection::All,
        retry: retry(given, common.timeout_minutes, context.edition)?,
        maximum_per_minute: rate(given, context.edition)?,
        overwrite: overwrite(given, multi_module)?,
        multi_module,
        ..common
    })
}

/// What a static job takes beside its targets: as a dynamic one, with a schedule in place of the mode.
pub(super) fn of_static_job(given: &Given<'_>, context: &Context<'_>, now: i64) -> Result<Policy, Refusal> {
    let common = of_dynamic_job(given, context)?;
    let (schedule, schedule_finish) = schedule(given, now)?;
    Ok(Policy { kind: Kind::Static, schedule, schedule_finish, ..common })
}

/// Whether the place where a job is made, and its package, have what its policy needs.
pub(super) fn feasible(policy: &Policy, package: &Package, context: &Context<'_>) -> Result<(), Refusal> {
    if policy.multi_module && !context.has_instance {
        return Err(Refusal::not_here("MultiModuleMode"));
    }
    if policy.download_protocol != "MQTT" {
        return Ok(());
    }
    let regions: &[&str] = match context.edition {
        Edition::Current => &["cn-shanghai", "cn-beijing", "cn-shenzhen"],
        Edition::Legacy => &["cn-shanghai"],
    };
    if !regions.contains(&context.region) {
        return Err(Refusal::not_here("DownloadProtocol MQTT"));
    }
    if package.traits.files.len() > 1 || package.traits.size > MQTT_BYTES_MAX {
        return Err(Refusal::firmware("InvalidFirmware", "MQTT carries packages of one file of at most 16 MB."));
    }
    Ok(())
}

/// TimeoutInMinutes.
pub(super) fn timeout(given: &Given<'_>) -> Result<Option<u16>, Refusal> {
    let bad = || Refusal::firmware("InvalidTimeoutSetting", "TimeoutInMinutes must be 1..1440.");
    let minutes = given.integer("TimeoutInMinutes").map_err(|()| bad())?;
    minutes.map(|m| u16::try_from(m).ok().filter(|m| (1..=1440).contains(m)).ok_or_else(bad)).transpose()
}

fn retry(given: &Given<'_>, timeout: Option<u16>, edition: Edition) -> Result<Option<Retry>, Refusal> {
    let bad_interval = |why| Refusal::firmware("InvalidRetryInterval", why);
    let bad_count = |why| Refusal::firmware("InvalidRetryCount", why);
    let wrong = "RetryInterval must be 0, 10, 30, 60 or 1440.";
    let interval = given.integer("RetryInterval").map_err(|()| bad_interval(wrong))?;
    let interval = match interval {
        None => None,
        Some(0) => Some(0_u32),
        Some(10) => Some(10),
        Some(30) => Some(30),
        Some(60) => Some(60),
        Some(1440) => Some(1440),
        Some(_) => return Err(bad_interval(wrong)),
    };
    let wrong = "RetryCount must be 1, 2 or 5.";
    let count = match given.integer("RetryCount").map_err(|()| bad_count(wrong))? {
        None => None,
        Some(1) => Some(1_u8),
        Some(2) => Some(2),
        Some(5) => Some(5),
        Some(_) => return Err(bad_count(wrong)),
    };
    match (interval, count) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(bad_count("RetryInterval needs RetryCount.")),
        (None, Some(_)) => Err(bad_interval("RetryCount needs RetryInterval.")),
        (Some(interval), Some(_))
            if edition == Edition::Current && timeout.is_some_and(|t| interval >= u32::from(t)) =>
        {
            Err(bad_interval("RetryInterval must be less than TimeoutInMinutes."))
        }
        (Some(interval), Some(count)) => Ok(Some(Retry { interval, count })),
    }
}

/// The highest rate, which is also the default.
const fn maximum_per_minute(edition: Edition) -> u32 {
    match edition {
        Edition::Current => 10_000,
        Edition::Legacy => 1_000,
    }
}

/// MaximumPerMinute.
pub(super) fn rate(given: &Given<'_>, edition: Edition) -> Result<u32, Refusal> {
    let most = maximum_per_minute(edition);
    let bad = || Refusal::firmware("InvalidMaximumPerMinute", format!("MaximumPerMinute must be 10..{most}."));
    match given.integer("MaximumPerMinute").map_err(|()| bad())? {
        None => Ok(most),
        Some(rate) => u32::try_from(rate).ok().filter(|rate| (10..=most).contains(rate)).ok_or_else(bad),
    }
}

fn overwrite(given: &Given<'_>, multi_module: bool) -> Result<bool, Refusal> {
    let bad = |why| Refusal::firmware("InvalidOverwriteMode", why);
    match given.integer("OverwriteMode") {
        Ok(None | Some(1)) => Ok(false),
        Ok(Some(2)) if multi_module => Err(bad("OverwriteMode 2 excludes MultiModuleMode.")),
        Ok(Some(2)) => Ok(true),
        _ => Err(bad("OverwriteMode must be 1 or 2.")),
    }
}

/// ScheduleTime and ScheduleFinishTime, judged by the fleet clock.
fn schedule(given: &Given<'_>, now: i64) -> Result<(Option<i64>, Option<i64>), Refusal> {
    let time = |name: &str| match given.get(name) {
        None => Ok(None),
        // 13 digits: a time in seconds is a slip that the service would take for 1970.
        Some(text) if text.len() == 13 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(text.parse::<i64>().ok()),
        Some(_) => Err(Refusal::format(name)),
    };
    let (start, finish) = (time("ScheduleTime")?, time("ScheduleFinishTime")?);
    let refuse = |code, why: &str| Err(Refusal::firmware(code, why));
    let Some(start_ms) = start else {
        return match finish {
            None => Ok((None, None)),
            Some(_) => refuse("ScheduleFinishTimeWithoutStartTime", "ScheduleFinishTime needs ScheduleTime."),
        };
    };
    if start_ms <= now {
        return refuse("FireTimeMustLargeThanCurrentTime", "ScheduleTime must be in the future.");
    }
    if start_ms < now + 5 * MINUTE_MS {
        return refuse("FireTimeTooShort", "ScheduleTime must be at least 5 minutes ahead.");
    }
    if start_ms > now + 7 * DAY_MS {
        return refuse("FireTimeTooLate", "ScheduleTime must be at most 7 days ahead.");
    }
    if let Some(finish_ms) = finish {
        if finish_ms <= start_ms {
            return refuse("ScheduleFinishTimeEarlierThanStartTime", "ScheduleFinishTime must follow ScheduleTime.");
        }
        if finish_ms < start_ms + HOUR_MS {
            return refuse("ScheduleFinishTimeTooEarly", "ScheduleFinishTime must be at least 1 hour later.");
        }
        if finish_ms > start_ms + 30 * DAY_MS {
            return refuse("ScheduleFinishTimeTooLate", "ScheduleFinishTime must be at most 30 days later.");
        }
    }
    Ok((start, finish))
}
