//! Senders as they are, good ones and others, over weeks.

use std::collections::BTreeSet;

use super::*;
use crate::classifier::fingerprint;
use crate::classifier::words::Words;
use crate::samples::{NOW, classifier, envelope};
use crate::state::{Fate, Senders};
use schemas::verdict::{Identity, MessageSummary};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-24, a Tuesday, 00:00
const MIDNIGHT: i64 = NOW.0 - NOW.0.rem_euclid(DAY);

struct Site {
    senders: Senders,
    template: MessageSummary,
}

/// One message.
struct Mail<'a> {
    identity: &'a str,
    from: &'a str,
    to: Vec<String>,
    text: &'a str,
    fields: &'a str,
    source: &'a str,
}

impl Default for Mail<'_> {
    fn default() -> Self {
        Mail {
            identity: "bob@shop.example",
            from: "bob@shop.example",
            to: vec!["anna@friend.example".into()],
            text: "",
            fields: "",
            source: "header:X-AuthUser",
        }
    }
}

impl Site {
    /// A user that is known for a month.
    fn open() -> Self {
        let mut site = Site::opened_at(Timestamp(MIDNIGHT - 60 * DAY));
        site.send(MIDNIGHT - 60 * DAY, &Mail { identity: "first@shop.example", ..Mail::default() });
        site
    }

    fn opened_at(at: Timestamp) -> Self {
        let judgement = crate::score_file::score_message(b"From: a@b.example\r\n\r\n", classifier(), at);
        Site { senders: Senders::default(), template: judgement.verdict.message }
    }

    /// What is found of a message, which counts then.
    fn send(&mut self, at: i64, mail: &Mail<'_>) -> Vec<Symbol> {
        self.send_and(at, mail, Fate::Released)
    }

    fn send_and(&mut self, at: i64, mail: &Mail<'_>, fate: Fate) -> Vec<Symbol> {
        let at = Timestamp(at);
        let recipients: Vec<&str> = mail.to.iter().map(String::as_str).collect();
        let envelope = envelope(mail.from, &recipients);
        let message = format!("From: {}\r\n{}\r\n{}", mail.from, mail.fields, mail.text);
        let facts = Facts::of(&envelope, message.as_bytes());
        let text = fingerprint::of(&Words::of(mail.text, false));
        let is_forwarded = crate::forwarded::is_forwarded(
            &facts,
            mail.source,
            &crate::address_list::AddressList::of(&["shop.example".into()]),
        );
        let Some(sighting) = Sighting::of(&facts, is_forwarded, mail.source, text) else { return Vec::new() };
        let summary = MessageSummary {
            accepted_at: at,
            identity: Identity(mail.identity.into()),
            ..self.template.clone()
        };
        let known = self.senders.known(&summary.user, &summary.identity, at);
        let symbols = symbols(&sighting, &known, at);
        let is_told = |symbol: &Symbol| SYMBOLS.contains(&symbol.name.as_str());
        assert!(symbols.iter().all(is_told), "{symbols:?}");
        self.senders.note_behaviour(&summary, &sighting, fate);
        self.senders.count(&summary, Some(mail.source), fate);
        symbols
    }

    /// Working days of an identity: so many messages from 8 to 17 o'clock, to twelve people at four companies, and to
    /// one new person.
    fn office(&mut self, identity: &str, days: std::ops::Range<i64>, messages: i64) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for day in days {
            for number in 0..messages {
                let known = format!("colleague{}@company{}.example", number % 12, number % 4);
                let new = format!("new{day}@other{day}.example");
                let to = vec![if number == 3 { new } else { known }];
                let at = MIDNIGHT + day * DAY + 8 * HOUR + number * 9 * HOUR / messages;
                let mail = Mail { identity, to, ..Mail::default() };
                names.extend(self.send(at, &mail).into_iter().map(|symbol| symbol.name));
            }
        }
        names
    }
}

fn stranger(number: i64, domains: i64) -> Vec<String> {
    vec![format!("victim{number}@domain{}.example", number % domains)]
}

fn lines(symbols: &[Symbol]) -> Vec<String> {
    symbols.iter().map(|s| format!("{} {} {}", s.name, s.weight, s.evidence)).collect()
}

fn score(symbols: &[Symbol]) -> f32 {
    1.0 - symbols.iter().map(|symbol| 1.0 - symbol.weight).product::<f32>()
}

const OFFER: &str = "Dear customer, your mailbox has reached its limit and will be closed within the next two days unless you confirm your account. Please follow the link below and enter your password, so that our team can extend the storage of your mailbox at once and without any cost.";

