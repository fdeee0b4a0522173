//! Counters of the reporter.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

#[derive(Clone)]
pub struct Metrics {
    pub events: Counter,
    pub store_failures: Counter,
    pub reports: Counter,
    pub reports_dropped: Counter,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            events: Counter::default(),
            store_failures: Counter::default(),
            reports: Counter::default(),
            reports_dropped: Counter::default(),
        };
        registry.register(
            "mailweir_reporter_events",
            "Events folded into statistics",
            metrics.events.clone(),
        );
        registry.register(
            "mailweir_reporter_store_failures",
            "Batches the store did not take at once",
            metrics.store_failures.clone(),
        );
        registry.register(
            "mailweir_reporter_feedback_reports",
            "Feedback reports written",
            metrics.reports.clone(),
        );
        registry.register(
            "mailweir_reporter_feedback_reports_dropped",
            "Feedback reports over the cap of their address",
            metrics.reports_dropped.clone(),
        );
        metrics
    }
}
