use proptest::prelude::*;
use schemas::settings::{Effective, UserSettings};
use schemas::verdict::Identity;
use schemas::{Position, Topic};
use serde_json::json;

use super::*;
use crate::samples::{NOW, classifier, envelope};

const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");

/// What may be found besides the message's own: by engines, and by how its sender behaves.
const OF_OTHERS: [&str; 6] = ["BAYES", "RBL", "BURST", "UNUSUAL_HOUR", "SAME_TEXT", "INVALID_RECIPIENTS"];

/// Ways of writing a message, each with something that a check finds, or nothing.
const AUTHORS: [&str; 7] = [
    "From: PayPal Service <info@hacked-florist.example>\r\n",
    "From: a@b.example\r\n",
    "From: c@elsewhere.example\r\n",
    "From: a@b.example, z@other.example\r\n",
    "From: root@web1\r\n",
    "From: nobody\r\n",
    "",
];
const FIELDS: [&str; 8] = [
    "Date: Tue, 24 Nov 2026 09:30:00 +0000\r\n",
    "Date: Tue, 24 Nov 2020 09:30:00 +0000\r\n",
    "Subject: minutes of the meeting\r\n",
    "Subject: W\u{fc}rste\r\n",
    "Message-ID: <1@b.example>\r\n",
    "In-Reply-To: <0@d.example>\r\n",
    "no field at all\r\n",
    "Received: from mx.ext.example (mx.ext.example [203.0.113.5]) by shop.example with ESMTPS id 1\r\n",
];
const PATHS: [&str; 5] =
    ["a@b.example", "x@elsewhere.example", "root@web1", "", "SRS0=hhh=tt=ext.example=a@shop.example"];

fn body(number: usize) -> String {
    match number {
        0 => "\r\nThe minutes are attached, see you on Monday.\r\n".into(),
        1 => {
            "\r\nViagra cheap pills buy now http://bit.example/win winner lottery million dollars\r\n".into()
        }
        2 => format!("\r\n{GTUBE}\r\n"),
        3 => format!("\r\n{EICAR}\r\n"),
        4 => format!("\r\n{}\r\n", "x".repeat(1200)),
        5 => "Content-Type: application/octet-stream; name=\"run.exe\"\r\n\r\nMZ\r\n".into(),
        6 => "Content-Type: application/pdf; name=\"bill.pdf\"\r\n\r\n%PDF\r\n".into(),
        7 => "Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nx\r\n".into(),
        8 => "Subject: PayPal: your account has been limited\r\nContent-Type: text/html\r\n\r\n<p>Dear customer, we noticed \
              unusual activity. Your PayPal account has been limited. Verify your account within 24 hours or it will be \
              suspended.</p><a href=\"http://login.example-verify.xyz/a9f8\">Verify your account now</a>\r\n"
            .into(),
        _ => format!("{}\r\nloop\r\n", "Received: x\r\n".repeat(101)),
    }
}

#[derive(Clone, Debug)]
struct Mail {
    path: &'static str,
    recipients: Vec<&'static str>,
    text: String,
    findings: Findings,
    is_locked: bool,
}

fn mail() -> impl Strategy<Value = Mail> {
    let recipients =
        prop::sample::subsequence(vec!["r@one.example", "s@two.example", "a%b@three.example"], 1..=3);
    let fields = prop::sample::subsequence(FIELDS.to_vec(), 0..=FIELDS.len());
    let symbol = (prop::sample::select(OF_OTHERS.to_vec()), 0.0..1.0f32)
        .prop_map(|(name, weight)| evidence::symbol(name, weight, "said so"));
    let answer =
        (prop::sample::select(ASKED.to_vec()), prop::sample::select(vec!["LISTED", "BURST"]), 0.0..1.0f32)
            .prop_map(|(check, name, weight)| (check, evidence::symbol(name, weight, "said so")));
    let answers = prop::collection::vec(answer, 0..3);
    let findings = (prop::collection::vec(symbol, 0..5), answers, prop::bool::weighted(0.05)).prop_map(
        |(symbols, checks, is_virus)| Findings { symbols, checks, is_virus, ..Findings::default() },
    );
    (
        prop::sample::select(PATHS.to_vec()),
        recipients,
        (prop::sample::select(AUTHORS.to_vec()), fields, 0..10usize),
        findings,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(path, recipients, (author, fields, number), findings, is_locked)| Mail {
            path,
            recipients,
            text: format!("{author}{}{}", fields.concat(), body(number)),
            findings,
            is_locked,
        })
}

