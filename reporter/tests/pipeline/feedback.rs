use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mail_auth::report::{Feedback, FeedbackType};
use schemas::envelope::Origin;
use schemas::senders::BlockedMessage;
use schemas::verdict::{Classification, Disposition, VerdictEvent};
use schemas::{ReversePath, Topic, UserId};

use crate::events::{judged, mailbox, summary};
use crate::faulty::FaultyLog;
use crate::site::Site;

const SPAM: &[u8] = b"From: shop@customer.example\r\nSubject: win\r\n\r\nwin\r\n";

fn blocked(number: u32, classification: Classification) -> VerdictEvent {
    judged(&summary(number, classification), &["a@one.example"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_message_is_reported_to_its_domains_abuse_address() {
    let site = Site::open();
    site.abuse_address("customer.example", "abuse@customer.example").await;
    let mut spam = blocked(1, Classification::Spam);
    site.accept(&mut spam, SPAM).await;
    site.verdict(&spam).await;
    let reporter = site.start();
    let reports = site.reports().await;
    assert_eq!(reports.len(), 1);
    let (judged, message) = &reports[0];
    let id = summary(1, Classification::Spam).id;
    assert_eq!(judged.envelope.origin, Some(Origin::FeedbackReport { message_id: id }));
    assert_eq!(judged.envelope.recipients[0].forward_path, mailbox("abuse@customer.example"));
    assert_eq!(
        (&judged.envelope.reverse_path, &judged.envelope.user),
        (&ReversePath::Null, &UserId::own_mail())
    );
    assert!(judged.message.own);
    let feedback = Feedback::parse_rfc5322(message).unwrap();
    assert_eq!(feedback.feedback_type(), FeedbackType::Abuse);
    assert_eq!(feedback.message().unwrap().as_bytes(), SPAM);
    reporter.stop().await;
    assert_eq!(reporter_count(&site).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_nobody_set_by_hand_is_told_once() {
    let site = Site::open();
    site.abuse_address("customer.example", "abuse@customer.example").await;
    let message = summary(1, Classification::Spam);
    let lock = |by: &str, locked| VerdictEvent::Lock {
        user: message.user.clone(),
        domain: message.domain.clone(),
        identity: Some(message.identity.clone()),
        locked,
        by: by.into(),
        at: message.accepted_at,
        reason: "5 messages blocked".into(),
        evidence: vec![BlockedMessage {
            id: message.id,
            at: message.accepted_at,
            classification: Classification::Spam,
            subject: "You won".into(),
            why: "CONTENT 0.99".into(),
        }],
    };
    for event in [lock("policy", true), lock("policy", false), lock("root", true)] {
        site.append(Topic::Verdicts, &message, serde_json::to_vec(&event).unwrap().into()).await;
    }
    let reporter = site.start();
    let reports = site.reports().await;
    assert_eq!(reports.len(), 1);
    let (judged, notice) = &reports[0];
    assert!(matches!(judged.envelope.origin, Some(Origin::Notice { .. })));
    assert_eq!(judged.envelope.recipients[0].forward_path, mailbox("abuse@customer.example"));
    assert!(String::from_utf8_lossy(notice).contains("5 messages blocked"));
    reporter.stop().await;
    assert_eq!(reporter_count(&site).await, 1);
}

/// Reports after one more start: what was reported is not reported again.
async fn reporter_count(site: &Site) -> usize {
    let reporter = site.start();
    let count = site.reports().await.len();
    reporter.stop().await;
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_blocked_abuse_is_reported() {
    let site = Site::open();
    let reporter = site.start();
    for (number, classification) in [
        Classification::Clean,
        Classification::ForwardedSpam,
        Classification::LockedSender,
        Classification::LineTooLong,
        Classification::ObserveOnly,
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = blocked(number as u32, classification);
        if let VerdictEvent::Judged(verdict) = &mut event
            && classification != Classification::Clean
        {
            verdict.disposition = Disposition::Quarantine;
        }
        site.verdict(&event).await;
    }
    let mut delivered = blocked(10, Classification::Spam);
    let VerdictEvent::Judged(verdict) = &mut delivered else { unreachable!() };
    verdict.disposition = Disposition::Release;
    site.verdict(&delivered).await;
    site.append(Topic::Verdicts, &summary(11, Classification::Spam), "no json".into()).await;
    site.verdict(&blocked(12, Classification::Virus)).await;
    site.verdict(&blocked(13, Classification::Phishing)).await;
    let reports = site.reports().await;
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|(judged, _)| {
        judged.envelope.recipients[0].forward_path == mailbox("default@hoster.example")
    }));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_large_message_the_header_section_goes_along() {
    let site = Site::open();
    let reporter = site.start();
    let mut spam = blocked(1, Classification::Spam);
    let large = [SPAM, &b"0123456789\r\n".repeat(200_000)].concat();
    site.accept(&mut spam, &large).await;
    site.verdict(&spam).await;
    let (_, message) = site.reports().await.remove(0);
    assert!(message.len() < 10_000);
    assert!(Feedback::parse_rfc5322(&message).unwrap().headers().unwrap().contains("Subject: win"));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_with_commits_of_unknown_fate_each_message_is_reported_once() {
    let site = Site::open();
    let log = FaultyLog::in_commits(&site.log, &Arc::default(), 3);
    let count = 50u32;
    for number in 0..count {
        site.verdict(&blocked(number, Classification::Spam)).await;
    }
    for _ in 0..4 {
        let reporter = site.start_on(log.clone(), site.database());
        let before = site.log.lag("feedback", Topic::Verdicts).await.unwrap();
        let some_done = async {
            while site.log.lag("feedback", Topic::Verdicts).await.unwrap() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), some_done).await.expect("it goes on");
        reporter.kill().await;
    }
    let reporter = site.start_on(log, site.database());
    let reports = site.reports().await;
    let ids: HashSet<_> = reports.iter().map(|(judged, _)| judged.envelope.id).collect();
    assert_eq!((reports.len(), ids.len()), (count as usize, count as usize));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_counted_in_the_next_report() {
    let site = Site::open();
    let reporter = site.start();
    for number in 0..70 {
        site.verdict(&blocked(number, Classification::Spam)).await;
    }
    assert_eq!(site.reports().await.len(), 60);
    assert_eq!((reporter.metrics.reports.get(), reporter.metrics.reports_dropped.get()), (60, 10));
    site.clock.advance(Duration::from_secs(60));
    site.verdict(&blocked(100, Classification::Spam)).await;
    let reports = site.reports().await;
    let told = |(_, message): &(_, bytes::Bytes)| {
        String::from_utf8_lossy(message).contains("10 earlier reports to this address were left out")
    };
    assert_eq!((reports.len(), reports.iter().filter(|r| told(r)).count()), (61, 1));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reports_leaves_no_notice_out_and_one_of_locks_is_counted() {
    let site = Site::open();
    let lock = async |number: u32| {
        let message = summary(number, Classification::Spam);
        let event = VerdictEvent::Lock {
            user: message.user.clone(),
            domain: message.domain.clone(),
            identity: Some(schemas::verdict::Identity(format!("identity{number}"))),
            locked: true,
            by: "policy".into(),
            at: message.accepted_at,
            reason: "5 messages blocked".into(),
            evidence: Vec::new(),
        };
        site.append(Topic::Verdicts, &message, serde_json::to_vec(&event).unwrap().into()).await;
    };
    let reporter = site.start();
    for number in 0..70 {
        site.verdict(&blocked(number, Classification::Spam)).await;
    }
    assert_eq!(site.reports().await.len(), 60);
    for number in 0..61 {
        lock(number).await;
    }
    assert_eq!(site.reports().await.len(), 120);
    assert_eq!((reporter.metrics.reports.get(), reporter.metrics.reports_dropped.get()), (120, 11));
    site.clock.advance(Duration::from_secs(60));
    lock(100).await;
    let reports = site.reports().await;
    let told = String::from_utf8_lossy(&reports.last().unwrap().1).contains("1 earlier notices");
    assert!(reports.len() == 121 && told, "{}", reports.len());
    reporter.stop().await;
}
