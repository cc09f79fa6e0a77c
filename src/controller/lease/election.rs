//! Who owns a Lease, and what to do next about it: values in, a value out. No clock, no I/O: those are the keeper's.
//!
//! Two rules keep two owners apart. An owner counts its time from BEFORE it sent the write that was acknowledged, and
//! takes a margin off; everybody else counts from AFTER they first saw that write, and takes nothing off. Times of
//! different machines are never compared: the ones in a record are for people.
//!
//! A resourceVersion guards every write but the first. So whoever puts a Lease where one was deleted owns nothing yet:
//! the old owner's last renewal may be younger than anything that was seen. It renews through a probation as long as
//! any promise, and owns with the first renewal that is sent after it: then no other Lease was there meanwhile.

use std::time::Duration;

use jiff::{Timestamp, TimestampRound, Unit};

use crate::controller::world::Moment;

/// The periods that follow from how long a Lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long others have to wait after a sign of life.
    pub duration: Duration,
}

impl Terms {
    /// How long one acknowledged write makes an owner: less than others wait, for clocks that do not run alike.
    pub fn validity(&self) -> Duration {
        self.duration.mul_f64(0.9)
    }

    /// The longest that anything may take which must not outlast the ownership: a tenth is left for the renewal itself.
    pub fn longest_effect(&self) -> Duration {
        self.duration.mul_f64(0.8)
    }

    /// Time from one renewal to the next.
    pub fn renewal(&self) -> Duration {
        self.duration / 3
    }

    /// Time between two looks at somebody else's Lease.
    pub fn look(&self) -> Duration {
        self.duration / 5
    }

    /// Longest wait for an answer of the API server: two renewals may fail so before the ownership ends.
    pub fn timeout(&self) -> Duration {
        self.duration / 5
    }

    /// How long a Lease that is gone is left to its owner to put back.
    pub fn grace(&self) -> Duration {
        self.renewal() + self.timeout()
    }

    /// Pause after a call that failed.
    pub fn pause(&self) -> Duration {
        self.duration / 20
    }

    /// As it is written: whole seconds, and never less than what it stands for.
    pub fn seconds(&self) -> i32 {
        let up = self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0);
        i32::try_from(up.max(1)).unwrap_or(i32::MAX)
    }
}

/// A Lease as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// resourceVersion: every write changes it.
    pub version: String,
    /// Who owns it; none: it was released.
    pub holder: Option<String>,
    /// How long its owner may be silent, by its own promise.
    pub duration: Option<Duration>,
    /// When the owner became it, by the owner's clock.
    pub acquired: Option<Timestamp>,
    /// The owner's last sign of life, by the owner's clock.
    pub renewed: Option<Timestamp>,
    /// How often the owner changed.
    pub transitions: i32,
}

/// A write of a Lease: it happens only if the Lease is still the version that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// resourceVersion; none: there is no Lease yet.
    pub replaces: Option<String>,
    /// Who owns it from then on; none: nobody.
    pub holder: Option<String>,
    /// leaseDurationSeconds.
    pub seconds: i32,
    /// acquireTime.
    pub acquired: Option<Timestamp>,
    /// renewTime.
    pub renewed: Timestamp,
    /// leaseTransitions.
    pub transitions: i32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Read the Lease.
    Read,
    /// Write the Lease.
    Write(Draft),
    /// Nothing before this moment of the monotonic clock.
    Wait(Duration),
}

/// What became of a read or a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The Lease as it is now.
    Record(Record),
    /// There is no Lease. A write had no effect.
    Absent,
    /// It is another version, or there is one already. The write had no effect.
    Conflict,
    /// Nobody knows; a write may have happened, or may still happen.
    Unclear,
}

/// An ownership that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// Right before the acknowledged write was sent.
    sent: Moment,
    validity: Duration,
    /// Counts the ownerships of this process: another number means that somebody else may have been the owner between.
    pub term: u64,
}

impl Tenure {
    /// How much longer it surely lasts.
    ///
    /// The monotonic clock stands still while a whole machine is suspended, and then our own wall clock shows it. One
    /// that was set forward costs a renewal; one that was set back changes nothing.
    pub fn left(&self, now: Moment) -> Option<Duration> {
        let by_monotonic = now.monotonic.saturating_sub(self.sent.monotonic);
        let by_wall = Duration::try_from(now.wall.duration_since(self.sent.wall)).unwrap_or_default();
        self.validity.checked_sub(by_monotonic.max(by_wall)).filter(|left| !left.is_zero())
    }

