//! The live policies of a product, whoever made them: which of them takes ours its devices, and which settings a group's
//! policies must share. Reading them never comes in, and neither does what becomes of our own.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::delivery::{Delivery, Overwrite};
use crate::ota::firmware::Firmware;
use crate::ota::id::JobId;
use crate::ota::job::Job;

/// The module of packages that name none.
const DEFAULT_MODULE: &str = "default";
/// OverwriteMode of a job that replaces earlier tasks (ota-api: section 3).
const REPLACES: i64 = 2;

/// The module that a package is for.
pub fn module(of: Option<&str>) -> &str {
    of.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_MODULE)
}

/// All of them, as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// When they were asked for, by the monotonic clock.
    pub asked: Duration,
    /// Each that had not ended.
    pub all: Vec<Policy>,
}

/// One.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// JobId.
    pub id: JobId,
    /// The version that it gives.
    pub version: String,
    /// The module of its package.
    pub module: String,
    /// Its UtcCreate.
    pub utc_create: Option<Timestamp>,
    /// Its device group, if it has one.
    pub group: Option<String>,
    /// Whether its tasks replace earlier ones.
    pub overwrites: bool,
    /// Whether a device may be upgraded in several modules at a time.
    pub multi_module: bool,
}

impl Policy {
    /// From QueryOTAJob's answer about a job of a package.
    pub fn of(job: &Job, package: &Firmware) -> Self {
        Self {
            id: job.job_id.clone(),
            version: package.version.clone(),
            module: module(package.module.as_deref()).to_owned(),
            utc_create: job.utc_create,
            group: job.group_id.clone().filter(|id| !id.is_empty()),
            overwrites: job.overwrite_mode == Some(REPLACES),
            multi_module: job.multi_module_mode == Some(true),
        }
    }
}

impl Policies {
    /// The youngest policy for a module that is younger than ours, and gives another version: a device that both cover is
    /// given that one (ota-api: section 4).
    pub fn shadow<'a>(&'a self, ours: &JobId, made: Timestamp, version: &str, of: &str) -> Option<&'a Policy> {
        let others = self.all.iter().filter(|p| p.id != *ours && p.module == of && p.version != version);
        others.filter(|p| p.utc_create.is_some_and(|at| at > made)).max_by_key(|p| p.utc_create)
    }

    /// A policy of a group with other settings than a delivery has: beside it the cloud takes no policy with these (5.3).
    pub fn unequal(&self, group: &str, delivery: &Delivery) -> Option<&Policy> {
        let ours = (delivery.overwrite == Some(Overwrite::Pending), delivery.multi_module == Some(true));
        let of_group = self.all.iter().filter(|p| p.group.as_deref() == Some(group));
        of_group.into_iter().find(|p| (p.overwrites, p.multi_module) != ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: &str, hour: i64) -> Policy {
        Policy {
            id: id.into(),
            version: id.to_owned(),
            module: "default".to_owned(),
            utc_create: Timestamp::from_second(hour * 3_600).ok(),
            group: Some("g".to_owned()),
            overwrites: false,
            multi_module: false,
        }
    }

    #[test]
    fn the_youngest_of_another_version_shadows_ours() {
        let made = Timestamp::from_second(5 * 3_600).unwrap();
        let shadow = |all: Vec<Policy>| {
            let policies = Policies { asked: Duration::ZERO, all };
            policies.shadow(&"ours".into(), made, "2", "default").map(|p| p.id.to_string())
        };
        assert_eq!(shadow(vec![policy("ours", 5), policy("a", 4), policy("b", 5)]), None);
        assert_eq!(shadow(vec![policy("a", 6), policy("b", 7), policy("c", 4)]).as_deref(), Some("b"));
        assert_eq!(shadow(vec![Policy { module: "mcu".into(), ..policy("a", 6) }]), None);
        assert_eq!(shadow(vec![Policy { version: "2".into(), ..policy("a", 6) }]), None, "it gives the same");
        assert_eq!(shadow(vec![Policy { utc_create: None, ..policy("a", 6) }]), None);
        assert_eq!(module(None), module(Some("")));
    }

    #[test]
    fn a_groups_policies_share_two_settings() {
        let unequal = |theirs: Policy, delivery: &Delivery| {
            Policies { asked: Duration::ZERO, all: vec![theirs] }.unequal("g", delivery).is_some()
        };
        let plain = Delivery::default();
        let replacing = Delivery { overwrite: Some(Overwrite::Pending), ..Delivery::default() };
        let several = Delivery { multi_module: Some(true), ..Delivery::default() };
        for (theirs, fits) in [
            (policy("a", 1), &plain),
            (Policy { overwrites: true, ..policy("a", 1) }, &replacing),
            (Policy { multi_module: true, ..policy("a", 1) }, &several),
        ] {
            for ours in [&plain, &replacing, &several] {
                assert_eq!(unequal(theirs.clone(), ours), ours != fits, "{theirs:?} {ours:?}");
            }
        }
        assert!(!unequal(Policy { group: Some("h".into()), ..policy("a", 1) }, &several));
        let never = Delivery { overwrite: Some(Overwrite::Never), multi_module: Some(false), ..Delivery::default() };
        assert!(!unequal(policy("a", 1), &never), "written out is what the cloud takes anyway");
    }
}
