//! Engines that misbehave, each of them by each of the protocols.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::samples::envelope;

const KINDS: [Kind; 3] = [Kind::Rspamd, Kind::SpamAssassin, Kind::ClamAv];
const SHORT: Duration = Duration::from_millis(300);
/// Answers in loopback tests come long before.
const LONG: Duration = Duration::from_secs(20);

/// What a real one says of a clean message, the first on its connection.
fn clean(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Rspamd => {
            let body = r#"{"score":1.0,"required_score":15.0,"symbols":{"A":{"score":1.0}}}"#;
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        Kind::SpamAssassin => {
            b"SPAMD/1.1 0 EX_OK\r\nContent-length: 3\r\nSpam: False ; 1.0 / 5.0\r\n\r\nA,B".to_vec()
        }
        Kind::ClamAv => b"1: stream: OK\0".to_vec(),
    }
}

fn engine(kind: Kind, port: u16, max_connections: usize, when_down: WhenDown) -> Engines {
    let address = Address::Tcp("127.0.0.1".into(), port);
    let peer = match kind {
        Kind::Rspamd => Peer::Rspamd(RspamdTarget { address, password: None }),
        Kind::SpamAssassin => Peer::Spamd(address),
        Kind::ClamAv => Peer::Clamd(address),
    };
    let max_message_bytes = 2_000_000;
    let config =
        EngineConfig { peer, max_connections, max_message_bytes, when_down, weights: Weights::default() };
    Engines::new(vec![config], &EngineMetrics::default())
}

/// A server whose connections are `serve`d; its port, and how many there were.
async fn server<F, S>(serve: S) -> (u16, Arc<AtomicUsize>)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    (port, count)
}

/// The end of a message, by any of the protocols.
async fn read_request(stream: &mut TcpStream) -> bool {
    read_message(stream).await.is_some()
}

/// The same, with what was read.
async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let is_ping =
            read.ends_with(b"zPING\0") || read.starts_with(b"PING ") || read.starts_with(b"GET /ping");
        if is_ping || read.ends_with(b"the end\r\n") || read.ends_with(b"the end\r\n\0\0\0\0") {
            return Some(read);
        }
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn message() -> Bytes {
    Bytes::from_static(b"Subject: hello\r\n\r\nthe end\r\n")
}

async fn ask(engines: &Engines, within: Duration) -> Findings {
    engines.ask(&envelope("a@b.example", &["c@d.example"]), &message(), within).await
}

/// Why it is down for a message.
fn why_down(findings: &Findings) -> Option<&str> {
    let down = findings.symbols.iter().find(|symbol| symbol.name.ends_with("_DOWN"))?;
    assert_eq!(down.weight, 0.0);
    Some(&down.evidence)
}

