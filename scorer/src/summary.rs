//! What every later event says of a message.

use mail_parser::parsers::MessageStream;

use crate::evidence;
use crate::facts::Facts;

const MAX_SUBJECT_CHARS: usize = 200;
/// A Subject is decoded up to here, in bytes: enough for the characters kept, however they are encoded.
const MAX_SUBJECT_BYTES: usize = 8 * 1024;
const MAX_MESSAGE_ID_BYTES: usize = 250;
const MAX_QUEUE_ID_BYTES: usize = 64;

/// The Subject, decoded (RFC 2047), cut to 200 characters.
#[must_use]
pub fn subject(facts: &Facts<'_>) -> Option<String> {
    let field = facts.header.first("subject")?;
    let value = &field.value[..field.value.len().min(MAX_SUBJECT_BYTES)];
    let decoded = if memchr::memmem::find(value, b"=?").is_some() {
        MessageStream::new(value).parse_unstructured().into_text().unwrap_or_default()
    } else {
        crate::header::HeaderField { value, ..field }.text()
    };
    let cut: String = decoded.chars().take(MAX_SUBJECT_CHARS).collect();
    Some(evidence::clean(cut.trim(), MAX_SUBJECT_CHARS * 4))
}

/// Their Message-ID, without the angle brackets.
#[must_use]
pub fn header_message_id(facts: &Facts<'_>) -> Option<String> {
    let text = facts.header.first("message-id")?.text();
    let id = text.trim().trim_start_matches('<').trim_end_matches('>').trim();
    (!id.is_empty()).then(|| evidence::clean(id, MAX_MESSAGE_ID_BYTES))
}

/// The queue id of the client: what stands after `id` in the topmost Received, which the client added. Postfix `id
/// 4626FFF809`, Exim `id 1ihVtN-0004U6-2R`; comments in parentheses do not count.
#[must_use]
pub fn client_queue_id(facts: &Facts<'_>) -> Option<String> {
    let field = facts.header.first("received")?;
    let text = field.text();
    let clauses = text.rsplit_once(';').map_or(text.as_ref(), |(clauses, _date)| clauses);
    let mut depth = 0usize;
    let mut follows_id = false;
    for word in clauses.split_ascii_whitespace() {
        let in_comment = depth > 0 || word.starts_with('(');
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        if in_comment {
            continue;
        }
        if follows_id {
            let id = word.trim_matches(|c| matches!(c, '<' | '>' | ';'));
            let valid = (4..=MAX_QUEUE_ID_BYTES).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            // Exchange writes its version there.
            let is_version = id.contains('.') && id.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            return (valid && !is_version).then(|| id.to_owned());
        }
        follows_id = word.eq_ignore_ascii_case("id");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;

    fn facts_of<T>(message: &str, ask: impl Fn(&Facts<'_>) -> T) -> T {
        ask(&Facts::of(&envelope("a@b.example", &[]), message.as_bytes()))
    }

    #[test]
    fn the_subject_is_decoded_and_cut() {
        for (field, subject_text) in [
            ("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an\r\n =?utf-8?b?w6Q=?=", "Grüße an ä"),
            ("Subject:  plain\r\n text ", "plain text"),
            ("Subject:", ""),
        ] {
            assert_eq!(facts_of(&format!("{field}\r\n\r\n"), subject).unwrap(), subject_text);
        }
        let long = facts_of(&format!("Subject: {}\r\n\r\n", "ä".repeat(900)), subject).unwrap();
        assert_eq!(long.chars().count(), 200);
        assert!(facts_of("X: 1\r\n\r\n", subject).is_none());
    }

    #[test]
    fn queue_ids_of_mtas_are_read() {
        for (received, id) in [
            (
                "from uno (h [192.0.2.1])\r\n\t(Authenticated sender: j@d.example)\r\n\tby relay (Postfix) with ESMTPSA id 4626FFF809;\r\n\tThu, 18 Jun 2020 15:51:18 +0000 (UTC)",
                Some("4626FFF809"),
            ),
            (
                "by web1 (Postfix, from userid 1001)\r\n\tid 88E65C43616; Fri, 17 Sep 2021 10:01:49 +0000",
                Some("88E65C43616"),
            ),
            (
                "from www-data by web with local (Exim 4.80)\r\n\t(envelope-from <m@k.example>)\r\n\tid 1ihVtN-0004U6-2R; Wed, 18 Dec 2019 10:45:17 +0100",
                Some("1ihVtN-0004U6-2R"),
            ),
            (
                "from [192.0.2.1] (helo=a) by b with esmtpsa (TLS1.2) (Exim 4.96) (envelope-from <x@y.example>) id 1qKNHc-002I2a-1y for z@y.example; Fri, 14 Jul 2023 13:00:00 -0500",
                Some("1qKNHc-002I2a-1y"),
            ),
            ("from a (id FAKE1234) by b with SMTP; Fri, 14 Jul 2023 13:00:00 -0500", None),
            ("from a by b with Microsoft SMTP Server id 15.1.2507.35; Fri, 14 Jul 2023 13:00:00 -0500", None),
            ("from a by b id", None),
        ] {
            assert_eq!(
                facts_of(&format!("Received: {received}\r\n\r\n"), client_queue_id).as_deref(),
                id,
                "{received}"
            );
        }
    }

    #[test]
    fn the_message_id_stands_without_brackets() {
        assert_eq!(facts_of("Message-ID: <a@b.example>\r\n\r\n", header_message_id).unwrap(), "a@b.example");
        assert!(facts_of("Message-ID: <>\r\n\r\n", header_message_id).is_none());
    }
}
