//! What the header section says of who wrote the message, and with what.

use crate::classifier::features::{Block, Features};
use crate::classifier::links::{chosen_name, registered, shape, suffix};
use crate::classifier::reading::{Person, Reading};
use crate::facts::Facts;

/// Fields whose being there says something. Fields of relays on the way do not: this mail has just been written.
const TELLING_FIELDS: [&str; 34] = [
    "x-mailer",
    "user-agent",
    "reply-to",
    "cc",
    "bcc",
    "x-priority",
    "x-msmail-priority",
    "importance",
    "priority",
    "organization",
    "in-reply-to",
    "references",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-id",
    "precedence",
    "feedback-id",
    "auto-submitted",
    "x-auto-response-suppress",
    "x-mimeole",
    "content-language",
    "x-accept-language",
    "errors-to",
    "x-php-originating-script",
    "x-php-script",
    "disposition-notification-to",
    "return-receipt-to",
    "x-campaignid",
    "x-campaign",
    "x-report-abuse",
    "x-sg-eid",
    "x-ses-outgoing",
    "x-mc-user",
    "thread-index",
];

pub(super) fn facts(facts: &Facts<'_>, reading: &Reading, features: &mut Features) {
    for name in TELLING_FIELDS {
        if facts.header.first(name).is_some() {
            features.fact_of(Block::Header, "header field", name);
        }
    }
    for name in ["from", "to", "subject", "date", "message-id", "mime-version", "content-type"] {
        if facts.header.first(name).is_none() {
            features.fact_of(Block::Header, "missing header field", name);
        }
    }
    mailer(facts, features);
    priority(facts, features);
    author(&reading.from, features);
    agreement(reading, features);
    subject(facts, reading, features);
    recipients(reading, features);
    message_id(facts, features);
    date(facts, features);
}

/// The mail program, without its version.
fn mailer(facts: &Facts<'_>, features: &mut Features) {
    let field = facts.header.first("x-mailer").or_else(|| facts.header.first("user-agent"));
    let Some(text) = field.map(|field| field.text().to_lowercase()) else { return };
    let program: String =
        text.chars().take(80).take_while(|c| !c.is_ascii_digit() && *c != '/' && *c != '[').collect();
    features.fact_of(Block::Header, "mail program", program.trim());
}

fn priority(facts: &Facts<'_>, features: &mut Features) {
    if let Some(field) = facts.header.first("x-priority") {
        let level: String = field.text().chars().take(1).collect();
        features.fact_of(Block::Header, "priority", &level);
    }
}

fn author(from: &Person, features: &mut Features) {
    features.fact_of(Block::Header, "From domain ends in", suffix(&from.host));
    features.fact_of(Block::Header, "From domain is", registered(&from.host));
    features.fact_of(Block::Header, "From domain's name is", shape(chosen_name(&from.host)));
    features.fact_count(Block::Header, "labels in the From domain:", from.host.split('.').count());
    features.fact_of(Block::Header, "From local part is", shape(&from.local_part));
    let local = from.local_part.to_ascii_lowercase();
    for role in [
        "noreply",
        "no-reply",
        "info",
        "support",
        "service",
        "admin",
        "contact",
        "news",
        "newsletter",
        "sales",
        "billing",
        "security",
        "account",
        "mail",
        "team",
        "hello",
        "office",
        "root",
        "www-data",
        "webmaster",
        "postmaster",
    ] {
        if local.contains(role) {
            features.fact_of(Block::Header, "From local part has", role);
        }
    }
    if from.name.is_empty() {
        features.fact(Block::Header, "From without a name");
    } else {
        features.fact_count(
            Block::Header,
            "words in the author's name:",
            from.name.split_whitespace().count(),
        );
        if from.name.contains('@') {
            let says = if from.name.to_lowercase().contains(&from.host) {
                "its own address"
            } else {
                "another address"
            };
            features.fact_of(Block::Header, "author's name is", says);
        }
        if from.name.chars().any(char::is_lowercase) {
            let lower = from.name.to_lowercase();
            if chosen_name(&from.host).len() > 3
                && lower.replace([' ', '-'], "").contains(chosen_name(&from.host))
            {
                features.fact(Block::Header, "author's name names the From domain");
            }
            let named = lower.split(|c: char| !c.is_alphanumeric()).any(|w| w.len() > 2 && local.contains(w));
            features.fact_of(
                Block::Header,
                "author's name in the local part:",
                if named { "yes" } else { "no" },
            );
        } else {
            features.fact(Block::Header, "author's name in capitals");
        }
    }
    if is_freemail(&from.host) {
        features.fact(Block::Header, "From is a free mailbox");
    }
}

/// Whether the domains of one message agree.
fn agreement(reading: &Reading, features: &mut Features) {
    let from = registered(&reading.from.host);
    if let Some(reply_to) = &reading.reply_to {
        let says = if registered(&reply_to.host) == from {
            if reply_to.local_part == reading.from.local_part { "the author" } else { "the author's domain" }
        } else if is_freemail(&reply_to.host) {
            if is_freemail(&reading.from.host) { "another free mailbox" } else { "a free mailbox" }
        } else {
            "another domain"
        };
        features.fact_of(Block::Header, "replies go to", says);
    }
    let id_host = reading.message_id_host.as_str();
    let says = if id_host.is_empty() {
        "nothing"
    } else if id_host == reading.from.host {
        "the From domain"
    } else if registered(id_host) == from {
        "a host of the From domain"
    } else if !id_host.contains('.') {
        "a host without a domain"
    } else if suffix(id_host).is_empty()
        || registered(id_host) == id_host && psl::suffix(id_host.as_bytes()).is_none_or(|s| !s.is_known())
    {
        "a host that cannot be"
    } else {
        features.fact_of(Block::Header, "Message-ID names", registered(id_host));
        "another domain"
    };
    features.fact_of(Block::Header, "Message-ID is of", says);
}

