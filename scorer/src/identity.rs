//! Who is behind a message: the identification rules of its outgoing user, the first that finds something wins.

pub mod auto;
pub mod normalise;

use regex::Regex;
use schemas::Envelope;
use schemas::settings::{IdentityRule, Occurrence};
use schemas::verdict::{Identity, RemoveField};

use crate::evidence;
use crate::header::{HeaderField, HeaderSection};

/// Longest identity, in bytes.
pub const MAX_IDENTITY_BYTES: usize = 256;
/// A value that a rule looks at is cut to this, in bytes.
const MAX_VALUE_BYTES: usize = 4096;

/// A rule that is ready to use.
#[derive(Clone, Debug)]
pub enum Rule {
    Auto,
    Envelope,
    User,
    Header { name: String, occurrence: Occurrence, regex: Option<Regex>, remove: bool },
}

impl Rule {
    /// # Errors
    /// When its regular expression is none, or would need too much memory.
    pub fn compile(rule: &IdentityRule) -> Result<Self, regex::Error> {
        Ok(match rule {
            IdentityRule::Auto => Rule::Auto,
            IdentityRule::Envelope => Rule::Envelope,
            IdentityRule::User => Rule::User,
            IdentityRule::Header { name, occurrence, regex, remove } => Rule::Header {
                name: name.clone(),
                // MTAs put Received on top and everything else at the end: what the MTA added is there.
                occurrence: if name.eq_ignore_ascii_case("received") {
                    Occurrence::First
                } else {
                    *occurrence
                },
                regex: regex
                    .as_deref()
                    .map(|text| regex::RegexBuilder::new(text).size_limit(1 << 20).build())
                    .transpose()?,
                remove: *remove,
            },
        })
    }
}

/// An identity and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    pub identity: Identity,
    /// `header:X-AuthUser`, `received`, `envelope`, `user` ...
    pub source: String,
    /// Every field that a rule wants removed, whichever rule found the identity.
    pub remove_fields: Vec<RemoveField>,
}

/// Finds the identity of a message. When no rule finds one it is the outgoing user.
#[must_use]
pub fn identify(rules: &[Rule], section: &HeaderSection<'_>, envelope: &Envelope) -> Identified {
    let (identity, source) = rules
        .iter()
        .find_map(|rule| apply(rule, section, envelope))
        .unwrap_or_else(|| (envelope.user.to_string(), "user".into()));
    let identity = evidence::clean(identity.trim(), MAX_IDENTITY_BYTES);
    Identified { identity: Identity(identity), source, remove_fields: fields_to_remove(rules, section) }
}

fn apply(rule: &Rule, section: &HeaderSection<'_>, envelope: &Envelope) -> Option<(String, String)> {
    let (identity, source) = match rule {
        Rule::Auto => auto::identify(section, envelope),
        Rule::Envelope => (normalise::reverse_path(envelope), "envelope".into()),
        Rule::User => (envelope.user.to_string(), "user".into()),
        Rule::Header { name, occurrence, regex, .. } => {
            let field = match occurrence {
                Occurrence::First => section.first(name),
                Occurrence::Last => section.last(name),
            }?;
            (of_field(name, &field, regex.as_ref())?, format!("header:{name}"))
        }
    };
    let found = identity.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    if found.is_empty() { None } else { Some((found.to_owned(), source)) }
}

