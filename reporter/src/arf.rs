//! A feedback report (RFC 5965) on a message that was blocked as abuse.

use bytes::Bytes;
use schemas::envelope::{BodyType, Client, Origin, Recipient};
use schemas::verdict::{Classification, Identity, Judged, MessageSummary, Verdict};
use schemas::{Domain, Envelope, Mailbox, MessageId, ReversePath, UserId};

/// The original is attached up to this size, in bytes; of a larger one the header section.
const MAX_ATTACHED_BYTES: usize = 256 * 1024;

/// What a report is made of.
pub struct Report<'a> {
    pub verdict: &'a Verdict,
    pub original: &'a [u8],
    pub to: &'a Mailbox,
    pub from: &'a Mailbox,
    pub hostname: &'a str,
    pub node: &'a str,
    /// Reports to this address that the cap left out since the last one.
    pub left_out: u64,
}

/// The report as a message of our own. The same verdict always gives the same report.
#[must_use]
pub fn build(report: &Report<'_>) -> (Judged, Bytes) {
    let verdict = report.verdict;
    let id = MessageId::derived(&format!("arf/{}", verdict.message.id), verdict.at);
    let bytes = Bytes::from(text(report, id));
    let envelope = Envelope {
        id,
        accepted_at: verdict.at,
        node: report.node.to_owned(),
        reply_partition: None,
        user: UserId::own_mail(),
        domain: verdict.message.domain.clone(),
        client: Client {
            address: ([127, 0, 0, 1], 0).into(),
            helo: String::new(),
            protocol: String::new(),
            login: None,
            tls: None,
        },
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient { forward_path: report.to.clone(), notify: None, orcpt: None }],
        ret: None,
        envid: None,
        body_type: BodyType::EightBitMime,
        smtputf8: report.to.needs_smtputf8(),
        size_bytes: bytes.len() as u64,
        chunks: Vec::new(),
        origin: Some(Origin::FeedbackReport { message_id: verdict.message.id }),
    };
    let message = MessageSummary {
        id,
        accepted_at: verdict.at,
        user: UserId::own_mail(),
        domain: verdict.message.domain.clone(),
        identity: Identity("mailweir".into()),
        reverse_path: ReversePath::Null,
        header_from: Some(report.from.domain().clone()),
        classification: Classification::Own,
        size_bytes: bytes.len() as u64,
        header_message_id: Some(format!("{id}@{}", report.hostname)),
        client_queue_id: None,
        subject: Some(subject(verdict)),
        own: true,
    };
    let judged = Judged {
        envelope,
        message,
        score: 0.0,
        symbols: Vec::new(),
        remove_fields: Vec::new(),
        released_by: None,
        kept: false,
    };
    (judged, bytes)
}

fn subject(verdict: &Verdict) -> String {
    format!("Abuse: {} from {}", verdict.message.classification, clean(&verdict.message.identity.0))
}

/// The key that reports of one incident share: user and identity.
#[must_use]
pub fn incident(verdict: &Verdict) -> String {
    let id = MessageId::derived(
        &format!("incident/{}/{}", verdict.message.user, verdict.message.identity),
        schemas::Timestamp(0),
    );
    id.to_string()[10..].to_owned()
}

