//! What a reply means for a recipient.

use schemas::attempt::Outcome;
use schemas::{EnhancedCode, SmtpReply};

/// A reply of ours, in place of a remote one.
#[must_use]
pub fn local(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> SmtpReply {
    SmtpReply::new(code, EnhancedCode(enhanced.0, enhanced.1, enhanced.2), text)
}

/// 2yz is delivered, 5yz failed; anything else is tried again.
#[must_use]
pub fn of_reply(reply: &SmtpReply) -> Outcome {
    match reply.code {
        200..=299 => Outcome::Delivered,
        500..=599 => Outcome::Failed,
        _ => Outcome::Deferred,
    }
}

/// The status of a DSN (RFC 3464 2.3.4): the reply's own, else the class of its code.
#[must_use]
pub fn status(reply: &SmtpReply, outcome: Outcome) -> EnhancedCode {
    let class = match outcome {
        Outcome::Delivered => 2,
        Outcome::Deferred => 4,
        _ => 5,
    };
    match reply.enhanced {
        Some(enhanced) => EnhancedCode(class, enhanced.1, enhanced.2),
        None => EnhancedCode(class, 0, 0),
    }
}
