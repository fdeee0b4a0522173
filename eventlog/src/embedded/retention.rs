//! Epochs: cut by age, dropped whole when their time is over; tombstones of compacted topics removed after a day.

use std::sync::Arc;
use std::time::Duration;

use fjall::{Database, Keyspace};
use schemas::topics::Retention;
use schemas::{Timestamp, Topic};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::store::{
    Epoch, Shared, Store, end_key, offset_of, read_epochs as epochs_now, record_options, small_options,
    unavailable,
};
use super::writer::{Request, Writer};
use super::{codec, locked};
use crate::LogError;

/// A partition has at most two more epochs than this at a time.
const EPOCHS: u32 = 6;
/// How long a tombstone stays, for readers that are behind.
const TOMBSTONE_STAYS: Duration = Duration::from_secs(24 * 3600);

/// Looks at retention from time to time, until stopped.
pub(super) fn start(shared: Arc<Shared>, writer: Writer, stop: CancellationToken) {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(shared.config.retention_interval) => {}
            }
            match enforce(&writer).await {
                Ok(()) => {}
                Err(LogError::Closed) => return,
                Err(error) => tracing::warn!(%error, "retention could not be enforced"),
            }
        }
    });
}

pub(super) async fn enforce(writer: &Writer) -> Result<(), LogError> {
    let (done, enforced) = oneshot::channel();
    writer.send(Request::EnforceRetention { done }).await?;
    enforced.await.map_err(|_| LogError::Closed)?
}

fn epoch_key(topic: Topic, partition: u32, number: u64) -> String {
    format!("epoch\0{topic}\0{partition}\0{number:016x}")
}

fn keyspace_name(topic: Topic, partition: u32, number: u64) -> String {
    format!("r-{topic}-{partition}-{number}")
}

