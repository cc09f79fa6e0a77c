//! Settings with every default resolved: design defaults under which a ten-line manifest is safe.
//!
//! Only defaults of features that exist. What a gate does with them is `gate`'s business.

use std::time::Duration;

use crate::api::delivery::{Delivery, VerifyDelivery};
use crate::api::rollout::Gate;
use crate::api::status::EffectiveStage;
use crate::api::{Percent, Span};

/// Devices pushed to per minute when nothing is said: valid in both editions of the service.
pub const MAXIMUM_PER_MINUTE: i32 = 1_000;
/// The account's `listLag` when nothing is said.
pub const LIST_LAG: Duration = Duration::from_secs(30);
/// minDecided when nothing is said: this, or the number of devices pushed to if that is less.
pub const MIN_DECIDED: i64 = 50;

/// When a device counts as silent, when nothing is said.
pub const SILENT_AFTER: Duration = Duration::from_secs(12 * HOUR);

const HOUR: u64 = 3_600;

/// What is written of a step's delivery: field by field, the step's own setting wins.
pub fn written(rollout: Option<&Delivery>, step: Option<&Delivery>) -> Delivery {
    let (base, over) = (rollout.cloned().unwrap_or_default(), step.cloned().unwrap_or_default());
    Delivery {
        push: over.push.or(base.push),
        confirm: over.confirm.or(base.confirm),
        protocol: over.protocol.or(base.protocol),
        multi_module: over.multi_module.or(base.multi_module),
        maximum_per_minute: over.maximum_per_minute.or(base.maximum_per_minute),
        device_timeout: over.device_timeout.or(base.device_timeout),
        retry: over.retry.or(base.retry),
        overwrite: over.overwrite.or(base.overwrite),
        tags: over.tags.or(base.tags),
    }
}

/// The same of the verification: what it cannot take is not inherited, and neither is `confirm`, because nobody would
/// expect a test device to wait for a person.
pub fn written_of_verify(rollout: Option<&Delivery>, verify: Option<&VerifyDelivery>) -> Delivery {
    let (base, over) = (rollout.cloned().unwrap_or_default(), verify.cloned().unwrap_or_default());
    Delivery {
        push: over.push.or(base.push),
        confirm: over.confirm,
        protocol: over.protocol.or(base.protocol),
        device_timeout: over.device_timeout.or(base.device_timeout),
        tags: base.tags,
        ..Delivery::default()
    }
}

/// A delivery with its defaults.
pub fn delivery(written: Delivery) -> Delivery {
    Delivery { maximum_per_minute: written.maximum_per_minute.or(Some(MAXIMUM_PER_MINUTE)), ..written }
}

/// A stage's gate with its defaults. `last` is `full`, where a higher share must be decided.
pub fn stage(name: &str, gate: Option<&Gate>, delivery: &Delivery, full: bool) -> EffectiveStage {
    let gate = gate.cloned().unwrap_or_default();
    let hours = |h: u64| Span::from_duration(Duration::from_secs(h * HOUR));
    EffectiveStage {
        name: name.to_owned(),
        maximum_per_minute: delivery.maximum_per_minute.unwrap_or(MAXIMUM_PER_MINUTE),
        decided_percent: gate.decided_percent.unwrap_or(Percent::whole(if full { 95 } else { 80 })),
        min_decided: gate.min_decided,
        max_failure_percent: gate.max_failure_percent.unwrap_or(Percent::whole(5)),
        mature_after: gate.mature_after.unwrap_or_else(|| hours(4)),
        soak: gate.soak.unwrap_or_else(|| hours(12)),
        silent_after: gate.silent_after.unwrap_or_else(|| Span::from_duration(SILENT_AFTER)),
        targets: None,
        delivery: None,
    }
}
