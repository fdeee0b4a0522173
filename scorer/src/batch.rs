//! One batch: messages and commands taken up in the order of their partitions, everything that follows from them
//! committed in one step with their offsets.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use bytes::Bytes;
use eventlog::{Consumer, LogError, NewRecord, Record};
use schemas::quarantine::QuarantineRow;
use schemas::settings::LockPolicy;
use schemas::topics::TopicPartition;
use schemas::verdict::{Disposition, MessageSummary, VerdictEvent};
use schemas::{Envelope, MessageId, Position, Timestamp, Topic};

use crate::evidence;
use crate::holds;
use crate::intake::{Message, Taken};
use crate::judge::{self, Case, Judgement};
use crate::outputs;
use crate::outside::Findings;
use crate::policy::Policy;
use crate::run::Member;
use crate::state::{Fate, NewLock};

/// A commit is not made larger than about this, in bytes.
const MAX_COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// What will be committed together.
#[derive(Default)]
pub struct Batch {
    pub outputs: Vec<NewRecord>,
    /// Replies that let messages pass. A message that was accepted is safe whatever becomes of the verdict, so its session
    /// need not wait for the commit; only a refusal must stand before it is told.
    announcements: Vec<NewRecord>,
    bytes: usize,
    /// For each partition, the offset after the last record that is done.
    next: BTreeMap<TopicPartition, u64>,
    /// Messages that this batch puts into `quarantined`: index of the output, partition, row.
    quarantined: Vec<(usize, u32, QuarantineRow)>,
}

impl Batch {
    pub fn push(&mut self, output: NewRecord) {
        self.bytes += output.value.as_ref().map_or(0, Bytes::len);
        self.outputs.push(output);
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= MAX_COMMIT_BYTES
    }

    /// Nothing was taken up that others must hear of.
    pub fn says_nothing(&self) -> bool {
        self.outputs.is_empty() && self.announcements.is_empty() && self.next.is_empty()
    }

    /// The record at `position` is done once this batch is committed.
    pub fn done(&mut self, record: &Record) {
        self.next.insert(record.position.topic_partition(), record.position.offset + 1);
    }

    /// `true` when the place of `id` in `quarantined` becomes known only with the commit of this batch.
    pub fn quarantines(&self, id: MessageId) -> bool {
        self.quarantined.iter().any(|(_, _, row)| row.message.id == id)
    }
}

impl Member {
    /// Takes up `records`, and commits. Where others are asked, what they are not asked about together is left for the next
    /// turn (`left`): so a session waits for its own deadline only, and the consumer is heard in between.
    ///
    /// # Errors
    /// What a commit or a read says; nothing of what was not committed remains, so the state must be rebuilt.
    pub async fn process(&mut self, consumer: &mut dyn Consumer, records: &[Record]) -> Result<(), LogError> {
        let now = self.clock.now();
        if self.pass_over_history(consumer, records, now).await? {
            return Ok(());
        }
        self.forget_policies_of_old_settings();
        self.follow_models();
        let mut batch = self.begin_batch();
        let mut rest = records;
        while !rest.is_empty() {
            let together = self.read_together(rest).await?;
            rest = &rest[together.len()..];
            for taken in together {
                self.make_room(consumer, &mut batch).await?;
                self.take_record(consumer, &mut batch, taken, now).await?;
            }
            if !self.outside.is_empty() {
                break;
            }
        }
        self.left = rest.to_vec();
        if batch.says_nothing() && !self.has_read_much() {
            return Ok(());
        }
        self.commit(consumer, batch).await
    }

    async fn take_record(
        &mut self,
        consumer: &mut dyn Consumer,
        batch: &mut Batch,
        taken: Taken<'_>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let record = taken.record;
        match record.position.topic {
            Topic::Accepted => {
                if let Some(message) = taken.message {
                    self.take_message(batch, record.position, message, now)?;
                }
            }
            Topic::Commands => self.take_command(consumer, batch, record, now).await?,
            // What was read of them is said with the next commit.
            Topic::Attempts => return self.take_attempt(batch, record, now),
            other => {
                tracing::error!(topic = %other, "a record of a topic that was not asked for is passed over");
            }
        }
        batch.done(record);
        Ok(())
    }

