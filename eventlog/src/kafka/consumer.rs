//! A member of a group, as its worker holds it: `assignment` says what it owns, `transactions` commits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use schemas::topics::TopicPartition;
use schemas::{Position, Topic};
use tokio::sync::Notify;

use super::assignment::{Change, Membership, give_up};
use super::failure::{fenced, unavailable};
use super::offsets::{self, Offsets, at};
use super::outgoing::checked;
use super::shared::Shared;
use super::transactions::{Commit, Transactions};
use super::{incoming, leaving};
use crate::{Consumer, LogError, NewRecord, Polled, Record};

/// Most bytes one poll returns.
const MAX_POLL_BYTES: usize = 8 * 1024 * 1024;
/// librdkafka tells when its queue gets its first entry; this often it is looked at all the same, because an entry that
/// was no record hides those behind it.
const LOOK: Duration = Duration::from_millis(50);

/// What a member has given out when the group asks its partitions back may be committed for so long.
const FINISH_WITHIN: Duration = Duration::from_millis(500);
/// How long a member waits for itself, on its way out of the same process.
const SELF_GONE_WITHIN: Duration = Duration::from_secs(5);

pub(super) type Native = BaseConsumer<Membership>;

pub(super) struct KafkaConsumer {
    shared: Arc<Shared>,
    group: String,
    /// What it is known as on the cluster.
    name: String,
    topics: Vec<Topic>,
    /// Nothing was given to it yet.
    is_new: bool,
    /// Present until it leaves or is dropped.
    native: Option<Arc<Native>>,
    arrived: Arc<Notify>,
    transactions: Transactions,
    /// Each partition with the offset of its last commit.
    owned: BTreeMap<TopicPartition, u64>,
    /// What the group knew this member as when it gave it what it owns.
    member: Option<Arc<ConsumerGroupMetadata>>,
    /// The offset after the last record given out of each partition, since it was assigned or rewound.
    given: Offsets,
    /// Fetched and not given yet.
    fetched: VecDeque<Record>,
    /// No more records are fetched.
    paused: bool,
    /// To be told before anything else.
    untold: VecDeque<Polled>,
    /// The fate of the last commit is not known.
    unsettled: bool,
    fenced: Option<String>,
}

impl KafkaConsumer {
    pub(super) async fn join(
        shared: Arc<Shared>,
        group: &str,
        slot: &str,
        topics: &[Topic],
    ) -> Result<Self, LogError> {
        let name = shared.names.transactional_id(group, slot);
        shared.departures.gone(&name, SELF_GONE_WITHIN).await;
        let transactions = Transactions::start(shared.clients.transactional(group, slot), group)?;
        // First, so that whoever had the slot can commit nothing from here on.
        transactions.renew().await?;
        let mut native: Native = shared
            .clients
            .member(group, slot)
            .create_with_context(Membership::new(shared.names.clone()))
            .map_err(|error| unavailable("the member cannot be made", &error))?;
        let arrived = Arc::new(Notify::new());
        let wake = Arc::clone(&arrived);
        native.set_nonempty_callback(move || wake.notify_one());
        subscribe(&shared, &native, topics)?;
        Ok(KafkaConsumer {
            shared,
            name,
            group: group.to_owned(),
            topics: topics.to_vec(),
            is_new: true,
            native: Some(Arc::new(native)),
            arrived,
            transactions,
            owned: BTreeMap::new(),
            member: None,
            given: Offsets::new(),
            fetched: VecDeque::new(),
            paused: false,
            untold: VecDeque::new(),
            unsettled: false,
            fenced: None,
        })
    }

    fn native(&self) -> Result<&Arc<Native>, LogError> {
        self.shared.up()?;
        if let Some(detail) = &self.fenced {
            return Err(fenced(&self.group, detail.clone()));
        }
        self.native.as_ref().ok_or(LogError::Closed)
    }

    /// Takes what librdkafka has, without waiting, until `max` records are there or something else comes first.
    fn take_in(&mut self, max: usize) -> Result<(), LogError> {
        let native = Arc::clone(self.native()?);
        let mut bytes = 0;
        let mut silent = 0;
        // One entry that was no record looks like none at all, so "none" counts when it comes twice.
        while silent < 2 && self.fetched.len() < max && bytes < MAX_POLL_BYTES {
            // What comes behind a decision of the group depends on it.
            if native.context().next().is_some() {
                return Ok(());
            }
            match native.poll(Duration::ZERO) {
                None => silent += 1,
                Some(Ok(message)) => {
                    silent = 0;
                    let record = incoming::record(&self.shared.names, &message);
                    if let Some(record) =
                        record.filter(|r| self.owned.contains_key(&r.position.topic_partition()))
                    {
                        bytes += incoming::bytes(&record);
                        self.fetched.push_back(record);
                    }
                }
                Some(Err(error)) => self.failed(&native, &error)?,
            }
        }
        Ok(())
    }