/// With a regular expression: its first group, else all it matched. Without: fields whose shape is known are read as
/// `auto` reads them, any other is taken whole.
fn of_field(name: &str, field: &HeaderField<'_>, regex: Option<&Regex>) -> Option<String> {
    let text = field.text();
    let text = cut(&text, MAX_VALUE_BYTES);
    match regex {
        Some(regex) => {
            let captures = regex.captures(text)?;
            let found = captures.get(1).or_else(|| captures.get(0))?;
            Some(normalise::account(found.as_str()))
        }
        None => auto::read_known(name, text).unwrap_or_else(|| Some(normalise::account(text))),
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn fields_to_remove(rules: &[Rule], section: &HeaderSection<'_>) -> Vec<RemoveField> {
    let mut remove: Vec<RemoveField> = Vec::new();
    for rule in rules {
        let Rule::Header { name, occurrence, remove: true, .. } = rule else { continue };
        let count = section.all(name).count();
        if count == 0 {
            continue;
        }
        let index = match occurrence {
            Occurrence::First => 0,
            Occurrence::Last => count - 1,
        };
        let field = RemoveField { name: name.clone(), index };
        if !remove.contains(&field) {
            remove.push(field);
        }
    }
    remove
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;
    use proptest::prelude::*;

    fn rules(json: &str) -> Vec<Rule> {
        let rules: Vec<IdentityRule> = serde_json::from_str(json).unwrap();
        rules.iter().map(|rule| Rule::compile(rule).unwrap()).collect()
    }

    fn check(json: &str, message: &str, identity: &str, source: &str) -> Identified {
        let envelope = envelope("shop@customer.example", &["r@elsewhere.example"]);
        let found = identify(&rules(json), &HeaderSection::split(message.as_bytes()), &envelope);
        assert_eq!((found.identity.0.as_str(), found.source.as_str()), (identity, source), "{json}");
        found
    }

    #[test]
    fn the_first_rule_that_finds_something_wins() {
        let message = "X-Id: forged\r\nX-Id:  Alice \r\nX-Other: <b> uid=77;\r\n\r\n";
        check(r#"["header:X-Id"]"#, message, "Alice", "header:X-Id");
        check(r#"["header:X-None", "envelope"]"#, message, "shop@customer.example", "envelope");
        check(r#"[{"header": "X-Id", "occurrence": "first"}]"#, message, "forged", "header:X-Id");
        check(r#"[{"header": "x-other", "regex": "uid=(\\d+)"}]"#, message, "77", "header:x-other");
        check(r#"[{"header": "x-other", "regex": "uid=\\d+"}]"#, message, "uid=77", "header:x-other");
        check(r#"[{"header": "x-other", "regex": "gone(.*)"}, "user"]"#, message, "192.0.2.0/28", "user");
        check(r#"["header:X-None"]"#, message, "192.0.2.0/28", "user");
    }

    #[test]
    fn received_counts_from_the_top() {
        let message = "Received: from a (Authenticated sender: top@x.example) by b\r\nReceived: from c (Authenticated sender: old@x.example)\r\n\r\n";
        check(r#"["header:Received"]"#, message, "top@x.example", "header:Received");
        check(
            r#"[{"header": "Received", "regex": "\\(Authenticated sender: (.*?)\\)"}]"#,
            message,
            "top@x.example",
            "header:Received",
        );
    }

    #[test]
    fn fields_to_remove_are_named_by_number() {
        let message = "X-Id: a\r\nX-Id: b\r\nX-Token: t\r\n\r\n";
        let found = check(
            r#"[{"header": "X-Id", "remove": true}, {"header": "X-Token", "occurrence": "first", "remove": true}]"#,
            message,
            "b",
            "header:X-Id",
        );
        let expect =
            [("X-Id", 1), ("X-Token", 0)].map(|(name, index)| RemoveField { name: name.into(), index });
        assert_eq!(found.remove_fields, expect);
    }

    #[test]
    fn an_identity_is_bounded_and_clean() {
        let message = format!("X-Id: {}\u{1}\r\n\tb\r\n\r\n", "ä".repeat(400));
        let envelope = envelope("a@b.example", &["r@elsewhere.example"]);
        let found =
            identify(&rules(r#"["header:X-Id"]"#), &HeaderSection::split(message.as_bytes()), &envelope);
        assert!(found.identity.0.len() <= MAX_IDENTITY_BYTES && !found.identity.0.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn any_header_section_has_an_identity(raw in proptest::collection::vec(any::<u8>(), 0..300), name in prop_oneof![
            Just("Received"), Just("X-Authenticated-Sender"), Just("X-Get-Message-Sender-Via"),
            Just("X-PHP-Originating-Script"), Just("X-Source-Dir"), Just("X-AuthUser"),
        ]) {
            let mut message = format!("{name}: ").into_bytes();
            message.extend(&raw);
            let envelope = envelope("a@b.example", &["r@elsewhere.example"]);
            let found = identify(&[Rule::Auto], &HeaderSection::split(&message), &envelope);
            prop_assert!(!found.identity.0.is_empty());
            prop_assert!(found.identity.0.len() <= MAX_IDENTITY_BYTES);
        }
    }
}
