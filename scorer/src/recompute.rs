//! A stored verdict decided again: what the message would be under another policy, as far as that follows from what the
//! verdict says; and by the message itself, where it is still there.

use schemas::Envelope;
use schemas::Mailbox;
use schemas::settings::{CheckMode, QuarantineResponse};
use schemas::verdict::{AskedCheck, Basis, Classification, Disposition, Symbol, Verdict};

use crate::checks::{self, ASKED, CHECKS, Check};
use crate::classifier::Classifier;
use crate::content::{self, Content};
use crate::decision::{self, Decision, Grounds, LIST_SYMBOLS, Lists};
use crate::evidence;
use crate::facts::Facts;
use crate::forwarded;
use crate::judge::{Case, judge};
use crate::outside::Findings;
use crate::policy::Policy;
use crate::state::Senders;

/// The symbol of a message whose sender was locked.
pub const LOCKED: &str = "LOCKED_SENDER";
/// The symbol of a message that is only passed on.
pub const FORWARDED: &str = "FORWARDED";

/// What can be said of a message under another policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Decided(Decision),
    /// Something was not looked for then that would matter now: only the message could tell.
    NotKnown,
    /// A version wrote it that did not store what it takes.
    TooOld,
}

/// What a verdict stores besides its symbols.
#[must_use]
pub fn basis(
    facts: &Facts<'_>,
    policy: &Policy,
    points: (f32, f32),
    unweighed: Vec<(usize, f32)>,
    asked: Vec<AskedCheck>,
    decision: Decision,
) -> Basis {
    let (spam, suspect) = decision::thresholds(points, policy);
    let mut unchecked = checks::off(policy);
    if policy.mode(Classification::Spam) == CheckMode::Off {
        unchecked.push(Classification::Spam.code().to_owned());
    }
    let author = facts.header_from().filter(|author| facts.envelope.reverse_path.mailbox() != Some(*author));
    Basis {
        spam,
        suspect,
        model: ((spam, suspect) != points).then_some(points),
        author: author.cloned(),
        unchecked,
        sender_rules: policy.sender_rules,
        attachment_rules: policy.attachment_rules,
        unweighed,
        asked,
        told_250: decision.disposition == Disposition::Quarantine
            && decision.response(policy) == QuarantineResponse::Accept,
        limits: std::collections::BTreeMap::new(),
    }
}

/// What was decided, limits aside.
#[must_use]
pub fn as_it_was(verdict: &Verdict) -> Decision {
    Decision {
        classification: verdict.message.classification,
        // What waits for a limit was found fit to leave.
        disposition: match verdict.disposition {
            Disposition::Hold => Disposition::Release,
            other => other,
        },
        observed_as: verdict.message.observed_as,
    }
}

/// Decides a verdict again, under `policy`. What somebody locked stays locked; who is behind a message stays as it was found.
#[must_use]
pub fn decide_again(verdict: &Verdict, policy: &Policy) -> Again {
    use Classification as C;
    if matches!(verdict.message.classification, C::Own | C::Unknown) {
        return Again::Decided(as_it_was(verdict));
    }
    let Some(basis) = &verdict.basis else { return Again::TooOld };
    let stored = Stored { verdict, basis, policy };
    // What is not known is taken to be found nowhere, and everywhere: where that leads to the same, it does not matter.
    let mut decided = None;
    for all in [false, true] {
        let content = stored.content(all);
        for is_forwarded in stored.is_forwarded() {
            let found = stored.found(all, is_forwarded);
            let grounds = Grounds {
                is_locked: has(verdict, LOCKED),
                is_forwarded,
                lists: &stored.lists(),
                found: &found,
                content: &content,
                points: basis.of_model(),
            };
            let decision = decision::decide(&grounds, policy);
            if *decided.get_or_insert(decision) != decision {
                return Again::NotKnown;
            }
        }
    }
    decided.map_or(Again::NotKnown, Again::Decided)
}

/// Judges the message of a verdict again. What others said of it, and its sender's lock, are taken from the verdict; of checks for
/// which nobody was asked then, it is taken that they found nothing.
#[must_use]
pub fn judge_again(
    verdict: &Verdict,
    envelope: &Envelope,
    message: &[u8],
    policy: &Policy,
    classifier: &Classifier,
) -> Decision {
    use Classification as C;
    let known = |symbol: &Symbol| {
        content::SYMBOLS.contains(&symbol.name.as_str()) || is_no_content(&symbol.name) || is_check(symbol)
    };
    let basis = verdict.basis.clone().unwrap_or_default();
    let findings = Findings {
        checks: asked(verdict, &basis).collect(),
        symbols: before_weighing(verdict, &basis).filter(|symbol| !known(symbol)).collect(),
        is_virus: verdict.message.classification == C::Virus && !has(verdict, content::VIRUS_TEST),
        authentication: None,
    };
    let case = Case { envelope, message, policy };
    let judged = judge(&case, &findings, verdict.accepted, &Senders::default(), classifier, verdict.at);
    let decision = as_it_was(&judged.verdict);
    if has(verdict, LOCKED) && !matches!(decision.classification, C::Virus | C::Own) {
        return Decision::of(C::LockedSender, Disposition::Quarantine);
    }
    decision
}

fn has(verdict: &Verdict, name: &str) -> bool {
    verdict.symbols.iter().any(|symbol| symbol.name == name)
}

