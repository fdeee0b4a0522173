//! What became of the recipients: outcomes come back from `attempts`, in the partition of their user, and those that failed are
//! counted in the same commit.
//!
//! Nearly every attempt succeeds, and a success changes nothing: whom mail was sent to is counted when it is released. So most
//! events are not even parsed, and nothing is committed for them alone.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use eventlog::{Consumer, LogError, Record};
use memchr::memmem;
use schemas::attempt::{AttemptCause, Outcome};
use schemas::outcomes::Numbers;
use schemas::topics::TopicPartition;
use schemas::verdict::Identity;
use schemas::{Domain, EnhancedCode, Timestamp, Topic, UserId};
use serde::Deserialize;

use crate::batch::Batch;
use crate::policy;
use crate::run::Member;
use crate::state::Failures;

/// The windows that outcomes count in are not longer.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// So many events without a failure are read before a commit says so.
const MUCH: u64 = 1000;

/// The part of an event that is looked at.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    at: Timestamp,
    cause: AttemptCause,
    recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    domain: Domain,
    #[serde(borrow)]
    identity: Cow<'a, str>,
    #[serde(default)]
    own: bool,
    #[serde(default)]
    forwarded: bool,
}

#[derive(Deserialize)]
struct Recipient {
    outcome: Outcome,
    reply: Reply,
    #[serde(default)]
    local: bool,
}

#[derive(Deserialize)]
struct Reply {
    code: u16,
    #[serde(default)]
    enhanced: Option<EnhancedCode>,
}

/// The recipients of an event that nothing can be delivered to and whose sender answers for it; none for nearly every event.
/// Mail of our own, and mail that is only passed on, was sent to nobody of the sender's choice.
fn failures(event: &[u8]) -> Result<Option<Failures>, serde_json::Error> {
    // As the outcome is written; somewhere else these octets only cost a look.
    if memmem::find(event, b"\"failed\"").is_none() {
        return Ok(None);
    }
    let Event { message, at, cause, recipients } = serde_json::from_slice(event)?;
    if message.own || message.forwarded || cause != AttemptCause::Tried {
        return Ok(None);
    }
    let mut numbers = Numbers::default();
    for recipient in recipients.iter().filter(|recipient| recipient.outcome == Outcome::Failed) {
        if recipient.reply.enhanced.is_some_and(EnhancedCode::is_invalid_recipient) {
            numbers.invalid += 1;
        } else if !recipient.local && recipient.reply.code >= 500 {
            numbers.refused += 1;
        }
    }
    let failures = Failures {
        user: UserId(message.user.into_owned()),
        domain: message.domain,
        identity: Identity(message.identity.into_owned()),
        at,
        numbers,
    };
    Ok((numbers != Numbers::default()).then_some(failures))
}

impl Member {
    /// Counts what failed in one record of `attempts`.
    ///
    /// # Errors
    /// When the partition is not ours.
    pub fn take_attempt(
        &mut self,
        batch: &mut Batch,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let partition = record.position.partition;
        // In a group with members that do not read `attempts` yet, the partition of a user may be theirs but for this topic.
        // It waits for its owner: nothing is said to be done.
        if !self.partitions.contains_key(&partition) {
            self.attempts_left = true;
            return Ok(());
        }
        let found = failures(record.value.as_deref().unwrap_or_default()).unwrap_or_else(|error| {
            self.metrics.undecodable.inc();
            tracing::error!(position = %record.position, %error, "an attempt does not parse, it is passed over");
            None
        });
        self.attempts_unsaid += 1;
        match found.filter(|failures| now.since(failures.at) < OLD) {
            Some(failures) => {
                let (user, domain) = (&failures.user, &failures.domain);
                let limits = policy::effective(&self.settings.read(), user, domain).0.limits;
                let state = self.owned_mut(partition)?;
                state.senders.count_failures(&failures, &limits);
                state.attempts_read = None;
                batch.done(record);
            }
            None => self.owned_mut(partition)?.attempts_read = Some(record.position.offset + 1),
        }
        Ok(())
    }

    /// Whether a commit should say how far `attempts` was read, though nothing else is to be said.
    pub fn has_read_much(&self) -> bool {
        self.attempts_unsaid >= MUCH
    }

