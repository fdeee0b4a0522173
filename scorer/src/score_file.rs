//! Scoring a file: `mailweir score FILE`.

use schemas::envelope::{BodyType, Client, Recipient};
use schemas::models::Feedback;
use schemas::{Domain, Envelope, MessageId, Position, ReversePath, Timestamp, Topic, UserId};

use crate::classifier::features::Features;
use crate::classifier::lexicon::Lexicon;
use crate::classifier::online::Learning;
use crate::classifier::{Classifier, extract, model};
use crate::facts::Facts;
use crate::judge::{Case, Judgement, judge};
use crate::outside::Findings;
use crate::policy::Policy;
use crate::state::Senders;

/// Judges a message as it would be with default settings, had an IP user sent it at `at` from its From address to its
/// To addresses.
#[must_use]
pub fn score_message(message: &[u8], classifier: &Classifier, at: Timestamp) -> Judgement {
    let envelope = envelope_of(message, at);
    let nowhere = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let policy = Policy::default_for_files();
    let case = Case { envelope: &envelope, message, policy: &policy };
    judge(&case, &Findings::default(), nowhere, &Senders::default(), classifier, at)
}

/// The features of a message in a file, for training.
pub(crate) fn features_of(message: &[u8], lexicon: &Lexicon) -> Features {
    let envelope = envelope_of(message, Timestamp::default());
    extract::features(&Facts::of(&envelope, message), lexicon, false)
}

/// The classifier's probability that a message in a file is spam.
#[must_use]
pub fn spam_probability(message: &[u8], classifier: &Classifier) -> f64 {
    let envelope = envelope_of(message, Timestamp::default());
    classifier.probability(&Facts::of(&envelope, message))
}

/// The classifier after somebody said of these messages, in this order, whether they are spam: as if each had been released, or
/// confirmed, in use. The first number: messages that were learnt from; the others were judged so already.
#[must_use]
pub fn after_feedback(classifier: &Classifier, said: &[(Vec<u8>, bool)]) -> Option<(Classifier, u64)> {
    let mut learning = Learning::from(classifier.model().clone(), None);
    for (number, (message, is_spam)) in said.iter().enumerate() {
        let envelope = envelope_of(message, Timestamp::default());
        learning.learn(&Feedback {
            message_id: envelope.id,
            // Whose they are is not known: none is taken for the many of one customer.
            domain: Domain::parse(&format!("d{number}.example")).ok()?,
            is_spam: *is_spam,
            by: String::new(),
            at: Timestamp::default(),
            format: model::FORMAT,
            features: classifier.buckets(&Facts::of(&envelope, message)),
        });
    }
    let delta = learning.next(Timestamp::default(), String::new());
    let learnt = delta.learnt;
    Some((classifier.with_delta(&delta)?, learnt))
}

fn envelope_of(message: &[u8], at: Timestamp) -> Envelope {
    let mut envelope = Envelope {
        id: MessageId::new(at),
        accepted_at: at,
        node: "file".into(),
        reply_partition: None,
        user: UserId("127.0.0.1/32".into()),
        domain: Domain::parse("localhost").unwrap_or_else(|_| unreachable!("localhost is a domain")),
        client: Client {
            address: ([127, 0, 0, 1], 0).into(),
            helo: "localhost".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        reverse_path: ReversePath::Null,
        recipients: Vec::new(),
        ret: None,
        envid: None,
        body_type: BodyType::EightBitMime,
        smtputf8: false,
        size_bytes: message.len() as u64,
        chunks: Vec::new(),
        origin: None,
    };
    let author = Facts::of(&envelope, message).header_from().cloned();
    if let Some(author) = author {
        envelope.recipients.push(Recipient { forward_path: author.clone(), notify: None, orcpt: None });
        envelope.reverse_path = ReversePath::Mailbox(author);
    }
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{NOW, classifier};
    use proptest::prelude::*;
    use schemas::verdict::Classification;

    #[test]
    fn a_file_is_judged_by_default_settings() {
        let message = b"From: a@b.example\nTo: c@d.example\nMessage-ID: <2@b.example>\nIn-Reply-To: <1@d.example>\nReferences: <1@d.example>\nDate: Tue, 24 Nov 2026 09:30:00 +0000\nSubject: Re: minutes of the meeting\n\nhello\n";
        let judgement = score_message(message, classifier(), NOW);
        assert_eq!(judgement.verdict.message.classification, Classification::Clean);
        assert_eq!(judgement.verdict.message.identity.0, "a@b.example");
        let names: Vec<_> = judgement.verdict.symbols.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["CONTENT"]);
    }

    #[test]
    fn what_is_said_of_messages_changes_their_score() {
        let message = |subject: &str| {
            format!(
                "From: a@b.example\nTo: c@d.example\nMessage-ID: <2@b.example>\nIn-Reply-To: <1@d.example>\n\
                 Date: Tue, 24 Nov 2026 09:30:00 +0000\nSubject: Re: {subject}\n\n{subject}, {subject}\n"
            )
            .into_bytes()
        };
        let said: Vec<_> = (0..20).map(|n| (message(&format!("wobbly turnips {n}")), true)).collect();
        let (after, learnt) = after_feedback(classifier(), &said).unwrap();
        assert!((1..20).contains(&learnt), "{learnt}");
        let unseen = message("wobbly turnips tomorrow");
        let (before, after) = (spam_probability(&unseen, classifier()), spam_probability(&unseen, &after));
        assert!(before < 0.5 && after > 0.9, "{before} {after}");
        assert_eq!(after_feedback(classifier(), &[]).map(|(_, learnt)| learnt), Some(0));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_judged(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = score_message(&message, classifier(), NOW);
        }

        #[test]
        fn anything_like_a_message_can_be_judged(message in "((From|To|Date|Subject|Received|Content-Type): [ -~ü\\r\\n\t]{0,60}\r\n){0,8}\r\n.{0,40}") {
            let _ = score_message(message.as_bytes(), classifier(), NOW);
        }
    }
}
