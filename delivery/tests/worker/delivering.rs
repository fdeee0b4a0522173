//! From `released` to the peer: outcomes, what is written, what the peer gets, what the sender hears.

use schemas::attempt::Outcome;
use schemas::envelope::{Notify, Ret};
use schemas::settings::{EgressPool, EgressSource, Setting, WeightedSource};
use schemas::verdict::{Classification, RemoveField};

use crate::MAIL;
use crate::peer::Peer;
use crate::rig::{MINUTE, NODE, Rig, count};

const ALL: [&str; 4] = ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN"];

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_came_under_our_trace_field() {
    let (peer, mut rig) = (Peer::start(&ALL).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    let id = rig
        .release_as(&["ok@x.example", "ok2@x.example"], &format!("X-Auth: me\r\n{MAIL}"), |judged| {
            judged.remove_fields = vec![RemoveField { name: "x-auth".into(), index: 0 }];
        })
        .await;
    rig.wait_for_outcome("ok2@x.example delivered").await;
    let received = peer.received();
    assert_eq!(received.len(), 1, "one transaction for one site: {received:?}");
    assert_eq!(received[0].mail, "<sender@customer.example>");
    let (trace, rest) = received[0].content.split_once("X-Mailweir-Id: ").expect("our id");
    assert!(trace.starts_with("Received: from shop.customer.example ([192.0.2.7])\r\n"), "{trace}");
    assert!(trace.contains(&format!("with ESMTPA id {id};")), "{trace}");
    assert!(!trace.contains("secret-login") && !trace.contains("x.example>"), "nothing leaks: {trace}");
    assert_eq!(rest, format!("{id}\r\n{MAIL}"));
    let attempts = rig.attempts().await;
    assert_eq!((attempts.len(), attempts[0].number), (1, 1));
    assert_eq!(rig.queue().await.len(), 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_its_own_outcome_and_the_sender_one_dsn() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.route("customer.example", peer.port).await;
    rig.release_as(
        &["ok@x.example", "fail@x.example", "later@x.example", "fail2@x.example"],
        MAIL,
        |judged| {
            judged.envelope.ret = Some(Ret::Full);
            judged.envelope.envid = Some("env+2B1".into());
            judged.envelope.recipients[1].orcpt = Some("rfc822;orig+40x.example".into());
        },
    )
    .await;
    rig.wait_for_outcome("sender@customer.example delivered").await;
    let attempts = rig.attempts().await;
    let first = attempts.iter().find(|attempt| attempt.site.ends_with(&peer.port.to_string())).unwrap();
    assert!(!first.recipients.is_empty());
    assert_eq!(count(&attempts, Outcome::Failed), 2);
    assert_eq!(count(&attempts, Outcome::Deferred), 1);
    let dsns = peer.to("sender@customer.example");
    assert_eq!(dsns.len(), 1, "one for the attempt");
    let (dsn, mail) = (&dsns[0].content, &dsns[0].mail);
    assert_eq!(mail, "<>");
    for expected in [
        "Auto-Submitted: auto-replied\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;",
        "Reporting-MTA: dns; relay.example\r\n",
        "Original-Envelope-Id: env+1\r\n",
        "Original-Recipient: rfc822;orig@x.example\r\n",
        "Final-Recipient: rfc822; fail@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Final-Recipient: rfc822; fail2@x.example\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "Content-Type: message/rfc822\r\n",
        "\r\nHello\r\n",
    ] {
        assert!(dsn.contains(expected), "{expected} in {dsn}");
    }
    assert!(!dsn.contains("ok@x.example") && !dsn.contains("later@x.example"));
    assert_eq!(rig.queue().await.len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_who_must_not_be() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.route("customer.example", peer.port).await;
    rig.release_as(&["fail@x.example"], MAIL, |judged| {
        judged.envelope.reverse_path = schemas::ReversePath::Null;
    })
    .await;
    rig.release_as(&["fail@x.example"], MAIL, |judged| {
        judged.message.classification = Classification::Spam;
    })
    .await;
    rig.release_as(&["fail@x.example"], MAIL, |judged| {
        judged.envelope.recipients[0].notify = Some(Notify::default());
    })
    .await;
    for observed_as in [None, Some(Classification::Spam), Some(Classification::ForwardedSpam)] {
        rig.release_as(&["fail@x.example"], MAIL, |judged| {
            judged.message.classification = Classification::ObserveOnly;
            judged.message.observed_as = observed_as;
        })
        .await;
    }
    rig.release(&["fail@x.example"], MAIL).await;
    rig.wait_for_outcome("sender@customer.example delivered").await;
    rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Failed) == 7).await;
    assert_eq!(peer.to("sender@customer.example").len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_what_a_person_let_go_or_only_its_form_is_wrong_is_told() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.route("customer.example", peer.port).await;
    for classification in [Classification::Spam, Classification::ForwardedSpam, Classification::Virus] {
        rig.release_as(&["fail@x.example"], MAIL, |judged| {
            judged.message.classification = classification;
            judged.released_by = Some("root@node1 (cli)".into());
        })
        .await;
    }
    rig.release_as(&["fail@x.example"], MAIL, |judged| {
        judged.message.classification = Classification::ObserveOnly;
        judged.message.observed_as = Some(Classification::DuplicateHeader);
    })
    .await;
    rig.wait_for("all", async |_: &Rig| peer.to("sender@customer.example").len() == 4).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_one_too_many_is_sent_to_at_once() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.release(&["full1@x.example", "full2@x.example", "full3@x.example"], MAIL).await;
    rig.wait_for_outcome("full3@x.example delivered").await;
    assert_eq!((rig.attempts().await.len(), peer.received().len(), peer.connections()), (1, 3, 1));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_recipients_with_long_replies_fit_into_the_log() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.route("customer.example", peer.port).await;
    let to: Vec<String> = (0..1000).map(|n| format!("fail{n}@x.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    rig.release(&to, MAIL).await;
    rig.wait_for("all", async |rig: &Rig| count(&rig.attempts().await, Outcome::Failed) == 1000).await;
    rig.wait_for("DSNs", async |_: &Rig| peer.to("sender@customer.example").len() == 4).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_used_again_and_sources_are_kept_to() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    let ip = "127.0.0.9".parse().unwrap();
    let ehlo = Some("out9.example".into());
    rig.set(Setting::EgressSource(EgressSource { node: "node1".into(), ip, ehlo })).await;
    let sources = vec![WeightedSource { ip, weight: 1 }];
    rig.set(Setting::EgressPool(EgressPool { name: "default".into(), sources })).await;
    for n in 0..5 {
        let to = format!("ok{n}@x.example");
        rig.release(&[&to], MAIL).await;
        rig.wait_for_outcome(&format!("{to} delivered")).await;
    }
    assert_eq!(peer.connections(), 1);
    let received = peer.received();
    assert!(received.iter().all(|r| r.from == ip && r.ehlo == "out9.example"), "{received:?}");
    assert_eq!(rig.attempts().await[0].egress.as_ref().unwrap().ip, Some(ip));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_a_source_is_waited_for() {
    let peer = Peer::start(&["PIPELINING"]).await;
    let mut rig = Rig::start_with(|config| config.alone = true).await;
    rig.route("x.example", peer.port).await;
    rig.set_pool("default", &[("127.0.0.9", NODE)]).await;
    rig.use_pool("bulk").await;
    rig.release(&["ok1@x.example"], MAIL).await;
    rig.wait_for_outcome("ok1@x.example deferred").await;
    // On the embedded engine there is no node to pass it on to.
    rig.set_pool("bulk", &[("127.0.0.10", "node01")]).await;
    rig.release(&["ok2@x.example"], MAIL).await;
    rig.wait_for_outcome("ok2@x.example deferred").await;
    for attempt in rig.attempts().await {
        let reply = attempt.recipients[0].reply.to_string();
        assert!(reply.starts_with("451 4.3.5") && reply.contains("bulk"), "{reply}");
    }
    assert_eq!((rig.metrics().pool_without_source.get(), peer.connections()), (2, 0));
    rig.set_pool("bulk", &[("127.0.0.10", NODE)]).await;
    rig.clock.advance(MINUTE * 2);
    rig.wait_for_outcome("ok1@x.example delivered").await;
    rig.wait_for_outcome("ok2@x.example delivered").await;
    assert!(peer.received().iter().all(|received| received.from.to_string() == "127.0.0.10"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_8bitmime_and_smtputf8() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    let message = MAIL.replace("Hello", "Grüße");
    rig.release(&["ok@x.example", "jörg@x.example"], &message).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.wait_for_outcome("jörg@x.example failed").await;
    let received = peer.to("ok@x.example");
    let content = &received[0].content;
    assert!(content.is_ascii() && content.contains("Content-Transfer-Encoding: base64"), "{content}");
    let failed = rig.attempts().await;
    let failed = failed.iter().flat_map(|a| &a.recipients).find(|r| r.outcome == Outcome::Failed).unwrap();
    assert_eq!(failed.reply.enhanced.unwrap().to_string(), "5.6.7");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_after_the_dot_is_tried_again() {
    let (peer, mut rig) = (Peer::start(&["PIPELINING"]).await, Rig::start().await);
    rig.route("x.example", peer.port).await;
    rig.release(&["drop@x.example"], MAIL).await;
    rig.wait_for_outcome("drop@x.example deferred").await;
    rig.wait_for_queue(1).await;
    peer.accept_all();
    rig.clock.advance(crate::rig::MINUTE * 2);
    rig.wait_for_outcome("drop@x.example delivered").await;
    rig.wait_for_queue(0).await;
    rig.stop().await;
}
