//! DATA and BDAT (RFC 3030): when a message may come, and what it is answered with.

use schemas::SmtpReply;

use super::{Action, Session, Transaction, World, reply, say};

/// Why a message that arrived is refused before it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageProblem {
    /// A CR without LF or an LF without CR: how messages are smuggled.
    BareLineEnd,
    TooLarge {
        max_bytes: u64,
    },
    /// Too much mail is being received at once.
    NoRoom,
}

impl MessageProblem {
    #[must_use]
    pub fn reply(self) -> SmtpReply {
        match self {
            MessageProblem::BareLineEnd => reply(
                550,
                (5, 6, 0),
                "The message has a bare CR or LF: lines end with CR LF (RFC 5321 2.3.8)",
            ),
            MessageProblem::TooLarge { max_bytes } => {
                reply(552, (5, 3, 4), format!("The message is larger than {max_bytes} bytes"))
            }
            MessageProblem::NoRoom => reply(452, (4, 3, 1), "Too much mail at once, try again"),
        }
    }

    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            MessageProblem::BareLineEnd => "bare_line_end",
            MessageProblem::TooLarge { .. } => "size",
            MessageProblem::NoRoom => "no_room",
        }
    }
}

impl Session {
    pub(super) fn data(&mut self, world: &World<'_>) -> Vec<Action> {
        match self.before_message(world) {
            Ok(()) => vec![
                Action::Reply(SmtpReply { code: 354, enhanced: None, text: "End with CR LF . CR LF".into() }),
                Action::ReceiveMessage,
            ],
            Err(refusal) => refusal,
        }
    }

    pub(super) fn bdat(&mut self, size: u64, last: bool, world: &World<'_>) -> Vec<Action> {
        match self.before_message(world) {
            Ok(()) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.in_chunks = true;
                }
                vec![Action::ReceiveChunk { size, last }]
            }
            // The octets come whatever we say (RFC 3030 2).
            Err(refusal) => std::iter::once(Action::DiscardChunk { size }).chain(refusal).collect(),
        }
    }

    fn before_message(&mut self, world: &World<'_>) -> Result<(), Vec<Action>> {
        let Some(transaction) = &self.transaction else {
            return Err(self.error(reply(503, (5, 5, 1), "MAIL first")));
        };
        if transaction.recipients.is_empty() {
            return Err(self.error(reply(554, (5, 5, 1), "No valid recipients")));
        }
        if let Some(why) = world.not_accepting {
            self.transaction = None;
            return Err(self.refuse_for_now("log_unavailable", reply(451, (4, 3, 0), why)));
        }
        Ok(())
    }

    /// A chunk that is not the last has been taken.
    #[must_use]
    pub fn chunk_done(&self, size: u64) -> Vec<Action> {
        say(reply(250, (2, 0, 0), format!("{size} octets received")))
    }

    /// The transaction of the message under way.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    /// The message has been dealt with; `answer` is what the client is told.
    pub fn message_done(&mut self, answer: SmtpReply) -> Vec<Action> {
        self.transaction = None;
        self.commands = 0;
        say(answer)
    }

    /// The message was refused before it reached the log.
    pub fn message_refused(&mut self, problem: MessageProblem) -> Vec<Action> {
        self.transaction = None;
        self.refused = Some((problem.code(), problem.reply()));
        say(problem.reply())
    }
}