#[test]
fn an_office_with_regular_hours_is_never_told_of() {
    let mut site = Site::open();
    assert_eq!(site.office("bob@shop.example", -40..0, 20), BTreeSet::new());
    // A day with twice the mail, and an evening of work.
    assert_eq!(site.office("bob@shop.example", 0..1, 40), BTreeSet::new());
    for number in 0..15 {
        let found = site.send(MIDNIGHT + 20 * HOUR + number * MINUTE, &Mail::default());
        assert_eq!(lines(&found), [""; 0]);
    }
}

#[test]
fn an_account_that_is_taken_over_shows_in_several_ways() {
    let mut site = Site::open();
    site.office("bob@shop.example", -40..0, 20);
    let mut last = Vec::new();
    for number in 0..300 {
        // At 3 o'clock, 300 in 10 minutes.
        let at = MIDNIGHT + 3 * HOUR + number * 2000;
        let mail = Mail { to: stranger(number, 150), ..Mail::default() };
        last = site.send(at, &mail);
        assert!(number < 20 || !last.is_empty(), "found at message {number}");
    }
    assert_eq!(
        lines(&last),
        [
            "RATE_ABOVE_HISTORY 0.35 300 in the last hour; usually 2, at most 3",
            "UNUSUAL_HOUR 0.2 300 in the last hour, at 03 UTC; of the last 237 hours with mail 0 were between 02 and 05",
            "FIRST_SEEN_RECIPIENTS 0.3 300 of 320 recipients in the last day never written to before; usually 1 in a day, at most 13",
            "MANY_RECIPIENT_DOMAINS 0.25 128 or more domains of recipients in the last day; usually 5 in a day, at most 5",
        ]
    );
    // The next night is no more usual than the first.
    let found = (0..200).map(|n| {
        site.send(
            MIDNIGHT + DAY + 3 * HOUR + n * 2000,
            &Mail { to: stranger(n + 9000, 150), ..Mail::default() },
        )
    });
    let names: BTreeSet<String> = found.flatten().map(|symbol| symbol.name).collect();
    assert!(names.contains("RATE_ABOVE_HISTORY") && names.contains("FIRST_SEEN_RECIPIENTS"), "{names:?}");
}

#[test]
fn who_was_quiet_for_weeks_and_is_not_any_more_is_told_of() {
    let mut site = Site::open();
    site.office("bob@shop.example", -40..-20, 5);
    let mut last = Vec::new();
    for number in 0..200 {
        last = site.send(MIDNIGHT + 10 * HOUR + number * 10_000, &Mail::default());
    }
    assert_eq!(
        lines(&last),
        ["RATE_ABOVE_HISTORY 0.35 200 in the last hour; usually 1, at most 1, and nothing for 20 days"]
    );
    // One who never wrote enough to say what is usual.
    let mut site = Site::open();
    for day in [-20, -15] {
        site.send(MIDNIGHT + day * DAY, &Mail::default());
    }
    for number in 0..200 {
        let mail = Mail { to: vec![format!("v{number}@freemail.example")], ..Mail::default() };
        last = site.send(MIDNIGHT + number * 10_000, &mail);
    }
    assert_eq!(
        lines(&last),
        [
            "NEW_SENDER_BURST 0.15 first seen 20 days ago, with mail on 2 days before; 200 recipients in 1 domains in the last day"
        ]
    );
}

#[test]
fn a_first_newsletter_is_suspect_at_most() {
    // 5,000 people one by one, by somebody who writes every day, in office hours.
    let mut site = Site::open();
    site.office("bob@shop.example", -40..0, 20);
    let mut most = 0.0f32;
    for number in 0..5000 {
        let at = MIDNIGHT + 10 * HOUR + number * 700;
        most = most.max(score(&site.send(at, &Mail { to: stranger(number, 900), ..Mail::default() })));
    }
    assert!((0.48..0.7).contains(&most), "{most}");
    // In one message, and by an address that is new.
    let to: Vec<String> = (0..5000).flat_map(|number| stranger(number, 900)).collect();
    let bob = site.send(MIDNIGHT + DAY, &Mail { to: to.clone(), ..Mail::default() });
    assert!(score(&bob) < 0.7, "{:?}", lines(&bob));
    let new = site.send(MIDNIGHT + DAY, &Mail { identity: "newsletter@shop.example", to, ..Mail::default() });
    assert_eq!(
        lines(&new),
        ["NEW_SENDER_BURST 0.15 not seen before; 5000 recipients in 128 or more domains in the last day"]
    );
}