    /// Commits what is full.
    pub async fn make_room(
        &mut self,
        consumer: &mut dyn Consumer,
        batch: &mut Batch,
    ) -> Result<(), LogError> {
        if batch.is_full() {
            self.commit(consumer, std::mem::take(batch)).await?;
            *batch = self.begin_batch();
        }
        Ok(())
    }

    /// A batch that begins with the rows whose place became known with the last commit.
    pub fn begin_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for partition in self.partitions.values_mut() {
            for row in std::mem::take(&mut partition.unplaced) {
                batch.push(outputs::row(&row));
            }
        }
        batch
    }

    /// Commits, and puts down what the commit made known. With no record done, the current offsets go along.
    pub async fn commit(&mut self, consumer: &mut dyn Consumer, mut batch: Batch) -> Result<(), LogError> {
        for partition in self.partitions.values_mut() {
            for row in partition.senders.take_dirty() {
                batch.push(outputs::sender_row(row));
            }
            for (user, part, value) in partition.senders.histories.take_dirty() {
                batch.push(outputs::history_row(&user, &part, value));
            }
            for (user, distinct) in partition.senders.take_dirty_recipients() {
                batch.push(outputs::recipients(&user, distinct));
            }
        }
        let mut next = batch.next;
        if next.is_empty() {
            next.extend(consumer.positions());
        }
        for (number, partition) in &mut self.partitions {
            let read = partition.attempts_read.take();
            let of = TopicPartition { topic: Topic::Attempts, partition: *number };
            next.extend(read.map(|offset| (of, offset)));
        }
        self.attempts_unsaid = 0;
        let next: Vec<_> = next.into_iter().collect();
        if batch.outputs.is_empty() && next.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let announcing = async {
            if batch.announcements.is_empty() {
                return;
            }
            if let Err(error) = self.log.announce(batch.announcements).await {
                // The sessions answer without it when their time is over.
                tracing::warn!(slot = self.slot, %error, "replies are lost");
            }
        };
        let committing = async {
            // The sessions have been told by now, on the embedded engine; they go first.
            tokio::task::yield_now().await;
            consumer.commit(batch.outputs, &next).await
        };
        let ((), positions) = tokio::join!(announcing, committing);
        let positions = positions?;
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        for (index, partition, mut row) in batch.quarantined {
            let (Some(position), Some(state)) = (positions.get(index), self.partitions.get_mut(&partition))
            else {
                continue;
            };
            row.position = *position;
            state.quarantined.put(&row);
            state.unplaced.push(row);
        }
        Ok(())
    }

    /// Judges a message that stands at `position`, and puts down what follows.
    pub fn take_message(
        &mut self,
        batch: &mut Batch,
        position: Position,
        message: Message,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let Message { envelope, inline, whole, policy, findings } = message;
        let judgement = match whole {
            Ok(whole) => {
                let case = Case { envelope: &envelope, message: &whole, policy: &policy };
                self.judge(&case, &findings, position, now)?
            }
            Err(why) => judge::without_message(&envelope, position, &policy, ("BODY_LOST", &why), now),
        };
        // In `bodies`, the message stays where it is.
        let inline = if envelope.chunks.is_empty() { inline } else { Bytes::new() };
        self.write_judgement(batch, position.partition, judgement, envelope, &inline, &policy)
    }

    fn judge(
        &self,
        case: &Case<'_>,
        findings: &Findings,
        position: Position,
        now: Timestamp,
    ) -> Result<Judgement, LogError> {
        let started = Instant::now();
        let senders = &self.owned(position.partition)?.senders;
        let classifier = &self.classifier;
        let judge = || judge::judge(case, findings, position, senders, classifier, now);
        // The parsers read what anybody may send. Should one have a defect, it must cost this message a verdict, not all
        // the others of its partition theirs, again after every restart. Nothing is changed in there that could be left
        // half done.
        let judgement = std::panic::catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
            self.metrics.defects.inc();
            tracing::error!(message.id = %case.envelope.id, "a defect of the scorer: the message goes to quarantine");
            let why = ("NOT_JUDGED", "the scorer failed on it");
            judge::without_message(case.envelope, position, case.policy, why, now)
        });
        self.metrics.judge_seconds.observe(started.elapsed().as_secs_f64());
        Ok(judgement)
    }

    fn write_judgement(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        mut judgement: Judgement,
        envelope: Envelope,
        message: &[u8],
        policy: &Policy,
    ) -> Result<(), LogError> {
        // What is held before limits are looked at waits for an engine.
        let is_unchecked = judgement.verdict.disposition == Disposition::Hold;
        self.hold_if_over_limit(partition, &mut judgement, &envelope, policy)?;
        if let Some(basis) = &mut judgement.verdict.basis {
            let senders = &self.owned(partition)?.senders;
            basis.limits = senders.standing(&envelope.user, &policy.limits, envelope.accepted_at);
        }
        // It is judged again when the engine has answered, and counts then.
        if !is_unchecked {
            self.metrics.judged(&judgement.verdict);
        }
        let id = envelope.id;
        let disposition = judgement.verdict.disposition;
        if let Some(reply_partition) = self.reply_partition(envelope.reply_partition) {
            let reply = judgement.reply();
            let passes = reply.is_positive() && disposition != Disposition::Quarantine;
            let record = outputs::session_reply(reply_partition, id, reply);
            if passes { batch.announcements.push(record) } else { batch.push(record) }
        }
        let asked = holds::asked(&envelope, &judgement.verdict.message, policy);
        let fate = match disposition {
            Disposition::Release => {
                batch.push(outputs::judged(Topic::Released, &outputs::head(&judgement, envelope), message));
                Fate::Released
            }
            Disposition::Hold => {
                self.hold(batch, partition, &judgement, is_unchecked)?;
                Fate::Held
            }
            Disposition::Quarantine | Disposition::Unknown => {
                let index = batch.outputs.len();
                batch.push(outputs::judged(
                    Topic::Quarantined,
                    &outputs::head(&judgement, envelope),
                    message,
                ));
                let row = outputs::new_row(&judgement.verdict);
                batch.push(outputs::row(&row));
                self.owned_mut(partition)?.quarantined.put(&row);
                batch.quarantined.push((index, partition, row));
                Fate::Quarantined
            }
        };
        let verdict = judgement.verdict;
        if !verdict.message.own && !is_unchecked {
            let senders = &mut self.owned_mut(partition)?.senders;
            // First of all, while an identity that is new has no row.
            if let Some(sighting) = &judgement.sighting {
                senders.note_behaviour(&verdict.message, sighting, fate);
            }
            if fate != Fate::Quarantined {
                senders.note_bulk(&verdict.message.user, &judgement.bulk, verdict.message.accepted_at);
            }
            senders.count(&verdict.message, Some(&verdict.identity_source), fate);
            if fate == Fate::Released {
                let at = verdict.message.accepted_at;
                senders.count_sent(&verdict.message, &asked, &policy.limits, at);
            }
            if senders.get(&verdict.message.user, Some(&verdict.message.identity)).is_none() {
                self.metrics.identities_without_row.inc();
            }
        }
        let summary = verdict.message.clone();
        let why = evidence::strongest(&verdict.symbols);
        batch.push(outputs::event(&summary.user, Some(id), &VerdictEvent::Judged(verdict)));
        // A bounce carries what somebody else wrote.
        let is_bounce = summary.reverse_path.is_null();
        if summary.classification.is_abuse() && fate == Fate::Quarantined && !is_bounce {
            self.lock_automatically(batch, partition, &summary, &why, &policy.automatic_lock)?;
        }
        Ok(())
    }

    fn lock_automatically(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        message: &MessageSummary,
        why: &str,
        policy: &LockPolicy,
    ) -> Result<(), LogError> {
        let now = self.clock.now();
        let locks = self.owned_mut(partition)?.senders.note_block(message, why, policy, now);
        for NewLock { identity, lock, evidence } in locks {
            self.metrics.automatic_locks.inc();
            let event = VerdictEvent::Lock {
                user: message.user.clone(),
                domain: message.domain.clone(),
                identity,
                locked: true,
                by: lock.by,
                at: lock.since,
                reason: lock.reason,
                evidence,
            };
            batch.push(outputs::event(&message.user, None, &event));
        }
        Ok(())
    }
}
