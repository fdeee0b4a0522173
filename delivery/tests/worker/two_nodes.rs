//! Two nodes share `released`: what one loses, the other takes.

use std::collections::HashMap;
use std::time::Duration;

use schemas::attempt::Outcome;

use crate::peer::Peer;
use crate::rig::{Rig, count};

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
