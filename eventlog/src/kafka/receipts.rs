//! Delivery reports: where the brokers put each record, or why not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientContext, error::KafkaResult};
use tokio::sync::Notify;

use super::notices;

/// The reports of the records of one append or one commit.
pub(super) struct Receipts {
    state: Mutex<State>,
    complete: Notify,
}

struct State {
    offsets: Vec<u64>,
    missing: usize,
    failed: Option<KafkaError>,
}

impl Receipts {
    pub(super) fn of(count: usize) -> Arc<Self> {
        let state = State { offsets: vec![0; count], missing: count, failed: None };
        Arc::new(Receipts { state: Mutex::new(state), complete: Notify::new() })
    }

    /// Goes with the record of that number.
    pub(super) fn ticket(self: &Arc<Self>, number: usize) -> Box<Ticket> {
        Box::new(Ticket { receipts: Arc::clone(self), number })
    }

    /// The offsets in the order of the tickets, once every report is there.
    pub(super) fn offsets(&self) -> Option<KafkaResult<Vec<u64>>> {
        let state = self.state();
        if state.missing > 0 {
            return None;
        }
        Some(state.failed.clone().map_or_else(|| Ok(state.offsets.clone()), Err))
    }

    /// Resolves when every report is there. For one waiter.
    pub(super) async fn complete(&self) -> KafkaResult<Vec<u64>> {
        loop {
            if let Some(offsets) = self.offsets() {
                return offsets;
            }
            self.complete.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, number: usize, offset: KafkaResult<u64>) {
        let mut state = self.state();
        match offset {
            Ok(offset) => state.offsets[number] = offset,
            Err(error) => state.failed = Some(error),
        }
        state.missing = state.missing.saturating_sub(1);
        if state.missing == 0 {
            self.complete.notify_one();
        }
    }
}

/// Travels through librdkafka with a record and comes back with its report.
pub(super) struct Ticket {
    receipts: Arc<Receipts>,
    number: usize,
}

impl Ticket {
    /// The record was never taken.
    pub(super) fn refused(&self, error: KafkaError) {
        self.receipts.report(self.number, Err(error));
    }
}

/// Hands each report to the receipts it belongs to.
pub(super) struct Reporting;

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        notices::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        notices::failed(&error, reason);
    }
}

impl ProducerContext for Reporting {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let offset = match result {
            Ok(message) => Ok(u64::try_from(message.offset()).unwrap_or(0)),
            Err((error, _)) => Err(error.clone()),
        };
        ticket.receipts.report(ticket.number, offset);
    }
}
