//! What an operator decides about the Kafka log.

use std::path::PathBuf;

use schemas::Topic;

/// Where the brokers are and how the topics on them are made.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port` of some brokers; the others are learnt from them.
    pub brokers: Vec<String>,
    /// Stands before every topic, group and transactional id, so that several logs can live on one cluster.
    pub prefix: String,
    /// Partitions of every topic that has more than one; fixed when the topics are made.
    pub partitions: u32,
    /// Copies of every partition. A write waits for all copies that are in sync, at least `min_insync`.
    pub replication: u32,
    pub tls: Option<KafkaTls>,
    pub sasl: Option<KafkaSasl>,
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default)]
pub struct KafkaTls {
    /// Roots that the brokers' certificates must lead to, as PEM; absent: the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key that this client shows, both as PEM.
    pub client: Option<KafkaClientCertificate>,
}

#[derive(Clone, Debug)]
pub struct KafkaClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// A user name and a password for the brokers.
#[derive(Clone)]
pub struct KafkaSasl {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: String,
}

/// The password stays out of every log line.
impl std::fmt::Debug for KafkaSasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl SaslMechanism {
    /// Its name as on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaConfig {
    /// Partitions of topics keyed by user, unless told otherwise.
    pub const PARTITIONS: u32 = 32;
    /// Copies of a partition, unless told otherwise.
    pub const REPLICATION: u32 = 3;

    #[must_use]
    pub fn new(brokers: Vec<String>) -> Self {
        KafkaConfig {
            brokers,
            prefix: String::new(),
            partitions: Self::PARTITIONS,
            replication: Self::REPLICATION,
            tls: None,
            sasl: None,
        }
    }

    pub(super) fn partitions(&self, topic: Topic) -> u32 {
        if topic.single_partition() { 1 } else { self.partitions.max(1) }
    }

    /// How many copies must have a record before its write counts: all but one, so that one broker may be away, but never
    /// fewer than two where there are two, so that one that is lost takes nothing along that was acknowledged.
    pub(super) fn min_insync(&self) -> u32 {
        self.replication.saturating_sub(1).max(self.replication.min(2)).max(1)
    }

    pub(super) fn bootstrap(&self) -> String {
        self.brokers.join(",")
    }
}
