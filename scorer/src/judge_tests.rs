use super::*;
use crate::samples::{NOW, classifier, envelope, policy};
use schemas::Topic;
use schemas::senders::Lock;

const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
/// Of an answer: what is so short and no answer is suspect.
const HEADER: &str = "From: a@b.example\r\nTo: c@d.example\r\nMessage-ID: <2@b.example>\r\nIn-Reply-To: <1@d.example>\r\nReferences: <1@d.example>\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nSubject: Re: minutes of the meeting\r\n";

fn judged(settings: &str, body: &str, senders: &Senders) -> Judgement {
    judged_message(settings, &format!("{HEADER}{body}"), senders)
}

fn judged_message(settings: &str, message: &str, senders: &Senders) -> Judgement {
    let envelope = envelope("a@b.example", &["c@d.example", "e@f.example"]);
    let accepted = Position { topic: Topic::Accepted, partition: 3, offset: 9 };
    let case = Case { envelope: &envelope, message: message.as_bytes(), policy: &policy(settings) };
    judge(&case, &Findings::default(), accepted, senders, classifier(), NOW)
}

fn check(settings: &str, body: &str, senders: &Senders, expect: Classification) -> Judgement {
    let judgement = judged(settings, body, senders);
    assert_eq!(judgement.verdict.message.classification, expect, "{settings} {body}");
    let released = matches!(
        expect,
        Classification::Clean
            | Classification::AllowListed
            | Classification::ObserveOnly
            | Classification::Own
    );
    assert_eq!(judgement.verdict.disposition == Disposition::Release, released);
    judgement
}

fn locked(identity: Option<&str>) -> Senders {
    let mut senders = Senders::default();
    let envelope = envelope("a@b.example", &[]);
    let identity = identity.map(|name| schemas::verdict::Identity(name.into()));
    let lock = Lock { since: NOW, until: None, by: "root".into(), reason: "abuse".into() };
    senders.set_lock(&envelope.user, &envelope.domain, identity.as_ref(), lock);
    senders
}

