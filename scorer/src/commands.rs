//! What people ask for: release, confirm, remove; lock, unlock. A command is carried out once, because its offset is
//! committed with what it did; one that is given twice finds the second time that there is nothing left to do.

use std::time::Duration;

use bytes::Bytes;
use eventlog::{Consumer, LogError, Record, bodies};
use schemas::commands::{Action, Command};
use schemas::limits::Asked;
use schemas::models::Feedback;
use schemas::quarantine::QuarantineState;
use schemas::reply::Reply;
use schemas::senders::{HoldRow, Lock, LockChange};
use schemas::verdict::{Classification, Identity, Judged, MessageSummary, VerdictEvent};
use schemas::{Domain, MessageId, Position, Timestamp, Topic, UserId, spool};

use crate::batch::Batch;
use crate::facts::Facts;
use crate::run::Member;
use crate::state::Entry;
use crate::{holds, outputs, policy};

/// `bodies` are kept for 30 days. A message released after this time could still be queued when its chunks leave, so
/// they are written anew.
const CHUNKS_ARE_OLD: Duration = Duration::from_secs(20 * 24 * 3600);
/// A row of `senders` has 20 of them, and at most 16 KiB.
const MAX_REASON_BYTES: usize = 300;
const MAX_BY_BYTES: usize = 150;

/// What a command came to, for the person who gave it.
struct Answer {
    ok: bool,
    affected: u64,
    text: String,
}

fn done(text: impl Into<String>) -> Answer {
    Answer { ok: true, affected: 1, text: text.into() }
}

fn nothing_to_do(text: impl Into<String>) -> Answer {
    Answer { ok: true, affected: 0, text: text.into() }
}

fn impossible(text: impl Into<String>) -> Answer {
    Answer { ok: false, affected: 0, text: text.into() }
}

