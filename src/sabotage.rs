//! Known-bad variants of the protocol, which the simulation must find. Without the feature `sabotage` (tests only) none
//! can be switched on, and every question about one is the constant `false`. Nothing but variants ever comes in here.

/// A known-bad variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bad {
    /// A status is applied without the resourceVersion that was decided upon.
    ApplyWithoutVersion,
    /// An epoch ends before the last copy of its create can have arrived.
    ShortSettle,
    /// A ticket never expires, and each send takes a nonce of its own.
    PauseBeforeSend,
    /// An empty look-up counts after one listing.
    EpochWithoutLag,
    /// A throttled create ends its epoch.
    EpochByThrottle,
    /// Every part of a step carries the same tag.
    TokenWithoutPart,
    /// The call is built again from the spec as it is now.
    CallFromSpec,
    /// A tag is looked for among the jobs of the package that the spec names now.
    LookupUnderNewFirmware,
    /// Only the first page of a listing is read.
    FirstPageOnly,
    /// A claim is repeated without having been marked as sent.
    ReplayUnmarked,
    /// A rollout that is deleted forgets its claim.
    DeletionForgetsClaim,
    /// A stage passes while tasks of its job were never pushed.
    PromoteWithoutDrain,
    /// A create is sent before its claim is written.
    CreateBeforeClaim,
    /// A look-up takes any job that carries the tag's key.
    AnyTag,
    /// Empty listings count that were read before the last copy of a create can have arrived.
    EmptyBeforeEnd,
    /// A claim that is made again keeps its epoch.
    EpochReused,
    /// A create without an answer is taken for refused.
    RetryOnTimeout,
    /// Another attempt draws its share of the fleet again.
    RetryDrawsAgain,
    /// An abort cancels what was not pushed only.
    AbortLeavesNotified,
}

impl Bad {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ApplyWithoutVersion,
        Self::ShortSettle,
        Self::PauseBeforeSend,
        Self::EpochWithoutLag,
        Self::EpochByThrottle,
        Self::TokenWithoutPart,
        Self::CallFromSpec,
        Self::LookupUnderNewFirmware,
        Self::FirstPageOnly,
        Self::ReplayUnmarked,
        Self::DeletionForgetsClaim,
        Self::PromoteWithoutDrain,
        Self::CreateBeforeClaim,
        Self::AnyTag,
        Self::EmptyBeforeEnd,
        Self::EpochReused,
        Self::RetryOnTimeout,
        Self::RetryDrawsAgain,
        Self::AbortLeavesNotified,
    ];
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::cell::Cell;

    use super::Bad;

    thread_local! {
        static ON: Cell<Option<Bad>> = const { Cell::new(None) };
    }

    /// Whether a variant is switched on in this thread.
    pub fn on(bad: Bad) -> bool {
        ON.get() == Some(bad)
    }

    /// Switches one variant on in this thread, or all off.
    pub fn set(bad: Option<Bad>) {
        ON.set(bad);
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{on, set};

/// Whether a variant is switched on.
#[cfg(not(feature = "sabotage"))]
pub const fn on(_: Bad) -> bool {
    false
}
