//! The marks that a migration leaves: on the log it writes, so that nobody works on half of one, and beside the log it read,
//! so that nobody goes on with it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use eventlog::{Log, NewRecord, TableEvent};
use schemas::migration::{KEY, Migration, MigrationState};
use schemas::{Timestamp, Topic};

/// The mark as it stands.
///
/// # Errors
/// When the log cannot be read, or the mark does not parse.
pub(super) async fn read(log: &Log) -> anyhow::Result<Option<Migration>> {
    let mut found = None;
    let mut table = log.table(Topic::Plans, None).await?;
    loop {
        for event in table.next(1000).await? {
            match event {
                TableEvent::CaughtUp => return Ok(found),
                TableEvent::Row(record) if record.key == KEY => {
                    found = record.value.as_deref().map(serde_json::from_slice).transpose()?;
                }
                TableEvent::Row(_) => {}
            }
        }
    }
}

pub(super) async fn write(log: &Log, node: &str, state: MigrationState, at: Timestamp) -> anyhow::Result<()> {
    let value = serde_json::to_vec(&Migration { node: node.to_owned(), state, at })?;
    log.append(vec![NewRecord::new(Topic::Plans, KEY, KEY, value)]).await?;
    Ok(())
}

/// In the directory of an embedded log that was moved.
const MOVED: &str = "moved-to-kafka";

/// Notes in the directory of the old log that it was moved, durably. Nothing else changes there.
pub(super) fn leave_behind(directory: &Path, to: &str, at: Timestamp) -> anyhow::Result<()> {
    let note = directory.join(MOVED);
    let write = || {
        let mut file = File::create(&note)?;
        writeln!(file, "{}, to {to}", at.rfc3339())?;
        file.sync_all()?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| {
        format!(
            "everything was moved, but {} cannot be written, so the old log could go on: put this right and give the \
             same command again",
            note.display()
        )
    })
}

/// # Errors
/// When the embedded log in this directory was moved elsewhere.
pub fn check_directory(directory: &Path) -> anyhow::Result<()> {
    let note = directory.join(MOVED);
    let Ok(text) = std::fs::read_to_string(&note) else { return Ok(()) };
    anyhow::bail!(
        "the log in {} was moved ({}), and what is in its queue would leave twice: start the node with the configuration for \
         Kafka. If that log is gone and this one shall go on, remove {}",
        directory.display(),
        text.trim(),
        note.display()
    )
}

/// # Errors
/// When a migration to this log was begun and is not finished.
pub async fn check(log: &Log) -> anyhow::Result<()> {
    match read(log).await? {
        Some(Migration { node, state: MigrationState::Begun, at }) => anyhow::bail!(
            "a migration of node {node} to this log was begun at {} and is not finished: give `mailweir migrate` again, \
             with the same --from and --to; it begins anew",
            at.rfc3339()
        ),
        _ => Ok(()),
    }
}
