//! Outcomes of deliveries that come back to the scorer, and the limits that they count for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Polled};
use schemas::attempt::{Attempt, AttemptEvent, Outcome, RecipientResult};
use schemas::commands::Action;
use schemas::outcomes::Numbers;
use schemas::senders::{HoldRow, RecipientsRow};
use schemas::settings::Limits;
use schemas::verdict::Disposition;
use schemas::{Domain, Envelope, Mailbox, SmtpReply, Topic, UserId};

use super::faulty;
use super::site::{DAY, GTUBE, PATIENCE, Site, judged, verdict_of};

const HOUR: Duration = Duration::from_secs(3600);

/// Tells of one try at a message: how many of its recipients got it, and how many do not exist.
async fn tried(site: &Site, user: &str, identity: &str, delivered: usize, invalid: usize) {
    let golden = include_bytes!("../../../schemas/golden/attempts/tried.json");
    let AttemptEvent::Attempt(mut attempt) = serde_json::from_slice(golden).unwrap() else { panic!() };
    attempt.message.user = UserId(user.into());
    attempt.message.identity.0 = identity.into();
    attempt.at = site.clock.now();
    let result = |outcome, code: u16, enhanced: &str| RecipientResult {
        index: 0,
        forward_path: Mailbox::parse("r@elsewhere.example").unwrap(),
        outcome,
        reply: SmtpReply { code, enhanced: enhanced.parse().ok(), text: String::new() },
        local: false,
        next_attempt: None,
    };
    attempt.recipients = vec![result(Outcome::Delivered, 250, "2.1.5"); delivered];
    attempt.recipients.extend(vec![result(Outcome::Failed, 550, "5.1.1"); invalid]);
    tell(site, user, attempt).await;
}

async fn tell(site: &Site, user: &str, attempt: Attempt) {
    let value = serde_json::to_vec(&AttemptEvent::Attempt(attempt)).unwrap();
    site.append(Topic::Attempts, &UserId(user.into()), value.into()).await;
}

/// Who does not exist, as the row of the user or identity says.
async fn invalid(site: &Site, user: &str, identity: Option<&str>) -> Numbers {
    let row = site.sender_row(user, identity).await;
    row.map(|row| row.outcomes.lately(site.clock.now())).unwrap_or_default()
}