impl Member {
    /// Carries out one record of `commands`.
    ///
    /// # Errors
    /// What the log says.
    pub async fn take_command(
        &mut self,
        consumer: &mut dyn Consumer,
        batch: &mut Batch,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let parsed = serde_json::from_slice::<Command>(record.value.as_deref().unwrap_or_default());
        let command = match parsed {
            Ok(command) => command,
            Err(error) => {
                self.metrics.undecodable.inc();
                tracing::error!(position = %record.position, %error, "a command does not parse, it is passed over");
                return Ok(());
            }
        };
        let Some((name, message_id)) = for_scorer(&command.action) else { return Ok(()) };
        self.metrics.command(name);
        if message_id.is_some_and(|id| batch.quarantines(id)) {
            // Where the message stands is known only after this commit.
            self.commit(consumer, std::mem::take(batch)).await?;
            *batch = self.begin_batch();
        }
        let answer = self.carry_out(batch, record.position.partition, &command, now).await?;
        tracing::info!(
            command = name,
            by = command.by,
            ok = answer.ok,
            affected = answer.affected,
            "command carried out"
        );
        if let Some(partition) = self.reply_partition(command.reply_partition) {
            let reply = Reply::Command {
                command_id: command.id.clone(),
                ok: answer.ok,
                affected: answer.affected,
                text: answer.text,
            };
            batch.push(outputs::command_reply(partition, &reply, &command.id));
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        command: &Command,
        now: Timestamp,
    ) -> Result<Answer, LogError> {
        match &command.action {
            Action::Release { user, message_id } => {
                self.close(batch, partition, command, user, *message_id, QuarantineState::Released, now).await
            }
            Action::Confirm { user, message_id } => {
                self.close(batch, partition, command, user, *message_id, QuarantineState::Confirmed, now)
                    .await
            }
            Action::Remove { user, message_id } => {
                self.close(batch, partition, command, user, *message_id, QuarantineState::Removed, now).await
            }
            Action::Lock { user, domain, identity, until, reason } => {
                let lock =
                    Lock { since: now, until: *until, by: cut_by(&command.by), reason: cut_reason(reason) };
                self.lock(batch, partition, user, domain, identity.as_ref(), lock)
            }
            Action::Unlock { user, domain, identity, reason, since } => {
                let row = self.owned(partition)?.senders.get(user, identity.as_ref());
                let holds = row.and_then(|row| row.lock.as_ref()).map(|lock| lock.since);
                if since.is_some() && holds.is_some() && holds != *since {
                    let whose = whose(user, identity.as_ref());
                    return Ok(nothing_to_do(format!("{whose} is locked by another lock, set since")));
                }
                let change = LockChange {
                    at: now,
                    locked: false,
                    by: cut_by(&command.by),
                    reason: cut_reason(reason),
                };
                self.unlock(batch, partition, user, domain, identity.as_ref(), &change)
            }
            Action::Reset { user, identity, .. } => self.reset(partition, user, identity.as_ref(), now),
            // `for_scorer` let nothing else through.
            _ => Ok(impossible("not a command for the scorer")),
        }
    }

    /// Takes a message out of quarantine, to be delivered or not.
    #[allow(clippy::too_many_arguments)] // each is one word of the command
    async fn close(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        command: &Command,
        user: &UserId,
        id: MessageId,
        state: QuarantineState,
        now: Timestamp,
    ) -> Result<Answer, LogError> {
        if let Some(row) = self.held(partition, user, id) {
            return self.close_hold(batch, partition, command, &row, state, now).await;
        }
        let Some(entry) = self.owned(partition)?.quarantined.get(id).filter(|e| e.user == *user).cloned()
        else {
            return Ok(impossible(format!("message {id} of {user} is not in quarantine")));
        };
        if let Some(answer) = already_closed(&entry, state, id) {
            return Ok(answer);
        }
        let Some((mut judged, message)) = self.read_quarantined(entry.position).await? else {
            return Ok(impossible(format!("the record of message {id} is gone: its retention is over")));
        };
        let summary = judged.message.clone();
        let row = outputs::row_of(&judged, state, entry.since, &command.by, entry.position);
        let event = if state == QuarantineState::Released {
            judged.released_by = Some(command.by.clone());
            if now.since(entry.since) > CHUNKS_ARE_OLD && !self.renew_chunks(&mut judged).await? {
                return Ok(impossible(format!("the body of message {id} is gone")));
            }
            batch.push(outputs::judged(Topic::Released, &judged, &message));
            VerdictEvent::Released {
                message: summary,
                by: command.by.clone(),
                at: now,
                command_id: command.id.clone(),
            }
        } else {
            VerdictEvent::Closed {
                message: summary,
                by: command.by.clone(),
                at: now,
                command_id: command.id.clone(),
                confirmed: state == QuarantineState::Confirmed,
            }
        };
        if let Some(feedback) = self.feedback(&judged, &message, state, &command.by, now) {
            batch.push(outputs::feedback(feedback));
        }
        batch.push(outputs::row(&row));
        batch.push(outputs::event(user, Some(id), &event));
        self.owned_mut(partition)?.quarantined.put(&row);
        if state == QuarantineState::Released {
            let recipients = judged.envelope.recipients.iter().map(|recipient| &recipient.forward_path);
            let asked = Asked::of(recipients, judged.message.forwarded, true);
            self.count_released(partition, &judged.message, &asked, now)?;
        }
        Ok(done(format!("message {id} {}", word(state))))
    }

    /// A message that waits for a limit is let go at once, or dropped, by a person.
    async fn close_hold(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        command: &Command,
        row: &HoldRow,
        state: QuarantineState,
        now: Timestamp,
    ) -> Result<Answer, LogError> {
        let id = row.message.id;
        if state == QuarantineState::Released {
            let there = self.release_held(batch, partition, row, &command.by, now).await?;
            if !there {
                return Ok(impossible(format!("the record of message {id} is gone")));
            }
            self.count_released(partition, &row.message, &holds::asked_by(row), now)?;
            return Ok(done(format!("message {id} let go before its limit")));
        }
        self.drop_hold(batch, partition, row, now)?;
        let event = VerdictEvent::Closed {
            message: row.message.clone(),
            by: command.by.clone(),
            at: now,
            command_id: command.id.clone(),
            confirmed: false,
        };
        batch.push(outputs::event(&row.message.user, Some(id), &event));
        Ok(done(format!("message {id}, which waited for a limit, {}", word(QuarantineState::Removed))))
    }

    /// Counts what a person released against the limits of its user, who may be over them then.
    fn count_released(
        &mut self,
        partition: u32,
        message: &MessageSummary,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<(), LogError> {
        if message.own {
            return Ok(());
        }
        let limits = policy::effective(&self.settings.read(), &message.user, &message.domain).0.limits;
        self.owned_mut(partition)?.senders.count_sent(message, asked, &limits, now);
        Ok(())
    }

    /// What the person's decision says of the content. Nothing, when the content did not decide, or when the message stands in
    /// `bodies`: so large a message says little by its words.
    fn feedback(
        &self,
        judged: &Judged,
        message: &[u8],
        state: QuarantineState,
        by: &str,
        now: Timestamp,
    ) -> Option<Feedback> {
        let is_spam = says_of_content(judged.message.classification, state)?;
        if message.is_empty() || !judged.symbols.iter().any(|symbol| symbol.name == "CONTENT") {
            return None;
        }
        Some(Feedback {
            message_id: judged.message.id,
            domain: judged.message.domain.clone(),
            is_spam,
            by: cut_by(by),
            at: now,
            format: crate::classifier::model::FORMAT,
            features: self.classifier.buckets(&Facts::of(&judged.envelope, message)),
        })
    }

    pub async fn read_quarantined(&self, position: Position) -> Result<Option<(Judged, Bytes)>, LogError> {
        if position.topic != Topic::Quarantined {
            return Ok(None);
        }
        let value = match self.log.read(position).await {
            Ok(record) => record.and_then(|record| record.value),
            Err(error @ LogError::Damaged { .. }) => {
                tracing::error!(%position, %error, "a quarantined record cannot be read");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(value.and_then(|value| match spool::decode(&value) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                tracing::error!(%position, %error, "a quarantined record does not parse");
                None
            }
        }))
    }

    /// Writes the chunks of a message anew, one at a time. `false` when one is gone.
    pub async fn renew_chunks(&self, judged: &mut Judged) -> Result<bool, LogError> {
        let id = judged.envelope.id;
        for (index, position) in judged.envelope.chunks.iter_mut().enumerate() {
            let read = match self.log.read(*position).await {
                Ok(record) => record.and_then(|record| record.value),
                Err(error @ LogError::Damaged { .. }) => {
                    tracing::error!(%position, %error, "a part of a message cannot be read");
                    None
                }
                Err(error) => return Err(error),
            };
            let Some(bytes) = read else { return Ok(false) };
            let written = self.log.append(vec![bodies::chunk(id, index, bytes)]).await?;
            if let Some(renewed) = written.first() {
                *position = *renewed;
            }
        }
        Ok(true)
    }

    fn lock(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        user: &UserId,
        domain: &Domain,
        identity: Option<&Identity>,
        lock: Lock,
    ) -> Result<Answer, LogError> {
        if identity.is_some_and(|identity| identity.0 == "<>") {
            return Ok(impossible(
                "the null reverse-path `<>` is never locked: it carries the bounces of everybody",
            ));
        }
        if identity.is_some_and(|identity| {
            identity.0.is_empty() || identity.0.len() > crate::identity::MAX_IDENTITY_BYTES
        }) {
            return Ok(impossible("that is no identity"));
        }
        if lock.until.is_some_and(|until| until <= lock.since) {
            return Ok(impossible("the lock would end before it begins"));
        }
        let until = lock
            .until
            .map_or_else(|| "until somebody unlocks".to_owned(), |at| format!("until {}", at.rfc3339()));
        let event = lock_event(user, domain, identity, true, &lock.by, lock.since, &lock.reason);
        batch.push(outputs::event(user, None, &event));
        self.owned_mut(partition)?.senders.set_lock(user, domain, identity, lock);
        Ok(done(format!("{} locked {until}", whose(user, identity))))
    }

    fn unlock(
        &mut self,
        batch: &mut Batch,
        partition: u32,
        user: &UserId,
        domain: &Domain,
        identity: Option<&Identity>,
        change: &LockChange,
    ) -> Result<Answer, LogError> {
        if !self.owned_mut(partition)?.senders.unlock(user, identity, change.clone()) {
            return Ok(nothing_to_do(format!("{} is not locked", whose(user, identity))));
        }
        let event = lock_event(user, domain, identity, false, &change.by, change.at, &change.reason);
        batch.push(outputs::event(user, None, &event));
        Ok(done(format!("{} unlocked", whose(user, identity))))
    }

    fn reset(
        &mut self,
        partition: u32,
        user: &UserId,
        identity: Option<&Identity>,
        now: Timestamp,
    ) -> Result<Answer, LogError> {
        if !self.owned_mut(partition)?.senders.reset(user, identity, now) {
            return Ok(nothing_to_do(format!("nothing counts against {}", whose(user, identity))));
        }
        Ok(done(format!("counting against {} begins anew", whose(user, identity))))
    }
}

/// The name of an action that is the scorer's, and the message it is about.
fn for_scorer(action: &Action) -> Option<(&'static str, Option<MessageId>)> {
    match action {
        Action::Release { message_id, .. } => Some(("release", Some(*message_id))),
        Action::Confirm { message_id, .. } => Some(("confirm", Some(*message_id))),
        Action::Remove { message_id, .. } => Some(("remove", Some(*message_id))),
        Action::Lock { .. } => Some(("lock", None)),
        Action::Unlock { .. } => Some(("unlock", None)),
        Action::Reset { .. } => Some(("reset", None)),
        Action::QueueRetry { .. }
        | Action::QueueHold { .. }
        | Action::QueueResume { .. }
        | Action::QueueRemove { .. }
        | Action::QueueReroute { .. }
        | Action::LaneRead { .. }
        | Action::Unknown => None,
    }
}

/// Whether a person who does this to a message of this classification says that its content is spam. `None`: nothing is said of it;
/// the text around a virus may be anybody's.
fn says_of_content(classification: Classification, state: QuarantineState) -> Option<bool> {
    use Classification as C;
    match (state, classification) {
        (QuarantineState::Released, C::Spam | C::Phishing | C::ForwardedSpam) => Some(false),
        (QuarantineState::Confirmed, C::Spam | C::Phishing) => Some(true),
        _ => None,
    }
}

/// What was released is on its way and cannot be called back; what was confirmed or removed may still be released.
fn already_closed(entry: &Entry, wanted: QuarantineState, id: MessageId) -> Option<Answer> {
    let said = || format!("message {id} was already {} by {}", word(entry.state), entry.by);
    match (entry.state, wanted) {
        (now, wanted) if now == wanted => Some(nothing_to_do(said())),
        (QuarantineState::Released, _) => Some(impossible(said())),
        (QuarantineState::Unknown, _) => {
            Some(impossible(format!("message {id} is in a state of a newer version")))
        }
        _ => None,
    }
}

fn word(state: QuarantineState) -> &'static str {
    match state {
        QuarantineState::In => "in quarantine",
        QuarantineState::Released => "released",
        QuarantineState::Confirmed => "confirmed as spam",
        QuarantineState::Removed => "removed",
        QuarantineState::Unknown => "changed",
    }
}

fn whose(user: &UserId, identity: Option<&Identity>) -> String {
    identity.map_or_else(|| format!("user {user}"), |identity| format!("identity {identity} of user {user}"))
}

fn cut_reason(reason: &str) -> String {
    crate::evidence::clean_marked(reason, MAX_REASON_BYTES)
}

fn cut_by(by: &str) -> String {
    crate::evidence::clean_marked(by, MAX_BY_BYTES)
}

fn lock_event(
    user: &UserId,
    domain: &Domain,
    identity: Option<&Identity>,
    locked: bool,
    by: &str,
    at: Timestamp,
    reason: &str,
) -> VerdictEvent {
    VerdictEvent::Lock {
        user: user.clone(),
        domain: domain.clone(),
        identity: identity.cloned(),
        locked,
        by: by.into(),
        at,
        reason: reason.into(),
        evidence: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_judged_by_its_content_teaches() {
        use Classification as C;
        let says = |classification| {
            [QuarantineState::Released, QuarantineState::Confirmed, QuarantineState::Removed]
                .map(|state| says_of_content(classification, state))
        };
        assert_eq!(says(C::Spam), [Some(false), Some(true), None]);
        assert_eq!(says(C::Phishing), [Some(false), Some(true), None]);
        assert_eq!(says(C::ForwardedSpam), [Some(false), None, None]);
        for other in [C::Virus, C::BlockedAttachment, C::LockedSender, C::TooManyParts] {
            assert_eq!(says(other), [None; 3], "{other:?}");
        }
    }
}
