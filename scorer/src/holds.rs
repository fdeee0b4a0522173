//! Messages over a limit: they are held, and let go, oldest first, as the windows free.

use std::collections::HashSet;

use bytes::Bytes;
use eventlog::{Consumer, LogError, NewRecord};
use schemas::limits::{self, Asked, Counters, Distinct, Hashes};
use schemas::senders::HoldRow;
use schemas::verdict::{
    BY_POLICY, Classification, Disposition, Judged, MessageSummary, Symbol, VerdictEvent,
};
use schemas::{Envelope, MessageId, Timestamp, Topic, UserId, spool};

use crate::batch::Batch;
use crate::judge::Judgement;
use crate::policy::{self, Policy};
use crate::run::Member;
use crate::state::Fate;
use crate::{evidence, outputs};

/// Messages that are let go in one commit.
const MAX_AT_ONCE: usize = 100;
/// Of messages that are written anew, those of one step, in bytes.
const MAX_RENEWED_BYTES: u64 = 4 * 1024 * 1024;
/// A message in `accepted` is written anew after this time, half of that topic's retention; in `quarantined`, where it is
/// written to, after half of that one's.
const RENEW_ACCEPTED_AFTER: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const RENEW_QUARANTINED_AFTER: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 3600);
/// `bodies` are kept for 30 days, and the message may be queued for some of them after its release.
const RENEW_CHUNKS_AFTER: std::time::Duration = std::time::Duration::from_secs(10 * 24 * 3600);

/// What limits look at in a message that was judged.
pub fn asked(envelope: &Envelope, message: &MessageSummary, policy: &Policy) -> Asked {
    let recipients = envelope.recipients.iter().map(|recipient| &recipient.forward_path);
    Asked::of(recipients, message.forwarded, policy.limits.distinct_recipients_per_day.is_some())
}

/// The same of one that waits.
pub fn asked_by(row: &HoldRow) -> Asked {
    Asked {
        recipients: row.recipients,
        hashes: row.recipient_hashes.clone(),
        forwarded: row.message.forwarded,
    }
}

impl Member {
    /// What would be released is held when a limit is reached, or when others wait before it.
    pub fn hold_if_over_limit(
        &self,
        partition: u32,
        judgement: &mut Judgement,
        envelope: &Envelope,
        policy: &Policy,
    ) -> Result<(), LogError> {
        let verdict = &mut judgement.verdict;
        let is_exempt =
            matches!(verdict.message.classification, Classification::Own | Classification::AllowListed);
        if verdict.disposition != Disposition::Release || is_exempt {
            return Ok(());
        }
        let state = self.owned(partition)?;
        let user = &envelope.user;
        let asked = asked(envelope, &verdict.message, policy);
        let over = state.senders.over_limit(user, &asked, &policy.limits, envelope.accepted_at);
        // What a locked sender has waits on, and nobody else with it.
        let is_free = |row: &&HoldRow| state.senders.lock(user, &row.message.identity, verdict.at).is_none();
        let before_it = state.holds.over_limit_of(user).filter(is_free).count();
        let why = match over {
            Some(over) => over.to_string(),
            None if before_it > 0 => format!("{before_it} messages wait before it"),
            None => return Ok(()),
        };
        verdict.disposition = Disposition::Hold;
        verdict.symbols.push(evidence::symbol("OVER_LIMIT", 0.0, &why));
        Ok(())
    }

    /// Writes the hold of a message. It stays where it stands in `accepted`. `unchecked`: it waits for an engine.
    pub fn hold(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        judgement: &Judgement,
        unchecked: bool,
    ) -> Result<(), LogError> {
        let verdict = &judgement.verdict;
        let bare = |symbol: &Symbol| Symbol { evidence: String::new(), ..symbol.clone() };
        let says_why = |symbol: &&Symbol| match unchecked {
            true => symbol.name.ends_with("_DOWN"),
            false => symbol.name == "OVER_LIMIT",
        };
        let why = verdict.symbols.iter().rfind(says_why);
        let row = HoldRow {
            message: verdict.message.clone(),
            recipients: verdict.recipients.len() as u64,
            recipient_hashes: Hashes::of(verdict.recipients.iter()),
            since: verdict.at,
            why: why.map_or_else(String::new, |symbol| match unchecked {
                true => format!("{}: {}", symbol.name, symbol.evidence),
                false => symbol.evidence.clone(),
            }),
            unchecked,
            score: verdict.score,
            symbols: verdict.symbols.iter().map(bare).collect(),
            remove_fields: judgement.remove_fields.clone(),
            position: verdict.accepted,
            stored_at: verdict.message.accepted_at,
        };
        batch.push(outputs::hold(&row));
        self.metrics.held.inc();
        let state = self.owned_mut(partition)?;
        state.holds.put(row);
        let held = state.holds.len_of(&verdict.message.user);
        state.senders.set_held(&verdict.message, held, verdict.at);
        Ok(())
    }

