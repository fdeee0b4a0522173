//! What follows from what was found, by the table in `judge`: a pure function of findings and policy, so that a stored
//! verdict can be decided again (`recompute`) by the very same lines.

use schemas::settings::{CheckMode, QuarantineResponse, SpamAction};
use schemas::verdict::{Classification, Disposition, Symbol};
use schemas::{Mailbox, ReversePath};

use crate::address_list::AddressList;
use crate::checks::Found;
use crate::content::Content;
use crate::evidence;
use crate::policy::Policy;

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
        let score = score(grounds.content.symbols.iter().chain(counted));
        let blocks = mode == CheckMode::Block;
        if grounds.content.is_test_spam || (blocks && score >= spam) {
            ByContent::Spam
        } else if score >= suspect {
            ByContent::Suspect
        } else {
            ByContent::Clean
        }
    }
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
