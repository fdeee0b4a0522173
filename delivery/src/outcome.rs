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

/// The status of a DSN (RFC 3464 2.3.4): the reply's own, in the class of the reply's code. A failure may have class 4:
/// what was transient until its time was over.
#[must_use]
pub fn status(reply: &SmtpReply, outcome: Outcome) -> EnhancedCode {
    let class = match (reply.code / 100, outcome) {
        (_, Outcome::Delivered) => 2,
        (_, Outcome::Deferred) | (4, _) => 4,
        _ => 5,
    };
    match reply.enhanced {
        Some(enhanced) => EnhancedCode(class, enhanced.1, enhanced.2),
        None => EnhancedCode(class, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_outcomes_and_statuses() {
        let reply = |code, enhanced: Option<(u8, u16, u16)>| SmtpReply {
            code,
            enhanced: enhanced.map(|(a, b, c)| EnhancedCode(a, b, c)),
            text: String::new(),
        };
        for (code, outcome) in [
            (250, Outcome::Delivered),
            (354, Outcome::Deferred),
            (421, Outcome::Deferred),
            (550, Outcome::Failed),
        ] {
            assert_eq!(of_reply(&reply(code, None)), outcome, "{code}");
        }
        let said = |code, enhanced, outcome| status(&reply(code, enhanced), outcome).to_string();
        assert_eq!(said(550, Some((5, 1, 1)), Outcome::Failed), "5.1.1");
        assert_eq!(said(550, None, Outcome::Failed), "5.0.0");
        assert_eq!(said(451, Some((4, 4, 7)), Outcome::Failed), "4.4.7");
        assert_eq!(said(450, Some((4, 2, 1)), Outcome::Deferred), "4.2.1");
        assert_eq!(said(250, None, Outcome::Delivered), "2.0.0");
    }
}
