//! Every setting of librdkafka that differs from its default, and why.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::config::KafkaConfig;
use super::names::Names;

/// Largest batch on the wire: a value of 1 MiB, its key, and what frames them (1.25 MiB). Topics allow the same.
pub(super) const MAX_MESSAGE_BYTES: u32 = 1_310_720;
/// A record that was not acknowledged for this long has an unknown fate.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A transaction that is open for this long is aborted by the brokers. Shorter than the session, so that who takes a
/// partition over never waits for the transaction of who lost it.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(8);
/// A member that was not heard of for this long has lost its partitions.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A rebalance, and a member that lost its slot, is noticed this fast.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A member that does not poll for this long is stuck and loses its partitions; a rebalance waits no longer for it.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// How long a broker holds back an empty answer. It is the time that a reader needs to learn that it is at the end.
const FETCH_WAIT: Duration = Duration::from_millis(100);
/// What a client has read ahead, in KiB.
const READ_AHEAD_KIB: u32 = 16 * 1024;

/// Makes the configuration of each kind of client.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    base: ClientConfig,
    names: Names,
}

/// What a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// What was appended, or written by a commit that happened.
    Committed,
    /// Also what stands behind a transaction that is still open: for the end of a partition as it really is.
    Uncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        }
    }
}

impl Clients {
    pub(super) fn new(config: &KafkaConfig, names: &Names) -> Self {
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", config.bootstrap())
            .set("client.id", "mailweir")
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            // A broker that comes back is found at once.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "200")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        secure(&mut base, config);
        Clients { base, names: names.clone() }
    }

    /// The brokers as the operator wrote them.
    pub(super) fn bootstrap(&self) -> String {
        self.base.get("bootstrap.servers").unwrap_or_default().to_owned()
    }

    /// For questions about the cluster.
    pub(super) fn admin(&self) -> ClientConfig {
        self.base.clone()
    }

    /// For records that are appended without a commit.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.base.clone();
        producing(&mut config);
        config
            .set("linger.ms", "1")
            .set("message.timeout.ms", millis(MESSAGE_TIMEOUT))
            // Above the room that `producer` gives out, so that it is never full.
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144");
        config
    }

    /// For the commits of one slot of one group.
    pub(super) fn transactional(&self, group: &str, slot: &str) -> ClientConfig {
        let mut config = self.base.clone();
        producing(&mut config);
        config
            .set("transactional.id", self.names.transactional_id(group, slot))
            .set("transaction.timeout.ms", millis(TRANSACTION_TIMEOUT))
            // librdkafka insists that no record outlives its transaction.
            .set("message.timeout.ms", millis(TRANSACTION_TIMEOUT))
            .set("linger.ms", "0");
        config
    }

    /// For a member of a group.
    pub(super) fn member(&self, group: &str, slot: &str) -> ClientConfig {
        let mut config = self.consuming(Isolation::Committed);
        config
            .set("group.id", self.names.group(group))
            .set("group.instance.id", slot)
            // Eager: what a member is not given again, it has given up before anybody else has it. Range: topics that
            // are partitioned alike are assigned alike.
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", millis(SESSION_TIMEOUT))
            .set("heartbeat.interval.ms", millis(HEARTBEAT_INTERVAL))
            .set("max.poll.interval.ms", millis(MAX_POLL_INTERVAL))
            .set("auto.offset.reset", "earliest");
        config
    }

    /// For what a group has committed, without being a member.
    pub(super) fn observer(&self, group: &str, isolation: Isolation) -> ClientConfig {
        let mut config = self.consuming(isolation);
        config.set("group.id", self.names.group(group));
        config
    }

    /// For partitions that are followed without a group.
    pub(super) fn follower(&self) -> ClientConfig {
        let mut config = self.consuming(Isolation::Committed);
        config
            .set("group.id", self.names.readers())
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        config
    }

    /// For single records.
    pub(super) fn picker(&self) -> ClientConfig {
        let mut config = self.consuming(Isolation::Committed);
        config
            .set("group.id", self.names.readers())
            .set("enable.partition.eof", "true")
            // An offset that is not there is an answer, not a reason to read something else.
            .set("auto.offset.reset", "error")
            .set("queued.min.messages", "1");
        config
    }

    /// For the ends of partitions.
    pub(super) fn watcher(&self, isolation: Isolation) -> ClientConfig {
        self.consuming(isolation)
    }

    fn consuming(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("isolation.level", isolation.name())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("fetch.wait.max.ms", millis(FETCH_WAIT))
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            .set("fetch.max.bytes", (8 * 1024 * 1024).to_string())
            .set("queued.max.messages.kbytes", READ_AHEAD_KIB.to_string());
        config
    }
}

fn producing(config: &mut ClientConfig) {
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // The trait names the partition of every record; this is what other producers of the same keys should use.
        .set("partitioner", "murmur2_random")
        .set("compression.type", "zstd")
        .set("compression.level", "1");
}

fn secure(base: &mut ClientConfig, config: &KafkaConfig) {
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    base.set("security.protocol", protocol);
    if let Some(tls) = &config.tls {
        match &tls.ca_file {
            Some(file) => base.set("ssl.ca.location", file.to_string_lossy()),
            // OpenSSL is linked in; librdkafka looks where distributions keep their roots.
            None => base.set("ssl.ca.location", "probe"),
        };
        if let Some(client) = &tls.client {
            base.set("ssl.certificate.location", client.certificate_file.to_string_lossy())
                .set("ssl.key.location", client.key_file.to_string_lossy());
        }
    }
    if let Some(sasl) = &config.sasl {
        base.set("sasl.mechanism", sasl.mechanism.name())
            .set("sasl.username", &sasl.username)
            .set("sasl.password", &sasl.password);
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