    /// Lets go what the limits let through at `now`.
    ///
    /// # Errors
    /// What the log says; the state must be rebuilt then.
    pub async fn let_go(&mut self, batch: &mut Batch, now: Timestamp) -> Result<(), LogError> {
        for (partition, row, limits) in self.due_holds(now) {
            if batch.is_full() {
                return Ok(());
            }
            if self.release_held(batch, partition, &row, BY_POLICY, now).await? {
                self.owned_mut(partition)?.senders.count_sent(&row.message, &asked_by(&row), &limits, now);
            }
        }
        Ok(())
    }

    /// What may go, in its order, with the limits that it counts against.
    fn due_holds(&self, now: Timestamp) -> Vec<(u32, HoldRow, schemas::settings::Limits)> {
        let mut due = Vec::new();
        for (partition, state) in &self.partitions {
            for (user, rows) in state.holds.by_user() {
                let mut counted: Option<(Counters, Distinct)> = None;
                let mut limits = None;
                for row in rows.filter(|row| !row.unchecked) {
                    if due.len() >= MAX_AT_ONCE {
                        return due;
                    }
                    // What a locked sender has waits on, and nobody else with it.
                    if state.senders.lock(user, &row.message.identity, now).is_some() {
                        continue;
                    }
                    let limits = limits.get_or_insert_with(|| {
                        policy::effective(&self.settings.read(), user, &row.message.domain).0.limits
                    });
                    let (counters, distinct) = counted.get_or_insert_with(|| {
                        let (counters, distinct) = state.senders.counted(user);
                        (counters.cloned().unwrap_or_default(), distinct.cloned().unwrap_or_default())
                    });
                    let asked = asked_by(row);
                    if limits::over(counters, distinct, now, &asked, limits).is_some() {
                        break;
                    }
                    counters.count(now, &asked, limits);
                    if limits.distinct_recipients_per_day.is_some() {
                        distinct.add(now, &asked.hashes);
                    }
                    due.push((*partition, row.clone(), limits.clone()));
                }
            }
        }
        due
    }

