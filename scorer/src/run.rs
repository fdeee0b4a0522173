//! The loop: join, replay what is assigned, then poll, decide, commit, until shut down.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use eventlog::view::Progress;
use eventlog::{Clock, Consumer, Log, LogError, Polled, Record, View};
use schemas::models::ModelsView;
use schemas::settings::SettingsView;
use schemas::topics::TopicPartition;
use schemas::{Timestamp, Topic};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::classifier::Classifier;
use crate::outside::Outside;
use crate::policy::Policies;
use crate::rechecks::Rechecks;
use crate::state::PartitionState;
use crate::{Error, Metrics, learner, replay};

const GROUP: &str = "scorer";
const TOPICS: [Topic; 3] = [Topic::Accepted, Topic::Commands, Topic::Attempts];
/// Time between two looks at what time brings (locks that end, rows that leave).
const TICK: Duration = Duration::from_millis(500);
/// How long a row waits for company before it is committed alone.
const UNPLACED_WAIT: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How this process scores.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node; with a number it makes the stable slot names of the members.
    pub node: String,
    /// Members of the group in this process.
    pub slots: usize,
    /// Records taken up together, at most.
    pub batch: usize,
    /// What scores the content.
    pub classifier: Arc<Classifier>,
    /// Who else is asked.
    pub outside: Arc<Outside>,
}

impl Config {
    /// One member, batches of 256.
    #[must_use]
    pub fn new(node: impl Into<String>, classifier: Arc<Classifier>) -> Self {
        Config { node: node.into(), slots: 1, batch: 256, classifier, outside: Arc::default() }
    }
}

