//! Two nodes share `released`: what one loses, the other takes, and each sends what its addresses are for.

use std::collections::HashMap;
use std::time::Duration;

use eventlog::{EventLog, NewRecord};
use schemas::attempt::Outcome;
use schemas::commands::Action;
use schemas::queue::{self, QueueEntry};
use schemas::{MessageId, Topic, UserId};

use crate::MAIL;
use crate::peer::{Peer, Received};
use crate::rig::{MINUTE, NODE, Rig, count, no_metrics};

const ROOM: usize = 4;

/// The first node is full and has more records waiting for room when the second joins and takes half of the partitions.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_room_moves_with_its_partition() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = Rig::start_with(|config| {
        config.max_in_flight = ROOM;
        // Nothing makes room before the test does.
        config.command_timeout = Duration::from_secs(120);
    })
    .await;
    rig.route("x.example", peer.port).await;
    let to = |number: usize| (format!("customer{number}.example"), format!("wait{number}@x.example"));
    let mut sent = rig.release_all((0..ROOM).map(to)).await;
    rig.wait_for("no room", async |_: &Rig| peer.connections() >= ROOM).await;
    sent.extend(rig.release_all((ROOM..40).map(to)).await);
    rig.wait_for("no room for the rest", async |rig: &Rig| rig.waiting() == 40 - ROOM).await;
    let (shutdown, neighbour) = rig.boot_neighbour("node2").await;
    rig.wait_for("the neighbour", async |_: &Rig| peer.connections() > ROOM).await;
    rig.wait_for("the loss", async |rig: &Rig| rig.waiting() < 40 - ROOM).await;
    peer.accept_all();
    rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Delivered) >= sent.len())
        .await;
    rig.wait_for_queue(0).await;
    let mut arrived: HashMap<String, usize> = HashMap::new();
    for received in peer.received() {
        *arrived.entry(received.recipients[0].clone()).or_default() += 1;
    }
    assert_eq!(arrived.len(), sent.len(), "{arrived:?}");
    let twice = arrived.values().filter(|n| **n > 1).count();
    assert!(twice <= ROOM, "only what was being tried at that moment comes twice: {arrived:?}");
    let attempts = rig.attempts().await;
    for id in &sent {
        let ends = attempts.iter().filter(|a| a.message.id == *id && a.recipients[0].outcome.is_terminal());
        assert_eq!(ends.count(), 1, "one outcome of {id}");
    }
    shutdown.cancel();
    neighbour.await.expect("no panic").expect("no error");
    rig.stop().await;
}

const FAR: &str = "127.0.0.9";

fn users(numbers: std::ops::Range<usize>) -> impl Iterator<Item = (String, String)> {
    numbers.map(|n| (format!("customer{n}.example"), format!("ok{n}@x.example")))
}

fn is_of_node2(received: &Received) -> bool {
    received.from.to_string() == FAR && received.ehlo == "out.node2.example"
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_a_pool_is_sent_by_a_node_that_has_its_sources() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.set_pool("default", &[(FAR, "node2")]).await;
    rig.release_all(users(0..40)).await;
    let queue = rig.wait_for_queue(40).await;
    assert!(queue.iter().all(|entry| entry.node == "node2" && entry.passed_on_at.is_some()), "{queue:?}");
    assert_eq!(peer.received().len(), 0, "from no other address");
    let (shutdown, neighbour) = rig.boot_neighbour("node2").await;
    rig.wait_for("what lay in the lane", async |_: &Rig| peer.received().len() == 40).await;
    rig.wait_for_queue(0).await;
    // Now half of the mail is taken by either.
    rig.release_all(users(40..80)).await;
    rig.wait_for("what is passed on", async |_: &Rig| peer.received().len() == 80).await;
    rig.wait_for_queue(0).await;
    assert!(peer.received().iter().all(is_of_node2), "{:?}", peer.received());
    let attempts = rig.attempts().await;
    assert!(attempts.len() == 80 && attempts.iter().all(|attempt| attempt.node == "node2"), "{attempts:?}");
    shutdown.cancel();
    neighbour.await.expect("no panic").expect("no error");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_mail_follows_an_address_to_another_node() {
    for shares_partition in [false, true] {
        let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
        rig.route("x.example", peer.port).await;
        let partition_of = |node: &str| rig.log().partition_of(Topic::Queue, &queue::lane_key(node));
        let mut names = (2..).map(|n| format!("node{n}"));
        let is_wanted = |name: &String| (partition_of(name) == partition_of(NODE)) == shares_partition;
        let name = names.find(is_wanted).expect("a name");
        rig.set_pool("default", &[(FAR, NODE)]).await;
        for n in 0..10 {
            rig.release(&[&format!("later{n}@x.example")], MAIL).await;
        }
        rig.wait_for("deferrals", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == 10)
            .await;
        rig.wait_for_queue(10).await;
        rig.set_pool("default", &[(FAR, &name)]).await;
        peer.accept_all();
        rig.clock.advance(MINUTE * 2);
        let is_there = |entry: &QueueEntry| entry.node == name;
        rig.wait_for("the move", async |rig: &Rig| {
            rig.queue().await.iter().filter(|e| is_there(e)).count() == 10
        })
        .await;
        assert_eq!(rig.queue().await.len(), 10, "in one lane");
        let (shutdown, neighbour) = rig.boot_neighbour(&name).await;
        rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Delivered) == 10).await;
        rig.wait_for_queue(0).await;
        assert_eq!(peer.received().len(), 10);
        let ehlo = format!("out.{name}.example");
        assert!(peer.received().iter().all(|received| received.ehlo == ehlo), "{:?}", peer.received());
        let attempts = rig.attempts().await;
        let second = attempts.iter().filter(|attempt| attempt.number == 2 && attempt.node == name);
        assert_eq!(second.count(), 10, "its tries count on");
        shutdown.cancel();
        neighbour.await.expect("no panic").expect("no error");
        rig.stop().await;
    }
}

