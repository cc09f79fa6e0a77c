//! The percent planner: from cumulative shares to the GrayPercent of one job.
//!
//! The user's percentages are cumulative; the cloud's GrayPercent is per job and of what is eligible now, which nobody
//! can ask for. Observable are each job's Total and its tasks by status. All arithmetic is exact.

use crate::api::Percent;

/// What one gray job of this run did, for planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrayJob {
    /// GrayPercent as sent; none for a job on named devices.
    pub sent: Option<Percent>,
    /// Its tasks.
    pub total: i64,
    /// Tasks that were never pushed: cancelled while queued, or in conflict from the start.
    pub never_pushed: i64,
    /// Its tasks that succeeded so far.
    pub succeeded: i64,
    /// What `succeeded` summed up to over all gray jobs when this one was created.
    pub succeeded_before: i64,
}

/// What a percent step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Create a job with this GrayPercent.
    Job(Percent),
    /// The share is reached already.
    NothingToAdd,
}

const WHOLE: i128 = 100_000;

/// B: a lower bound of the fleet that was eligible when the first percent step began; none until a percent job with
/// at least two tasks tells. (A job of one task may stand for any share: the cloud takes at least one device.)
pub fn eligible_at_least(jobs: &[GrayJob]) -> Option<i64> {
    jobs.iter()
        .filter(|j| j.total >= 2)
        .filter_map(|j| {
            let sent = i128::from(j.sent?.milli());
            let base = (WHOLE * i128::from(j.total) + sent - 1).checked_div(sent)?;
            i64::try_from(base).ok()?.checked_add(j.succeeded_before)
        })
        .max()
}

/// E: devices that this run's gray jobs have exposed.
pub fn exposed(jobs: &[GrayJob]) -> i64 {
    jobs.iter().map(|j| j.total - j.never_pushed).sum()
}

/// S: devices that have succeeded in this run's gray jobs.
pub fn succeeded(jobs: &[GrayJob]) -> i64 {
    jobs.iter().map(|j| j.succeeded).sum()
}

/// Devices beyond a declared share: they joined the fleet after it was measured.
pub fn overshoot(share: Percent, jobs: &[GrayJob]) -> Option<i64> {
    let bound = i128::from(share.milli()) * i128::from(eligible_at_least(jobs)?) / WHOLE;
    i64::try_from(i128::from(exposed(jobs)) - bound).ok().filter(|over| *over > 0)
}

