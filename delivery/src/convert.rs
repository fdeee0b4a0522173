//! 8-bit mail for a peer without 8BITMIME (RFC 6152): every 8-bit leaf is re-encoded as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{Message, MessageParser, PartType};

/// The message with nothing above 127 in its bodies; none when its structure does not allow it (8-bit header fields,
/// 8-bit text between parts).
#[must_use]
pub fn to_7bit(message: &[u8]) -> Option<Vec<u8>> {
    let parsed = MessageParser::new().parse(message)?;
    let mut leaves = Vec::new();
    collect(&parsed, 0, &mut leaves);
    leaves.sort_unstable_by_key(|leaf| leaf.header);
    let (section_end, _) = crate::header::split(message);
    let section = &message[..section_end];
    let is_mime = crate::header::has(section, &crate::header::fields(section), "MIME-Version");
    let mut out = Vec::with_capacity(message.len() * 4 / 3);
    if !is_mime {
        // Without it nobody would decode the parts (RFC 2045 4).
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    let mut at = 0;
    for leaf in leaves {
        out.extend_from_slice(message.get(at..leaf.header)?);
        write_header(message.get(leaf.header..leaf.body)?, &mut out)?;
        let body = message.get(leaf.body..leaf.end)?;
        for line in STANDARD.encode(body).as_bytes().chunks(76) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        at = leaf.end;
    }
    out.extend_from_slice(message.get(at..)?);
    out.is_ascii().then_some(out)
}

/// A part that needs re-encoding: where its header, its body and its end are.
struct Leaf {
    header: usize,
    body: usize,
    end: usize,
}

fn collect(message: &Message<'_>, base: usize, leaves: &mut Vec<Leaf>) {
    for part in &message.parts {
        let (header, body, end) =
            (part.offset_header as usize, part.offset_body as usize, part.offset_end as usize);
        match &part.body {
            PartType::Multipart(_) => {}
            PartType::Message(nested) if !message.raw_message.get(body..end).is_none_or(<[u8]>::is_ascii) => {
                collect(nested, base, leaves);
            }
            _ if !message.raw_message.get(body..end).is_none_or(<[u8]>::is_ascii) => {
                leaves.push(Leaf { header: base + header, body: base + body, end: base + end });
            }
            _ => {}
        }
    }
}

/// The part's header section with its Content-Transfer-Encoding replaced; none when the part is encoded already, and its
/// 8-bit octets are a mistake that another encoding would only hide.
fn write_header(section: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (end, _) = crate::header::split(section);
    let fields = crate::header::fields(&section[..end]);
    for field in &fields {
        if !section[field.name.clone()].eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            out.extend_from_slice(&section[field.whole.clone()]);
            continue;
        }
        let value = section[field.name.end + 1..field.whole.end].trim_ascii();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if ![&b"7bit"[..], b"8bit", b"binary"].iter().any(|name| value.eq_ignore_ascii_case(name)) {
            return None;
        }
    }
    out.extend_from_slice(b"Content-Transfer-Encoding: base64\r\n\r\n");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_part_and_one_of_several() {
        let single = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n";
        let converted = to_7bit(single.as_bytes()).unwrap();
        let parsed = MessageParser::new().parse(&converted).unwrap();
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), "Grüße");
        let several = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n";
        let converted = to_7bit(several.as_bytes()).unwrap();
        let parsed = MessageParser::new().parse(&converted).unwrap();
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), "Grüße");
        assert_eq!(parsed.body_text(1).unwrap().trim_end(), "plain");
        assert!(to_7bit("Subject: ü\r\n\r\nx".as_bytes()).is_none());
        let plain = String::from_utf8(to_7bit("Subject: x\r\n\r\nü\r\n".as_bytes()).unwrap()).unwrap();
        assert!(plain.starts_with("MIME-Version: 1.0\r\n") && plain.contains("base64"), "{plain}");
        let encoded = "Content-Transfer-Encoding: quoted-printable\r\n\r\n=41ü\r\n";
        assert!(to_7bit(encoded.as_bytes()).is_none(), "it is encoded already");
    }
}
