//! What every statistics store must do. An engine runs the whole with `all`, giving a way to open an empty store.

use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::{Config, TestRunner};
use reporter::StatsStore;
use reporter::rows::Change;
use reporter::store::query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};
use reporter::store::{Batch, Covered, Inserted};
use schemas::attempt::Outcome;
use schemas::topics::TopicPartition;
use schemas::verdict::Classification;
use schemas::{Timestamp, Topic};

use crate::events::{Events, START, attempt, batch, closed, judged, released, summary};

type Store = Arc<dyn StatsStore>;
type Rule = (&'static str, fn(&Store));

/// Every rule, each on a store of its own; `cases`: how many orders of events are tried.
pub fn all(open: &dyn Fn() -> Store, cases: u32) {
    let rules: &[Rule] = &[
        ("a recipient has one row and one outcome", a_recipient_has_one_row_and_one_outcome),
        ("the same batch twice counts once", the_same_batch_twice_counts_once),
        ("offsets move with the rows", offsets_move_with_the_rows),
        ("a gap before a batch is told", a_gap_before_a_batch_is_told),
        ("a quarantined message that is released ends as delivered", released_ends_as_delivered),
        ("a late verdict takes no outcome back", a_late_verdict_takes_no_outcome_back),
        ("only what is in quarantine is removed from it", only_what_is_in_quarantine_is_removed),
        ("own mail is in the log, not in the sums", own_mail_is_in_the_log_not_in_the_sums),
        ("reused offsets of a restored log are new events", reused_offsets_are_new_events),
        ("searches", searches),
        ("sums by group", sums_by_group),
        ("ids of all three kinds are found", ids_are_found),
        ("events in order of time", events_in_order_of_time),
        ("old rows are deleted", old_rows_are_deleted),
        ("an address is erased", an_address_is_erased),
    ];
    for (name, rule) in rules {
        println!("  {name}");
        rule(&open());
    }
    any_order_between_topics_gives_the_same(open, cases);
}

pub fn take(store: &Store, batch: &Batch) {
    assert_eq!(store.insert(batch).unwrap(), Inserted::Taken);
}

pub fn lines(store: &Store) -> Vec<LogLine> {
    store.log(&LogFilter { own: true, ..LogFilter::default() }).unwrap()
}

/// The sums over everything.
pub fn sums(store: &Store) -> StatsLine {
    let by_domain = store.stats(&StatsFilter::default(), Group::Domain).unwrap();
    assert!(by_domain.len() <= 1, "{by_domain:?}");
    by_domain.into_iter().next().unwrap_or_default()
}

/// Two recipients: one delivered at the second try, one refused.
fn a_delivery() -> Events {
    let message = summary(1, Classification::Clean);
    let mut events = Events::default();
    events.verdict(&judged(&message, &["a@one.example", "b@two.example"]));
    events.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "a@one.example")]));
    events.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "a@one.example")]));
    events.attempt(&attempt(&message, 3, Outcome::Failed, &[(1, "b@two.example")]));
    events
}

fn a_recipient_has_one_row_and_one_outcome(store: &Store) {
    take(store, &a_delivery().batch());
    let lines = lines(store);
    let seen: Vec<_> = lines.iter().map(|l| (l.recipient, l.outcome.as_str(), l.tries)).collect();
    assert_eq!(seen, [(0, "delivered", 2), (1, "failed", 1)]);
    let line = &lines[0];
    assert_eq!(line.reply.as_deref(), Some("250 try 2"));
    assert_eq!(line.remote.as_deref(), Some("mx.elsewhere.example [198.51.100.7:25]"));
    assert_eq!((line.egress.as_deref(), line.size_bytes), (Some("192.0.2.200"), 10_000));
    let expected = StatsLine {
        group: "customer.example".into(),
        messages: 1,
        recipients: 2,
        bytes: 10_000,
        delivered: 1,
        failed: 1,
        deferrals: 1,
        ..StatsLine::default()
    };
    assert_eq!(sums(store), expected);
}

fn the_same_batch_twice_counts_once(store: &Store) {
    let batch = a_delivery().batch();
    take(store, &batch);
    let (before, rows) = (sums(store), lines(store));
    take(store, &batch);
    assert_eq!((sums(store), lines(store)), (before, rows));
}

