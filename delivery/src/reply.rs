//! Replies of a peer (RFC 5321 4.2), read strictly and within bounds.

use schemas::{EnhancedCode, SmtpReply};

/// Longest reply line taken, in bytes.
pub(crate) const MAX_LINE: usize = 4096;
/// Most lines of one reply.
pub(crate) const MAX_LINES: usize = 128;
/// What is kept of the text of a reply that is recorded, in bytes: it goes into events, which have a limit.
const MAX_TEXT: usize = 1000;

/// What the peer said it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    /// Largest message it takes, in bytes; absent when it does not say so, or says 0.
    pub size: Option<u64>,
    /// SIZE is offered, with or without a limit.
    pub declares_size: bool,
    pub dsn: bool,
    pub start_tls: bool,
}

/// Code, whether it is the last line, and the text.
pub(crate) fn parse_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return None;
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
    Some((code, last, text.chars().filter(|c| !c.is_control()).collect()))
}

/// The reply of these lines. An enhanced code that contradicts the reply code is text (RFC 2034 4).
pub(crate) fn assemble(code: u16, lines: &[String]) -> SmtpReply {
    let code_of = |line: &str| {
        let word = line.split(' ').next()?;
        word.parse::<EnhancedCode>().ok().filter(|enhanced| u16::from(enhanced.0) == code / 100)
    };
    let enhanced = lines.first().and_then(|line| code_of(line));
    let strip = |line: &String| match line.split_once(' ') {
        Some((_, rest)) if enhanced.is_some() && code_of(line).is_some() => rest.to_owned(),
        None if enhanced.is_some() && code_of(line).is_some() => String::new(),
        _ => line.clone(),
    };
    let text = lines.iter().map(strip).collect::<Vec<_>>().join("\n");
    SmtpReply { code, enhanced, text }
}

/// The reply as it is recorded: its text cut to what an event has room for.
pub(crate) fn cut(mut reply: SmtpReply, max: usize) -> SmtpReply {
    let max = max.min(MAX_TEXT);
    if reply.text.len() > max {
        let end = (0..=max).rev().find(|end| reply.text.is_char_boundary(*end)).unwrap_or(0);
        reply.text.truncate(end);
        reply.text.push_str(" [cut]");
    }
    reply
}

/// What the lines of an answer to EHLO say.
pub(crate) fn capabilities(text: &str) -> Capabilities {
    let mut found = Capabilities::default();
    for line in text.split('\n').skip(1) {
        let mut words = line.split_whitespace();
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            Some("PIPELINING") => found.pipelining = true,
            Some("8BITMIME") => found.eight_bit_mime = true,
            Some("SMTPUTF8") => found.smtputf8 = true,
            Some("DSN") => found.dsn = true,
            Some("STARTTLS") => found.start_tls = true,
            Some("SIZE") => {
                found.declares_size = true;
                found.size = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_strictly() {
        assert_eq!(parse_line(b"250-x"), Some((250, false, "x".into())));
        assert_eq!(parse_line(b"250"), Some((250, true, String::new())));
        for bad in [&b"25"[..], b"abc x", b"2500 x", b"199 x", b"600 x", b"+25 x", b"2 5 x", b""] {
            assert_eq!(parse_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn enhanced_codes_are_taken_off_each_line() {
        let reply = assemble(550, &["5.1.1 no".into(), "5.1.1 such user".into(), "5.1.1".into()]);
        assert_eq!((reply.text.as_str(), reply.enhanced), ("no\nsuch user\n", Some(EnhancedCode(5, 1, 1))));
        let contradiction = assemble(550, &["4.1.1 well".into()]);
        assert_eq!((contradiction.text.as_str(), contradiction.enhanced), ("4.1.1 well", None));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = SmtpReply { code: 550, enhanced: None, text: "ü".repeat(900) };
        assert_eq!(cut(long.clone(), 11).text, "üüüüü [cut]");
        assert_eq!(cut(long, usize::MAX).text.len(), 1000 + " [cut]".len());
    }

    #[test]
    fn what_ehlo_offers() {
        let found = capabilities("mx.example hello\npipelining\nSIZE 1000\n8BITMIME\nSIZE 0\nDSN x");
        assert!(found.pipelining && found.eight_bit_mime && found.dsn && found.declares_size);
        assert_eq!((found.size, found.smtputf8), (None, false));
        assert!(!capabilities("PIPELINING").pipelining, "the first line is the greeting");
    }
}
