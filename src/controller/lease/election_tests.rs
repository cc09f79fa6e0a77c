//! The election, move by move, and then many of them against one server that forgets, delays and deletes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::world::Moment;
use super::election::{Answer, Draft, Election, Next, Record, Terms};

const TERMS: Terms = Terms { duration: Duration::from_secs(15) };

fn at(seconds: f64) -> Moment {
    let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    Moment { monotonic: Duration::from_secs_f64(seconds), wall: start + SignedDuration::from_secs_f64(seconds) }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn held(version: &str, holder: &str) -> Record {
    Record {
        version: version.to_owned(),
        holder: Some(holder.to_owned()).filter(|h| !h.is_empty()),
        duration: Some(TERMS.duration),
        // By the holder's own clock, which is a year ahead. Nobody cares.
        acquired: "2027-01-01T00:00:00Z".parse().ok(),
        renewed: "2027-01-01T00:00:00Z".parse().ok(),
        transitions: 4,
    }
}

fn claimed(draft: &Draft, version: &str) -> Record {
    Record {
        version: version.to_owned(),
        holder: draft.holder.clone(),
        duration: u64::try_from(draft.seconds).ok().map(Duration::from_secs),
        acquired: draft.acquired,
        renewed: Some(draft.renewed),
        transitions: draft.transitions,
    }
}

fn draft(election: &Election, now: Moment) -> Draft {
    match election.next(now) {
        Next::Write(draft) => draft,
        other => panic!("{other:?} at {now:?}"),
    }
}

fn left(election: &Election, now: Moment) -> Option<Duration> {
    election.tenure().and_then(|tenure| tenure.left(now))
}

/// An election that this process won at second 0 with version 1.
fn won() -> Election {
    let mut election = Election::new("me".to_owned(), TERMS, true);
    assert_eq!(election.next(at(0.0)), Next::Read);
    election.read(at(0.0), Answer::Absent);
    let first = draft(&election, at(0.0));
    assert_eq!((&first.replaces, first.holder.as_deref(), first.seconds), (&None, Some("me"), 15));
    election.wrote(&first, at(0.0), at(0.1), Answer::Record(claimed(&first, "1")));
    election
}

#[test]
fn where_nobody_can_have_been_before_it_is_owned_at_once_and_renewed_at_a_third() {
    let mut election = won();
    assert_eq!(left(&election, at(0.1)), Some(seconds(13.4)), "from before it was sent, less the margin");
    assert_eq!(election.next(at(0.1)), Next::Wait(seconds(5.0)));
    let renewal = draft(&election, at(5.0));
    assert_eq!((renewal.replaces.as_deref(), renewal.transitions), (Some("1"), 0));
    election.wrote(&renewal, at(5.0), at(5.1), Answer::Record(claimed(&renewal, "2")));
    assert_eq!(left(&election, at(5.1)), Some(seconds(13.4)));
    assert_eq!(election.tenure().map(|t| t.term), Some(1), "the same ownership");
    election.hurry();
    assert_eq!(draft(&election, at(6.0)).replaces.as_deref(), Some("2"), "renewed early, because somebody asked");
}

#[test]
fn another_owner_is_waited_for_from_when_its_last_sign_was_seen() {
    let mut election = Election::new("me".to_owned(), TERMS, true);
    election.read(at(100.0), Answer::Record(held("7", "other")));
    assert_eq!(election.next(at(100.0)), Next::Wait(seconds(103.0)), "and is looked at meanwhile");
    for now in [103.0, 106.0, 109.0, 112.0] {
        assert_eq!(election.next(at(now)), Next::Read);
        election.read(at(now), Answer::Record(held("7", "other")));
    }
    // A renewal in the last moment starts the wait anew.
    election.read(at(114.9), Answer::Record(held("8", "other")));
    for now in [117.0, 118.0, 120.0, 123.0, 126.0, 129.0] {
        assert!(!matches!(election.next(at(now)), Next::Write(_)), "{now}");
        election.read(at(now), Answer::Record(held("8", "other")));
    }
    let takeover = draft(&election, at(129.9));
    assert_eq!((takeover.replaces.as_deref(), takeover.transitions), (Some("8"), 5));
    assert_eq!(takeover.acquired, Some(takeover.renewed), "acquired now");
    assert_eq!(left(&election, at(129.9)), None, "not before it is acknowledged");
    election.wrote(&takeover, at(129.9), at(130.0), Answer::Record(claimed(&takeover, "9")));
    assert!(left(&election, at(130.0)).is_some());
}

#[test]
fn the_owners_own_promise_counts_not_ours() {
    let mut election = Election::new("me".to_owned(), TERMS, true);
    let patient = Record { duration: Some(seconds(60.0)), ..held("7", "other") };
    election.read(at(0.0), Answer::Record(patient.clone()));
    for now in [15.0, 30.0, 59.0] {
        assert_eq!(election.next(at(now)), Next::Read);
        election.read(at(now), Answer::Record(patient.clone()));
    }
    assert_eq!(draft(&election, at(60.0)).replaces.as_deref(), Some("7"));
    // Also when the Lease goes away: who gave the promise may still act upon it.
    election.read(at(60.0), Answer::Absent);
    let owned = owned_after_creating(&mut election, 68.0);
    assert!((128.1..128.2).contains(&owned), "{owned}");
}

/// Creates at this second, renews through the probation, and returns the second of the write that made an owner.
fn owned_after_creating(election: &mut Election, created: f64) -> f64 {
    let first = draft(election, at(created));
    assert_eq!(first.replaces, None);
    election.wrote(&first, at(created), at(created + 0.1), Answer::Record(claimed(&first, "c")));
    let mut now = created + 0.1;
    for n in 0..100 {
        assert_eq!(left(election, at(now)), None);
        assert_eq!(election.resign(at(now)), None, "released, others would take it at once");
        let Next::Wait(until) = election.next(at(now)) else { panic!("{:?}", election.next(at(now))) };
        now = until.as_secs_f64();
        let renewal = draft(election, at(now));
        election.wrote(&renewal, at(now), at(now), Answer::Record(claimed(&renewal, &format!("r{n}"))));
        if left(election, at(now)).is_some() {
            return now;
        }
    }
    panic!("never an owner")
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut election = Election::new("me".to_owned(), TERMS, false);
    election.read(at(0.0), Answer::Record(held("7", "")));
    let taken = draft(&election, at(0.0));
    assert_eq!((taken.replaces.as_deref(), taken.transitions), (Some("7"), 5));
}

#[test]
fn whoever_resigns_owns_nothing_from_that_moment_and_says_so() {
    let mut election = won();
    let release = election.resign(at(1.0)).unwrap();
    assert_eq!((release.holder, release.replaces.as_deref()), (None, Some("1")));
    assert_eq!(left(&election, at(1.0)), None);
    let mut bystander = Election::new("me".to_owned(), TERMS, false);
    bystander.read(at(0.0), Answer::Record(held("7", "other")));
    assert_eq!(bystander.resign(at(1.0)), None, "nothing to release");
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_again() {
    let mut election = won();
    let renewal = draft(&election, at(5.0));
    election.wrote(&renewal, at(5.0), at(8.0), Answer::Unclear);
    assert_eq!(left(&election, at(8.0)), Some(seconds(5.5)), "what was acknowledged before still holds");
    assert_eq!(election.next(at(8.0)), Next::Wait(seconds(8.75)), "after a pause");
    assert_eq!(election.next(at(8.75)), Next::Read);
    // It had been written.
    election.read(at(8.8), Answer::Record(claimed(&renewal, "2")));
    let again = draft(&election, at(8.8));
    assert_eq!(again.replaces.as_deref(), Some("2"));
    election.wrote(&again, at(8.8), at(8.9), Answer::Record(claimed(&again, "3")));
    assert_eq!(election.tenure().map(|t| t.term), Some(1));
}

#[test]
fn without_answers_it_ends_by_itself_and_the_next_one_is_another_ownership() {
    let mut election = won();
    let mut now = 5.0;
    while let Next::Write(_) | Next::Read | Next::Wait(_) = election.next(at(now))
        && now < 13.4
    {
        if let Next::Write(renewal) = election.next(at(now)) {
            election.wrote(&renewal, at(now), at(now + 3.0), Answer::Unclear);
        } else if election.next(at(now)) == Next::Read {
            election.read(at(now), Answer::Unclear);
        }
        now += 0.1;
    }
    assert!(left(&election, at(13.4)).is_some());
    assert_eq!(left(&election, at(13.5)), None);
    assert!(!matches!(election.next(at(14.5)), Next::Write(_)), "it looks first");
    election.read(at(14.5), Answer::Record(claimed(&won_draft(), "1")));
    let again = draft(&election, at(14.5));
    election.wrote(&again, at(14.5), at(14.6), Answer::Record(claimed(&again, "2")));
    assert_eq!(election.tenure().map(|t| t.term), Some(2));
}

fn won_draft() -> Draft {
    let mut election = Election::new("me".to_owned(), TERMS, true);
    election.read(at(0.0), Answer::Absent);
    draft(&election, at(0.0))
}

#[test]
fn an_answer_that_comes_too_late_is_no_ownership() {
    let mut election = Election::new("me".to_owned(), TERMS, true);
    election.read(at(0.0), Answer::Absent);
    let first = draft(&election, at(0.0));
    election.wrote(&first, at(0.0), at(14.0), Answer::Record(claimed(&first, "1")));
    assert_eq!(left(&election, at(14.0)), None);
    assert_eq!(election.next(at(14.0)), Next::Read);
}

#[test]
fn a_conflict_is_looked_into_and_another_owner_obeyed_at_once() {
    let mut election = won();
    let renewal = draft(&election, at(5.0));
    election.wrote(&renewal, at(5.0), at(5.1), Answer::Conflict);
    assert_eq!(election.next(at(5.1)), Next::Read);
    election.read(at(5.2), Answer::Record(held("5", "other")));
    assert_eq!((left(&election, at(5.2)), election.holder()), (None, Some("other")));
    assert!(matches!(election.next(at(5.2)), Next::Wait(_)));
    // Somebody's note on the Lease is a conflict, too, and no loss.
    let mut election = won();
    let renewal = draft(&election, at(5.0));
    election.wrote(&renewal, at(5.0), at(5.1), Answer::Conflict);
    election.read(at(5.2), Answer::Record(claimed(&won_draft(), "2")));
    assert_eq!(draft(&election, at(5.2)).replaces.as_deref(), Some("2"));
    assert!(left(&election, at(5.2)).is_some());
}

#[test]
fn a_deleted_lease_is_put_back_by_its_owner_at_once_and_by_others_when_it_must_have_ended() {
    let mut owner = won();
    let renewal = draft(&owner, at(5.0));
    owner.wrote(&renewal, at(5.0), at(5.1), Answer::Absent);
    assert!(left(&owner, at(5.1)).is_some(), "nobody else can own it yet");
    let again = draft(&owner, at(5.1));
    assert_eq!(again.replaces, None);
    owner.wrote(&again, at(5.1), at(5.2), Answer::Record(claimed(&again, "9")));
    assert_eq!(owner.tenure().map(|t| t.term), Some(1));

    for seen_before in [true, false] {
        // The same for one that has just started, where there are signs of an owner.
        let mut other = Election::new("me".to_owned(), TERMS, false);
        if seen_before {
            other.read(at(3.0), Answer::Record(held("1", "other")));
        }
        other.read(at(5.0), Answer::Absent);
        for now in [8.0, 11.0, 12.9] {
            assert!(!matches!(other.next(at(now)), Next::Write(_)), "{now}: left to its owner to put back");
            other.read(at(now), Answer::Absent);
        }
        let owned = owned_after_creating(&mut other, 13.0);
        assert!((28.1..28.2).contains(&owned), "{owned}: as long as the old owner's last promise can last");
    }
}

#[test]
fn a_lease_that_turns_out_to_be_ours_is_no_proof_where_it_had_been_deleted() {
    let mut election = Election::new("me".to_owned(), TERMS, false);
    election.read(at(0.0), Answer::Absent);
    election.read(at(7.0), Answer::Absent);
    let first = draft(&election, at(8.0));
    election.wrote(&first, at(8.0), at(11.0), Answer::Unclear);
    election.read(at(12.0), Answer::Record(claimed(&first, "1")));
    let renewal = draft(&election, at(12.0));
    election.wrote(&renewal, at(12.0), at(12.1), Answer::Record(claimed(&renewal, "2")));
    assert_eq!(left(&election, at(12.1)), None, "the old owner may last as long as from the create");
    // Where it replaced a version that was seen, it is.
    let mut election = Election::new("me".to_owned(), TERMS, false);
    election.read(at(0.0), Answer::Record(held("7", "")));
    let taken = draft(&election, at(0.0));
    election.wrote(&taken, at(0.0), at(3.0), Answer::Unclear);
    election.read(at(4.0), Answer::Record(claimed(&taken, "8")));
    let renewal = draft(&election, at(4.0));
    election.wrote(&renewal, at(4.0), at(4.1), Answer::Record(claimed(&renewal, "9")));
    assert!(left(&election, at(4.1)).is_some());
}

#[test]
fn a_process_that_was_stopped_knows_nothing_and_looks_first() {
    let mut election = won();
    // SIGSTOP at 1, SIGCONT at 60: both clocks went on.
    assert_eq!(left(&election, at(60.0)), None);
    assert_eq!(election.next(at(60.0)), Next::Read);
    election.read(at(60.1), Answer::Record(held("5", "other")));
    assert!(matches!(election.next(at(60.1)), Next::Wait(_)));
    // A machine that was suspended: its monotonic clock stood still, the wall clock tells.
    let election = won();
    let woken = Moment { monotonic: seconds(1.0), wall: at(60.0).wall };
    assert_eq!(left(&election, woken), None);
    assert_eq!(election.next(woken), Next::Read);
}

#[test]
fn a_clock_that_is_set_costs_a_look_forward_and_nothing_back() {
    let mut election = won();
    let back = Moment { monotonic: seconds(1.0), wall: at(0.0).wall - SignedDuration::from_hours(24) };
    assert_eq!(left(&election, back), Some(seconds(12.5)));
    let after = Moment { monotonic: seconds(13.5), wall: back.wall };
    assert_eq!(left(&election, after), None, "a clock that was set back lengthens nothing");
    let ahead = Moment { monotonic: seconds(1.0), wall: at(3600.0).wall };
    assert_eq!(left(&election, ahead), None);
    election.read(ahead, Answer::Record(claimed(&won_draft(), "1")));
    let again = draft(&election, ahead);
    election.wrote(&again, ahead, ahead, Answer::Record(claimed(&again, "2")));
    assert_eq!(left(&election, ahead), Some(seconds(13.5)));
}

#[test]
fn a_write_that_changed_nothing_is_no_sign_of_life() {
    let mut election = won();
    let renewal = draft(&election, at(5.0));
    election.wrote(&renewal, at(5.0), at(5.1), Answer::Record(claimed(&renewal, "1")));
    assert_eq!(left(&election, at(5.1)), Some(seconds(8.4)), "as before");
    // And none is ever sent: not even by a clock that stands still.
    let mut election = won();
    election.hurry();
    let again = draft(&election, at(0.0));
    assert_ne!(again.renewed, won_draft().renewed);
}

/// One request on its way.
struct Flight {
    draft: Option<Draft>,
    sent: Moment,
    /// Global milliseconds: when it arrives, when its answer does, when it is given up.
    arrives: u64,
    answered: u64,
    given_up: u64,
    answer: Option<Answer>,
}

struct Process {
    election: Election,
    offset: Duration,
    rate: f64,
    wall: SignedDuration,
    stopped_until: u64,
    flight: Option<Flight>,
}

impl Process {
    fn new(name: String, unclaimed: bool, offset: u64, rate: f64) -> Self {
        let election = Election::new(name, TERMS, unclaimed);
        let offset = Duration::from_millis(offset);
        Self { election, offset, rate, wall: SignedDuration::ZERO, stopped_until: 0, flight: None }
    }

    fn now(&self, t: u64) -> Moment {
        let monotonic = Duration::from_secs_f64(Duration::from_millis(t).as_secs_f64() * self.rate) + self.offset;
        let wall = at(0.0).wall + SignedDuration::try_from(monotonic).unwrap() + self.wall;
        Moment { monotonic, wall }
    }
}

#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
}

impl Server {
    fn carry_out(&mut self, draft: Option<&Draft>) -> Answer {
        let Some(draft) = draft else { return self.lease.clone().map_or(Answer::Absent, Answer::Record) };
        match (&self.lease, &draft.replaces) {
            (None, Some(_)) => return Answer::Absent,
            (Some(lease), Some(version)) if lease.version == *version => {}
            (None, None) => {}
            _ => return Answer::Conflict,
        }
        self.version += 1;
        let lease = claimed(draft, &self.version.to_string());
        self.lease = Some(lease.clone());
        Answer::Record(lease)
    }
}

/// What goes wrong, and when.
#[derive(Debug, Clone)]
enum Trouble {
    Stop(usize, u64),
    Restart(usize),
    Delete,
    Note,
    SetClock(usize, i64),
    Resign(usize),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let who = 0..3_usize;
    prop_oneof![
        (who.clone(), 100..60_000_u64).prop_map(|(who, long)| Trouble::Stop(who, long)),
        who.clone().prop_map(Trouble::Restart),
        Just(Trouble::Delete),
        Just(Trouble::Note),
        (who.clone(), -100_000..100_000_i64).prop_map(|(who, by)| Trouble::SetClock(who, by)),
        who.prop_map(Trouble::Resign),
    ]
}

const STEP: u64 = 50;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Three processes whose clocks differ and drift, requests that arrive late and answers that get lost: never two
    /// owners at any moment; and once nothing goes wrong any more, one.
    #[test]
    fn there_are_never_two_owners(
        // Not before all have looked once: where there is no sign of an owner, a create is taken at its word.
        troubles in proptest::collection::vec((30_000..180_000_u64, trouble()), 0..12),
        delays in proptest::collection::vec((0..400_u64, 0..400_u64), 64),
        slow in proptest::collection::vec((0..1_000_usize, 0..20_000_u64), 0..40),
        rates in proptest::collection::vec(0.98..1.02_f64, 3),
    ) {
        let mut server = Server::default();
        let mut processes: Vec<Process> = (0_u64..3)
            .map(|n| Process::new(format!("p{n}"), true, n * 1_000_000, rates[usize::try_from(n).unwrap()]))
            .collect();
        let mut late: Vec<(u64, Draft)> = Vec::new();
        let (mut sent, mut born) = (0_usize, 3);
        let quiet_from = 200_000_u64;
        for t in (0..300_000_u64).step_by(usize::try_from(STEP).unwrap()) {
            for (_, trouble) in troubles.iter().filter(|(when, _)| (t..t + STEP).contains(when)) {
                match trouble {
                    Trouble::Stop(who, long) => processes[*who].stopped_until = t + long,
                    Trouble::Restart(who) => {
                        let old = &processes[*who];
                        processes[*who] = Process::new(format!("p{born}"), false, t + born, old.rate);
                        born += 1;
                    }
                    Trouble::Delete => server.lease = None,
                    Trouble::Note => {
                        server.version += 1;
                        let version = server.version.to_string();
                        server.lease.iter_mut().for_each(|lease| lease.version.clone_from(&version));
                    }
                    Trouble::SetClock(who, by) => processes[*who].wall += SignedDuration::from_millis(*by),
                    Trouble::Resign(who) => {
                        let now = processes[*who].now(t);
                        let process = &mut processes[*who];
                        if process.stopped_until <= t && let Some(release) = process.election.resign(now) {
                            late.push((t + 300, release));
                        }
                    }
                }
            }
            late.retain(|(when, draft)| {
                if *when <= t {
                    server.carry_out(Some(draft));
                }
                *when > t
            });
            for process in &mut processes {
                let now = process.now(t);
                if let Some(flight) = &mut process.flight
                    && flight.answer.is_none()
                    && flight.arrives <= t
                {
                    flight.answer = Some(server.carry_out(flight.draft.as_ref()));
                }
                if process.stopped_until > t {
                    continue;
                }
                let over = process.flight.take_if(|f| t >= f.answered.min(f.given_up));
                if let Some(mut flight) = over {
                    let in_time = flight.answered <= flight.given_up;
                    let answer = flight.answer.take().filter(|_| in_time).unwrap_or(Answer::Unclear);
                    // One that was given up may still arrive.
                    if flight.arrives > t && let Some(draft) = &flight.draft {
                        late.push((flight.arrives, draft.clone()));
                    }
                    match &flight.draft {
                        Some(draft) => process.election.wrote(draft, flight.sent, now, answer),
                        None => process.election.read(now, answer),
                    }
                }
                if process.flight.is_none() {
                    let draft = match process.election.next(now) {
                        Next::Wait(_) => continue,
                        Next::Read => None,
                        Next::Write(draft) => Some(draft),
                    };
                    let (there, back) = delays[sent % delays.len()];
                    let extra = slow.iter().find(|(n, _)| *n == sent && t < quiet_from).map_or(0, |(_, extra)| *extra);
                    sent += 1;
                    let (there, back) = if sent.is_multiple_of(2) { (there + extra, back) } else { (there, back + extra) };
                    let given_up = t + 3_000;
                    let arrives = t + there;
                    process.flight = Some(Flight { draft, sent: now, arrives, answered: arrives + back, given_up, answer: None });
                }
            }
            let owners = processes.iter().filter(|p| p.election.tenure().and_then(|o| o.left(p.now(t))).is_some());
            prop_assert!(owners.clone().count() <= 1, "two owners at {t} ms");
            if t >= 280_000 && processes.iter().all(|p| p.stopped_until <= t) {
                prop_assert_eq!(owners.count(), 1, "no owner at {} ms", t);
            }
        }
    }
}