#[test]
fn the_strongest_finding_decides() {
    let free = Senders::default();
    let spam = format!("\r\n{GTUBE}\r\n");
    let virus = format!("\r\n{EICAR}\r\n");
    let twice = "Subject: again\r\n\r\nx\r\n";
    let hops = format!("{}\r\nx\r\n", "Received: x\r\n".repeat(101));
    let allow = r#"{"allow_senders": ["b.example"]}"#;
    let block = r#"{"block_senders": ["a@b.example"]}"#;
    let observe = r#"{"spam_action": "observe"}"#;
    use Classification as C;
    check("{}", "\r\nhello\r\n", &free, C::Clean);
    check("{}", &spam, &free, C::Spam);
    check("{}", &virus, &free, C::Virus);
    check("{}", twice, &free, C::DuplicateHeader);
    check(r#"{"checks": {"duplicate_header": "count"}}"#, twice, &free, C::Clean);
    check(r#"{"checks": {"duplicate_header": "off"}}"#, twice, &free, C::Clean);
    check(block, "\r\nhello\r\n", &free, C::BlockedSender);
    check(r#"{"block_recipients": ["f.example"]}"#, "\r\nx\r\n", &free, C::BlockedRecipient);
    // lists
    check(allow, &spam, &free, C::AllowListed);
    check(allow, &virus, &free, C::Virus);
    check(allow, &hops, &free, C::TooManyReceived);
    check(
        r#"{"allow_senders": ["b.example"], "block_senders": ["a@b.example"]}"#,
        "\r\nx\r\n",
        &free,
        C::AllowListed,
    );
    check(r#"{"allow_recipients": ["d.example"]}"#, &spam, &free, C::Spam);
    check(r#"{"allow_recipients": ["d.example", "f.example"]}"#, &spam, &free, C::AllowListed);
    // locks
    check("{}", "\r\nx\r\n", &locked(None), C::LockedSender);
    check("{}", "\r\nx\r\n", &locked(Some("a@b.example")), C::LockedSender);
    check("{}", "\r\nx\r\n", &locked(Some("z@b.example")), C::Clean);
    check(allow, "\r\nx\r\n", &locked(None), C::LockedSender);
    check("{}", &virus, &locked(None), C::Virus);
    // observation
    let both = format!("Subject: again\r\n\r\n{GTUBE}\r\n");
    for (body, observed_as) in [(&*spam, C::Spam), (twice, C::DuplicateHeader), (&*both, C::Spam)] {
        let observed = check(observe, body, &free, C::ObserveOnly);
        assert_eq!(observed.verdict.message.observed_as, Some(observed_as), "{body}");
    }
    assert_eq!(check("{}", &spam, &free, C::Spam).verdict.message.observed_as, None);
    check(observe, &virus, &free, C::Virus);
    check(observe, "\r\nx\r\n", &free, C::Clean);
    check(observe, "\r\nx\r\n", &locked(None), C::LockedSender);
}

#[test]
fn a_check_that_counts_by_default_blocks_where_it_is_set_to() {
    let message = format!("{}\r\nx\r\n", HEADER.replace("minutes", "Sitzung f\u{fc}r"));
    let class = |settings: &str| {
        judged_message(settings, &message, &Senders::default()).verdict.message.classification
    };
    assert_eq!(class("{}"), Classification::Clean);
    assert_eq!(class(r#"{"checks": {"raw_subject": "block"}}"#), Classification::RawSubject);
    // Only what is found: the same setting does nothing to another subject.
    let block = r#"{"checks": {"raw_subject": "block"}}"#;
    check(block, "\r\nx\r\n", &Senders::default(), Classification::Clean);
}

#[test]
fn every_finding_is_told_whatever_decides() {
    let body = format!("Subject: again\r\n\r\n{GTUBE}\r\n");
    let judgement =
        check(r#"{"allow_senders": ["b.example"]}"#, &body, &Senders::default(), Classification::AllowListed);
    let verdict = judgement.verdict;
    let names: Vec<_> = verdict.symbols.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["ALLOW_LISTED", "GTUBE", "DUPLICATE_HEADER"]);
    assert!((verdict.score - 1.0).abs() < f32::EPSILON);
    assert_eq!((verdict.policy_version, verdict.identity_source.as_str()), (7, "envelope"));
    assert_eq!(verdict.message.subject.as_deref(), Some("Re: minutes of the meeting"));
    assert_eq!(verdict.message.header_from.unwrap().as_str(), "b.example");
}

#[test]
fn the_session_gets_what_the_settings_say() {
    let spam = format!("\r\n{GTUBE}\r\n");
    let reply = |settings: &str, body: &str| judged(settings, body, &Senders::default()).reply().to_string();
    assert!(reply("{}", &spam).starts_with("550 5.7.1 Blocked as spam, ref 01"));
    assert!(reply(r#"{"quarantine_response": "accept"}"#, &spam).starts_with("250 2.0.0 queued as 01"));
    assert!(reply("{}", "\r\nhello\r\n").starts_with("250 2.0.0 queued as 01"));
}

#[test]
fn mail_of_our_own_is_not_judged() {
    let mut envelope = envelope("", &["c@d.example", "e@f.example"]);
    envelope.origin = Some(schemas::envelope::Origin::Notice { event: "x".into() });
    let accepted = Position { topic: Topic::Accepted, partition: 3, offset: 9 };
    let case = Case { envelope: &envelope, message: GTUBE.as_bytes(), policy: &policy("{}") };
    let judgement = judge(&case, &Findings::default(), accepted, &locked(None), classifier(), NOW);
    assert_eq!(judgement.verdict.message.classification, Classification::Own);
    assert!(judgement.verdict.message.own && judgement.verdict.symbols.is_empty());
}

#[test]
fn the_script_and_doubtful_fields_are_told() {
    let names = |fields: &str| -> Vec<String> {
        let judgement = judged("{}", &format!("{fields}\r\nx\r\n"), &Senders::default());
        let symbols = judgement.verdict.symbols.into_iter().filter(|s| s.name != "CONTENT");
        symbols.map(|s| format!("{} {}", s.name, s.evidence)).collect()
    };
    assert_eq!(
        names("X-PHP-Originating-Script: 7:a.php\r\nX-Source-Dir: d.example:/w\r\n"),
        ["SCRIPT d.example:/w/a.php"]
    );
    assert_eq!(
        names("X-AuthUser: eve\r\nX-Authenticated-Sender: host: bob@d.example\r\n"),
        ["IDENTITY_FIELDS_DISAGREE X-AuthUser eve, X-Authenticated-Sender bob@d.example"]
    );
    assert!(names("X-AuthUser: bob+d.example\r\nX-Authenticated-Sender: host: bob@d.example\r\n").is_empty());
}

#[test]
fn what_is_passed_on_says_so_and_others_recipients_are_no_evidence() {
    let mut senders = Senders::default();
    let template = envelope("a@b.example", &[]);
    let mut row = crate::state::new_row(&template.user, &template.domain, None, NOW);
    row.outcomes.add(NOW, schemas::outcomes::Numbers { sent: 60, invalid: 60, refused: 0 });
    senders.put(row);
    for (from, forwarded, evidence) in
        [("a@b.example", false, true), ("SRS0=H=T=c.example=d@b.example", true, false), ("", false, false)]
    {
        let envelope = envelope(from, &["c@d.example"]);
        let accepted = Position { topic: Topic::Accepted, partition: 3, offset: 9 };
        let message = format!("{HEADER}\r\nhello\r\n");
        let case = Case { envelope: &envelope, message: message.as_bytes(), policy: &policy("{}") };
        let verdict = judge(&case, &Findings::default(), accepted, &senders, classifier(), NOW).verdict;
        assert_eq!(verdict.message.forwarded, forwarded, "{from}");
        let found = verdict.symbols.iter().any(|symbol| symbol.name == "INVALID_RECIPIENTS");
        assert_eq!(found, evidence, "{from}");
        assert_eq!(verdict.disposition, Disposition::Release);
    }
}
