//! An engine that must be asked, and is away for a while: nothing is lost, nothing is let go unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eventlog::bodies;
use schemas::senders::{HoldRow, Kind, kind_of_key};
use schemas::settings::Limits;
use schemas::verdict::{Classification, Disposition, VerdictEvent};
use schemas::{Topic, spool};
use scorer::outside::Outside;
use scorer::outside::engines::{Address, EngineConfig, EngineMetrics, Engines, Peer, Weights, WhenDown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::site::{PATIENCE, Site, classification, judged, message, verdict_of};

/// A clamd for tests: it closes at once while it is away, and finds what it is told to in messages that say so.
struct Clamd {
    port: u16,
    is_there: Arc<AtomicBool>,
}

impl Clamd {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clamd = Clamd { port: listener.local_addr().unwrap().port(), is_there: Arc::default() };
        let is_there = Arc::clone(&clamd.is_there);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if is_there.load(Ordering::SeqCst) {
                    tokio::spawn(serve(stream));
                }
            }
        });
        clamd
    }

    fn asked(&self, when_down: WhenDown) -> Outside {
        let config = EngineConfig {
            peer: Peer::Clamd(Address::Tcp("127.0.0.1".into(), self.port)),
            max_connections: 4,
            max_message_bytes: 1_000_000,
            when_down,
            weights: Weights::default(),
        };
        Outside {
            deadline: Duration::from_secs(2),
            engines: Engines::new(vec![config], &EngineMetrics::default()),
            ..Outside::default()
        }
    }
}

