//! The text of a feedback report: header section, a part for people, a part for machines, the original.

use std::fmt::Write;

use schemas::verdict::{Classification, Verdict};
use schemas::{Domain, Mailbox, MessageId};

use super::lines::{clean, encoded, header_section, may_stand};
use super::{MAX_ATTACHED_BYTES, Original, Report, incident, is_dangerous};

/// The header section of an original is attached up to this size, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Symbols and recipients that the part for people names.
const MAX_NAMED: usize = 50;

pub(super) fn subject(verdict: &Verdict) -> String {
    format!("Abuse: {} from {}", verdict.message.classification, clean(&verdict.message.identity.0))
}

pub(super) fn message(report: &Report<'_>, id: MessageId) -> Vec<u8> {
    // Nobody can have written it into the original: the id of that was not known before.
    let boundary = format!("={id}=");
    let (human, machine, original) = (human_part(report), machine_part(report), original_part(report));
    let is_ascii = human.is_ascii() && original.bytes.is_ascii();
    // RFC 2045 6.4: what holds 8-bit parts says so itself.
    let mut out = header(report, id, &boundary, encoding(is_ascii));
    let mut part = |kind: &str, encoding: &str, body: &[u8]| {
        out.extend_from_slice(
            format!(
                "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
            )
            .as_bytes(),
        );
        out.extend_from_slice(body);
    };
    part("text/plain; charset=utf-8", encoding(human.is_ascii()), human.as_bytes());
    part("message/feedback-report", "7bit", machine.as_bytes());
    part(original.kind, encoding(original.bytes.is_ascii()), &original.bytes);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn encoding(is_ascii: bool) -> &'static str {
    if is_ascii { "7bit" } else { "8bit" }
}

fn header(report: &Report<'_>, id: MessageId, boundary: &str, encoding: &str) -> Vec<u8> {
    let (verdict, hostname) = (report.verdict, report.hostname);
    let incident = incident(verdict);
    let identity = encoded(&verdict.message.identity.0);
    let fields = [
        ("From", format!("Mailweir <{}>", report.from)),
        ("To", format!("<{}>", report.to)),
        ("Subject", encoded(&subject(verdict))),
        ("Date", verdict.at.rfc5322()),
        ("Message-ID", format!("<{id}@{hostname}>")),
        ("References", format!("<incident.{incident}@{hostname}>")),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Mailweir-Incident", incident),
        ("X-Mailweir-Identity", identity),
        ("X-Mailweir-Classification", verdict.message.classification.to_string()),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Transfer-Encoding", encoding.to_owned()),
        (
            "Content-Type",
            format!("multipart/report; report-type=feedback-report;\r\n\tboundary=\"{boundary}\""),
        ),
    ];
    let mut out = String::new();
    for (name, value) in fields {
        field(&mut out, name, &value);
    }
    out.into_bytes()
}

fn field(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name}: {value}\r\n"); // writing to a String cannot fail
}

/// Who, what and why, for a person; nothing in it has a line over 998 octets.
fn human_part(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let message = &verdict.message;
    let mut out = format!(
        "A message was blocked as {}: {}.\r\n\r\n",
        message.classification,
        message.classification.explanation()
    );
    field(&mut out, "Identity", &clean(&message.identity.0));
    field(&mut out, "  found by", &clean(&verdict.identity_source));
    field(&mut out, "Outgoing user", &clean(message.user.as_str()));
    field(&mut out, "Domain", message.domain.as_str());
    field(&mut out, "Client", &verdict.client.ip().to_string());
    field(&mut out, "Reverse-path", &format!("<{}>", message.reverse_path));
    for recipient in verdict.recipients.iter().take(MAX_NAMED) {
        field(&mut out, "Recipient", &recipient.to_string());
    }
    and_more(&mut out, "Recipient", verdict.recipients.len());
    field(&mut out, "Reference", &message.id.to_string());
    if let Some(queue_id) = &message.client_queue_id {
        field(&mut out, "Client's queue id", &clean(queue_id));
    }
    out.push_str("\r\nWhy:\r\n");
    for symbol in verdict.symbols.iter().take(MAX_NAMED) {
        let _ =
            write!(out, "  {} ({:.2})  {}\r\n", clean(&symbol.name), symbol.weight, clean(&symbol.evidence));
    }
    and_more(&mut out, "  Symbol", verdict.symbols.len());
    out.push_str(&closing(report));
    out
}

