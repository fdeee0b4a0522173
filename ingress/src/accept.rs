//! The durable accept: a message is collected, its excess streamed into `bodies`, and the whole appended to `accepted`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use eventlog::{Log, LogError, NewRecord, bodies};
use schemas::topics::INLINE_BODY_BYTES;
use schemas::{Envelope, MessageId, Position, Topic, spool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::session::MessageProblem;

/// Room is asked for in steps of this many bytes.
const STEP: usize = 64 << 10;

/// A message being received.
pub struct Incoming {
    pub id: MessageId,
    pub buffer: BytesMut,
    chunks: Vec<Position>,
    /// Bytes that left the buffer for `bodies`.
    streamed: u64,
    max_bytes: u64,
    /// What may stand in the record beside the envelope.
    inline_bytes: usize,
    problem: Option<MessageProblem>,
    failure: Option<LogError>,
    room: Option<OwnedSemaphorePermit>,
    all_room: Arc<Semaphore>,
}

impl Incoming {
    #[must_use]
    pub fn new(id: MessageId, max_bytes: u64, envelope_bytes: usize, all_room: Arc<Semaphore>) -> Self {
        Incoming {
            id,
            buffer: BytesMut::new(),
            chunks: Vec::new(),
            streamed: 0,
            max_bytes,
            inline_bytes: INLINE_BODY_BYTES.saturating_sub(envelope_bytes),
            problem: None,
            failure: None,
            room: None,
            all_room,
        }
    }

    /// Bytes received so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.streamed + self.buffer.len() as u64
    }

    /// Called after each piece that was put into `buffer`: checks sizes and streams what is too much for one record.
    pub async fn received(&mut self, log: &Log) {
        if self.problem.is_some() || self.failure.is_some() {
            self.buffer.clear();
            return;
        }
        if self.size_bytes() > self.max_bytes {
            return self.give_up(MessageProblem::TooLarge { max_bytes: self.max_bytes });
        }
        if !self.has_room() {
            return self.give_up(MessageProblem::NoRoom);
        }
        while self.buffer.len() > self.inline_bytes.max(STEP) && self.failure.is_none() {
            let size = self.buffer.len().min(INLINE_BODY_BYTES);
            let chunk = self.buffer.split_to(size).freeze();
            self.append_chunk(log, chunk).await;
        }
    }

    fn give_up(&mut self, problem: MessageProblem) {
        self.problem = Some(problem);
        self.buffer = BytesMut::new();
        self.room = None;
    }

    /// Takes room for the buffer as it is now, if there is any.
    fn has_room(&mut self) -> bool {
        let held = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = self.buffer.len() / STEP + 1;
        if wanted <= held {
            return true;
        }
        let Ok(more) = Arc::clone(&self.all_room).try_acquire_many_owned((wanted - held) as u32) else {
            return false;
        };
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        true
    }

    async fn append_chunk(&mut self, log: &Log, chunk: Bytes) {
        self.streamed += chunk.len() as u64;
        match log.append(vec![bodies::chunk(self.id, self.chunks.len(), chunk)]).await {
            Ok(positions) => self.chunks.extend(positions),
            Err(error) => self.failure = Some(error),
        }
    }

    /// A bare line end was found: the message is read to its end, then refused.
    pub fn found_bare_line_end(&mut self) {
        self.problem.get_or_insert(MessageProblem::BareLineEnd);
    }

    #[must_use]
    pub fn problem(&self) -> Option<MessageProblem> {
        self.problem
    }

    /// Appends the message; when this returns `Ok` it is durable.
    ///
    /// # Errors
    /// What the log says: the client gets 451 and keeps the message.
    pub async fn append(mut self, log: &Log, mut envelope: Envelope) -> Result<Position, LogError> {
        envelope.size_bytes = self.size_bytes();
        let in_chunks = !self.chunks.is_empty() || self.buffer.len() > self.inline_bytes;
        if in_chunks && !self.buffer.is_empty() {
            let rest = self.buffer.split().freeze();
            self.append_chunk(log, rest).await;
        }
        if let Some(error) = self.failure {
            return Err(error);
        }
        envelope.chunks = self.chunks;
        let value = spool::encode(&envelope, &self.buffer)
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        let record = NewRecord::new(Topic::Accepted, envelope.user.0.clone(), envelope.id.to_string(), value);
        let positions = log.append(vec![record]).await?;
        positions.first().copied().ok_or_else(|| LogError::Unavailable("the log gave no position".into()))
    }

    #[must_use]
    pub fn room_of(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes / STEP))
    }
}
