//! Counters of the reporter.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

#[derive(Clone, Default)]
pub struct Metrics {
    pub events: Counter,
    pub unreadable: Counter,
    pub store_failures: Counter,
    pub reports: Counter,
    pub reports_dropped: Counter,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        for (name, help, counter) in [
            ("events", "Events folded into statistics", &metrics.events),
            ("unreadable_events", "Events that do not parse and were passed over", &metrics.unreadable),
            ("store_failures", "Calls that the store could not answer at once", &metrics.store_failures),
            ("feedback_reports", "Feedback reports written", &metrics.reports),
            (
                "feedback_reports_dropped",
                "Feedback reports over the cap of their address",
                &metrics.reports_dropped,
            ),
        ] {
            registry.register(format!("mailweir_reporter_{name}"), help, counter.clone());
        }
        metrics
    }
}
