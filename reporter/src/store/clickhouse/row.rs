//! A row of `outcomes`, and its bytes in RowBinary.

use schemas::Topic;

use crate::rows::{Change, Standing};

/// The columns that are written, in the order of `encode`.
pub(super) const COLUMNS: &str = "message_id, recipient, event_id, topic, log_partition, log_offset, batch, at, \
     accepted_at, outcome, finality, forward_path, destination, domain, user, identity, reverse_path, from_domain, \
     classification, size_bytes, header_message_id, client_queue_id, subject, own, tried, reply, remote, egress, \
     d_messages, d_recipients, d_quarantined, d_delivered, d_failed, d_removed, d_deferrals";

/// What one event says of one recipient, and what it moves in the sums.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row<'a> {
    pub change: &'a Change,
    pub recipient: u32,
    /// None: the event moved no recipient, it is only entered.
    pub outcome: Option<Standing>,
    pub forward_path: String,
    pub destination: String,
    pub identity: String,
    pub reverse_path: String,
    /// Its address was erased: nothing that may repeat it is written.
    pub is_erased: bool,
    pub tried: bool,
    pub reply: &'a str,
    pub remote: &'a str,
    pub egress: &'a str,
    pub moves: Moves,
}

/// What is added to the sums of the row's hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub messages: i8,
    pub recipients: i8,
    pub quarantined: i8,
    pub delivered: i8,
    pub failed: i8,
    pub removed: i8,
    pub deferrals: i8,
}

impl Moves {
    pub(super) fn step(&mut self, before: Option<Standing>, after: Standing) {
        if before == Some(after) {
            return;
        }
        for (standing, by) in before.map(|before| (before, -1)).into_iter().chain([(after, 1)]) {
            match standing {
                Standing::Quarantined => self.quarantined += by,
                Standing::Queued => {}
                Standing::Delivered => self.delivered += by,
                Standing::Failed => self.failed += by,
                Standing::Removed => self.removed += by,
            }
        }
    }
}

/// Numbers of the enum `outcome` in the schema.
fn outcome_number(outcome: Option<Standing>) -> i8 {
    match outcome {
        None => 0,
        Some(Standing::Quarantined) => 1,
        Some(Standing::Queued) => 2,
        Some(Standing::Delivered) => 3,
        Some(Standing::Failed) => 4,
        Some(Standing::Removed) => 5,
    }
}

impl Row<'_> {
    /// Outcomes of attempts go before verdicts, verdicts before deferrals.
    fn finality(&self) -> u8 {
        let is_finished = self.outcome.is_some_and(Standing::is_finished);
        match (self.change.position.topic, is_finished) {
            (Topic::Verdicts, _) => 1,
            (_, true) => 2,
            (_, false) => 0,
        }
    }

    pub(super) fn encode(&self, batch: &str, out: &mut Vec<u8>) {
        let (message, position) = (&self.change.message, self.change.position);
        let unless_erased =
            |text: Option<&str>| if self.is_erased { "" } else { text.unwrap_or_default() }.to_owned();
        text(out, &message.id.to_string());
        out.extend(self.recipient.to_le_bytes());
        text(out, &self.change.event_id);
        out.push(if position.topic == Topic::Verdicts { 1 } else { 2 });
        out.extend(position.partition.to_le_bytes());
        out.extend(position.offset.to_le_bytes());
        text(out, batch);
        out.extend(self.change.at.0.to_le_bytes());
        out.extend(message.accepted_at.0.to_le_bytes());
        out.extend(outcome_number(self.outcome).to_le_bytes());
        out.push(self.finality());
        for value in [&self.forward_path, &self.destination, message.domain.as_str(), message.user.as_str()] {
            text(out, value);
        }
        text(out, &self.identity);
        text(out, &self.reverse_path);
        text(out, message.header_from.as_ref().map(schemas::Domain::as_str).unwrap_or_default());
        text(out, message.classification.code());
        out.extend(message.size_bytes.to_le_bytes());
        text(out, message.header_message_id.as_deref().unwrap_or_default());
        text(out, message.client_queue_id.as_deref().unwrap_or_default());
        text(out, &unless_erased(message.subject.as_deref()));
        out.extend([u8::from(message.own), u8::from(self.tried)]);
        text(out, &unless_erased(Some(self.reply)));
        text(out, self.remote);
        text(out, self.egress);
        let m = &self.moves;
        let moves = [m.messages, m.recipients, m.quarantined, m.delivered, m.failed, m.removed, m.deferrals];
        out.extend(moves.map(i8::cast_unsigned));
    }
}

/// Length in LEB128, then the bytes.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        let mut out = Vec::new();
        text(&mut out, &"x".repeat(300));
        assert_eq!((out.len(), &out[..3]), (302, &[0xac, 0x02, b'x'][..]));
    }

    #[test]
    fn a_move_leaves_one_sum_for_another() {
        let mut moves = Moves::default();
        moves.step(Some(Standing::Quarantined), Standing::Removed);
        assert_eq!(moves, Moves { quarantined: -1, removed: 1, ..Moves::default() });
        moves.step(Some(Standing::Removed), Standing::Removed);
        assert_eq!(moves.removed, 1);
    }
}
