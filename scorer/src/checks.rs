//! Structure checks: what can be said of a message without asking anybody. One list, in the order in which a finding
//! names the classification of the message when there are several.

mod attachment;
mod envelope;
mod fields;
mod layout;
mod sender;

use schemas::settings::CheckMode;
use schemas::verdict::{Classification, Symbol};
use schemas::{Mailbox, ReversePath};

use crate::evidence;
use crate::facts::Facts;
use crate::policy::Policy;

/// One check.
pub struct Check {
    /// What a message that it blocks is; its code also names the check in settings.
    pub classification: Classification,
    pub symbol: &'static str,
    pub default_mode: CheckMode,
    /// Weight where it only counts; one that blocks weighs 1.
    pub counted_weight: f32,
    /// The evidence, when there is something.
    find: fn(&Facts<'_>, &Policy) -> Option<String>,
}

const fn blocks(
    classification: Classification,
    symbol: &'static str,
    find: fn(&Facts<'_>, &Policy) -> Option<String>,
) -> Check {
    Check { classification, symbol, default_mode: CheckMode::Block, counted_weight: 0.2, find }
}

const fn counts(
    classification: Classification,
    symbol: &'static str,
    counted_weight: f32,
    find: fn(&Facts<'_>, &Policy) -> Option<String>,
) -> Check {
    Check { classification, symbol, default_mode: CheckMode::Count, counted_weight, find }
}

use Classification as C;

/// Every check. `checks = { CODE = "off" | "count" | "block" }` switches one, by the code of its classification.
pub const CHECKS: [Check; 18] = [
    blocks(C::TooManyReceived, "TOO_MANY_RECEIVED", fields::too_many_received),
    blocks(C::NullPathManyRecipients, "NULL_PATH_MANY_RECIPIENTS", envelope::null_path_many_recipients),
    blocks(C::RestrictedCharacters, "RESTRICTED_CHARACTERS", envelope::restricted_characters),
    blocks(C::FromDomainNotAllowed, "FROM_DOMAIN_NOT_ALLOWED", sender::from_domain_not_allowed),
    blocks(C::InvalidSender, "INVALID_SENDER", sender::invalid_sender),
    blocks(C::BlockedAttachment, "BLOCKED_ATTACHMENT", attachment::blocked_attachment),
    blocks(C::MessagePartial, "MESSAGE_PARTIAL", layout::message_partial),
    blocks(C::HeaderTooLong, "HEADER_TOO_LONG", fields::header_too_long),
    blocks(C::DuplicateHeader, "DUPLICATE_HEADER", fields::duplicate_header),
    blocks(C::LineTooLong, "LINE_TOO_LONG", layout::line_too_long),
    blocks(C::TooManyParts, "TOO_MANY_PARTS", layout::too_many_parts),
    counts(C::MissingFrom, "MISSING_FROM", 0.2, sender::missing_from),
    counts(C::ManyFrom, "MANY_FROM", 0.1, sender::many_from),
    counts(C::InvalidHelo, "INVALID_HELO", 0.05, envelope::invalid_helo),
    counts(C::DateOff, "DATE_OFF", 0.1, fields::date_off),
    counts(C::MissingDate, "MISSING_DATE", 0.05, fields::missing_date),
    counts(C::RawSubject, "RAW_SUBJECT", 0.1, fields::raw_subject),
    counts(C::MalformedHeader, "MALFORMED_HEADER", 0.1, fields::malformed_header),
];

/// Checks that others (see `outside`) or the user's history (see `bulk`) are asked for: counted, unless they are switched.
/// They come after those of [`CHECKS`].
pub const ASKED: [Classification; 3] = [C::ListedHost, C::Dmarc, C::BulkSender];

/// What the checks found.
#[derive(Debug, Default)]
pub struct Found {
    pub symbols: Vec<Symbol>,
    /// Of the first check in the list that blocks.
    pub blocked_as: Option<Classification>,
    /// Which symbols answer a check that others were asked for: index, check, and what it weighed by itself.
    pub asked: Vec<(usize, Classification, f32)>,
    /// A mail loop: not even an allow list lets it go on.
    pub is_loop: bool,
}

/// Runs every check that is not off.
#[must_use]
pub fn run(facts: &Facts<'_>, policy: &Policy) -> Found {
    assess(policy, |check| (check.find)(facts, policy))
}

/// What the checks that are not off make of the evidence that `find` has for each.
#[must_use]
pub fn assess(policy: &Policy, mut find: impl FnMut(&Check) -> Option<String>) -> Found {
    let mut found = Found::default();
    for (index, check) in CHECKS.iter().enumerate() {
        let mode = policy.check_mode(index);
        if mode == CheckMode::Off {
            continue;
        }
        let Some(evidence) = find(check) else { continue };
        let weight = if mode == CheckMode::Block { 1.0 } else { check.counted_weight };
        found.symbols.push(evidence::symbol(check.symbol, weight, &evidence));
        if mode == CheckMode::Block {
            found.blocked_as.get_or_insert(check.classification);
            found.is_loop |= check.classification == Classification::TooManyReceived;
        }
    }
    found
}

/// Codes of the checks that are off.
#[must_use]
pub fn off(policy: &Policy) -> Vec<String> {
    let off = CHECKS.iter().enumerate().filter(|(index, _)| policy.check_mode(*index) == CheckMode::Off);
    let asked = ASKED.into_iter().filter(|asked| policy.asked_mode(*asked) == CheckMode::Off);
    off.map(|(_, check)| check.classification).chain(asked).map(|off| off.code().to_owned()).collect()
}

/// Whether a check of the author and the reverse-path would find something, as far as that can be told from them alone.
/// `author`: the first valid one; `is_alone`: there is certainly no other, not even an invalid one.
#[must_use]
pub fn finds_by_sender(
    classification: Classification,
    reverse_path: &ReversePath,
    author: Option<&Mailbox>,
    is_alone: bool,
    policy: &Policy,
) -> Option<bool> {
    match classification {
        C::FromDomainNotAllowed => sender::finds_from_domain(author, is_alone, policy),
        C::InvalidSender => sender::finds_invalid_sender(reverse_path, author, is_alone, policy),
        _ => None,
    }
}

impl Found {
    /// Adds what others found. What is only passed on may fail DMARC, or lack what bulk mail must have, without the fault of
    /// whoever passes it on: there it never blocks.
    pub fn add_asked(&mut self, asked: &[(Classification, Symbol)], policy: &Policy, is_forwarded: bool) {
        for (classification, symbol) in asked {
            let never_blocks = is_forwarded && matches!(classification, C::Dmarc | C::BulkSender);
            let mode = match policy.asked_mode(*classification) {
                CheckMode::Off => continue,
                CheckMode::Block if never_blocks => CheckMode::Count,
                mode => mode,
            };
            let mut symbol = symbol.clone();
            self.asked.push((self.symbols.len(), *classification, symbol.weight));
            if mode == CheckMode::Block {
                symbol.weight = 1.0;
                self.blocked_as.get_or_insert(*classification);
            }
            self.symbols.push(symbol);
        }
    }
}

#[cfg(test)]
mod asked_tests;
#[cfg(test)]
mod table_tests;
