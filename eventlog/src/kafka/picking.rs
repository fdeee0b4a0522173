//! Single records by their position: a few readers that wait for work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::Position;
use tokio::sync::Semaphore;

use super::clients::Clients;
use super::failure::unavailable;
use super::incoming;
use super::notices::Notices;
use super::offsets::{self, ANSWER_WITHIN, at};
use super::shared::Shared;
use crate::{LogError, Record};

/// Reads at the same time; others wait.
const READERS: usize = 4;
const LOOK: Duration = Duration::from_millis(5);
const POLL: Duration = Duration::from_millis(50);

type Reader = BaseConsumer<Notices>;

pub(super) struct Pickers {
    clients: Clients,
    turns: Semaphore,
    idle: Mutex<Vec<Reader>>,
}

impl Pickers {
    pub(super) fn new(clients: &Clients) -> Self {
        Pickers { clients: clients.clone(), turns: Semaphore::new(READERS), idle: Mutex::default() }
    }

    fn reader(&self) -> Result<Reader, LogError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(reader) => Ok(reader),
            None => self
                .clients
                .picker()
                .create_with_context(Notices::default())
                .map_err(|error| unavailable("a reader cannot be made", &error)),
        }
    }

    fn give_back(&self, reader: Reader) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    pub(super) fn close(&self) {
        self.turns.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The record at a position. What a commit wrote that is being finished is waited for.
pub(super) async fn pick(shared: &Arc<Shared>, position: Position) -> Result<Option<Record>, LogError> {
    let _turn = shared.pickers.turns.acquire().await.map_err(|_| LogError::Closed)?;
    if !decided(shared, position).await? {
        return Ok(None);
    }
    shared
        .blocking(move |shared| {
            let reader = shared.pickers.reader()?;
            let picked = pick_with(shared, &reader, position);
            if picked.is_ok() && reader.unassign().is_ok() {
                shared.pickers.give_back(reader);
            }
            picked
        })
        .await
}

/// Waits until what stands at the position can be read, or never will; false when nothing was written there yet.
async fn decided(shared: &Arc<Shared>, position: Position) -> Result<bool, LogError> {
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let of = position.topic_partition();
    loop {
        let (end, stable_end) = shared
            .blocking(move |shared| {
                let stable_end = shared.bounds.stable_ends(&[of])?;
                Ok((shared.bounds.ends(&[of])?[&of], stable_end[&of]))
            })
            .await?;
        if position.offset >= end {
            return Ok(false);
        }
        if position.offset < stable_end {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(LogError::Unavailable(format!("what stands at {position} is not decided yet")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// All is decided up to beyond the position, so the first thing that is met tells.
fn pick_with(shared: &Shared, reader: &Reader, position: Position) -> Result<Option<Record>, LogError> {
    let of = position.topic_partition();
    let failed = |error: KafkaError| unavailable("a record cannot be read", &error);
    reader.assign(&offsets::list(&shared.names, &[of], |_| at(position.offset))?).map_err(failed)?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    while Instant::now() < deadline {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                let record = incoming::record(&shared.names, &message);
                if let Some(record) = record.filter(|record| record.position.topic_partition() == of) {
                    return Ok((record.position == position).then_some(record));
                }
            }
            Some(Err(
                KafkaError::PartitionEOF(_)
                | KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ),
            )) => return Ok(None),
            // librdkafka tries again.
            Some(Err(_)) | None => {}
        }
    }
    Err(LogError::Unavailable(format!("nothing was heard of the record at {position}")))
}
