//! Mail of our own: taken once, and no faster than its rate, so that a wave of failures does not become a wave of DSNs.

use std::collections::HashSet;
use std::time::Duration;

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
    /// When everything admitted so far would be through, one per interval.
    through_at: Timestamp,
}

impl OwnMail {
    /// When the message may leave; none when it was seen before.
    pub(crate) fn admit(&mut self, id: MessageId, now: Timestamp) -> Option<Timestamp> {
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        if !self.seen.insert(id) {
            return None;
        }
        self.through_at = self.through_at.max(now).plus(INTERVAL);
        Some(self.through_at.minus(BURST).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_one_by_one() {
        let (mut own, now) = (OwnMail::default(), Timestamp(1_000_000));
        let mut admit = |n: i64, now: Timestamp| own.admit(MessageId::new(Timestamp(n)), now);
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
        assert!(own.admit(id, Timestamp(1)).is_some() && own.admit(id, Timestamp(2)).is_none());
    }
}
