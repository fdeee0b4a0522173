//! STARTTLS and implicit TLS with real handshakes.

use std::sync::Arc;

use ingress::{ListenerTls, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, connected};
use crate::node::{Node, PASSWORD, Setup};

/// A certificate, its files, and the node that uses them.
pub struct Secured {
    pub node: Node,
    certificate: CertificateDer<'static>,
    _files: tempfile::TempDir,
}

impl Secured {
    pub async fn start(tls: ListenerTls, change: impl FnOnce(&mut Setup)) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["smtp.hoster.example".to_owned()]).expect("a certificate");
        let files = tempfile::tempdir().expect("a directory");
        let paths =
            TlsFiles { certificate: files.path().join("cert.pem"), key: files.path().join("key.pem") };
        std::fs::write(&paths.certificate, made.cert.pem()).expect("it is written");
        std::fs::write(&paths.key, made.signing_key.serialize_pem()).expect("it is written");
        let mut setup = Setup { tls: Some(paths), ..Setup::default() };
        setup.listener.tls = tls;
        setup.listener.auth_without_tls = false;
        change(&mut setup);
        let node = Node::start_with(setup).await;
        Secured { node, certificate: made.cert.der().clone(), _files: files }
    }

    pub async fn handshake(&self, stream: TcpStream) -> Client<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("smtp.hoster.example").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        Client::over(stream)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_then_a_login_then_mail() {
    let secured = Secured::start(ListenerTls::StartTls, |_| {}).await;
    let mut client = Client::connect_from(&secured.node, [127, 0, 0, 2]).await;
    let capabilities = client.say("EHLO client.example", "250").await;
    assert!(capabilities.contains("STARTTLS") && !capabilities.contains("AUTH"), "{capabilities}");
    assert!(client.auth_plain("customer.example", PASSWORD).await.starts_with("538 5.7.11"));
    client.say("STARTTLS", "220 2.0.0").await;
    let mut client = secured.handshake(client.into_stream()).await;
    client.say("MAIL FROM:<shop@customer.example>", "503").await;
    let capabilities = client.say("EHLO client.example", "250").await;
    assert!(
        !capabilities.contains("STARTTLS") && capabilities.contains("AUTH PLAIN LOGIN"),
        "{capabilities}"
    );
    assert!(client.auth_plain("customer.example", PASSWORD).await.starts_with("235"));
    assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
    let (envelope, _) = secured.node.accepted().await;
    let tls = envelope.client.tls.expect("TLS is recorded");
    assert_eq!(envelope.client.protocol, "ESMTPSA");
    assert_eq!(tls.version, "TLSv1.3");
    assert!(tls.cipher.starts_with("TLS13_"), "{}", tls.cipher);
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_tls_greets_under_tls() {
    let secured = Secured::start(ListenerTls::Implicit, |_| {}).await;
    let stream = connected(&secured.node, [127, 0, 0, 1]).await;
    let mut client = secured.handshake(stream).await;
    client.expect("220 smtp.hoster.example").await;
    assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
    assert_eq!(secured.node.accepted().await.0.client.protocol, "ESMTPS");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_starttls_in_clear_ends_the_session() {
    let secured = Secured::start(ListenerTls::StartTls, |_| {}).await;
    let mut client = Client::connect(&secured.node).await;
    client.say("EHLO client.example", "250").await;
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n").await;
    client.expect("554 5.5.").await;
    client.expect_end().await;
}
