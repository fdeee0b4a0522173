//! A feedback report (RFC 5965) on a message that was blocked as abuse: the message of our own that carries it.

pub(crate) mod lines;
mod parts;

use bytes::Bytes;
use schemas::envelope::{BodyType, Origin};
use schemas::own_mail::OwnMail;
use schemas::verdict::{Classification, Judged, Verdict};
use schemas::{Mailbox, MessageId, Timestamp};

/// The original is attached up to this size, in bytes; of a larger one the header section.
pub const MAX_ATTACHED_BYTES: usize = 256 * 1024;

/// What a report is made of.
pub struct Report<'a> {
    pub verdict: &'a Verdict,
    pub original: &'a Original,
    pub to: &'a Mailbox,
    pub from: &'a Mailbox,
    pub hostname: &'a str,
    pub node: &'a str,
    /// Reports to this address that the cap left out since the last one.
    pub left_out: u64,
}

/// What is still there of the message that was blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    Whole(Bytes),
    /// Its beginning: at most its header section is attached.
    Beginning(Bytes),
    /// Its retention is over.
    Gone,
}

/// `true` when no more than the header section may be attached: the rest may be dangerous to whoever opens it.
#[must_use]
pub fn is_dangerous(classification: Classification) -> bool {
    matches!(classification, Classification::Virus | Classification::Phishing)
}

/// The report as a message of our own. The same verdict always gives the same report.
#[must_use]
pub fn build(report: &Report<'_>) -> (Judged, Bytes) {
    let verdict = report.verdict;
    let id = MessageId::derived(&format!("arf/{}", verdict.message.id), verdict.at);
    let bytes = Bytes::from(parts::message(report, id));
    let judged = OwnMail {
        id,
        at: verdict.at,
        node: report.node,
        hostname: report.hostname,
        domain: &verdict.message.domain,
        header_from: Some(report.from.domain().clone()),
        to: report.to,
        subject: parts::subject(verdict),
        origin: Origin::FeedbackReport { message_id: verdict.message.id },
        body_type: if bytes.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        smtputf8: report.to.needs_smtputf8() || report.from.needs_smtputf8(),
        size_bytes: bytes.len(),
    }
    .judged();
    (judged, bytes)
}

/// What reports of one identity share: derived from user and identity.
#[must_use]
pub fn incident(verdict: &Verdict) -> String {
    let event = format!("incident/{}/{}", verdict.message.user, verdict.message.identity);
    let id = MessageId::derived(&event, Timestamp(0)).to_string();
    // The first ten characters are the time, which is none.
    id.chars().skip(10).collect()
}

#[cfg(test)]
mod tests;
