//! STARTTLS and implicit TLS with real handshakes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ingress::{ListenerTls, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, Stream, connected};
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

    pub async fn handshake<S: Stream>(&self, stream: S) -> Client<TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("smtp.hoster.example").expect("a name");
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream =
            tokio::time::timeout(Duration::from_secs(5), handshake).await.expect("a handshake in time");
        Client::over(stream.expect("a handshake"))
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

/// A load balancer may send the header and the client's first octets in one segment: those are TLS, and what is not
/// TLS there is not taken for what was said under it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_one_segment_with_the_proxy_header_succeeds() {
    let secured = Secured::start(ListenerTls::Implicit, |setup| {
        setup.listener.proxy_protocol_from = vec!["127.0.0.9/32".parse().expect("a range")];
    })
    .await;
    let stream = connected(&secured.node, [127, 0, 0, 9]).await;
    let header = b"PROXY TCP4 127.0.0.1 127.0.0.9 4711 465\r\n".to_vec();
    let mut client = secured.handshake(HeaderFirst { stream, header }).await;
    client.expect("220 smtp.hoster.example").await;
    assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
    assert_eq!(secured.node.accepted().await.0.user.as_str(), "127.0.0.1/32");
}

/// Puts a header before the first octets that are written, in one segment.
struct HeaderFirst {
    stream: TcpStream,
    header: Vec<u8>,
}

impl AsyncRead for HeaderFirst {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HeaderFirst {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let header = std::mem::take(&mut self.header);
        if header.is_empty() {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        let together = [&header[..], buf].concat();
        // A socket that was just connected takes a few hundred octets at once.
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &together))?;
        assert_eq!(written, together.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_port_of_implicit_tls_the_421_comes_under_tls() {
    let secured = Secured::start(ListenerTls::Implicit, |setup| {
        setup.limits.slot_wait = Duration::from_millis(200);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut client = secured.handshake(connected(&secured.node, [127, 0, 0, 1]).await).await;
        client.expect("220").await;
        held.push(client);
    }
    let mut eleventh = secured.handshake(connected(&secured.node, [127, 0, 0, 1]).await).await;
    eleventh.expect("421 Too many concurrent SMTP connections from this IP address").await;
}

/// Writes a pair that ends so many days after 1970 began.
fn write_pair(files: &std::path::Path, days: u64) {
    let mut params = rcgen::CertificateParams::new(["smtp.hoster.example".to_owned()]).expect("parameters");
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days * 86_400);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(files.join("key.pem"), key.serialize_pem()).expect("it is written");
    std::fs::write(files.join("cert.pem"), certificate.pem()).expect("it is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_certificate_ends_is_a_metric_also_after_it_was_replaced() {
    let files = tempfile::tempdir().expect("a directory");
    write_pair(files.path(), 21_000);
    let path = |name: &str| files.path().join(name);
    let tls = TlsFiles { certificate: path("cert.pem"), key: path("key.pem") };
    let mut setup = Setup { tls: Some(tls), ..Setup::default() };
    setup.listener.tls = ListenerTls::StartTls;
    let node = Node::start_with(setup).await;
    let shown = |days: u64| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &node.registry).expect("metrics");
        let line = format!(
            "mailweir_tls_certificate_expires_seconds{{file=\"{}\"}} {}\n",
            path("cert.pem").display(),
            days * 86_400
        );
        text.contains(&line)
    };
    assert!(shown(21_000));
    write_pair(files.path(), 22_000);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !shown(22_000) {
        assert!(std::time::Instant::now() < deadline, "the new one is seen within seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
