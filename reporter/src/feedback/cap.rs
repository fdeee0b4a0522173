//! How many reports an address gets: a flood of blocked messages is no flood of reports, and one of locks none of notices.

use std::collections::HashMap;

use schemas::{Mailbox, Timestamp};

/// Reports to one address in one minute; more are counted in the next one.
const PER_MINUTE: u32 = 60;
/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// The reports of every address.
#[derive(Default)]
pub(super) struct Caps(HashMap<Mailbox, Cap>);

/// Reports to one address: in this minute, and left out since the last one.
#[derive(Clone, Copy, Default)]
struct Cap {
    minute: i64,
    sent: u32,
    left_out: u64,
}

/// What a batch adds, until it is written: one that is not written counts nothing.
#[derive(Default)]
pub(super) struct Counted {
    caps: HashMap<Mailbox, Cap>,
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

impl Caps {
    /// Whether one more report to `to` may go; if so, how many were left out before it.
    pub(super) fn allow(&self, counted: &mut Counted, to: &Mailbox, now: Timestamp) -> Option<u64> {
        let before = || self.0.get(to).copied().unwrap_or_default();
        let cap = counted.caps.entry(to.clone()).or_insert_with(before);
        let minute = now.0.div_euclid(60_000);
        if cap.minute != minute {
            (cap.minute, cap.sent) = (minute, 0);
        }
        if cap.sent >= PER_MINUTE {
            cap.left_out += 1;
            counted.dropped += 1;
            return None;
        }
        cap.sent += 1;
        counted.sent += 1;
        Some(std::mem::take(&mut cap.left_out))
    }

    /// The batch was written.
    pub(super) fn take(&mut self, counted: Counted, now: Timestamp) {
        self.0.extend(counted.caps);
        if self.0.len() > ADDRESSES {
            let minute = now.0.div_euclid(60_000);
            self.0.retain(|_, cap| cap.minute == minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_blocks_is_no_flood_of_reports() {
        let (mut caps, mut counted) = (Caps::default(), Counted::default());
        let (to, other) = (Mailbox::parse("a@b.example").unwrap(), Mailbox::parse("c@b.example").unwrap());
        let now = Timestamp(60_000 * 1000);
        let allowed = (0..100).filter(|_| caps.allow(&mut counted, &to, now).is_some()).count();
        assert_eq!((allowed, counted.sent, counted.dropped), (60, 60, 40));
        assert_eq!(caps.allow(&mut counted, &other, now), Some(0));
        caps.take(counted, now);
        let (later, mut counted) = (now.plus(Duration::from_secs(60)), Counted::default());
        assert_eq!(caps.allow(&mut counted, &to, later), Some(40));
        assert_eq!(caps.allow(&mut counted, &to, later), Some(0));
    }

    #[test]
    fn what_was_not_written_is_not_counted() {
        let caps = Caps::default();
        let to = Mailbox::parse("a@b.example").unwrap();
        for _ in 0..100 {
            assert_eq!(caps.allow(&mut Counted::default(), &to, Timestamp(0)), Some(0));
        }
    }
}
