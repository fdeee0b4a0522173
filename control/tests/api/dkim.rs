use std::process::Command;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::api::{DkimGenerate, DkimImport, DkimKeyInfo, DkimKeys, DkimRemove};
use serde_json::json;

use super::node::Node;

/// What openssl says is the public key of a private key: SubjectPublicKeyInfo, in base64.
fn openssl_public_key(pkcs8: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.der");
    std::fs::write(&path, pkcs8).unwrap();
    let output = Command::new("openssl")
        .args(["pkey", "-inform", "DER", "-pubout", "-outform", "DER", "-in"])
        .arg(&path)
        .output();
    let output = output.expect("openssl must be installed for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    STANDARD.encode(output.stdout)
}

fn generate(selector: &str, algorithm: Option<&str>) -> DkimGenerate {
    DkimGenerate {
        domain: "Customer.example".into(),
        selector: selector.into(),
        algorithm: algorithm.map(str::to_owned),
    }
}

fn private_key(node: &Node, selector: &str) -> Vec<u8> {
    let key = control::dkim::setting_key(&schemas::Domain::parse("customer.example").unwrap(), selector);
    let Some(schemas::settings::Setting::DkimKey(stored)) = node.context.settings.read().get(&key).cloned()
    else {
        panic!("{key} is not there")
    };
    node.cluster_key.open(&key, &stored.sealed_private_key).unwrap()
}

#[tokio::test]
async fn the_record_holds_the_public_key_that_openssl_finds() {
    let node = Node::start().await;
    let rsa: DkimKeyInfo = node.post("/v1/dkim/generate", &generate("s1", None)).await;
    assert_eq!((rsa.bits, rsa.record.name.as_str()), (Some(2048), "s1._domainkey.customer.example"));
    assert_eq!(
        rsa.record.value,
        format!("v=DKIM1; k=rsa; p={}", openssl_public_key(&private_key(&node, "s1")))
    );
    let strings: Vec<String> = rsa.record.strings.iter().map(|s| format!("\"{s}\"")).collect();
    assert!(rsa.record.zone_file.ends_with(&format!("IN TXT ( {} )", strings.join(" "))));

    let ed: DkimKeyInfo = node.post("/v1/dkim/generate", &generate("s2", Some("ed25519"))).await;
    // RFC 8463: the key itself, which SubjectPublicKeyInfo ends with.
    let info = STANDARD.decode(openssl_public_key(&private_key(&node, "s2"))).unwrap();
    assert_eq!(
        ed.record.value,
        format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(&info[info.len() - 32..]))
    );
    assert!(ed.notes.iter().all(|note| !note.contains("RSA")), "{:?}", ed.notes);
    let note = |info: &DkimKeyInfo| info.notes.join(" ");
    assert!(note(&rsa).contains("publish the record first"), "{rsa:?}");
    // The next of its kind is not signed with before the one in use is gone.
    let next: DkimKeyInfo = node.post("/v1/dkim/generate", &generate("r", None)).await;
    assert!(note(&next).contains("mailweir dkim remove customer.example s1"), "{next:?}");
    let domain = schemas::Domain::parse("customer.example").unwrap();
    assert!(node.context.settings.read().dkim_keys(&domain).all(|key| key.created_at == Some(node.now())));
    let list: DkimKeys = node.get("/v1/dkim?domain=customer.example").await;
    assert_eq!(list.keys.len(), 3);
    node.stop().await;
}

#[tokio::test]
async fn keys_that_openssl_made_can_be_brought_along() {
    let node = Node::start().await;
    let make = |args: &[&str]| {
        let output =
            Command::new("openssl").args(args).output().expect("openssl must be installed for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let import = |selector: &str, pem: String| DkimImport {
        domain: "customer.example".into(),
        selector: selector.into(),
        pem,
    };
    for (selector, pem) in [
        ("pkcs1", make(&["genrsa", "-traditional", "2048"])),
        ("pkcs8", make(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"])),
        ("ed", make(&["genpkey", "-algorithm", "ED25519"])),
    ] {
        let info: DkimKeyInfo = node.post("/v1/dkim/import", &import(selector, pem)).await;
        let found = openssl_public_key(&private_key(&node, selector));
        let p = info.record.value.split("p=").nth(1).unwrap();
        // What precedes an Ed25519 key in SubjectPublicKeyInfo is 12 bytes long, so that the base64 is aligned.
        assert!(found.ends_with(p) && p.len() > 40, "{selector}");
    }
    let short = make(&["genrsa", "1024"]);
    let (status, error, _) = node.post_refused("/v1/dkim/import", &import("short", short)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("shorter than 2048"), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn a_selector_is_used_once_and_removed_by_name() {
    let node = Node::start().await;
    let first: DkimKeyInfo = node.post("/v1/dkim/generate", &generate("s1", Some("ed25519"))).await;
    assert!(first.notes.iter().any(|note| note.contains("RSA")), "{:?}", first.notes);
    let (status, _, fix) = node.post_refused("/v1/dkim/generate", &generate("S1", None)).await;
    assert_eq!((status, fix.contains("another selector")), (StatusCode::CONFLICT, true));
    let (status, ..) = node.post_refused("/v1/dkim/generate", &generate("s2", Some("rsa1024"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, ..) =
        node.post_refused("/v1/dkim/generate", &json!({"domain": "x", "selector": "y", "bits": 5})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let remove = |selector: &str| DkimRemove { domain: "customer.example".into(), selector: selector.into() };
    let removed: DkimKeyInfo = node.post("/v1/dkim/remove", &remove("s1")).await;
    assert_eq!(removed.record, first.record);
    assert_eq!(node.post_refused("/v1/dkim/remove", &remove("s1")).await.0, StatusCode::NOT_FOUND);
    assert!(node.get::<DkimKeys>("/v1/dkim").await.keys.is_empty());
    node.stop().await;
}
