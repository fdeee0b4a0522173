//! Checks of the header section.

use std::time::Duration;

use mail_parser::parsers::MessageStream;
use schemas::Timestamp;

use crate::evidence;
use crate::facts::Facts;
use crate::header::MAX_SECTION_BYTES;
use crate::policy::Policy;

/// Fields that stand at most once (RFC 5322 3.6), in lower case.
const SINGLETONS: [&str; 11] = [
    "date",
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "message-id",
    "in-reply-to",
    "references",
    "subject",
];
/// Received fields of a message that is not in a loop (RFC 5321 6.3).
const MAX_RECEIVED: usize = 100;
/// Longest field, folds included, in bytes: Postfix cuts a longer one, so that what follows changes.
const MAX_FIELD_BYTES: usize = 102_400;
const MAX_DATE_OFF: Duration = Duration::from_secs(7 * 24 * 3600);

pub fn too_many_received(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let count = facts.header.all("received").count();
    (count > MAX_RECEIVED).then(|| format!("{count} Received fields"))
}

pub fn header_too_long(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    if facts.header.is_cut() || facts.header.len() > MAX_SECTION_BYTES {
        return Some(format!("header section of more than {MAX_SECTION_BYTES} bytes"));
    }
    let field = facts.header.fields().find(|field| field.len > MAX_FIELD_BYTES)?;
    Some(format!("{} of {} bytes", evidence::of_octets(field.name), field.len))
}

pub fn duplicate_header(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let mut seen = [false; SINGLETONS.len()];
    let mut twice: Vec<&str> = Vec::new();
    for field in facts.header.fields() {
        let Some(index) = SINGLETONS.iter().position(|name| field.is(name)) else { continue };
        if seen[index] && !twice.contains(&SINGLETONS[index]) {
            twice.push(SINGLETONS[index]);
        }
        seen[index] = true;
    }
    (!twice.is_empty()).then(|| twice.join(", "))
}

pub fn missing_date(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    facts.header.first("date").is_none().then(String::new)
}

/// Against the time of acceptance, so that a message that waits is judged the same.
pub fn date_off(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let field = facts.header.first("date")?;
    let date = MessageStream::new(&field.value[..field.value.len().min(200)]).parse_date().into_datetime();
    let Some(date) = date.filter(mail_parser::DateTime::is_valid) else {
        return Some(format!("cannot be read: {}", evidence::of_octets(field.value)));
    };
    let date = Timestamp(date.to_timestamp().saturating_mul(1000));
    let accepted_at = facts.envelope.accepted_at;
    let off = accepted_at.since(date).max(date.since(accepted_at));
    (off > MAX_DATE_OFF).then(|| format!("{} days: {}", off.as_secs() / 86_400, field.text()))
}

/// Octets beyond ASCII need encoded words (RFC 2047), or SMTPUTF8 (RFC 6532).
pub fn raw_subject(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let field = facts.header.first("subject")?;
    (!facts.envelope.smtputf8 && !field.value.is_ascii()).then(|| evidence::of_octets(field.value))
}

/// Lines between the fields that are none.
pub fn malformed_header(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let field = facts.header.fields().find(|field| field.name.is_empty())?;
    Some(evidence::of_octets(&field.value[..field.value.len().min(200)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};

    fn check(find: fn(&Facts<'_>, &Policy) -> Option<String>, message: impl AsRef<[u8]>) -> Option<String> {
        find(&Facts::of(&envelope("a@b.example", &["c@d.example"]), message.as_ref()), &policy("{}"))
    }

    #[test]
    fn fields_that_stand_once_stand_once() {
        assert_eq!(
            check(duplicate_header, "To: a\r\nSUBJECT: 1\r\nto: b\r\nX: 1\r\nX: 2\r\nTo: c\r\n\r\n").unwrap(),
            "to"
        );
        assert!(check(duplicate_header, "To: a\r\nCc: b\r\n\r\nTo: c\r\n").is_none());
    }

    #[test]
    fn dates_are_near_the_time_of_acceptance() {
        assert!(check(date_off, "Date: Tue, 24 Nov 2026 10:30:00 +0100\r\n\r\n").is_none());
        assert!(check(date_off, "Date: 18 Nov 2026 10:30:00 GMT\r\n\r\n").is_none());
        assert!(
            check(date_off, "Date: Mon, 16 Nov 2026 09:00:00 +0000\r\n\r\n").unwrap().starts_with("8 days")
        );
        assert!(check(date_off, "Date: Fri, 24 Dec 2027 09:00:00 +0000\r\n\r\n").is_some());
        assert!(check(date_off, "Date: yesterday\r\n\r\n").unwrap().contains("cannot be read"));
        assert!(check(date_off, "X: 1\r\n\r\n").is_none() && check(missing_date, "X: 1\r\n\r\n").is_some());
    }

    #[test]
    fn long_header_sections_are_found() {
        assert!(check(header_too_long, format!("A: {}\r\n\r\n", "x".repeat(90_000))).is_none());
        assert!(
            check(header_too_long, format!("A: {}\r\n\r\n", " y\r\n".repeat(30_000)))
                .unwrap()
                .starts_with("A of")
        );
        assert!(check(header_too_long, "A: 1\r\n".repeat(50_000)).is_some());
    }

    #[test]
    fn loops_raw_subjects_and_odd_lines_are_found() {
        assert!(check(too_many_received, "Received: x\r\n".repeat(101)).is_some());
        assert!(check(too_many_received, "Received: x\r\n".repeat(100)).is_none());
        assert_eq!(check(raw_subject, "Subject: Grüße\r\n\r\n").unwrap(), "Grüße");
        assert!(check(raw_subject, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n").is_none());
        assert_eq!(check(malformed_header, "From x@y Mon\r\nA: 1\r\n\r\n").unwrap(), "From x@y Mon");
    }
}
