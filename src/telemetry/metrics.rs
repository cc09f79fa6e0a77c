//! What is counted and measured, under which names.
//!
//! Every label is `&'static str`: a value that comes from a user or from the cloud cannot become one, so that no name
//! of a resource is in here, and the number of series is bounded.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::probes::State;

/// What is served at `/metrics`: OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Upper bounds in seconds: from an answer of the next rack to the longest timeout of a call, and the quota's longest
/// hold.
const BUCKETS: [f64; 10] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Debug, Clone, Copy)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

type Durations<const N: usize> = Family<Labels<N>, Histogram, Seconds>;

/// Every metric of this process. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Durations<1>,
    calls: Durations<1>,
    refusals: Family<Labels<2>, Counter>,
    waits: Durations<1>,
    leases: Family<Labels<1>, Counter>,
    owned: Gauge,
    groups: Gauge,
    rollouts: Family<Labels<1>, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn new() -> Self {
        let durations = || Family::new_with_constructor(Seconds);
        let (passes, calls, waits) = (durations(), durations(), durations());
        let (refusals, leases, rollouts) = (Family::default(), Family::default(), Family::default());
        let (owned, groups) = (Gauge::default(), Gauge::default());

        let mut registry = Registry::with_prefix("fota");
        let r = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Which fota this is", build);
        let help = "One look at one rollout: read, decide, at most one effect, write";
        r.register_with_unit("reconcile", help, Unit::Seconds, passes.clone());
        let help = "A call of the cloud, from the first byte sent to the last one read";
        r.register_with_unit("cloud_call", help, Unit::Seconds, calls.clone());
        let help = "Calls of the cloud that were not answered with success, by what that says about their effect";
        r.register("cloud_call_errors", help, refusals.clone());
        let help = "What a call waited for its slot of the account's quota";
        r.register_with_unit("quota_wait", help, Unit::Seconds, waits.clone());
        r.register("lease_changes", "Leases that this process gained or lost", leases.clone());
        r.register("leases_owned", "Quota groups that this process acts for", owned.clone());
        r.register("quota_groups", "Quota groups that there are", groups.clone());
        r.register("rollouts", "Rollouts that this process acts for, by phase", rollouts.clone());
        let registry = Arc::new(registry);
        Self { registry, passes, calls, refusals, waits, leases, owned, groups, rollouts }
    }

    /// A pass over a rollout ended.
    pub fn passed(&self, result: &'static str, took: Duration) {
        self.passes.get_or_create(&[("result", result)]).observe(took.as_secs_f64());
    }

    /// A call of the cloud ended, well or not.
    pub fn called(&self, operation: &'static str, took: Duration) {
        self.calls.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// A call of the cloud failed, or was not made.
    pub fn refused(&self, operation: &'static str, class: &'static str) {
        self.refusals.get_or_create(&[("operation", operation), ("class", class)]).inc();
    }

    /// A call had waited for its slot.
    pub fn waited(&self, operation: &'static str, waited: Duration) {
        self.waits.get_or_create(&[("operation", operation)]).observe(waited.as_secs_f64());
    }

    /// A Lease became this process's, or ceased to be.
    pub fn lease(&self, change: &'static str) {
        self.leases.get_or_create(&[("change", change)]).inc();
    }

    /// The text of all of it, with how things stand at this moment.
    ///
    /// # Errors
    /// Never seen: writing to a string fails only if a metric encodes itself wrongly.
    pub fn render(&self, state: &State) -> Result<String, std::fmt::Error> {
        self.owned.set(count(state.owned));
        self.groups.set(count(state.groups));
        for (phase, number) in &state.rollouts {
            self.rollouts.get_or_create(&[("phase", *phase)]).set(count(*number));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text_under_names_that_last() {
        let metrics = Metrics::new();
        metrics.passed("ok", Duration::from_millis(30));
        metrics.called("QueryOTAJob", Duration::from_millis(3));
        metrics.clone().refused("QueryOTAJob", "Throttled");
        metrics.waited("QueryOTAJob", Duration::ZERO);
        metrics.lease("gained");
        let state = State { owned: 1, groups: 2, rollouts: vec![("Gray", 3), ("Full", 0)], ..State::default() };
        let text = metrics.render(&state).unwrap();
        for line in [
            concat!("fota_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "fota_reconcile_seconds_bucket{le=\"0.05\",result=\"ok\"} 1",
            "fota_cloud_call_seconds_count{operation=\"QueryOTAJob\"} 1",
            "fota_cloud_call_errors_total{operation=\"QueryOTAJob\",class=\"Throttled\"} 1",
            "fota_quota_wait_seconds_sum{operation=\"QueryOTAJob\"} 0.0",
            "fota_lease_changes_total{change=\"gained\"} 1",
            "fota_leases_owned 1",
            "fota_quota_groups 2",
            "fota_rollouts{phase=\"Gray\"} 3",
            "fota_rollouts{phase=\"Full\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let later = metrics.render(&State { rollouts: vec![("Gray", 0)], ..state }).unwrap();
        assert!(later.contains("fota_rollouts{phase=\"Gray\"} 0"), "{later}");
    }
}
