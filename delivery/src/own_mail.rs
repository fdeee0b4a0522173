//! Mail of our own: taken once, and no faster than its rate, so that a wave of failures does not become a wave of DSNs.

use std::collections::HashSet;
use std::time::Duration;

use schemas::topics::TopicPartition;
use schemas::{MessageId, Timestamp};

/// Messages remembered, so that none is sent twice after a commit of unknown fate.
const REMEMBERED: usize = 10_000;
/// One message per this time in the long run ...
const INTERVAL: Duration = Duration::from_millis(50);
/// ... and as many as fit into this much of it at once: 1,200.
const BURST: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct OwnMail {
    seen: HashSet<MessageId>,
    /// Of these, what no commit has moved past yet, with its partition.
    uncommitted: Vec<(TopicPartition, MessageId)>,
    /// When everything admitted so far would be through, one per interval.
    through_at: Timestamp,
}

impl OwnMail {
    /// When the message, which stands in `partition`, may leave; none when it was seen before.
    pub(crate) fn admit(
        &mut self,
        id: MessageId,
        partition: TopicPartition,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        if !self.seen.insert(id) {
            return None;
        }
        self.uncommitted.push((partition, id));
        self.through_at = self.through_at.max(now).plus(INTERVAL);
        Some(self.through_at.minus(BURST).max(now))
    }

    /// Everything that was admitted is in the log.
    pub(crate) fn committed(&mut self) {
        self.uncommitted.clear();
    }

    /// Forgets what came of lost partitions and is not in the log: whoever gets them takes it again, be it this node.
    pub(crate) fn give_up(&mut self, is_lost: impl Fn(&TopicPartition) -> bool) {
        for (_, id) in self.uncommitted.extract_if(.., |(of, _)| is_lost(of)) {
            self.seen.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::Topic;

    use super::*;

    fn partition(partition: u32) -> TopicPartition {
        TopicPartition { topic: Topic::Released, partition }
    }

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_one_by_one() {
        let (mut own, now) = (OwnMail::default(), Timestamp(1_000_000));
        let mut admit = |n: i64, now: Timestamp| own.admit(MessageId::new(Timestamp(n)), partition(0), now);
        let due: Vec<_> = (0..1300).filter_map(|n| admit(n, now)).collect();
        assert!(due[..1200].iter().all(|at| *at == now));
        assert_eq!(due[1200], now.plus(INTERVAL));
        assert_eq!(due[1299], now.plus(INTERVAL * 100));
        let later = now.plus(BURST * 2);
        assert_eq!(admit(5000, later), Some(later), "time makes room");
    }

    #[test]
    fn a_message_is_taken_once() {
        let (mut own, id) = (OwnMail::default(), MessageId::new(Timestamp(1)));
        let mut admit = |at| own.admit(id, partition(0), Timestamp(at)).is_some();
        assert!(admit(1) && !admit(2));
    }

    #[test]
    fn what_was_given_up_uncommitted_may_be_taken_again() {
        let mut own = OwnMail::default();
        let id = |n: i64| MessageId::derived(&n.to_string(), Timestamp(0));
        let admit = |own: &mut OwnMail, n, of| own.admit(id(n), partition(of), Timestamp(1)).is_some();
        assert!(admit(&mut own, 1, 0));
        own.committed();
        assert!(admit(&mut own, 2, 0) && admit(&mut own, 3, 1));
        own.give_up(|of| of.partition == 0);
        assert!(!admit(&mut own, 1, 0), "it is in the log");
        assert!(admit(&mut own, 2, 0), "its partition came back");
        assert!(!admit(&mut own, 3, 1), "its partition was not lost");
    }
}
