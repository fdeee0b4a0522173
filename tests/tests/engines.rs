//! Rspamd, SpamAssassin and ClamAV beside Mailweir's own scorer: what they find counts, and what befalls them costs no mail
//! and little time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use mailweir_tests::engines::{EICAR, Engine, Kind, MARKER};
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{smtp, wait};

const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
/// Half of it is the deadline of the engines.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(3);
/// What a message may take beyond the deadline, on a busy machine.
const MARGIN: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(60);

fn node(sink: &Sink, scorer: String) -> Mailweir {
    let settings = "[defaults]\nautomatic_lock = { identity = false }\n[[domain]]\nname = \"shop.example\"\n\
         [[outgoing_user]]\ndomain = \"shop.example\"\nip = \"127.0.0.1/32\"\n";
    let delivery = format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", sink.port);
    let ingress = "verdict_timeout = \"3s\"".to_owned();
    Mailweir::start(&Setup { delivery, ingress, scorer, ..Setup::default() }, settings)
}

/// Sends `count` messages, one after the other; the longest that one took.
fn send_some(node: &Mailweir, sink: &Sink, count: usize) -> Duration {
    let before = arrived(sink);
    let mut longest = Duration::ZERO;
    for number in 0..count {
        let began = Instant::now();
        let reply =
            send(node, &format!("ok{before}-{number}@receiver.example"), "Hello, the minutes are attached.");
        longest = longest.max(began.elapsed());
        assert!(reply.starts_with("250"), "{reply}");
    }
    wait::until("none is lost", PATIENCE, || (arrived(sink) == before + count).then_some(()));
    longest
}

/// Waits until an engine is asked about mail and answers.
fn until_used(node: &Mailweir, sink: &Sink, kind: Kind) {
    wait::until(&format!("{kind:?} is used"), PATIENCE, || {
        let of = || (metric(node, "seconds_count", kind), metric(node, "failures_total", kind));
        let (asked, failed) = of();
        send_some(node, sink, 1);
        (of() == (asked + 1, failed) && metric(node, "down", kind) == 0).then_some(())
    });
}

/// Mail while an engine is in trouble: at first it costs some messages the deadline, then none anything.
fn in_trouble(node: &Mailweir, sink: &Sink, kind: Kind) {
    wait::until(&format!("{kind:?} is left alone"), PATIENCE, || {
        let longest = send_some(node, sink, 1);
        assert!(longest < VERDICT_TIMEOUT / 2 + MARGIN, "{kind:?}: {longest:?}");
        (metric(node, "down", kind) == 1).then_some(())
    });
    let longest = send_some(node, sink, 15);
    assert!(longest < VERDICT_TIMEOUT / 2, "{kind:?}: {longest:?}");
}

fn table(engine: &Engine, more: &str) -> String {
    let address = format!("127.0.0.1:{}", engine.port);
    match engine.kind {
        Kind::Rspamd => format!("[scorer.rspamd]\nurl = \"http://{address}\"\n{more}\n"),
        other => format!("[scorer.{}]\naddress = \"{address}\"\n{more}\n", other.code()),
    }
}

fn send(node: &Mailweir, to: &str, body: &str) -> String {
    let message = smtp::message("Office <office@shop.example>", to, "Minutes of the meeting", body);
    smtp::send(node.port, "office@shop.example", &[to], &message).expect("a reply")
}

/// A message with a file.
fn send_attached(node: &Mailweir, file: &str) -> String {
    let to = "ok@receiver.example";
    let file = base64::engine::general_purpose::STANDARD.encode(file);
    let body = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nSee what is attached.\r\n--b\r\nContent-Type: application/octet-stream\r\n\
         Content-Disposition: attachment; filename=minutes.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n{file}\r\n--b--"
    );
    let mut message = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n".to_vec();
    message.extend(smtp::message("Office <office@shop.example>", to, "Minutes of the meeting", &body));
    smtp::send(node.port, "office@shop.example", &[to], &message).expect("a reply")
}

/// The trace of the message that a reply names.
fn trace(node: &Mailweir, reply: &str) -> String {
    let id = reply.trim().rsplit(' ').next().expect("an id");
    wait::until("it is in the log", PATIENCE, || {
        node.ask(&["log", "--limit", "100"]).contains(id).then_some(())
    });
    node.trace(id)
}

/// Mail that arrived, without reports to the abuse desk.
fn arrived(sink: &Sink) -> usize {
    sink.recipients().iter().filter(|recipient| recipient.starts_with("ok")).count()
}

