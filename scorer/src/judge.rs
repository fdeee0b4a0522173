//! The verdict: a pure function of (locks, settings, envelope, message, what others say of it, now).
//!
//! What decides, from the strongest; a row that applies ends it:
//!
//! | # | found | classification | disposition |
//! |---|---|---|---|
//! | 1 | mail of our own | `own` | release, nothing else is asked |
//! | 2 | malware | `virus` | quarantine, whatever lists or observation say |
//! | 3 | the user or identity is locked | `locked_sender` | quarantine: somebody decided so, no list lifts it |
//! | 4 | a mail loop (check in block mode) | `too_many_received` | quarantine: let go on, it would never end |
//! | 5 | sender on the allow list, or every recipient on it | `allow_listed` | release |
//! | 6 | sender, or any recipient, on a block list | `blocked_sender`, `blocked_recipient` | quarantine (observed: release) |
//! | 7 | a structure check in block mode | of the first in `checks::CHECKS` | quarantine (observed: release) |
//! | 8 | score at or above the user's `spam_threshold` | `spam`; `forwarded_spam` when it is only passed on | quarantine (observed: release) |
//! | 9 | score at or above the model's second point | `suspect` | release |
//! | 10 | nothing of that | `clean` | release |
//!
//! What would be released although an engine that must be asked said nothing of it (`when_down`) is not: it goes to quarantine
//! as `unchecked`, or is held and judged again, whatever lists or observation say.
//!
//! The score is the probability that at least one of the symbols is right, each weight being the probability that it is: so
//! weak findings add up, none outweighs the classifier, and the score can be computed again from the symbols alone.
//!
//! "Observed": with `spam_action = "observe"` what rows 6 to 8 would block is released as `observe_only`. Whatever row
//! decides, every finding stands in the symbols with its evidence. Limits, and the holds that follow from them, belong
//! between rows 5 and 6.

use schemas::settings::{CheckMode, QuarantineResponse, SpamAction};
use schemas::verdict::{Classification, Disposition, MessageSummary, RemoveField, Symbol, Verdict};
use schemas::{EnhancedCode, Envelope, Position, SmtpReply, Timestamp};

use crate::checks::{self, Found};
use crate::classifier::Classifier;
use crate::content::{self, Content};
use crate::evidence;
use crate::facts::Facts;
use crate::forwarded;
use crate::identity::{self, Identified, Rule};
use crate::outside::{Findings, Unchecked};
use crate::policy::Policy;
use crate::state::Senders;
use crate::summary;

/// A verdict with what the record of the message needs besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub remove_fields: Vec<RemoveField>,
    /// What the client gets when the message goes to quarantine.
    pub quarantine_response: QuarantineResponse,
}

impl Judgement {
    /// The reply for the session that waits.
    #[must_use]
    pub fn reply(&self) -> SmtpReply {
        let message = &self.verdict.message;
        let refused = self.verdict.disposition == Disposition::Quarantine
            && self.quarantine_response == QuarantineResponse::Reject;
        if refused {
            message.classification.reply(message.id)
        } else {
            SmtpReply::new(250, EnhancedCode(2, 0, 0), format!("queued as {}", message.id))
        }
    }
}

/// A message, and what it is judged by.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub envelope: &'a Envelope,
    pub message: &'a [u8],
    pub policy: &'a Policy,
}

