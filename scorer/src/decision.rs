//! What follows from what was found, by the table in `judge`: a pure function of findings and policy, so that a stored
//! verdict can be decided again (`recompute`) by the very same lines.

use schemas::settings::{CheckMode, QuarantineResponse, SpamAction};
use schemas::verdict::{Classification, Disposition, Symbol};
use schemas::{Mailbox, ReversePath};

use crate::address_list::AddressList;
use crate::checks::Found;
use crate::content::Content;
use crate::outside::Unchecked;
use crate::policy::Policy;
use crate::{behaviour, bounces, evidence};

/// Everything that was found of a message.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    pub is_locked: bool,
    /// Only passed on.
    pub is_forwarded: bool,
    pub lists: &'a Lists,
    pub found: &'a Found,
    pub content: &'a Content,
    /// The model's own points: spam, suspect.
    pub points: (f32, f32),
    /// Somebody who must be asked has not said anything.
    pub unchecked: Option<Unchecked>,
}

/// What a message is, and what happens with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub classification: Classification,
    pub disposition: Disposition,
    /// What it would be if it were not only observed.
    pub observed_as: Option<Classification>,
}

/// The table in `judge`.
#[must_use]
pub fn decide(grounds: &Grounds<'_>, policy: &Policy) -> Decision {
    let mut decision = by_the_strongest(grounds, policy);
    if grounds.is_forwarded {
        decision.is_passed_on();
    }
    if let Some(unchecked) = grounds.unchecked {
        decision.is_unchecked(unchecked);
    }
    decision
}

fn by_the_strongest(grounds: &Grounds<'_>, policy: &Policy) -> Decision {
    use Classification as C;
    use Disposition::{Quarantine, Release};
    let Grounds { lists, found, content, .. } = *grounds;
    if content.is_virus {
        return Decision::of(C::Virus, Quarantine);
    }
    if grounds.is_locked {
        return Decision::of(C::LockedSender, Quarantine);
    }
    if found.is_loop {
        return Decision::of(C::TooManyReceived, Quarantine);
    }
    if lists.allowed.is_some() {
        return Decision::of(C::AllowListed, Release);
    }
    let by_content = ByContent::of(grounds, policy);
    // A test string is a test of the spam filter.
    let kind = if content.is_phishing && !content.is_test_spam { C::Phishing } else { C::Spam };
    let spam = (by_content == ByContent::Spam).then_some(kind);
    let blocked_as = (lists.blocked_sender.as_ref().map(|_| C::BlockedSender))
        .or(lists.blocked_recipient.as_ref().map(|_| C::BlockedRecipient))
        .or(found.blocked_as)
        .or(spam);
    match (blocked_as, policy.spam_action) {
        (None, _) if by_content == ByContent::Suspect => Decision::of(C::Suspect, Release),
        (None, _) => Decision::of(C::Clean, Release),
        (Some(_), SpamAction::Observe) => {
            Decision { observed_as: spam.or(blocked_as), ..Decision::of(C::ObserveOnly, Release) }
        }
        (Some(classification), SpamAction::Enforce) => Decision::of(classification, Quarantine),
    }
}

impl Decision {
    #[must_use]
    pub fn of(classification: Classification, disposition: Disposition) -> Self {
        Decision { classification, disposition, observed_as: None }
    }

    /// What somebody who must be asked said nothing of is not released.
    fn is_unchecked(&mut self, unchecked: Unchecked) {
        if self.disposition != Disposition::Release {
            return;
        }
        match unchecked {
            Unchecked::Later => self.disposition = Disposition::Hold,
            Unchecked::Blocks => *self = Decision::of(Classification::Unchecked, Disposition::Quarantine),
        }
    }

    /// The message is not of whoever sends it here: their spam is somebody else's.
    fn is_passed_on(&mut self) {
        for classification in std::iter::once(&mut self.classification).chain(&mut self.observed_as) {
            if matches!(classification, Classification::Spam | Classification::Phishing) {
                *classification = Classification::ForwardedSpam;
            }
        }
    }

    /// What the client gets when the message goes to quarantine.
    #[must_use]
    pub fn response(&self, policy: &Policy) -> QuarantineResponse {
        match self.classification {
            // A refusal would make the account bounce it to somebody who never sent it.
            Classification::ForwardedSpam => QuarantineResponse::Accept,
            _ => policy.quarantine_response,
        }
    }
}

/// The least score without behaviour and bounces with which these make a message spam, however low the thresholds are.
const LEAST_BESIDE_BEHAVIOUR: f32 = 0.3;

/// What the score makes of a message that nothing else decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByContent {
    Spam,
    Suspect,
    Clean,
}

impl ByContent {
    fn of(grounds: &Grounds<'_>, policy: &Policy) -> Self {
        let mode = policy.mode(Classification::Spam);
        if mode == CheckMode::Off {
            return ByContent::Clean;
        }
        let (spam, suspect) = thresholds(grounds.points, policy);
        // What blocks by itself says nothing of the content.
        let counted = grounds.found.symbols.iter().filter(|symbol| symbol.weight < 1.0);
        let symbols = grounds.content.symbols.iter().chain(counted);
        let total = score(symbols.clone());
        // Who behaves unlike before may be a first newsletter: without any doubt about the message itself that is no spam.
        let of_message = score(symbols.filter(|symbol| !is_of_sender(&symbol.name)));
        let is_doubtful = of_message >= suspect.max(LEAST_BESIDE_BEHAVIOUR).min(spam);
        let blocks = mode == CheckMode::Block;
        if grounds.content.is_test_spam || (blocks && total >= spam && is_doubtful) {
            ByContent::Spam
        } else if total >= suspect {
            ByContent::Suspect
        } else {
            ByContent::Clean
        }
    }
}