async fn put(rig: &Rig, entry: &QueueEntry) {
    let (key, value) = (queue::key(entry.message.id, &entry.site), serde_json::to_vec(entry).unwrap());
    rig.log()
        .append(vec![NewRecord::new(Topic::Queue, queue::lane_key(&entry.node), key, value)])
        .await
        .unwrap();
}

/// As when a commit of unknown fate was made again after the first had been acted upon.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_the_lane_twice_is_delivered_once() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.set_pool("default", &[(FAR, "node2")]).await;
    rig.release(&["ok@x.example"], MAIL).await;
    let mut passed_on = rig.wait_for_queue(1).await.remove(0);
    rig.set_pool("default", &[(FAR, NODE)]).await;
    passed_on.node = NODE.into();
    put(&rig, &passed_on).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.wait_for("its end", async |rig: &Rig| rig.queue().await.iter().all(|entry| entry.node != NODE)).await;
    put(&rig, &passed_on).await;
    rig.wait_for("its end", async |rig: &Rig| rig.queue().await.iter().all(|entry| entry.node != NODE)).await;
    rig.stop().await;
    rig.boot().await;
    rig.route("x.example", peer.port).await;
    rig.release(&["ok2@x.example"], MAIL).await;
    rig.wait_for_outcome("ok2@x.example delivered").await;
    assert_eq!(peer.to("ok@").len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_moved_here_stays_and_waits_for_a_source() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.set_pool("default", &[(FAR, "node2")]).await;
    rig.release(&["ok@x.example"], MAIL).await;
    let entry = rig.wait_for_queue(1).await.remove(0);
    let moved = QueueEntry { node: NODE.into(), passed_on_at: None, moved: true, ..entry };
    put(&rig, &moved).await;
    assert_eq!(rig.command(Action::LaneRead { node: NODE.into() }).await.0, 1);
    rig.wait_for_outcome("ok@x.example deferred").await;
    let reply = rig.attempts().await[0].recipients[0].reply.to_string();
    assert!(reply.starts_with("451 4.3.5") && reply.contains("default"), "{reply}");
    rig.set_pool("default", &[(FAR, NODE)]).await;
    rig.clock.advance(MINUTE * 2);
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.stop().await;
}

/// Mail of our own that waited for its site and was in no commit when its partition was lost, and came back.
#[tokio::test(flavor = "multi_thread")]
async fn own_mail_that_was_given_up_is_sent_once_it_is_taken_again() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = Rig::start_with(|config| {
        config.max_in_flight_per_site = 1;
        config.commit_interval = Duration::from_secs(3600);
        config.command_timeout = Duration::from_secs(120);
    })
    .await;
    rig.route("x.example", peer.port).await;
    let own = |judged: &mut schemas::verdict::Judged| {
        let message_id = MessageId::derived("of a customer", judged.envelope.accepted_at);
        judged.envelope.origin = Some(schemas::envelope::Origin::Dsn { message_id });
        judged.envelope.user = UserId::own_mail();
        judged.message.user = UserId::own_mail();
    };
    rig.release_as(&["wait@x.example"], MAIL, own).await;
    rig.wait_for("the site to be busy", async |_: &Rig| peer.connections() == 1).await;
    rig.release_as(&["ok@x.example"], MAIL, own).await;
    // The neighbour that gets this half of the partitions, and has no room for what is in it.
    let partition = rig.log().partition_of(Topic::Released, UserId::own_mail().0.as_bytes());
    let name = if partition < rig.log().partitions(Topic::Released) / 2 { "node0" } else { "node2" };
    let theirs = no_metrics();
    let no_room = |config: &mut delivery::Config| {
        config.max_in_flight = 0;
        config.commit_interval = Duration::from_millis(50);
    };
    let (shutdown, neighbour) = rig.boot_neighbour_with(name, theirs.clone(), no_room).await;
    rig.wait_for("the loss", async |_: &Rig| theirs.waiting.get() > 0).await;
    shutdown.cancel();
    neighbour.await.expect("no panic").expect("no error");
    peer.accept_all();
    rig.wait_for("it", async |_: &Rig| peer.to("ok@").len() == 1).await;
    rig.stop().await;
    assert_eq!(peer.to("ok@").len(), 1);
}
