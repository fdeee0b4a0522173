//! The mark that a migration leaves on the log it writes, so that nobody works on half of one.

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