fn subject(facts: &Facts<'_>, reading: &Reading, features: &mut Features) {
    let subject = reading.subject.trim();
    let lower = subject.to_lowercase();
    let is_reply = ["re:", "aw:", "sv:", "antw:"].iter().any(|p| lower.starts_with(p));
    let is_forward = ["fwd:", "fw:", "wg:", "tr:"].iter().any(|p| lower.starts_with(p));
    let has_thread = facts.header.first("in-reply-to").or_else(|| facts.header.first("references")).is_some();
    if is_reply || is_forward {
        let kind = if is_reply { "a reply" } else { "a forward" };
        features.fact_of(
            Block::Header,
            if has_thread { "subject of a thread:" } else { "subject without a thread:" },
            kind,
        );
    }
    if lower.starts_with('[') {
        features.fact(Block::Header, "subject begins with a tag in brackets");
    }
    features.fact_count(Block::Header, "characters in the subject:", subject.chars().count());
    let letters = subject.chars().filter(|c| c.is_alphabetic()).count();
    let capitals = subject.chars().filter(|c| c.is_uppercase()).count();
    let share = if letters == 0 {
        "none"
    } else if capitals * 10 > letters * 8 {
        "all"
    } else if capitals * 10 > letters * 3 {
        "many"
    } else {
        "few"
    };
    features.fact_of(Block::Header, "capitals in the subject:", share);
    for (mark, says) in [
        ('!', "an exclamation mark"),
        ('?', "a question mark"),
        ('$', "money"),
        ('€', "money"),
        ('£', "money"),
        ('%', "percent"),
        ('#', "a number sign"),
        ('*', "an asterisk"),
        ('|', "a bar"),
        ('_', "an underscore"),
    ] {
        if subject.contains(mark) {
            features.fact_of(Block::Header, "subject has", says);
        }
    }
    if subject.contains("  ") {
        features.fact_of(Block::Header, "subject has", "a gap");
    }
    if subject.chars().any(|c| matches!(c as u32, 0x1F000..=0x1FAFF | 0x2600..=0x27BF)) {
        features.fact_of(Block::Header, "subject has", "an emoji");
    }
    if subject.chars().any(|c| c.is_ascii_digit()) {
        features.fact_of(Block::Header, "subject has", "a digit");
    }
    if let Some(field) = facts.header.first("subject") {
        let raw = field.value.trim_ascii();
        let encoded = memchr::memmem::find(raw, b"=?").is_some();
        let says = match (encoded, raw.is_ascii()) {
            (true, _) if reading.subject.is_ascii() => "encoded without need",
            (true, _) => "encoded",
            (false, true) => "ASCII",
            (false, false) => "raw 8-bit",
        };
        features.fact_of(Block::Header, "subject is", says);
    }
}

fn recipients(reading: &Reading, features: &mut Features) {
    features.fact_count(Block::Header, "recipients in To:", reading.to.len());
    if let [to] = reading.to.as_slice() {
        if to.host.is_empty() {
            features.fact(Block::Header, "To without an address");
        }
        if to.name.is_empty() {
            features.fact(Block::Header, "To without a name");
        }
        if !to.host.is_empty() && to.host == reading.from.host && to.local_part == reading.from.local_part {
            features.fact(Block::Header, "To is the author");
        }
    }
}

/// The shape of the Message-ID's left part.
fn message_id(facts: &Facts<'_>, features: &mut Features) {
    let Some(id) = crate::summary::header_message_id(facts) else { return };
    let left = id.split('@').next().unwrap_or_default();
    let mut shape = String::new();
    for c in left.chars().take(80) {
        let class = match c {
            '0'..='9' => '0',
            'a'..='z' => 'a',
            'A'..='Z' => 'A',
            other => other,
        };
        if !shape.ends_with(class) {
            shape.push(class);
        }
        if shape.len() > 10 {
            break;
        }
    }
    features.fact_of(Block::Header, "Message-ID looks like", &shape);
    features.fact_count(Block::Header, "characters in the Message-ID:", left.len());
}

fn date(facts: &Facts<'_>, features: &mut Features) {
    let Some(field) = facts.header.first("date") else { return };
    let text = field.text();
    let zone = text.split_whitespace().find(|w| w.len() == 5 && (w.starts_with('+') || w.starts_with('-')));
    features.fact_of(Block::Header, "time zone", zone.unwrap_or("none"));
    if text.contains('(') {
        features.fact(Block::Header, "time zone with a comment");
    }
}

/// Mailboxes that anybody gets for nothing.
pub(super) fn is_freemail(host: &str) -> bool {
    const FREE: [&str; 26] = [
        "gmail",
        "googlemail",
        "yahoo",
        "ymail",
        "hotmail",
        "outlook",
        "live",
        "msn",
        "aol",
        "gmx",
        "web",
        "mail",
        "yandex",
        "protonmail",
        "proton",
        "icloud",
        "163",
        "126",
        "qq",
        "sina",
        "zoho",
        "rediffmail",
        "libero",
        "laposte",
        "inbox",
        "bol",
    ];
    let registered = registered(host);
    FREE.contains(&chosen_name(registered)) && (registered.len() < 16)
}
