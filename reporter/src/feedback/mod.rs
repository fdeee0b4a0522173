//! What the abuse desk is told: a feedback report for every message blocked as abuse, a notice for every automatic lock, to
//! the domain's abuse address, committed with the offset.

mod cap;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{Clock, Consumer, Log, LogError, NewRecord, Polled, Record, View};
use schemas::senders::BlockedMessage;
use schemas::settings::SettingsView;
use schemas::topics::TopicPartition;
use schemas::verdict::{BY_POLICY, Disposition, Identity, Judged, Verdict, VerdictEvent};
use schemas::{Domain, Envelope, Mailbox, Timestamp, Topic, UserId, spool};
use tokio_util::sync::CancellationToken;

use crate::arf::{self, Original};
use crate::patience::Patience;
use crate::{Config, Error, Metrics, notice};
use cap::{Caps, Counted};

/// Verdicts of a batch.
const BATCH: usize = 200;
/// How long verdicts that nobody is told about may wait to be passed over; after a crash they are looked at again.
const PASS_OVER_EVERY: Duration = Duration::from_secs(1);
/// Reports that are written in one step, in bytes.
const STEP_BYTES: usize = 4 * 1024 * 1024;

pub(crate) async fn run(
    config: Arc<Config>,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    // The abuse addresses stand there.
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = settings.caught_up() => {}
    }
    let (passed, written_at) = (HashMap::new(), Instant::now());
    let (caps, notice_caps) = (Caps::default(), Caps::default());
    let mut writer = Writer { config, log, clock, settings, metrics, caps, notice_caps, passed, written_at };
    let mut patience = Patience::new();
    loop {
        match writer.follow(&mut patience, &shutdown).await {
            Ok(()) | Err(Error::Log(LogError::Closed)) => return,
            Err(error) => tracing::warn!(%error, "feedback reports lost their place and begin again"),
        }
        if !patience.pause_unless(&shutdown).await {
            return;
        }
    }
}

struct Writer {
    config: Arc<Config>,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    caps: Caps,
    /// A flood of reports must not take the place of notices: an automatic lock is told of once.
    notice_caps: Caps,
    /// Offsets behind what was looked at since the last commit.
    passed: HashMap<TopicPartition, u64>,
    written_at: Instant,
}

/// What is written in one step.
#[derive(Default)]
struct Step {
    reports: Vec<NewRecord>,
    bytes: usize,
    counted: Counted,
    notices: Counted,
}

impl Step {
    fn dropped(&self) -> u64 {
        self.counted.dropped + self.notices.dropped
    }
}

