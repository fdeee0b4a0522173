use schemas::verdict::Disposition;
use schemas::{Position, Topic};

use super::*;
use crate::judge::{Case, Judgement, judge};
use crate::outside::Findings;
use crate::samples::{NOW, classifier, envelope, policy};
use crate::state::Senders;

const ONE_CLICK: &str = "List-Unsubscribe: <mailto:u@shop.example>,\r\n <https://shop.example/u?1>\r\n\
    List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
const NOTHING: Authentication = Authentication { has_dmarc: false, has_dkim: Some(false) };

/// The evidence about a message of `news.shop.example` with these fields, when `before` recipients at each of the receivers
/// were counted before on that day.
fn found(
    fields: &str,
    recipients: &[&str],
    before: u32,
    authentication: Option<Authentication>,
) -> Option<String> {
    let envelope = envelope("a@b.example", recipients);
    let message = format!("From: Shop <news@news.shop.example>\r\n{fields}\r\nx\r\n");
    let facts = Facts::of(&envelope, message.as_bytes());
    let mut counted = Bulk::default();
    for receiver in ["gmail.com", "yahoo.com", "outlook.com"].map(|domain| receivers::of(domain).unwrap()) {
        counted.add(day_of(NOW), pair("shop.example", receiver), before);
    }
    let (check, symbol) = check(&facts, &sent(&facts), Some(&counted), authentication)?;
    assert_eq!((check, &*symbol.name, symbol.weight), (Classification::BulkSender, "BULK_SENDER", 0.05));
    Some(symbol.evidence)
}

#[test]
fn a_bulk_sender_is_told_what_to_change() {
    assert_eq!(
        found("", &["a@gmail.com", "b@googlemail.com"], 6198, Some(NOTHING)).unwrap(),
        "6,200 recipients at Google today from shop.example: no one-click unsubscribe (RFC 8058): add List-Unsubscribe with \
         an https URI, and List-Unsubscribe-Post: List-Unsubscribe=One-Click; no aligned DKIM signature: make a DKIM key of \
         shop.example here and publish its record, or sign with d=shop.example; no DMARC record: publish \
         _dmarc.shop.example TXT \"v=DMARC1; p=none\""
    );
    let part = |has_dmarc, has_dkim| {
        let authentication = Authentication { has_dmarc, has_dkim };
        found(ONE_CLICK, &["a@gmail.com"], 1_234_566, Some(authentication))
    };
    let begin = "1,234,567 recipients at Google today from shop.example: no";
    let dmarc = part(false, None).unwrap();
    assert!(dmarc.starts_with(&format!("{begin} DMARC")) && !dmarc.contains("DKIM"), "{dmarc}");
    let dkim = part(true, Some(false)).unwrap();
    assert!(dkim.starts_with(&format!("{begin} aligned DKIM")) && !dkim.contains("DMARC"), "{dkim}");
    assert_eq!((part(true, Some(true)), part(true, None)), (None, None));
}

#[test]
fn it_is_one_with_more_than_the_limit_at_one_receiver() {
    let at = |recipients: &[&str], before| found("", recipients, before, None).is_some();
    assert!(!at(&["a@gmail.com"], LIMIT - 1));
    assert!(at(&["a@gmail.com"], LIMIT));
    assert!(at(&["a@gmail.com", "b@gmail.com"], LIMIT - 1));
    assert!(!at(&["a@gmail.com", "b@yahoo.com"], LIMIT - 1), "the receivers do not add up");
    assert!(!at(&["a@elsewhere.example"], 10 * LIMIT));
}

#[test]
fn what_was_not_looked_up_is_not_missed_and_what_a_receiver_does_not_ask_for_neither() {
    assert!(found("", &["a@yahoo.com"], 6000, None).unwrap().ends_with("List-Unsubscribe=One-Click"));
    assert_eq!(found(ONE_CLICK, &["a@yahoo.com"], 6000, None), None);
    assert_eq!(found("", &["a@outlook.com"], 6000, None), None);
    let microsoft = found("", &["a@outlook.com"], 6000, Some(NOTHING)).unwrap();
    assert!(microsoft.starts_with("6,001 recipients at Microsoft today from shop.example: no aligned DKIM"));
    // The one that asks for more is named.
    let both = found("", &["a@outlook.com", "b@hotmail.com", "c@gmail.com"], 6000, Some(NOTHING)).unwrap();
    assert!(both.starts_with("6,001 recipients at Google"), "{both}");
}