/// Scores until `shutdown`: then the batch under way is finished, and the group is left.
///
/// # Errors
/// When the log is closed under it, or a defect ended a member.
pub async fn run(
    config: Config,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut members = JoinSet::new();
    let models = eventlog::view::models(Arc::clone(&log), shutdown.clone());
    let learner = learner::run(
        format!("{}-learner", config.node),
        config.classifier.model().clone(),
        Arc::clone(&log),
        Arc::clone(&clock),
        shutdown.clone(),
    );
    members.spawn(async { Ok(learner.await?) });
    if let Some(lists) = config.outside.dns_lists.clone() {
        let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
        members.spawn(async move {
            lists.keep_watch(&metrics, &shutdown).await;
            Ok(())
        });
    }
    for slot in 0..config.slots.max(1) {
        let member = Member {
            slot: format!("{}-{slot}", config.node),
            batch: config.batch.max(1),
            trained: Arc::clone(&config.classifier),
            classifier: Arc::clone(&config.classifier),
            outside: Arc::clone(&config.outside),
            models_changes: models.changes(),
            models: models.clone(),
            log: Arc::clone(&log),
            clock: Arc::clone(&clock),
            settings_changes: settings.changes(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            policies: Policies::default(),
            partitions: HashMap::new(),
            attempts_unsaid: 0,
            attempts_left: false,
            next_sweep: Timestamp::default(),
            rechecks: Rechecks::default(),
            left: Vec::new(),
            shutdown: shutdown.clone(),
        };
        members.spawn(member.run());
    }
    while let Some(ended) = members.join_next().await {
        // One that fails takes the others along: half a scorer would look like a whole one.
        if let Err(error) = ended.map_err(Error::from).and_then(|result| result) {
            members.shutdown().await;
            return Err(error);
        }
    }
    Ok(())
}

/// One member of the group.
pub struct Member {
    pub slot: String,
    batch: usize,
    /// As it was trained.
    trained: Arc<Classifier>,
    /// With what was learnt since.
    pub classifier: Arc<Classifier>,
    pub outside: Arc<Outside>,
    models: View<ModelsView>,
    models_changes: watch::Receiver<Progress>,
    pub log: Log,
    pub clock: Arc<dyn Clock>,
    pub settings: View<SettingsView>,
    settings_changes: watch::Receiver<Progress>,
    pub metrics: Metrics,
    pub policies: Policies,
    /// What is owned, by partition number.
    pub partitions: HashMap<u32, PartitionState>,
    /// Records of `attempts` read since a commit said so.
    pub attempts_unsaid: u64,
    /// Some of `attempts` were left for whoever owns their partition.
    pub attempts_left: bool,
    /// When rows that may leave are next looked for.
    pub next_sweep: Timestamp,
    /// Which messages are asked about again next, and when.
    pub rechecks: Rechecks,
    /// Records that were polled and are not taken up yet.
    pub left: Vec<Record>,
    pub shutdown: CancellationToken,
}

impl Member {
    async fn run(mut self) -> Result<(), Error> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            // Judged by settings that are not all there, mail would be blocked or let go wrongly.
            () = self.settings.caught_up() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = self.models.caught_up() => {}
        }
        self.models_changes.mark_changed();
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let joined = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                joined = self.log.join(GROUP, &self.slot, &TOPICS) => joined,
            };
            let end = match joined {
                Ok(consumer) => {
                    pause = FIRST_PAUSE;
                    self.consume(consumer).await
                }
                Err(error) => Err(error),
            };
            self.left.clear();
            self.partitions.clear();
            self.count_partitions();
            match end {
                Ok(()) => return Ok(()),
                Err(_) if shutdown.is_cancelled() => return Ok(()),
                Err(LogError::Closed) => return Err(LogError::Closed.into()),
                Err(LogError::Fenced { detail, .. }) => {
                    self.metrics.fenced.inc();
                    tracing::warn!(slot = self.slot, detail, "another member took over, joining again");
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(slot = self.slot, %error, "the log is not available, joining again");
                }
                // Nothing that a scorer which ends would help; it is told loudly and tried again.
                Err(error) => tracing::error!(slot = self.slot, %error, "scoring fails, joining again"),
            }
            self.pause(&mut pause).await;
        }
        Ok(())
    }

    /// Returns when shut down.
    async fn consume(&mut self, mut consumer: Box<dyn Consumer>) -> Result<(), LogError> {
        let shutdown = self.shutdown.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let wait = if self.has_unplaced() { UNPLACED_WAIT } else { TICK };
            // While records are left, only what is told of the assignment.
            let (most, wait) = if self.left.is_empty() { (self.batch, wait) } else { (0, Duration::ZERO) };
            let polled = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.leave(consumer).await;
                    return Ok(());
                }
                polled = consumer.poll(most, wait) => polled,
            };
            let done = match polled {
                Ok(polled) => self.take(consumer.as_mut(), polled).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => pause = FIRST_PAUSE,
                Err(_) if shutdown.is_cancelled() => return Ok(()),
                Err(error) if error.is_transient() => {
                    self.metrics.commit_failures.inc();
                    tracing::warn!(slot = self.slot, %error, "beginning again from the last commit");
                    self.pause(&mut pause).await;
                    // The fate of a commit may be unknown: only the log says what is true now.
                    self.left.clear();
                    consumer.rewind().await?;
                    let owned = consumer.positions();
                    self.replay(owned.iter().map(|(partition, _)| *partition)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn take(&mut self, consumer: &mut dyn Consumer, polled: Polled) -> Result<(), LogError> {
        match polled {
            Polled::Assigned(partitions) => {
                if std::mem::take(&mut self.attempts_left) {
                    // They may be ours now.
                    self.left.clear();
                    consumer.rewind().await?;
                }
                // Those of a partition that comes anew are polled again.
                self.left.retain(|record| !partitions.contains(&record.position.topic_partition()));
                self.replay(partitions).await
            }
            Polled::Revoked(partitions) => {
                self.left.retain(|record| !partitions.contains(&record.position.topic_partition()));
                for partition in partitions.iter().filter(|p| p.topic != Topic::Attempts) {
                    self.partitions.remove(&partition.partition);
                }
                self.count_partitions();
                Ok(())
            }
            Polled::Records(records) => {
                self.process(consumer, &records).await?;
                self.pass_time(consumer, false).await
            }
            Polled::Nothing if !self.left.is_empty() => {
                let records = std::mem::take(&mut self.left);
                self.process(consumer, &records).await?;
                self.pass_time(consumer, false).await
            }
            Polled::Nothing => self.pass_time(consumer, true).await,
        }
    }

    /// Rebuilds the state of these partitions from the log, before anything there is judged.
    async fn replay(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), LogError> {
        // All topics are assigned the same numbers, one state for all; but for Attempts while members of an earlier version,
        // which do not read it, are in the group (`feedback`).
        let partitions = partitions.into_iter().filter(|p| p.topic != Topic::Attempts);
        let numbers: BTreeSet<u32> = partitions.map(|p| p.partition).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        for number in &numbers {
            self.partitions.remove(number);
        }
        let loaded = replay::load(&self.log, &numbers.into_iter().collect::<Vec<_>>()).await?;
        self.partitions.extend(loaded);
        self.count_partitions();
        Ok(())
    }

    /// What was committed is complete but for the rows that the next commit would place; they are placed now.
    async fn leave(&mut self, mut consumer: Box<dyn Consumer>) {
        if self.has_something_to_say() {
            let batch = self.begin_batch();
            if let Err(error) = self.commit(consumer.as_mut(), batch).await {
                // The next owner places them.
                tracing::warn!(slot = self.slot, %error, "quarantine rows are left for the next owner to place");
            }
        }
        consumer.leave().await;
    }

    pub fn has_unplaced(&self) -> bool {
        self.partitions.values().any(|state| !state.unplaced.is_empty())
    }

    /// Whether there is something that the next commit says and that need not wait for others.
    pub fn has_something_to_say(&self) -> bool {
        self.has_unplaced() || self.partitions.values().any(|state| state.attempts_read.is_some())
    }

    pub fn owned(&self, partition: u32) -> Result<&PartitionState, LogError> {
        self.partitions.get(&partition).ok_or_else(|| not_owned(partition))
    }

    pub fn owned_mut(&mut self, partition: u32) -> Result<&mut PartitionState, LogError> {
        self.partitions.get_mut(&partition).ok_or_else(|| not_owned(partition))
    }

    /// The partition of `replies` that somebody named, if there is such a one: a commit must not fail for it.
    pub fn reply_partition(&self, named: Option<u32>) -> Option<u32> {
        named.filter(|partition| *partition < self.log.partitions(Topic::Replies))
    }

    pub fn forget_policies_of_old_settings(&mut self) {
        // An error means that the view has ended, so nothing changes any more.
        if self.settings_changes.has_changed().unwrap_or(false) {
            self.settings_changes.mark_unchanged();
            self.policies.clear();
        }
    }

    /// Classifies by the newest version from here on.
    pub fn follow_models(&mut self) {
        if !self.models_changes.has_changed().unwrap_or(false) {
            return;
        }
        self.models_changes.mark_unchanged();
        let models = self.models.read();
        let newest = models.newest_of(self.trained.version());
        let newest = newest.and_then(|delta| self.trained.with_delta(delta));
        let classifier = newest.map_or_else(|| Arc::clone(&self.trained), Arc::new);
        if classifier.version() != self.classifier.version() {
            tracing::info!(model.version = classifier.version(), "classifying by another version");
            self.classifier = classifier;
        }
    }

    fn count_partitions(&self) {
        self.metrics.partitions.set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
    }

    async fn pause(&self, pause: &mut Duration) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(*pause) => {}
        }
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }
}

fn not_owned(partition: u32) -> LogError {
    // Rewinding and replaying what is owned puts it right.
    LogError::Unavailable(format!("partition {partition} is not replayed yet"))
}