    /// When it ends by the monotonic clock, unless it is renewed.
    pub const fn end(&self) -> Duration {
        self.sent.monotonic.saturating_add(self.validity)
    }
}

/// What was seen, and when it was first seen so.
#[derive(Debug, Clone)]
struct Sight {
    record: Option<Record>,
    since: Duration,
}

/// One process's part in the election of one Lease's owner.
#[derive(Debug)]
pub struct Election {
    me: String,
    terms: Terms,
    /// Nobody can have owned it before: where there is no Lease, nobody needs to be waited for.
    unclaimed: bool,
    sight: Option<Sight>,
    /// The sight may be out of date: look before anything else.
    look: bool,
    looked: Duration,
    not_before: Duration,
    renew_now: bool,
    /// The longest promise that was seen: who is gone with the Lease may have given it.
    longest: Duration,
    tenure: Option<Tenure>,
    ownerships: u64,
    /// When our last acknowledged write was sent.
    renewed: Option<Duration>,
    /// A write that nobody knows of whether it happened.
    unclear: Option<Draft>,
    /// The Lease is ours and the ownership is not, before this moment.
    probation: Option<Duration>,
}

impl Election {
    /// Takes part as `me`, which no other process may be called. `unclaimed`: nobody can have owned this Lease before.
    pub fn new(me: String, terms: Terms, unclaimed: bool) -> Self {
        Self {
            me,
            terms,
            unclaimed,
            sight: None,
            look: true,
            looked: Duration::ZERO,
            not_before: Duration::ZERO,
            renew_now: false,
            longest: terms.duration,
            tenure: None,
            ownerships: 0,
            renewed: None,
            unclear: None,
            probation: None,
        }
    }

    /// The ownership, if there is one. It may have run out: ask [`Tenure::left`].
    pub const fn tenure(&self) -> Option<Tenure> {
        self.tenure
    }

    /// Who owns the Lease, as far as was seen.
    pub fn holder(&self) -> Option<&str> {
        self.sight.as_ref()?.record.as_ref()?.holder.as_deref()
    }

    /// The next renewal is to come at once: somebody needs the ownership at its longest.
    pub const fn hurry(&mut self) {
        self.renew_now = true;
    }

    fn current(&self, now: Moment) -> Option<Tenure> {
        self.tenure.filter(|tenure| tenure.left(now).is_some())
    }

    /// What to do next.
    pub fn next(&self, now: Moment) -> Next {
        if now.monotonic < self.not_before {
            return Next::Wait(self.not_before);
        }
        // One that was silent too long, stopped or cut off, looks before it writes anything.
        let lapsed = self.tenure.is_some() && self.current(now).is_none();
        let Some(sight) = self.sight.as_ref().filter(|_| !self.look && !lapsed) else { return Next::Read };
        let free_at = match &sight.record {
            Some(record) if record.holder.as_deref() == Some(self.me.as_str()) => {
                let due = self.renewed.map_or(Duration::ZERO, |at| at + self.terms.renewal());
                let due = if self.renew_now { Duration::ZERO } else { due };
                let due = self.probation.map_or(due, |end| due.min(end));
                return if due <= now.monotonic { Next::Write(self.claim(now)) } else { Next::Wait(due) };
            }
            Some(record) if record.holder.is_some() => sight.since + record.duration.unwrap_or(self.terms.duration),
            // Released.
            Some(_) => sight.since,
            // Deleted under our hands: it is ours to put back.
            None if self.tenure.is_some() || self.unclaimed => sight.since,
            // Deleted, and its owner may not know yet.
            None => sight.since + self.terms.grace(),
        };
        let look_at = self.looked + self.terms.look();
        match () {
            () if free_at <= now.monotonic => Next::Write(self.claim(now)),
            () if look_at <= now.monotonic => Next::Read,
            () => Next::Wait(free_at.min(look_at)),
        }
    }

    /// The write that makes or keeps us the owner.
    fn claim(&self, now: Moment) -> Draft {
        let record = self.sight.as_ref().and_then(|s| s.record.as_ref());
        let renewed = stamp(now.wall, record);
        let ours = record.filter(|r| r.holder.as_deref() == Some(self.me.as_str()));
        Draft {
            replaces: record.map(|r| r.version.clone()),
            holder: Some(self.me.clone()),
            seconds: self.terms.seconds(),
            acquired: ours.map_or(Some(renewed), |r| r.acquired),
            renewed,
            transitions: record.map_or(0, |r| r.transitions.saturating_add(i32::from(ours.is_none()))),
        }
    }