#[test]
fn yesterday_makes_a_bulk_sender_of_today() {
    let envelope = envelope("a@b.example", &["a@gmail.com"]);
    let facts = Facts::of(&envelope, b"From: a@shop.example\r\n\r\nx\r\n");
    let sent = sent(&facts);
    let of_days_ago = |days| {
        let mut counted = Bulk::default();
        counted.add(day_of(NOW) - days, sent[0].pair, 6000);
        check(&facts, &sent, Some(&counted), None).map(|(_, symbol)| symbol.evidence)
    };
    assert!(of_days_ago(0).unwrap().starts_with("6,001 recipients at Google today from shop.example: "));
    assert!(of_days_ago(1).unwrap().starts_with("6,000 recipients at Google yesterday from shop.example: "));
    assert_eq!(of_days_ago(2), None);
    assert_eq!(check(&facts, &sent, None, None), None);
}

#[test]
fn one_click_takes_an_https_uri_and_the_post_field() {
    let post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
    for (fields, has) in [
        (ONE_CLICK.to_owned(), true),
        (format!("list-unsubscribe: <HTTPS://u.example/1>\r\n{}", post.to_lowercase()), true),
        (format!("List-Unsubscribe:\r\n\t<https://u.example/1,2>, <mailto:u@u.example>\r\n{post}"), true),
        ("List-Unsubscribe: <https://u.example/1>\r\n".into(), false),
        (post.into(), false),
        (format!("List-Unsubscribe: <mailto:u@u.example>\r\n{post}"), false),
        (format!("List-Unsubscribe: <http://u.example/1>\r\n{post}"), false),
        (format!("List-Unsubscribe: https://u.example/1\r\n{post}"), false),
        (format!("List-Unsubscribe: <https://>\r\n{post}"), false),
        ("List-Unsubscribe: <https://u.example/1>\r\nList-Unsubscribe-Post: yes\r\n".into(), false),
        ("In-Reply-To: <1@gmail.com>\r\n".into(), true),
        ("References: <1@gmail.com>\r\n".into(), true),
    ] {
        assert_eq!(found(&fields, &["a@gmail.com"], 6000, None).is_none(), has, "{fields}");
    }
}

fn judged(path: &str, settings: &str, fields: &str) -> Judgement {
    let envelope = envelope(path, &["a@gmail.com", "b@gmail.com", "c@elsewhere.example"]);
    let message = format!(
        "From: a@b.example\r\n{fields}To: a@gmail.com\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nSubject: News of the \
         week\r\n\r\nHere is what is new in our shop.\r\n"
    );
    let mut senders = Senders::default();
    let pair = pair("b.example", receivers::of("gmail.com").unwrap());
    let sent = Sent { receiver: receivers::of("gmail.com").unwrap(), pair, recipients: 6000 };
    senders.note_bulk(&envelope.user, &[sent], NOW);
    let policy = policy(settings);
    let case = Case { envelope: &envelope, message: message.as_bytes(), policy: &policy };
    let at = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    judge(&case, &Findings::default(), at, &senders, classifier(), NOW)
}

#[test]
fn it_counts_blocks_or_is_left_out() {
    let of = |path: &str, mode: &str| {
        let judgement = judged(path, &format!(r#"{{"checks": {{"bulk_sender": "{mode}"}}}}"#), "");
        let verdict = judgement.verdict;
        let found = verdict.symbols.iter().find(|symbol| symbol.name == "BULK_SENDER");
        let counted: u32 = judgement.bulk.iter().map(|sent| sent.recipients).sum();
        (verdict.disposition == Disposition::Release, found.map(|symbol| symbol.weight), counted)
    };
    assert_eq!(of("a@b.example", "count"), (true, Some(0.05), 2));
    assert_eq!(of("a@b.example", "off"), (true, None, 2));
    assert_eq!(of("a@b.example", "block"), (false, Some(1.0), 2));
    // Passed on: told, never blocked, not counted. The null reverse-path: not asked at all.
    assert_eq!(of("SRS0=hhh=tt=ext.example=a@b.example", "block"), (true, Some(0.05), 0));
    assert_eq!(judged("", "{}", "").bulk, []);

    let blocked = judged("a@b.example", r#"{"checks": {"bulk_sender": "block"}}"#, "");
    let message = &blocked.verdict.message;
    assert_eq!(
        (message.classification, message.classification.is_abuse()),
        (Classification::BulkSender, false)
    );
    assert!(
        blocked
            .reply()
            .to_string()
            .starts_with("550 5.7.1 Blocked: bulk mail without what its receiver asks for")
    );
    let good = judged("a@b.example", r#"{"checks": {"bulk_sender": "block"}}"#, ONE_CLICK);
    assert_eq!(good.verdict.disposition, Disposition::Release);
}

#[test]
fn mail_of_our_own_counts_nothing() {
    let mut envelope = envelope("a@b.example", &["a@gmail.com"]);
    envelope.origin = Some(schemas::envelope::Origin::Notice { event: "lock".into() });
    let policy = policy("{}");
    let case = Case { envelope: &envelope, message: b"From: a@b.example\r\n\r\nx\r\n", policy: &policy };
    let at = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let own = judge(&case, &Findings::default(), at, &Senders::default(), classifier(), NOW);
    assert_eq!(own.bulk, []);
}
