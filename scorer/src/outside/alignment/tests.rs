use std::sync::atomic::{AtomicUsize, Ordering};

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;

use super::*;
use crate::outside::dns::fake::{NameServer, Says};

#[test]
fn a_signature_that_a_message_brings_along_is_seen() {
    let from = Domain::parse("news.shop.example").unwrap();
    for (fields, carries) in [
        ("", false),
        ("DKIM-Signature: v=1; a=rsa-sha256; d=Shop.example; s=s1; b=x", true),
        ("DKIM-Signature: v=1; b=x;\r\n\td = news.shop.example ; s=d", true),
        ("DKIM-Signature: v=1; a=rsa-sha256; d=esp.example; i=@shop.example; b=x", false),
        ("DKIM-Signature: nonsense", false),
        ("DKIM-Signature: d=mail.news.shop.example", true),
        ("DKIM-Signature: d=shop.example.net", false),
        ("DKIM-Signature: d=esp.example\r\nDKIM-Signature: d=shop.example", true),
    ] {
        let message =
            format!("{fields}\r\nFrom: a@news.shop.example\r\n\r\nDKIM-Signature: d=shop.example\r\n");
        assert_eq!(carries_signature(message.trim_start().as_bytes(), &from), carries, "{fields}");
    }
}

/// A domain under which others register, as the public suffix list has it, signs for them.
#[tokio::test]
async fn a_signature_of_a_domain_above_or_below_is_judged_by_the_tree_walk() {
    // The key of RFC 8463, A.2.
    let decode = |text: &str| mail_parser::decoders::base64::base64_decode(text.as_bytes()).unwrap();
    let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let seed = decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=");
    let names = NameServer::start(|name| match name {
        "_dmarc.myshopify.com" => Says::Text("v=DMARC1; p=reject".into()),
        _ if name.starts_with("s1._domainkey.") => {
            Says::Text("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".into())
        }
        _ => Says::NoSuchName,
    });
    let resolver = names.await.resolver();
    for (from, signer, is_aligned) in [
        ("shop.myshopify.com", "myshopify.com", true),
        ("shop.myshopify.com", "mail.shop.myshopify.com", true),
        ("shop.myshopify.com", "other.example", false),
    ] {
        let key = Ed25519Key::from_seed_and_public_key(&seed, &decode(public)).unwrap();
        let message = format!("From: a@{from}\r\n\r\nHi\r\n");
        let signer = DkimSigner::from_key(key).domain(signer).selector("s1").headers(["From"]);
        let signature = signer.sign(message.as_bytes()).unwrap().to_header();
        let (message, from) = (format!("{signature}{message}"), Domain::parse(from).unwrap());
        assert_eq!(is_signed(&resolver, message.as_bytes(), &from).await, Some(is_aligned), "{signature}");
        assert_eq!(carries_signature(message.as_bytes(), &from), is_aligned, "{signature}");
    }
}

fn asked(resolver: &Arc<MessageAuthenticator>, pause: &Arc<Pause>, from: &str) -> Asked {
    Asked {
        resolver: Arc::clone(resolver),
        pause: Arc::clone(pause),
        hostname: "mail.node.example".into(),
        question: question(from, 1),
        timeout: Duration::from_millis(300),
    }
}

fn question(from: &str, sources: u8) -> Question {
    let source = |n| Source { ip: IpAddr::from([192, 0, 2, n]), ehlo: None };
    let from = Domain::parse(from).unwrap();
    Question {
        reverse_path: Some(from.clone()),
        from,
        sources: (1..=sources).map(source).collect(),
        signed_by: None,
    }
}

#[tokio::test]
async fn broken_servers_of_some_domains_keep_no_other_from_being_looked_up() {
    let names = NameServer::start(|name| {
        if name.contains("broken") {
            Says::Fails
        } else if name.contains("silent") {
            Says::Nothing
        } else if name == "_dmarc.good.example" {
            Says::Text("v=DMARC1; p=reject".into())
        } else {
            Says::NoSuchName
        }
    });
    let (resolver, pause) = (names.await.resolver(), Arc::default());
    for broken in ["broken", "silent"] {
        let all = (0..10).map(|n| asked(&resolver, &pause, &format!("{broken}{n}.example")).look_up());
        for (standing, holds) in futures_util::future::join_all(all).await {
            assert_eq!((standing.dmarc, holds), (Dmarc::Unknown, KEPT_AT_LEAST), "{broken}");
        }
        let mut good = asked(&resolver, &pause, "good.example");
        good.timeout = LOOK_UP_TIMEOUT;
        assert!(matches!(good.look_up().await.0.dmarc, Dmarc::Fails(_)), "{broken}");
    }
}

#[tokio::test]
async fn who_is_asked_about_many_domains_and_answers_nothing_is_left_in_peace() {
    let names = NameServer::start(|_| Says::Nothing).await;
    let (resolver, pause) = (names.resolver(), Arc::default());
    for _ in 0..2 {
        let same = (0..3).map(|_| asked(&resolver, &pause, "a.example").look_up());
        futures_util::future::join_all(same).await;
    }
    assert!(pause.lets_ask(std::time::Instant::now()), "it may be that domain");

    let standings = Memory::new(MAX_KEPT, AT_A_TIME, MAX_WAITING);
    let (ended, waited) = (Arc::new(AtomicUsize::new(0)), std::time::Instant::now());
    let all = (0..600).map(|n| {
        let (from, ended) = (format!("d{n}.example"), Arc::clone(&ended));
        let mut asked = asked(&resolver, &pause, &from);
        asked.question = question(&from, 2);
        standings.get(asked.question.clone(), || async move {
            let answer = asked.look_up().await;
            ended.fetch_add(1, Ordering::Relaxed);
            answer
        })
    });
    let answers = futures_util::future::join_all(all).await;
    assert_eq!(
        answers.iter().flatten().count(),
        AT_A_TIME + MAX_WAITING,
        "the others have no answer at once"
    );
    assert_eq!(ended.load(Ordering::Relaxed), AT_A_TIME + MAX_WAITING);
    // Those that had their turn, and nobody after them.
    assert!(waited.elapsed() < Duration::from_secs(8), "{:?}", waited.elapsed());
    assert_eq!(names.asked(|name| name == "d500.example" || name == "_dmarc.d500.example"), 0);
}