    /// librdkafka goes on by itself after most errors.
    fn failed(&mut self, native: &Native, error: &KafkaError) -> Result<(), LogError> {
        if let Some((_, reason)) = native.client().fatal_error() {
            return Err(self.now_fenced(reason));
        }
        match error {
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => Err(unavailable("the group cannot be followed", error)),
            _ => {
                tracing::debug!(group = self.group, %error, "the member goes on after an error");
                Ok(())
            }
        }
    }

    fn now_fenced(&mut self, detail: String) -> LogError {
        self.fenced = Some(detail.clone());
        fenced(&self.group, detail)
    }

    /// Deals with what the group decided, and notes what has to be told.
    async fn follow_changes(&mut self) -> Result<(), LogError> {
        loop {
            let native = Arc::clone(self.native()?);
            let Some(change) = native.context().next() else { return Ok(()) };
            match change {
                // What was given out already is worked on: another would do all of it again.
                Change::AskedBack { since } if self.is_at_work() && since.elapsed() < FINISH_WITHIN => {
                    self.fetched.clear();
                    return Ok(());
                }
                Change::AskedBack { .. } | Change::Lost => {
                    if change != Change::Lost {
                        give_up(&native);
                    }
                    self.fetched.clear();
                    self.given.clear();
                    self.member = None;
                    let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_keys().collect();
                    if !lost.is_empty() {
                        self.untold.push_back(Polled::Revoked(lost));
                    }
                }
                Change::Given(given) => {
                    let is_new = std::mem::replace(&mut self.is_new, false);
                    if is_new && !given.iter().any(|of| self.topics.contains(&of.topic)) {
                        self.ask_again(&native)?;
                        native.context().dealt_with();
                        continue;
                    }
                    let given: Vec<TopicPartition> =
                        given.into_iter().filter(|of| self.topics.contains(&of.topic)).collect();
                    let committed = self.committed(&given).await?;
                    self.begin_at(&native, &committed)?;
                    self.member = native.group_metadata().map(Arc::new);
                    self.owned = committed;
                    self.given.clear();
                    if !given.is_empty() {
                        self.untold.push_back(Polled::Assigned(given));
                    }
                }
            }
            native.context().dealt_with();
        }
    }

    /// Who comes back under a stable name soon after it left (`leaving`) is given what it had last, which is nothing: the
    /// brokers compare no subscriptions then. One that differs has the group share out anew.
    fn ask_again(&self, native: &Native) -> Result<(), LogError> {
        let nothing = TopicPartitionList::new();
        native.assign(&nothing).map_err(|error| unavailable("the group cannot be joined", &error))?;
        let more: Vec<Topic> = self.topics.iter().copied().chain(leaving::elsewhere(&self.topics)).collect();
        subscribe(&self.shared, native, &more)
    }

    /// What the group has committed. Stable: a commit of whoever had the partitions before has happened or not.
    async fn committed(&self, of: &[TopicPartition]) -> Result<Offsets, LogError> {
        let (native, of) = (Arc::clone(self.native()?), of.to_vec());
        self.shared.blocking(move |shared| shared.bounds.committed(&*native, &of)).await
    }

    fn begin_at(&mut self, native: &Native, offsets: &Offsets) -> Result<(), LogError> {
        let of: Vec<TopicPartition> = offsets.keys().copied().collect();
        let list = offsets::list(&self.shared.names, &of, |of| at(offsets[of]))?;
        native.assign(&list).map_err(|error| unavailable("partitions cannot be fetched", &error))?;
        // A pause outlives the assignment in which it was asked for.
        native.resume(&list).map_err(|error| unavailable("partitions cannot be fetched", &error))?;
        self.paused = false;
        Ok(())
    }

    /// Has librdkafka give no records for a while, or again.
    fn pause(&mut self, pause: bool) -> Result<(), LogError> {
        if pause == self.paused {
            return Ok(());
        }
        let native = Arc::clone(self.native()?);
        let of: Vec<TopicPartition> = self.owned.keys().copied().collect();
        let list = offsets::list(&self.shared.names, &of, |_| Offset::Invalid)?;
        let done = if pause { native.pause(&list) } else { native.resume(&list) };
        done.map_err(|error| unavailable("fetching cannot be paused", &error))?;
        self.paused = pause;
        Ok(())
    }

