//! Counters and histograms of delivery.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: &'static str,
}

#[derive(Clone)]
pub struct Metrics {
    pub recipients: Family<OutcomeLabel, Counter>,
    pub in_flight: Gauge,
    /// Messages taken from the log for which there is no room yet.
    pub waiting: Gauge,
    pub queued: Gauge,
    pub connections: Gauge,
    pub connections_opened: Counter,
    pub tls_sessions: Counter,
    pub attempt_seconds: Histogram,
    pub delivery_seconds: Histogram,
    /// Records that did not parse and were passed over.
    pub undecodable: Counter,
    /// Tries put off because the pool has no source that they could leave from.
    pub pool_without_source: Counter,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            recipients: Family::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            queued: Gauge::default(),
            connections: Gauge::default(),
            connections_opened: Counter::default(),
            tls_sessions: Counter::default(),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            delivery_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 24)),
            undecodable: Counter::default(),
            pool_without_source: Counter::default(),
        };
        registry.register(
            "mailweir_delivery_recipients",
            "Recipients by outcome of an attempt",
            metrics.recipients.clone(),
        );
        registry.register(
            "mailweir_delivery_in_flight",
            "Message groups being delivered",
            metrics.in_flight.clone(),
        );
        registry.register(
            "mailweir_delivery_waiting",
            "Messages taken from the log for which there is no room yet",
            metrics.waiting.clone(),
        );
        registry.register(
            "mailweir_delivery_queued",
            "Entries in the lane of this node",
            metrics.queued.clone(),
        );
        registry.register(
            "mailweir_delivery_connections",
            "Open connections to remote servers",
            metrics.connections.clone(),
        );
        registry.register(
            "mailweir_delivery_connections_opened",
            "Connections opened",
            metrics.connections_opened.clone(),
        );
        registry.register(
            "mailweir_delivery_tls_sessions",
            "Of these, under TLS",
            metrics.tls_sessions.clone(),
        );
        registry.register(
            "mailweir_delivery_attempt_seconds",
            "Duration of one attempt",
            metrics.attempt_seconds.clone(),
        );
        registry.register(
            "mailweir_delivery_seconds",
            "From accepted to delivered",
            metrics.delivery_seconds.clone(),
        );
        registry.register(
            "mailweir_delivery_undecodable",
            "Records that do not parse and were passed over",
            metrics.undecodable.clone(),
        );
        registry.register(
            "mailweir_delivery_pool_without_source",
            "Tries put off because the egress pool has no source to leave from",
            metrics.pool_without_source.clone(),
        );
        metrics
    }
}
