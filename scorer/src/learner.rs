//! The one learner: a consumer of `models`, which has one partition, so that exactly one process learns. It takes what people
//! said, writes the next version, and removes what it has learnt from, in one commit.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Consumer, Log, LogError, NewRecord, Polled, Record, TableEvent};
use schemas::Topic;
use schemas::models::{self, Delta, ModelRecord, ModelsView};
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
                        let learning = Learning::going_on(self.base.clone(), &versions);
                        if let Some(other) = versions.newest().filter(|newest| newest.base != learning.base())
                        {
                            tracing::warn!(
                                model.version = learning.base(),
                                newest = other.number,
                                newest.base = other.base,
                                goes_on_from = versions.newest_of(learning.base()).map(|delta| delta.number),
                                "what was learnt last belongs to another model and is not in force"
                            );
                        }
                        return Ok((learning, versions));
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
        let (mut learnt, mut rolled_back) = (0u32, Vec::new());
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
                    match roll_back(learning, versions, to) {
                        Ok(()) => rolled_back.push(models::rolled_back(to, &by)),
                        Err(refusal) => tracing::warn!(to, by, refusal, "not gone back"),
                    }
                    done.push(outputs::model_tombstone(&record.key));
                }
                Ok(ModelRecord::Delta(_) | ModelRecord::Unknown) => {}
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a record of models does not parse, it is passed over");
                }
            }
        }
        if learnt > 0 || !rolled_back.is_empty() {
            let why =
                if rolled_back.is_empty() { format!("{learnt} corrections") } else { rolled_back.join("; ") };
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

fn roll_back(learning: &mut Learning, versions: &ModelsView, to: u64) -> Result<(), String> {
    if to == 0 {
        learning.forget();
        return Ok(());
    }
    let delta = versions.deltas().find(|delta| delta.number == to).ok_or("there is no such version")?;
    if delta.base != learning.base() {
        // Its weights would be in force nowhere.
        return Err(format!("it belongs to the model {}, in use is {}", delta.base, learning.base()));
    }
    learning.take(delta);
    Ok(())
}

/// Tombstones of the versions that go when `delta` comes. The newest of each other model stays: that model may come back.
fn too_old(versions: &mut ModelsView, delta: &Delta) -> Vec<NewRecord> {
    let numbers: Vec<u64> = versions.deltas().map(|d| d.number).filter(|n| *n < delta.number).collect();
    let surplus = (numbers.len() + 1).saturating_sub(KEPT_VERSIONS);
    let newest_of_other = |d: &&Delta| {
        d.base != delta.base && versions.newest_of(&d.base).is_some_and(|newest| newest.number == d.number)
    };
    let stay: Vec<u64> = versions.deltas().filter(newest_of_other).map(|d| d.number).collect();
    let mut tombstones = Vec::new();
    for number in numbers.into_iter().filter(|number| !stay.contains(number)).take(surplus) {
        let key = format!("delta/{number}");
        let _ = versions.apply(key.as_bytes(), None);
        tombstones.push(outputs::model_tombstone(key.as_bytes()));
    }
    tombstones
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(of: &[(u64, &str)]) -> ModelsView {
        let mut view = ModelsView::default();
        for (number, base) in of {
            let delta = Delta {
                number: *number,
                base: (*base).into(),
                learnt: *number,
                weights: vec![(7, *number as i16)],
                ..Delta::default()
            };
            view.apply(b"", Some(&serde_json::to_vec(&ModelRecord::Delta(delta)).unwrap())).unwrap();
        }
        view
    }

    fn base() -> Model {
        Model::shipped().unwrap()
    }

    fn next(learning: &mut Learning) -> Delta {
        learning.next(schemas::Timestamp(9), String::new())
    }

    #[test]
    fn the_newest_version_of_the_model_in_use_goes_on() {
        let ours = base().card.version;
        let versions = versions(&[(1, &ours), (2, &ours), (3, "other-1"), (4, "other-1")]);
        let delta = next(&mut Learning::going_on(base(), &versions));
        assert_eq!((delta.number, delta.learnt, delta.weights), (5, 2, vec![(7, 2)]));
        let fresh = next(&mut Learning::going_on(base(), &self::versions(&[(4, "other-1")])));
        assert_eq!((fresh.number, fresh.base, fresh.learnt), (5, ours, 0));
    }

    #[test]
    fn a_version_of_another_model_is_not_gone_back_to() {
        let ours = base().card.version;
        let versions = versions(&[(1, "other-1"), (2, &ours), (3, &ours)]);
        let mut learning = Learning::going_on(base(), &versions);
        let refusal = roll_back(&mut learning, &versions, 1).unwrap_err();
        assert!(refusal.contains("other-1") && refusal.contains(&ours), "{refusal}");
        assert!(roll_back(&mut learning, &versions, 9).is_err());
        let delta = next(&mut learning);
        assert_eq!((delta.base.as_str(), delta.weights), (ours.as_str(), vec![(7, 3)]), "nothing changed");
        assert!(roll_back(&mut learning, &versions, 2).is_ok());
        assert_eq!(next(&mut learning).weights, [(7, 2)]);
        assert!(roll_back(&mut learning, &versions, 0).is_ok());
        assert!(next(&mut learning).weights.is_empty());
    }

    #[test]
    fn the_newest_version_of_another_model_is_kept() {
        let ours = base().card.version;
        let mut of = vec![(1, "other-1"), (2, "other-1"), (3, "other-2")];
        of.extend((4..=KEPT_VERSIONS as u64 + 3).map(|number| (number, ours.as_str())));
        let mut versions = versions(&of);
        let mut learning = Learning::going_on(base(), &versions);
        for _ in 0..KEPT_VERSIONS {
            let delta = next(&mut learning);
            let _ = too_old(&mut versions, &delta);
            versions.apply(b"", Some(&serde_json::to_vec(&ModelRecord::Delta(delta)).unwrap())).unwrap();
        }
        let kept: Vec<u64> = versions.deltas().map(|delta| delta.number).collect();
        assert_eq!(kept[..2], [2, 3], "{kept:?}");
        assert_eq!(kept.len(), KEPT_VERSIONS, "{kept:?}");
    }
}
