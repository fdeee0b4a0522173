//! Rspamd, over HTTP: `POST /checkv2` (its documentation, "Rspamd HTTP protocol").

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use schemas::Envelope;
use serde::Deserialize;

use super::connection::{Address, Failure, Idle, Stream};
use super::weigh::Answer;

/// Its largest answers are those about messages with thousands of URLs.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Header fields are bounded: what names more recipients than this says nothing more of a message.
const MAX_RECIPIENTS: usize = 200;
/// Symbols of scanners that found malware end so; `_VIRUS_FAIL` and the like do not. In the options is what was found.
const VIRUS_SUFFIX: &str = "_VIRUS";

/// How it is asked.
#[derive(Clone)]
pub struct Target {
    pub address: Address,
    pub password: Option<String>,
}

// A password is not for logs.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection that may serve another request. Its second half has to be polled while the first is waited for.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>,
}

impl Http {
    async fn connect(address: &Address) -> Result<Self, Failure> {
        let stream = Stream::connect(address).await?;
        let made =
            hyper::client::conn::http1::Builder::new().max_headers(64).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| broken(&error))?;
        Ok(Http { sender, connection: Box::pin(connection) })
    }

    /// Status and body of the answer; `true` when the connection can be used again.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes, bool), Failure> {
        let Http { sender, connection } = self;
        let (answered, is_open) = {
            let answer = async {
                let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
                read(response).await
            };
            tokio::pin!(answer);
            let mut is_open = true;
            loop {
                tokio::select! {
                    biased;
                    answered = &mut answer => break (answered, is_open),
                    // What it ended with is told by the request.
                    _ = &mut *connection, if is_open => is_open = false,
                }
            }
        };
        let (status, body) = answered?;
        Ok((status, body, is_open && !sender.is_closed()))
    }
}

async fn read(response: Response<Incoming>) -> Result<(StatusCode, Bytes), Failure> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => Err(Failure::Nonsense(crate::evidence::clean_marked(&error.to_string(), 100))),
    }
}

fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::Nonsense("no HTTP".into());
    }
    // Nothing of an answer came: hyper tells otherwise of one that broke off.
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() || is_reset(error) {
        return Failure::Closed;
    }
    Failure::Nonsense(crate::evidence::clean_marked(&error.to_string(), 100))
}

fn is_reset(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    })
}

/// Asks about a message.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(
    target: &Target,
    idle: &Idle<Http>,
    envelope: &Envelope,
    message: &Bytes,
) -> Result<Answer, Failure> {
    let request = || request(target, envelope, message.clone());
    if let Some(http) = idle.take()
        && let Ok(answer) = over(http, idle, request()?).await
    {
        return Ok(answer);
    }
    over(Http::connect(&target.address).await?, idle, request()?).await
}

async fn over(mut http: Http, idle: &Idle<Http>, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    let (status, body, is_open) = http.send(request).await?;
    let answer = parse(status.as_u16(), &body)?;
    // Rspamd itself closes after each answer; what stands before it may not.
    if is_open {
        idle.put(http);
    }
    Ok(answer)
}

/// # Errors
/// Why there is no answer.
pub async fn ping(target: &Target) -> Result<(), Failure> {
    let mut http = Http::connect(&target.address).await?;
    let request =
        Request::builder().uri("/ping").header(HOST, target.address.to_string()).body(Full::default());
    let (status, body, _) = http.send(request.map_err(|error| Failure::Nonsense(error.to_string()))?).await?;
    if status == StatusCode::OK && body.trim_ascii() == b"pong" {
        Ok(())
    } else {
        Err(Failure::Nonsense("no pong".into()))
    }
}

fn request(target: &Target, envelope: &Envelope, message: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let client = &envelope.client;
    let mut request = Request::builder().method(Method::POST).uri("/checkv2");
    let mut header = |name: &str, value: &str| {
        // Addresses and HELO come from clients; what cannot stand in a header field is left out.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            let taken = std::mem::take(&mut request);
            request = taken.header(name, value);
        }
    };
    header("Host", &target.address.to_string());
    if let Some(password) = &target.password {
        header("Password", password);
    }
    let reverse_path = envelope.reverse_path.mailbox().map(ToString::to_string);
    header("From", reverse_path.as_deref().unwrap_or("<>"));
    for recipient in envelope.recipients.iter().take(MAX_RECIPIENTS) {
        header("Rcpt", &recipient.forward_path.to_string());
    }
    header("IP", &client.ip().to_string());
    header("Helo", &client.helo);
    // Whoever it is has been authenticated, by login or by address.
    header("User", client.login.as_deref().unwrap_or(envelope.user.as_str()));
    header("Queue-Id", &envelope.id.to_string());
    request.body(Full::new(message)).map_err(|error| Failure::Nonsense(error.to_string()))
}

#[derive(Deserialize)]
struct Checked {
    score: f64,
    required_score: f64,
    #[serde(default)]
    symbols: BTreeMap<String, RspamdSymbol>,
}

#[derive(Deserialize)]
struct RspamdSymbol {
    #[serde(default)]
    score: f64,
    #[serde(default)]
    options: Vec<String>,
}

