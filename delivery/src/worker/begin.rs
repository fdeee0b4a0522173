//! What is begun: messages that `released` brings, and entries of the lane that are due.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Log, LogError, Record};
use schemas::queue::{QueueEntry, QueuedRecipient};
use schemas::verdict::MessageSummary;
use schemas::{Position, Timestamp};

use crate::egress::{Choice, Source};
use crate::lane::State;
use crate::message::{Message, SharedMessage};
use crate::site::{Job, Key};
use crate::worker::Worker;
use crate::{records, route};

/// How soon mail of a locked sender is looked at again: a person may have unlocked.
const LOCKED_LOOK: Duration = Duration::from_secs(60);

impl Worker {
    /// Takes records of `released`: each group of recipients is tried at once, or put off when its site has its fill.
    pub(super) fn take(&mut self, records: Vec<Record>) {
        for record in records {
            self.taken.insert(record.position.topic_partition(), record.position.offset + 1);
            match Message::from_record(&record) {
                // A kept copy: its queue entry is in the lane.
                Ok(message) if message.judged.kept => {}
                Ok(message) => self.take_message(&Arc::new(message)),
                Err(error) => {
                    self.metrics.undecodable.inc();
                    tracing::error!(position = %record.position, %error, "a record of `released` does not parse, it is passed over");
                }
            }
        }
    }

    fn take_message(&mut self, message: &SharedMessage) {
        let now = self.clock.now();
        let envelope = &message.judged.envelope;
        let begins_at = match envelope.origin {
            // Whoever released it knew what the sender is.
            None if message.judged.released_by.is_some() => now,
            None => self.locked_until(&message.judged.message, now).unwrap_or(now),
            Some(_) => match self.own_mail.admit(envelope.id, message.position.topic_partition(), now) {
                Some(begins_at) => begins_at,
                None => return,
            },
        };
        let choice = self.choose(&message.judged.message);
        let sites = {
            let settings = self.press.settings.read();
            route::by_site(&envelope.recipients, self.press.config.relay_host.as_deref(), &settings)
        };
        for (site, indexes) in sites {
            let entry =
                QueueEntry { next_attempt: begins_at, ..self.new_entry(message, site, &indexes, now) };
            if let Some(node) = self.to_pass_on_to(&entry, &choice) {
                self.pass_on_fresh(entry, node, now);
                continue;
            }
            let state = if begins_at > now { State::Resting } else { State::WaitingForSite };
            if state == State::Resting || self.is_busy(&entry.site) {
                self.settle(entry, state);
                continue;
            }
            let key = (entry.message.id, entry.site.clone());
            self.dispatch(key.clone(), Arc::clone(message), &entry, choice.clone());
            self.fresh.insert(key, entry);
        }
    }

    fn new_entry(
        &self,
        message: &SharedMessage,
        site: String,
        indexes: &[u32],
        now: Timestamp,
    ) -> QueueEntry {
        let judged = &message.judged;
        let max_retry = self.press.users.get(&self.press.settings.read(), &judged.envelope.user).max_retry;
        let recipient = |index: &u32| {
            let forward_path = judged.envelope.recipients.get(*index as usize)?.forward_path.clone();
            Some(QueuedRecipient { index: *index, forward_path, last_reply: None })
        };
        QueueEntry {
            message: judged.message.clone(),
            node: self.node.clone(),
            site,
            recipients: indexes.iter().filter_map(recipient).collect(),
            queued_at: now,
            tries: 0,
            next_attempt: now,
            expires_at: now.plus(max_retry),
            held: false,
            delay_notice_sent: false,
            route: None,
            position: message.position,
            stored_at: message.stored_at,
            passed_on_at: None,
            moved: false,
        }
    }

    fn is_busy(&self, site: &str) -> bool {
        self.under_way.get(site).is_some_and(|n| *n >= self.press.config.max_in_flight_per_site)
    }

    fn dispatch(&mut self, key: Key, message: SharedMessage, entry: &QueueEntry, choice: Choice) {
        *self.under_way.entry(entry.site.clone()).or_default() += 1;
        self.bytes_under_way += message.judged.envelope.size_bytes;
        let (source, other, without_source) = match choice {
            Choice::Here { source, other } => (source, other, None),
            Choice::Elsewhere { pool, .. } | Choice::Nowhere { pool } => {
                (Source { ip: None, ehlo: None, pool: Some(pool.clone()) }, None, Some(pool))
            }
        };
        let job = Job {
            key,
            message,
            recipients: entry.recipients.iter().map(|r| r.index).collect(),
            source,
            other,
            failed: None,
            target: entry.route.clone().unwrap_or_else(|| entry.site.clone()),
        };
        match without_source {
            None => self.sites.dispatch(job),
            Some(pool) => {
                let reply = self.no_source(&pool);
                self.sites.refuse(&job, &reply);
            }
        }
    }

    /// Tries what waited for its site and what is due, as far as there is room.
    pub(super) async fn start(&mut self, now: Timestamp) {
        let sites: Vec<String> =
            self.lane.sites_waited_for().filter(|site| !self.is_busy(site)).cloned().collect();
        for site in sites {
            while self.has_room() && !self.is_busy(&site) {
                let Some((key, entry)) = self.lane.start_waiting(&site) else { break };
                self.start_entry(key, entry, now).await;
            }
        }
        while self.has_room() {
            let Some((key, entry)) = self.lane.start_due(now) else { return };
            if self.is_busy(&entry.site) {
                self.lane.wait_for_site(&key);
            } else {
                self.start_entry(key, entry, now).await;
            }
        }
    }

    /// When to look again at mail of a sender that is locked now; none when it may leave.
    fn locked_until(&self, message: &MessageSummary, now: Timestamp) -> Option<Timestamp> {
        let senders = self.press.senders.read();
        let identity = Some(&message.identity).filter(|identity| identity.0 != "<>");
        let lock = senders.lock(&message.user, identity, now)?;
        let again = now.plus(LOCKED_LOOK);
        Some(lock.until.map_or(again, |until| until.min(again)))
    }

    /// An entry that the lane has put in flight.
    async fn start_entry(&mut self, key: Key, entry: QueueEntry, now: Timestamp) {
        if let Some(until) = self.locked_until(&entry.message, now) {
            self.lane.postpone(&key, until);
            return;
        }
        let choice = self.choose(&entry.message);
        if let Some(node) = self.to_pass_on_to(&entry, &choice) {
            self.pass_on(&key, entry, node, now);
            return;
        }
        match read_message(&self.press.log, entry.position).await {
            Ok(Some(message)) => self.dispatch(key, message, &entry, choice),
            Ok(None) => {
                tracing::error!(message.id = %key.0, position = %entry.position, "a queued message is no longer in the log; it is held for an operator");
                let held = QueueEntry { held: true, ..entry };
                self.lane_outputs.extend(records::entry(&held));
                self.lane.put(held, State::Resting);
            }
            Err(error) => {
                tracing::warn!(message.id = %key.0, %error, "a queued message cannot be read now");
                self.lane.postpone(&key, now.plus(Duration::from_secs(5)));
            }
        }
    }
}

async fn read_message(log: &Log, position: Position) -> Result<Option<SharedMessage>, LogError> {
    let Some(record) = log.read(position).await? else { return Ok(None) };
    let damaged =
        |error: schemas::spool::SpoolError| LogError::Damaged { position, detail: error.to_string() };
    Ok(Some(Arc::new(Message::from_record(&record).map_err(damaged)?)))
}
