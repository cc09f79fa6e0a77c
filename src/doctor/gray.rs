//! What a gray percentage was of, told from the sizes of gray jobs that there are. Pure arithmetic; what it means for a
//! rollout belongs to `judge`.

use crate::api::Percent;

use super::seen::GrayPair;

/// Part of a job's size that devices which came or went meanwhile may account for.
const SLACK: u64 = 50;

/// What two gray jobs in a row say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The later one was a share of what was eligible then.
    Eligible,
    /// The later one was a share of everything, the updated devices included.
    Everything,
}

/// What a pair says; none: both readings fit its sizes, or neither does.
pub fn base(pair: &GrayPair) -> Option<Base> {
    let (least, most) = of_which(pair.earlier.percent, pair.earlier.total)?;
    let later = pair.later.percent;
    let everything = (share(later, least), share(later, most));
    let left = |all: u64| all.checked_sub(pair.updated_between);
    let eligible = (share(later, left(least).unwrap_or(0)), share(later, left(most)?));
    let fits = |(least, most): (u64, u64)| {
        let slack = 1 + most / SLACK;
        (least.saturating_sub(slack)..=most.saturating_add(slack)).contains(&pair.later.total)
    };
    match (fits(eligible), fits(everything)) {
        (true, false) => Some(Base::Eligible),
        (false, true) => Some(Base::Everything),
        _ => None,
    }
}

/// Least and most devices of which this percentage, rounded down, is this many.
fn of_which(percent: Percent, devices: u64) -> Option<(u64, u64)> {
    let percent = u64::from(percent.milli());
    let reach = |devices: u64| devices.checked_mul(100_000).map(|all| all.div_ceil(percent.max(1)));
    // The cloud takes at least one device, of however few.
    let least = if devices <= 1 { 1 } else { reach(devices)? };
    Some((least, reach(devices.checked_add(1)?)?.saturating_sub(1)))
}

fn share(percent: Percent, of: u64) -> u64 {
    (of.saturating_mul(u64::from(percent.milli())) / 100_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::seen::Gray;

    fn pair(earlier: (&str, u64), updated_between: u64, later: (&str, u64)) -> GrayPair {
        let gray =
            |(percent, total): (&str, u64)| Gray { job: "j".into(), percent: Percent::parse(percent).unwrap(), total };
        GrayPair { earlier: gray(earlier), later: gray(later), updated_between }
    }

    #[test]
    fn two_sizes_tell_the_base_where_enough_was_updated_between() {
        for (earlier, updated, later, expected) in [
            // 10,000 devices, half of them updated: half of the rest, or half of all.
            (("50", 5000), 4990, ("50", 2505), Some(Base::Eligible)),
            (("50", 5000), 4990, ("50", 5000), Some(Base::Everything)),
            (("9.108", 901), 899, ("44.467", 4003), Some(Base::Eligible)),
            (("9.108", 901), 899, ("44.467", 4403), Some(Base::Everything)),
            // Neither.
            (("50", 5000), 4990, ("50", 3700), None),
            // Too little was updated for the sizes to differ.
            (("1", 100), 97, ("9.108", 902), None),
            (("1", 100), 0, ("10", 1000), None),
            // One device may be one of anything.
            (("1", 1), 1, ("1", 1), None),
            (("0.001", 1), 1, ("100", 90_000), None),
            // More were updated than there were: these counts are of something else.
            (("50", 10), 500, ("50", 10), None),
        ] {
            assert_eq!(base(&pair(earlier, updated, later)), expected, "{earlier:?} {updated} {later:?}");
        }
    }

    #[test]
    fn a_size_bounds_what_it_was_taken_of() {
        for (percent, all) in [("33.333", 100), ("1", 10_000), ("0.001", 5), ("100", 7), ("50", 3)] {
            let percent = Percent::parse(percent).unwrap();
            let (least, most) = of_which(percent, share(percent, all)).unwrap();
            assert!((least..=most).contains(&all), "{percent} of {all}: {least}..={most}");
        }
    }
}