    async fn poll_once(&mut self, max: usize) -> Result<Option<Polled>, LogError> {
        self.pause(max == 0)?;
        if self.untold.is_empty() && (max == 0 || self.fetched.is_empty()) {
            // librdkafka tells of changes where it gives records, so it is asked for some even if none are wanted.
            self.take_in(max.max(self.fetched.len() + 1))?;
        }
        self.follow_changes().await?;
        if let Some(change) = self.untold.pop_front() {
            return Ok(Some(change));
        }
        let count = self.fetched.len().min(max);
        if count == 0 {
            return Ok(None);
        }
        let records: Vec<Record> = self.fetched.drain(..count).collect();
        for record in &records {
            self.given.insert(record.position.topic_partition(), record.position.offset + 1);
        }
        Ok(Some(Polled::Records(records)))
    }

    /// Whether something was given out that is not committed.
    fn is_at_work(&self) -> bool {
        self.given.iter().any(|(of, next)| self.owned.get(of).is_some_and(|committed| committed < next))
    }

    /// What goes along with a commit: what the caller says, or where everything owned stands.
    fn offsets_for(&self, next: &[(TopicPartition, u64)]) -> Result<Offsets, LogError> {
        if next.is_empty() {
            return Ok(self.owned.clone());
        }
        for (of, _) in next {
            if !self.owned.contains_key(of) {
                let detail = format!("{} partition {} is not its own", of.topic, of.partition);
                return Err(fenced(&self.group, detail));
            }
        }
        Ok(next.iter().copied().collect())
    }
}

fn subscribe(shared: &Shared, native: &Native, topics: &[Topic]) -> Result<(), LogError> {
    let names: Vec<String> = topics.iter().map(|topic| shared.names.topic(*topic)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    native.subscribe(&names).map_err(|error| unavailable("the group cannot be joined", &error))
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, max: usize, max_wait: Duration) -> Result<Polled, LogError> {
        let deadline = tokio::time::Instant::now() + max_wait;
        loop {
            if let Some(polled) = self.poll_once(max).await? {
                return Ok(polled);
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Ok(Polled::Nothing);
            }
            let until = deadline.min(now + LOOK);
            tokio::select! {
                () = self.shared.closed.cancelled() => {}
                _ = tokio::time::timeout_at(until, self.arrived.notified()) => {}
            }
        }
    }

    async fn commit(
        &mut self,
        outputs: Vec<NewRecord>,
        next: &[(TopicPartition, u64)],
    ) -> Result<Vec<Position>, LogError> {
        self.native()?;
        let outputs = checked(&self.shared.config, &self.shared.names, outputs)?;
        if self.unsettled {
            return Err(LogError::Unavailable("the last commit is not settled yet, rewind first".into()));
        }
        if outputs.is_empty() && next.is_empty() {
            return Ok(Vec::new());
        }
        let offsets = self.offsets_for(next)?;
        let of: Vec<TopicPartition> = offsets.keys().copied().collect();
        let commit = Commit {
            outputs,
            offsets: offsets::list(&self.shared.names, &of, |of| at(offsets[of]))?,
            member: self.member.clone(),
        };
        // Also when this call is cancelled: nobody knows then what became of it.
        self.unsettled = true;
        match self.transactions.commit(commit).await {
            Ok(positions) => {
                self.unsettled = false;
                self.shared.health.written();
                self.owned.extend(offsets);
                Ok(positions)
            }
            Err(LogError::Fenced { detail, .. }) => Err(self.now_fenced(detail)),
            Err(error) => Err(error),
        }
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        self.owned.iter().map(|(of, committed)| (*of, *committed)).collect()
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        self.native()?;
        // What the group decided meanwhile is heard first: only what is still owned is fetched again.
        self.fetched.clear();
        self.take_in(1)?;
        self.follow_changes().await?;
        self.fetched.clear();
        if self.unsettled {
            self.transactions.renew().await?;
            self.unsettled = false;
        }
        if self.owned.is_empty() {
            return Ok(());
        }
        let of: Vec<TopicPartition> = self.owned.keys().copied().collect();
        let committed = self.committed(&of).await?;
        let native = Arc::clone(self.native()?);
        self.begin_at(&native, &committed)?;
        self.owned = committed;
        self.given.clear();
        Ok(())
    }

    async fn leave(mut self: Box<Self>) {
        if let Some(native) = self.native.take() {
            let elsewhere = leaving::elsewhere(&self.topics).map(|topic| self.shared.names.topic(topic));
            self.shared.departures.start(&self.name, move || leaving::leave(&native, elsewhere));
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        if let Some(native) = self.native.take() {
            self.shared.departures.start(&self.name, move || leaving::go(&native));
        }
    }
}