/// The epochs of a partition, oldest first.
pub(super) fn read_epochs(
    db: &Database,
    meta: &Keyspace,
    topic: Topic,
    partition: u32,
) -> Result<Vec<Epoch>, LogError> {
    let mut epochs = Vec::new();
    for guard in meta.prefix(format!("epoch\0{topic}\0{partition}\0")) {
        let (key, value) = guard.into_inner().map_err(unavailable)?;
        let number = key
            .rsplit(|b| *b == 0)
            .next()
            .and_then(|hex| u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (Some(number), Some(base), Some(created)) = (number, value.get(..8), value.get(8..16)) else {
            return Err(unavailable("an epoch in the store cannot be read"));
        };
        epochs.push(Epoch {
            number,
            base_offset: offset_of(base)?,
            created_at: Timestamp(offset_of(created)?.cast_signed()),
            keyspace: open_epoch(db, topic, partition, number)?,
        });
    }
    Ok(epochs)
}

fn open_epoch(db: &Database, topic: Topic, partition: u32, number: u64) -> Result<Keyspace, LogError> {
    let small =
        matches!(topic, Topic::Replies | Topic::Settings | Topic::Changes | Topic::Models | Topic::Plans);
    let options = || if small { small_options() } else { record_options() };
    db.keyspace(&keyspace_name(topic, partition, number), options).map_err(unavailable)
}

/// The epoch that a record with `offset` written `now` belongs to; cut anew when the last one is old enough.
pub(super) fn current_epoch(
    store: &Store,
    batch: &mut fjall::OwnedWriteBatch,
    topic: Topic,
    number: u32,
    offset: u64,
    now: Timestamp,
) -> Result<Epoch, LogError> {
    let partition = store.partition(topic, number)?;
    if let Some(last) = epochs_now(partition).last()
        && !is_full(topic, last, now)
    {
        return Ok(last.clone());
    }
    let mut epochs = partition.epochs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let epoch_number = epochs.last().map_or(0, |last| last.number + 1);
    let epoch = Epoch {
        number: epoch_number,
        base_offset: offset,
        created_at: now,
        keyspace: open_epoch(&store.db, topic, number, epoch_number)?,
    };
    let mut value = epoch.base_offset.to_be_bytes().to_vec();
    value.extend_from_slice(&now.0.to_be_bytes());
    batch.insert(&store.meta, epoch_key(topic, number, epoch_number), value);
    epochs.push(epoch.clone());
    Ok(epoch)
}

fn is_full(topic: Topic, epoch: &Epoch, now: Timestamp) -> bool {
    match topic.retention() {
        Retention::Compacted => false,
        Retention::Time(kept) => now.since(epoch.created_at) >= kept / EPOCHS,
    }
}

/// Drops what is past its retention. Runs on the writer thread.
pub(super) fn drop_old(store: &Store, now: Timestamp) -> Result<(), LogError> {
    for topic in Topic::ALL {
        let mut number = 0;
        while store.partition(topic, number).is_ok() {
            match topic.retention() {
                Retention::Time(kept) => drop_epochs(store, topic, number, now.minus(kept))?,
                Retention::Compacted => drop_tombstones(store, topic, number, now.minus(TOMBSTONE_STAYS))?,
            }
            number += 1;
        }
    }
    Ok(())
}

/// Drops the epochs whose every record was written before `limit` and has been committed by every group that ever
/// committed anything of the partition.
fn drop_epochs(store: &Store, topic: Topic, number: u32, limit: Timestamp) -> Result<(), LogError> {
    let partition = store.partition(topic, number)?;
    let end = partition.end();
    let done = locked(&store.committed)
        .iter()
        .filter(|((_, t, p), _)| *t == topic && *p == number)
        .map(|(_, offset)| *offset)
        .min()
        .unwrap_or(u64::MAX);
    let droppable = |epochs: &[Epoch]| match epochs {
        [first, second, ..] => {
            (second.created_at < limit && second.base_offset <= done).then(|| first.clone())
        }
        _ => None,
    };
    if let [only] = &epochs_now(partition)[..]
        && newest_in(only, topic, number)?.is_some_and(|newest| newest < limit)
        && end <= done
    {
        // An idle partition: everything in it is old. The new, empty epoch keeps the end.
        let mut batch = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
        let mut value = end.to_be_bytes().to_vec();
        value.extend_from_slice(&limit.0.to_be_bytes());
        let epoch_number = only.number + 1;
        batch.insert(&store.meta, epoch_key(topic, number, epoch_number), value);
        let epoch = Epoch {
            number: epoch_number,
            base_offset: end,
            created_at: limit.minus(Duration::from_millis(1)),
            keyspace: open_epoch(&store.db, topic, number, epoch_number)?,
        };
        batch.commit().map_err(unavailable)?;
        cut(partition, epoch);
    }
    loop {
        let Some(old) = droppable(&epochs_now(partition)) else { return Ok(()) };
        let mut batch = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
        batch.remove(&store.meta, epoch_key(topic, number, old.number));
        batch.commit().map_err(unavailable)?;
        let base = {
            let mut epochs = partition.epochs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            epochs.remove(0);
            epochs.first().map_or(end, |epoch| epoch.base_offset)
        };
        partition.forget_below(base);
        tracing::debug!(%topic, partition = number, epoch = old.number, "retention is over, epoch dropped");
        store.db.delete_keyspace(old.keyspace).map_err(unavailable)?;
    }
}

fn cut(partition: &super::store::Partition, epoch: Epoch) {
    partition.epochs.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(epoch);
}

fn newest_in(epoch: &Epoch, topic: Topic, partition: u32) -> Result<Option<Timestamp>, LogError> {
    let Some(last) = epoch.keyspace.last_key_value() else { return Ok(None) };
    let (key, stored) = last.into_inner().map_err(unavailable)?;
    let position = schemas::Position { topic, partition, offset: offset_of(&key)? };
    Ok(Some(codec::decode(position, &stored.into())?.appended_at))
}

fn drop_tombstones(store: &Store, topic: Topic, number: u32, limit: Timestamp) -> Result<(), LogError> {
    let partition = store.partition(topic, number)?;
    let Some(epoch) = epochs_now(partition).first().cloned() else { return Ok(()) };
    let Some(index) = partition.index.as_ref().and_then(|index| locked(index).clone()) else { return Ok(()) };
    let mut batch = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
    for guard in epoch.keyspace.iter() {
        let (key, stored) = guard.into_inner().map_err(unavailable)?;
        let position = schemas::Position { topic, partition: number, offset: offset_of(&key)? };
        let record = codec::decode(position, &stored.into())?;
        if record.appended_at >= limit {
            break; // in the order of writing
        }
        if record.value.is_none() {
            batch.remove(&epoch.keyspace, position.offset.to_be_bytes());
            batch.remove(&index, record.key);
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    batch.insert(&store.meta, end_key(topic, number), partition.end().to_be_bytes());
    batch.commit().map_err(unavailable)
}