fn offsets_move_with_the_rows(store: &Store) {
    assert!(store.offsets().unwrap().is_empty());
    take(store, &a_delivery().batch());
    let offsets = store.offsets().unwrap();
    let of = |topic| offsets.get(&TopicPartition { topic, partition: 0 }).copied();
    assert_eq!((of(Topic::Verdicts), of(Topic::Attempts)), (Some(1), Some(3)));
}

fn a_gap_before_a_batch_is_told(store: &Store) {
    let at = TopicPartition { topic: Topic::Verdicts, partition: 2 };
    let covered = |from, next| Batch { changes: Vec::new(), covered: vec![Covered { at, from, next }] };
    assert_eq!(store.insert(&covered(7, 9)).unwrap(), Inserted::Behind);
    assert!(store.offsets().unwrap().is_empty());
    take(store, &covered(0, 7));
    take(store, &covered(7, 9));
    assert_eq!(store.offsets().unwrap().get(&at), Some(&9));
}

fn released_ends_as_delivered(store: &Store) {
    let message = summary(1, Classification::Spam);
    let mut events = Events::default();
    events.verdict(&judged(&message, &["a@one.example"]));
    take(store, &events.batch());
    assert_eq!((lines(store)[0].outcome.as_str(), sums(store).quarantined), ("quarantined", 1));
    events.verdict(&released(&message));
    take(store, &events.batch());
    assert_eq!((lines(store)[0].outcome.as_str(), sums(store).quarantined), ("queued", 0));
    events.attempt(&attempt(&message, 1, Outcome::Delivered, &[(0, "a@one.example")]));
    take(store, &events.batch());
    let sums = sums(store);
    assert_eq!((sums.quarantined, sums.delivered, sums.recipients, sums.messages), (0, 1, 1, 1));
    assert_eq!(lines(store).len(), 1);
}

fn a_late_verdict_takes_no_outcome_back(store: &Store) {
    let message = summary(1, Classification::Spam);
    let mut events = Events::default();
    events.verdict(&judged(&message, &["a@one.example"]));
    events.attempt(&attempt(&message, 1, Outcome::Delivered, &[(0, "a@one.example")]));
    events.verdict(&released(&message));
    take(store, &events.batch());
    assert_eq!((lines(store)[0].outcome.as_str(), sums(store).delivered), ("delivered", 1));
}

fn only_what_is_in_quarantine_is_removed(store: &Store) {
    let (confirmed, removed) = (summary(1, Classification::Spam), summary(2, Classification::Virus));
    let mut events = Events::default();
    events.verdict(&judged(&confirmed, &["a@one.example"]));
    events.verdict(&judged(&removed, &["a@one.example"]));
    events.verdict(&closed(&confirmed, true));
    events.verdict(&closed(&removed, false));
    take(store, &events.batch());
    let outcomes: Vec<_> = lines(store).into_iter().map(|l| (l.message_id, l.outcome)).collect();
    let expected = [(removed.id.to_string(), "removed"), (confirmed.id.to_string(), "quarantined")];
    assert_eq!(outcomes, expected.map(|(id, outcome)| (id, outcome.to_owned())));
    assert_eq!((sums(store).quarantined, sums(store).removed), (1, 1));
}

fn own_mail_is_in_the_log_not_in_the_sums(store: &Store) {
    let mut message = summary(1, Classification::Own);
    message.own = true;
    let mut events = Events::default();
    events.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "abuse@hoster.example")]));
    events.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "abuse@hoster.example")]));
    take(store, &events.batch());
    assert_eq!(store.stats(&StatsFilter::default(), Group::Domain).unwrap(), []);
    assert_eq!(store.log(&LogFilter::default()).unwrap(), []);
    let lines = lines(store);
    assert_eq!((lines.len(), lines[0].own, lines[0].outcome.as_str()), (1, true, "delivered"));
    assert_eq!(store.events(&message.id.to_string()).unwrap().len(), 2);
}

fn reused_offsets_are_new_events(store: &Store) {
    take(store, &a_delivery().batch());
    let message = summary(2, Classification::Clean);
    let mut after_restore = Events::default();
    after_restore.verdict(&judged(&message, &["c@one.example"]));
    take(store, &after_restore.batch());
    assert_eq!((lines(store).len(), sums(store).messages), (3, 2));
}

