//! Checks of whom a message says it is from.

use schemas::{Domain, Mailbox, ReversePath};

use crate::facts::{Author, Facts};
use crate::policy::Policy;

/// Names that mean nothing outside one network (RFC 6761, RFC 6762, RFC 7686, RFC 8375, and what admins use).
const LOCAL_DOMAINS: [&str; 9] =
    ["localhost", "localdomain", "local", "lan", "intranet", "internal", "invalid", "onion", "home.arpa"];

/// With required From domains set, every author must be of one.
pub fn from_domain_not_allowed(facts: &Facts<'_>, policy: &Policy) -> Option<String> {
    if policy.from_domains.is_empty() {
        return None;
    }
    let authors = facts.authors();
    if authors.is_empty() {
        return Some("no From".into());
    }
    authors.iter().find_map(|author| match author {
        Author::Mailbox(mailbox) if policy.from_domains.contains_domain(mailbox.domain()) => None,
        Author::Mailbox(mailbox) => Some(mailbox.domain().to_string()),
        Author::Invalid(text) => Some(text.clone()),
    })
}

/// With a valid sender required: the reverse-path and the author must be mailboxes that somebody elsewhere could answer.
/// Whether the mailbox exists is asked of nobody here.
pub fn invalid_sender(facts: &Facts<'_>, policy: &Policy) -> Option<String> {
    if !policy.require_valid_sender {
        return None;
    }
    let sender = facts.envelope.reverse_path.mailbox()?;
    if let Some(why) = why_unanswerable(sender) {
        return Some(format!("reverse-path {sender}: {why}"));
    }
    match facts.authors().first() {
        None => Some("no From".into()),
        Some(Author::Invalid(text)) => Some(format!("From {text}: no mailbox")),
        Some(Author::Mailbox(mailbox)) => {
            why_unanswerable(mailbox).map(|why| format!("From {mailbox}: {why}"))
        }
    }
}

/// What `from_domain_not_allowed` finds, with only the first valid author known.
pub fn finds_from_domain(author: Option<&Mailbox>, is_alone: bool, policy: &Policy) -> Option<bool> {
    if policy.from_domains.is_empty() {
        return Some(false);
    }
    match author {
        Some(author) if policy.from_domains.contains_domain(author.domain()) => is_alone.then_some(false),
        _ => Some(true),
    }
}

/// What `invalid_sender` finds, with only the first valid author known.
pub fn finds_invalid_sender(
    reverse_path: &ReversePath,
    author: Option<&Mailbox>,
    is_alone: bool,
    policy: &Policy,
) -> Option<bool> {
    if !policy.require_valid_sender {
        return Some(false);
    }
    let Some(sender) = reverse_path.mailbox() else { return Some(false) };
    let Some(author) = author.filter(|_| why_unanswerable(sender).is_none()) else { return Some(true) };
    is_alone.then(|| why_unanswerable(author).is_some())
}

fn why_unanswerable(mailbox: &Mailbox) -> Option<&'static str> {
    let domain: &Domain = mailbox.domain();
    if domain.literal_ip().is_some() {
        return Some("an address literal");
    }
    let name = domain.as_str();
    let is_local = LOCAL_DOMAINS
        .iter()
        .any(|local| name.strip_suffix(local).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if is_local {
        return Some("a local domain");
    }
    (!name.contains('.')).then_some("no full domain")
}

pub fn missing_from(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    if facts.header_from().is_some() {
        return None;
    }
    Some(facts.header.first("from").map_or_else(String::new, |field| field.text().into_owned()))
}

/// Several authors in one field are allowed (RFC 5322 3.6.2) but DMARC cannot say whose mail it is (RFC 9989).
pub fn many_from(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let count = facts.authors().len();
    (count > 1).then(|| format!("{count} authors"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};

    #[test]
    fn from_is_of_the_required_domains() {
        let policy = policy(r#"{"from_domains": ["Customer.example"]}"#);
        let check = |fields: &str| {
            let message = format!("{fields}\r\n\r\n");
            from_domain_not_allowed(&Facts::of(&envelope("a@b.example", &[]), message.as_bytes()), &policy)
        };
        assert!(check("From: a@customer.example").is_none());
        assert!(check("From: A <a@news.CUSTOMER.example>").is_none());
        assert_eq!(check("From: a@notcustomer.example").unwrap(), "notcustomer.example");
        assert_eq!(check("From: a@customer.example, b@bank.example").unwrap(), "bank.example");
        assert_eq!(check("To: a@customer.example").unwrap(), "no From");
        assert!(check("From: a@customer.example\r\nFrom: x@bank.example").is_some());
    }

    #[test]
    fn a_valid_sender_can_be_answered() {
        let policy = policy(r#"{"require_valid_sender": true}"#);
        let check = |sender: &str, from: &str| {
            let message = format!("{from}\r\n\r\n");
            invalid_sender(&Facts::of(&envelope(sender, &[]), message.as_bytes()), &policy)
        };
        assert!(check("a@b.example", "From: a@b.example").is_none());
        assert!(check("", "X: 1").is_none());
        assert!(check("root@web1.localdomain", "From: a@b.example").is_some());
        assert!(check("root@web1", "From: a@b.example").is_some());
        assert!(check("a@[192.0.2.1]", "From: a@b.example").is_some());
        assert!(check("a@b.example", "From: root").is_some() && check("a@b.example", "To: x").is_some());
        assert!(check("a@notlocal.example", "From: a@b.example").is_none());
    }

    #[test]
    fn authors_are_counted() {
        let policy = policy("{}");
        let envelope = envelope("a@b.example", &[]);
        let facts = Facts::of(&envelope, b"From: a@b.example, c@b.example\r\n\r\n");
        assert!(many_from(&facts, &policy).is_some() && missing_from(&facts, &policy).is_none());
        let facts = Facts::of(&envelope, b"From: undisclosed\r\n\r\n");
        assert_eq!(missing_from(&facts, &policy).unwrap(), "undisclosed");
    }
}
