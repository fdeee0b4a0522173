//! The topics as they must be on the cluster: what each setting has to be, and what to do about one that is not.

use std::time::Duration;

use schemas::Topic;
use schemas::topics::Retention;

use super::clients::MAX_MESSAGE_BYTES;
use super::config::KafkaConfig;

/// A setting of a topic that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic `{topic}`: {setting} is {found}, must be {wanted}; {fix}")]
pub struct TopicProblem {
    /// Its name on the cluster.
    pub topic: String,
    pub setting: String,
    pub found: String,
    pub wanted: String,
    /// What to run or to change.
    pub fix: String,
}

/// What a setting may be on a topic that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Exactly,
    /// More does no harm; `-1` is without limit.
    AtLeast,
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) wanted: String,
    rule: Rule,
    /// Looked at on topics that are there; the others are ours to choose only when we make the topic.
    pub(super) checked: bool,
}

impl Setting {
    fn must(name: &'static str, wanted: impl Into<String>, rule: Rule) -> Self {
        Setting { name, wanted: wanted.into(), rule, checked: true }
    }

    fn made(name: &'static str, wanted: impl Into<String>) -> Self {
        Setting { name, wanted: wanted.into(), rule: Rule::Exactly, checked: false }
    }

    pub(super) fn fits(&self, found: &str) -> bool {
        match self.rule {
            Rule::Exactly => found == self.wanted,
            Rule::AtLeast => match (found.parse::<i128>(), self.wanted.parse::<i128>()) {
                (Ok(found), Ok(wanted)) => found == -1 || (wanted != -1 && found >= wanted),
                _ => false,
            },
        }
    }
}

/// Every setting of a topic that does not come from the cluster's defaults.
pub(super) fn settings(config: &KafkaConfig, topic: Topic) -> Vec<Setting> {
    let mut settings = vec![
        Setting::must("max.message.bytes", MAX_MESSAGE_BYTES.to_string(), Rule::AtLeast),
        Setting::must("min.insync.replicas", config.min_insync().to_string(), Rule::AtLeast),
        // A replica that missed records must not become the leader: acknowledged mail would be gone.
        Setting::must("unclean.leader.election.enable", "false", Rule::Exactly),
        // Retention counts from when the brokers took a record, whatever the clock of its writer says.
        Setting::must("message.timestamp.type", "LogAppendTime", Rule::Exactly),
    ];
    match topic.retention() {
        Retention::Time(kept) => settings.extend([
            Setting::must("cleanup.policy", "delete", Rule::Exactly),
            Setting::must("retention.ms", retention_ms(topic, kept), Rule::AtLeast),
            Setting::must("retention.bytes", "-1", Rule::Exactly),
            // Only whole segments are dropped.
            Setting::made("segment.ms", segment(kept).as_millis().to_string()),
        ]),
        Retention::Compacted => settings.extend([
            Setting::must("cleanup.policy", "compact", Rule::Exactly),
            // A reader that is this slow misses that a row is gone.
            Setting::must("delete.retention.ms", DAY.as_millis().to_string(), Rule::AtLeast),
            // The newest segment is never compacted.
            Setting::made("segment.ms", HOUR.as_millis().to_string()),
            Setting::made("segment.bytes", (64 * 1024 * 1024).to_string()),
            Setting::made("min.cleanable.dirty.ratio", "0.3"),
        ]),
    }
    settings
}

/// The brokers drop records whether they were read or not; where that would be mail, `trim` drops in their place.
fn retention_ms(topic: Topic, kept: Duration) -> String {
    if topic.kept_until_read() { "-1".into() } else { kept.as_millis().to_string() }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn segment(kept: Duration) -> Duration {
    (kept / 8).clamp(Duration::from_secs(600), DAY)
}

/// The command that puts a setting right.
pub(super) fn alter(config: &KafkaConfig, topic: &str, setting: &Setting) -> String {
    format!(
        "run kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {}={}",
        config.bootstrap(),
        setting.name,
        setting.wanted
    )
}

pub(super) fn wrong_partitions(config: &KafkaConfig, topic: Topic, name: &str, found: usize) -> TopicProblem {
    let fix = if topic.single_partition() {
        format!("no setting changes that: stop every node, delete topic {name}, and start one")
    } else {
        format!(
            "set [log] partitions = {found} on every node: keys stay where they are only while the count does"
        )
    };
    TopicProblem {
        topic: name.to_owned(),
        setting: "partitions".into(),
        found: found.to_string(),
        wanted: config.partitions(topic).to_string(),
        fix,
    }
}

pub(super) fn too_few_copies(config: &KafkaConfig, name: &str, found: usize) -> TopicProblem {
    TopicProblem {
        topic: name.to_owned(),
        setting: "replication factor".into(),
        found: found.to_string(),
        wanted: config.replication.to_string(),
        fix: format!(
            "raise it with kafka-reassign-partitions.sh --bootstrap-server {}, or set [log] replication = {found}",
            config.bootstrap()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_wanted_fits_where_it_does_no_harm() {
        let config = KafkaConfig::new(vec!["k:9092".into()]);
        let of = |name: &str| {
            settings(&config, Topic::Verdicts)
                .into_iter()
                .find(|setting| setting.name == name)
                .expect("a setting")
        };
        let kept = of("retention.ms");
        assert_eq!(kept.wanted, "7776000000");
        for (found, fits) in
            [("7776000000", true), ("7776000001", true), ("-1", true), ("60000", false), ("x", false)]
        {
            assert_eq!(kept.fits(found), fits, "{found}");
        }
        let until_read = settings(&config, Topic::Accepted).into_iter().find(|s| s.name == "retention.ms");
        let until_read = until_read.expect("a setting");
        assert!(until_read.fits("-1") && !until_read.fits("172800000"));
        assert!(!of("cleanup.policy").fits("compact,delete"));
        assert_eq!(of("min.insync.replicas").wanted, "2");
    }

    #[test]
    fn every_segment_is_shorter_than_what_is_kept() {
        for topic in Topic::ALL {
            if let Retention::Time(kept) = topic.retention() {
                assert!(segment(kept) < kept, "{topic}");
            }
        }
    }
}