impl Writer {
    /// As a member of the group, until `shutdown` or an error. After an error the fate of the last commit is unknown:
    /// joining again begins at what was committed, so that a report is written once.
    async fn follow(&mut self, patience: &mut Patience, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut consumer = self.log.join("feedback", &self.config.node, &[Topic::Verdicts]).await?;
        self.passed.clear();
        loop {
            let polled = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    consumer.leave().await;
                    return Ok(());
                }
                polled = consumer.poll(BATCH, Duration::from_secs(1)) => polled?,
            };
            match polled {
                Polled::Records(records) => self.take(&records, &mut *consumer).await?,
                Polled::Nothing if !self.passed.is_empty() => {
                    self.write(Step::default(), &mut *consumer).await?;
                }
                // Whoever has them now looks at them again.
                Polled::Revoked(lost) => self.passed.retain(|of, _| !lost.contains(of)),
                Polled::Assigned(_) | Polled::Nothing => {}
            }
            patience.it_worked();
        }
    }

    async fn take(&mut self, records: &[Record], consumer: &mut dyn Consumer) -> Result<(), Error> {
        let mut step = Step::default();
        for record in records {
            if let Some(report) = self.report(record, &mut step).await? {
                step.bytes += report.value.as_ref().map_or(0, bytes::Bytes::len);
                step.reports.push(report);
            }
            self.passed.insert(record.position.topic_partition(), record.position.offset + 1);
            if step.bytes >= STEP_BYTES {
                self.write(std::mem::take(&mut step), consumer).await?;
            }
        }
        // Verdicts that nobody is told about are passed over together: each commit costs an fsync that mail waits behind.
        let wrote_nothing =
            step.reports.is_empty() && step.dropped() == 0 && self.written_at.elapsed() < PASS_OVER_EVERY;
        if wrote_nothing { Ok(()) } else { self.write(step, consumer).await }
    }

    async fn write(&mut self, step: Step, consumer: &mut dyn Consumer) -> Result<(), Error> {
        self.written_at = Instant::now();
        let next: Vec<_> = self.passed.drain().collect();
        let dropped = step.dropped();
        consumer.commit(step.reports, &next).await?;
        self.metrics.reports.inc_by(step.counted.sent + step.notices.sent);
        self.metrics.reports_dropped.inc_by(dropped);
        self.caps.take(step.counted, self.clock.now());
        self.notice_caps.take(step.notices, self.clock.now());
        Ok(())
    }

    /// The mail about an event, if anybody is to be told.
    async fn report(&self, record: &Record, step: &mut Step) -> Result<Option<NewRecord>, Error> {
        let built = match told(record) {
            Some(Told::Abuse(verdict)) => self.feedback_report(&verdict, &mut step.counted).await?,
            Some(Told::Lock { user, domain, identity, at, reason, evidence }) => {
                let lock = notice::Lock {
                    user: &user,
                    domain: &domain,
                    identity: identity.as_ref(),
                    at,
                    reason: &reason,
                    evidence: &evidence,
                };
                self.lock_notice(&lock, &mut step.notices)
            }
            None => None,
        };
        let Some((judged, message)) = built else { return Ok(None) };
        let id = judged.envelope.id.to_string();
        let report = match spool::encode(&judged, &message) {
            Ok(value) => NewRecord::new(Topic::Released, UserId::own_mail().0, id, value),
            Err(error) => {
                tracing::error!(position = %record.position, %error, "a report cannot be written");
                return Ok(None);
            }
        };
        // The bounds of envelope and evidence keep it far below; a record that never fits must not stop the others.
        if let Err(error) = report.check_size() {
            tracing::error!(position = %record.position, %error, "a report is left out");
            return Ok(None);
        }
        Ok(Some(report))
    }

    async fn feedback_report(
        &self,
        verdict: &Verdict,
        counted: &mut Counted,
    ) -> Result<Option<(Judged, bytes::Bytes)>, Error> {
        let Some(to) = self.abuse_address(&verdict.message.domain) else { return Ok(None) };
        let Some(left_out) = self.caps.allow(counted, &to, self.clock.now()) else { return Ok(None) };
        let original = self.original(verdict).await?;
        Ok(Some(arf::build(&arf::Report {
            verdict,
            original: &original,
            to: &to,
            from: &self.config.report_from,
            hostname: &self.config.hostname,
            node: &self.config.node,
            left_out,
        })))
    }

    fn lock_notice(&self, lock: &notice::Lock<'_>, counted: &mut Counted) -> Option<(Judged, bytes::Bytes)> {
        let wanted = {
            let settings = self.settings.read();
            settings.user(lock.user).is_none_or(|user| settings.effective(user).automatic_lock.notice)
        };
        let to = wanted.then(|| self.abuse_address(lock.domain)).flatten()?;
        let Some(left_out) = self.notice_caps.allow(counted, &to, self.clock.now()) else {
            tracing::warn!(user = %lock.user, "a lock notice is over the cap of its address, the next one counts it");
            return None;
        };
        let letter = notice::Letter {
            to: &to,
            from: &self.config.report_from,
            hostname: &self.config.hostname,
            node: &self.config.node,
            links: self.config.unlock_links.as_ref(),
            left_out,
        };
        Some(notice::build(lock, &letter))
    }

    fn abuse_address(&self, domain: &Domain) -> Option<Mailbox> {
        let of_domain = self.settings.read().domain(domain).and_then(|domain| domain.abuse_address.clone());
        let to = of_domain.or_else(|| self.config.default_abuse_address.clone());
        if to.is_none() {
            tracing::info!(%domain, "there is no abuse address to report to: set abuse_address");
        }
        to
    }

    /// As much of the message as a report may carry.
    ///
    /// # Errors
    /// When the log cannot be read now.
    async fn original(&self, verdict: &Verdict) -> Result<Original, Error> {
        let Some(value) = self.value_at(verdict.accepted).await? else { return Ok(Original::Gone) };
        match spool::decode::<Envelope>(&value) {
            Ok((envelope, inline)) if envelope.id == verdict.message.id => {
                let Some(first) = envelope.chunks.first() else { return Ok(Original::Whole(inline)) };
                // What stands in chunks is larger than what is attached: its header section is in the first.
                Ok(self.value_at(*first).await?.map_or(Original::Gone, Original::Beginning))
            }
            // Not this message: the log was restored from a backup.
            Ok(_) => Ok(Original::Gone),
            Err(error) => {
                tracing::error!(position = %verdict.accepted, %error, "a blocked message cannot be read back for its report");
                Ok(Original::Gone)
            }
        }
    }

    async fn value_at(&self, position: schemas::Position) -> Result<Option<bytes::Bytes>, Error> {
        match self.log.read(position).await {
            Ok(record) => Ok(record.and_then(|record| record.value)),
            Err(error @ (LogError::Damaged { .. } | LogError::NoSuchPartition { .. })) => {
                tracing::error!(%position, %error, "a blocked message cannot be read back for its report");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What somebody is told about.
enum Told {
    Abuse(Box<Verdict>),
    Lock {
        user: UserId,
        domain: Domain,
        identity: Option<Identity>,
        at: Timestamp,
        reason: String,
        evidence: Vec<BlockedMessage>,
    },
}

/// Only spam, phishing and virus that was blocked deserves a report, and only a lock that nobody set by hand a notice.
fn told(record: &Record) -> Option<Told> {
    let event = match serde_json::from_slice(record.value.as_deref()?) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(position = %record.position, %error, "a verdict does not parse, it is passed over");
            return None;
        }
    };
    match event {
        VerdictEvent::Judged(verdict) => {
            let is_blocked = verdict.disposition == Disposition::Quarantine;
            let is_told = is_blocked && verdict.message.classification.is_abuse() && !verdict.message.own;
            is_told.then(|| Told::Abuse(Box::new(verdict)))
        }
        VerdictEvent::Lock { user, domain, identity, locked: true, by, at, reason, evidence }
            if by == BY_POLICY =>
        {
            Some(Told::Lock { user, domain, identity, at, reason, evidence })
        }
        _ => None,
    }
}
