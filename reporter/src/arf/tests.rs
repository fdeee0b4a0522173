use std::net::IpAddr;

use mail_auth::report::{Feedback, FeedbackType};
use schemas::envelope::Client;
use schemas::verdict::{Disposition, Identity, MessageSummary, Symbol};
use schemas::{Domain, Position, ReversePath, Topic, UserId};

use super::*;

const SPAM: &[u8] =
    b"From: shop@customer.example\r\nSubject: win\r\nDate: Tue, 24 Nov 2026 09:29:00 +0000\r\n\r\nwin\r\n";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn verdict(classification: Classification) -> Verdict {
    let accepted_at = Timestamp(1_795_512_600_000);
    Verdict {
        message: MessageSummary {
            id: MessageId::derived("one", accepted_at),
            accepted_at,
            user: UserId("192.0.2.0/28".into()),
            domain: Domain::parse("customer.example").unwrap(),
            identity: Identity("shop@customer.example".into()),
            reverse_path: ReversePath::Mailbox(mailbox("bounce@customer.example")),
            header_from: Some(Domain::parse("from.example").unwrap()),
            classification,
            observed_as: None,
            size_bytes: SPAM.len() as u64,
            header_message_id: None,
            client_queue_id: Some("4QwErT0".into()),
            subject: Some("win".into()),
            own: false,
            forwarded: false,
        },
        at: accepted_at.plus(std::time::Duration::from_millis(20)),
        disposition: Disposition::Quarantine,
        score: 1.0,
        symbols: vec![Symbol { name: "GTUBE".into(), weight: 1.0, evidence: "the test\r\nstring".into() }],
        identity_source: "header:X-AuthUser".into(),
        policy_version: 1,
        model_version: None,
        client: Client {
            address: "192.0.2.1:40000".parse().unwrap(),
            helo: "mail.customer.example".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        recipients: vec![mailbox("r@one.example"), mailbox("r@two.example")],
        accepted: Position { topic: Topic::Accepted, partition: 0, offset: 0 },
        basis: None,
    }
}

fn built(verdict: &Verdict, original: &Original, left_out: u64) -> (Judged, Bytes) {
    let (judged, bytes) = build(&Report {
        verdict,
        original,
        to: &mailbox("abuse@hoster.example"),
        from: &mailbox("postmaster@smtp.hoster.example"),
        hostname: "smtp.hoster.example",
        node: "node1",
        left_out,
    });
    for line in bytes.split(|b| *b == b'\n') {
        assert!(line.len() <= 999, "{}", String::from_utf8_lossy(line));
    }
    assert!(lines::may_stand(&bytes), "{}", String::from_utf8_lossy(&bytes));
    (judged, bytes)
}

fn text_of(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn another_implementation_reads_it() {
    let (judged, bytes) = built(&verdict(Classification::Spam), &Original::Whole(SPAM.into()), 0);
    let feedback = Feedback::parse_rfc5322(&bytes).unwrap();
    assert_eq!(feedback.feedback_type(), FeedbackType::Abuse);
    assert_eq!(feedback.version(), 1);
    assert!(feedback.user_agent().unwrap().starts_with("Mailweir/"));
    assert_eq!(feedback.arrival_date(), Some(1_795_512_600));
    assert_eq!(feedback.source_ip(), "192.0.2.1".parse::<IpAddr>().ok());
    assert_eq!(feedback.original_mail_from(), Some("<bounce@customer.example>"));
    assert!(feedback.original_rcpt_to().is_some_and(|path| path.contains("@")));
    assert_eq!(feedback.reported_domain(), ["from.example"]);
    assert_eq!(feedback.incidents(), 1);
    assert_eq!(
        feedback.authentication_results(),
        ["smtp.hoster.example; auth=pass smtp.auth=shop@customer.example"]
    );
    assert_eq!(feedback.message().unwrap().as_bytes(), SPAM);

    assert!(judged.envelope.reverse_path.is_null() && judged.message.own);
    assert_eq!(judged.envelope.user, UserId::own_mail());
    assert_eq!(judged.envelope.size_bytes, bytes.len() as u64);
    let origin = Origin::FeedbackReport { message_id: verdict(Classification::Spam).message.id };
    assert_eq!(judged.envelope.origin, Some(origin));
}

#[test]
fn a_person_reads_who_why_and_what_to_do() {
    let verdict = verdict(Classification::Spam);
    let text = text_of(&built(&verdict, &Original::Whole(SPAM.into()), 7).1);
    let id = verdict.message.id.to_string();
    for expected in [
        "Identity: shop@customer.example",
        "Client: 192.0.2.1",
        "Client's queue id: 4QwErT0",
        "GTUBE (1.00)  the test  string",
        "7 earlier reports",
        &format!("mailweir quarantine release {id}"),
        "Auto-Submitted: auto-generated",
        "X-Mailweir-Identity: shop@customer.example",
        "X-Mailweir-Classification: spam",
        &format!("X-Mailweir-Incident: {}", incident(&verdict)),
    ] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

#[test]
fn of_what_may_be_dangerous_only_the_header_section_is_attached() {
    for (classification, kind) in
        [(Classification::Virus, FeedbackType::Virus), (Classification::Phishing, FeedbackType::Fraud)]
    {
        let (_, bytes) = built(&verdict(classification), &Original::Whole(SPAM.into()), 0);
        let feedback = Feedback::parse_rfc5322(&bytes).unwrap();
        assert_eq!(feedback.feedback_type(), kind);
        assert!(feedback.message().is_none());
        assert!(feedback.headers().unwrap().contains("Subject: win"));
        assert!(!text_of(&bytes).contains("\r\nwin\r\n"));
    }
}

#[test]
fn what_is_large_damaged_or_gone_still_gives_a_report() {
    let verdict = verdict(Classification::Spam);
    let mut large = SPAM.to_vec();
    large.extend(b"0123456789\r\n".repeat(MAX_ATTACHED_BYTES / 10));
    let long_line = [SPAM, &[b'x'; 2000]].concat();
    let bare = [SPAM, b"a\nb"].concat();
    for original in [
        Original::Whole(large.into()),
        Original::Whole(long_line.into()),
        Original::Whole(bare.into()),
        Original::Beginning(Bytes::from_static(SPAM)),
    ] {
        let (_, bytes) = built(&verdict, &original, 0);
        assert!(bytes.len() < 10_000);
        assert!(Feedback::parse_rfc5322(&bytes).unwrap().headers().unwrap().contains("Subject: win"));
    }
    let text = text_of(&built(&verdict, &Original::Gone, 0).1);
    assert!(text.contains("no longer kept"), "{text}");
}

#[test]
fn nothing_from_outside_breaks_its_form() {
    let mut verdict = verdict(Classification::Spam);
    let evil = format!("x\r\n\r\n--=\r\nBcc: victim@x.example\r\n{}", "ü".repeat(5000));
    verdict.message.identity = Identity(evil.clone());
    verdict.message.client_queue_id = Some(evil.clone());
    verdict.identity_source.clone_from(&evil);
    verdict.symbols =
        (0..500).map(|_| Symbol { name: "X".into(), weight: 0.1, evidence: evil.clone() }).collect();
    verdict.recipients = (0..2000).map(|n| mailbox(&format!("r{n}@one.example"))).collect();
    verdict.recipients.push(mailbox("rü@one.example"));
    verdict.message.reverse_path = ReversePath::Mailbox(mailbox("ü@customer.example"));
    let original = [SPAM, "ü\r\n".as_bytes()].concat();
    let (judged, bytes) = built(&verdict, &Original::Whole(original.clone().into()), 0);
    let feedback = Feedback::parse_rfc5322(&bytes).unwrap();
    assert_eq!(feedback.message().unwrap().as_bytes(), original);
    assert_eq!(feedback.original_mail_from(), None);
    assert!(feedback.authentication_results().is_empty());
    assert!(!text_of(&bytes).lines().any(|line| line.starts_with("Bcc:")));
    assert_eq!(judged.envelope.body_type, BodyType::EightBitMime);
}

#[test]
fn a_replay_gives_the_same_report_and_one_identity_one_incident() {
    let one = verdict(Classification::Spam);
    let original = Original::Whole(SPAM.into());
    assert_eq!(built(&one, &original, 0), built(&one, &original, 0));
    let mut two = verdict(Classification::Spam);
    two.message.id = MessageId::derived("two", two.at);
    assert_ne!(built(&one, &original, 0).0.envelope.id, built(&two, &original, 0).0.envelope.id);
    assert_eq!(incident(&one), incident(&two));
    two.message.identity = Identity("other@customer.example".into());
    assert_ne!(incident(&one), incident(&two));
}
