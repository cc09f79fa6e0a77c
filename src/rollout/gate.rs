//! Gates: a chain of pure checks that say whether the next stage may start.
//!
//! What follows from a verdict (cancel, promote, stop) is `decide`'s business; numbers come in as [`GateInput`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::status::{EffectiveStage, GateResult, GateStatus, Ledger};
use crate::api::{Percent, RETRY};

use super::effective::MIN_DECIDED;

/// What a gate judges: one attempt of one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct GateInput<'a> {
    /// Its settings.
    pub settings: &'a EffectiveStage,
    /// Its tasks by class, over all its jobs.
    pub counts: Ledger,
    /// Whether the counts can be judged: they add up and the totals stand still.
    pub settled: bool,
    /// When its first job began, by the cloud's clock.
    pub began: Option<Timestamp>,
    /// Since when everything but the soak holds, as far as it was written down.
    pub soaking_since: Option<Timestamp>,
    /// The cloud's clock.
    pub now: Timestamp,
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Satisfied.
    Pass,
    /// Not yet.
    Hold {
        /// The cloud's clock when it may change by time alone.
        until: Option<Timestamp>,
        /// Reason word.
        reason: &'static str,
        /// What is missing.
        because: String,
    },
    /// It can never be met as things are: a person has to change something.
    Stuck {
        /// What to change.
        because: String,
    },
    /// The limit is broken.
    Fail {
        /// Which number broke which limit.
        because: String,
    },
}

/// Everything the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The chain without the soak: fails first, then what is stuck, then what holds.
    pub sample: Verdict,
    /// The soak.
    pub soak: Verdict,
    /// Each thing that is missing, soak included.
    pub missing: Vec<String>,
}

type Check = fn(&GateInput) -> Verdict;

/// The checks before the soak, in the order in which a person would want to hear of them.
const SAMPLE: &[Check] = &[settled, reachable, paced, mature, decided_percent, min_decided, failures, certain_failure];

/// Judges a stage.
pub fn judge(input: &GateInput) -> Judgement {
    let mut found: Vec<Verdict> = SAMPLE.iter().map(|check| check(input)).collect();
    // A failure rate is noise until the sample is complete.
    let complete = !found.iter().any(|v| matches!(v, Verdict::Hold { .. }));
    if !complete {
        found.retain(|v| !matches!(v, Verdict::Fail { .. }) || *v == certain_failure(input));
    }
    let soak = soak(input);
    let missing = found
        .iter()
        .chain([&soak])
        .filter_map(|v| match v {
            Verdict::Hold { because, .. } => Some(because.clone()),
            _ => None,
        })
        .collect();
    let first = |wanted: fn(&Verdict) -> bool| found.iter().find(|v| wanted(v)).cloned();
    let sample = first(|v| matches!(v, Verdict::Fail { .. }))
        .or_else(|| first(|v| matches!(v, Verdict::Stuck { .. })))
        .or_else(|| first(|v| matches!(v, Verdict::Hold { .. })))
        .unwrap_or(Verdict::Pass);
    Judgement { sample, soak, missing }
}

/// The judgement as status shows it.
pub fn status(input: &GateInput, judgement: &Judgement) -> GateStatus {
    let result = match (&judgement.sample, &judgement.soak) {
        (Verdict::Fail { .. }, _) => GateResult::Fail,
        (Verdict::Pass, Verdict::Pass) => GateResult::Pass,
        _ => GateResult::Hold,
    };
    GateStatus {
        stage: input.settings.name.clone(),
        result,
        decided: input.counts.decided(),
        pushed: input.counts.pushed(),
        failure_percent: rate(&input.counts),
        max_failure_percent: input.settings.max_failure_percent,
    }
}

/// Failed and timed out of the decided, in percent with three decimals, rounded up: never shown as within a limit
/// that it breaks.
fn rate(counts: &Ledger) -> Option<String> {
    let (bad, all) = (counts.failed + counts.timed_out, counts.decided());
    let milli = (bad.checked_mul(100_000)?.checked_add(all)? - 1).checked_div(all)?;
    Some(Percent::from_milli(u32::try_from(milli.max(0)).ok()?)?.to_string())
}

