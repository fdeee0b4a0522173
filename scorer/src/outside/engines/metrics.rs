//! What is counted of engines, for Prometheus.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::Kind;

type Label = [(&'static str, &'static str); 1];

/// The metrics of all engines; clones share them.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    pub(crate) seconds: Family<Label, Histogram, fn() -> Histogram>,
    pub(crate) failed: Family<Label, Counter>,
    pub(crate) not_asked: Family<[(&'static str, &'static str); 2], Counter>,
    pub(crate) open: Family<Label, Gauge>,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        // 1 ms to 8 s.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        EngineMetrics {
            seconds: Family::new_with_constructor(seconds),
            failed: Family::default(),
            not_asked: Family::default(),
            open: Family::default(),
        }
    }
}

impl EngineMetrics {
    pub(super) fn asked(&self, engine: Kind, took: Duration) {
        self.seconds.get_or_create(&[("engine", engine.code())]).observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self, engine: Kind) {
        self.failed.get_or_create(&[("engine", engine.code())]).inc();
    }

    pub(super) fn not_asked(&self, engine: Kind, why: &'static str) {
        self.not_asked.get_or_create(&[("engine", engine.code()), ("why", why)]).inc();
    }

    pub(super) fn is_open(&self, engine: Kind, is_open: bool) {
        self.open.get_or_create(&[("engine", engine.code())]).set(i64::from(is_open));
    }
}
