//! The bytes that leave: trace field on top, marked fields removed, missing ones added, then signed.

use bytes::Bytes;
use schemas::verdict::Judged;

use crate::header::{self, Field};

/// A message ready for the wire but for dot-stuffing: a new head, and the body as it was.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Header section.
    pub head: Vec<u8>,
    /// The empty line behind it, and the body.
    pub body: Bytes,
    /// What was signed: `d=example.com s=sel a=rsa-sha256`.
    pub signatures: Vec<String>,
    /// There are octets above 127 in it.
    pub is_8bit: bool,
    /// Its author's own signature is valid, or cannot be judged now: only the trace field was added.
    pub as_it_came: bool,
}

impl Outgoing {
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// The header section to be signed: without the marked fields, with Date, Message-ID and our id where they are missing.
/// Of a message that already carries a valid signature of its author, nothing is changed.
#[must_use]
pub fn header_section(
    judged: &Judged,
    section: &[u8],
    hostname: &str,
    validly_signed: bool,
    signed_fields: &[String],
) -> Vec<u8> {
    let fields = header::fields(section);
    let mut out = Vec::with_capacity(section.len() + 256);
    if !validly_signed {
        out.extend_from_slice(added_fields(judged, section, &fields, hostname).as_bytes());
    }
    let removed = removed(judged, section, &fields, signed_fields);
    let mut at = 0;
    for field in removed {
        out.extend_from_slice(&section[at..field.start]);
        at = field.end;
    }
    out.extend_from_slice(&section[at..]);
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn added_fields(judged: &Judged, section: &[u8], fields: &[Field], hostname: &str) -> String {
    let id = judged.envelope.id;
    let mut added = format!("X-Mailweir-Id: {id}\r\n");
    if !header::has(section, fields, "Date") {
        added.push_str(&format!("Date: {}\r\n", judged.envelope.accepted_at.rfc5322()));
    }
    if !header::has(section, fields, "Message-ID") {
        added.push_str(&format!("Message-ID: <{id}@{hostname}>\r\n"));
    }
    added
}

/// Where the fields to be removed stand, in order. One that the author's signature covers stays.
fn removed(
    judged: &Judged,
    section: &[u8],
    fields: &[Field],
    signed_fields: &[String],
) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = judged
        .remove_fields
        .iter()
        .filter_map(|remove| {
            if signed_fields.iter().any(|name| name.eq_ignore_ascii_case(&remove.name)) {
                tracing::warn!(message.id = %judged.envelope.id, field = remove.name, "a field to be removed is covered by the author's signature, it stays");
                return None;
            }
            let same_name = |field: &&Field| section[field.name.clone()].eq_ignore_ascii_case(remove.name.as_bytes());
            fields.iter().filter(same_name).nth(remove.index).map(|field| field.whole.clone())
        })
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup();
    ranges
}

/// Our trace field (RFC 5321 4.4).
#[must_use]
pub fn trace_field(judged: &Judged, hostname: &str) -> String {
    let envelope = &judged.envelope;
    if envelope.origin.is_some() {
        return format!(
            "Received: by {hostname} (Mailweir) id {};\r\n\t{}\r\n",
            envelope.id,
            envelope.accepted_at.rfc5322()
        );
    }
    let client = &envelope.client;
    let tls = client
        .tls
        .as_ref()
        .map_or_else(String::new, |tls| format!("\r\n\t(using {} with cipher {})", tls.version, tls.cipher));
    format!(
        "Received: from {} ([{}])\r\n\tby {hostname} (Mailweir) with {} id {}{tls};\r\n\t{}\r\n",
        comment_free(&client.helo),
        ip_literal(client.ip()),
        client.protocol,
        envelope.id,
        envelope.accepted_at.rfc5322()
    )
}

fn ip_literal(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("IPv6:{ip}"),
    }
}

/// The argument of EHLO, which the client chose, with nothing in it that could end or fold the field.
fn comment_free(helo: &str) -> String {
    let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let kept: String = helo.chars().filter(safe).take(255).collect();
    if kept.is_empty() { "unknown".into() } else { kept }
}
