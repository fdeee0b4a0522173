//! What NOTIFY asks for (RFC 3461), and what is not told then.

use std::time::Duration;

use schemas::attempt::Outcome;
use schemas::envelope::Notify;

use crate::MAIL;
use crate::peer::Peer;
use crate::rig::{Rig, count};

#[tokio::test(flavor = "multi_thread")]
async fn success_is_told_by_the_last_server_that_can() {
    let (plain, able) = (Peer::start(&["PIPELINING"]).await, Peer::start(&["PIPELINING", "DSN"]).await);
    let mut rig = Rig::start().await;
    rig.route("plain.example", plain.port).await;
    rig.route("able.example", able.port).await;
    rig.route("customer.example", plain.port).await;
    rig.release_as(&["ok@plain.example", "ok@able.example", "unasked@plain.example"], MAIL, |judged| {
        for asked in &mut judged.envelope.recipients[..2] {
            asked.notify = Some(Notify { success: true, failure: true, delay: false });
        }
    })
    .await;
    rig.wait_for_outcome("ok@plain.example delivered").await;
    rig.wait_for_outcome("ok@able.example delivered").await;
    // A DSN is written in one commit with the attempt that gives rise to it.
    assert_eq!(rig.own_mail().await, 1);
    assert_eq!(able.to("<ok@able.example> NOTIFY=SUCCESS,FAILURE").len(), 1, "the duty goes with it");
    rig.wait_for_outcome("sender@customer.example delivered").await;
    let dsn = plain.to("sender@").remove(0).content;
    for expected in [
        "Subject: Relayed: your message was passed on\r\n",
        "Final-Recipient: rfc822; ok@plain.example\r\nAction: relayed\r\nStatus: 2.0.0\r\n",
        "Content-Type: text/rfc822-headers\r\n",
    ] {
        assert!(dsn.contains(expected), "{expected} in {dsn}");
    }
    assert!(!dsn.contains("able.example") && !dsn.contains("unasked@"), "{dsn}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_failures_alone_hears_of_no_delay() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.route("customer.example", peer.port).await;
    rig.release_as(&["later@x.example"], MAIL, |judged| {
        judged.envelope.recipients[0].notify = Some(Notify { success: false, failure: true, delay: false });
    })
    .await;
    rig.release(&["later2@x.example"], MAIL).await;
    let deferred = async |n| {
        rig.wait_for("tries", async |rig: &Rig| count(&rig.attempts().await, Outcome::Deferred) == n).await;
        rig.wait_for_queue(2).await;
    };
    deferred(2).await;
    rig.clock.advance(Duration::from_secs(4 * 3600));
    deferred(4).await;
    rig.wait_for_outcome("sender@customer.example delivered").await;
    assert_eq!(rig.own_mail().await, 1, "the notice to who did not ask");
    rig.stop().await;
}
