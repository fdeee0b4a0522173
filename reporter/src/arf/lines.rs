//! Text from mail made safe for a report: no line of its own making, no line over 998 octets (RFC 5322 2.1.1).

use std::fmt::Write;

/// Octets of a line without its CRLF (RFC 5322 2.1.1).
const MAX_LINE_OCTETS: usize = 998;
/// Characters of a text that a report shows; at most four octets each, so such a text fits a line.
const MAX_SHOWN: usize = 200;
/// Octets of an encoded word's payload: the whole word stays below 75 (RFC 2047 2).
const MAX_WORD_OCTETS: usize = 60;

/// Without control characters, so that nothing from outside adds a line; cut with a mark.
pub(crate) fn clean(text: &str) -> String {
    let mut out: String =
        text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push_str("...");
    }
    out
}

/// For a header field: as it is when that is plain ASCII, else as encoded words (RFC 2047).
pub(crate) fn encoded(text: &str) -> String {
    let text = clean(text);
    if text.is_ascii() && !text.contains("=?") {
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
        if word.len() + piece.len() > MAX_WORD_OCTETS {
            words.push(std::mem::take(&mut word));
        }
        word.push_str(&piece);
    }
    words.push(word);
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

/// `true` when every line ends in CRLF, none is too long and there is no NUL: what may stand in a message as it is.
pub(super) fn may_stand(bytes: &[u8]) -> bool {
    bytes.split_inclusive(|b| *b == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= MAX_LINE_OCTETS && !text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
    })
}

/// The header section of a message: whole lines, at most `limit` octets, what does not fit a line cut.
pub(super) fn header_section(message: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for line in message.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() || out.len() + text.len().min(MAX_LINE_OCTETS) + 2 > limit {
            break;
        }
        out.extend(text.iter().take(MAX_LINE_OCTETS).map(|b| if matches!(b, b'\r' | 0) { b' ' } else { *b }));
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_in_its_line() {
        assert_eq!(clean("a\r\nBcc: x\u{0}"), "a  Bcc: x ");
        assert_eq!(clean(&"x".repeat(500)).len(), MAX_SHOWN + 3);
        assert_eq!(encoded("plain text"), "plain text");
        assert_eq!(encoded("=?utf-8?Q?x?="), "=?utf-8?Q?=3D=3Futf=2D8=3FQ=3Fx=3F=3D?=");
        assert_eq!(encoded("Grüße"), "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=");
        let long = encoded(&"ü".repeat(300));
        assert!(long.lines().all(|line| line.len() <= 76), "{long}");
    }

    #[test]
    fn a_message_that_cannot_stand_as_it_is() {
        assert!(may_stand(b"") && may_stand(b"A: b\r\n\r\nno line end at the end"));
        for bad in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\0\r\n", &[b'x'; 999]] {
            assert!(!may_stand(bad));
        }
        assert!(may_stand(&[b'x'; 998]));
    }

    #[test]
    fn a_header_section_is_cut_at_lines() {
        assert_eq!(header_section(b"A: b\r\nC: d\n\r\nbody", 100), b"A: b\r\nC: d\r\n");
        assert_eq!(header_section(b"A: b\r\nC: d\r\n", 8), b"A: b\r\n");
        assert_eq!(header_section(b"A: b", 100), b"A: b\r\n");
        let long = header_section(&[b'x'; 5000], 100_000);
        assert!(may_stand(&long) && long.len() == 1000);
        assert_eq!(header_section(b"", 10), b"");
    }
}
