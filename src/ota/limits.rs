//! How long a call may take, and whether it may be sent at all. Who asks and who answers belongs elsewhere.

use std::sync::Arc;
use std::time::Duration;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To make a connection, TLS included. 5 s by default.
    pub connect: Duration,
    /// For the whole exchange, connection and body included, waiting for the quota not. 10 s by default.
    pub total: Duration,
    /// A request with a stamp (a create) whose slot is further away than this is not sent at all: whoever allowed it did
    /// so for a few seconds only. 2 s by default. Others wait for their slot.
    pub patience: Duration,
    /// As `total`, for a request with a stamp; never longer than that. 10 s by default.
    pub stamped: Duration,
}

impl Limits {
    /// The longest that a request with a stamp takes, from being asked for to its answer or its end: who allows it must
    /// be able to stand by it so long.
    pub fn longest_stamped(&self) -> Duration {
        self.patience + self.stamped.min(self.total)
    }

    /// These limits, with less for a request with a stamp where it would take longer than `most`.
    #[must_use]
    pub fn within(self, most: Duration) -> Self {
        let longest = self.longest_stamped();
        if longest <= most {
            return self;
        }
        let share = most.div_duration_f64(longest);
        let stamped = self.stamped.min(self.total).mul_f64(share);
        Self { patience: most.saturating_sub(stamped), stamped, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (connect, total) = (Duration::from_secs(5), Duration::from_secs(10));
        Self { connect, total, patience: Duration::from_secs(2), stamped: total }
    }
}

/// Asked right before a request goes out, after all waiting, with the longest that it may take: whether it may.
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn(Duration) -> bool + Send + Sync>);

impl Permit {
    /// From a question that is answered at once.
    pub fn new(ask: impl Fn(Duration) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Whether something that may take so long may be sent now.
    pub fn allows(&self, longest: Duration) -> bool {
        (self.0)(longest)
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_request_is_cut_to_what_can_be_stood_by() {
        let limits = Limits::default();
        assert_eq!(limits.longest_stamped(), Duration::from_secs(12));
        assert_eq!(limits.within(Duration::from_secs(12)), limits);
        let cut = limits.within(Duration::from_secs(6));
        assert_eq!((cut.patience, cut.stamped), (Duration::from_secs(1), Duration::from_secs(5)));
        assert_eq!((cut.total, cut.longest_stamped()), (limits.total, Duration::from_secs(6)));
    }
}
