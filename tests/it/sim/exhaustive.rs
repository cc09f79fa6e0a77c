//! All schedules of one event, and all of two while a claim is on its way. Which of them are played by whom never comes
//! in.

use super::corpus::Script;
use super::event::{Choice, Event, Point};

/// The plain scene; nonces used up by any answer and shuffled lists that show no tags; nonces never used up; an account
/// that never showed a tag.
pub const SCENES: [u64; 4] = [0, 1 + 12 + 36 + 2 * 108, 2 + 2 * 108, 324];

/// What is worth trying twice: what can happen to a call, a process or a Lease, and what most changes what a claim means.
const PAIRED: [Event; 18] = [
    Event::NotSent,
    Event::Fail,
    Event::LostReply,
    Event::Throttled,
    Event::Late5s,
    Event::Late14m,
    Event::Echo,
    Event::Conflict,
    Event::Crash,
    Event::Freeze3m,
    Event::Freeze20m,
    Event::StealLease,
    Event::StaleWatch30s,
    Event::RotateKey,
    Event::Suspend,
    Event::Abort,
    Event::NewFirmware,
    Event::Delete,
];

/// Every event at every place that the plain story of a scene passes.
pub fn one(scene: u64) -> Vec<Script> {
    let trail = Script { scene, choices: Vec::new() }.trail().trail;
    let at = |(place, nth, _): &(super::event::Place, u32, bool)| {
        let (place, nth) = (*place, *nth);
        let fits = Event::ALL.iter().filter(move |event| place.takes(**event));
        fits.map(move |event| Script { scene, choices: vec![Choice { place, nth, event: *event }] })
    };
    trail.iter().flat_map(at).collect()
}

/// Every two events while the first upgrade job's claim is on its way, from its write to its record.
pub fn two(scene: u64) -> Vec<Script> {
    let plain = Script { scene, choices: Vec::new() };
    let claims = |choice: &(super::event::Place, u32, bool)| choice.0.point == Point::WriteClaim && !choice.0.after;
    let trail = plain.trail().trail;
    // The last but one: the gray step, after a verification or without one.
    let began = trail.iter().enumerate().filter(|(_, passing)| claims(passing)).map(|(at, _)| at).rev().nth(1);
    let Some(began) = began else { return Vec::new() };
    let ends = |trail: &[(super::event::Place, u32, bool)], from: usize| {
        let quiet = trail[from..].iter().position(|(place, _, hot)| !hot && place.point != Point::WriteClaim);
        quiet.map_or(trail.len(), |more| from + more)
    };
    let mut all = Vec::new();
    for (place, nth, _) in &trail[began..ends(&trail, began)] {
        for event in PAIRED.iter().filter(|event| place.takes(**event)) {
            let first = Script { scene, choices: vec![Choice { place: *place, nth: *nth, event: *event }] };
            let after = first.trail().trail;
            let Some(at) = after.iter().position(|passing| (passing.0, passing.1) == (*place, *nth)) else { continue };
            for (place, nth, _) in &after[at + 1..ends(&after, at + 1).max(at + 1)] {
                for event in PAIRED.iter().filter(|event| place.takes(**event)) {
                    let mut both = first.clone();
                    both.choices.push(Choice { place: *place, nth: *nth, event: *event });
                    all.push(both);
                }
            }
        }
    }
    all
}
