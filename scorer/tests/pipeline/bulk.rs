//! Who sends in bulk to a large receiver, over days and crashes.

use eventlog::Record;
use schemas::envelope::Recipient;
use schemas::verdict::{Classification, Disposition, Verdict};
use schemas::{Envelope, Mailbox, Topic, spool};

use crate::site::{DAY, Site, verdict_of};

/// A message of the shop to so many people.
fn newsletter(site: &Site, number: usize, recipients: usize) -> Envelope {
    let recipient = |at| Recipient {
        forward_path: Mailbox::parse(&format!("x{number}.{at}@gmail.com")).unwrap(),
        notify: None,
        orcpt: None,
    };
    Envelope { recipients: (0..recipients).map(recipient).collect(), ..site.envelope("shop.example", number) }
}

/// Not a reply, as what the other tests send is.
async fn accept(site: &Site, envelope: &Envelope) {
    let message = "From: a@shop.example\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nSubject: News of the week\r\n\r\n\
        Here is what is new in our shop.\r\n";
    let value = spool::encode(envelope, message.as_bytes()).unwrap();
    site.append(Topic::Accepted, &envelope.user, value).await;
}

async fn verdict(site: &Site, number: usize, recipients: usize) -> Verdict {
    let envelope = newsletter(site, number, recipients);
    accept(site, &envelope).await;
    let id = envelope.id;
    site.find(Topic::Verdicts, move |record: &Record| verdict_of(record, id)).await
}

fn found(verdict: &Verdict) -> Option<&str> {
    verdict.symbols.iter().find(|symbol| symbol.name == "BULK_SENDER").map(|symbol| &*symbol.evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_sender_is_told_today_and_tomorrow_whatever_crashes() {
    let site = Site::open().await;
    let mut scorer = site.start(1);
    for number in 0..5 {
        assert_eq!(found(&verdict(&site, number, 1000).await), None);
        site.settled().await;
        scorer.kill().await;
        scorer = site.start(1 + number % 2);
    }
    let told = verdict(&site, 5, 1).await;
    let evidence = found(&told).expect("5,001 recipients");
    assert!(
        evidence.starts_with("5,001 recipients at Google today from shop.example: no one-click"),
        "{evidence}"
    );
    assert_eq!(told.disposition, Disposition::Release);

    site.settled().await;
    scorer.stop().await;
    site.clock.advance(DAY);
    let scorer = site.start(1);
    let told = verdict(&site, 6, 1).await;
    let evidence = found(&told).expect("5,001 recipients the day before");
    assert!(evidence.starts_with("5,001 recipients at Google yesterday"), "{evidence}");
    site.clock.advance(DAY);
    assert_eq!(found(&verdict(&site, 7, 1).await), None);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_blocked_was_not_sent() {
    let site = Site::open().await;
    site.set_defaults(r#"{"checks": {"bulk_sender": "block"}}"#).await;
    let scorer = site.start(1);
    for number in 0..5 {
        assert_eq!(verdict(&site, number, 1000).await.disposition, Disposition::Release);
    }
    for number in 5..12 {
        let refused = newsletter(&site, number, 1);
        accept(&site, &refused).await;
        let reply = site.reply(refused.id).await;
        assert!(
            reply.starts_with("550 5.7.1 Blocked: bulk mail without what its receiver asks for"),
            "{reply}"
        );
        let id = refused.id;
        let refused = site.find(Topic::Verdicts, move |record: &Record| verdict_of(record, id)).await;
        assert_eq!(refused.message.classification, Classification::BulkSender);
        // Nobody is locked for it, and it does not add up.
        assert!(found(&refused).unwrap().starts_with("5,001 recipients at Google today"), "{refused:?}");
    }
    // 5,000 make no bulk sender of the next day.
    site.clock.advance(DAY);
    assert_eq!(verdict(&site, 12, 1).await.disposition, Disposition::Release);
    scorer.stop().await;
}
