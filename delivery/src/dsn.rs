//! Delivery status notifications (RFC 3464) in their envelope of RFC 6522, honouring NOTIFY, RET, ENVID and ORCPT
//! (RFC 3461). Internationalised addresses stand in them in the ASCII form of RFC 6533, which every server takes.

use bytes::Bytes;
use schemas::attempt::{Attempt, Outcome, RecipientResult};
use schemas::envelope::{Notify, Origin, Ret};
use schemas::own_mail::OwnMail;
use schemas::verdict::{Classification, Judged};
use schemas::{Mailbox, MessageId, Timestamp};

use crate::{header, outcome};

/// Returned in full only up to this size, in bytes, whatever RET says.
const MAX_RETURNED_BYTES: usize = 100 * 1024;

/// What a DSN says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Delayed,
    /// Delivered to a server that does not promise to report (RFC 3461 5.2.2).
    Relayed,
}

impl Kind {
    fn action(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Delayed => "delayed",
            Kind::Relayed => "relayed",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Kind::Failed => "Undelivered: your message could not be delivered",
            Kind::Delayed => "Delayed: your message has not been delivered yet",
            Kind::Relayed => "Relayed: your message was passed on",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Kind::Failed => {
                "Your message could not be delivered to the recipients below. It will not be tried again."
            }
            Kind::Delayed => {
                "Your message has not been delivered to the recipients below yet. It is still being tried; you need not send it again."
            }
            Kind::Relayed => {
                "Your message was passed on to servers that do not report on delivery. You will hear no more of it unless they bounce it."
            }
        }
    }
}

/// The recipients of an attempt that its sender is to be told about, if the sender is to be told at all.
#[must_use]
pub fn recipients<'a>(
    kind: Kind,
    judged: &Judged,
    attempt: &'a Attempt,
    peer_reports: bool,
) -> Vec<&'a RecipientResult> {
    let envelope = &judged.envelope;
    // Never a DSN for a DSN, nor for mail of our own, nor backscatter for what was judged to be spam.
    if envelope.reverse_path.is_null() || envelope.origin.is_some() || is_abuse(judged) {
        return Vec::new();
    }
    let wants = |result: &&RecipientResult| {
        let recipient = envelope.recipients.get(result.index as usize);
        let notify = recipient.and_then(|recipient| recipient.notify);
        match kind {
            Kind::Failed => result.outcome == Outcome::Failed && notify.is_none_or(|n: Notify| n.failure),
            Kind::Delayed => result.outcome == Outcome::Deferred && notify.is_none_or(|n| n.delay),
            Kind::Relayed => {
                result.outcome == Outcome::Delivered && !peer_reports && notify.is_some_and(|n| n.success)
            }
        }
    };
    attempt.recipients.iter().filter(wants).collect()
}

/// Whether its reverse-path is not to be believed: it was judged to be spam or worse, and no person said otherwise.
fn is_abuse(judged: &Judged) -> bool {
    let message = &judged.message;
    let classification = match message.classification {
        // Before it was written down what for, it may have been anything.
        Classification::ObserveOnly => message.observed_as.unwrap_or(Classification::Spam),
        other => other,
    };
    judged.released_by.is_none()
        && (classification.is_abuse() || classification == Classification::ForwardedSpam)
}

/// Recipients of one DSN: what fits into a record, with their replies. More recipients, more DSNs.
pub const MAX_RECIPIENTS: usize = 250;

/// What goes into a DSN.
pub struct Report<'a> {
    pub kind: Kind,
    /// Counted from 0, when an attempt has more recipients than a DSN takes.
    pub part: usize,
    pub judged: &'a Judged,
    pub attempt: &'a Attempt,
    pub recipients: &'a [&'a RecipientResult],
    /// When the tries end, of what is still being tried.
    pub retried_until: Option<Timestamp>,
    /// The message as it came.
    pub raw: &'a [u8],
    pub hostname: &'a str,
    pub node: &'a str,
    pub now: Timestamp,
}

/// The DSN as a message of our own: its record head and its bytes. None when the reverse-path is null.
#[must_use]
pub fn build(report: &Report<'_>) -> Option<(Judged, Bytes)> {
    let to = report.judged.envelope.reverse_path.mailbox()?;
    let event = format!("dsn/{}/{}/{}", report.kind.action(), report.attempt.id, report.part);
    let id = MessageId::derived(&event, report.now);
    let bytes = Bytes::from(text(report, id, to));
    let judged = OwnMail {
        id,
        at: report.now,
        node: report.node,
        hostname: report.hostname,
        domain: &report.judged.envelope.domain,
        header_from: schemas::Domain::parse(report.hostname).ok(),
        to,
        subject: report.kind.subject().into(),
        origin: Origin::Dsn { message_id: report.judged.envelope.id },
        body_type: report.judged.envelope.body_type,
        smtputf8: to.needs_smtputf8(),
        size_bytes: bytes.len(),
    }
    .judged();
    Some((judged, bytes))
}