/// The job for a step whose cumulative share is `share`, behind a percent step (if any) whose share was `before`.
pub fn plan(share: Percent, before: Option<Percent>, jobs: &[GrayJob]) -> Plan {
    let share = i128::from(share.milli());
    let milli = match eligible_at_least(jobs) {
        Some(bound) => {
            let (bound, exposed, succeeded) =
                (i128::from(bound), i128::from(exposed(jobs)), i128::from(succeeded(jobs)));
            let missing = share * bound - WHOLE * exposed;
            if missing < WHOLE {
                return Plan::NothingToAdd;
            }
            // Everyone who is known of has succeeded: whatever is eligible joined later, and one device is the least.
            missing.checked_div(bound - succeeded).filter(|_| bound > succeeded).unwrap_or(1)
        }
        None => {
            let before = before.map_or(0, |b| i128::from(b.milli()));
            if share <= before {
                return Plan::NothingToAdd;
            }
            (WHOLE * (share - before)).checked_div(WHOLE - before).unwrap_or(WHOLE)
        }
    };
    let milli = u32::try_from(milli.clamp(1, WHOLE)).unwrap_or(100_000);
    Plan::Job(Percent::from_milli(milli).unwrap_or(Percent::ALL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn percent(text: &str) -> Percent {
        Percent::parse(text).unwrap()
    }

    /// Runs steps over a fleet as the cloud does: floor(eligible * percent), at least one; returns the percents sent
    /// and, per step, (exposed so far, one-device jobs so far).
    fn run(
        fleet: i64,
        steps: &[Percent],
        mut outcome: impl FnMut(usize, i64) -> (i64, i64),
    ) -> (Vec<Percent>, Vec<(i64, i64)>) {
        let (mut jobs, mut sent, mut seen) = (Vec::<GrayJob>::new(), Vec::new(), Vec::new());
        let mut ones = 0;
        for (k, share) in steps.iter().enumerate() {
            let before = k.checked_sub(1).map(|b| steps[b]);
            if let Plan::Job(p) = plan(*share, before, &jobs) {
                let eligible = fleet - succeeded(&jobs);
                if eligible > 0 {
                    let total = (eligible * i64::from(p.milli()) / 100_000).max(1);
                    let (ok, never) = outcome(k, total);
                    ones += i64::from(total == 1);
                    let succeeded_before = succeeded(&jobs);
                    jobs.push(GrayJob { sent: Some(p), total, never_pushed: never, succeeded: ok, succeeded_before });
                    sent.push(p);
                }
            }
            seen.push((exposed(&jobs), ones));
        }
        (sent, seen)
    }

    #[test]
    fn when_all_succeed_the_shares_are_those_of_the_design() {
        let steps = ["1", "5", "20", "50"].map(percent);
        let (sent, seen) = run(1_000_000, &steps, |_, total| (total, 0));
        assert_eq!(sent, ["1", "4.04", "15.789", "37.5"].map(percent));
        assert_eq!(seen.last().unwrap().0, 499_995);
    }

    #[test]
    fn a_tiny_fleet_takes_one_device_at_a_time_and_then_nothing() {
        let steps = ["1", "10", "50"].map(percent);
        let (sent, _) = run(3, &steps, |_, total| (total, 0));
        assert_eq!(sent.first(), Some(&percent("1")));
        // Totals of one tell nothing about the fleet: the plan goes on by shares alone.
        assert_eq!(sent.get(1), Some(&percent("9.09")));
    }

    #[test]
    fn a_share_that_is_reached_adds_nothing() {
        let job = |total, succeeded| GrayJob {
            sent: Some(percent("10")),
            total,
            never_pushed: 0,
            succeeded,
            succeeded_before: 0,
        };
        assert_eq!(plan(percent("10"), None, &[job(100, 100)]), Plan::NothingToAdd);
        assert_eq!(plan(percent("10.05"), None, &[job(100, 100)]), Plan::NothingToAdd, "half a device");
        assert_eq!(plan(percent("10.1"), None, &[job(100, 0)]), Plan::Job(percent("0.1")), "one device");
    }

    #[test]
    fn devices_beyond_a_declared_share_are_told_and_the_share_itself_is_not() {
        let job = |sent, total| GrayJob { sent, total, never_pushed: 0, succeeded: 0, succeeded_before: 0 };
        // A tenth were 100 of 1,000; then some were named.
        let named = |more| [job(Some(percent("10")), 100), job(None, more)];
        let over = |more| overshoot(percent("20.05"), &named(more));
        assert_eq!([0, 99, 100, 101, 130].map(over), [None, None, None, Some(1), Some(30)], "200.5 of 1,000");
        assert_eq!(overshoot(percent("20.05"), &[job(None, 130)]), None, "of how many is not known");
    }

    #[test]
    fn leftovers_that_were_never_pushed_are_planned_again() {
        let job =
            GrayJob { sent: Some(percent("10")), total: 1_000, never_pushed: 300, succeeded: 700, succeeded_before: 0 };
        // 20 % of 10,000 less the 700 exposed, out of 9,300 still eligible.
        assert_eq!(plan(percent("20"), Some(percent("10")), &[job]), Plan::Job(percent("13.978")));
    }

    proptest! {
        /// Never above c_k·B by more than the number of one-device jobs so far, whatever fails or stays behind.
        #[test]
        fn the_declared_share_bounds_what_is_exposed(
            fleet in 1i64..200_000,
            mut shares in proptest::collection::btree_set(1u32..=100_000, 1..8),
            luck in proptest::collection::vec((0u32..=100, 0u32..=100), 8),
        ) {
            let steps: Vec<_> = std::mem::take(&mut shares).into_iter().map(|m| Percent::from_milli(m).unwrap()).collect();
            let (_, seen) = run(fleet, &steps, |k, total| {
                let (ok, never) = luck[k];
                let ok = total * i64::from(ok) / 100;
                (ok, (total - ok) * i64::from(never) / 100)
            });
            for (share, (exposed, ones)) in steps.iter().zip(seen) {
                let bound = i128::from(share.milli()) * i128::from(fleet);
                prop_assert!(i128::from(exposed - ones) * 100_000 <= bound, "{share}: {exposed} of {fleet}, {ones} ones");
            }
        }
    }
}