/// Reads the body of an answer.
///
/// # Errors
/// When it is none.
pub fn parse(status: u16, body: &[u8]) -> Result<Answer, Failure> {
    if status != 200 {
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        return Err(Failure::Refused(crate::evidence::clean_marked(&format!("{status} {text}"), 100)));
    }
    let checked: Checked = serde_json::from_slice(body)
        .map_err(|error| Failure::Nonsense(crate::evidence::clean_marked(&error.to_string(), 100)))?;
    let found =
        checked.symbols.iter().filter(|(name, symbol)| name.ends_with(VIRUS_SUFFIX) && symbol.score > 0.0);
    let mut signatures = Vec::new();
    for (name, symbol) in found {
        if symbol.options.is_empty() {
            signatures.push(name.clone());
        }
        signatures.extend(symbol.options.iter().cloned());
    }
    let named = checked.symbols.into_iter().map(|(name, symbol)| (name, Some(symbol.score)));
    Ok(Answer::Scored {
        score: checked.score,
        required: checked.required_score,
        named: named.collect(),
        signatures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Rspamd 3.4 says it.
    const HAM: &str = r#"{"is_skipped":false,"score":-0.100000,"required_score":15.0,"action":"no action","symbols":{"ARC_NA":{"name":"ARC_NA","score":0.0,"metric_score":0.0,"description":"ARC signature absent"},"MIME_GOOD":{"name":"MIME_GOOD","score":-0.100000,"metric_score":-0.100000,"description":"Known content-type","options":["text/plain"]},"RCPT_COUNT_ONE":{"name":"RCPT_COUNT_ONE","score":0.0,"metric_score":0.0,"description":"One recipient","options":["1"]}},"messages":{},"message-id":"1@b.example","time_real":0.055738,"milter":{"remove_headers":{"X-Spam":0}}}"#;
    const GTUBE: &str = r#"{"is_skipped":true,"score":15.0,"required_score":15.0,"action":"reject","symbols":{"GTUBE":{"name":"GTUBE","score":0.0,"metric_score":0.0}},"messages":{"smtp_message":"Gtube pattern"},"message-id":"1@b.example","time_real":0.000310}"#;
    const VIRUS: &str = r#"{"is_skipped":false,"score":14.0,"required_score":15.0,"symbols":{"CLAM_VIRUS":{"name":"CLAM_VIRUS","score":4.0,"options":["PUA.Win.Tool.Packed","Eicar-Signature"]},"OTHER_VIRUS":{"score":1.0},"FPROT_VIRUS_FAIL":{"name":"FPROT_VIRUS_FAIL","score":0.0,"options":["failed to scan"]},"RBL_VIRUSFREE_BOTNET":{"score":2.0}}}"#;

    #[test]
    fn its_own_answers_are_read() {
        let of = |answer: &str| match parse(200, answer.as_bytes()).unwrap() {
            Answer::Scored { score, required, named, signatures } => (score, required, named, signatures),
            other => panic!("{other:?}"),
        };
        let (score, required, named, signatures) = of(HAM);
        assert_eq!((score, required, named.len(), signatures.len()), (-0.1, 15.0, 3, 0));
        let (score, _, named, signatures) = of(GTUBE);
        assert_eq!((score, named, signatures.len()), (15.0, vec![("GTUBE".to_owned(), Some(0.0))], 0));
        assert_eq!(of(VIRUS).3, ["PUA.Win.Tool.Packed", "Eicar-Signature", "OTHER_VIRUS"]);
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        let refused = parse(500, br#"{"error":"invalid command","error_domain":"protocol-error"}"#);
        assert!(
            matches!(refused, Err(Failure::Refused(text)) if text.starts_with("500 {\"error\":\"invalid command\""))
        );
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            "pong",
            r#"{"score":1}"#,
            r#"{"score":"1","required_score":15}"#,
            r#"{"score":1e999,"required_score":15}"#,
            r#"{"score":1,"required_score":15,"symbols":[1]}"#,
            &HAM[..100],
            &"[".repeat(100_000),
        ] {
            assert!(matches!(parse(200, bad.as_bytes()), Err(Failure::Nonsense(_))), "{bad:.80}");
        }
    }

    #[test]
    fn the_envelope_goes_along_and_cannot_add_header_fields() {
        let mut envelope = crate::samples::envelope("a@b.example", &["c@d.example", "e@f.example"]);
        envelope.client.helo = "x\r\nSettings: {}".into();
        let target =
            Target { address: Address::parse("127.0.0.1:1").unwrap(), password: Some("secret".into()) };
        let request = request(&target, &envelope, Bytes::from_static(b"hello")).unwrap();
        let of = |name: &str| {
            let all = request.headers().get_all(name).iter();
            all.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((of("from").as_str(), of("rcpt").as_str()), ("a@b.example", "c@d.example e@f.example"));
        assert_eq!((of("ip").as_str(), of("user").as_str()), ("192.0.2.1", "192.0.2.0/28"));
        assert_eq!((of("queue-id"), of("password").as_str()), (envelope.id.to_string(), "secret"));
        assert_eq!((of("helo"), of("settings")), (String::new(), String::new()));
        assert!(!format!("{target:?}").contains("secret"));
    }
}