fn searches(store: &Store) {
    let mut events = a_delivery();
    for number in 2..20 {
        let message = summary(number, if number == 5 { Classification::Spam } else { Classification::Clean });
        events.verdict(&judged(&message, &["c@Three.example"]));
    }
    take(store, &events.batch());
    let count = |filter: LogFilter| store.log(&filter).unwrap().len();
    let text = |t: &str| Some(t.to_owned());
    let none = LogFilter::default;
    assert_eq!(count(none()), 20);
    assert_eq!(count(LogFilter { limit: Some(7), ..none() }), 7);
    assert_eq!(count(LogFilter { recipient: text("b@two.example"), ..none() }), 1);
    assert_eq!(count(LogFilter { recipient: text("@three.example"), ..none() }), 18);
    assert_eq!(count(LogFilter { outcome: text("delivered"), ..none() }), 1);
    assert_eq!(count(LogFilter { classification: text("spam"), outcome: text("quarantined"), ..none() }), 1);
    assert_eq!(count(LogFilter { identity: text("shop1@customer.example"), ..none() }), 8);
    assert_eq!(
        count(LogFilter { user: text("192.0.2.0/28"), domain: text("customer.example"), ..none() }),
        20
    );
    assert_eq!(count(LogFilter { reverse_path: text("shop@customer.example"), ..none() }), 20);
    assert_eq!(count(LogFilter { reverse_path: text("<>"), ..none() }), 0);
    let (from, to) = (START.0 + 2000, START.0 + 4000);
    assert_eq!(count(LogFilter { since: Some(from), until: Some(to), ..none() }), 2);
    assert_eq!(count(LogFilter { id: text("4QwErT000003"), ..none() }), 1);
    // nothing of it is SQL
    assert_eq!(count(LogFilter { user: text("' OR 1=1 --"), ..none() }), 0);
    let newest_first = store.log(&none()).unwrap();
    assert!(newest_first.is_sorted_by(|a, b| a.accepted_at >= b.accepted_at));
}

fn sums_by_group(store: &Store) {
    let mut events = a_delivery();
    events.verdict(&judged(&summary(3600, Classification::Spam), &["a@one.example"]));
    take(store, &events.batch());
    let by = |group| {
        let lines = store.stats(&StatsFilter::default(), group).unwrap();
        lines.into_iter().map(|l| (l.group, l.messages, l.recipients)).collect::<Vec<_>>()
    };
    let group = |name: &str, messages, recipients| (name.to_owned(), messages, recipients);
    assert_eq!(by(Group::User), [group("192.0.2.0/28", 2, 3)]);
    assert_eq!(by(Group::FromDomain), [group("customer.example", 2, 3)]);
    assert_eq!(by(Group::Destination), [group("one.example", 2, 2), group("two.example", 0, 1)]);
    assert_eq!(by(Group::Classification), [group("clean", 1, 2), group("spam", 1, 1)]);
    assert_eq!(by(Group::Identity).len(), 2);
    let hours = by(Group::Hour);
    assert_eq!(hours, [group("2026-11-24T09:00:00.000Z", 1, 2), group("2026-11-24T10:00:00.000Z", 1, 1)]);
    let since = StatsFilter { since: Some(START.0 + 3_600_000), ..StatsFilter::default() };
    assert_eq!(store.stats(&since, Group::Domain).unwrap()[0].messages, 1);
    let nobody = StatsFilter { user: Some("nobody".into()), ..StatsFilter::default() };
    assert_eq!(store.stats(&nobody, Group::Domain).unwrap(), []);
}

fn ids_are_found(store: &Store) {
    take(store, &a_delivery().batch());
    let id = summary(1, Classification::Clean).id.to_string();
    for text in [&id, &id.to_lowercase(), "4QwErT000001", "m1@customer.example", "<m1@customer.example>"] {
        assert_eq!(store.find(text).unwrap(), std::slice::from_ref(&id), "{text}");
    }
    assert!(store.find("4QwErT999999").unwrap().is_empty());
    // a client's queue id comes back after a while: newest first
    let mut again = summary(2, Classification::Clean);
    again.client_queue_id = Some("4QwErT000001".into());
    let mut events = a_delivery();
    events.verdict(&judged(&again, &["a@one.example"]));
    take(store, &events.batch());
    assert_eq!(store.find("4QwErT000001").unwrap(), [again.id.to_string(), id]);
}