    /// Releases a held message; `false` when it is gone from the log.
    ///
    /// # Errors
    /// What the log says.
    pub async fn release_held(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        row: &HoldRow,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, LogError> {
        let read = self.read_held(row).await?;
        self.drop_hold(batch, partition, row, now)?;
        let Some((mut judged, message)) = read else {
            tracing::error!(message.id = %row.message.id, position = %row.position, "a held message is no longer in the log");
            return Ok(false);
        };
        if now.since(row.since) > RENEW_CHUNKS_AFTER && !self.renew_chunks(&mut judged).await? {
            tracing::error!(message.id = %row.message.id, "the body of a held message is gone");
            return Ok(false);
        }
        judged.released_by = (by != BY_POLICY).then(|| by.to_owned());
        batch.push(outputs::judged(Topic::Released, &judged, &message));
        let event = VerdictEvent::Released {
            message: row.message.clone(),
            by: by.to_owned(),
            at: now,
            command_id: format!("hold/{}", row.message.id),
        };
        batch.push(outputs::event(&row.message.user, Some(row.message.id), &event));
        self.owned_mut(partition)?.senders.count(&row.message, None, Fate::Released);
        Ok(true)
    }

    /// Takes a hold away, whatever becomes of its message.
    pub fn drop_hold(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        row: &HoldRow,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let user = &row.message.user;
        batch.push(outputs::hold_tombstone(user, row.message.id));
        let state = self.owned_mut(partition)?;
        state.holds.remove(user, row.message.id);
        let held = state.holds.len_of(user);
        state.senders.set_held(&row.message, held, now);
        Ok(())
    }

    pub async fn read_held(&self, row: &HoldRow) -> Result<Option<(Judged, Bytes)>, LogError> {
        if row.position.topic == Topic::Quarantined {
            return self.read_quarantined(row.position).await;
        }
        let value = match self.log.read(row.position).await {
            Ok(record) => record.and_then(|record| record.value),
            Err(error @ LogError::Damaged { .. }) => {
                tracing::error!(position = %row.position, %error, "a held message cannot be read");
                None
            }
            Err(error) => return Err(error),
        };
        let Some(value) = value else { return Ok(None) };
        let (envelope, inline): (Envelope, Bytes) = match spool::decode(&value) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::error!(position = %row.position, %error, "a held message does not parse");
                return Ok(None);
            }
        };
        let inline = if envelope.chunks.is_empty() { inline } else { Bytes::new() };
        let judged = Judged {
            envelope,
            message: row.message.clone(),
            score: row.score,
            symbols: row.symbols.clone(),
            remove_fields: row.remove_fields.clone(),
            released_by: None,
            kept: false,
        };
        Ok(Some((judged, inline)))
    }

    /// Retention never eats mail: what has waited for half of its topic's is written anew, and its hold then points there.
    ///
    /// # Errors
    /// What the log says.
    pub async fn renew_holds(&mut self, consumer: &mut dyn Consumer, now: Timestamp) -> Result<(), LogError> {
        // What is gone is told when it is let go; here it must not stand before others.
        let mut gone: HashSet<MessageId> = HashSet::new();
        loop {
            let due = self.old_holds(now, &gone);
            if due.is_empty() {
                return Ok(());
            }
            let (mut copies, mut renewed) = (Vec::<NewRecord>::new(), Vec::new());
            for (partition, row) in due {
                let Some((mut judged, message)) = self.read_held(&row).await? else {
                    gone.insert(row.message.id);
                    continue;
                };
                if now.since(row.since) > RENEW_CHUNKS_AFTER && !self.renew_chunks(&mut judged).await? {
                    gone.insert(row.message.id);
                    continue;
                }
                copies.push(outputs::judged(Topic::Quarantined, &judged, &message));
                renewed.push((partition, row));
            }
            if copies.is_empty() {
                continue;
            }
            // Two steps: a copy is inert until a row points to it.
            let offsets = consumer.positions();
            let positions = consumer.commit(copies, &offsets).await?;
            let mut batch = self.begin_batch();
            for ((partition, row), position) in renewed.into_iter().zip(positions) {
                let row = HoldRow { position, stored_at: now, ..row };
                batch.push(outputs::hold(&row));
                self.owned_mut(partition)?.holds.put(row);
            }
            self.commit(consumer, batch).await?;
        }
    }

    /// Some of those whose message is to be written anew.
    fn old_holds(&self, now: Timestamp, gone: &HashSet<MessageId>) -> Vec<(u32, HoldRow)> {
        let is_old = |row: &&HoldRow| {
            let after = match row.position.topic {
                Topic::Accepted => RENEW_ACCEPTED_AFTER,
                _ => RENEW_QUARANTINED_AFTER,
            };
            now.since(row.stored_at) >= after
        };
        let mut bytes = 0;
        let all = self.partitions.iter().flat_map(|(partition, state)| {
            state.holds.by_user().flat_map(move |(_, rows)| rows.map(move |row| (*partition, row)))
        });
        all.filter(|(_, row)| is_old(row) && !gone.contains(&row.message.id))
            .take(MAX_AT_ONCE)
            .take_while(|(_, row)| {
                let fits = bytes < MAX_RENEWED_BYTES;
                bytes += row.message.size_bytes;
                fits
            })
            .map(|(partition, row)| (partition, row.clone()))
            .collect()
    }

    /// The hold of a message, for a command.
    pub fn held(&self, partition: u32, user: &UserId, id: schemas::MessageId) -> Option<HoldRow> {
        self.owned(partition).ok()?.holds.get(user, id).cloned()
    }
}