    /// A group that never read `attempts` is one of an earlier version, or a new one. What stands there for longer than a day
    /// counts no more, and may be months of it: counting begins with what is written from now on. `true` when something was
    /// passed over, and `records` are given up.
    ///
    /// # Errors
    /// What the log says.
    pub async fn pass_over_history(
        &self,
        consumer: &mut dyn Consumer,
        records: &[Record],
        now: Timestamp,
    ) -> Result<bool, LogError> {
        let is_old = |record: &&Record| {
            record.position.topic == Topic::Attempts && now.since(record.appended_at) >= OLD
        };
        let old: BTreeSet<TopicPartition> =
            records.iter().filter(is_old).map(|record| record.position.topic_partition()).collect();
        if old.is_empty() {
            return Ok(false);
        }
        let mut passed = consumer.positions();
        passed.retain(|(of, committed)| old.contains(of) && *committed == 0);
        if passed.is_empty() {
            return Ok(false);
        }
        let ends = self.log.ends(Topic::Attempts).await?;
        for (of, offset) in &mut passed {
            *offset = ends.get(of.partition as usize).copied().unwrap_or(*offset);
        }
        tracing::info!(partitions = passed.len(), "outcomes of earlier deliveries are passed over");
        consumer.commit(Vec::new(), &passed).await?;
        consumer.rewind().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use schemas::attempt::{Attempt, AttemptEvent, RecipientResult};
    use schemas::{Mailbox, SmtpReply};

    use super::*;

    /// The attempt of the golden file, with these outcomes.
    fn event(results: &[(Outcome, u16, &str, bool)], change: impl Fn(&mut Attempt)) -> Vec<u8> {
        let golden = include_bytes!("../../schemas/golden/attempts/tried.json");
        let AttemptEvent::Attempt(mut attempt) = serde_json::from_slice(golden).unwrap() else { panic!() };
        attempt.recipients = results
            .iter()
            .map(|(outcome, code, enhanced, local)| RecipientResult {
                index: 0,
                forward_path: Mailbox::parse("a@b.example").unwrap(),
                outcome: *outcome,
                reply: SmtpReply { code: *code, enhanced: enhanced.parse().ok(), text: "\"failed\"".into() },
                local: *local,
                next_attempt: None,
            })
            .collect();
        change(&mut attempt);
        serde_json::to_vec(&AttemptEvent::Attempt(attempt)).unwrap()
    }

    fn counted(results: &[(Outcome, u16, &str, bool)]) -> (u64, u64) {
        let found = failures(&event(results, |_| ())).unwrap().map(|failures| failures.numbers);
        let numbers = found.unwrap_or_default();
        (numbers.invalid, numbers.refused)
    }

    #[test]
    fn what_failed_for_good_counts_by_its_code() {
        use Outcome::{Deferred, Delivered, Failed, Removed};
        for (code, expected) in [
            ("5.1.1", (1, 0)),
            ("5.1.2", (1, 0)),
            ("5.1.10", (1, 0)),
            ("5.1.7", (0, 1)),
            ("5.1.8", (0, 1)),
            ("5.7.1", (0, 1)),
            ("none", (0, 1)),
        ] {
            assert_eq!(counted(&[(Failed, 550, code, false)]), expected, "{code}");
        }
        // No such domain: nobody remote said so, and it is as true.
        assert_eq!(counted(&[(Failed, 550, "5.1.2", true)]), (1, 0));
        assert_eq!(counted(&[(Failed, 550, "5.4.4", true), (Failed, 451, "4.4.1", true)]), (0, 0));
        assert_eq!(counted(&[(Delivered, 250, "2.1.5", false), (Deferred, 450, "4.1.1", false)]), (0, 0));
        assert_eq!(counted(&[(Removed, 550, "5.1.1", false), (Failed, 550, "5.1.1", false)]), (1, 0));
    }

    #[test]
    fn only_what_its_sender_answers_for_counts() {
        let failed = [(Outcome::Failed, 550, "5.1.1", false)];
        let of = |change: fn(&mut Attempt)| failures(&event(&failed, change)).unwrap();
        let found = of(|_| ()).unwrap();
        assert_eq!(
            (found.user.as_str(), found.identity.0.as_str()),
            ("192.0.2.0/28", "shop@customer.example")
        );
        assert_eq!(of(|attempt| attempt.message.own = true), None);
        assert_eq!(of(|attempt| attempt.message.forwarded = true), None);
        assert_eq!(of(|attempt| attempt.cause = AttemptCause::Removed), None);
        assert_eq!(of(|attempt| attempt.cause = AttemptCause::Expired), None);
    }

    #[test]
    fn a_success_is_not_even_parsed_and_later_versions_may_add_to_an_event() {
        assert_eq!(failures(b"no JSON").unwrap(), None);
        assert!(failures(b"\"failed\"").is_err());
        let mut later: serde_json::Value =
            serde_json::from_slice(&event(&[(Outcome::Failed, 550, "5.1.1", false)], |_| ())).unwrap();
        later["colour"] = "\"blue\"".into();
        later["message"]["identity"] = "with \"quotes\"".into();
        later["recipients"][0]["reply"]["colour"] = 1.into();
        let found = failures(&serde_json::to_vec(&later).unwrap()).unwrap().unwrap();
        assert_eq!(found.identity.0, "with \"quotes\"");
    }
}
