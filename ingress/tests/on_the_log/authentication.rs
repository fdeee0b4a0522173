//! The three kinds of outgoing user, and everybody else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use eventlog::NewRecord;
use schemas::Topic;

use crate::client::Client;
use crate::node::{Node, PASSWORD, accepted};

const NOBODY: [u8; 4] = [127, 0, 0, 2];

#[tokio::test(flavor = "multi_thread")]
async fn by_address_by_domain_and_by_mailbox_and_a_login_beats_the_address() {
    let node = Node::start().await;
    for (from, login, user) in [
        ([127, 0, 0, 1], None, "127.0.0.1/32"),
        (NOBODY, Some("customer.example"), "customer.example"),
        (NOBODY, Some("Shop@Customer.Example"), "shop@customer.example"),
        ([127, 0, 0, 1], Some("customer.example"), "customer.example"),
    ] {
        let mut client = Client::connect_from(&node, from).await;
        client.say("EHLO client.example", "250").await;
        if let Some(login) = login {
            assert!(client.auth_plain(login, PASSWORD).await.starts_with("235 2.7.0"));
        }
        assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
        let all = accepted(&node.log).await;
        let newest = all.iter().max_by_key(|(envelope, _)| envelope.accepted_at).expect("a message");
        assert_eq!(newest.0.user.as_str(), user);
        assert_eq!(newest.0.client.login.as_deref(), login.map(|_| user));
        assert_eq!(newest.0.client.protocol, if login.is_some() { "ESMTPA" } else { "ESMTP" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_send_and_is_told_so_in_the_agreed_words() {
    let node = Node::start().await;
    let mut client = Client::connect_from(&node, NOBODY).await;
    client.say("EHLO client.example", "250").await;
    client.say("NOOP", "250").await;
    let reply = client.say("MAIL FROM:<shop@customer.example>", "550").await;
    assert_eq!(reply, "550 5.7.1 Message submission is for authorised users only!");
    client.say("RCPT TO:<a@b.example>", "503").await;
    client.say("DATA", "503").await;
    assert!(client.auth_plain("customer.example", "wrong").await.starts_with("535 5.7.8"));
    assert!(client.auth_plain("nobody.example", PASSWORD).await.starts_with("535 5.7.8"));
    client.say("MAIL FROM:<shop@customer.example>", "550 5.7.1").await;
    client.say("QUIT", "221").await;
    assert!(accepted(&node.log).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn login_works_in_all_its_forms() {
    let node = Node::start().await;
    let (name, password) = (STANDARD.encode("customer.example"), STANDARD.encode(PASSWORD));
    let plain = STANDARD.encode(format!("\0customer.example\0{PASSWORD}"));
    for dialogue in [
        vec![("AUTH LOGIN", "334 VXNlcm5hbWU6"), (&name, "334 UGFzc3dvcmQ6"), (&password, "235")],
        vec![(&*format!("AUTH LOGIN {name}"), "334 UGFzc3dvcmQ6"), (&password, "235")],
        vec![("auth plain", "334 "), (&plain, "235")],
    ] {
        let mut client = Client::connect_from(&node, NOBODY).await;
        client.say("EHLO client.example", "250").await;
        for (line, start) in dialogue {
            client.say(line, start).await;
        }
        client.say("MAIL FROM:<shop@customer.example>", "250").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_blocked_for_the_guesser_alone() {
    let node = Node::start().await;
    let mut owner = Client::connect_from(&node, [127, 0, 0, 3]).await;
    owner.say("EHLO client.example", "250").await;
    assert!(owner.auth_plain("customer.example", PASSWORD).await.starts_with("235"));
    let mut guessers = Vec::new();
    for _ in 0..10 {
        let node_ref = &node;
        guessers.push(async move {
            let mut client = Client::connect_from(node_ref, NOBODY).await;
            client.say("EHLO client.example", "250").await;
            client.auth_plain("customer.example", "wrong").await
        });
    }
    // At once, so that the delays overlap.
    for reply in futures_util::future::join_all(guessers).await {
        assert!(reply.starts_with("535 5.7.8"), "{reply}");
    }
    let mut guesser = Client::connect_from(&node, NOBODY).await;
    guesser.say("EHLO client.example", "250").await;
    let reply = guesser.auth_plain("customer.example", PASSWORD).await;
    assert!(reply.starts_with("454 4.7.0 Too many failed logins"), "{reply}");
    let mut again = Client::connect_from(&node, [127, 0, 0, 3]).await;
    again.say("EHLO client.example", "250").await;
    assert!(again.auth_plain("customer.example", PASSWORD).await.starts_with("235"));
}

/// Three guessers, thirty failures; then the owner, from a place that was never seen before, as after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn guessers_elsewhere_do_not_lock_out_an_owner_who_was_not_seen_yet() {
    let node = Node::start().await;
    let mut guesses = Vec::new();
    for guesser in [[127, 0, 1, 1], [127, 0, 2, 1], [127, 0, 3, 1]] {
        for _ in 0..10 {
            let node = &node;
            guesses.push(async move {
                let mut client = Client::connect_from(node, guesser).await;
                client.say("EHLO client.example", "250").await;
                client.auth_plain("shop@customer.example", "wrong").await
            });
        }
    }
    for reply in futures_util::future::join_all(guesses).await {
        assert!(reply.starts_with("535") || reply.starts_with("454"), "{reply}");
    }
    let mut owner = Client::connect_from(&node, [127, 0, 9, 1]).await;
    owner.say("EHLO client.example", "250").await;
    let reply = owner.auth_plain("shop@customer.example", PASSWORD).await;
    assert!(reply.starts_with("235"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_for_somebody_else() {
    let node = Node::start().await;
    let mut client = Client::connect_from(&node, NOBODY).await;
    client.say("EHLO client.example", "250").await;
    let plain = |authorization: &str| {
        let text = format!("{authorization}\0customer.example\0{PASSWORD}");
        format!("AUTH PLAIN {}", STANDARD.encode(text))
    };
    client.say(&plain("shop@customer.example"), "535 5.7.8").await;
    client.say(&plain("Customer.example"), "235").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_record_only_a_later_version_reads_is_never_refused_for_good() {
    let node = Node::start().await;
    let mut client = Client::connect_from(&node, NOBODY).await;
    client.say("EHLO client.example", "250").await;
    client.say("MAIL FROM:<shop@customer.example>", "550 5.7.1").await;
    let key = "outgoing_user/later.example";
    let later = r#"{"kind":"outgoing_user","domain":"later.example","auth":{"by":"certificate"}}"#;
    node.log.append(vec![NewRecord::new(Topic::Settings, key, key, later)]).await.expect("appends");
    // Taken up a moment later.
    loop {
        client.send(b"MAIL FROM:<shop@customer.example>\r\n").await;
        let reply = client.reply().await;
        if reply.starts_with("451 4.3.0") {
            break;
        }
        assert!(reply.starts_with("550"), "{reply}");
        client = Client::connect_from(&node, NOBODY).await;
        client.say("EHLO client.example", "250").await;
    }
    assert!(client.auth_plain("Later.Example", PASSWORD).await.starts_with("454 4.7.0"));
    assert!(client.auth_plain("nobody.example", PASSWORD).await.starts_with("535 5.7.8"));
    assert!(client.auth_plain("customer.example", PASSWORD).await.starts_with("235"));
    client.say("MAIL FROM:<shop@customer.example>", "250").await;
}
