//! The topics of the log: names, how each is partitioned and how long it is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest value a record may have, in bytes (1 MiB). One byte more is refused before anything is written.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Largest record key, in bytes.
pub const MAX_KEY_BYTES: usize = 4 * 1024;
/// Envelope + message above this leave the message to `bodies`, in chunks of at most this size, in bytes (768 KiB).
pub const INLINE_BODY_BYTES: usize = 768 * 1024;
/// Largest envelope, as its JSON line, in bytes (256 KiB); ingress answers 452 at RCPT before it is passed.
pub const MAX_ENVELOPE_BYTES: usize = 256 * 1024;
/// Largest evidence of one verdict, all symbols together, in bytes (64 KiB); more is cut with a mark.
pub const MAX_EVIDENCE_BYTES: usize = 64 * 1024;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A topic of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What ingress answered 250 to: envelope, then the message byte for byte.
    Accepted,
    /// One event per verdict, with everything needed to explain it.
    Verdicts,
    /// The few bytes a waiting SMTP session or a waiting command needs.
    Replies,
    /// Envelope + verdict, then the message: to be delivered.
    Released,
    /// Envelope + verdict, then the message: held back.
    Quarantined,
    /// State of each quarantined message.
    Quarantine,
    /// Chunks of messages too large to stand in one record.
    Bodies,
    /// One event per recipient group and try.
    Attempts,
    /// What is still to be delivered, by lane.
    Queue,
    /// Counters, locks and history of outgoing users and identities.
    Senders,
    /// Settings as they stand.
    Settings,
    /// Who changed which setting, when, before and after.
    Changes,
    /// What an operator asked for.
    Commands,
    /// Classifier deltas by version.
    Models,
    /// Statistics batch plans.
    Plans,
    /// What ingress refused and why, aggregated.
    Sessions,
}

/// How long a topic keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// A record may be dropped this long after it was appended; see [`Topic::kept_until_read`].
    Time(Duration),
    /// The newest record of each key is kept; a tombstone (no value) removes the key.
    Compacted,
}

impl Topic {
    /// Every topic, in declaration order.
    pub const ALL: [Topic; 16] = [
        Topic::Accepted,
        Topic::Verdicts,
        Topic::Replies,
        Topic::Released,
        Topic::Quarantined,
        Topic::Quarantine,
        Topic::Bodies,
        Topic::Attempts,
        Topic::Queue,
        Topic::Senders,
        Topic::Settings,
        Topic::Changes,
        Topic::Commands,
        Topic::Models,
        Topic::Plans,
        Topic::Sessions,
    ];

    /// The topic's name, as on Kafka.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Accepted => "accepted",
            Topic::Verdicts => "verdicts",
            Topic::Replies => "replies",
            Topic::Released => "released",
            Topic::Quarantined => "quarantined",
            Topic::Quarantine => "quarantine",
            Topic::Bodies => "bodies",
            Topic::Attempts => "attempts",
            Topic::Queue => "queue",
            Topic::Senders => "senders",
            Topic::Settings => "settings",
            Topic::Changes => "changes",
            Topic::Commands => "commands",
            Topic::Models => "models",
            Topic::Plans => "plans",
            Topic::Sessions => "sessions",
        }
    }

    /// How long its records are kept.
    #[must_use]
    pub fn retention(self) -> Retention {
        match self {
            Topic::Accepted | Topic::Released => Retention::Time(2 * DAY),
            Topic::Verdicts | Topic::Attempts | Topic::Commands => Retention::Time(90 * DAY),
            Topic::Replies => Retention::Time(HOUR),
            Topic::Quarantined => Retention::Time(28 * DAY),
            Topic::Bodies | Topic::Sessions => Retention::Time(30 * DAY),
            Topic::Changes => Retention::Time(3650 * DAY),
            Topic::Quarantine
            | Topic::Queue
            | Topic::Senders
            | Topic::Settings
            | Topic::Models
            | Topic::Plans => Retention::Compacted,
        }
    }

    /// `true` for topics of which no record is dropped before the group that works on them has read it: it may be mail that
    /// nobody else has any more.
    #[must_use]
    pub fn kept_until_read(self) -> bool {
        matches!(self, Topic::Accepted | Topic::Released)
    }

    /// `true` for topics that have exactly one partition whatever the engine is told.
    #[must_use]
    pub fn single_partition(self) -> bool {
        matches!(self, Topic::Settings | Topic::Changes | Topic::Models | Topic::Plans)
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: u32,
}

/// Where a record stands. Offsets grow within a partition but are not dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub topic: Topic,
    pub partition: u32,
    pub offset: u64,
}

impl Position {
    #[must_use]
    pub fn topic_partition(self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}