#[tokio::test]
async fn an_answer_becomes_symbols() {
    for kind in KINDS {
        let (port, _) = server(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(&clean(kind)).await.ok();
        })
        .await;
        let findings = ask(&engine(kind, port, 1, WhenDown::Reject), LONG).await;
        let names: Vec<&str> = findings.symbols.iter().map(|symbol| symbol.name.as_str()).collect();
        let expected: &[&str] = if kind == Kind::ClamAv { &[] } else { &[kind.symbol()] };
        assert_eq!(
            (names.as_slice(), findings.is_virus, findings.unchecked),
            (expected, false, None),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn whatever_it_answers_it_is_a_failure_within_the_deadline() {
    let half = |kind| clean(kind)[..clean(kind).len() - 2].to_vec();
    let long_head = || [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'x'; 3_000_000]].concat();
    let long_body =
        || [&b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"[..], &vec![b'x'; 9_000_000]].concat();
    let longer_than_said =
        |kind| String::from_utf8(clean(kind)).unwrap().replace("ength: ", "ength: 9").into_bytes();
    for kind in KINDS {
        let mut answers = vec![
            vec![],
            b"\0\0\0\0\0\0\0\0".to_vec(),
            b"\xff\xfe\r\n\r\n\0".to_vec(),
            b"220 smtp.hoster.example ESMTP\r\n".to_vec(),
            vec![b'x'; 5_000_000],
            long_head(),
            half(kind),
            b"1: stream: O".to_vec(),
        ];
        if kind == Kind::Rspamd {
            answers.push(long_body());
        }
        if kind != Kind::ClamAv {
            answers.push(longer_than_said(kind));
        }
        for answer in answers {
            for closes in [true, false] {
                let said = answer.clone();
                let (port, _) = server(move |mut stream| {
                    let said = said.clone();
                    async move {
                        read_request(&mut stream).await;
                        // Whoever has enough does not read to the end.
                        stream.write_all(&said).await.ok();
                        if !closes {
                            read_request(&mut stream).await;
                        }
                    }
                })
                .await;
                let began = Instant::now();
                let findings = ask(&engine(kind, port, 1, WhenDown::Reject), SHORT).await;
                let shown = String::from_utf8_lossy(&answer[..answer.len().min(30)]).into_owned();
                assert!(why_down(&findings).is_some(), "{kind} {shown} {closes} {findings:?}");
                assert_eq!((findings.unchecked, findings.is_virus), (Some(Unchecked::Blocks), false));
                // What never ends is not read until the deadline, nor to its end.
                let has_enough = match (kind, answer.len()) {
                    (_, ..3_000_000) => "",
                    (Kind::Rspamd, 9_000_000..) => "length limit exceeded",
                    (Kind::Rspamd, _) => "no HTTP",
                    _ => "more than ",
                };
                assert!(why_down(&findings).unwrap().contains(has_enough), "{kind} {shown} {findings:?}");
                assert!(began.elapsed() < SHORT * 3, "{kind} {shown} {closes}");
            }
        }
    }
}

#[tokio::test]
async fn one_that_trickles_for_ever_is_not_waited_for() {
    for kind in KINDS {
        let (port, _) = server(move |mut stream| async move {
            read_request(&mut stream).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let began = Instant::now();
        let findings = ask(&engine(kind, port, 1, WhenDown::Ignore), SHORT).await;
        assert!(why_down(&findings).is_some() && findings.unchecked.is_none(), "{kind} {findings:?}");
        assert!(began.elapsed() < SHORT * 3, "{kind}");
    }
}

#[tokio::test]
async fn one_that_fails_again_and_again_costs_no_more_time_until_it_answers_a_ping() {
    for kind in KINDS {
        // It takes connections and says nothing, as a stopped process; later it is itself again.
        let is_well = Arc::new(AtomicUsize::new(0));
        let well = Arc::clone(&is_well);
        let (port, _) = server(move |mut stream| {
            let well = Arc::clone(&well);
            async move {
                read_request(&mut stream).await;
                if well.load(Ordering::SeqCst) == 0 {
                    return std::future::pending().await;
                }
                // To a ping or to a message: whoever asks looks at the one or the other.
                let pong: &[u8] = match kind {
                    Kind::Rspamd => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong",
                    Kind::SpamAssassin => b"SPAMD/1.5 0 PONG\r\n",
                    Kind::ClamAv => b"PONG\0",
                };
                let answer =
                    if well.fetch_add(1, Ordering::SeqCst) == 1 { pong.to_vec() } else { clean(kind) };
                stream.write_all(&answer).await.ok();
            }
        })
        .await;
        // What waits because it was busy once waits on while it is left alone.
        let rejecting = engine(kind, port, 1, WhenDown::Reject);
        ask(&rejecting, SHORT).await;
        assert!(!rejecting.are_asked_again(), "{kind}");
        drop(rejecting);
        let engines = engine(kind, port, 10, WhenDown::Defer);
        let together = join_all((0..50).map(|_| ask(&engines, SHORT))).await;
        assert!(together.iter().all(|findings| why_down(findings).is_some()));
        assert!(!engines.are_asked_again(), "{kind}");
        let began = Instant::now();
        for _ in 0..100 {
            let findings = ask(&engines, LONG).await;
            assert_eq!(why_down(&findings), Some("not asked: it failed again and again"));
            assert_eq!(findings.unchecked, Some(Unchecked::Later));
        }
        assert!(began.elapsed() < SHORT, "{kind}: {:?}", began.elapsed());
        is_well.store(1, Ordering::SeqCst);
        let back = async {
            while why_down(&ask(&engines, LONG).await).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, back).await.unwrap_or_else(|_| panic!("{kind} is used again"));
        assert!(engines.are_asked_again());
    }
}

#[tokio::test]
async fn messages_that_it_never_answers_take_it_from_nobody_else() {
    let poison = Bytes::from_static(b"Subject: poison\r\n\r\nthe end\r\n");
    for kind in KINDS {
        let (port, _) = server(move |mut stream| async move {
            let mut answered = 0;
            while let Some(read) = read_message(&mut stream).await {
                if memchr::memmem::find(&read, b"poison").is_some() {
                    return std::future::pending().await;
                }
                answered += 1;
                let answer = match kind {
                    Kind::ClamAv => format!("{answered}: stream: OK\0").into(),
                    other => clean(other),
                };
                stream.write_all(&answer).await.ok();
            }
        })
        .await;
        let engines = engine(kind, port, 10, WhenDown::Reject);
        let envelope = envelope("a@b.example", &["c@d.example"]);
        for _ in 0..3 {
            let poisoned = join_all((0..5).map(|_| engines.ask(&envelope, &poison, SHORT)));
            let (poisoned, others) = tokio::join!(poisoned, join_all((0..4).map(|_| ask(&engines, SHORT))));
            assert!(others.iter().all(|findings| why_down(findings).is_none()), "{kind} {others:?}");
            assert!(
                poisoned.iter().all(|findings| why_down(findings) == Some("no answer in time")),
                "{kind}"
            );
            assert!(engines.are_asked_again() && !engines.0[0].is_left_alone(), "{kind}");
        }
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_configured_and_one_that_is_only_slow_is_not_given_up() {
    for kind in KINDS {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted_now, counted_most) = (Arc::clone(&now), Arc::clone(&most));
        let (port, _) = server(move |mut stream| {
            let (now, most) = (Arc::clone(&counted_now), Arc::clone(&counted_most));
            async move {
                read_request(&mut stream).await;
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(40)) => {}
                    // Whoever asked has given up.
                    _ = stream.read_u8() => {}
                }
                now.fetch_sub(1, Ordering::SeqCst);
                stream.write_all(&clean(kind)).await.ok();
            }
        })
        .await;
        let engines = engine(kind, port, 4, WhenDown::Ignore);
        let together = join_all((0..200).map(|_| ask(&engines, SHORT * 2))).await;
        let answered = together.iter().filter(|findings| why_down(findings).is_none()).count();
        assert!((4..150).contains(&answered), "{kind}: {answered}");
        // On a busy machine it is seen late that some were given up; without a bound it would be 200.
        assert!(most.load(Ordering::SeqCst) <= 12, "{kind}: {}", most.load(Ordering::SeqCst));
        assert!(engines.are_asked_again() && why_down(&ask(&engines, LONG).await).is_none(), "{kind}");
    }
}

#[tokio::test]
async fn too_much_at_once_is_no_reason_to_refuse_and_nothing_waits_longer_than_the_deadline() {
    for kind in KINDS {
        // It always answers, just before the deadline of those that came first.
        let (port, _) = server(move |mut stream| async move {
            let mut answered = 0;
            while read_request(&mut stream).await {
                tokio::time::sleep(SHORT * 7 / 10).await;
                answered += 1;
                let answer = match kind {
                    Kind::ClamAv => format!("{answered}: stream: OK\0").into(),
                    other => clean(other),
                };
                stream.write_all(&answer).await.ok();
            }
        })
        .await;
        let engines = engine(kind, port, 4, WhenDown::Reject);
        for _ in 0..3 {
            let began = Instant::now();
            let timed = join_all((0..40).map(|_| async { (ask(&engines, SHORT).await, began.elapsed()) }));
            for (findings, took) in timed.await {
                assert!(took < SHORT * 2, "{kind} {took:?}");
                let unchecked = why_down(&findings).map(|_| Unchecked::Later);
                assert_eq!(findings.unchecked, unchecked, "{kind} {findings:?}");
            }
            assert!(engines.are_asked_again(), "{kind}");
        }
        let findings = ask(&engines, LONG).await;
        assert_eq!((why_down(&findings), findings.unchecked), (None, None), "{kind}");
    }
}

#[tokio::test]
async fn a_connection_serves_many_messages_and_one_that_was_closed_meanwhile_is_replaced() {
    for kind in [Kind::Rspamd, Kind::ClamAv] {
        let (port, count) = server(move |mut stream| async move {
            for number in 1..=3 {
                if !read_request(&mut stream).await {
                    return;
                }
                let answer = clean(kind);
                let answer =
                    if kind == Kind::ClamAv { format!("{number}: stream: OK\0").into() } else { answer };
                stream.write_all(&answer).await.ok();
            }
        })
        .await;
        let engines = engine(kind, port, 1, WhenDown::Ignore);
        for _ in 0..9 {
            assert_eq!(why_down(&ask(&engines, LONG).await), None, "{kind}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 3, "{kind}");
    }
}

#[tokio::test]
async fn what_a_connection_says_when_it_ends_for_idleness_is_no_answer_to_a_later_message() {
    // As real ones say it: clamd after its ReadTimeout (a line, without the NUL of its answers), its versions that say ERROR,
    // and HTTP proxies.
    for (kind, parting) in [
        (Kind::ClamAv, &b"COMMAND READ TIMED OUT\n"[..]),
        (Kind::ClamAv, b"COMMAND READ TIMED OUT ERROR\0"),
        (Kind::ClamAv, b""),
        (Kind::Rspamd, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        (Kind::Rspamd, b"HTTP/1.1 408 Req"),
    ] {
        let (port, count) = server(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(&clean(kind)).await.ok();
            // Not before: what comes with an answer is dropped with it.
            read_request(&mut stream).await;
            stream.write_all(parting).await.ok();
        })
        .await;
        let engines = engine(kind, port, 1, WhenDown::Ignore);
        for _ in 0..3 {
            let findings = ask(&engines, LONG).await;
            assert_eq!(why_down(&findings), None, "{kind} {}", String::from_utf8_lossy(parting));
        }
        assert_eq!(count.load(Ordering::SeqCst), 3, "{kind}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_not_called_clean() {
    // ClamAV says so itself, too, in the middle of the message, and closes.
    let (port, _) = server(move |mut stream| async move {
        let mut some = vec![0u8; 100_000];
        stream.read_exact(&mut some).await.ok();
        stream.write_all(b"1: INSTREAM size limit exceeded. ERROR\0").await.ok();
        // It reads on for a moment, so that its answer is not lost with what was not read.
        while stream.read(&mut some).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let engines = engine(Kind::ClamAv, port, 1, WhenDown::Reject);
    for (bytes, why) in [(1_900_000, "over its own maximum"), (2_000_001, "over max_message_bytes = 2000000")]
    {
        let large = Bytes::from(vec![b'x'; bytes]);
        let findings = engines.ask(&envelope("a@b.example", &[]), &large, LONG).await;
        assert_eq!((findings.symbols.len(), findings.unchecked), (1, None));
        assert_eq!(findings.symbols[0].name, "CLAMAV_SKIPPED");
        assert!(findings.symbols[0].evidence.contains(why), "{findings:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_engines_side_by_side() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (port, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"1: stream: Mailweir.Test FOUND\0").await.ok();
    })
    .await;
    let two =
        [engine(Kind::Rspamd, free, 1, WhenDown::Reject), engine(Kind::ClamAv, port, 1, WhenDown::Ignore)];
    let both = Engines(two.into_iter().flat_map(|engines| engines.0).collect());
    let findings = ask(&both, LONG).await;
    assert!(findings.is_virus && findings.unchecked == Some(Unchecked::Blocks));
    assert!(why_down(&findings).unwrap().starts_with("cannot be reached"), "{findings:?}");
}

proptest! {
    #[test]
    fn no_answer_makes_a_reader_fail(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0..300usize,
        at in 0..300usize,
    ) {
        let mut answers = vec![bytes.clone()];
        for kind in KINDS {
            let real = clean(kind);
            // A real one with a piece of it replaced.
            let (from, to) = (at.min(real.len()), (at + cut).min(real.len()));
            answers.push([&real[..from], &bytes[..], &real[to..]].concat());
        }
        for answer in answers {
            let read = [rspamd::parse(200, &answer), spamd::read_whole(&answer), clamd::parse(&answer, 1)];
            for answer in read.into_iter().flatten() {
                for kind in KINDS {
                    let (symbols, _) = weigh(kind, &Weights::default(), &answer);
                    prop_assert!(symbols.iter().all(|symbol| (0.0..=1.0).contains(&symbol.weight)));
                }
            }
            let text = String::from_utf8_lossy(&answer);
            let _ = Address::parse(&text);
        }
    }
}