    /// Gives the ownership up; the write that tells the others, if they have to be told.
    pub fn resign(&mut self, now: Moment) -> Option<Draft> {
        let ours = self.tenure.take().is_some();
        let record = self.sight.as_ref().and_then(|s| s.record.as_ref());
        let record = record.filter(|r| ours && r.holder.as_deref() == Some(self.me.as_str()))?;
        Some(Draft {
            replaces: Some(record.version.clone()),
            holder: None,
            seconds: self.terms.seconds(),
            acquired: record.acquired,
            renewed: stamp(now.wall, Some(record)),
            transitions: record.transitions,
        })
    }

    /// A read was answered. `now`: after the answer.
    pub fn read(&mut self, now: Moment, answer: Answer) {
        let record = match answer {
            Answer::Record(record) => Some(record),
            Answer::Absent => None,
            Answer::Conflict | Answer::Unclear => {
                self.not_before = now.monotonic + self.terms.pause();
                return;
            }
        };
        (self.look, self.looked) = (false, now.monotonic);
        if self.tenure.is_some() && self.current(now).is_none() {
            (self.tenure, self.renewed) = (None, None);
        }
        match record.as_ref().map(|r| r.holder.as_deref() == Some(self.me.as_str())) {
            Some(true) => self.found_own(now, record.as_ref()),
            Some(false) => (self.tenure, self.renewed, self.probation) = (None, None, None),
            None => self.renewed = None,
        }
        self.see(now, record);
    }

    /// A write was answered. `sent`: before it was sent; `now`: after the answer.
    pub fn wrote(&mut self, draft: &Draft, sent: Moment, now: Moment, answer: Answer) {
        match answer {
            // A write that changed nothing is no sign of life: nobody could see it.
            Answer::Record(record) if draft.replaces.as_ref() != Some(&record.version) => {
                let continuous = self.current(now).is_some();
                match &draft.replaces {
                    None if continuous || self.unclaimed => self.probation = None,
                    None => self.probation = Some(now.monotonic + self.longest),
                    Some(_) => self.probation = self.probation.filter(|end| sent.monotonic < *end),
                }
                self.tenure = None;
                if self.probation.is_none() {
                    self.ownerships += u64::from(!continuous);
                    self.tenure = Some(Tenure { sent, validity: self.terms.validity(), term: self.ownerships });
                }
                (self.look, self.looked, self.renew_now) = (false, now.monotonic, false);
                (self.renewed, self.unclear) = (Some(sent.monotonic), None);
                self.see(now, Some(record));
            }
            Answer::Absent => {
                (self.look, self.looked) = (false, now.monotonic);
                self.see(now, None);
            }
            Answer::Conflict => self.look = true,
            Answer::Record(_) | Answer::Unclear => {
                self.look = true;
                self.not_before = now.monotonic + self.terms.pause();
                self.unclear = Some(draft.clone());
            }
        }
    }

    /// The Lease says that it is ours. That proves an ownership only where each write of ours replaced what we had seen.
    fn found_own(&mut self, now: Moment, record: Option<&Record>) {
        let known = self.sight.as_ref().and_then(|s| s.record.as_ref()).map(|r| &r.version);
        let same = known == record.map(|r| &r.version);
        let late = self.unclear.as_ref().is_some_and(|draft| {
            draft.replaces.is_some()
                && draft.replaces.as_ref() == known
                && record.and_then(|r| r.renewed) == Some(draft.renewed)
        });
        if !(same || late || self.unclaimed || self.current(now).is_some()) {
            self.probation = Some(now.monotonic + self.longest);
        }
    }

    fn see(&mut self, now: Moment, record: Option<Record>) {
        let version = |r: &Option<Record>| r.as_ref().map(|r| r.version.clone());
        if let Some(record) = &record {
            self.unclaimed = false;
            self.longest = self.longest.max(record.duration.unwrap_or_default());
        }
        let known = self.sight.as_ref().filter(|s| version(&s.record) == version(&record));
        let since = known.map_or(now.monotonic, |s| s.since);
        self.sight = Some(Sight { record, since });
    }
}

/// A renewTime that differs from the last one: an identical write would not be one.
fn stamp(wall: Timestamp, last: Option<&Record>) -> Timestamp {
    let round = TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
    let wall = wall.round(round).unwrap_or(wall);
    if last.and_then(|r| r.renewed) == Some(wall) {
        return wall.checked_add(jiff::SignedDuration::from_micros(1)).unwrap_or(wall);
    }
    wall
}