/// Settings of every kind that a verdict depends on; identification aside, which says who it was.
fn settings() -> impl Strategy<Value = serde_json::Value> {
    let codes: Vec<&'static str> = CHECKS
        .iter()
        .map(|check| check.classification.code())
        .chain(ASKED.map(Classification::code))
        .chain(["spam"])
        .collect();
    let mode = prop::sample::select(vec!["off", "count", "block"]);
    let checks = prop::collection::btree_map(prop::sample::select(codes), mode, 0..6);
    let names: Vec<&'static str> = CHECKS
        .iter()
        .map(|check| check.symbol)
        .chain(["CONTENT", "GTUBE", "LISTED"])
        .chain(OF_OTHERS)
        .collect();
    let weights = prop::collection::btree_map(prop::sample::select(names), 0.0..10.0f32, 0..5);
    let list = |entries: &[&'static str]| {
        prop::option::weighted(0.3, prop::sample::subsequence(entries.to_vec(), 1..=entries.len()))
    };
    let mailboxes = ["a@b.example", "elsewhere.example", "c@elsewhere.example", "z@other.example"];
    let receivers = ["one.example", "s@two.example", "three.example"];
    let lists = (list(&mailboxes), list(&mailboxes), list(&receivers), list(&receivers));
    let sender = (list(&["b.example", "elsewhere.example", "ext.example"]), any::<bool>());
    let rest = (
        prop::option::of(0.0..1.0f32),
        prop::sample::select(vec!["enforce", "observe"]),
        prop::sample::select(vec!["reject", "accept"]),
        list(&["exe", "pdf"]),
    );
    (checks, weights, lists, sender, rest).prop_map(|(checks, weights, lists, sender, rest)| {
        let mut all = json!({
            "checks": checks, "weights": weights, "require_valid_sender": sender.1,
            "spam_threshold": rest.0, "spam_action": rest.1, "quarantine_response": rest.2,
        });
        let lists = [
            ("allow_senders", lists.0),
            ("block_senders", lists.1),
            ("allow_recipients", lists.2),
            ("block_recipients", lists.3),
            ("from_domains", sender.0),
            ("blocked_extensions", rest.3),
        ];
        for (name, list) in lists {
            all[name] = json!(list);
        }
        all
    })
}

fn policy(settings: &serde_json::Value) -> Policy {
    let settings: UserSettings = serde_json::from_value(settings.clone()).unwrap();
    Policy::of(Effective::of(&[&settings], true), 7)
}

fn judged(mail: &Mail, policy: &Policy) -> (Envelope, crate::Judgement) {
    let envelope = envelope(mail.path, &mail.recipients);
    let accepted = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let mut senders = Senders::default();
    if mail.is_locked {
        let lock = schemas::senders::Lock { since: NOW, until: None, by: "root".into(), reason: "x".into() };
        senders.set_lock(&envelope.user, &envelope.domain, None::<&Identity>, lock);
    }
    let case = Case { envelope: &envelope, message: mail.text.as_bytes(), policy };
    let judgement = judge(&case, &mail.findings, accepted, &senders, classifier(), NOW);
    (envelope, judgement)
}