#[test]
fn a_contact_form_writes_as_everybody_to_its_owner() {
    let mut site = Site::open();
    for day in -20..0 {
        for number in 0..8 {
            let from = format!("visitor{number}@mail{}.example", i64::rem_euclid(day * 8 + number, 90));
            let mail = Mail {
                identity: "shop.example:/www/contact.php",
                from: &from,
                to: vec!["owner@shop.example".into()],
                ..Mail::default()
            };
            let found = site.send(MIDNIGHT + day * DAY + number * HOUR, &mail);
            assert_eq!(lines(&found), [""; 0]);
        }
    }
    // A day on which the whole world asks.
    for number in 0..60 {
        let from = format!("visitor@press{number}.example");
        let mail = Mail {
            identity: "shop.example:/www/contact.php",
            from: &from,
            to: vec!["owner@shop.example".into()],
            ..Mail::default()
        };
        let found = site.send(MIDNIGHT + number * 20 * MINUTE, &mail);
        assert_eq!(lines(&found), [""; 0]);
    }
    // Found by somebody who posts to strangers through it, under many names.
    let mut last = Vec::new();
    for number in 0..60 {
        let from = format!("x@fake{number}.example");
        let mail = Mail {
            identity: "shop.example:/www/contact.php",
            from: &from,
            to: stranger(number, 50),
            ..Mail::default()
        };
        last = site.send(MIDNIGHT + 2 * DAY + 12 * HOUR + number * 1000, &mail);
    }
    let names: Vec<&str> = last.iter().map(|symbol| symbol.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "RATE_ABOVE_HISTORY",
            "UNUSUAL_HOUR",
            "FIRST_SEEN_RECIPIENTS",
            "MANY_RECIPIENT_DOMAINS",
            "MANY_FROM_DOMAINS"
        ]
    );
}

#[test]
fn sixty_new_identities_in_an_hour_are_told_of() {
    let mut site = Site::open();
    site.office("bob@shop.example", -10..0, 5);
    for number in 0..60 {
        let identity = format!("made-up-{number}@shop.example");
        let found =
            site.send(MIDNIGHT + number * MINUTE / 2, &Mail { identity: &identity, ..Mail::default() });
        let expect = (number >= 50)
            .then(|| format!("IDENTITY_CHURN 0.2 {} new identities in the last hour", number + 1));
        assert_eq!(lines(&found), Vec::from_iter(expect));
    }
    let again = Mail { identity: "made-up-3@shop.example", ..Mail::default() };
    assert_eq!(site.send(MIDNIGHT + 40 * MINUTE, &again).len(), 1, "the first of them belong to it");
    assert!(site.send(MIDNIGHT + 40 * MINUTE, &Mail::default()).is_empty(), "not who was there before");
    let later = Mail { identity: "later@shop.example", ..Mail::default() };
    assert!(site.send(MIDNIGHT + 3 * HOUR, &later).is_empty());

    // A server on its first day here.
    let mut site = Site::opened_at(Timestamp(MIDNIGHT));
    let last = (0..60).map(|number| {
        let identity = format!("account-{number}@shop.example");
        site.send(MIDNIGHT + number, &Mail { identity: &identity, ..Mail::default() })
    });
    assert_eq!(
        lines(&last.last().unwrap()),
        ["IDENTITY_CHURN 0 60 new identities in the last hour, of a user that is new itself"]
    );
}

#[test]
fn one_text_from_many_accounts_to_strangers_is_told_of() {
    let mut site = Site::open();
    let mut last = Vec::new();
    for number in 0..20 {
        let identity = format!("account-{number}@shop.example");
        let text = OFFER.replace("customer", &format!("Name{number}"));
        let mail = Mail { identity: &identity, to: stranger(number, 50), text: &text, ..Mail::default() };
        last = site.send(MIDNIGHT + number * MINUTE, &mail);
        assert_eq!(last.len(), usize::from(number >= 3), "{number}");
    }
    assert_eq!(
        lines(&last),
        ["SAME_TEXT 0.3 16 or more identities wrote nearly the same to strangers within 19 minutes"]
    );
    // It stands under what everybody writes for days: small print, or a program that many have.
    let form =
        Mail { identity: "account-99@shop.example", to: stranger(99, 9), text: OFFER, ..Mail::default() };
    for day in 1..6 {
        let mail = Mail { to: stranger(100 + day, 9), text: OFFER, ..Mail::default() };
        site.send(MIDNIGHT + day * DAY, &mail);
    }
    assert!(site.send(MIDNIGHT + 5 * DAY, &form).is_empty());
}

