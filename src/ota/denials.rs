//! Which operations the cloud lately forbade the principal, so that the account can say which actions are missing.
//!
//! Pure: instants come in. What an answer means is `code`'s affair.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Operation;
use super::code;

/// So long after its last refusal an operation counts as forbidden. Refused creates are tried again every 5 minutes, and
/// what nobody calls any more is nobody's trouble.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// The operations that were forbidden, each with its last refusal.
#[derive(Debug, Clone, Default)]
pub struct Denials(BTreeMap<Operation, Instant>);

impl Denials {
    /// Notes an answer: a refusal for want of permission, or anything else, which means that the operation is allowed.
    pub fn note(&mut self, operation: Operation, code: &str, now: Instant) {
        if code::meaning(code, 0).reason == code::ACTION_FORBIDDEN {
            self.0.insert(operation, now);
        } else if !code::is_throttling(code, 0) {
            self.0.remove(&operation);
        }
    }

    /// The operations that count as forbidden.
    pub fn missing(&self, now: Instant) -> Vec<Operation> {
        self.0.iter().filter(|(_, at)| now.saturating_duration_since(**at) < LIFE).map(|(o, _)| *o).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_until_the_operation_works_or_is_forgotten() {
        let (mut denials, start) = (Denials::default(), crate::clock::monotonic());
        denials.note(Operation::QueryOTAJob, "Forbidden.RAM", start);
        denials.note(Operation::CancelOTATaskByJob, "iot.common.RamActionPermissionDeny", start + LIFE / 2);
        denials.note(Operation::ListOTAFirmware, "InvalidAccessKeyId.NotFound", start);
        let both = [Operation::QueryOTAJob, Operation::CancelOTATaskByJob];
        assert_eq!(denials.missing(start + LIFE / 2), both);
        assert_eq!(denials.missing(start + LIFE), [Operation::CancelOTATaskByJob]);
        // A throttle is refused before anybody looks at permissions.
        denials.note(Operation::CancelOTATaskByJob, "Throttling.User", start + LIFE);
        assert_eq!(denials.missing(start + LIFE), [Operation::CancelOTATaskByJob]);
        denials.note(Operation::CancelOTATaskByJob, "", start + LIFE);
        assert_eq!(denials.missing(start + LIFE), []);
    }
}
