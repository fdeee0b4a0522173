//! What was refused and why, gathered per client, reason and minute, for the `sessions` topic.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eventlog::{Log, NewRecord};
use schemas::session::SessionRefusals;
use schemas::{SmtpReply, Timestamp, Topic, UserId};
use tokio_util::sync::CancellationToken;

/// Rows gathered between two flushes; more are only counted by the metrics.
const MAX_ROWS: usize = 10_000;
const FLUSH_EVERY: Duration = Duration::from_secs(60);

/// Gathers refusals; clones share it.
#[derive(Clone, Default)]
pub struct Refusals {
    rows: Arc<Mutex<HashMap<Key, Row>>>,
}

/// Who, why, and the start of the minute.
type Key = (IpAddr, &'static str, Timestamp);

struct Row {
    user: Option<UserId>,
    count: u64,
    reply: SmtpReply,
}

impl Refusals {
    pub fn note(
        &self,
        ip: IpAddr,
        login: Option<&str>,
        reason: &'static str,
        reply: SmtpReply,
        now: Timestamp,
    ) {
        let key = (ip, reason, Timestamp(now.0.div_euclid(60_000) * 60_000));
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= MAX_ROWS && !rows.contains_key(&key) {
            return;
        }
        let row = rows.entry(key).or_insert_with(|| Row { user: None, count: 0, reply: reply.clone() });
        row.count += 1;
        row.reply = reply;
        if let Some(login) = login {
            row.user = Some(UserId(login.to_owned()));
        }
    }

    /// Writes what was gathered every minute, and once more at the end.
    pub async fn flush_until(self, node: String, log: Log, shutdown: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = shutdown.cancelled() => true,
                () = tokio::time::sleep(FLUSH_EVERY) => false,
            };
            let records = self.take(&node);
            if !records.is_empty()
                && let Err(error) = log.append(records).await
            {
                tracing::warn!(%error, "refusals of a minute are not recorded");
            }
            if stopping {
                return;
            }
        }
    }

    fn take(&self, node: &str) -> Vec<NewRecord> {
        let rows = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        let record = |((client_ip, reason, minute), row): (Key, Row)| {
            let event = SessionRefusals {
                node: node.to_owned(),
                client_ip,
                user: row.user,
                reason: reason.to_owned(),
                minute,
                count: row.count,
                reply: row.reply,
            };
            let client = client_ip.to_string();
            Some(NewRecord::new(Topic::Sessions, client.clone(), client, serde_json::to_vec(&event).ok()?))
        };
        rows.into_iter().filter_map(record).collect()
    }
}
