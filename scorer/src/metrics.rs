//! What the scorer counts, for Prometheus.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Label = [(&'static str, &'static str); 1];

/// The metrics of every member of one process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    judged: Family<Label, Counter>,
    symbols: Family<[(&'static str, String); 1], Counter>,
    commands: Family<Label, Counter>,
    dns_lists: Family<[(&'static str, String); 1], Gauge>,
    pub(crate) undecodable: Counter,
    pub(crate) bodies_lost: Counter,
    pub(crate) defects: Counter,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) fenced: Counter,
    pub(crate) identities_without_row: Counter,
    pub(crate) automatic_locks: Counter,
    pub(crate) held: Counter,
    pub(crate) partitions: Gauge,
    pub(crate) judge_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
}

impl Metrics {
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        // 10 µs to 5 s; 0.5 ms to 8 s.
        let judge_buckets = prometheus_client::metrics::histogram::exponential_buckets(0.000_01, 3.0, 13);
        let commit_buckets = prometheus_client::metrics::histogram::exponential_buckets(0.000_5, 2.0, 15);
        let metrics = Metrics {
            judged: Family::default(),
            symbols: Family::default(),
            commands: Family::default(),
            dns_lists: Family::default(),
            undecodable: Counter::default(),
            bodies_lost: Counter::default(),
            defects: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            fenced: Counter::default(),
            identities_without_row: Counter::default(),
            automatic_locks: Counter::default(),
            held: Counter::default(),
            partitions: Gauge::default(),
            judge_seconds: Histogram::new(judge_buckets),
            commit_seconds: Histogram::new(commit_buckets),
        };
        let mut register = Register(registry);
        register.add("judged", "Messages judged, by classification", &metrics.judged);
        register.add("symbols", "Findings, by symbol", &metrics.symbols);
        register.add("commands", "Commands carried out, by action", &metrics.commands);
        register.add(
            "dns_list_believed",
            "1 while a DNS list works and is used, by zone",
            &metrics.dns_lists,
        );
        register.add("undecodable", "Records that cannot be read and were passed over", &metrics.undecodable);
        register.add("bodies_lost", "Messages whose body is gone", &metrics.bodies_lost);
        register.add("defects", "Messages that the scorer failed on", &metrics.defects);
        register.add("commits", "Commits", &metrics.commits);
        register.add("commit_failures", "Commits that failed and were begun again", &metrics.commit_failures);
        register.add("fenced", "Times a member lost its partitions to another", &metrics.fenced);
        register.add(
            "identities_without_row",
            "Messages whose identity found no room among those of its user",
            &metrics.identities_without_row,
        );
        register.add("automatic_locks", "Senders locked by policy", &metrics.automatic_locks);
        register.add("held", "Messages held because a limit was reached", &metrics.held);
        register.add("partitions", "Partitions owned", &metrics.partitions);
        register.add("judge_seconds", "Time to judge one message", &metrics.judge_seconds);
        register.add("commit_seconds", "Time to commit one batch", &metrics.commit_seconds);
        metrics
    }

    pub(crate) fn judged(&self, verdict: &schemas::verdict::Verdict) {
        self.judged.get_or_create(&[("classification", verdict.message.classification.code())]).inc();
        for symbol in &verdict.symbols {
            self.symbols.get_or_create(&[("symbol", symbol.name.clone())]).inc();
        }
    }

    pub(crate) fn dns_list(&self, zone: &str, believed: bool) {
        self.dns_lists.get_or_create(&[("zone", zone.to_owned())]).set(believed.into());
    }

    pub(crate) fn command(&self, action: &'static str) {
        self.commands.get_or_create(&[("action", action)]).inc();
    }
}

struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn add<M: prometheus_client::registry::Metric + Clone>(&mut self, name: &str, help: &str, metric: &M) {
        self.0.register(format!("mailweir_scorer_{name}"), help, metric.clone());
    }
}
