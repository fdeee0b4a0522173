//! The queue: retries, old age, commands, restarts. Days pass on the injected clock.

use std::time::Duration;

use bytes::Bytes;
use eventlog::{Clock, EventLog, NewRecord, bodies};
use schemas::attempt::{AttemptCause, Outcome};
use schemas::commands::{Action, QueueSelect};
use schemas::{MessageId, Topic, queue};

use crate::MAIL;
use crate::peer::Peer;
use crate::rig::{DAY, MINUTE, NODE, Rig, count};

fn node() -> String {
    NODE.into()
}

async fn rig(peer: &Peer) -> Rig {
    let rig = Rig::start().await;
    for domain in ["x.example", "customer.example"] {
        rig.route(domain, peer.port).await;
    }
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_mail_is_tried_again_and_leaves_the_queue() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    rig.release(&["ok@x.example", "later@x.example"], MAIL).await;
    let queue = rig.wait_for_queue(1).await;
    rig.wait_for_outcome("later@x.example deferred").await;
    let recipients: Vec<_> = rig.queue().await[0].recipients.iter().map(|r| r.index).collect();
    assert_eq!(recipients, [1], "who was delivered is not there any more: {queue:?}");
    peer.accept_all();
    rig.clock.advance(MINUTE * 2);
    rig.wait_for_outcome("later@x.example delivered").await;
    rig.wait_for_queue(0).await;
    let mut numbers: Vec<_> = rig.attempts().await.iter().map(|attempt| attempt.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(peer.to("ok@").len(), 1, "it is not sent twice");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_three_days_old_survives_a_restart() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    for _ in 0..20 {
        rig.release(&["later@x.example"], MAIL).await;
    }
    rig.wait_for("deferrals", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == 20).await;
    rig.wait_for_queue(20).await;
    rig.stop().await;
    rig.clock.advance(DAY * 3);
    rig.boot().await;
    rig.wait_for_copies(eventlog::Clock::now(&rig.clock)).await;
    rig.log().enforce_retention().await.expect("retention");
    // What is due at once is refused once more. Time moves on only then: a try that ends later would be due later.
    rig.wait_for("refusals", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == 40).await;
    peer.accept_all();
    rig.clock.advance(MINUTE * 10);
    // Its delay notices are delivered, too.
    let arrived = |lines: &[String]| lines.iter().filter(|line| *line == "later@x.example delivered").count();
    rig.wait_for("all", async |rig: &Rig| arrived(&rig.outcomes().await) == 20).await;
    rig.wait_for_queue(0).await;
    assert_eq!(peer.to("later@").len(), 20);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlasts_the_topic() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    rig.release(&["later@x.example"], MAIL).await;
    rig.wait_for_outcome("later@x.example deferred").await;
    let before = rig.wait_for_queue(1).await;
    let select = QueueSelect::default();
    let (held, _) = rig.command(Action::QueueHold { node: node(), select: select.clone() }).await;
    assert_eq!(held, 1);
    for _ in 0..10 {
        rig.clock.advance(DAY + MINUTE);
        rig.wait_for_copies(eventlog::Clock::now(&rig.clock)).await;
        rig.log().enforce_retention().await.expect("retention");
    }
    rig.stop().await;
    rig.clock.advance(DAY * 10);
    rig.boot().await;
    rig.wait_for_copies(eventlog::Clock::now(&rig.clock)).await;
    rig.log().enforce_retention().await.expect("retention");
    let after = rig.queue().await;
    assert!(after[0].held && after[0].position != before[0].position, "{after:?}");
    assert_eq!(rig.attempts().await.len(), 1, "what is held is not tried, and its copies are no new mail");
    peer.accept_all();
    let (resumed, _) = rig.command(Action::QueueResume { node: node(), select }).await;
    assert_eq!(resumed, 1);
    rig.wait_for_outcome("later@x.example delivered").await;
    rig.wait_for_queue(0).await;
    assert_eq!(peer.received().len(), 1);
    rig.stop().await;
}

/// The message of a large one stands in `bodies`, whose retention is longer, but over at some time, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlasts_the_topic_of_large_messages() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    let (head, tail) = MAIL.split_at(MAIL.len() / 2);
    let id = MessageId::derived("large", eventlog::Clock::now(&rig.clock));
    let chunk = |index, part: &str| bodies::chunk(id, index, Bytes::copy_from_slice(part.as_bytes()));
    let chunks = rig.log().append(vec![chunk(0, head), chunk(1, tail)]).await.expect("chunks");
    let first = chunks[0];
    rig.release_as(&["later@x.example"], "", |judged| {
        judged.envelope.id = id;
        judged.message.id = id;
        judged.envelope.size_bytes = MAIL.len() as u64;
        judged.envelope.chunks = chunks;
    })
    .await;
    rig.wait_for_outcome("later@x.example deferred").await;
    rig.wait_for_queue(1).await;
    let select = QueueSelect::default();
    rig.command(Action::QueueHold { node: node(), select: select.clone() }).await;
    for _ in 0..5 {
        rig.clock.advance(DAY * 8);
        rig.wait_for_copies(eventlog::Clock::now(&rig.clock)).await;
        rig.log().enforce_retention().await.expect("retention");
    }
    assert!(
        rig.log().read(first).await.expect("reads").is_none(),
        "40 days are too long for the first chunk"
    );
    peer.accept_all();
    rig.command(Action::QueueResume { node: node(), select }).await;
    rig.wait_for_outcome("later@x.example delivered").await;
    let received = peer.received();
    assert!(received.len() == 1 && received[0].content.ends_with("Hello\r\n.dot\r\n"), "{received:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_hears_of_a_delay_once_and_of_the_end() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    rig.release(&["later@x.example"], MAIL).await;
    rig.wait_for_outcome("later@x.example deferred").await;
    rig.wait_for_queue(1).await;
    let notices = |kind: &str| peer.to("sender@").iter().filter(|m| m.content.contains(kind)).count();
    rig.clock.advance(Duration::from_secs(4 * 3600 - 60));
    rig.wait_for("a try", async |rig: &Rig| rig.attempts().await.len() == 2).await;
    assert_eq!(notices("Action: delayed"), 0);
    let next = rig.queue().await[0].next_attempt;
    let wait = next.since(eventlog::Clock::now(&rig.clock));
    assert!(wait <= MINUTE, "the notice does not wait for the schedule: {wait:?}");
    rig.clock.advance(MINUTE);
    rig.wait_for("the notice", async |_: &Rig| notices("Action: delayed") == 1).await;
    let until = rig.queue().await[0].expires_at.rfc5322();
    assert_eq!(notices(&format!("Will-Retry-Until: {until}\r\n")), 1);
    rig.clock.advance(DAY);
    rig.wait_for("a try", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == 4).await;
    rig.clock.advance(DAY * 3);
    rig.wait_for_outcome("later@x.example failed").await;
    rig.wait_for("the end", async |_: &Rig| notices("Action: failed") == 1).await;
    assert_eq!(notices("Action: delayed"), 1);
    assert_eq!(notices("Status: 4.4.7"), 1);
    assert_eq!(notices("Will-Retry-Until"), 1, "not when it is over");
    let attempts = rig.attempts().await;
    let last = attempts.iter().find(|a| count(std::slice::from_ref(*a), Outcome::Failed) == 1).unwrap();
    assert_eq!(last.cause, AttemptCause::Expired);
    rig.wait_for_queue(0).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_removes_and_reroutes() {
    let (peer, other) = (Peer::start(&["PIPELINING"]).await, Peer::start(&["PIPELINING"]).await);
    other.accept_all();
    let mut rig = rig(&peer).await;
    let keep = rig.release(&["later1@x.example"], MAIL).await;
    rig.release(&["later2@x.example"], MAIL).await;
    rig.wait_for("deferrals", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == 2).await;
    rig.wait_for_queue(2).await;
    let of = |recipient: &str| QueueSelect { recipient: Some(recipient.into()), ..Default::default() };
    let remove = Action::QueueRemove { node: node(), select: of("later2@x.example") };
    assert_eq!(rig.command(remove.clone()).await.0, 1);
    rig.wait_for_outcome("later2@x.example removed").await;
    assert_eq!(rig.command(remove).await.0, 0, "it is gone");
    let route = format!("127.0.0.1:{}", other.port);
    let select = QueueSelect { message_id: Some(keep), ..Default::default() };
    let reroute = Action::QueueReroute { node: node(), select, route };
    assert_eq!(rig.command(reroute).await.0, 1);
    rig.wait_for_outcome("later1@x.example delivered").await;
    rig.wait_for_queue(0).await;
    assert_eq!((peer.received().len(), other.received().len()), (0, 1));
    rig.stop().await;
}

/// As `mailweir lane move` does it: the entry is in the log, and only then is the node told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_moved_into_the_lane_is_delivered_once_the_node_is_told() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    rig.release(&["later1@x.example"], MAIL).await;
    rig.wait_for_outcome("later1@x.example deferred").await;
    let ours = rig.wait_for_queue(1).await.remove(0);
    let mut moved = ours.clone();
    moved.message.id = schemas::MessageId::derived("moved", rig.clock.now());
    moved.next_attempt = rig.clock.now();
    let (key, value) = (queue::key(moved.message.id, &moved.site), serde_json::to_vec(&moved).unwrap());
    let record = NewRecord::new(Topic::Queue, queue::lane_key(&node()), key, value);
    rig.log().append(vec![record]).await.unwrap();
    peer.accept_all();
    let told = rig.command(Action::LaneRead { node: node() }).await;
    assert_eq!(told, (1, "1 entries taken into the lane".into()));
    rig.wait_for("it", async |rig: &Rig| count(&rig.attempts().await, Outcome::Delivered) == 1).await;
    assert_eq!(rig.wait_for_queue(1).await[0].message.id, ours.message.id, "what was there rests on");
    assert_eq!(rig.command(Action::LaneRead { node: node() }).await.0, 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_a_peer_that_stalls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut rig = Rig::start_with(|config| config.command_timeout = Duration::from_secs(300)).await;
    rig.route("x.example", port).await;
    for n in 0..50 {
        rig.release(&[&format!("ok{n}@x.example")], MAIL).await;
    }
    rig.wait_for_queue(50).await;
    rig.stop().await;
    let peer = Peer::start(&["PIPELINING"]).await;
    rig.boot().await;
    rig.route("x.example", peer.port).await;
    rig.clock.advance(MINUTE);
    let route = format!("127.0.0.1:{}", peer.port);
    let select = QueueSelect::default();
    drop(listener);
    rig.command(Action::QueueReroute { node: node(), select, route }).await;
    for _ in 0..3 {
        rig.clock.advance(MINUTE * 10);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Delivered) == 50).await;
    rig.wait_for_queue(0).await;
    rig.stop().await;
}

/// A site that has its fill takes the next as soon as one is through: the clock stands still all the while.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_site_follows_at_once() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = Rig::start_with(|config| config.max_in_flight_per_site = 3).await;
    rig.route("x.example", peer.port).await;
    for n in 0..200 {
        rig.release(&[&format!("ok{n}@x.example")], MAIL).await;
    }
    rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Delivered) == 200).await;
    rig.wait_for_queue(0).await;
    assert_eq!(peer.received().len(), 200, "each once");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_holds_what_waits_and_what_comes_and_nobody_elses_mail() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    rig.release(&["later1@x.example"], MAIL).await;
    rig.wait_for_outcome("later1@x.example deferred").await;
    rig.set_lock(true).await;
    peer.accept_all();
    rig.release(&["ok2@x.example"], MAIL).await;
    rig.release_as(&["ok3@x.example"], MAIL, |judged| judged.message.identity.0 = "neighbour".into()).await;
    rig.release_as(&["ok4@x.example"], MAIL, |judged| judged.released_by = Some("root".into())).await;
    rig.wait_for_outcome("ok3@x.example delivered").await;
    rig.wait_for_outcome("ok4@x.example delivered").await;
    rig.clock.advance(MINUTE * 30);
    rig.wait_for_queue(2).await;
    assert_eq!((peer.to("later1@").len(), peer.to("ok2@").len()), (0, 0));
    rig.set_lock(false).await;
    rig.clock.advance(MINUTE * 2);
    rig.wait_for_outcome("later1@x.example delivered").await;
    rig.wait_for_outcome("ok2@x.example delivered").await;
    rig.wait_for_queue(0).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_parse_is_counted_and_what_follows_is_delivered() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = rig(&peer).await;
    let garbage = |topic, partition_key: Bytes| NewRecord::new(topic, partition_key, "key", "{ no JSON");
    rig.log().append(vec![garbage(Topic::Released, "customer.example".into())]).await.unwrap();
    rig.release(&["ok@x.example"], MAIL).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    assert_eq!(rig.metrics().undecodable.get(), 1);
    rig.log().append(vec![garbage(Topic::Queue, queue::lane_key(NODE))]).await.unwrap();
    rig.wait_for("the row", async |rig: &Rig| rig.metrics().undecodable.get() == 2).await;
    rig.release(&["later@x.example"], MAIL).await;
    rig.wait_for_outcome("later@x.example deferred").await;
    rig.wait_for_queue(1).await;
    rig.stop().await;
    rig.boot().await;
    peer.accept_all();
    rig.clock.advance(MINUTE * 2);
    rig.wait_for_outcome("later@x.example delivered").await;
    assert_eq!(rig.metrics().undecodable.get(), 1, "it is read once by each start");
    rig.stop().await;
}
