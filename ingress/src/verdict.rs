//! Waiting for the scorer's word: one task follows our partition of `replies` and hands each reply to its session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventlog::{Log, LogError, Tail, TailFrom};
use schemas::reply::Reply;
use schemas::{MessageId, SmtpReply, Topic};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// After this many replies in a row that did not come in time ...
const TIMEOUTS_IN_A_ROW: u32 = 3;
/// ... nobody waits for this long.
const PAUSE: Duration = Duration::from_secs(10);

/// Sessions that wait at a time.
const MAX_WAITING: usize = 10_000;

/// Hands out replies; clones share it.
#[derive(Clone)]
pub struct Verdicts {
    shared: Arc<Shared>,
}

struct Shared {
    partition: u32,
    timeout: Duration,
    waiting: Mutex<HashMap<MessageId, oneshot::Sender<SmtpReply>>>,
    /// The tail was opened.
    open: AtomicBool,
    timeouts: AtomicU32,
    began: Instant,
    paused_until_ms: AtomicI64,
}

/// A place in the list of those who wait; given up when dropped.
pub struct Waiting {
    verdicts: Verdicts,
    id: MessageId,
    reply: oneshot::Receiver<SmtpReply>,
}

impl Verdicts {
    #[must_use]
    pub fn new(partition: u32, timeout: Duration) -> Self {
        Verdicts {
            shared: Arc::new(Shared {
                partition,
                timeout,
                waiting: Mutex::default(),
                open: AtomicBool::new(false),
                timeouts: AtomicU32::new(0),
                began: Instant::now(),
                paused_until_ms: AtomicI64::new(0),
            }),
        }
    }

    /// The partition of `replies` that envelopes name.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.shared.partition
    }

    /// Opens the tail, from its end: call it before the first append.
    ///
    /// # Errors
    /// What the log says.
    pub async fn open(&self, log: &Log) -> Result<Box<dyn Tail>, LogError> {
        let tail = log.tail(Topic::Replies, self.shared.partition, TailFrom::End).await?;
        self.shared.open.store(true, Ordering::Release);
        Ok(tail)
    }

    /// Follows the tail until `shutdown`, opening it first where that could not be done yet. A tail that is opened
    /// only now starts at the end: what came before is missed, so nobody waits until it is open.
    pub async fn follow(self, mut tail: Option<Box<dyn Tail>>, log: Log, shutdown: CancellationToken) {
        loop {
            let followed = tokio::select! {
                () = shutdown.cancelled() => return,
                followed = self.follow_on(&mut tail, &log) => followed,
            };
            match followed {
                Ok(()) => {}
                Err(LogError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "replies cannot be read, sessions answer without a verdict");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
            }
        }
    }

    /// The next records, or the tail where there is none yet.
    async fn follow_on(&self, tail: &mut Option<Box<dyn Tail>>, log: &Log) -> Result<(), LogError> {
        let Some(tail) = tail else {
            *tail = Some(self.open(log).await?);
            return Ok(());
        };
        let records = tail.next(1000).await?;
        records.iter().filter_map(|record| record.value.as_deref()).for_each(|value| self.hand_out(value));
        Ok(())
    }

    fn hand_out(&self, value: &[u8]) {
        let Ok(Reply::Session { message_id, reply }) = serde_json::from_slice(value) else { return };
        let waiting = self.waiting().remove(&message_id);
        if let Some(waiting) = waiting {
            // The session may have gone.
            let _ = waiting.send(reply);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, oneshot::Sender<SmtpReply>>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; call it before the append. None while nobody waits, and when too many do.
    #[must_use]
    pub fn expect(&self, id: MessageId) -> Option<Waiting> {
        let paused = self.now_ms() < self.shared.paused_until_ms.load(Ordering::Relaxed);
        if paused || !self.shared.open.load(Ordering::Acquire) {
            return None;
        }
        let (sender, reply) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MAX_WAITING {
                return None;
            }
            waiting.insert(id, sender);
        }
        Some(Waiting { verdicts: self.clone(), id, reply })
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Waiting {
    /// The reply, or none when it did not come in time.
    pub async fn reply(mut self) -> Option<SmtpReply> {
        let shared = Arc::clone(&self.verdicts.shared);
        if let Ok(Ok(reply)) = tokio::time::timeout(shared.timeout, &mut self.reply).await {
            shared.timeouts.store(0, Ordering::Relaxed);
            return Some(reply);
        }
        if shared.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW {
            shared.timeouts.store(0, Ordering::Relaxed);
            let until = self.verdicts.now_ms() + PAUSE.as_millis() as i64;
            shared.paused_until_ms.store(until, Ordering::Relaxed);
            tracing::warn!("verdicts do not come in time, replies do not wait for them for 10 s");
        }
        None
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.verdicts.waiting().remove(&self.id);
    }
}