fn to(site: &Site, number: usize, recipients: &[String]) -> Envelope {
    let mut envelope = site.envelope("shop.example", number);
    let first = envelope.recipients.remove(0);
    envelope.recipients = recipients
        .iter()
        .map(|recipient| {
            let mut copy = first.clone();
            copy.forward_path = Mailbox::parse(recipient).unwrap();
            copy
        })
        .collect();
    envelope
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_counts_once_whatever_crashes() {
    let site = Site::open().await;
    let limits = Limits { invalid_recipients_per_day: Some(100_000), ..Limits::default() };
    site.limit(limits).await;
    let users = ["a.example", "b.example", "c.example", "d.example", "e.example"];
    let mut expected: HashMap<&str, (u64, u64)> = HashMap::new();
    let commits = Arc::default();
    for round in 0..14_usize {
        let log = match round % 2 {
            0 => Arc::clone(&site.log),
            _ => faulty::FaultyLog::in_commits(&site.log, &commits, usize::MAX),
        };
        let scorer = site.start_on(log, 1 + round % 3);
        for number in 0..20 {
            for user in users {
                let envelope = site.envelope(user, round * 1000 + number);
                site.accept(&envelope, "hello").await;
                let failed = (number + round) % 3;
                tried(&site, user, user, number % 4, failed).await;
                let counted = expected.entry(user).or_default();
                *counted = (counted.0 + 1, counted.1 + failed as u64);
            }
        }
        site.lag_below(150 - round as u64 * 8).await;
        if round % 3 == 0 { scorer.stop().await } else { scorer.kill().await }
    }
    let scorer = site.start(2);
    site.settled().await;
    for user in users {
        let (sent, failed) = expected[user];
        let row = site.sender_row(user, None).await.unwrap();
        assert_eq!(row.released, sent, "{user}");
        let span = schemas::limits::Kind::InvalidRecipientsPerDay.span();
        assert_eq!(row.counters.invalid_day.count(site.clock.now(), span), failed, "{user}");
        let numbers = Numbers { sent, invalid: failed, refused: 0 };
        assert_eq!(invalid(&site, user, None).await, numbers);
    }
    assert!(commits.load(std::sync::atomic::Ordering::Relaxed) > 0);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_limit_of_invalid_recipients_mail_is_held_until_the_window_frees() {
    let site = Site::open().await;
    let limits = Limits { invalid_recipients_per_day: Some(3), ..Limits::default() };
    site.limit(limits).await;
    let scorer = site.start(1);
    let envelope = |number| site.envelope("shop.example", number);
    let verdict = async |number| {
        let envelope = envelope(number);
        let id = envelope.id;
        site.accept(&envelope, "hello").await;
        site.find(Topic::Verdicts, move |record| verdict_of(record, id)).await
    };
    tried(&site, "shop.example", "shop.example", 0, 2).await;
    site.settled().await;
    assert_eq!(verdict(1).await.disposition, Disposition::Release);
    tried(&site, "shop.example", "shop.example", 0, 1).await;
    tried(&site, "other.example", "other.example", 0, 1).await;
    site.settled().await;
    let held = verdict(2).await;
    assert_eq!(held.disposition, Disposition::Hold);
    assert!(held.symbols.iter().any(|s| s.evidence == "3 of 3 invalid recipients per day"), "{held:?}");
    site.clock.advance(DAY - HOUR);
    site.until_holds(1, |_: &HoldRow| true).await;
    site.clock.advance(2 * HOUR);
    site.until_released(2).await;
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn distinct_recipients_are_limited_remembered_and_forgotten() {
    let site = Site::open().await;
    let limits = Limits { distinct_recipients_per_day: Some(3), ..Limits::default() };
    site.limit(limits).await;
    let names = |numbers: &[u32]| -> Vec<String> {
        numbers.iter().map(|n| format!("r{n}@elsewhere.example")).collect()
    };
    let scorer = site.start(1);
    site.accept(&to(&site, 1, &names(&[1, 2])), "hello").await;
    site.accept(&to(&site, 2, &names(&[2, 3])), "hello").await;
    site.settled().await;
    assert_eq!(site.released().await.len(), 2);
    scorer.kill().await;
    let scorer = site.start(2);
    // Those it knows are not counted anew; a fourth waits, and what comes after it with it.
    site.accept(&to(&site, 3, &names(&[3, 1])), "hello").await;
    site.accept(&to(&site, 4, &names(&[1, 4])), "hello").await;
    site.clock.advance(Duration::from_secs(1));
    site.accept(&to(&site, 5, &names(&[1])), "hello").await;
    site.settled().await;
    assert_eq!(site.released().await.len(), 3);
    site.until_holds(2, |row| !row.recipient_hashes.is_empty()).await;
    let key = schemas::senders::recipients_key(&UserId("shop.example".into()));
    let row = site.rows(Topic::Senders).await;
    let row: RecipientsRow = serde_json::from_slice(&row[&key]).unwrap();
    assert_eq!(row.distinct.count(site.clock.now()), 3);
    site.clock.advance(DAY + 2 * HOUR);
    site.until_released(5).await;
    scorer.stop().await;
    // Without the limit nothing is kept of it.
    site.limit(Limits::default()).await;
    let scorer = site.start(1);
    site.accept(&to(&site, 6, &names(&[9])), "hello").await;
    site.until_released(6).await;
    site.settled().await;
    assert!(!site.rows(Topic::Senders).await.contains_key(&key));
    let last = site.all(Topic::Released).await.iter().filter_map(judged).count();
    assert_eq!(last, 6);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successes_are_not_committed_one_batch_after_the_other() {
    let site = Site::open().await;
    for _ in 0..400 {
        tried(&site, "shop.example", "shop.example", 1, 0).await;
    }
    let scorer = site.start(1);
    site.settled().await;
    // It is counted a moment after it stands in the log.
    let counted = async {
        while scorer.counted("commits") == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("a commit");
    let commits = scorer.counted("commits");
    assert!((1..=3).contains(&commits), "{commits} commits for 25 batches that say nothing");
    assert!(site.rows(Topic::Senders).await.is_empty());
    scorer.stop().await;
}

/// Two that wait are not let go at once when there is room for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_go_takes_the_room_of_what_waits_behind_it() {
    let site = Site::open().await;
    site.limit(Limits { distinct_recipients_per_day: Some(2), ..Limits::default() }).await;
    let scorer = site.start(1);
    let pair = |n: u32| [0, 1].map(|m| format!("r{n}-{m}@elsewhere.example")).to_vec();
    for number in 0..3 {
        site.accept(&to(&site, number, &pair(number as u32)), "hello").await;
        site.settled().await;
        site.clock.advance(Duration::from_secs(1));
    }
    for released in 2..4 {
        site.clock.advance(DAY + HOUR);
        site.until_released(released).await;
        site.until_holds(3 - released, |_: &HoldRow| true).await;
        assert_eq!(site.released().await.len(), released);
    }
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_recipients_do_not_exist_shows_it() {
    let site = Site::open().await;
    let scorer = site.start(1);
    for number in 0..15 {
        let four: Vec<String> = (0..4).map(|n| format!("r{n}@elsewhere.example")).collect();
        site.accept(&to(&site, number, &four), "hello").await;
    }
    site.settled().await;
    let identity = "shop.example";
    for failed in [20, 18] {
        tried(&site, "shop.example", identity, 1, failed).await;
    }
    site.settled().await;
    let numbers = Numbers { sent: 60, invalid: 38, refused: 0 };
    assert_eq!(invalid(&site, "shop.example", Some(identity)).await, numbers);
    let envelope = site.envelope("shop.example", 100);
    site.accept(&envelope, "hello").await;
    let verdict = site.find(Topic::Verdicts, move |record| verdict_of(record, envelope.id)).await;
    let symbol = verdict.symbols.iter().find(|s| s.name == "INVALID_RECIPIENTS").expect("the symbol");
    assert_eq!(symbol.evidence, "38 of the last 60 recipients do not exist");
    assert_eq!((symbol.weight, verdict.disposition), (0.4, Disposition::Release));
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_long_before_the_scorer_read_attempts_is_passed_over() {
    let site = Site::open().await;
    let limits = Limits { invalid_recipients_per_day: Some(50), ..Limits::default() };
    site.limit(limits).await;
    let user = UserId("shop.example".into());
    for _ in 0..300 {
        // Whoever read one of these would count that it cannot be parsed.
        site.append(Topic::Attempts, &user, r#"{"outcome":"failed"}"#.into()).await;
    }
    site.clock.advance(5 * DAY);
    let scorer = site.start(1);
    site.settled().await;
    assert_eq!(scorer.counted("undecodable"), 0);
    tried(&site, "shop.example", "shop.example", 0, 2).await;
    site.settled().await;
    assert_eq!(invalid(&site, "shop.example", None).await.invalid, 2);
    scorer.stop().await;
    // From here on nothing is passed over, however late it is read: late is only what the windows say.
    tried(&site, "shop.example", "shop.example", 0, 2).await;
    site.clock.advance(20 * HOUR);
    tried(&site, "shop.example", "shop.example", 0, 1).await;
    site.clock.advance(5 * HOUR);
    let scorer = site.start(1);
    site.settled().await;
    let row = site.sender_row("shop.example", None).await.unwrap();
    let span = schemas::limits::Kind::InvalidRecipientsPerDay.span();
    assert_eq!(row.counters.invalid_day.count(site.clock.now(), span), 1);
    scorer.stop().await;
}

/// While a member of a version that does not read `attempts` is in the group, what becomes of its users' mail waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_counts_for_users_that_another_member_owns() {
    let site = Site::open().await;
    let topics = [Topic::Accepted, Topic::Commands];
    let mut earlier = site.log.join("scorer", "z-earlier", &topics).await.unwrap();
    let scorer = site.start(1);
    let mut owned = Vec::new();
    let theirs = async {
        while owned.len() != 4 {
            match earlier.poll(10, Duration::from_millis(20)).await.unwrap() {
                Polled::Assigned(partitions) => owned.extend(partitions),
                Polled::Revoked(partitions) => owned.retain(|of| !partitions.contains(of)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, theirs).await.expect("they share");
    let of = |user: &String| site.log.partition_of(Topic::Accepted, user.as_bytes());
    let is_theirs = |user: &String| owned.iter().any(|at| at.partition == of(user));
    let mut users = (0..).map(|n| format!("u{n}.example"));
    let theirs = users.find(is_theirs).unwrap();
    let ours = users.find(|user| !is_theirs(user)).unwrap();
    for user in [&theirs, &ours] {
        tried(&site, user, user, 0, 2).await;
    }
    let counted = async { while invalid(&site, &ours, None).await.invalid < 2 {} };
    tokio::time::timeout(PATIENCE, counted).await.expect("ours are counted");
    assert_eq!(invalid(&site, &theirs, None).await.invalid, 0);
    earlier.leave().await;
    site.settled().await;
    assert_eq!(invalid(&site, &theirs, None).await.invalid, 2);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_leaves_when_counting_begins_anew() {
    let site = Site::open().await;
    let limits = Limits {
        distinct_recipients_per_day: Some(1),
        invalid_recipients_per_day: Some(1),
        ..Limits::default()
    };
    site.limit(limits).await;
    let scorer = site.start(1);
    for number in 0..2 {
        site.accept(&to(&site, number, &[format!("r{number}@elsewhere.example")]), "hello").await;
    }
    tried(&site, "shop.example", "shop.example", 0, 1).await;
    site.settled().await;
    site.until_holds(1, |_: &HoldRow| true).await;
    assert_eq!(invalid(&site, "shop.example", None).await, Numbers { sent: 1, invalid: 1, refused: 0 });
    let reset = |identity: Option<&str>| Action::Reset {
        user: UserId("shop.example".into()),
        domain: Domain::parse("shop.example").unwrap(),
        identity: identity.map(|name| schemas::verdict::Identity(name.into())),
        reason: "a list was cleaned".into(),
    };
    site.command("reset-identity", reset(Some("shop.example"))).await;
    assert_eq!(site.answer("reset-identity").await.1, 1);
    assert_eq!(invalid(&site, "shop.example", Some("shop.example")).await, Numbers::default());
    site.command("reset", reset(None)).await;
    assert_eq!(site.answer("reset").await.1, 1);
    site.clock.advance(Duration::from_secs(60));
    site.until_released(2).await;
    site.settled().await;
    assert_eq!(invalid(&site, "shop.example", None).await, Numbers { sent: 1, invalid: 0, refused: 0 });
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_releases_counts() {
    let site = Site::open().await;
    site.limit(Limits { messages_per_day: Some(2), ..Limits::default() }).await;
    let scorer = site.start(1);
    let verdict = async |number, body| {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, body).await;
        let verdict = site.find(Topic::Verdicts, |record| verdict_of(record, envelope.id)).await;
        (envelope, verdict)
    };
    let release = async |envelope: &Envelope| {
        let name = format!("release {}", envelope.id);
        let action = Action::Release { user: envelope.user.clone(), message_id: envelope.id };
        site.command(&name, action).await;
        assert_eq!(site.answer(&name).await.1, 1);
    };
    let (spam, _) = verdict(0, GTUBE).await;
    site.placed_row(&spam).await;
    release(&spam).await;
    assert_eq!(verdict(1, "hello").await.1.disposition, Disposition::Release);
    for (number, standing) in [(2, "2 of 2 messages per day"), (3, "3 of 2 messages per day")] {
        let (envelope, held) = verdict(number, "hello").await;
        assert!(held.symbols.iter().any(|symbol| symbol.evidence == standing), "{:?}", held.symbols);
        site.until_holds(1, |_: &HoldRow| true).await;
        release(&envelope).await;
    }
    site.settled().await;
    assert_eq!(invalid(&site, "shop.example", None).await, Numbers { sent: 4, ..Numbers::default() });
    scorer.stop().await;
}