#[test]
fn answers_to_whoever_wrote_have_a_rate_alone() {
    let mut site = Site::open();
    for day in -20..0 {
        let mail = Mail { identity: "<>", from: "", to: stranger(day, 99), text: OFFER, ..Mail::default() };
        site.send(MIDNIGHT + day * DAY, &mail);
    }
    let mut last = Vec::new();
    for number in 0..120 {
        let mail =
            Mail { identity: "<>", from: "", to: stranger(number, 99), text: OFFER, ..Mail::default() };
        last = site.send(MIDNIGHT + number * 1000, &mail);
    }
    assert_eq!(lines(&last), ["RATE_ABOVE_HISTORY 0.35 120 in the last hour; usually 1, at most 1"]);
}

#[test]
fn what_is_passed_on_is_nobodys_text() {
    const OUTSIDE: &str = "Received: from mx.ext.example (mx.ext.example [203.0.113.5])\r\n\tby shop.example (Postfix) with ESMTPS id 1\r\n";
    let mut site = Site::open();
    for number in 0..80 {
        let identity = format!("{number}@ext{number}.example");
        let mail = Mail {
            identity: &identity,
            from: &identity,
            to: stranger(number, 99),
            text: OFFER,
            fields: OUTSIDE,
            source: "envelope",
        };
        assert_eq!(lines(&site.send(MIDNIGHT + number, &mail)), [""; 0]);
    }
    // Under SRS, one list to many accounts.
    let from = "SRS0=hhh=tt=ext.example=a@shop.example";
    for number in 0..60 {
        let identity = format!("account-{number}@shop.example");
        let mail =
            Mail { identity: &identity, from, to: stranger(number, 99), text: OFFER, ..Mail::default() };
        assert_eq!(lines(&site.send(MIDNIGHT + HOUR + number, &mail)), [""; 0]);
    }
    // By an account that we know.
    site.office("bob@shop.example", -12..0, 5);
    let last = (0..120).map(|number| {
        let mail = Mail { from, text: OFFER, to: vec!["bob@elsewhere.example".into()], ..Mail::default() };
        site.send(MIDNIGHT + DAY + 9 * HOUR + number, &mail)
    });
    let names: Vec<String> = last.last().unwrap().into_iter().map(|symbol| symbol.name).collect();
    assert_eq!(names, ["RATE_ABOVE_HISTORY"]);
}

#[test]
fn who_was_not_let_through_to_somebody_has_not_written_to_them() {
    let mut site = Site::open();
    site.office("bob@shop.example", -20..0, 10);
    let mail = |number| Mail { to: stranger(number, 3), ..Mail::default() };
    for number in 0..40 {
        site.send_and(MIDNIGHT + number, &mail(number), Fate::Quarantined);
    }
    let again: Vec<String> = site.send(MIDNIGHT + 50, &mail(7)).into_iter().map(|s| s.name).collect();
    assert!(again.contains(&"FIRST_SEEN_RECIPIENTS".to_owned()), "{again:?}");
}

/// Whatever one does: behaviour alone blocks nothing at the threshold that is shipped.
#[test]
fn all_together_stay_below_the_threshold() {
    let mut site = Site::open();
    site.office("bob@shop.example", -40..0, 20);
    let mut most = 0.0f32;
    for number in 0..400 {
        let from = format!("x@fake{number}.example");
        let bob = Mail { from: &from, to: stranger(number, 400), text: OFFER, ..Mail::default() };
        let identity = format!("made-up-{number}@shop.example");
        let other = Mail {
            identity: &identity,
            from: &from,
            to: stranger(number, 9),
            text: OFFER,
            ..Mail::default()
        };
        site.send(MIDNIGHT + 3 * HOUR + number * 1000, &other);
        most = most.max(score(&site.send(MIDNIGHT + 3 * HOUR + number * 1000, &bob)));
    }
    assert!(most > 0.8 && most < classifier().spam_threshold(), "{most}");
    let each = [0.35, 0.2, 0.3, 0.25, 0.15, 0.2, 0.2, 0.3].map(weighing);
    assert!(score(&each) < classifier().spam_threshold());
}

fn weighing(weight: f32) -> Symbol {
    crate::evidence::symbol("X", weight, "")
}
