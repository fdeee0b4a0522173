//! Appending without a commit: one idempotent producer for the whole process.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::producer::{Producer as _, ThreadedProducer};
use schemas::Position;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clients::{Clients, MESSAGE_TIMEOUT};
use super::failure::unavailable;
use super::outgoing::{Outgoing, positions};
use super::receipts::{Receipts, Reporting};
use crate::LogError;

/// Bytes that may wait for the brokers, in units of `ROOM_UNIT`: 128 MiB.
const ROOM: u32 = 128 * 1024;
const ROOM_UNIT: usize = 1024;
/// librdkafka gives every record up after `MESSAGE_TIMEOUT`; this much later it must have said so.
const REPORT_WITHIN: Duration = Duration::from_secs(15);

type Native = ThreadedProducer<Reporting>;

pub(super) struct Producer {
    clients: Clients,
    native: RwLock<Arc<Native>>,
    room: Arc<Semaphore>,
}

impl Producer {
    pub(super) fn new(clients: &Clients) -> Result<Self, LogError> {
        Ok(Producer {
            native: RwLock::new(Arc::new(create(clients)?)),
            clients: clients.clone(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
        })
    }

    pub(super) fn native(&self) -> Arc<Native> {
        Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when all in-sync copies have every record.
    pub(super) async fn append(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, LogError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let _room = self.room_for(&records).await?;
        let native = self.native();
        let receipts = Receipts::of(records.len());
        for (number, record) in records.iter().enumerate() {
            if let Err((error, refused)) = native.send(record.as_record(receipts.ticket(number))) {
                refused.delivery_opaque.refused(error);
            }
        }
        match tokio::time::timeout(REPORT_WITHIN, receipts.complete()).await {
            Ok(Ok(offsets)) => Ok(positions(&records, &offsets)),
            Ok(Err(error)) => {
                self.replace_if_broken(&native);
                Err(unavailable("an append failed, it may still show up", &error))
            }
            Err(_) => Err(LogError::Unavailable(format!(
                "the brokers said nothing of an append for {} s",
                REPORT_WITHIN.as_secs()
            ))),
        }
    }

    async fn room_for(&self, records: &[Outgoing]) -> Result<OwnedSemaphorePermit, LogError> {
        let units: usize = records.iter().map(|record| 1 + record.bytes() / ROOM_UNIT).sum();
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(ROOM);
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        match tokio::time::timeout(MESSAGE_TIMEOUT, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(LogError::Closed),
            Err(_) => Err(LogError::Unavailable("too much waits for the brokers already".into())),
        }
    }

    /// After a fatal error a producer refuses everything; the next one starts afresh.
    fn replace_if_broken(&self, broken: &Arc<Native>) {
        let Some((code, reason)) = broken.client().fatal_error() else { return };
        let mut native = self.native.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&native, broken) {
            return;
        }
        match create(&self.clients) {
            Ok(fresh) => {
                tracing::warn!(%code, %reason, "kafka producer replaced after a fatal error");
                *native = Arc::new(fresh);
            }
            Err(error) => tracing::error!(%error, "kafka producer cannot be replaced"),
        }
    }

    /// Takes no more; what was given to it is still written, for as long as a record may take.
    pub(super) async fn close(&self) {
        self.room.close();
        let native = self.native();
        // Fails only when the thread panicked; there is nothing left to flush then.
        let _ = tokio::task::spawn_blocking(move || native.flush(MESSAGE_TIMEOUT)).await;
    }
}

fn create(clients: &Clients) -> Result<Native, LogError> {
    clients
        .producer()
        .create_with_context(Reporting)
        .map_err(|error| unavailable("the producer cannot be made", &error))
}