fn and_more(out: &mut String, what: &str, count: usize) {
    if let Some(more) = count.checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        field(out, what, &format!("and {more} more"));
    }
}

fn closing(report: &Report<'_>) -> String {
    let id = report.verdict.message.id;
    let mut out = String::new();
    if report.left_out > 0 {
        let _ = write!(
            out,
            "\r\n{} earlier reports to this address were left out, to keep their number bounded;\r\n`mailweir quarantine` lists their messages.\r\n",
            report.left_out
        );
    }
    if *report.original == Original::Gone {
        out.push_str("\r\nThe message itself is no longer kept where this report is made.\r\n");
    }
    let _ = write!(
        out,
        "\r\nTo see everything about it: mailweir trace {id}\r\nTo release it: mailweir quarantine release {id}\r\n"
    );
    out
}

/// RFC 5965 3; ASCII only, as that section wants it.
fn machine_part(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let message = &verdict.message;
    let kind = match message.classification {
        Classification::Virus => "virus",
        Classification::Phishing => "fraud",
        _ => "abuse",
    };
    let mut out = String::new();
    field(&mut out, "Feedback-Type", kind);
    field(&mut out, "User-Agent", concat!("Mailweir/", env!("CARGO_PKG_VERSION")));
    field(&mut out, "Version", "1");
    field(&mut out, "Arrival-Date", &message.accepted_at.rfc5322());
    field(&mut out, "Source-IP", &verdict.client.ip().to_string());
    if message.reverse_path.mailbox().is_none_or(|mailbox| !mailbox.needs_smtputf8()) {
        field(&mut out, "Original-Mail-From", &format!("<{}>", message.reverse_path));
    }
    for recipient in verdict.recipients.iter().filter(|recipient| !recipient.needs_smtputf8()) {
        field(&mut out, "Original-Rcpt-To", &format!("<{recipient}>"));
    }
    let of_path = message.reverse_path.mailbox().map(Mailbox::domain);
    if let Some(domain) = message.header_from.as_ref().or(of_path).map(Domain::as_str) {
        field(&mut out, "Reported-Domain", domain);
    }
    if let Some(account) = account(verdict) {
        field(
            &mut out,
            "Authentication-Results",
            &format!("{}; auth=pass smtp.auth={account}", report.hostname),
        );
    }
    field(&mut out, "Incidents", "1");
    out
}

/// `smtp.auth` is an address (RFC 8601 2.7.4): the identity, or the login. One that is neither (a script, say) stands in
/// `X-Mailweir-Identity` alone.
fn account(verdict: &Verdict) -> Option<Mailbox> {
    [Some(verdict.message.identity.0.as_str()), verdict.client.login.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(|text| Mailbox::parse(text).ok())
        .find(|mailbox| !mailbox.needs_smtputf8())
}

struct Attached {
    kind: &'static str,
    bytes: Vec<u8>,
}

/// The original whole; its header section alone when it may be dangerous, is large, or cannot stand in a message.
fn original_part(report: &Report<'_>) -> Attached {
    let beginning = match report.original {
        Original::Whole(bytes)
            if bytes.len() <= MAX_ATTACHED_BYTES
                && !is_dangerous(report.verdict.message.classification)
                && may_stand(bytes) =>
        {
            return Attached { kind: "message/rfc822", bytes: bytes.to_vec() };
        }
        Original::Whole(bytes) | Original::Beginning(bytes) => &bytes[..],
        Original::Gone => &[],
    };
    Attached { kind: "text/rfc822-headers", bytes: header_section(beginning, MAX_HEADER_BYTES) }
}