/// Symbols that say how the sender behaves, and nothing of the message itself.
fn is_of_sender(name: &str) -> bool {
    behaviour::SYMBOLS.contains(&name) || bounces::SYMBOLS.contains(&name)
}

/// The scores from which a message is spam, and suspect; `points`: the model's own.
#[must_use]
pub fn thresholds(points: (f32, f32), policy: &Policy) -> (f32, f32) {
    let spam = policy.spam_threshold.unwrap_or(points.0);
    (spam, points.1.min(spam))
}

/// The probability that at least one of the symbols is right.
pub fn score<'a>(symbols: impl Iterator<Item = &'a Symbol>) -> f32 {
    1.0 - symbols.map(|symbol| 1.0 - symbol.weight.clamp(0.0, 1.0)).product::<f32>()
}

/// What the allow and block lists say, each with the entry's address.
#[derive(Debug, Default)]
pub struct Lists {
    pub allowed: Option<String>,
    pub blocked_sender: Option<String>,
    pub blocked_recipient: Option<String>,
}

/// The names of what the lists say among the symbols.
pub const LIST_SYMBOLS: [&str; 3] = ["ALLOW_LISTED", "BLOCKED_SENDER", "BLOCKED_RECIPIENT"];

impl Lists {
    /// `author`: the first one in the From field.
    #[must_use]
    pub fn ask<'a>(
        reverse_path: &ReversePath,
        author: Option<&Mailbox>,
        mut recipients: impl ExactSizeIterator<Item = &'a Mailbox> + Clone,
        policy: &Policy,
    ) -> Self {
        // The sender is the reverse-path, or the author: either on a list is enough.
        let sender_on = |list: &AddressList| {
            if list.is_empty() {
                return None;
            }
            let senders = reverse_path.mailbox().into_iter().chain(author);
            senders.into_iter().find(|mailbox| list.contains(mailbox)).map(ToString::to_string)
        };
        // One allowed recipient must not carry a message to all the others.
        let all_allowed = !policy.allow_recipients.is_empty()
            && recipients.len() > 0
            && recipients.clone().all(|mailbox| policy.allow_recipients.contains(mailbox));
        Lists {
            allowed: sender_on(&policy.allow_senders)
                .or_else(|| all_allowed.then(|| "every recipient".to_owned())),
            blocked_sender: sender_on(&policy.block_senders),
            blocked_recipient: recipients
                .find(|mailbox| policy.block_recipients.contains(mailbox))
                .map(ToString::to_string),
        }
    }

    pub fn symbols(&self) -> impl Iterator<Item = Symbol> {
        let [allowed, blocked_sender, blocked_recipient] = LIST_SYMBOLS;
        let entry = |name: &str, weight, found: &Option<String>| {
            found.as_ref().map(|evidence| evidence::symbol(name, weight, evidence))
        };
        [
            entry(allowed, 0.0, &self.allowed),
            entry(blocked_sender, 1.0, &self.blocked_sender),
            entry(blocked_recipient, 1.0, &self.blocked_recipient),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::policy;
    use crate::{behaviour, bounces};

    /// What a message is by its content of this weight, with every symbol of behaviour and bounces.
    fn decided(settings: &str, points: (f32, f32), content: f32) -> Classification {
        let behaves = behaviour::SYMBOLS.into_iter().chain(bounces::SYMBOLS);
        let mut symbols: Vec<Symbol> = behaves.map(|name| evidence::symbol(name, 0.35, "")).collect();
        symbols.push(evidence::symbol("CONTENT", content, ""));
        let content = Content { symbols, ..Content::default() };
        assert!(score(content.symbols.iter()) > 0.97, "more than any threshold");
        let grounds = Grounds {
            is_locked: false,
            is_forwarded: false,
            lists: &Lists::default(),
            found: &Found::default(),
            content: &content,
            points,
            unchecked: None,
        };
        decide(&grounds, &policy(settings)).classification
    }

    #[test]
    fn behaviour_makes_spam_only_of_what_its_content_makes_suspect() {
        use Classification as C;
        let (shipped, of_site) = ((0.968, 0.48), (0.32, 0.1));
        let (all, low) = ("{}", r#"{"spam_threshold": 0.2}"#);
        for (settings, points, content, expect) in [
            (all, shipped, 0.0, C::Suspect),
            (all, shipped, 0.45, C::Suspect),
            (all, shipped, 0.5, C::Spam),
            (all, of_site, 0.0, C::Suspect),
            (all, of_site, 0.25, C::Suspect),
            (all, of_site, 0.31, C::Spam),
            (low, shipped, 0.0, C::Suspect),
            (low, shipped, 0.15, C::Suspect),
            // Spam by the content alone, at the threshold that somebody chose.
            (low, shipped, 0.21, C::Spam),
            (r#"{"checks": {"spam": "count"}}"#, shipped, 0.99, C::Suspect),
        ] {
            assert_eq!(decided(settings, points, content), expect, "{settings} {points:?} {content}");
        }
    }
}