/// Judges one message. `findings`: what others say of it; `accepted`: where it stands; `now`: when it is judged.
#[must_use]
pub fn judge(
    case: &Case<'_>,
    findings: &Findings,
    accepted: Position,
    senders: &Senders,
    classifier: &Classifier,
    now: Timestamp,
) -> Judgement {
    let Case { envelope, message, policy } = *case;
    let facts = Facts::of(envelope, message);
    let identified = identity::identify(&policy.identification, &facts.header, envelope);
    if envelope.origin.is_some() {
        let own = Decision::of(Classification::Own, Disposition::Release);
        return write(&facts, accepted, policy, identified, own, Vec::new(), None, now);
    }
    let lists = Lists::ask(&facts, policy);
    let lock = senders.lock(&envelope.user, &identified.identity, now);
    let found = checks::run(&facts, policy);
    let mut content = content::examine(&facts, policy, classifier);
    content.symbols.extend_from_slice(&findings.symbols);
    content.is_virus |= findings.is_virus;

    let mut symbols = Vec::new();
    let is_forwarded = forwarded::is_forwarded(&facts, &identified.source, &policy.from_domains);
    if is_forwarded {
        symbols.push(evidence::symbol("FORWARDED", 0.0, ""));
    }
    if let Some(lock) = lock {
        let of = if lock.of_user { "user" } else { "identity" };
        let evidence = format!("{of}, by {}: {}", lock.lock.by, lock.lock.reason);
        symbols.push(evidence::symbol("LOCKED_SENDER", 1.0, &evidence));
    }
    symbols.extend(lists.symbols());
    let by_content = ByContent::of(&content, &found, policy, classifier);
    symbols.extend(content.symbols);
    let mut decision =
        decide(lock.is_some(), &lists, &found, content.is_virus, by_content, policy.spam_action);
    if is_forwarded {
        decision.is_passed_on();
    }
    if let Some(unchecked) = findings.unchecked {
        decision.is_unchecked(unchecked);
    }
    symbols.extend(found.symbols);
    // Whoever looks into an account wants to know which of its scripts it was.
    if let Some((script, _)) = identity::auto::script(&facts.header) {
        symbols.push(evidence::symbol("SCRIPT", 0.0, &script));
    }
    let by_fields = policy.identification.iter().any(|rule| matches!(rule, Rule::Auto));
    if let Some(fields) = by_fields.then(|| identity::auto::disagreement(&facts.header)).flatten() {
        symbols.push(evidence::symbol("IDENTITY_FIELDS_DISAGREE", 0.0, &fields));
    }
    let model = Some(classifier.version());
    write(&facts, accepted, policy, identified, decision, symbols, model, now)
}

/// What the score makes of a message that nothing else decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByContent {
    Spam,
    Suspect,
    Clean,
}

impl ByContent {
    fn of(content: &Content, found: &Found, policy: &Policy, classifier: &Classifier) -> Self {
        let mode = policy.mode(Classification::Spam);
        if mode == CheckMode::Off {
            return ByContent::Clean;
        }
        let threshold = policy.spam_threshold.unwrap_or_else(|| classifier.spam_threshold());
        // What blocks by itself says nothing of the content.
        let counted = found.symbols.iter().filter(|symbol| symbol.weight < 1.0);
        let score = score(content.symbols.iter().chain(counted));
        let blocks = mode == CheckMode::Block;
        if content.is_test_spam || (blocks && score >= threshold) {
            ByContent::Spam
        } else if score >= classifier.suspect_threshold().min(threshold) {
            ByContent::Suspect
        } else {
            ByContent::Clean
        }
    }
}

/// The probability that at least one of the symbols is right.
fn score<'a>(symbols: impl Iterator<Item = &'a Symbol>) -> f32 {
    1.0 - symbols.map(|symbol| 1.0 - symbol.weight.clamp(0.0, 1.0)).product::<f32>()
}

/// The table at the top of this file.
fn decide(
    locked: bool,
    lists: &Lists,
    found: &Found,
    is_virus: bool,
    by_content: ByContent,
    spam_action: SpamAction,
) -> Decision {
    use Classification as C;
    use Disposition::{Quarantine, Release};
    if is_virus {
        return Decision::of(C::Virus, Quarantine);
    }
    if locked {
        return Decision::of(C::LockedSender, Quarantine);
    }
    if found.is_loop {
        return Decision::of(C::TooManyReceived, Quarantine);
    }
    if lists.allowed.is_some() {
        return Decision::of(C::AllowListed, Release);
    }
    let spam = (by_content == ByContent::Spam).then_some(C::Spam);
    let blocked_as = (lists.blocked_sender.as_ref().map(|_| C::BlockedSender))
        .or(lists.blocked_recipient.as_ref().map(|_| C::BlockedRecipient))
        .or(found.blocked_as)
        .or(spam);
    match (blocked_as, spam_action) {
        (None, _) if by_content == ByContent::Suspect => Decision::of(C::Suspect, Release),
        (None, _) => Decision::of(C::Clean, Release),
        (Some(_), SpamAction::Observe) => {
            Decision { observed_as: spam.or(blocked_as), ..Decision::of(C::ObserveOnly, Release) }
        }
        (Some(classification), SpamAction::Enforce) => Decision::of(classification, Quarantine),
    }
}

/// What a message is, and what happens with it.
#[derive(Clone, Copy)]
struct Decision {
    classification: Classification,
    disposition: Disposition,
    observed_as: Option<Classification>,
}

impl Decision {
    fn of(classification: Classification, disposition: Disposition) -> Self {
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
            if *classification == Classification::Spam {
                *classification = Classification::ForwardedSpam;
            }
        }
    }
}

