//! What follows from a try that is over.

use eventlog::NewRecord;
use schemas::Timestamp;
use schemas::attempt::Outcome;

use crate::aftermath::{self, Aftermath, Rules};
use crate::dsn::{self, Kind};
use crate::lane::State;
use crate::metrics::OutcomeLabel;
use crate::records;
use crate::site::{Ended, Tried};
use crate::worker::Worker;

impl Worker {
    pub(super) async fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Tried(tried) => self.finished(*tried).await,
            Ended::PassedOn(job) => self.sites.dispatch(*job),
        }
    }

    /// A try is over: what follows from it is written with the next commit.
    async fn finished(&mut self, tried: Tried) {
        let now = self.clock.now();
        if let Some(n) = self.under_way.get_mut(&tried.key.1) {
            *n -= 1;
            if *n == 0 {
                self.under_way.remove(&tried.key.1);
            }
        }
        self.bytes_under_way = self.bytes_under_way.saturating_sub(tried.message.judged.envelope.size_bytes);
        let was_fresh = self.fresh.remove(&tried.key);
        let is_fresh = was_fresh.is_some();
        let Some(entry) = was_fresh.or_else(|| self.lane.get(&tried.key).cloned()) else { return };
        let rules = Rules {
            node: &self.node,
            retry: &self.press.config.retry,
            delay_notice_after: self.press.config.delay_notice_after,
        };
        let after = aftermath::after(&entry, &tried, &rules, now);
        let mut outputs = Vec::new();
        self.tell_sender(&tried, &after, now, &mut outputs).await;
        self.count(&after.attempt, now);
        outputs.extend(records::attempt(after.attempt));
        match after.left {
            Some(left) => {
                outputs.extend(records::entry(&left));
                if is_fresh {
                    self.unwritten.push((left.position.topic_partition(), tried.key.clone()));
                }
                self.lane.put(left, State::Resting);
            }
            None if is_fresh => {}
            None => {
                self.lane.take(&tried.key);
                outputs.push(records::tombstone(&self.node, &tried.key));
            }
        }
        if is_fresh {
            let partition = tried.message.position.topic_partition();
            self.released_outputs.extend(outputs.into_iter().map(|record| (partition, record)));
        } else {
            self.lane_outputs.extend(outputs);
        }
    }

    fn count(&self, attempt: &schemas::attempt::Attempt, now: Timestamp) {
        for result in &attempt.recipients {
            self.metrics.recipients.get_or_create(&OutcomeLabel { outcome: result.outcome.code() }).inc();
            if result.outcome == Outcome::Delivered {
                self.metrics.delivery_seconds.observe(now.since(attempt.message.accepted_at).as_secs_f64());
            }
        }
    }

    async fn tell_sender(
        &self,
        tried: &Tried,
        after: &Aftermath,
        now: Timestamp,
        outputs: &mut Vec<NewRecord>,
    ) {
        for kind in [Kind::Failed, Kind::Delayed, Kind::Relayed] {
            if kind == Kind::Delayed && !after.delay_notice {
                continue;
            }
            let recipients = dsn::recipients(kind, &tried.message.judged, &after.attempt, tried.peer_reports);
            if recipients.is_empty() {
                continue;
            }
            let raw = tried.message.raw(&self.press.log).await.unwrap_or_default();
            for (part, recipients) in recipients.chunks(dsn::MAX_RECIPIENTS).enumerate() {
                let report = dsn::Report {
                    kind,
                    part,
                    judged: &tried.message.judged,
                    attempt: &after.attempt,
                    recipients,
                    retried_until: after.left.as_ref().map(|left| left.expires_at),
                    raw: &raw,
                    hostname: &self.press.config.hostname,
                    node: &self.node,
                    now,
                };
                let built = dsn::build(&report);
                outputs.extend(built.and_then(|(judged, bytes)| records::own_mail(&judged, &bytes)));
            }
        }
    }
}