/// The value of a metric of an engine.
fn metric(node: &Mailweir, name: &str, kind: Kind) -> u64 {
    let (_, text) = node.get("/metrics").expect("metrics");
    let wanted = format!("mailweir_scorer_engine_{name}{{engine=\"{}\"}} ", kind.code());
    let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
    line.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
fn each_engine_finds_what_is_its_own() {
    let sink = Sink::start();
    let engines = [Kind::Rspamd, Kind::Spamd, Kind::Clamd].map(Engine::start);
    let scorer =
        table(&engines[0], "weights = { GTUBE = 0.9 }") + &table(&engines[1], "") + &table(&engines[2], "");
    let node = node(&sink, scorer);
    let checked = node.ask(&["check"]);
    assert_eq!(checked.matches(": it answers").count(), 3, "{checked}");

    let reply = send(&node, "ok@receiver.example", "Hello, the minutes are attached.");
    assert!(reply.starts_with("250"), "{reply}");
    let seen = trace(&node, &reply);
    assert!(seen.contains("SPAMASSASSIN") && !seen.contains("_DOWN"), "{seen}");
    wait::until("it arrives", PATIENCE, || (arrived(&sink) == 1).then_some(()));

    let reply = send(&node, "ok@receiver.example", GTUBE);
    assert!(reply.starts_with("550 5.7.1 Blocked as spam"), "{reply}");
    let seen = trace(&node, &reply);
    assert!(seen.contains("RSPAMD_GTUBE"), "{seen}");
    assert!(seen.contains("1000.0 of 5.0: GTUBE"), "{seen}");

    for (file, signature) in [(MARKER, "Mailweir.Marker"), (EICAR, "Mailweir.Eicar")] {
        let reply = send_attached(&node, file);
        assert!(reply.starts_with("550 5.7.1 Blocked as virus"), "{reply}");
        let seen = trace(&node, &reply);
        assert!(seen.contains("CLAMAV") && seen.contains(signature), "{seen}");
    }
    assert_eq!(arrived(&sink), 1);
    assert_eq!(metric(&node, "down", Kind::Clamd), 0);
    assert!(metric(&node, "seconds_count", Kind::Rspamd) >= 4);
}

fn each_with_its_troubles(kind: Kind) {
    let sink = Sink::start();
    let mut engine = Engine::start(kind);
    let node = node(&sink, table(&engine, ""));
    until_used(&node, &sink, kind);

    engine.signal("STOP");
    in_trouble(&node, &sink, kind);
    engine.signal("CONT");
    until_used(&node, &sink, kind);

    engine.kill();
    in_trouble(&node, &sink, kind);
    engine.run();
    until_used(&node, &sink, kind);

    let raving = engine.rave();
    in_trouble(&node, &sink, kind);
    drop(raving);
    engine.run();
    until_used(&node, &sink, kind);

    // Slow, but not too slow to answer: it stands still most of the time.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                engine.signal("STOP");
                std::thread::park_timeout(Duration::from_millis(500));
                engine.signal("CONT");
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        let longest = send_some(&node, &sink, 15);
        is_over.store(true, Ordering::Relaxed);
        assert!(longest < VERDICT_TIMEOUT / 2 + MARGIN, "{longest:?}");
    });
    until_used(&node, &sink, kind);
}

#[test]
fn a_troubled_rspamd_costs_no_mail_and_little_time() {
    each_with_its_troubles(Kind::Rspamd);
}

#[test]
fn a_troubled_spamassassin_costs_no_mail_and_little_time() {
    each_with_its_troubles(Kind::Spamd);
}

#[test]
fn a_troubled_clamav_costs_no_mail_and_little_time() {
    each_with_its_troubles(Kind::Clamd);
}

#[test]
fn a_session_that_clamav_ended_for_idleness_costs_no_message_its_answer() {
    let sink = Sink::start();
    let engine = Engine::start_with(Kind::Clamd, "ReadTimeout 2\nIdleTimeout 2\n");
    let node = node(&sink, table(&engine, ""));
    for asked in 0..3 {
        let reply = send(&node, "ok@receiver.example", "Hello, the minutes are attached.");
        assert!(reply.starts_with("250"), "{reply}");
        let seen = trace(&node, &reply);
        assert!(!seen.contains("CLAMAV_DOWN"), "{asked}: {seen}");
        wait::until("it ends the session", PATIENCE, || engine.has_hung_up().then_some(()));
    }
    let reply = send_attached(&node, MARKER);
    assert!(reply.starts_with("550 5.7.1 Blocked as virus"), "{reply}");
    let of = |name| metric(&node, name, Kind::Clamd);
    assert_eq!((of("seconds_count"), of("failures_total"), of("down")), (4, 0, 0));
}

#[test]
fn what_clamav_must_see_waits_for_it_or_is_refused() {
    let sink = Sink::start();
    let mut engine = Engine::start(Kind::Clamd);
    let mut node = node(&sink, table(&engine, "when_down = \"defer\""));
    engine.kill();
    assert!(send(&node, "ok@receiver.example", "Hello").starts_with("250"));
    assert!(send_attached(&node, MARKER).starts_with("250"), "nobody could know");
    wait::until("both are held", PATIENCE, || (node.json(&["held"])["total"] == 2).then_some(()));
    assert!(node.ask(&["held"]).contains("CLAMAV_DOWN"));
    node.kill();
    node.run();
    engine.run();
    wait::until("one leaves", PATIENCE, || (arrived(&sink) == 1).then_some(()));
    wait::until("the other one is blocked", PATIENCE, || {
        let quarantine = node.ask(&["quarantine"]);
        quarantine.contains("virus").then_some(())
    });
    assert_eq!((node.json(&["held"])["total"].as_u64(), arrived(&sink)), (Some(0), 1));

    let rejecting =
        std::fs::read_to_string(node.config()).expect("its configuration").replace("\"defer\"", "\"reject\"");
    std::fs::write(node.config(), rejecting).expect("its configuration");
    engine.kill();
    node.terminate();
    node.run();
    let reply = send(&node, "ok@receiver.example", "Hello");
    assert!(reply.starts_with("550 5.7.1 Blocked: could not be checked, ref "), "{reply}");
    assert_eq!(arrived(&sink), 1);
}
