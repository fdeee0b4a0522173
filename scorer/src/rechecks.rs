//! Messages that an engine said nothing of (`when_down = "defer"`): they are held, asked about again when it is back, and
//! judged then.

use std::time::Duration;

use eventlog::{Consumer, LogError};
use schemas::senders::HoldRow;
use schemas::{MessageId, Timestamp};

use crate::intake::{MAX_TOGETHER_BYTES, Message};
use crate::outside::Unchecked;
use crate::run::Member;

/// Messages that are asked about again together.
const MAX_AT_ONCE: usize = 100;
/// After nothing came of it, so long until the next time.
const PAUSE: Duration = Duration::from_secs(10);
/// So long a message waits for an engine. After that it is treated as with `when_down = "reject"`: in quarantine, a person
/// sees it.
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);

/// Which messages are asked about again next, and when.
#[derive(Debug, Default)]
pub struct Rechecks {
    next: Timestamp,
    /// The last one that was asked about: those behind it are next, so that none keeps others from their turn.
    last: Option<MessageId>,
}

impl Member {
    /// Asks again about some of what waits for an engine, and judges what it answers, or what has waited too long.
    ///
    /// # Errors
    /// What the log says; the state must be rebuilt then.
    pub async fn check_again(&mut self, consumer: &mut dyn Consumer, now: Timestamp) -> Result<(), LogError> {
        if now < self.rechecks.next {
            return Ok(());
        }
        let due = self.unchecked(now);
        let Some((_, last)) = due.last() else { return Ok(()) };
        self.rechecks.last = Some(last.message.id);
        let mut batch = self.begin_batch();
        let (mut rows, mut messages) = (Vec::new(), Vec::<Message>::new());
        for (partition, row) in due {
            let Some((mut judged, inline)) = self.read_held(&row).await? else {
                tracing::error!(message.id = %row.message.id, position = %row.position, "a held message is no longer in the log");
                self.drop_hold(&mut batch, partition, &row, now)?;
                continue;
            };
            // Its session was answered long ago.
            judged.envelope.reply_partition = None;
            messages.push(self.load(judged.envelope, inline).await?);
            rows.push((partition, row));
        }
        self.ask_outside(messages.iter_mut()).await;
        let mut is_progress = false;
        for ((partition, row), mut message) in rows.into_iter().zip(messages) {
            let findings = &mut message.findings;
            if findings.unchecked == Some(Unchecked::Later) {
                if has_expired(&row, now) {
                    tracing::warn!(message.id = %row.message.id, "no engine said anything of a message in time, it goes to quarantine");
                    findings.unchecked = Some(Unchecked::Blocks);
                } else if !findings.is_virus {
                    continue;
                }
            }
            is_progress = true;
            self.drop_hold(&mut batch, partition, &row, now)?;
            self.take_message(&mut batch, row.position, message, now)?;
        }
        self.rechecks.next = if is_progress { now } else { now.plus(PAUSE) };
        if batch.outputs.is_empty() { Ok(()) } else { self.commit(consumer, batch).await }
    }

    /// Some of what waits, those first whose turn it is. While an engine is left alone only what has waited too long.
    fn unchecked(&self, now: Timestamp) -> Vec<(u32, HoldRow)> {
        let are_asked = self.outside.engines.are_asked_again();
        let all = self
            .partitions
            .iter()
            .flat_map(|(partition, state)| state.holds.unchecked().map(move |row| (*partition, row)));
        let mut due: Vec<_> = all.filter(|(_, row)| are_asked || has_expired(row, now)).collect();
        due.sort_by_key(|(_, row)| (Some(row.message.id) <= self.rechecks.last, row.message.id));
        let mut bytes = 0;
        due.into_iter()
            .take(MAX_AT_ONCE)
            .take_while(|(_, row)| {
                let fits = bytes < MAX_TOGETHER_BYTES as u64;
                bytes += row.message.size_bytes;
                fits
            })
            .map(|(partition, row)| (partition, row.clone()))
            .collect()
    }
}

fn has_expired(row: &HoldRow, now: Timestamp) -> bool {
    now.since(row.since) > LONGEST_WAIT
}