/// One command of a connection, then it closes.
async fn serve(mut stream: TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\0\0\0\0") && !read.ends_with(b"zPING\0") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let says_so = read.windows(7).any(|seven| seven == b"badness");
    let answer: &[u8] = match read.ends_with(b"zPING\0") {
        true => b"PONG\0",
        false if says_so => b"1: stream: Mailweir.Test FOUND\0",
        false => b"1: stream: OK\0",
    };
    stream.write_all(answer).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_engine_could_not_look_at_is_held_and_judged_when_it_is_back() {
    let site = Site::open().await;
    site.limit(Limits { messages_per_hour: Some(100), ..Limits::default() }).await;
    let clamd = Clamd::start().await;
    let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(WhenDown::Defer));
    let mut sent = Vec::new();
    for number in 0..5 {
        let envelope = site.envelope("shop.example", number);
        site.accept(&envelope, if number == 3 { "badness" } else { "hello" }).await;
        assert!(site.reply(envelope.id).await.starts_with("250 "));
        site.clock.advance(Duration::from_millis(10));
        sent.push(envelope);
    }
    site.settled().await;
    site.until_holds(5, |row: &HoldRow| row.unchecked && row.why.starts_with("CLAMAV_DOWN: ")).await;
    assert_eq!(site.released().await, []);
    let verdict = site.find(Topic::Verdicts, |record| verdict_of(record, sent[0].id)).await;
    assert_eq!(verdict.disposition, Disposition::Hold);

    // A crash changes nothing of that; nor does time, while it is away.
    scorer.kill().await;
    let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(WhenDown::Defer));
    site.clock.advance(Duration::from_secs(60));
    let last = site.envelope("shop.example", 5);
    site.accept(&last, "hello").await;
    assert!(site.reply(last.id).await.starts_with("250 "));
    site.until_holds(6, |row| row.unchecked).await;
    assert_eq!(site.released().await, []);
    // It will be judged as what it is then: nothing of it counts as its sender's history until then.
    let is_history = |key: &Bytes| matches!(kind_of_key(key), Some(Kind::History(..)));
    assert!(!site.rows(Topic::Senders).await.keys().any(is_history));

    clamd.is_there.store(true, Ordering::SeqCst);
    let back = async {
        while site.released().await.len() < 5 {
            // Those that were asked about in vain have to wait for their next turn.
            site.clock.advance(Duration::from_secs(10));
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("they are let go");
    let (head, _) = site.find(Topic::Quarantined, judged).await;
    assert_eq!((head.envelope.id, head.message.classification), (sent[3].id, Classification::Virus));
    site.until_holds(0, |_| true).await;
    let mut released = site.released().await;
    released.sort();
    let expected = [&sent[0], &sent[1], &sent[2], &sent[4], &last].map(|envelope| envelope.id);
    assert_eq!(released, expected, "each once");
    let row = site.sender_row("shop.example", None).await.unwrap();
    assert_eq!((row.held, row.released, row.quarantined), (0, 5, 1));
    assert_eq!(
        row.counters.over(site.clock_now(), 1, &Limits { messages_per_hour: Some(6), ..Limits::default() }),
        None
    );
    scorer.stop().await;
    let virus = site.all(Topic::Verdicts).await;
    let judged = virus.iter().filter(|record| classification(record, sent[3].id).is_some()).count();
    assert_eq!(judged, 2, "held first, then blocked");
}

/// More than others are asked about at once: it is taken up in groups, each committed before the next is asked about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_mail_is_taken_up_in_groups_and_leaves_once_whatever_crashes() {
    let site = Site::open().await;
    let clamd = Clamd::start().await;
    clamd.is_there.store(true, Ordering::SeqCst);
    site.set_defaults(r#"{"checks": {"spam": "off"}}"#).await;
    let whole = message(&"a long line of text that says nothing in particular\r\n".repeat(80_000));
    let mut sent = Vec::new();
    // In `bodies`: so small are their records that one poll brings them all.
    for number in 0..20 {
        let mut envelope =
            site.envelope(if number % 2 == 0 { "shop.example" } else { "bakery.example" }, number);
        for (index, chunk) in whole.as_bytes().chunks(700 * 1024).enumerate() {
            let chunk = bodies::chunk(envelope.id, index, Bytes::copy_from_slice(chunk));
            envelope.chunks.extend(site.log.append(vec![chunk]).await.unwrap());
        }
        envelope.size_bytes = whole.len() as u64;
        site.append(Topic::Accepted, &envelope.user, spool::encode(&envelope, b"").unwrap()).await;
        sent.push(envelope.id);
    }
    let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(WhenDown::Defer));
    site.lag_below(19).await;
    scorer.kill().await;
    let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(WhenDown::Defer));
    site.settled().await;
    // Each verdict stands in one step with its message in `released`.
    let released = |record: &eventlog::Record| match serde_json::from_slice(record.value.as_ref()?).ok()? {
        VerdictEvent::Judged(verdict) if verdict.disposition == Disposition::Release => {
            Some(verdict.message.id)
        }
        _ => None,
    };
    let mut released: Vec<_> = site.all(Topic::Verdicts).await.iter().filter_map(released).collect();
    released.sort();
    sent.sort();
    assert_eq!(released, sent, "each once");
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_was_said_of_for_hours_goes_to_quarantine() {
    let site = Site::open().await;
    let clamd = Clamd::start().await;
    let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(WhenDown::Defer));
    let envelope = site.envelope("shop.example", 1);
    site.accept(&envelope, "hello").await;
    site.until_holds(1, |row| row.unchecked).await;
    site.clock.advance(Duration::from_secs(4 * 3600 + 1));
    let (head, _) = site.find(Topic::Quarantined, judged).await;
    assert_eq!((head.envelope.id, head.message.classification), (envelope.id, Classification::Unchecked));
    site.until_holds(0, |_| true).await;
    assert_eq!(site.released().await, []);
    assert!(head.symbols.iter().any(|symbol| symbol.name == "CLAMAV_DOWN" && !symbol.evidence.is_empty()));
    scorer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_engine_mail_is_judged_without_it_or_refused() {
    for (when_down, reply, expected) in [
        (WhenDown::Ignore, "250 2.0.0 queued as ", Classification::Clean),
        (WhenDown::Reject, "550 5.7.1 Blocked: could not be checked, ref ", Classification::Unchecked),
    ] {
        let site = Site::open().await;
        let clamd = Clamd::start().await;
        let scorer = site.start_asking(Arc::clone(&site.log), 1, clamd.asked(when_down));
        for number in 0..20 {
            let envelope = site.envelope("shop.example", number);
            site.accept(&envelope, "hello").await;
            assert!(site.reply(envelope.id).await.starts_with(reply));
            let verdict = site.find(Topic::Verdicts, |record| verdict_of(record, envelope.id)).await;
            assert_eq!(verdict.message.classification, expected);
            assert_eq!(verdict.symbols.iter().filter(|symbol| symbol.name == "CLAMAV_DOWN").count(), 1);
        }
        scorer.stop().await;
        // No abuse: nobody is locked for it.
        let locks = site.all(Topic::Verdicts).await.into_iter().filter(|record| {
            matches!(serde_json::from_slice(record.value.as_ref().unwrap()), Ok(VerdictEvent::Lock { .. }))
        });
        assert_eq!(locks.count(), 0);
    }
}