/// Symbols that are told, and do not count as content.
fn is_no_content(name: &str) -> bool {
    name == LOCKED || name == FORWARDED || LIST_SYMBOLS.contains(&name)
}

fn is_check(symbol: &Symbol) -> bool {
    CHECKS.iter().any(|check| check.symbol == symbol.name)
}

/// Symbols as they were found, but for those that answer a check for which others were asked.
fn before_weighing(verdict: &Verdict, basis: &Basis) -> impl Iterator<Item = Symbol> {
    let is_asked = |index: usize| basis.asked.iter().any(|asked| asked.symbol == index);
    let others = verdict.symbols.iter().enumerate().filter(move |(index, _)| !is_asked(*index));
    others.map(|(index, symbol)| {
        let turned = basis.unweighed.iter().find(|(turned, _)| *turned == index);
        let weight = turned.map_or(symbol.weight, |(_, weight)| *weight);
        // Evidence is for people; here it only costs.
        Symbol { name: symbol.name.clone(), weight, evidence: String::new() }
    })
}

/// Those that do.
fn asked(verdict: &Verdict, basis: &Basis) -> impl Iterator<Item = (Classification, Symbol)> {
    basis.asked.iter().filter_map(|asked| {
        let symbol = verdict.symbols.get(asked.symbol)?;
        Some((asked.check, Symbol { weight: asked.weight, ..symbol.clone() }))
    })
}

struct Stored<'a> {
    verdict: &'a Verdict,
    basis: &'a Basis,
    policy: &'a Policy,
}

impl<'a> Stored<'a> {
    /// The first valid author.
    fn author(&self) -> Option<&'a Mailbox> {
        let message = &self.verdict.message;
        self.basis.author.as_ref().or_else(|| {
            message.header_from.as_ref()?;
            message.reverse_path.mailbox()
        })
    }

    fn lists(&self) -> Lists {
        let verdict = self.verdict;
        Lists::ask(&verdict.message.reverse_path, self.author(), verdict.recipients.iter(), self.policy)
    }

    /// Both answers where it is not known.
    fn is_forwarded(&self) -> impl Iterator<Item = bool> {
        let was = has(self.verdict, FORWARDED);
        let is = if self.basis.sender_rules == self.policy.sender_rules {
            Some(was)
        } else {
            forwarded::is_forwarded_still(
                was,
                self.basis.sender_rules != 0,
                &self.verdict.message.reverse_path,
                &self.verdict.identity_source,
                &self.policy.from_domains,
            )
        };
        [true, false].into_iter().filter(move |answer| is.is_none_or(|is| is == *answer))
    }

    /// `all`: what is not known is taken to be found.
    fn found(&self, all: bool, is_forwarded: bool) -> checks::Found {
        let mut found =
            checks::assess(self.policy, |check| self.finds(check).unwrap_or(all).then(String::new));
        let mut asked: Vec<_> = asked(self.verdict, self.basis).collect();
        // Nobody was asked for what was off; the answer could have had any weight.
        let not_asked =
            ASKED.into_iter().filter(|check| self.basis.unchecked.iter().any(|c| c == check.code()));
        asked.extend(not_asked.filter(|_| all).map(|check| (check, evidence::symbol("", 0.99, ""))));
        found.add_asked(&asked, self.policy, is_forwarded);
        self.policy.weigh(&mut found.symbols);
        found
    }

    fn finds(&self, check: &Check) -> Option<bool> {
        use Classification as C;
        let was_on = |class: C| !self.basis.unchecked.iter().any(|code| code == class.code());
        let same_rules = match check.classification {
            C::FromDomainNotAllowed | C::InvalidSender => self.basis.sender_rules == self.policy.sender_rules,
            C::BlockedAttachment => self.basis.attachment_rules == self.policy.attachment_rules,
            _ => true,
        };
        if same_rules && was_on(check.classification) {
            return Some(has(self.verdict, check.symbol));
        }
        let has_many = |check: &Check| has(self.verdict, check.symbol);
        let many = CHECKS.iter().find(|check| check.classification == C::ManyFrom);
        let is_alone = was_on(C::ManyFrom) && !many.is_some_and(has_many);
        let path = &self.verdict.message.reverse_path;
        checks::finds_by_sender(check.classification, path, self.author(), is_alone, self.policy)
    }

    fn content(&self, all: bool) -> Content {
        let mode = self.policy.mode(Classification::Spam);
        let mut symbols: Vec<Symbol> = before_weighing(self.verdict, self.basis)
            .filter(|symbol| !is_no_content(&symbol.name) && !is_check(symbol))
            .collect();
        let was_off = self.basis.unchecked.iter().any(|code| code == Classification::Spam.code());
        if was_off && all {
            symbols.push(evidence::symbol(content::SPAM_TEST, 1.0, ""));
        }
        self.policy.weigh(&mut symbols);
        Content {
            is_virus: self.verdict.message.classification == Classification::Virus,
            is_test_spam: mode == CheckMode::Block
                && symbols.iter().any(|symbol| symbol.name == content::SPAM_TEST),
            is_phishing: symbols.iter().any(|symbol| symbol.name == content::PHISHING),
            text: None,
            symbols,
        }
    }
}

#[cfg(test)]
#[path = "recompute_tests.rs"]
mod tests;
