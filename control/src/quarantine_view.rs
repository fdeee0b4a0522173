//! What was quarantined within the last 28 days, folded from `quarantine`.

use std::collections::BTreeMap;

use eventlog::{Log, Record, View};
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::{MessageId, Topic};
use tokio_util::sync::CancellationToken;

use crate::api::QuarantineSelect;

/// Evidence kept per symbol; the whole of it stands in the message's record, in characters.
const MAX_EVIDENCE: usize = 200;

/// Every row, by message id, which sorts by time.
#[derive(Debug, Default)]
pub struct QuarantineView {
    rows: BTreeMap<MessageId, QuarantineRow>,
    /// How many of them are in quarantine.
    held: u64,
}

/// Follows the quarantine.
#[must_use]
pub fn follow(log: Log, shutdown: CancellationToken) -> View<QuarantineView> {
    View::follow(log, Topic::Quarantine, QuarantineView::default(), QuarantineView::take, shutdown)
}

impl QuarantineView {
    fn take(&mut self, record: &Record) {
        let before = match &record.value {
            Some(value) => match serde_json::from_slice::<QuarantineRow>(value) {
                Ok(mut row) => {
                    for symbol in &mut row.symbols {
                        cut(&mut symbol.evidence);
                    }
                    self.held += u64::from(row.state == QuarantineState::In);
                    self.rows.insert(row.message.id, row)
                }
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a quarantine row does not parse, it is passed over");
                    None
                }
            },
            None => id_of(&record.key).and_then(|id| self.rows.remove(&id)),
        };
        self.held -= u64::from(before.is_some_and(|row| row.state == QuarantineState::In));
    }

    /// How many messages are in quarantine now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    #[must_use]
    pub fn get(&self, id: MessageId) -> Option<&QuarantineRow> {
        self.rows.get(&id)
    }

    /// Rows in one of `states` (none: in any) that are selected, newest first.
    pub fn selected<'a>(
        &'a self,
        select: &'a QuarantineSelect,
        state: Option<QuarantineState>,
    ) -> impl Iterator<Item = &'a QuarantineRow> {
        self.rows
            .values()
            .rev()
            .filter(move |row| state.is_none_or(|state| row.state == state) && selects(select, row))
    }
}

/// The id at the end of a record key.
fn id_of(key: &[u8]) -> Option<MessageId> {
    let id = key.rsplit(|byte| *byte == 0).next()?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MAX_EVIDENCE) {
        text.truncate(at);
        text.push('…');
    }
}

fn selects(select: &QuarantineSelect, row: &QuarantineRow) -> bool {
    let message = &row.message;
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    is(&select.user, message.user.as_str())
        && is(&select.identity, &message.identity.0)
        && is(&select.domain, message.domain.as_str())
        && is(&select.classification, message.classification.code())
        && select.reverse_path.as_ref().is_none_or(|path| {
            let path = if path == "<>" { "" } else { path };
            path == message.reverse_path.to_string()
        })
        && select.recipient.as_ref().is_none_or(|path| {
            row.recipients.iter().any(|recipient| recipient.to_string().eq_ignore_ascii_case(path))
        })
        && select.since.is_none_or(|since| row.since >= since)
        && select.before.is_none_or(|before| row.since < before)
}
