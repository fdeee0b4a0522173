//! Messages that an engine said nothing of (`when_down = "defer"`): they are held, asked about again when it is back, and
//! judged then.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Consumer, LogError};
use schemas::senders::HoldRow;
use schemas::{MessageId, Timestamp};
use tokio::task::JoinHandle;

use crate::intake::{MAX_TOGETHER_BYTES, Message, ask_outside};
use crate::outside::Unchecked;
use crate::run::Member;

/// Messages that are asked about again together.
const MAX_AT_ONCE: usize = 100;
/// After nothing came of it, so long until the next time, and each time twice as long, up to this.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// So long a message waits for an engine. After that it is treated as with `when_down = "reject"`: in quarantine, a person
/// sees it.
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);

/// Which messages are asked about again next, and when.
#[derive(Debug, Default)]
pub struct Rechecks {
    next: Timestamp,
    /// Since when nothing comes of it, the time between two.
    pause: Duration,
    /// The last one that was asked about: those behind it are next, so that none keeps others from their turn.
    last: Option<MessageId>,
    /// Those that are asked about now: beside the mail that comes, which must not wait for them.
    asking: Option<JoinHandle<Vec<Asked>>>,
}

/// A message that was asked about again.
struct Asked {
    partition: u32,
    row: HoldRow,
    message: Message,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({})", self.row.message.id)
    }
}

impl Member {
    /// Asks again about some of what waits for an engine, and judges what it has answered, or what has waited too long.
    ///
    /// # Errors
    /// What the log says; the state must be rebuilt then.
    pub async fn check_again(&mut self, consumer: &mut dyn Consumer, now: Timestamp) -> Result<(), LogError> {
        if self.rechecks.asking.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(asking) = self.rechecks.asking.take()
        {
            // A task that fell over has answered nothing.
            let answered = asking.await.unwrap_or_default();
            return self.judge_again(consumer, answered, now).await;
        }
        if self.rechecks.asking.is_some() || now < self.rechecks.next {
            return Ok(());
        }
        let due = self.unchecked(now);
        let Some((_, last)) = due.last() else { return Ok(()) };
        self.rechecks.last = Some(last.message.id);
        let mut batch = self.begin_batch();
        let mut asked = Vec::with_capacity(due.len());
        for (partition, row) in due {
            let Some((mut judged, inline)) = self.read_held(&row).await? else {
                tracing::error!(message.id = %row.message.id, position = %row.position, "a held message is no longer in the log");
                self.drop_hold(&mut batch, partition, &row, now)?;
                continue;
            };
            // Its session was answered long ago.
            judged.envelope.reply_partition = None;
            let message = self.load(judged.envelope, inline).await?;
            asked.push(Asked { partition, row, message });
        }
        let outside = Arc::clone(&self.outside);
        self.rechecks.asking = Some(tokio::spawn(async move {
            ask_outside(&outside, asked.iter_mut().map(|asked| &mut asked.message)).await;
            asked
        }));
        if batch.outputs.is_empty() { Ok(()) } else { self.commit(consumer, batch).await }
    }

    async fn judge_again(
        &mut self,
        consumer: &mut dyn Consumer,
        answered: Vec<Asked>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let mut batch = self.begin_batch();
        let mut is_progress = false;
        for Asked { partition, row, mut message } in answered {
            // Meanwhile somebody may have let it go, or the partition was lost.
            let state = self.partitions.get(&partition);
            if state.and_then(|state| state.holds.get(&row.message.user, row.message.id)) != Some(&row) {
                continue;
            }
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
            self.make_room(consumer, &mut batch).await?;
            self.drop_hold(&mut batch, partition, &row, now)?;
            self.take_message(&mut batch, row.position, message, now)?;
        }
        let rechecks = &mut self.rechecks;
        rechecks.pause =
            if is_progress { Duration::ZERO } else { (rechecks.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) };
        rechecks.next = now.plus(rechecks.pause);
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