/// As it comes back from the log.
fn stored(verdict: &Verdict) -> Verdict {
    serde_json::from_str(&serde_json::to_string(verdict).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn under_the_policy_that_was_in_force_it_is_what_it_was(mail in mail(), settings in settings()) {
        let policy = policy(&settings);
        let (_, judgement) = judged(&mail, &policy);
        let verdict = stored(&judgement.verdict);
        let Again::Decided(again) = decide_again(&verdict, &policy) else {
            panic!("not known: {mail:?} {settings} {verdict:?}")
        };
        prop_assert_eq!(again, as_it_was(&judgement.verdict));
        prop_assert_eq!(again.response(&policy), judgement.quarantine_response);
        let basis = verdict.basis.unwrap();
        let told_250 = !judgement.reply().to_string().starts_with("550");
        prop_assert_eq!(basis.told_250, told_250 && again.disposition == Disposition::Quarantine);
    }

    #[test]
    fn under_another_policy_it_is_what_it_would_have_been(mail in mail(), was in settings(), tried in settings()) {
        let (was, tried) = (policy(&was), policy(&tried));
        let verdict = stored(&judged(&mail, &was).1.verdict);
        let (envelope, would_be) = judged(&mail, &tried);
        if let Again::Decided(again) = decide_again(&verdict, &tried) {
            prop_assert_eq!(again, as_it_was(&would_be.verdict));
        }
        // What nobody was asked for then, the message does not tell either.
        let was_asked = |check: Classification| was.asked_mode(check) != CheckMode::Off;
        if mail.findings.checks.iter().all(|(check, _)| was_asked(*check)) {
            let again = judge_again(&verdict, &envelope, mail.text.as_bytes(), &tried, classifier());
            prop_assert_eq!(again, as_it_was(&would_be.verdict));
        }
    }
}

fn verdict_of(text: &str, settings: &serde_json::Value) -> Verdict {
    let mail = Mail {
        path: "a@b.example",
        recipients: vec!["r@one.example"],
        text: format!("From: a@b.example\r\n{text}"),
        findings: Findings::default(),
        is_locked: false,
    };
    stored(&judged(&mail, &policy(settings)).1.verdict)
}

#[test]
fn what_is_after_credentials_stays_that() {
    let text = format!("{}{}", FIELDS[0], body(8));
    let mail = Mail {
        path: "info@hacked-florist.example",
        recipients: vec!["r@one.example"],
        text: format!("{}{text}", AUTHORS[0]),
        findings: Findings::default(),
        is_locked: false,
    };
    let observed = policy(&json!({"spam_action": "observe"}));
    let verdict = stored(&judged(&mail, &observed).1.verdict);
    let again = decide_again(&verdict, &policy(&json!({})));
    assert_eq!(again, Again::Decided(Decision::of(Classification::Phishing, Disposition::Quarantine)));
}

#[test]
fn what_does_not_matter_need_not_be_known() {
    let off = json!({"checks": {"raw_subject": "off", "spam": "off"}});
    let clean = verdict_of("Subject: W\u{fc}rste\r\n\r\nHi\r\n", &off);
    let again = |settings: serde_json::Value| decide_again(&clean, &policy(&settings));
    assert_eq!(again(json!({})), Again::NotKnown);
    let count = json!({"checks": {"raw_subject": "count", "spam": "off"}});
    let as_was = Again::Decided(Decision::of(Classification::Clean, Disposition::Release));
    assert_eq!(again(count), as_was, "a check that counts towards no score");
    assert_eq!(again(json!({"checks": {"raw_subject": "block", "spam": "off"}})), Again::NotKnown);
    let listed = Again::Decided(Decision::of(Classification::BlockedSender, Disposition::Quarantine));
    assert_eq!(again(json!({"block_senders": ["b.example"]})), listed);
}

#[test]
fn most_of_what_is_asked_is_known() {
    let clean = verdict_of("Subject: Minutes\r\n\r\nHi\r\n", &json!({}));
    for known in [
        json!({"from_domains": ["b.example"]}),
        json!({"from_domains": ["other.example"]}),
        json!({"require_valid_sender": true}),
        json!({"weights": {"CONTENT": 2.0}, "spam_threshold": 0.5}),
        json!({"checks": {"date_off": "block", "blocked_attachment": "off"}}),
    ] {
        assert!(matches!(decide_again(&clean, &policy(&known)), Again::Decided(_)), "{known}");
    }
    // What an attachment is called, nobody remembers.
    assert_eq!(decide_again(&clean, &policy(&json!({"blocked_extensions": ["pdf"]}))), Again::NotKnown);
}

#[test]
fn a_verdict_of_before_is_too_old_and_one_of_no_message_stays_as_it_is() {
    let mut verdict = verdict_of("\r\nHi\r\n", &json!({}));
    verdict.basis = None;
    assert_eq!(decide_again(&verdict, &policy(&json!({}))), Again::TooOld);
    verdict.message.classification = Classification::Unknown;
    verdict.disposition = Disposition::Quarantine;
    assert_eq!(decide_again(&verdict, &policy(&json!({}))), Again::Decided(as_it_was(&verdict)));
}

#[test]
fn a_basis_is_small() {
    let size = |settings: &serde_json::Value| {
        serde_json::to_string(&verdict_of("\r\nHi\r\n", settings).basis).unwrap().len()
    };
    let small = size(&json!({}));
    assert!(small <= 48, "{small} bytes in every verdict of 90 days");
}
