//! How senders behave, over weeks, across restarts and crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use eventlog::Record;
use schemas::envelope::Recipient;
use schemas::senders::{Kind, kind_of_key};
use schemas::verdict::{Classification, Disposition, Verdict};
use schemas::{Envelope, Mailbox, Topic};

use crate::site::{DAY, PATIENCE, Site, verdict_of};

const MINUTE: Duration = Duration::from_secs(60);

fn to(mut envelope: Envelope, recipient: &str) -> Envelope {
    let forward_path = Mailbox::parse(recipient).unwrap();
    envelope.recipients = vec![Recipient { forward_path, notify: None, orcpt: None }];
    envelope
}

async fn verdict(site: &Site, envelope: &Envelope) -> Verdict {
    let id = envelope.id;
    site.find(Topic::Verdicts, move |record: &Record| verdict_of(record, id)).await
}

fn found(verdict: &Verdict) -> Vec<String> {
    // Every message of these tests has the same Date.
    let others =
        verdict.symbols.iter().filter(|symbol| !["CONTENT", "DATE_OFF"].contains(&symbol.name.as_str()));
    others.map(|symbol| format!("{} {}", symbol.name, symbol.evidence)).collect()
}

/// Kinds of history that stand in the topic.
async fn kinds(site: &Site) -> BTreeSet<String> {
    let rows = site.rows(Topic::Senders).await;
    let kind = |key: &bytes::Bytes| match kind_of_key(key)? {
        Kind::History(_, part) => format!("{part:?}").split(['(', ' ']).next().map(str::to_owned),
        _ => None,
    };
    rows.keys().filter_map(kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_taken_over_is_told_of_whatever_crashes() {
    let site = Site::open().await;
    let mut number = 0;
    let mut next = |site: &Site, recipient: &str| {
        number += 1;
        to(site.envelope("shop.example", number), recipient)
    };
    let mut scorer = site.start(1);
    for day in 0..12 {
        for _ in 0..4 {
            site.accept(&next(&site, "customer@friend.example"), "hello").await;
        }
        site.settled().await;
        if day % 3 == 0 {
            scorer.kill().await;
            scorer = site.start(1 + day % 2);
        }
        site.clock.advance(DAY);
    }
    let usual = next(&site, "customer@friend.example");
    site.accept(&usual, "hello").await;
    let usual = verdict(&site, &usual).await;
    assert_eq!((found(&usual), usual.message.classification), (vec![], Classification::Clean));

    // 99 more within an hour, to strangers, while the scorer dies again and again.
    let mut last = None;
    for stranger in 0..99 {
        site.clock.advance(MINUTE / 2);
        let envelope = next(&site, &format!("x{stranger}@domain{stranger}.example"));
        site.accept(&envelope, "hello").await;
        last = Some(envelope);
        if stranger % 25 == 7 {
            site.lag_below(5).await;
            scorer.kill().await;
            scorer = site.start(1);
        }
    }
    let last = verdict(&site, &last.unwrap()).await;
    assert_eq!(
        found(&last),
        [
            "RATE_ABOVE_HISTORY 100 in the last hour; usually 4, at most 4",
            "FIRST_SEEN_RECIPIENTS 99 of 100 recipients in the last day never written to before; usually 0 in a day, at most 1",
            "MANY_RECIPIENT_DOMAINS 100 domains of recipients in the last day; usually 1 in a day, at most 1",
        ]
    );
    assert_eq!(
        (last.message.classification, last.disposition),
        (Classification::Suspect, Disposition::Release)
    );

    // Once nobody has used the account for a month, nothing is left.
    assert_eq!(kinds(&site).await, ["Arrivals", "Contacts", "Rates"].map(str::to_owned).into());
    site.clock.advance(31 * DAY);
    let none = async { while !kinds(&site).await.is_empty() {} };
    tokio::time::timeout(PATIENCE, none).await.expect("they leave");
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_turn_behaviour_down() {
    let site = Site::open().await;
    site.set_defaults(r#"{"identification": ["envelope"], "weights": {"IDENTITY_CHURN": 0.0}}"#).await;
    let scorer = site.start(1);
    let accept = async |number: usize| {
        let mut envelope = site.envelope("shop.example", number);
        let mailbox = Mailbox::parse(&format!("a{number}@shop.example")).unwrap();
        envelope.reverse_path = schemas::ReversePath::Mailbox(mailbox);
        site.accept(&envelope, "hello").await;
        verdict(&site, &envelope).await
    };
    accept(0).await;
    site.clock.advance(8 * DAY);
    let mut last = None;
    for number in 1..=51 {
        last = Some(accept(number).await);
    }
    let last = last.unwrap();
    assert_eq!(found(&last), ["IDENTITY_CHURN 51 new identities in the last hour"]);
    let churn = last.symbols.iter().find(|symbol| symbol.name == "IDENTITY_CHURN").unwrap();
    assert_eq!(churn.weight, 0.0);
    scorer.stop().await;
}
