//! Counters and histograms of ingress.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The stable code of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    pub reason: &'static str,
}

/// Who reads a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Group {
    pub group: &'static str,
}

/// A file of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct File {
    pub file: String,
}

#[derive(Clone)]
pub struct Metrics {
    pub connections: Gauge,
    pub accepted: Counter,
    pub accepted_bytes: Counter,
    pub refused: Family<Reason, Counter>,
    pub append_seconds: Histogram,
    pub verdict_seconds: Histogram,
    pub verdict_timeouts: Counter,
    pub lag: Family<Group, Gauge>,
    pub certificate_expires: Family<File, Gauge>,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        let metrics = Metrics {
            connections: Gauge::default(),
            accepted: Counter::default(),
            accepted_bytes: Counter::default(),
            refused: Family::default(),
            append_seconds: seconds(),
            verdict_seconds: seconds(),
            verdict_timeouts: Counter::default(),
            lag: Family::default(),
            certificate_expires: Family::default(),
        };
        registry.register(
            "mailweir_ingress_connections",
            "Open SMTP connections",
            metrics.connections.clone(),
        );
        registry.register(
            "mailweir_ingress_accepted",
            "Messages answered 250 or quarantined",
            metrics.accepted.clone(),
        );
        registry.register("mailweir_ingress_accepted_bytes", "Their bytes", metrics.accepted_bytes.clone());
        registry.register("mailweir_ingress_refused", "Refusals by stable reason", metrics.refused.clone());
        registry.register(
            "mailweir_ingress_append_seconds",
            "Time to make a message durable",
            metrics.append_seconds.clone(),
        );
        registry.register(
            "mailweir_ingress_verdict_seconds",
            "Time a reply waited for its verdict",
            metrics.verdict_seconds.clone(),
        );
        registry.register(
            "mailweir_ingress_verdict_timeouts",
            "Replies that did not wait to the end",
            metrics.verdict_timeouts.clone(),
        );
        registry.register(
            "mailweir_ingress_lag",
            "Messages that a group has not taken up",
            metrics.lag.clone(),
        );
        registry.register(
            "mailweir_tls_certificate_expires_seconds",
            "When a certificate for clients ends, as Unix time",
            metrics.certificate_expires.clone(),
        );
        metrics
    }
}
