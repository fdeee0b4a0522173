//! The one learner: a consumer of `models`, which has one partition, so that exactly one process learns. It takes what people
//! said, writes the next version, and removes what it has learnt from, in one commit.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Consumer, Log, LogError, NewRecord, Polled, Record, TableEvent};
use schemas::Topic;
use schemas::models::{Delta, ModelRecord, ModelsView};
use tokio_util::sync::CancellationToken;

use crate::classifier::model::Model;
use crate::classifier::online::{Learning, Outcome};
use crate::outputs;

const GROUP: &str = "learner";
const BATCH: usize = 500;
const TICK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
/// Versions kept to go back to.
const KEPT_VERSIONS: usize = 20;

/// Learns until `shutdown`.
///
/// # Errors
/// When the log is closed under it.
pub(crate) async fn run(
    slot: String,
    base: Model,
    log: Log,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<(), LogError> {
    let learner = Learner { base, log, clock };
    while !shutdown.is_cancelled() {
        let turn = async {
            let mut consumer = learner.log.join(GROUP, &slot, &[Topic::Models]).await?;
            learner.consume(consumer.as_mut()).await
        };
        let end = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            end = turn => end,
        };
        match end {
            Ok(()) => {}
            Err(_) if shutdown.is_cancelled() => return Ok(()),
            Err(LogError::Closed) => return Err(LogError::Closed),
            Err(error) => {
                tracing::warn!(slot, %error, "learning is interrupted, joining again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

struct Learner {
    base: Model,
    log: Log,
    clock: Arc<dyn Clock>,
}

impl Learner {
    /// Returns only with an error: whatever fails, the state is folded again from the log.
    async fn consume(&self, consumer: &mut dyn Consumer) -> Result<(), LogError> {
        let mut state: Option<(Learning, ModelsView)> = None;
        loop {
            match consumer.poll(BATCH, TICK).await? {
                Polled::Assigned(_) => state = Some(self.load().await?),
                Polled::Revoked(_) => state = None,
                Polled::Records(records) => {
                    let Some((learning, versions)) = &mut state else { continue };
                    self.take(consumer, learning, versions, &records).await?;
                }
                Polled::Nothing => {}
            }
        }
    }

    async fn load(&self) -> Result<(Learning, ModelsView), LogError> {
        let mut versions = ModelsView::default();
        let mut table = self.log.table(Topic::Models, None).await?;
        loop {
            for event in table.next(BATCH).await? {
                match event {
                    TableEvent::CaughtUp => {
                        return Ok((Learning::from(self.base.clone(), versions.newest()), versions));
                    }
                    TableEvent::Row(record) => {
                        // What does not parse is told when it is polled.
                        let _ = versions.apply(&record.key, record.value.as_deref());
                    }
                }
            }
        }
    }

    async fn take(
        &self,
        consumer: &mut dyn Consumer,
        learning: &mut Learning,
        versions: &mut ModelsView,
        records: &[Record],
    ) -> Result<(), LogError> {
        let mut done: Vec<NewRecord> = Vec::new();
        let (mut learnt, mut rolled_back) = (0u32, None);
        for record in records {
            let Some(value) = &record.value else { continue };
            match serde_json::from_slice::<ModelRecord>(value) {
                Ok(ModelRecord::Feedback(feedback)) => {
                    let outcome = learning.learn(&feedback);
                    learnt += u32::from(outcome == Outcome::Learnt);
                    tracing::info!(message.id = %feedback.message_id, is_spam = feedback.is_spam, ?outcome, "feedback");
                    done.push(outputs::model_tombstone(&record.key));
                }
                Ok(ModelRecord::Rollback { to, by, .. }) => {
                    if roll_back(learning, versions, to) {
                        rolled_back = Some(format!("back to {to}, by {by}"));
                    } else {
                        tracing::warn!(to, by, "there is no such version to go back to");
                    }
                    done.push(outputs::model_tombstone(&record.key));
                }
                Ok(ModelRecord::Delta(_) | ModelRecord::Unknown) => {}
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a record of models does not parse, it is passed over");
                }
            }
        }
        if learnt > 0 || rolled_back.is_some() {
            let why = rolled_back.unwrap_or_else(|| format!("{learnt} corrections"));
            let delta = learning.next(self.clock.now(), why);
            done.push(outputs::model_delta(&delta));
            done.extend(too_old(versions, &delta));
            let _ = versions
                .apply(b"", Some(&serde_json::to_vec(&ModelRecord::Delta(delta)).unwrap_or_default()));
        }
        let next: Vec<_> = records
            .last()
            .map(|last| (last.position.topic_partition(), last.position.offset + 1))
            .into_iter()
            .collect();
        consumer.commit(done, &next).await?;
        Ok(())
    }
}

fn roll_back(learning: &mut Learning, versions: &ModelsView, to: u64) -> bool {
    if to == 0 {
        learning.forget();
        return true;
    }
    let Some(delta) = versions.deltas().find(|delta| delta.number == to) else { return false };
    learning.take(delta);
    true
}

/// Tombstones of the versions that go when `delta` comes.
fn too_old(versions: &mut ModelsView, delta: &Delta) -> Vec<NewRecord> {
    let numbers: Vec<u64> = versions.deltas().map(|d| d.number).filter(|n| *n < delta.number).collect();
    let surplus = (numbers.len() + 1).saturating_sub(KEPT_VERSIONS);
    let mut tombstones = Vec::new();
    for number in numbers.into_iter().take(surplus) {
        let key = format!("delta/{number}");
        let _ = versions.apply(key.as_bytes(), None);
        tombstones.push(outputs::model_tombstone(key.as_bytes()));
    }
    tombstones
}
