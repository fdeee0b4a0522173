//! Signatures: ours verify, and a valid one of the author is not broken.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use delivery::Config;
use delivery::dns::Dns;
use mail_auth::{AuthenticatedMessage, DkimResult};
use schemas::Domain;
use schemas::sealed::ClusterKey;
use schemas::settings::{DkimAlgorithm, DkimKey, Setting};

use crate::MAIL;
use crate::dns::serve;
use crate::peer::Peer;
use crate::rig::Rig;

struct Keys {
    cluster: ClusterKey,
    settings: Vec<Setting>,
    zone: String,
}

/// An RSA and an Ed25519 key of customer.example, as settings and as DNS has them.
fn keys() -> Keys {
    let cluster = ClusterKey::from_file_content(&ClusterKey::generate()).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let ed_private = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(ed_private.as_ref()).unwrap();
    let made = [
        ("r", DkimAlgorithm::RsaSha256, "rsa", rsa_private.as_ref(), rsa_public.as_ref()),
        ("e", DkimAlgorithm::Ed25519Sha256, "ed25519", ed_private.as_ref(), ed.public_key().as_ref()),
    ];
    let (mut settings, mut zone) = (Vec::new(), String::new());
    for (selector, algorithm, kind, private, public) in made {
        let mut key = DkimKey {
            domain: Domain::parse("customer.example").unwrap(),
            selector: selector.into(),
            algorithm,
            sealed_private_key: String::new(),
            public_key: STANDARD.encode(public),
            created_at: None,
        };
        key.sealed_private_key = cluster.seal(&Setting::DkimKey(key.clone()).key(), private);
        zone.push_str(&format!(
            "{selector}._domainkey.customer.example TXT v=DKIM1; k={kind}; p={}\n",
            key.public_key
        ));
        settings.push(Setting::DkimKey(key));
    }
    Keys { cluster, settings, zone }
}

/// The results of the signatures on a message, from the top.
async fn verified(dns: &Dns, message: &str) -> Vec<bool> {
    let parsed = AuthenticatedMessage::parse(message.as_bytes()).unwrap();
    let outputs = dns.authenticator().verify_dkim(&parsed).await;
    outputs.iter().map(|output| *output.result() == DkimResult::Pass).collect()
}

async fn rig_with_keys(peer: &Peer) -> (Rig, Dns) {
    let keys = keys();
    let server = serve(&keys.zone).await;
    let change = |config: &mut Config| {
        config.dns_servers = vec![server];
        config.cluster_key = Some(keys.cluster);
    };
    let rig = Rig::start_with(change).await;
    for key in keys.settings {
        rig.set(key).await;
    }
    rig.route("x.example", peer.port).await;
    let dns = Dns::new(&rig.config).unwrap();
    (rig, dns)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_sign_and_a_second_pass_leaves_the_message_alone() {
    let peer = Peer::start(&["PIPELINING", "8BITMIME"]).await;
    let (mut rig, dns) = rig_with_keys(&peer).await;
    rig.release(&["ok@x.example"], MAIL).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    let first = peer.received()[0].content.clone();
    assert_eq!(verified(&dns, &first).await, [true, true], "{first}");
    let attempts = rig.attempts().await;
    assert_eq!(
        attempts[0].signatures,
        ["d=customer.example s=r a=rsa-sha256", "d=customer.example s=e a=ed25519-sha256"]
    );
    let forged = first.replace("From: a@customer.example", "From: z@customer.example");
    assert_eq!(verified(&dns, &forged).await, [false, false]);
    let second_from = first.replace("From: a@", "From: evil@customer.example\r\nFrom: a@");
    assert_eq!(verified(&dns, &second_from).await, [false, false], "From is over-signed");

    // What we signed comes again, as a client's own: only a trace field may be added.
    rig.release(&["ok2@x.example"], &first).await;
    rig.wait_for_outcome("ok2@x.example delivered").await;
    let again = peer.to("ok2@").remove(0).content;
    let added = again.strip_suffix(&first).expect("what was signed is as it came");
    assert!(added.starts_with("Received: ") && added.matches("\r\nReceived").count() == 0, "{added}");
    assert_eq!(verified(&dns, &again).await, [true, true]);

    // A signature that is broken gets ours beside it.
    rig.release(&["ok3@x.example"], &first.replace("Hello", "Goodbye")).await;
    rig.wait_for_outcome("ok3@x.example delivered").await;
    let repaired = peer.to("ok3@").remove(0).content;
    assert_eq!(verified(&dns, &repaired).await, [true, true, false, false], "{repaired}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_bit_mail_is_converted_before_it_is_signed_but_not_behind_a_clients_signature() {
    let (able, unable) = (Peer::start(&["PIPELINING", "8BITMIME"]).await, Peer::start(&["PIPELINING"]).await);
    let (mut rig, dns) = rig_with_keys(&able).await;
    rig.route("y.example", unable.port).await;
    let message = MAIL.replace("Hello", "Grüße");
    rig.release(&["ok@x.example", "ok@y.example"], &message).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.wait_for_outcome("ok@y.example delivered").await;
    let (signed, converted) = (able.received()[0].content.clone(), unable.received()[0].content.clone());
    assert!(!signed.is_ascii() && converted.is_ascii());
    assert_eq!(verified(&dns, &signed).await, [true, true]);
    assert_eq!(verified(&dns, &converted).await, [true, true], "{converted}");
    rig.release(&["ok2@y.example"], &signed).await;
    rig.wait_for_outcome("ok2@y.example delivered").await;
    let as_it_came = unable.to("ok2@").remove(0).content;
    assert!(as_it_came.ends_with(&signed), "{as_it_came}");
    rig.stop().await;
}
