//! When the next call of an operation may go out (ota-api: section 1.3).
//!
//! Pure: instants come in, instants go out. Waiting for them, and who goes first, never comes in.
//!
//! The cloud counts per operation and second, for the whole account. We keep to a share of the documented rate in *any*
//! second, wherever the cloud's seconds begin, and stay away for a while when it refuses.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Operation;

/// The share of the documented rate that we use unless told otherwise: the console and other clients want some too.
pub const DEFAULT_SHARE: f64 = 0.8;

/// A second, and a little: two calls may arrive closer together than they left.
const WINDOW: Duration = Duration::from_millis(1050);
const SHORTEST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(30);
/// As the vendor's SDK does (section 8).
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The slots of one account's operations. Everything that calls for the account shares one.
#[derive(Debug, Clone)]
pub struct Quota {
    share: f64,
    lanes: BTreeMap<Operation, Lane>,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    /// The latest slots given, oldest first; as many as go into a window.
    slots: VecDeque<Instant>,
    /// Nothing before this.
    held_until: Option<Instant>,
    /// How long the last hold was; zero after a success.
    hold: Duration,
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(DEFAULT_SHARE)
    }
}

impl Quota {
    /// A quota that uses this share of the documented rates: above 0, at most 1; anything else is [`DEFAULT_SHARE`].
    pub fn new(share: f64) -> Self {
        let share = if share > 0.0 && share <= 1.0 { share } else { DEFAULT_SHARE };
        Self { share, lanes: BTreeMap::new() }
    }

    /// Most calls in any second: the share of the documented rate, rounded down, but at least 1.
    pub fn per_second(&self, operation: Operation) -> usize {
        // The rates are at most 50, so neither conversion loses anything; 1e-9 mends 0.29 × 100 = 28.999….
        let allowed = (f64::from(operation.qps()) * self.share + 1e-9).floor();
        if allowed >= 1.0 { allowed as usize } else { 1 }
    }

    /// Takes the next slot and says when it is: `now` at the earliest. It cannot be given back.
    pub fn reserve(&mut self, operation: Operation, now: Instant) -> Instant {
        let slot = self.next_slot(operation, now);
        let most = self.per_second(operation);
        let lane = self.lanes.entry(operation).or_default();
        lane.slots.push_back(slot);
        while lane.slots.len() > most {
            lane.slots.pop_front();
        }
        slot
    }

    /// When [`Quota::reserve`] would be, without taking it.
    pub fn next_slot(&self, operation: Operation, now: Instant) -> Instant {
        let Some(lane) = self.lanes.get(&operation) else { return now };
        let full = lane.slots.len() >= self.per_second(operation);
        let after_window = if full { lane.slots.front().map(|oldest| *oldest + WINDOW) } else { None };
        // Slots never go back in time, though two threads may have read the clock in another order.
        let bounds = [lane.slots.back().copied(), after_window, lane.held_until];
        bounds.into_iter().flatten().fold(now, Instant::max)
    }

    /// Until when the operation is held after a refusal. A slot given earlier may lie before it: look again after
    /// waiting.
    pub fn held_until(&self, operation: Operation) -> Option<Instant> {
        self.lanes.get(&operation).and_then(|lane| lane.held_until)
    }