fn text(report: &Report<'_>, id: MessageId, to: &Mailbox) -> Vec<u8> {
    let hostname = report.hostname;
    let boundary = format!("={id}=");
    let mut out = format!(
        "From: Mail Delivery System <postmaster@{hostname}>\r\n\
         To: <{to}>\r\n\
         Subject: {}\r\n\
         Date: {}\r\n\
         Message-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n",
        report.kind.subject(),
        report.now.rfc5322()
    );
    if let Some(original) = &report.judged.message.header_message_id {
        out.push_str(&format!("In-Reply-To: <{0}>\r\nReferences: <{0}>\r\n", clean(original)));
    }
    out.push_str(&format!("\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
    out.push_str(&human_part(report));
    out.push_str(&format!("\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n"));
    out.push_str(&status_part(report));
    let mut out = out.into_bytes();
    append_original(report, &boundary, &mut out);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn human_part(report: &Report<'_>) -> String {
    let mut out = format!("{}\r\n\r\n", report.kind.explanation());
    if let Some(subject) = &report.judged.message.subject {
        out.push_str(&format!("Subject of your message: {}\r\n", clean(subject)));
    }
    out.push_str(&format!("Reference: {}\r\n\r\n", report.judged.envelope.id));
    for result in report.recipients {
        let who =
            if result.local { "this server says".to_owned() } else { format!("{} says", remote(report)) };
        out.push_str(&format!(
            "  {}\r\n    {who}: {}\r\n",
            result.forward_path,
            clean(&result.reply.to_string())
        ));
    }
    out
}

fn remote<'a>(report: &'a Report<'_>) -> &'a str {
    report.attempt.remote_host.as_deref().unwrap_or(report.attempt.site.as_str())
}

fn status_part(report: &Report<'_>) -> String {
    let envelope = &report.judged.envelope;
    let mut out = format!("Reporting-MTA: dns; {}\r\n", report.hostname);
    if let Some(envid) = &envelope.envid {
        out.push_str(&format!("Original-Envelope-Id: {}\r\n", from_xtext(envid)));
    }
    out.push_str(&format!(
        "Arrival-Date: {}\r\nX-Mailweir-Id: {}\r\n",
        envelope.accepted_at.rfc5322(),
        envelope.id
    ));
    for result in report.recipients {
        out.push_str("\r\n");
        if let Some(orcpt) = envelope.recipients.get(result.index as usize).and_then(|r| r.orcpt.as_ref()) {
            out.push_str(&format!("Original-Recipient: {}\r\n", to_ascii(&from_xtext(orcpt))));
        }
        let path = &result.forward_path;
        let final_recipient = if path.needs_smtputf8() {
            format!("utf-8; {}", to_utf8_addr_xtext(&path.to_string()))
        } else {
            format!("rfc822; {path}")
        };
        out.push_str(&format!("Final-Recipient: {final_recipient}\r\nAction: {}\r\n", report.kind.action()));
        out.push_str(&format!("Status: {}\r\n", outcome::status(&result.reply, result.outcome)));
        if !result.local {
            out.push_str(&format!("Remote-MTA: dns; {}\r\n", remote(report)));
            out.push_str(&format!("Diagnostic-Code: smtp; {}\r\n", diagnostic(result)));
        } else if report.kind != Kind::Relayed {
            out.push_str(&format!("Diagnostic-Code: X-Mailweir; {}\r\n", diagnostic(result)));
        }
        out.push_str(&format!("Last-Attempt-Date: {}\r\n", report.attempt.at.rfc5322()));
        if report.kind == Kind::Delayed {
            // For delays alone (RFC 3464 2.3.9).
            if let Some(until) = report.retried_until {
                out.push_str(&format!("Will-Retry-Until: {}\r\n", until.rfc5322()));
            }
            if let Some(next) = result.next_attempt {
                out.push_str(&format!("X-Mailweir-Next-Attempt: {}\r\n", next.rfc5322()));
            }
        }
    }
    out
}

/// The original: whole when RET=FULL asks for it and it is small, else its header section.
fn append_original(report: &Report<'_>, boundary: &str, out: &mut Vec<u8>) {
    let full = report.kind == Kind::Failed
        && report.judged.envelope.ret == Some(Ret::Full)
        && report.raw.len() <= MAX_RETURNED_BYTES;
    let (section_end, _) = header::split(report.raw);
    let section = &report.raw[..section_end.min(MAX_RETURNED_BYTES)];
    // RFC 6533 5: what has UTF-8 in its header section is of another media type.
    let (kind, returned) = match (full, section.is_ascii()) {
        (true, true) => ("message/rfc822", report.raw),
        (true, false) => ("message/global", report.raw),
        (false, true) => ("text/rfc822-headers", section),
        (false, false) => ("message/global-headers", section),
    };
    let encoding = if returned.is_ascii() { "7bit" } else { "8bit" };
    out.extend_from_slice(
        format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
            .as_bytes(),
    );
    out.extend_from_slice(returned);
}

/// Without control characters: nothing that came from outside may add a line.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(900).collect()
}

fn diagnostic(result: &RecipientResult) -> String {
    to_ascii(&clean(&result.reply.to_string()))
}

/// For the fields of a delivery status, which are ASCII; the part for people has the text as it was.
fn to_ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// An internationalised address in ASCII (RFC 6533 3, utf-8-addr-xtext).
fn to_utf8_addr_xtext(address: &str) -> String {
    let mut out = String::with_capacity(address.len() * 2);
    for c in address.chars() {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
        }
    }
    out
}

/// Decodes xtext (RFC 3461 4): `+2B` is `+`. What decodes to a control character is left out.
fn from_xtext(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'+', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    clean(&String::from_utf8_lossy(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_and_cannot_add_lines() {
        assert_eq!(from_xtext("rfc822;a+2Bb@c"), "rfc822;a+b@c");
        assert_eq!(from_xtext("a+0D+0Ab"), "a  b");
    }

    #[test]
    fn an_internationalised_address_is_written_in_ascii() {
        assert_eq!(to_utf8_addr_xtext("jürgen+x@müller.example"), r"j\x{FC}rgen\x{2B}x@m\x{FC}ller.example");
    }
}
