//! What was moved, for the person who asked.

use std::collections::BTreeMap;
use std::fmt;

use eventlog::Record;
use schemas::{Position, Topic};

/// Counts of records by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows of compacted topics.
    pub rows: BTreeMap<Topic, u64>,
    /// Messages that rows point to, by topic.
    pub messages: BTreeMap<Topic, u64>,
    /// Pieces of large messages.
    pub chunks: u64,
    /// Records that their readers have not come to.
    pub unread: BTreeMap<Topic, u64>,
    /// Records of what happened, which nobody has to act on.
    pub history: BTreeMap<Topic, u64>,
    /// Messages and chunks that are named but were not in the log any more.
    pub gone: u64,
    /// Records that do not parse and were left behind.
    pub unreadable: u64,
}

impl Moved {
    pub(super) fn row(&mut self, topic: Topic) {
        *self.rows.entry(topic).or_default() += 1;
    }

    pub(super) fn message(&mut self, topic: Topic) {
        *self.messages.entry(topic).or_default() += 1;
    }

    pub(super) fn unread(&mut self, topic: Topic) {
        *self.unread.entry(topic).or_default() += 1;
    }

    pub(super) fn history(&mut self, topic: Topic) {
        *self.history.entry(topic).or_default() += 1;
    }

    pub(super) fn gone(&mut self, position: Position) {
        tracing::warn!(%position, "what a row points to is not in the log any more");
        self.gone += 1;
    }

    pub(super) fn unreadable(&mut self, record: &Record, error: &dyn fmt::Display) {
        tracing::error!(position = %record.position, %error, "a record is left behind");
        self.unreadable += 1;
    }
}

/// Whose word for a topic's rows or records a person knows.
fn words(topic: Topic, part: &str) -> String {
    match (part, topic) {
        ("rows", Topic::Queue) => "queue entries".into(),
        ("rows", Topic::Senders) => "rows of senders (counters, locks, holds, histories)".into(),
        ("rows", Topic::Quarantine) => "rows of the quarantine".into(),
        ("messages", Topic::Released) => "messages of queue entries".into(),
        ("messages", Topic::Quarantined) => "messages in quarantine, or held for long".into(),
        ("messages", Topic::Accepted) => "messages held, or still to be reported".into(),
        ("unread", Topic::Accepted) => "messages accepted and not judged yet".into(),
        ("unread", Topic::Released) => "messages released and not taken up by delivery yet".into(),
        ("unread", Topic::Commands) => "commands not carried out yet".into(),
        ("unread", Topic::Verdicts) => "verdicts not looked at for reports yet".into(),
        ("unread", Topic::Attempts) => "outcomes not counted for their senders yet".into(),
        ("history", topic) => format!("records of {topic} (history)"),
        (_, topic) => topic.to_string(),
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("rows", &self.rows),
            ("messages", &self.messages),
            ("unread", &self.unread),
            ("history", &self.history),
        ];
        for (part, counts) in parts {
            for (topic, count) in counts {
                writeln!(f, "{count:>10}  {}", words(*topic, part))?;
            }
        }
        for (count, what) in [
            (self.chunks, "chunks of large messages"),
            (
                self.gone,
                "messages or chunks WERE GONE from the source already: their rows are held or say so",
            ),
            (self.unreadable, "records did NOT PARSE and were left behind; see the log"),
        ] {
            if count > 0 {
                writeln!(f, "{count:>10}  {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_moved_and_what_was_not() {
        let mut moved = Moved::default();
        moved.row(Topic::Queue);
        moved.row(Topic::Settings);
        moved.message(Topic::Released);
        moved.history(Topic::Attempts);
        assert_eq!(
            moved.to_string(),
            "         1  queue entries\n         1  settings\n         1  messages of queue entries\n         \
             1  records of attempts (history)\n"
        );
        moved.unreadable = 2;
        assert!(moved.to_string().contains("2  records did NOT PARSE"));
    }
}
