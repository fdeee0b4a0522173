//! The scorer on the real embedded log: accepted mail and commands in, everything that must follow out.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

#[path = "../../../eventlog/tests/faulty/mod.rs"]
mod faulty;
mod feedback;

mod engines;
mod site;

mod behaviour;
mod bulk;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Clock, LogError, NewRecord, Polled, Record, bodies};
use schemas::commands::Action;
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::settings::Limits;
use schemas::verdict::{Classification, Identity, VerdictEvent};
use schemas::{Domain, Envelope, Mailbox, MessageId, Position, ReversePath, Topic, UserId, spool};

use site::{DAY, GTUBE, PATIENCE, START, Site, classification, judged, message, told, verdict_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_released_or_quarantined_with_a_reply() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let (clean, spam) = (site.envelope("shop.example", 1), site.envelope("shop.example", 2));
    site.accept(&clean, "hello").await;
    // what cannot be read must not stop what follows
    site.append(Topic::Accepted, &clean.user, Bytes::from_static(b"no json\nx")).await;
    site.append(Topic::Commands, &clean.user, Bytes::from_static(b"no json")).await;
    site.accept(&spam, GTUBE).await;

    assert!(site.reply(clean.id).await.starts_with("250 2.0.0 queued as "));
    assert!(site.reply(spam.id).await.starts_with("550 5.7.1 Blocked as spam, ref "));
    let (head, body) = site.find(Topic::Released, judged).await;
    assert_eq!((head.envelope, &body[..]), (clean.clone(), message("hello").as_bytes()));
    assert_eq!(head.message.classification, Classification::Clean);
    let (head, body) = site.find(Topic::Quarantined, judged).await;
    assert_eq!((head.envelope.id, &body[..]), (spam.id, message(GTUBE).as_bytes()));
    let classed = site.find(Topic::Verdicts, |r| classification(r, spam.id)).await;
    assert_eq!(classed, Classification::Spam);

    let row = site.placed_row(&spam).await;
    assert_eq!((row.state, row.by.as_str()), (QuarantineState::In, "policy"));
    let record = site.log.read(row.position).await.unwrap().unwrap();
    assert_eq!(judged(&record).unwrap().0.envelope.id, spam.id);
    site.settled().await;
    let sender = site.sender_row("shop.example", None).await.unwrap();
    assert_eq!((sender.released, sender.quarantined), (1, 1));
    // the user authenticated by login, so the login is the identity
    let identity = site.sender_row("shop.example", Some("shop.example")).await.unwrap();
    assert_eq!((identity.released, identity.identity_source.as_str()), (1, "user"));
    scorer.stop().await;
    assert_eq!(site.all(Topic::Verdicts).await.len(), 2);
    // A refusal came with the commit that put the message into quarantine; what passed was only announced.
    let replies = site.all(Topic::Replies).await;
    let durable: Vec<MessageId> = replies.iter().filter_map(told).map(|(id, _)| id).collect();
    assert_eq!(durable, [spam.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_stays_in_its_chunks() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let mut envelope = site.envelope("shop.example", 1);
    let whole = message(&format!("{GTUBE}\r\n{}", "0123456789abcdef\r\n".repeat(120_000)));
    for (index, chunk) in whole.as_bytes().chunks(700 * 1024).enumerate() {
        let chunk = bodies::chunk(envelope.id, index, Bytes::copy_from_slice(chunk));
        envelope.chunks.extend(site.log.append(vec![chunk]).await.unwrap());
    }
    envelope.size_bytes = whole.len() as u64;
    site.append(Topic::Accepted, &envelope.user, spool::encode(&envelope, b"").unwrap()).await;
    let (head, body) = site.find(Topic::Quarantined, judged).await;
    assert_eq!((head.envelope.chunks.len(), body.len()), (envelope.chunks.len(), 0));
    let row = site.placed_row(&envelope).await;

    // released when its chunks are about to leave, it gets new ones
    site.clock.advance(25 * DAY);
    let release = Action::Release { user: envelope.user.clone(), message_id: envelope.id };
    site.command("c1", release).await;
    let answer = site.answer("c1").await;
    assert!(answer.0, "{answer:?} {row:?}");
    let (head, _) = site.find(Topic::Released, judged).await;
    assert!(head.envelope.chunks.iter().zip(&envelope.chunks).all(|(new, old)| new.offset > old.offset));
    let loaded = bodies::load(site.log.as_ref(), &head.envelope, Bytes::new()).await.unwrap();
    assert_eq!(&loaded[..], whole.as_bytes());

    // one whose body is gone is accounted for
    let mut lost = site.envelope("shop.example", 2);
    lost.chunks = vec![Position { topic: Topic::Bodies, partition: 0, offset: 999_999 }];
    site.append(Topic::Accepted, &lost.user, spool::encode(&lost, b"").unwrap()).await;
    let classed = site.find(Topic::Verdicts, |r| classification(r, lost.id)).await;
    assert_eq!(classed, Classification::Unknown);
    assert_eq!((scorer.counted("bodies_lost"), scorer.counted("undecodable")), (1, 0));
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_parse_is_counted_and_what_follows_is_judged() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let envelope = site.envelope("shop.example", 1);
    for garbage in ["", "{ no JSON", "{}\n\nno envelope"] {
        site.append(Topic::Accepted, &envelope.user, garbage.into()).await;
    }
    site.append(Topic::Commands, &envelope.user, "{ no JSON".into()).await;
    site.accept(&envelope, "hello").await;
    site.until_released(1).await;
    assert_eq!(site.released().await, [envelope.id]);
    let command = async {
        while scorer.counted("undecodable") < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, command).await.expect("the command is passed over, too");
    assert_eq!(scorer.counted("bodies_lost"), 0);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_releases_once_and_closes() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let spam: Vec<_> = (0..3).map(|n| site.envelope("shop.example", n)).collect();
    for envelope in &spam {
        site.accept(envelope, GTUBE).await;
    }
    let user = spam[0].user.clone();
    let on = |n: usize| (user.clone(), spam[n].id);
    // commands that come with the messages themselves, before their place is known to anybody
    let (user0, id0) = on(0);
    site.command("release", Action::Release { user: user0.clone(), message_id: id0 }).await;
    // The order between the two topics is free: the first may have come before its message.
    let first = site.answer("release").await;
    if !first.0 {
        site.placed_row(&spam[0]).await;
        site.command("release-later", Action::Release { user: user0.clone(), message_id: id0 }).await;
        assert_eq!(site.answer("release-later").await.1, 1);
    }
    let (head, body) = site.find(Topic::Released, judged).await;
    assert_eq!((head.envelope.id, head.released_by.as_deref()), (id0, Some("root (test)")));
    assert_eq!(&body[..], message(GTUBE).as_bytes());

    site.command("again", Action::Release { user: user0.clone(), message_id: id0 }).await;
    let (ok, affected, text) = site.answer("again").await;
    assert!(ok && affected == 0 && text.contains("already released by root"), "{text}");
    site.command("remove", Action::Remove { user: user0, message_id: id0 }).await;
    assert!(!site.answer("remove").await.0);
    let (user1, id1) = on(1);
    site.placed_row(&spam[2]).await;
    site.command("confirm", Action::Confirm { user: user1.clone(), message_id: id1 }).await;
    assert_eq!(site.answer("confirm").await.1, 1);
    site.command("changed-mind", Action::Release { user: user1.clone(), message_id: id1 }).await;
    assert_eq!(site.answer("changed-mind").await.1, 1);
    site.command("nobody", Action::Release { user: UserId("other.example".into()), message_id: id1 }).await;
    assert!(!site.answer("nobody").await.0);
    site.settled().await;
    assert_eq!(site.all(Topic::Released).await.len(), 2);
    assert_eq!(site.quarantine_row(&spam[1]).await.unwrap().state, QuarantineState::Released);

    // after 28 days the rows leave
    site.clock.advance(29 * DAY);
    let tombstoned = |record: &Record| record.value.is_none().then_some(());
    site.find(Topic::Quarantine, tombstoned).await;
    scorer.stop().await;
    assert!(site.quarantine_row(&spam[2]).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_holds_until_its_time_or_a_person() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let user = UserId("shop.example".into());
    let domain = Domain::parse("shop.example").unwrap();
    let lock = |identity: Option<&str>, until| Action::Lock {
        user: user.clone(),
        domain: domain.clone(),
        identity: identity.map(|name| Identity(name.into())),
        until,
        reason: "phished".into(),
    };
    site.command("lock", lock(Some("shop.example"), Some(START.plus(DAY)))).await;
    assert!(site.answer("lock").await.0);
    let blocked = site.envelope("shop.example", 1);
    site.accept(&blocked, "hello").await;
    assert!(site.reply(blocked.id).await.starts_with("550 5.7.1 Blocked: sender is locked"));

    site.clock.advance(DAY);
    site.find(Topic::Verdicts, |record| match serde_json::from_slice(record.value.as_ref()?).ok()? {
        VerdictEvent::Lock { locked: false, by, .. } => (by == "policy").then_some(()),
        _ => None,
    })
    .await;
    let free = site.envelope("shop.example", 2);
    site.accept(&free, "hello").await;
    assert!(site.reply(free.id).await.starts_with("250 "));

    site.command("lock-user", lock(None, None)).await;
    assert!(site.answer("lock-user").await.0);
    let unlock = |since| Action::Unlock {
        user: user.clone(),
        domain: domain.clone(),
        identity: None,
        reason: "clean".into(),
        since,
    };
    // a lock outlives the scorer
    scorer.kill().await;
    let scorer = site.start(1);
    let blocked = site.envelope("shop.example", 3);
    site.accept(&blocked, "hello").await;
    assert!(site.reply(blocked.id).await.starts_with("550 "));
    site.command("unlock-first", unlock(Some(START))).await;
    let (ok, affected, text) = site.answer("unlock-first").await;
    assert!(ok && affected == 0 && text.contains("another lock"), "{text}");
    site.command("unlock", unlock(Some(START.plus(DAY)))).await;
    assert_eq!(site.answer("unlock").await.1, 1);
    site.command("unlock-again", unlock(None)).await;
    assert_eq!(site.answer("unlock-again").await.1, 0);
    site.command("null", lock(Some("<>"), None)).await;
    assert!(!site.answer("null").await.0);
    let row = site.sender_row("shop.example", None).await.unwrap();
    let history: Vec<_> =
        row.lock_history.iter().map(|change| (change.locked, change.reason.as_str())).collect();
    assert_eq!(history, [(true, "phished"), (false, "clean")]);
    assert!(row.lock.is_none());
    scorer.stop().await;
}

/// What a locked account has waits on, and nobody else with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_waits_behind_a_lock_holds_up_no_neighbour() {
    let site = Site::open().await;
    site.limit(Limits { messages_per_hour: Some(2), ..Limits::default() }).await;
    let scorer = site.start(1);
    let of = |local: &str, number| {
        let mut envelope = site.envelope("192.0.2.0/28", number);
        envelope.reverse_path =
            ReversePath::Mailbox(Mailbox::parse(&format!("{local}@shop.example")).unwrap());
        envelope
    };
    for number in 0..3 {
        site.accept(&of("bad", number), "hello").await;
    }
    site.until_holds(1, |_| true).await;
    let lock = Action::Lock {
        user: UserId("192.0.2.0/28".into()),
        domain: Domain::parse("shop.example").unwrap(),
        identity: Some(Identity("bad@shop.example".into())),
        until: None,
        reason: "phished".into(),
    };
    site.command("lock", lock).await;
    assert!(site.answer("lock").await.0);
    site.clock.advance(2 * Duration::from_secs(3600));
    let good = of("good", 4);
    site.accept(&good, "hello").await;
    let verdict = site.find(Topic::Verdicts, |record| verdict_of(record, good.id)).await;
    assert_eq!(verdict.disposition, schemas::verdict::Disposition::Release, "{:?}", verdict.symbols);
    site.until_holds(1, |_| true).await;
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_blocked_messages_lock_their_account_and_nobody_else() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let of = |local: &str, number| {
        let mut envelope = site.envelope("192.0.2.0/28", number);
        envelope.reverse_path =
            ReversePath::Mailbox(Mailbox::parse(&format!("{local}@shop.example")).unwrap());
        envelope
    };
    let send = async |envelope: Envelope, body: &str| {
        site.accept(&envelope, body).await;
        site.reply(envelope.id).await
    };
    for number in 0..5 {
        assert!(
            send(of("SRS0=hash=tt=ext.example=a", number), GTUBE).await.starts_with("250 "),
            "forwarded spam"
        );
    }
    for number in 10..14 {
        assert!(send(of("bad", number), GTUBE).await.starts_with("550 5.7.1 Blocked as spam"));
    }
    assert!(send(of("bad", 14), "a good one in between").await.starts_with("250 "));
    assert!(send(of("bad", 15), GTUBE).await.starts_with("550 5.7.1 Blocked as spam"));
    assert!(send(of("bad", 16), "hello").await.starts_with("550 5.7.1 Blocked: sender is locked"));
    assert!(send(of("good", 17), "hello").await.starts_with("250 "), "a neighbour is not touched");
    assert!(send(of("SRS0=hash=tt=ext.example=a", 18), "hello").await.starts_with("250 "));

    // It outlives a crash, ends by itself, and is remembered.
    scorer.kill().await;
    let scorer = site.start(1);
    assert!(send(of("bad", 20), "hello").await.starts_with("550 "));
    site.clock.advance(Duration::from_secs(3600));
    let ended = async {
        while site
            .sender_row("192.0.2.0/28", Some("bad@shop.example"))
            .await
            .is_none_or(|row| row.lock.is_some())
        {}
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the lock ends");
    assert!(send(of("bad", 21), "hello").await.starts_with("250 "));
    let row = site.sender_row("192.0.2.0/28", Some("bad@shop.example")).await.unwrap();
    assert_eq!((row.automatic_unlocks, row.lock_history.len(), row.blocked_at.len()), (1, 2, 0));
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_limit_messages_are_held_and_let_go_oldest_first() {
    let site = Site::open().await;
    site.limit(Limits { messages_per_hour: Some(3), ..Limits::default() }).await;
    let scorer = site.start(1);
    let mut sent = Vec::new();
    for number in 0..10 {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, "hello").await;
        assert!(site.reply(envelope.id).await.starts_with("250 "));
        site.clock.advance(Duration::from_millis(10));
        sent.push(envelope);
    }
    let spam = site.envelope("shop.example", 11);
    site.accept(&spam, GTUBE).await;
    assert!(site.reply(spam.id).await.starts_with("550 "), "spam is no matter of limits");
    site.settled().await;
    assert_eq!(site.released().await, ids(&sent[..3]));
    assert_eq!(site.sender_row("shop.example", None).await.unwrap().held, 7);

    // Nothing of it is lost or let go early by a crash; a person may let one go.
    scorer.kill().await;
    let scorer = site.start(1);
    let user = UserId("shop.example".into());
    site.command("let-go", Action::Release { user: user.clone(), message_id: sent[9].id }).await;
    assert_eq!(site.answer("let-go").await.1, 1);
    site.command("drop", Action::Remove { user: user.clone(), message_id: sent[8].id }).await;
    assert_eq!(site.answer("drop").await.1, 1);
    let mut expected = ids(&sent[..3]);
    expected.push(sent[9].id);
    assert_eq!(site.released().await, expected);

    // Days pass before the windows free: what was accepted is past its retention by then.
    for (hours, gone) in [(2, &sent[3..6]), (2, &sent[6..8])] {
        site.clock.advance(Duration::from_secs(hours * 3600));
        expected.extend(ids(gone));
        site.until_released(expected.len()).await;
        assert_eq!(site.released().await, expected);
    }
    let row = site.sender_row("shop.example", None).await.unwrap();
    assert_eq!((row.held, row.released, row.quarantined), (0, 9, 1));
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_outlasts_the_retention_of_its_topic() {
    let site = Site::open().await;
    site.limit(Limits { messages_per_month: Some(1), ..Limits::default() }).await;
    let scorer = site.start(1);
    let mut sent = Vec::new();
    for number in 0..3 {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, "hello").await;
        site.reply(envelope.id).await;
        site.clock.advance(Duration::from_millis(10));
        sent.push(envelope);
    }
    site.settled().await;
    for day in 0..29 {
        site.clock.advance(DAY);
        site.until_holds(2, |row| {
            site.clock.now().since(row.stored_at) < 15 * DAY
                && (day == 0 || row.position.topic == Topic::Quarantined)
        })
        .await;
        site.enforce_retention().await;
    }
    let released = async |id: MessageId| {
        site.find(Topic::Released, |record| (judged(record)?.0.envelope.id == id).then_some(())).await;
    };
    site.clock.advance(3 * DAY);
    released(sent[1].id).await;
    for _ in 0..30 {
        site.clock.advance(DAY);
        site.until_holds(1, |row| site.clock.now().since(row.stored_at) < 15 * DAY).await;
        site.enforce_retention().await;
    }
    site.clock.advance(2 * DAY);
    released(sent[2].id).await;
    scorer.stop().await;
}

fn ids(envelopes: &[Envelope]) -> Vec<MessageId> {
    envelopes.iter().map(|envelope| envelope.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_judged_twice_or_missed_across_kills() {
    let site = Site::open().await;
    site.without_automatic_locks().await;
    let users = ["a.example", "b.example", "c.example", "d.example", "e.example"];
    let mut expected = 0;
    for round in 0..12 {
        let scorer = site.start(1 + round % 3);
        for number in 0..20 {
            for user in users {
                let envelope = site.envelope(user, round * 1000 + number);
                site.accept(&envelope, if number % 5 == 0 { GTUBE } else { "hello" }).await;
                expected += 1;
            }
        }
        site.lag_below(100 - round as u64 * 8).await;
        if round % 3 == 0 { scorer.stop().await } else { scorer.kill().await }
    }
    let scorer = site.start(2);
    site.settled().await;
    let verdicts = site.all(Topic::Verdicts).await;
    let mut ids: Vec<_> = verdicts.iter().map(|record| record.key.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((verdicts.len(), ids.len()), (expected, expected));
    let released = site.all(Topic::Released).await.len();
    let quarantined = site.all(Topic::Quarantined).await.len();
    assert_eq!((released, quarantined), (expected * 4 / 5, expected / 5));
    for user in users {
        let row = site.sender_row(user, None).await.unwrap();
        assert_eq!((row.released, row.quarantined), (192, 48), "{user}");
    }
    // every row is placed, also those of which a kill cut the second commit off
    let all_placed = async {
        loop {
            let rows = site.rows(Topic::Quarantine).await;
            let placed = rows.values().filter(|value| {
                let row: QuarantineRow = serde_json::from_slice(value).unwrap();
                row.position.topic == Topic::Quarantined
            });
            if placed.count() == expected / 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_placed).await.expect("every row is placed");
    scorer.stop().await;
}

/// As a crash between the commit of a quarantined message and the next one leaves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_a_crash_left_without_place_is_placed() {
    let site = Site::open().await;
    let first = site.envelope("shop.example", 1);
    let scorer = site.start(1);
    site.accept(&first, GTUBE).await;
    let placed = site.placed_row(&first).await;
    scorer.stop().await;

    let mut judged = judged(&site.log.read(placed.position).await.unwrap().unwrap()).unwrap().0;
    judged.envelope = site.envelope("shop.example", 2);
    judged.message.id = judged.envelope.id;
    let accepted = Position { topic: Topic::Accepted, ..placed.position };
    let row = QuarantineRow { message: judged.message.clone(), position: accepted, ..placed };
    let user = first.user.0.clone();
    let key = schemas::quarantine::key(&first.user, judged.envelope.id);
    let value = spool::encode(&judged, message(GTUBE).as_bytes()).unwrap();
    let records = vec![
        NewRecord::new(Topic::Quarantined, user.clone(), judged.envelope.id.to_string(), value),
        NewRecord::new(Topic::Quarantine, user, key, serde_json::to_vec(&row).unwrap()),
    ];
    let positions = site.log.append(records).await.unwrap();

    let scorer = site.start(1);
    assert_eq!(site.placed_row(&judged.envelope).await.position, positions[0]);
    site.command("c1", Action::Release { user: first.user.clone(), message_id: judged.envelope.id }).await;
    assert_eq!(site.answer("c1").await.1, 1);
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_cannot_write() {
    let site = Site::open().await;
    let scorer = site.start(1);
    let first = site.envelope("shop.example", 1);
    site.accept(&first, "hello").await;
    site.reply(first.id).await;
    // Somebody takes the slot; the scorer finds out, joins again and takes it back.
    let mut other = site.log.join("scorer", "node1-0", &[Topic::Accepted, Topic::Commands]).await.unwrap();
    let mut owned = Vec::new();
    let fenced = async {
        loop {
            match other.poll(10, Duration::from_millis(50)).await {
                Ok(Polled::Assigned(partitions)) => owned.extend(partitions.into_iter().map(|p| (p, 0))),
                Ok(_) => {}
                Err(LogError::Fenced { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, fenced).await.expect("the scorer takes its slot back");
    let output = NewRecord::new(Topic::Released, "shop.example", "forged", "forged");
    assert!(matches!(other.commit(vec![output], &owned).await, Err(LogError::Fenced { .. })));
    let second = site.envelope("shop.example", 2);
    site.accept(&second, "hello").await;
    site.reply(second.id).await;
    scorer.stop().await;
    assert_eq!(site.all(Topic::Released).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_begun_again_from_the_log() {
    let site = Site::open().await;
    site.without_automatic_locks().await;
    let commits = Arc::default();
    let faulty = faulty::FaultyLog::in_commits(&site.log, &commits, usize::MAX);
    let scorer = site.start_on(faulty, 1);
    let mut spam = Vec::new();
    for number in 0..100 {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, if number % 10 == 0 { GTUBE } else { "hello" }).await;
        if number % 10 == 0 {
            spam.push(envelope);
        }
    }
    for (number, envelope) in spam.iter().enumerate() {
        site.placed_row(envelope).await;
        let release = Action::Release { user: envelope.user.clone(), message_id: envelope.id };
        site.command(&format!("c{number}"), release).await;
        assert_eq!(site.answer(&format!("c{number}")).await.1, 1);
    }
    site.settled().await;
    scorer.stop().await;
    assert!(commits.load(std::sync::atomic::Ordering::Relaxed) > 15, "{commits:?}");
    assert_eq!(site.all(Topic::Released).await.len(), 100);
    let row = site.sender_row("shop.example", None).await.unwrap();
    assert_eq!((row.released, row.quarantined), (90, 10));
}

/// Spam by its content, of a kind that the shipped model knows.
const PHISHING: &str = "Dear customer, your account has been suspended due to suspicious activity. You must verify your identity and \
    update your information within 24 hours or your account will be permanently closed. Click here to restore access: \
    http://secure-login.example-verify.xyz/account/a9f8e7d6 Congratulations, you have also won a free gift card of $ 500.";

/// What people release and confirm is learnt by the one learner, in versions that can be taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_classifier_learns_from_releases_and_goes_back() {
    use schemas::models::{ModelRecord, ModelsView};
    let site = Site::open().await;
    site.set_defaults(r#"{"spam_threshold": 0.5}"#).await;
    let scorer = site.start(2);
    let verdict = async |number: usize| {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, PHISHING).await;
        let id = envelope.id;
        let verdict = site.find(Topic::Verdicts, move |record| verdict_of(record, id)).await;
        (envelope, verdict)
    };
    let versions = async || {
        let mut view = ModelsView::default();
        for (key, value) in site.rows(Topic::Models).await {
            view.apply(&key, Some(&value)).unwrap();
        }
        view
    };
    let newest = async |number: u64| {
        site.find(Topic::Models, move |record| match serde_json::from_slice(record.value.as_ref()?).ok()? {
            ModelRecord::Delta(delta) if delta.number == number => Some(delta),
            _ => None,
        })
        .await
    };
    let (first, before) = verdict(1).await;
    assert_eq!(before.message.classification, Classification::Spam, "{:?}", before.symbols);
    let trained = before.model_version.clone().unwrap();
    site.placed_row(&first).await;
    site.command("c1", Action::Release { user: first.user.clone(), message_id: first.id }).await;
    assert_eq!(site.answer("c1").await.1, 1);
    let delta = newest(1).await;
    assert_eq!((delta.learnt, delta.base.as_str()), (1, trained.as_str()));
    assert!(delta.influence["shop.example"] > 0.4);
    site.until_version(&verdict, 100, &format!("{trained}+1")).await;
    let (_, after) = verdict(200).await;
    assert!(after.score < before.score, "{} {}", after.score, before.score);
    // the feedback is gone, in one step with the version
    assert!(site.rows(Topic::Models).await.keys().all(|key| key.starts_with(b"delta/")));
    // and back
    let rollback = ModelRecord::Rollback { to: 0, by: "root (test)".into(), at: site.clock.now() };
    let key = schemas::models::key(&rollback);
    let record = NewRecord::new(Topic::Models, key.clone(), key, serde_json::to_vec(&rollback).unwrap());
    site.log.append(vec![record]).await.unwrap();
    assert!(newest(2).await.weights.is_empty());
    site.until_version(&verdict, 300, &format!("{trained}+2")).await;
    let (_, again) = verdict(400).await;
    assert!((again.score - before.score).abs() < 1e-6);
    assert_eq!(versions().await.deltas().count(), 2);
    scorer.stop().await;
    // What was learnt on another model meanwhile does not switch off what was learnt on this one.
    let other = schemas::models::Delta {
        number: 3,
        base: "other-1".into(),
        ..versions().await.newest().unwrap().clone()
    };
    let other = ModelRecord::Delta(other);
    let key = schemas::models::key(&other);
    let record = NewRecord::new(Topic::Models, key.clone(), key, serde_json::to_vec(&other).unwrap());
    site.log.append(vec![record]).await.unwrap();
    let scorer = site.start(2);
    let (_, still) = verdict(500).await;
    assert_eq!(still.model_version, Some(format!("{trained}+2")));
    scorer.stop().await;
}
