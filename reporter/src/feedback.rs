//! Feedback reports: one for every message blocked as abuse, to the domain's abuse address, committed with the offset.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, LogError, NewRecord, Polled, Record, View};
use schemas::settings::SettingsView;
use schemas::topics::TopicPartition;
use schemas::verdict::{Disposition, Verdict, VerdictEvent};
use schemas::{Envelope, Mailbox, Timestamp, Topic, UserId, spool};
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, Metrics, arf};

/// Reports to one address in one minute; more are counted in the next one.
const PER_MINUTE: u32 = 60;
const BATCH: usize = 100;
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(
    config: Arc<Config>,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    settings.caught_up().await;
    let mut writer = Writer { config, log, clock, settings, metrics, sent: HashMap::new() };
    loop {
        match writer.follow(&shutdown).await {
            Ok(()) | Err(Error::Log(LogError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "feedback reports lost their place and begin again");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }
}

struct Writer {
    config: Arc<Config>,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    sent: HashMap<Mailbox, Cap>,
}

/// Reports to one address: in this minute, and left out since the last one.
#[derive(Default)]
struct Cap {
    minute: i64,
    sent: u32,
    left_out: u64,
}

impl Cap {
    /// Whether one more may go; if so, how many were left out before it.
    fn allow(&mut self, now: Timestamp) -> Option<u64> {
        let minute = now.0.div_euclid(60_000);
        if self.minute != minute {
            self.minute = minute;
            self.sent = 0;
        }
        if self.sent >= PER_MINUTE {
            self.left_out += 1;
            return None;
        }
        self.sent += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Writer {
    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut consumer = self.log.join("feedback", &self.config.node, &[Topic::Verdicts]).await?;
        loop {
            let polled = tokio::select! {
                () = shutdown.cancelled() => {
                    consumer.leave().await;
                    return Ok(());
                }
                polled = consumer.poll(BATCH, Duration::from_secs(1)) => polled,
            };
            let records = match polled {
                Ok(Polled::Records(records)) => records,
                Ok(_) => continue,
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut next: HashMap<TopicPartition, u64> = HashMap::new();
            let mut outputs = Vec::new();
            for record in records {
                next.insert(record.position.topic_partition(), record.position.offset + 1);
                outputs.extend(self.report(&record).await);
            }
            let next: Vec<_> = next.into_iter().collect();
            while let Err(error) = consumer.commit(outputs.clone(), &next).await {
                if !error.is_transient() {
                    return Err(error.into());
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// The report on a verdict, if it deserves one.
    async fn report(&mut self, record: &Record) -> Option<NewRecord> {
        let event = serde_json::from_slice(record.value.as_deref()?).ok()?;
        let VerdictEvent::Judged(verdict) = event else { return None };
        if verdict.disposition != Disposition::Quarantine
            || !verdict.message.classification.is_abuse()
            || verdict.message.own
        {
            return None;
        }
        let to = self.abuse_address(&verdict)?;
        if self.sent.len() > 10_000 {
            self.sent.clear();
        }
        let Some(left_out) = self.sent.entry(to.clone()).or_default().allow(self.clock.now()) else {
            self.metrics.reports_dropped.inc();
            return None;
        };
        let original = self.original(&verdict).await;
        let (judged, bytes) = arf::build(&arf::Report {
            verdict: &verdict,
            original: &original,
            to: &to,
            from: &self.config.report_from,
            hostname: &self.config.hostname,
            node: &self.config.node,
            left_out,
        });
        self.metrics.reports.inc();
        let value = spool::encode(&judged, &bytes).ok()?;
        Some(NewRecord::new(Topic::Released, UserId::own_mail().0, judged.envelope.id.to_string(), value))
    }

    fn abuse_address(&self, verdict: &Verdict) -> Option<Mailbox> {
        let of_domain = self
            .settings
            .read()
            .domain(&verdict.message.domain)
            .and_then(|domain| domain.abuse_address.clone());
        let to = of_domain.or_else(|| self.config.default_abuse_address.clone());
        if to.is_none() {
            tracing::info!(domain = %verdict.message.domain, "a message was blocked, but there is no abuse address to report it to: set abuse_address");
        }
        to
    }

    /// The message as it was accepted; empty when it is no longer there.
    async fn original(&self, verdict: &Verdict) -> bytes::Bytes {
        let load = async {
            let record = self.log.read(verdict.accepted).await.ok()??;
            let (envelope, inline): (Envelope, _) = spool::decode(&record.value?).ok()?;
            eventlog::bodies::load(self.log.as_ref(), &envelope, inline).await.ok()
        };
        load.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_blocks_is_no_flood_of_reports() {
        let mut cap = Cap::default();
        let now = Timestamp(60_000 * 1000);
        assert_eq!((0..100).filter(|_| cap.allow(now).is_some()).count(), 60);
        assert_eq!(cap.allow(now.plus(Duration::from_secs(60))), Some(40));
        assert_eq!(cap.allow(now.plus(Duration::from_secs(60))), Some(0));
    }
}