    /// The cloud refused for quota: nothing more for 1 s, twice as long at each repetition up to 30 s, or for what the
    /// cloud asked if that is longer (at most 120 s). Refusals of calls that were under way together count once.
    pub fn throttled(&mut self, operation: Operation, now: Instant, retry_after: Option<Duration>) {
        let lane = self.lanes.entry(operation).or_default();
        if lane.held_until.is_none_or(|until| until <= now) {
            lane.hold = (lane.hold * 2).clamp(SHORTEST_HOLD, LONGEST_HOLD);
        }
        let pause = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER).max(lane.hold);
        let until = now + pause;
        lane.held_until = Some(lane.held_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// The cloud took a call: the next refusal starts again at 1 s. A hold that is on stays on, as the answer may be to
    /// a call from before it.
    pub fn succeeded(&mut self, operation: Operation, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&operation)
            && lane.held_until.is_none_or(|until| until <= now)
        {
            lane.hold = Duration::ZERO;
            lane.held_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANCEL: Operation = Operation::CancelOTATaskByJob;
    const SECOND: Duration = Duration::from_secs(1);

    fn base() -> Instant {
        crate::clock::monotonic()
    }

    #[test]
    fn a_share_of_the_documented_rate() {
        for (share, query, cancel) in [(0.8, 8, 4), (1.0, 10, 5), (0.01, 1, 1), (0.0, 8, 4), (7.0, 8, 4)] {
            let quota = Quota::new(share);
            assert_eq!(quota.per_second(Operation::QueryOTAJob), query, "{share}");
            assert_eq!(quota.per_second(CANCEL), cancel, "{share}");
        }
        assert_eq!(Quota::new(f64::NAN).per_second(CANCEL), 4);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_next_waits_its_second() {
        let (mut quota, start) = (Quota::default(), base());
        let slots: Vec<_> = (0..9).map(|_| quota.reserve(CANCEL, start)).collect();
        assert_eq!(slots[..4], [start; 4]);
        assert_eq!(slots[4..8], [start + WINDOW; 4]);
        assert_eq!(slots[8], start + WINDOW * 2);
        assert_eq!(quota.reserve(Operation::QueryOTAJob, start), start, "other operations have their own");
        assert_eq!(quota.next_slot(CANCEL, start), start + WINDOW * 2);
        assert_eq!(quota.reserve(CANCEL, start + SECOND * 60), start + SECOND * 60);
    }

    #[test]
    fn refusals_double_the_hold_and_a_success_resets_it() {
        let (mut quota, mut now) = (Quota::default(), base());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            quota.throttled(CANCEL, now, None);
            // A companion from the same burst, refused a moment later, adds its moment and no doubling.
            quota.throttled(CANCEL, now, None);
            assert_eq!(quota.next_slot(CANCEL, now), now + SECOND * seconds);
            quota.succeeded(CANCEL, now);
            now += SECOND * seconds;
            assert_eq!(quota.reserve(CANCEL, now), now);
        }
        quota.succeeded(CANCEL, now);
        assert_eq!(quota.held_until(CANCEL), None);
        quota.throttled(CANCEL, now, None);
        assert_eq!(quota.held_until(CANCEL), Some(now + SECOND));
    }

    #[test]
    fn the_clouds_own_pause_counts_if_it_is_longer() {
        let (mut quota, now) = (Quota::default(), base());
        quota.throttled(CANCEL, now, Some(Duration::from_millis(10)));
        assert_eq!(quota.held_until(CANCEL), Some(now + SECOND));
        quota.throttled(CANCEL, now, Some(SECOND * 45));
        assert_eq!(quota.held_until(CANCEL), Some(now + SECOND * 45));
        quota.throttled(CANCEL, now, Some(SECOND * 9999));
        assert_eq!(quota.held_until(CANCEL), Some(now + SECOND * 120));
    }

    proptest! {
        /// Whatever is asked when, no window of a second, wherever it starts, holds more than the share allows.
        #[test]
        fn no_second_holds_more_than_the_share(
            share in 0.01_f64..=1.0,
            steps in prop::collection::vec((0_usize..3, 0_u64..400, 0_u8..20), 1..300),
        ) {
            let operations = [CANCEL, Operation::QueryOTAJob, Operation::CreateOTAStaticUpgradeJob];
            let mut quota = Quota::new(share);
            let mut now = base();
            let mut given: BTreeMap<Operation, Vec<Instant>> = BTreeMap::new();
            for (which, pause, event) in steps {
                let operation = operations[which];
                now += Duration::from_millis(pause.saturating_sub(200));
                match event {
                    0 => quota.throttled(operation, now, Some(Duration::from_millis(pause * 10))),
                    1 => quota.succeeded(operation, now),
                    _ => {
                        let slot = quota.reserve(operation, now);
                        prop_assert!(slot >= now);
                        prop_assert!(quota.held_until(operation).is_none_or(|until| slot >= until));
                        given.entry(operation).or_default().push(slot);
                    }
                }
            }
            for (operation, slots) in given {
                let most = (f64::from(operation.qps()) * share).floor().max(1.0) as usize;
                prop_assert!(slots.is_sorted());
                for start in &slots {
                    let within = slots.iter().filter(|s| **s >= *start && **s - *start < SECOND).count();
                    prop_assert!(within <= most, "{operation}: {within} > {most}");
                }
            }
        }

        /// And it is not needlessly slow: a full queue runs at the share.
        #[test]
        fn a_full_queue_keeps_the_pace(share in 0.2_f64..=1.0, calls in 1_u32..200) {
            let (mut quota, start) = (Quota::new(share), base());
            let last = (0..calls).map(|_| quota.reserve(CANCEL, start)).last().unwrap();
            let windows = (calls - 1) / u32::try_from(quota.per_second(CANCEL)).unwrap();
            prop_assert_eq!(last, start + WINDOW * windows);
        }
    }
}