fn breaks(bad: i64, all: i64, limit: Percent) -> bool {
    i128::from(bad) * 100_000 > i128::from(limit.milli()) * i128::from(all)
}

fn later(at: Timestamp, by: Duration) -> Option<Timestamp> {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok())
}

fn hold(reason: &'static str, because: impl Into<String>) -> Verdict {
    Verdict::Hold { until: None, reason, because: because.into() }
}

fn settled(input: &GateInput) -> Verdict {
    if input.settled && input.began.is_some() {
        return Verdict::Pass;
    }
    hold("Counting", "the job's task counts to stand still")
}

/// Even if every device that is still open succeeded, too many have failed: no need to wait for them.
fn certain_failure(input: &GateInput) -> Verdict {
    let c = &input.counts;
    let (bad, most) = (c.failed + c.timed_out, c.pushed() + c.queued);
    let limit = input.settings.max_failure_percent;
    if !input.settled || !breaks(bad, most, limit) {
        return Verdict::Pass;
    }
    Verdict::Fail {
        because: format!(
            "{bad} of at most {most} devices of step {} failed or timed out, more than maxFailurePercent {limit} % \
             even if every other one succeeds",
            input.settings.name
        ),
    }
}

fn reachable(input: &GateInput) -> Verdict {
    let (c, name) = (&input.counts, &input.settings.name);
    let (targeted, decided) = (c.exposed(), c.decided());
    let because = match input.settings.min_decided {
        _ if !input.settled => return Verdict::Pass,
        Some(least) if i64::from(least) > targeted => format!(
            "gate.minDecided is {least}, but step {name} targets only {targeted} devices: lower minDecided or raise the \
             step's share"
        ),
        _ if targeted > 0 && c.open() + c.queued == 0 && decided < least_decided(input) => format!(
            "{decided} of {targeted} devices of step {name} took the update or failed, the gate needs {}, and no other one \
             will: {} were busy with another job, the tasks of {} were cancelled; annotate with {RETRY}=<any new word> to \
             give those another job, or lower gate.minDecided",
            least_decided(input),
            c.conflict,
            c.cancelled
        ),
        _ => return Verdict::Pass,
    };
    Verdict::Stuck { because }
}

/// How many devices have to succeed or fail.
fn least_decided(input: &GateInput) -> i64 {
    match input.settings.min_decided {
        Some(least) => i64::from(least),
        None => MIN_DECIDED.min(input.counts.pushed()).max(1),
    }
}

/// Devices that wait for the rate limit must not be taken for offline ones.
fn paced(input: &GateInput) -> Verdict {
    let Some(began) = input.began else { return Verdict::Pass };
    let per_minute = i64::from(input.settings.maximum_per_minute.max(1));
    let minutes = input.counts.exposed().saturating_add(per_minute - 1) / per_minute;
    let until = later(began, Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60));
    match until {
        Some(until) if input.now < until => Verdict::Hold {
            until: Some(until),
            reason: "Pushing",
            because: format!("the job to have had time to push to every device at {per_minute} per minute"),
        },
        _ => Verdict::Pass,
    }
}

fn mature(input: &GateInput) -> Verdict {
    let until = input.began.and_then(|began| later(began, input.settings.mature_after.length()));
    match until {
        Some(until) if input.now < until => Verdict::Hold {
            until: Some(until),
            reason: "Maturing",
            because: format!("the job to be matureAfter {} old", input.settings.mature_after),
        },
        _ => Verdict::Pass,
    }
}

fn decided_percent(input: &GateInput) -> Verdict {
    let (decided, pushed) = (input.counts.decided(), input.counts.pushed());
    let share = input.settings.decided_percent;
    if i128::from(decided) * 100_000 >= i128::from(share.milli()) * i128::from(pushed) {
        return Verdict::Pass;
    }
    hold("WaitingForDevices", format!("{share} % of the devices pushed to, to succeed or fail"))
}

