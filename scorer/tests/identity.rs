//! Samples of header sections as MTAs and panels write them (`tests/identity/*.eml`), each with the identity that the
//! `auto` rule must find (first line of `.expected`) and where (second line). The envelope sender of a sample stands in
//! `X-Test-Reverse-Path`, else it is `sender@shop.example`.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

use std::path::Path;

use schemas::envelope::{BodyType, Client, Recipient};
use schemas::{Domain, Envelope, Mailbox, MessageId, ReversePath, Timestamp, UserId};
use scorer::header::HeaderSection;
use scorer::identity::{Rule, identify};

#[test]
fn every_sample_has_its_identity() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity");
    let mut checked = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        // Version control may have changed the line ends; both must be read.
        let lf = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
        for message in [lf.clone(), lf.replace('\n', "\r\n")] {
            check(&path, &message, expected.trim_end());
        }
        checked += 1;
    }
    assert!(checked >= 15, "{checked} samples");
}

fn check(path: &Path, message: &str, expected: &str) {
    let section = HeaderSection::split(message.as_bytes());
    let sender = section.first("x-test-reverse-path").map(|field| field.text().into_owned());
    let found =
        identify(&[Rule::Auto], &section, &envelope(sender.as_deref().unwrap_or("sender@shop.example")));
    let found = format!("{}\n{}", found.identity, found.source);
    assert_eq!(found, expected.replace("\r\n", "\n"), "{}", path.display());
}

fn envelope(sender: &str) -> Envelope {
    let at = Timestamp(1_795_512_600_000);
    Envelope {
        id: MessageId::derived("sample", at),
        accepted_at: at,
        node: "node1".into(),
        reply_partition: None,
        user: UserId("192.0.2.0/28".into()),
        domain: Domain::parse("shop.example").unwrap(),
        client: Client {
            address: "192.0.2.1:25".parse().unwrap(),
            helo: "mail.shop.example".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        reverse_path: match sender {
            "<>" => ReversePath::Null,
            sender => ReversePath::Mailbox(Mailbox::parse(sender).unwrap()),
        },
        recipients: vec![Recipient {
            forward_path: Mailbox::parse("rcpt@elsewhere.example").unwrap(),
            notify: None,
            orcpt: None,
        }],
        ret: None,
        envid: None,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        size_bytes: 0,
        chunks: Vec::new(),
        origin: None,
    }
}
