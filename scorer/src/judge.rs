//! The verdict: a pure function of (locks, settings, envelope, message, what others say of it, now). What is found is gathered
//! here, what follows from it stands in `decision`.
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
//! | 7 | a check in block mode | of the first in `checks::CHECKS`, then `checks::ASKED` | quarantine (observed: release) |
//! | 8 | score at or above the user's `spam_threshold` | `spam`; `phishing` when it is after credentials in somebody else's name; `forwarded_spam` when it is only passed on | quarantine (observed: release) |
//! | 9 | score at or above the model's second point | `suspect` | release |
//! | 10 | nothing of that | `clean` | release |
//!
//! What would be released although an engine that must be asked said nothing of it (`when_down`) is not: it goes to quarantine
//! as `unchecked`, or is held and judged again, whatever lists or observation say.
//!
//! The score is the probability that at least one of the symbols is right, each weight being the probability that it is: so
//! weak findings add up, none outweighs the classifier, and the score can be computed again from the symbols alone. How the
//! sender behaves makes spam only of what is suspect without it (row 8).
//!
//! "Observed": with `spam_action = "observe"` what rows 6 to 8 would block is released as `observe_only`. Whatever row
//! decides, every finding stands in the symbols with its evidence. Limits, and the holds that follow from them, belong
//! between rows 5 and 6.

use schemas::settings::QuarantineResponse;
use schemas::verdict::{
    AskedCheck, Classification, Disposition, MessageSummary, RemoveField, Symbol, Verdict,
};
use schemas::{EnhancedCode, Envelope, Position, SmtpReply, Timestamp};

use crate::behaviour::{self, Sighting};
use crate::bounces;
use crate::bulk;
use crate::checks;
use crate::classifier::Classifier;
use crate::content;
use crate::decision::{self, Decision, Grounds, Lists};
use crate::evidence;
use crate::facts::Facts;
use crate::forwarded;
use crate::identity::{self, Identified, Rule};
use crate::outside::Findings;
use crate::policy::Policy;
use crate::recompute;
use crate::state::Senders;
use crate::summary;

/// A verdict with what the record of the message needs besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub remove_fields: Vec<RemoveField>,
    /// What the client gets when the message goes to quarantine.
    pub quarantine_response: QuarantineResponse,
    /// What the history of its sender is to remember of it.
    pub sighting: Option<Sighting>,
    /// What counts at large receivers.
    pub bulk: Vec<bulk::Sent>,
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
    let recipients = envelope.recipients.iter().map(|recipient| &recipient.forward_path);
    let lists = Lists::ask(&envelope.reverse_path, facts.header_from(), recipients, policy);
    let lock = senders.lock(&envelope.user, &identified.identity, now);
    let mut found = checks::run(&facts, policy);
    let mut content = content::examine(&facts, policy, classifier);
    content.symbols.extend_from_slice(&findings.symbols);
    content.is_virus |= findings.is_virus;
    let is_forwarded = forwarded::is_forwarded(&facts, &identified.source, &policy.from_domains);
    let sighting = Sighting::of(&facts, is_forwarded, &identified.source, content.text.take());
    if let Some(sighting) = &sighting {
        let known = senders.known(&envelope.user, &identified.identity, envelope.accepted_at);
        content.symbols.extend(behaviour::symbols(sighting, &known, envelope.accepted_at));
    }
    if !is_forwarded && !envelope.reverse_path.is_null() {
        content.symbols.extend(bounces::symbols(senders, &envelope.user, &identified.identity, now));
    }
    let turned = policy.weigh(&mut content.symbols);

    let mut symbols = Vec::new();
    found.add_asked(&findings.checks, policy, is_forwarded);
    let mut bulk = bulk::sent(&facts);
    let counted = senders.bulk(&envelope.user);
    let lacking = bulk::check(&facts, &bulk, counted, findings.authentication);
    found.add_asked(lacking.as_slice(), policy, is_forwarded);
    // Whoever passes it on is not its sender.
    bulk.retain(|_| !is_forwarded);
    policy.weigh(&mut found.symbols);
    if is_forwarded {
        symbols.push(evidence::symbol(recompute::FORWARDED, 0.0, ""));
    }
    if let Some(lock) = lock {
        let of = if lock.of_user { "user" } else { "identity" };
        let evidence = format!("{of}, by {}: {}", lock.lock.by, lock.lock.reason);
        symbols.push(evidence::symbol(recompute::LOCKED, 1.0, &evidence));
    }
    symbols.extend(lists.symbols());
    let points = (classifier.spam_threshold(), classifier.suspect_threshold());
    let grounds = Grounds {
        is_locked: lock.is_some(),
        is_forwarded,
        lists: &lists,
        found: &found,
        content: &content,
        points,
        unchecked: findings.unchecked,
    };
    let decision = decision::decide(&grounds, policy);
    let unweighed = turned.into_iter().map(|(index, weight)| (symbols.len() + index, weight)).collect();
    symbols.extend(content.symbols);
    let asked = found.asked.iter().map(|(index, check, weight)| AskedCheck {
        symbol: symbols.len() + index,
        check: *check,
        weight: *weight,
    });
    let asked = asked.collect();
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
    let mut judgement = write(&facts, accepted, policy, identified, decision, symbols, model, now);
    judgement.verdict.message.forwarded = is_forwarded;
    judgement.verdict.basis = Some(recompute::basis(&facts, policy, points, unweighed, asked, decision));
    Judgement { sighting, bulk, ..judgement }
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
    let score = decision::score(symbols.iter());
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
        forwarded: false,
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
        basis: None,
    };
    Judgement {
        verdict,
        remove_fields: identified.remove_fields,
        quarantine_response: decision.response(policy),
        sighting: None,
        bulk: Vec::new(),
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
