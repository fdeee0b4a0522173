//! From the changes of one topic partition to rows. Pure: it depends on these changes and on what the same topic said of
//! their messages before them, never on the other topic. So the same stretch of the log gives the same rows whenever it
//! is taken, which is what lets an insert be repeated.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemas::Topic;

use super::row::{Moves, Row};
use crate::rows::{Change, RecipientChange, Standing};

/// What stands in place of an address that was erased.
pub(super) const ERASED: &str = "erased";

/// A row that stands in the table already, of a message that the changes concern.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    pub message_id: String,
    pub event_id: String,
    /// Of the topic that is folded; rows of the other one tell only what was erased.
    pub same_topic: bool,
    pub recipient: u32,
    /// None for an event that moved no recipient.
    pub outcome: Option<Standing>,
    /// Time and offset: which of two rows is the later one.
    pub order: (i64, u64),
    pub forward_path: String,
    pub destination: String,
    pub identity: String,
    pub reverse_path: String,
}

#[derive(Default)]
struct Message {
    events: HashSet<String>,
    recipients: BTreeMap<u32, Recipient>,
}

/// What is known of a recipient from this topic.
#[derive(Default)]
struct Recipient {
    order: (i64, u64),
    standing: Option<Standing>,
    forward_path: String,
    destination: String,
    identity: String,
    reverse_path: String,
}

#[derive(Default)]
pub(super) struct Fold {
    messages: HashMap<String, Message>,
}

impl Fold {
    pub(super) fn after(earlier: Vec<Earlier>, topic: Topic) -> Self {
        let mut fold = Fold::default();
        for row in earlier {
            fold.know(row, topic);
        }
        fold
    }

    fn know(&mut self, row: Earlier, topic: Topic) {
        let message = self.messages.entry(row.message_id).or_default();
        let Some(outcome) = row.outcome else {
            message.events.insert(row.event_id);
            return;
        };
        let known = message.recipients.entry(row.recipient).or_default();
        // An erased address stays erased in whatever is written later.
        for (known, told) in [
            (&mut known.forward_path, row.forward_path),
            (&mut known.destination, row.destination),
            (&mut known.identity, row.identity),
            (&mut known.reverse_path, row.reverse_path),
        ] {
            if *known != ERASED {
                *known = told;
            }
        }
        if !row.same_topic {
            return;
        }
        message.events.insert(row.event_id);
        // Deferrals leave an outcome as it is.
        let counts = topic == Topic::Verdicts || outcome.is_finished();
        if counts && (known.standing.is_none() || row.order >= known.order) {
            (known.standing, known.order) = (Some(outcome), row.order);
        }
    }

    /// The rows of a change; none when its event is known.
    pub(super) fn rows<'a>(&mut self, change: &'a Change, out: &mut Vec<Row<'a>>) {
        let message = self.messages.entry(change.message.id.to_string()).or_default();
        if !message.events.insert(change.event_id.clone()) {
            return;
        }
        let before = out.len();
        if let Some(standing) = change.whole_message {
            let held =
                message.recipients.iter_mut().filter(|(_, r)| r.standing == Some(Standing::Quarantined));
            out.extend(held.map(|(index, recipient)| moved(change, *index, recipient, standing)));
        }
        for told in &change.recipients {
            let recipient = message.recipients.entry(told.recipient).or_default();
            out.push(row(change, told, recipient));
        }
        if out.len() == before {
            out.push(entered(change));
        }
    }
}

/// A recipient in quarantine, when its message is released or removed.
fn moved<'a>(change: &'a Change, index: u32, recipient: &mut Recipient, standing: Standing) -> Row<'a> {
    let mut moves = Moves::default();
    moves.step(recipient.standing, standing);
    recipient.standing = Some(standing);
    Row {
        recipient: index,
        outcome: Some(standing),
        forward_path: recipient.forward_path.clone(),
        destination: recipient.destination.clone(),
        identity: recipient.identity.clone(),
        reverse_path: recipient.reverse_path.clone(),
        is_erased: recipient.is_erased(),
        moves,
        ..entered(change)
    }
}

fn row<'a>(change: &'a Change, told: &'a RecipientChange, recipient: &mut Recipient) -> Row<'a> {
    let mut moves = Moves { deferrals: i8::from(told.deferred), ..Moves::default() };
    let is_first = told.is_verdict && recipient.standing.is_none();
    moves.recipients = i8::from(is_first);
    moves.messages = i8::from(is_first && told.recipient == 0);
    if told.is_verdict || told.standing.is_finished() {
        let after = told.standing_after(recipient.standing);
        moves.step(recipient.standing, after);
        recipient.standing = Some(after);
    }
    recipient.learn(change, told);
    Row {
        recipient: told.recipient,
        outcome: Some(told.standing),
        forward_path: recipient.forward_path.clone(),
        destination: recipient.destination.clone(),
        identity: recipient.identity.clone(),
        reverse_path: recipient.reverse_path.clone(),
        is_erased: recipient.is_erased(),
        tried: told.tried,
        reply: told.reply.as_deref().unwrap_or_default(),
        remote: told.remote.as_deref().unwrap_or_default(),
        egress: told.egress.as_deref().unwrap_or_default(),
        moves,
        ..entered(change)
    }
}

/// The row of an event that moves no recipient.
fn entered(change: &Change) -> Row<'_> {
    Row {
        change,
        recipient: 0,
        outcome: None,
        forward_path: String::new(),
        destination: String::new(),
        identity: String::new(),
        reverse_path: String::new(),
        is_erased: true,
        tried: false,
        reply: "",
        remote: "",
        egress: "",
        moves: Moves::default(),
    }
}

impl Recipient {
    fn learn(&mut self, change: &Change, told: &RecipientChange) {
        let message = &change.message;
        for (known, told) in [
            (&mut self.forward_path, told.forward_path.to_string()),
            (&mut self.destination, told.forward_path.domain().to_string()),
            (&mut self.identity, message.identity.0.clone()),
            (&mut self.reverse_path, message.reverse_path.to_string()),
        ] {
            if *known != ERASED {
                *known = told;
            }
        }
    }

    fn is_erased(&self) -> bool {
        [&self.forward_path, &self.identity, &self.reverse_path].into_iter().any(|text| text == ERASED)
    }
}
