//! What happens where: replayed from a list, or drawn from a seed and written down. What a choice does never comes in.

use super::event::{Choice, Event, Place};

/// A generator of its own, so that a seed means the same for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5EED_0F07_A000_0001)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How often something happens: one in so many passings of a place. A place where a job may be made twice is hit more
/// often by [`HOT`].
const RATES: [u64; 5] = [1_000, 400, 150, 60, 25];
const HOT: u64 = 8;
/// Most events that a seed draws: a schedule that is all faults tells little.
const MOST: usize = 12;
/// One in so many seeds looks only at what happens to a claim on its way, so often: what needs two or three of these
/// events at the right places would be drawn too seldom among all others.
const CLOSE: u64 = 4;
const CLOSE_RATES: [u64; 3] = [12, 6, 3];
/// What happens to requests, and to the processes that wait for their answers.
const CLOSE_EVENTS: [Event; 14] = [
    Event::NotSent,
    Event::Fail,
    Event::LostReply,
    Event::Throttled,
    Event::Late5s,
    Event::Late18s,
    Event::Late4m,
    Event::Late14m,
    Event::Late16m,
    Event::Slow,
    Event::Crash,
    Event::Freeze8s,
    Event::Freeze3m,
    Event::StealLease,
];

#[derive(Debug, Clone)]
enum Source {
    Replay,
    Random { random: Random, hot: u64, cold: Option<u64>, events: Vec<Event> },
}

/// The source of all that happens.
#[derive(Debug, Clone)]
pub struct Chooser {
    source: Source,
    script: Vec<Choice>,
    passed: [u32; Place::COUNT],
    /// What was chosen, in order.
    pub made: Vec<Choice>,
    /// Nothing happens any more.
    pub quiet: bool,
    /// Every place that was passed, how often by then, and whether a claim was on its way; none: nobody wants to know.
    pub trail: Option<Vec<(Place, u32, bool)>>,
}

impl Chooser {
    /// Exactly these events; where a place is not reached or an event no longer fits, nothing happens.
    pub fn replay(script: &[Choice]) -> Self {
        Self {
            source: Source::Replay,
            script: script.to_vec(),
            passed: [0; Place::COUNT],
            made: Vec::new(),
            quiet: false,
            trail: None,
        }
    }

    /// Events drawn from a seed: each seed has its own rate, and its own kinds of events (a few kinds, often, reach
    /// further than all kinds, seldom).
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let close = random.below(CLOSE) == 0;
        let (hot, cold) = if close {
            (CLOSE_RATES[random.below(CLOSE_RATES.len() as u64) as usize], None)
        } else {
            let rate = RATES[random.below(RATES.len() as u64) as usize];
            ((rate / HOT).max(2), Some(rate))
        };
        let share = [1, 2, 4][random.below(3) as usize];
        let all = if close { &CLOSE_EVENTS[..] } else { Event::ALL };
        let events = all.iter().copied().filter(|_| random.below(share) == 0).collect();
        let source = Source::Random { random, hot, cold, events };
        Self { source, ..Self::replay(&[]) }
    }

    /// What happens at a place that is passed now. `hot`: a claim is on its way.
    pub fn choose(&mut self, place: Place, hot: bool) -> Option<Event> {
        if self.quiet {
            return None;
        }
        let passed = &mut self.passed[place.index()];
        *passed += 1;
        let nth = *passed;
        if let Some(trail) = &mut self.trail {
            trail.push((place, nth, hot));
        }
        let event = match &mut self.source {
            Source::Replay => {
                let at = self.script.iter().position(|c| c.place == place && c.nth == nth)?;
                Some(self.script.remove(at).event).filter(|event| place.takes(*event))
            }
            Source::Random { random, hot: often, cold, events } => {
                let rate = if hot { *often } else { (*cold)? };
                if self.made.len() >= MOST || events.is_empty() || random.below(rate) != 0 {
                    return None;
                }
                let event = events[random.below(events.len() as u64) as usize];
                Some(event).filter(|event| place.takes(*event))
            }
        }?;
        self.made.push(Choice { place, nth, event });
        Some(event)
    }
}
