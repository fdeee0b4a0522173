//! What crosses a boundary: the records of every topic, the settings, the replies. Pure: no I/O, no clock.
//!
//! The modules stand in the order in which a message meets them.
//!
//! Rules for everything here: events are JSON with an internal tag; a field added later has a default; an enum has an
//! arm for the variant a newer version wrote; every shape ever written stays in `golden/` and must still parse.

pub mod topics;
pub mod unlock_link;

pub mod address;
pub mod attempt;
pub mod commands;
pub mod envelope;
pub mod history;
pub mod ids;
pub mod limits;
pub mod migration;
pub mod models;
pub mod outcomes;
pub mod own_mail;
pub mod plan;
pub mod quarantine;
pub mod queue;
pub mod reply;
pub mod sealed;
pub mod senders;
pub mod session;
pub mod settings;
pub mod spool;
pub mod verdict;

pub use address::{Domain, Mailbox, ReversePath};
pub use envelope::Envelope;
pub use ids::{MessageId, Timestamp, UserId};
pub use reply::{EnhancedCode, SmtpReply};
pub use topics::{Position, Topic};
