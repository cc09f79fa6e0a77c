//! Conditions as kstatus reads them: `Ready`, and the abnormal-true `Reconciling` and `Stalled`.
//!
//! Which reason a rollout shows is decided in `rollout::story`; only the shape lives here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// One condition (the fields of `metav1.Condition`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Stalled`; while there is something to say: `EditsIgnored`, `Queued`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(length(max = 8))]
    pub status: String,
    /// `metadata.generation` that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// One CamelCase word out of a documented, stable set.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence for a person; no counters, which would make every poll a write.
    #[schemars(length(max = 768))]
    pub message: String,
}

/// Sets a condition; its transition time moves only when its status does.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|c| c.kind == new.kind) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time;
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, at: i64) -> Condition {
        Condition {
            kind: "Ready".into(),
            status: status.into(),
            observed_generation: Some(1),
            last_transition_time: Time(jiff::Timestamp::from_second(at).unwrap()),
            reason: "Because".into(),
            message: format!("at {at}"),
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut all = vec![condition("False", 1)];
        set(&mut all, condition("False", 2));
        assert_eq!(find(&all, "Ready").unwrap().last_transition_time.0.as_second(), 1);
        assert_eq!(find(&all, "Ready").unwrap().message, "at 2");
        set(&mut all, condition("True", 3));
        assert_eq!(find(&all, "Ready").unwrap().last_transition_time.0.as_second(), 3);
        assert_eq!(all.len(), 1);
    }
}