fn events_in_order_of_time(store: &Store) {
    let events = a_delivery();
    let mut backwards = events.changes.clone();
    backwards.reverse();
    take(store, &batch(backwards));
    let id = summary(1, Classification::Clean).id.to_string();
    let found = store.events(&id).unwrap();
    let expected: Vec<_> = events.changes.iter().map(|c| (c.at, c.position)).collect();
    assert_eq!(found, expected);
}

fn old_rows_are_deleted(store: &Store) {
    let mut events = a_delivery();
    let new = summary(4 * 3600, Classification::Clean);
    events.verdict(&judged(&new, &["a@one.example"]));
    take(store, &events.batch());
    let limit = START.plus(Duration::from_secs(2 * 3600));
    while store.expire(limit).unwrap() > 0 {}
    let left = lines(store);
    assert_eq!((left.len(), &left[0].message_id), (1, &new.id.to_string()));
    assert_eq!((sums(store).messages, sums(store).recipients), (1, 1));
    assert!(store.events(&summary(1, Classification::Clean).id.to_string()).unwrap().is_empty());
    assert_eq!(store.events(&new.id.to_string()).unwrap().len(), 1);
    assert_eq!(store.expire(Timestamp(0)).unwrap(), 0);
}

fn an_address_is_erased(store: &Store) {
    let mut events = a_delivery();
    events.verdict(&judged(&summary(2, Classification::Clean), &["A@one.example"]));
    take(store, &events.batch());
    let before = sums(store);
    assert!(store.erase("a@ONE.example").unwrap() >= 2);
    assert!(store.erase("shop1@customer.example").unwrap() >= 1);
    let everything =
        format!("{:?} {:?}", lines(store), store.stats(&StatsFilter::default(), Group::Identity));
    assert!(!everything.to_lowercase().contains("a@one.example"), "{everything}");
    assert!(!everything.contains("shop1@"), "{everything}");
    assert_eq!(sums(store), before);
    assert_eq!(lines(store).len(), 3);
    // what still comes of an erased recipient does not bring the address back
    let message = summary(2, Classification::Clean);
    events.attempt(&attempt(&message, 9, Outcome::Delivered, &[(0, "A@one.example")]));
    take(store, &events.batch());
    assert!(!format!("{:?}", lines(store)).contains("A@one.example"));
}

/// However the two topics take turns, and wherever the batches are cut and repeated, rows and sums end the same.
fn any_order_between_topics_gives_the_same(open: &dyn Fn() -> Store, cases: u32) {
    let message = summary(1, Classification::Spam);
    let mut events = Events::default();
    events.verdict(&judged(&message, &["a@one.example", "b@two.example"]));
    events.verdict(&released(&message));
    events.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "a@one.example"), (1, "b@two.example")]));
    events.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "a@one.example")]));
    events.attempt(&attempt(&message, 3, Outcome::Removed, &[(1, "b@two.example")]));
    let expected = {
        let store = open();
        take(&store, &events.batch());
        (lines(&store), sums(&store))
    };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let turns = proptest::collection::vec(proptest::bool::ANY, 5);
    runner
        .run(&(turns, 1..6usize, proptest::bool::ANY), |(turns, size, repeat)| {
            let store = open();
            for cut in in_turns(&events.changes, &turns).chunks(size) {
                take(&store, &batch(cut.to_vec()));
                if repeat {
                    take(&store, &batch(cut.to_vec()));
                }
            }
            proptest::prop_assert_eq!(&(lines(&store), sums(&store)), &expected);
            Ok(())
        })
        .unwrap();
}

/// The changes with the topics interleaved as `turns` says, the order within each kept.
fn in_turns(changes: &[Change], turns: &[bool]) -> Vec<Change> {
    let of = |topic| changes.iter().filter(move |c| c.position.topic == topic).cloned();
    let (mut verdicts, mut attempts) = (of(Topic::Verdicts), of(Topic::Attempts));
    let mut out = Vec::new();
    for verdict_first in turns {
        out.extend(if *verdict_first { verdicts.next() } else { attempts.next() });
    }
    out.extend(verdicts);
    out.extend(attempts);
    out
}