fn min_decided(input: &GateInput) -> Verdict {
    if input.counts.decided() >= least_decided(input) {
        return Verdict::Pass;
    }
    let what = match input.settings.min_decided {
        Some(least) => format!("at least {least} devices to succeed or fail"),
        None if input.counts.pushed() == 0 => "a device to come online and take the update".to_owned(),
        None => "enough devices to succeed or fail".to_owned(),
    };
    hold("WaitingForDevices", what)
}

fn failures(input: &GateInput) -> Verdict {
    let c = &input.counts;
    let (bad, decided, limit) = (c.failed + c.timed_out, c.decided(), input.settings.max_failure_percent);
    if !breaks(bad, decided, limit) {
        return Verdict::Pass;
    }
    Verdict::Fail {
        because: format!(
            "{bad} of {decided} decided devices of step {} failed or timed out: {} %, more than maxFailurePercent {limit} %",
            input.settings.name,
            rate(c).unwrap_or_default()
        ),
    }
}

fn soak(input: &GateInput) -> Verdict {
    let soak = input.settings.soak.length();
    if soak.is_zero() {
        return Verdict::Pass;
    }
    let until = input.soaking_since.and_then(|since| later(since, soak));
    match until {
        Some(until) if input.now >= until => Verdict::Pass,
        _ => Verdict::Hold {
            until,
            reason: "Soaking",
            because: format!("everything to have held for soak {}", input.settings.soak),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Span;
    use crate::api::delivery::Delivery;
    use crate::api::rollout::Gate;
    use crate::rollout::effective;
    use proptest::prelude::*;

    fn settings(gate: Gate) -> EffectiveStage {
        let span = |text: &str| Some(Span::parse(text).unwrap());
        let gate = Gate { mature_after: gate.mature_after.or(span("60s")), soak: gate.soak.or(span("30s")), ..gate };
        effective::stage("canary", Some(&gate), &Delivery::default(), false)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn input(settings: &EffectiveStage, counts: Ledger) -> GateInput<'_> {
        GateInput { settings, counts, settled: true, began: Some(at(0)), soaking_since: Some(at(100)), now: at(200) }
    }

    fn good(total: i64) -> Ledger {
        Ledger { at_target: total, ..Ledger::default() }
    }

    #[test]
    fn a_good_quiet_step_passes() {
        let s = settings(Gate::default());
        let judged = judge(&input(&s, good(100)));
        assert_eq!(status(&input(&s, good(100)), &judged).result, GateResult::Pass);
        assert_eq!((judged.sample, judged.soak, judged.missing), (Verdict::Pass, Verdict::Pass, vec![]));
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let s = settings(Gate { mature_after: Span::parse("1h").ok(), ..Gate::default() });
        let counts = Ledger { at_target: 10, notified: 90, ..Ledger::default() };
        let young = GateInput { counts, soaking_since: None, ..input(&s, counts) };
        let judged = judge(&young);
        let told = ["80 %", "enough devices", "1h", "soak"];
        assert_eq!(judged.missing.len(), told.len(), "{:?}", judged.missing);
        for what in told {
            assert!(judged.missing.iter().any(|missing| missing.contains(what)), "{what} in {:?}", judged.missing);
        }
        assert_eq!(status(&young, &judged).result, GateResult::Hold);
        let failing = GateInput { counts: Ledger { failed: 100, ..Ledger::default() }, ..input(&s, counts) };
        let failing = GateInput { now: at(4_000), ..failing };
        assert_eq!(status(&failing, &judge(&failing)).result, GateResult::Fail);
    }

    #[test]
    fn each_check_holds_alone() {
        let s = settings(Gate::default());
        let base = input(&s, good(100));
        let reason = |input: &GateInput| match judge(input) {
            Judgement { sample: Verdict::Hold { reason, .. }, .. } => reason,
            Judgement { soak: Verdict::Hold { reason, .. }, .. } => reason,
            _ => "none",
        };
        assert_eq!(reason(&base), "none");
        assert_eq!(reason(&GateInput { settled: false, ..base.clone() }), "Counting");
        assert_eq!(reason(&GateInput { now: at(59), ..base.clone() }), "Pushing");
        assert_eq!(reason(&GateInput { began: Some(at(150)), now: at(209), ..base.clone() }), "Pushing");
        assert_eq!(reason(&GateInput { soaking_since: None, ..base.clone() }), "Soaking");
        assert_eq!(reason(&GateInput { now: at(129), ..base.clone() }), "Soaking");
        let open = Ledger { at_target: 79, notified: 21, ..Ledger::default() };
        assert_eq!(reason(&GateInput { counts: open, ..base.clone() }), "WaitingForDevices");
        let few = Ledger { at_target: 49, notified: 1, ..Ledger::default() };
        assert_eq!(reason(&GateInput { counts: few, ..base.clone() }), "WaitingForDevices", "min(50, pushed)");
        let offline = Ledger { queued: 100, ..Ledger::default() };
        assert_eq!(reason(&GateInput { counts: offline, ..base.clone() }), "WaitingForDevices");
        let mature = settings(Gate { mature_after: Some(Span::parse("1h").unwrap()), ..Gate::default() });
        assert_eq!(reason(&input(&mature, good(100))), "Maturing");
    }

    #[test]
    fn a_sample_that_no_device_can_complete_any_more_is_told() {
        let busy = Ledger { conflict: 30, cancelled: 2, ..Ledger::default() };
        let stuck = |gate: Gate, counts: Ledger| match judge(&input(&settings(gate), counts)).sample {
            Verdict::Stuck { because } => Some(because),
            _ => None,
        };
        let told = stuck(Gate::default(), busy).unwrap();
        assert!(
            told.contains("0 of 32") && told.contains("30 were busy") && told.contains("2 were cancelled"),
            "{told}"
        );
        let least = |n| Gate { min_decided: Some(n), ..Gate::default() };
        assert!(stuck(least(10), Ledger { at_target: 9, ..busy }).is_some());
        assert_eq!(stuck(least(10), Ledger { at_target: 10, ..busy }), None);
        // One that may still come is waited for.
        let one = Ledger { queued: 1, ..busy };
        for open in [one, Ledger { notified: 1, ..busy }, Ledger { silent: 1, ..busy }, Ledger { notified: 1, ..one }] {
            assert_eq!(stuck(Gate::default(), open), None);
        }
        assert_eq!(stuck(Gate::default(), Ledger::default()), None, "its tasks may yet appear");
    }

    #[test]
    fn offline_devices_never_stop_a_good_package() {
        let s = settings(Gate::default());
        let counts = Ledger { at_target: 70, queued: 30, ..Ledger::default() };
        assert_eq!(judge(&input(&s, counts)).sample, Verdict::Pass);
    }

    #[test]
    fn conflicts_and_cancelled_are_no_failures() {
        let s = settings(Gate::default());
        let counts = Ledger { at_target: 60, conflict: 30, cancelled: 30, ..Ledger::default() };
        assert_eq!(judge(&input(&s, counts)).sample, Verdict::Pass);
        let failed = Ledger { at_target: 60, failed: 4, ..Ledger::default() };
        let Verdict::Fail { because } = judge(&input(&s, failed)).sample else { panic!("must fail") };
        assert!(because.contains("4 of 64") && because.contains("6.25 %") && because.contains("maxFailurePercent 5 %"));
    }

    #[test]
    fn the_limit_itself_is_allowed_and_compared_exactly() {
        let s = settings(Gate { max_failure_percent: Some(Percent::parse("33.333").unwrap()), ..Gate::default() });
        let counts = |failed| Ledger { at_target: 100_000 - failed, failed, ..Ledger::default() };
        let mut judged = input(&s, counts(33_333));
        judged.began = Some(at(-100_000));
        assert_eq!(judge(&judged).sample, Verdict::Pass);
        judged.counts = counts(33_334);
        assert!(matches!(judge(&judged).sample, Verdict::Fail { .. }));
    }

    #[test]
    fn early_noise_does_not_fail_but_certainty_does() {
        let s = settings(Gate::default());
        let mut early = input(&s, Ledger { at_target: 1, failed: 2, in_progress: 97, ..Ledger::default() });
        early.now = at(1);
        assert!(matches!(judge(&early).sample, Verdict::Hold { .. }), "2 of 3 decided is noise");
        early.counts = Ledger { at_target: 1, failed: 6, in_progress: 93, ..Ledger::default() };
        let Verdict::Fail { because } = judge(&early).sample else { panic!("6 of at most 100 is certain") };
        assert!(because.contains("6 of at most 100"));
        early.settled = false;
        assert!(matches!(judge(&early).sample, Verdict::Hold { .. }), "counts that may be wrong prove nothing");
    }

    #[test]
    fn a_failure_is_certain_only_if_everybody_who_is_left_cannot_outweigh_it() {
        let s = settings(Gate::default());
        let certain =
            |queued| certain_failure(&input(&s, Ledger { failed: 5, notified: 55, queued, ..Ledger::default() }));
        assert_eq!(certain(40), Verdict::Pass, "5 of 100 is the limit");
        assert!(matches!(certain(39), Verdict::Fail { .. }));
    }

    #[test]
    fn pushing_takes_as_many_minutes_as_the_rate_says() {
        let s = settings(Gate::default());
        let pushed = |total, second| paced(&GateInput { now: at(second), ..input(&s, good(total)) }) == Verdict::Pass;
        for (total, seconds) in [(1, 60), (999, 60), (1_000, 60), (1_001, 120), (2_000, 120), (10_000, 600)] {
            assert!(pushed(total, seconds) && !pushed(total, seconds - 1), "{total}");
        }
        assert!(pushed(0, 0), "nobody to push to");
    }

    #[test]
    fn min_decided_beyond_the_step_needs_a_person() {
        let s = settings(Gate { min_decided: Some(150), ..Gate::default() });
        let Verdict::Stuck { because } = judge(&input(&s, good(100))).sample else { panic!("must be stuck") };
        assert!(because.contains("minDecided is 150") && because.contains("100 devices"));
        let all = settings(Gate { min_decided: Some(100), ..Gate::default() });
        assert_eq!(judge(&input(&all, good(100))).sample, Verdict::Pass, "all of them will do");
        assert!(matches!(
            judge(&input(&s, Ledger { queued: 100, at_target: 60, ..Ledger::default() })).sample,
            Verdict::Hold { .. }
        ));
    }

    proptest! {
        /// Whatever the counts: a broken limit never passes, and a kept one never fails.
        #[test]
        fn the_failure_limit_is_never_missed_nor_invented(
            at_target in 0i64..5_000, failed in 0i64..500, timed_out in 0i64..500, notified in 0i64..500,
            queued in 0i64..500, conflict in 0i64..500, limit in 0u32..100_000, age in 0i64..10_000,
        ) {
            let limit = Percent::from_milli(limit).unwrap();
            let s = settings(Gate { max_failure_percent: Some(limit), ..Gate::default() });
            let counts = Ledger { at_target, failed, timed_out, notified, queued, conflict, ..Ledger::default() };
            let judged = judge(&GateInput { now: at(age), ..input(&s, counts) });
            let (bad, decided) = (i128::from(failed + timed_out), i128::from(at_target + failed + timed_out));
            let broken = bad * 100_000 > i128::from(limit.milli()) * decided;
            match judged.sample {
                Verdict::Pass => prop_assert!(!broken && decided > 0),
                Verdict::Fail { .. } => prop_assert!(broken),
                _ => {}
            }
        }
    }
}
