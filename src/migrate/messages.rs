//! Messages that rows point to, with the chunks they point to themselves: written anew, and their new places noted.

use eventlog::{Log, Record};
use schemas::{Position, Topic};

use super::moved::Moved;
use super::places::Places;
use super::target::Writer;
use super::{carry, carry::Unreadable};

/// Messages on their way: some are read, then their chunks are written, then they.
pub(super) struct Messages<'a> {
    source: &'a Log,
    target: &'a Log,
    pub(super) places: Places,
}

impl<'a> Messages<'a> {
    pub(super) fn new(source: &'a Log, target: &'a Log) -> Self {
        Messages { source, target, places: Places::default() }
    }

    /// Moves what stands at these positions, each once. In `released` they become copies that a queue entry owns.
    pub(super) async fn bring(
        &mut self,
        mut positions: Vec<Position>,
        moved: &mut Moved,
    ) -> anyhow::Result<()> {
        positions.sort_unstable();
        positions.dedup();
        positions.retain(|position| !self.places.has(*position));
        let mut writer = Writer::new(self.target);
        let mut written: Vec<Position> = Vec::new();
        let mut asked: Vec<Position> = Vec::new();
        for position in positions {
            let Some(record) = self.source.read(position).await? else {
                moved.gone(position);
                continue;
            };
            self.bring_chunks(&record, moved).await?;
            let carried = match position.topic {
                Topic::Accepted => carry::accepted(&record, &self.places),
                topic => carry::judged(&record, &self.places, topic == Topic::Released),
            };
            match carried {
                Ok(new) => {
                    asked.push(position);
                    written.extend(writer.put(new).await?);
                    moved.message(position.topic);
                }
                Err(error) => moved.unreadable(&record, &error),
            }
        }
        written.extend(writer.write().await?);
        for (from, to) in asked.into_iter().zip(written) {
            self.places.put(from, to);
        }
        Ok(())
    }

    /// The chunks of a message, each once, before the message that names them.
    pub(super) async fn bring_chunks(&mut self, record: &Record, moved: &mut Moved) -> anyhow::Result<()> {
        let chunks = match carry::chunks(record) {
            Ok(chunks) => chunks,
            // Said when the message itself is carried.
            Err(Unreadable { .. }) => return Ok(()),
        };
        for position in chunks {
            if self.places.has(position) {
                continue;
            }
            let Some(chunk) = self.source.read(position).await? else {
                moved.gone(position);
                continue;
            };
            let to = self.target.append(vec![carry::chunk(&chunk)]).await?;
            to.first().into_iter().for_each(|to| self.places.put(position, *to));
            moved.chunks += 1;
        }
        Ok(())
    }
}