/// What the allow and block lists say, each with the entry's address.
#[derive(Debug, Default)]
struct Lists {
    allowed: Option<String>,
    blocked_sender: Option<String>,
    blocked_recipient: Option<String>,
}

impl Lists {
    fn ask(facts: &Facts<'_>, policy: &Policy) -> Self {
        // The sender is the reverse-path, or the author: either on a list is enough.
        let sender_on = |list: &crate::address_list::AddressList| {
            if list.is_empty() {
                return None;
            }
            let senders = facts.envelope.reverse_path.mailbox().into_iter().chain(facts.header_from());
            senders.into_iter().find(|mailbox| list.contains(mailbox)).map(ToString::to_string)
        };
        let recipients = || facts.envelope.recipients.iter().map(|recipient| &recipient.forward_path);
        // One allowed recipient must not carry a message to all the others.
        let all_allowed = !policy.allow_recipients.is_empty()
            && !facts.envelope.recipients.is_empty()
            && recipients().all(|mailbox| policy.allow_recipients.contains(mailbox));
        Lists {
            allowed: sender_on(&policy.allow_senders)
                .or_else(|| all_allowed.then(|| "every recipient".to_owned())),
            blocked_sender: sender_on(&policy.block_senders),
            blocked_recipient: recipients()
                .find(|mailbox| policy.block_recipients.contains(mailbox))
                .map(ToString::to_string),
        }
    }

    fn symbols(&self) -> impl Iterator<Item = Symbol> {
        let entry = |name: &str, weight, found: &Option<String>| {
            found.as_ref().map(|evidence| evidence::symbol(name, weight, evidence))
        };
        [
            entry("ALLOW_LISTED", 0.0, &self.allowed),
            entry("BLOCKED_SENDER", 1.0, &self.blocked_sender),
            entry("BLOCKED_RECIPIENT", 1.0, &self.blocked_recipient),
        ]
        .into_iter()
        .flatten()
    }
}

#[allow(clippy::too_many_arguments)] // each is one field of the verdict
fn write(
    facts: &Facts<'_>,
    accepted: Position,
    policy: &Policy,
    identified: Identified,
    decision: Decision,
    mut symbols: Vec<Symbol>,
    model: Option<&str>,
    now: Timestamp,
) -> Judgement {
    evidence::bound(&mut symbols);
    let envelope = facts.envelope;
    let score = score(symbols.iter());
    let classification = decision.classification;
    let message = MessageSummary {
        id: envelope.id,
        accepted_at: envelope.accepted_at,
        user: envelope.user.clone(),
        domain: envelope.domain.clone(),
        identity: identified.identity,
        reverse_path: envelope.reverse_path.clone(),
        header_from: facts.header_from().map(|mailbox| mailbox.domain().clone()),
        classification,
        observed_as: decision.observed_as,
        size_bytes: envelope.size_bytes,
        header_message_id: summary::header_message_id(facts),
        client_queue_id: summary::client_queue_id(facts),
        subject: summary::subject(facts),
        own: classification == Classification::Own,
    };
    let verdict = Verdict {
        message,
        at: now,
        disposition: decision.disposition,
        score,
        symbols,
        identity_source: identified.source,
        policy_version: policy.version,
        model_version: model.map(str::to_owned),
        client: envelope.client.clone(),
        recipients: envelope.recipients.iter().map(|r| r.forward_path.clone()).collect(),
        accepted,
    };
    Judgement {
        verdict,
        remove_fields: identified.remove_fields,
        // A refusal would make the account bounce it to somebody who never sent it.
        quarantine_response: match classification {
            Classification::ForwardedSpam => QuarantineResponse::Accept,
            _ => policy.quarantine_response,
        },
    }
}

/// The verdict on a message that cannot be read: it can be neither judged nor delivered, but it must be found. `why`:
/// symbol and evidence.
#[must_use]
pub fn without_message(
    envelope: &Envelope,
    accepted: Position,
    policy: &Policy,
    (symbol, evidence): (&str, &str),
    now: Timestamp,
) -> Judgement {
    let facts = Facts::of(envelope, b"");
    let identified = identity::identify(&policy.identification, &facts.header, envelope);
    let symbols = vec![evidence::symbol(symbol, 1.0, evidence)];
    write(
        &facts,
        accepted,
        policy,
        identified,
        Decision::of(Classification::Unknown, Disposition::Quarantine),
        symbols,
        None,
        now,
    )
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
