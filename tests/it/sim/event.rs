//! What may happen, and where: the vocabulary of a schedule. How a thing is done never comes in here.

use std::fmt;
use std::str::FromStr;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* $variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => stringify!($variant),)* })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|known| known.to_string() == text)
                    .ok_or_else(|| format!("{text} is no {}", stringify!($name)))
            }
        }
    )*};
}

names! {
    /// Where a process yields: each call that leaves it, and where it waits for work.
    Point {
        /// A pass begins.
        Wake,
        /// The account and its Secret are read.
        Account,
        /// A status with a new claim.
        WriteClaim,
        /// A status that marks a claim as sent.
        WriteTakeOver,
        /// A status that ends a claim with its job.
        WriteRecord,
        /// A status that ends a claim without a job.
        WriteWithdraw,
        /// A status in which a stage ends.
        WriteEnd,
        /// Any other status.
        WriteOther,
        /// The finalizer.
        Finalize,
        /// The object, read past the cache.
        Refresh,
        /// An event.
        Tell,
        /// The list file of a create, before it is sent.
        Upload,
        /// A create that was not sent before.
        Create,
        /// The same once more.
        Replay,
        /// CancelOTATaskByJob.
        Cancel,
        /// ListOTAJobByFirmware.
        ListJobs,
        /// QueryOTAJob.
        ReadJob,
        /// ListOTATaskByJob.
        ReadTasks,
        /// QueryOTAFirmware and ListOTAFirmware.
        ReadFirmware,
        /// Nothing happens any more.
        Rest,
    }

    /// A fault, or an act of somebody else.
    Event {
        /// The connection is refused.
        NotSent,
        /// Refused by a 5xx or an error, without effect.
        Fail,
        /// Carried out, and the answer gets lost.
        LostReply,
        /// Refused for quota.
        Throttled,
        /// No answer, and the request arrives five seconds later.
        Late5s,
        /// … eighteen seconds later, while it is being looked for.
        Late18s,
        /// … four minutes later.
        Late4m,
        /// … fourteen minutes later, shortly before its timestamp expires.
        Late14m,
        /// … sixteen minutes later.
        Late16m,
        /// Refused for good, with an answer that echoes what was signed.
        Echo,
        /// The request takes three seconds on its way.
        Slow,
        /// Somebody else changed the object just before.
        Conflict,
        /// The process dies and starts again.
        Crash,
        /// The process dies and starts again minutes later.
        CrashLong,
        /// The process stands still and its monotonic clock with it, for eight seconds.
        Freeze8s,
        /// … three minutes.
        Freeze3m,
        /// … twelve minutes.
        Freeze12m,
        /// … twenty minutes.
        Freeze20m,
        /// Its watch brings nothing for thirty seconds.
        StaleWatch30s,
        /// … ten minutes.
        StaleWatch10m,
        /// Its wall clock jumps.
        ClockPlus90s,
        /// Its wall clock jumps by less than a claim minds.
        ClockPlus50s,
        /// Its wall clock jumps.
        ClockMinus90s,
        /// Its wall clock jumps.
        ClockPlus1h,
        /// Its wall clock jumps.
        ClockMinus1h,
        /// Its wall clock is set right.
        ClockRight,
        /// It cannot renew its Lease for two minutes.
        LoseLease,
        /// The other process takes the Lease while this one believes in it.
        StealLease,
        /// The operator is replaced by a version with other defaults.
        Upgrade,
        /// The Secret gets a new key; the old one still works.
        RotateKey,
        /// The Secret gets a new key; the old one works no more.
        RevokeKey,
        /// The OTAAccount is deleted.
        AccountGone,
        /// The OTAAccount is there again.
        AccountBack,
        /// spec.suspend: true.
        Suspend,
        /// spec.suspend: false.
        Unsuspend,
        /// The annotation pause.
        Pause,
        /// The annotation resume.
        Resume,
        /// The annotation abort.
        Abort,
        /// The annotation retry.
        Retry,
        /// Another package.
        NewFirmware,
        /// The first package again.
        OldFirmware,
        /// Gates, rates and shares of the steps are edited.
        EditSteps,
        /// A gray step is added.
        AddStep,
        /// The gray steps are removed.
        RemoveSteps,
        /// The rollout is deleted.
        Delete,
        /// The annotation orphan.
        Orphan,
        /// The rollout is applied again after it is gone.
        Recreate,
        /// Somebody cancels the youngest recorded job in the console.
        ConsoleCancel,
        /// Somebody removes it there.
        ConsoleRemove,
    }
}

/// One kind of place in a schedule: before a call has its effect, or before its answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub point: Point,
    pub after: bool,
}

impl Place {
    pub const fn before(point: Point) -> Self {
        Self { point, after: false }
    }

    pub const fn after(point: Point) -> Self {
        Self { point, after: true }
    }

    /// Its number among all places.
    pub const fn index(self) -> usize {
        self.point as usize * 2 + self.after as usize
    }

    /// How many there are.
    pub const COUNT: usize = Point::ALL.len() * 2;

    /// Whether an event can happen here.
    pub const fn takes(self, event: Event) -> bool {
        use Event as E;
        use Point as P;
        let call = match event {
            E::NotSent | E::Throttled => matches!(
                self.point,
                P::Upload
                    | P::Create
                    | P::Replay
                    | P::Cancel
                    | P::ListJobs
                    | P::ReadJob
                    | P::ReadTasks
                    | P::ReadFirmware
            ),
            E::Fail => !matches!(self.point, P::Wake | P::Rest),
            E::LostReply | E::Late5s => !matches!(
                self.point,
                P::Wake
                    | P::Account
                    | P::Refresh
                    | P::Tell
                    | P::Upload
                    | P::ListJobs
                    | P::ReadJob
                    | P::ReadTasks
                    | P::ReadFirmware
                    | P::Rest
            ),
            E::Late18s | E::Late4m | E::Late14m | E::Late16m => matches!(self.point, P::Create | P::Replay | P::Cancel),
            E::Echo => matches!(self.point, P::Create | P::Replay | P::Cancel | P::ReadJob),
            E::Conflict => matches!(
                self.point,
                P::WriteClaim
                    | P::WriteTakeOver
                    | P::WriteRecord
                    | P::WriteWithdraw
                    | P::WriteEnd
                    | P::WriteOther
                    | P::Finalize
            ),
            E::Slow => !matches!(self.point, P::Wake | P::Rest),
            E::Recreate => return matches!(self.point, P::Rest),
            // Nobody is there to be hit.
            E::Crash | E::CrashLong | E::Freeze8s | E::Freeze3m | E::Freeze12m | E::Freeze20m => {
                return !matches!(self.point, P::Rest);
            }
            _ => return true,
        };
        call && (!self.after || matches!(event, E::Slow))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.point, if self.after { "/answer" } else { "" }))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix("/answer") {
            Some(point) => Ok(Self::after(point.parse()?)),
            None => Ok(Self::before(text.parse()?)),
        }
    }
}

/// An event at the `nth` passing of a place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    pub place: Place,
    pub nth: u32,
    pub event: Event,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.place, self.nth, self.event)
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parts: Vec<_> = line.split_whitespace().collect();
        let [place, nth, event] = parts[..] else { return Err(format!("not `place nth event`: {line}")) };
        let nth = nth.parse().map_err(|_| format!("{nth} is no number"))?;
        Ok(Self { place: place.parse()?, nth, event: event.parse()? })
    }
}