fn text(report: &Report<'_>, id: MessageId) -> Vec<u8> {
    let verdict = report.verdict;
    let hostname = report.hostname;
    let boundary = format!("={id}=");
    let incident = incident(verdict);
    let mut out = format!(
        "From: Mailweir <{}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{id}@{hostname}>\r\nReferences: <incident.{incident}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\nX-Mailweir-Incident: {incident}\r\nX-Mailweir-Identity: {}\r\nX-Mailweir-Classification: {}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report;\r\n\tboundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        report.from,
        report.to,
        encoded(&subject(verdict)),
        verdict.at.rfc5322(),
        encoded(&verdict.message.identity.0),
        verdict.message.classification,
    );
    out.push_str(&human_part(report));
    out.push_str(&format!("\r\n--{boundary}\r\nContent-Type: message/feedback-report\r\n\r\n"));
    out.push_str(&machine_part(verdict, hostname));
    let mut out = out.into_bytes();
    append_original(report, &boundary, &mut out);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn human_part(report: &Report<'_>) -> String {
    let verdict = report.verdict;
    let message = &verdict.message;
    let mut out = format!(
        "A message was blocked as {}: {}.\r\n\r\nIdentity:      {} (found by {})\r\nOutgoing user: {}\r\nDomain:        {}\r\nReverse-path:  <{}>\r\nRecipients:    {}\r\nClient:        {}\r\nReference:     {}\r\n",
        message.classification,
        message.classification.explanation(),
        clean(&message.identity.0),
        verdict.identity_source,
        message.user,
        message.domain,
        message.reverse_path,
        some_recipients(&verdict.recipients),
        verdict.client.ip(),
        message.id,
    );
    if let Some(queue_id) = &message.client_queue_id {
        out.push_str(&format!("Client's id:   {}\r\n", clean(queue_id)));
    }
    out.push_str("\r\nWhy:\r\n");
    for symbol in &verdict.symbols {
        out.push_str(&format!("  {} ({:.2})  {}\r\n", symbol.name, symbol.weight, clean(&symbol.evidence)));
    }
    if report.left_out > 0 {
        out.push_str(&format!("\r\n{} earlier reports to this address were left out, to keep their number bounded; `mailweir quarantine` lists their messages.\r\n", report.left_out));
    }
    out.push_str(&format!("\r\nTo see everything about it: mailweir trace {0}\r\nTo release it: mailweir quarantine release {0}\r\n", message.id));
    out
}

fn some_recipients(recipients: &[Mailbox]) -> String {
    let shown: Vec<String> = recipients.iter().take(5).map(ToString::to_string).collect();
    match recipients.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn machine_part(verdict: &Verdict, hostname: &str) -> String {
    let message = &verdict.message;
    let kind = match message.classification {
        Classification::Virus => "virus",
        Classification::Phishing => "fraud",
        _ => "abuse",
    };
    let reported =
        message.header_from.as_ref().or_else(|| message.reverse_path.mailbox().map(Mailbox::domain));
    let mut out = format!(
        "Feedback-Type: {kind}\r\nUser-Agent: Mailweir/{}\r\nVersion: 1\r\nArrival-Date: {}\r\nSource-IP: {}\r\nOriginal-Mail-From: <{}>\r\n",
        env!("CARGO_PKG_VERSION"),
        message.accepted_at.rfc5322(),
        verdict.client.ip(),
        message.reverse_path,
    );
    for recipient in &verdict.recipients {
        out.push_str(&format!("Original-Rcpt-To: <{recipient}>\r\n"));
    }
    if let Some(domain) = reported.map(Domain::as_str) {
        out.push_str(&format!("Reported-Domain: {domain}\r\n"));
    }
    // The property is an address; an identity that is none (a script, say) stands in the header field alone.
    if let Some(identity) = Mailbox::parse(&message.identity.0).ok().filter(|m| !m.needs_smtputf8()) {
        out.push_str(&format!("Authentication-Results: {hostname}; auth=pass smtp.auth={identity}\r\n"));
    }
    out.push_str("Incidents: 1\r\n");
    out
}

/// The original whole; its header section alone when it may be dangerous, or is large.
fn append_original(report: &Report<'_>, boundary: &str, out: &mut Vec<u8>) {
    let dangerous =
        matches!(report.verdict.message.classification, Classification::Virus | Classification::Phishing);
    let whole = !dangerous && report.original.len() <= MAX_ATTACHED_BYTES;
    let section_end =
        report.original.windows(4).position(|w| w == b"\r\n\r\n").map_or(report.original.len(), |at| at + 2);
    let (kind, part) = if whole {
        ("message/rfc822", report.original)
    } else {
        ("text/rfc822-headers", &report.original[..section_end.min(MAX_ATTACHED_BYTES)])
    };
    let encoding = if part.is_ascii() { "7bit" } else { "8bit" };
    out.extend_from_slice(
        format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\nContent-Disposition: inline\r\n\r\n").as_bytes(),
    );
    out.extend_from_slice(part);
}

/// Without control characters: nothing that came from outside may add a line.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// For a header field: as it is when ASCII, else as encoded words (RFC 2047).
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let text = clean(text);
    if text.is_ascii() && text.len() < 200 {
        return text;
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let mut bytes = [0u8; 4];
        let mut piece = String::new();
        for byte in c.encode_utf8(&mut bytes).bytes() {
            if byte.is_ascii_alphanumeric() {
                piece.push(char::from(byte));
            } else {
                let _ = write!(piece, "={byte:02X}"); // writing to a String cannot fail
            }
        }
        if word.len() + piece.len() > 60 {
            words.push(std::mem::take(&mut word));
        }
        word.push_str(&piece);
    }
    words.push(word);
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}
