//! CPU time to judge one message, without the log: `cargo bench -p scorer`. One line per kind of message, the best of
//! several rounds, since anything else on the machine only ever adds.

use std::hint::black_box;
use std::time::Instant;

use schemas::{Position, Timestamp, Topic, spool};
use scorer::Case;
use scorer::Classifier;
use scorer::policy::Policy;
use scorer::state::Senders;

const ROUNDS: usize = 20;
const MESSAGES: usize = 500;
const AT: Timestamp = Timestamp(1_795_512_600_000);

fn main() {
    println!("{:<28} {:>8} {:>10} {:>12}", "message", "bytes", "judge µs", "with JSON µs");
    for (name, message) in [
        ("text, 10 KiB", text(10 * 1024)),
        ("alternative + html, 10 KiB", alternative(10 * 1024)),
        ("cPanel fields, 10 KiB", cpanel(10 * 1024)),
        ("base64 attachment, 100 KiB", attachment(100 * 1024)),
        ("base64 attachment, 5 MiB", attachment(5 * 1024 * 1024)),
        ("false boundaries, 5 MiB", false_boundaries(5 * 1024 * 1024)),
        ("1,000 messages in one, 5 MiB", nested(5 * 1024 * 1024)),
    ] {
        let rounds = if message.len() > 1_000_000 { 3 } else { ROUNDS };
        let (judge, whole) = measure(&message, rounds);
        println!("{name:<28} {:>8} {judge:>10.1} {whole:>12.1}", message.len());
    }
}

/// Microseconds for the verdict alone, and with the envelope read and the records written as JSON.
fn measure(message: &[u8], rounds: usize) -> (f64, f64) {
    let classifier = Classifier::shipped().expect("the shipped model can be read");
    let template = scorer::score_message(message, &classifier, AT);
    let policy = Policy::default_for_files();
    let senders = Senders::default();
    let accepted = Position { topic: Topic::Accepted, partition: 0, offset: 1 };
    let envelope = schemas::Envelope {
        id: template.verdict.message.id,
        accepted_at: AT,
        node: "node1".into(),
        reply_partition: Some(0),
        user: template.verdict.message.user.clone(),
        domain: template.verdict.message.domain.clone(),
        client: template.verdict.client.clone(),
        reverse_path: template.verdict.message.reverse_path.clone(),
        recipients: Vec::new(),
        ret: None,
        envid: None,
        body_type: schemas::envelope::BodyType::SevenBit,
        smtputf8: false,
        size_bytes: message.len() as u64,
        chunks: Vec::new(),
        origin: None,
    };
    let record = spool::encode(&envelope, message).expect("an envelope can be written as JSON");
    let messages = if message.len() > 1_000_000 { 5 } else { MESSAGES };
    let best = |work: &dyn Fn()| {
        let round = || {
            let started = Instant::now();
            for _ in 0..messages {
                work();
            }
            started.elapsed().as_secs_f64() * 1e6 / messages as f64
        };
        (0..rounds).map(|_| round()).fold(f64::MAX, f64::min)
    };
    let findings = scorer::outside::Findings::default();
    let judge = best(&|| {
        let case = Case { envelope: &envelope, message: black_box(message), policy: &policy };
        black_box(scorer::judge(&case, &findings, accepted, &senders, &classifier, AT));
    });
    let whole = best(&|| {
        let (envelope, message): (schemas::Envelope, _) =
            spool::decode(black_box(&record)).expect("written above");
        let case = Case { envelope: &envelope, message: &message, policy: &policy };
        let judgement = scorer::judge(&case, &findings, accepted, &senders, &classifier, AT);
        let verdict = judgement.verdict;
        let head = schemas::verdict::Judged {
            envelope,
            message: verdict.message.clone(),
            score: verdict.score,
            symbols: verdict.symbols.clone(),
            remove_fields: judgement.remove_fields,
            released_by: None,
            kept: false,
        };
        black_box(spool::encode(&head, &message).expect("can be written as JSON"));
        let event = schemas::verdict::VerdictEvent::Judged(verdict);
        black_box(serde_json::to_vec(&event).expect("can be written as JSON"));
    });
    (judge, whole)
}

const HEADER: &str = "Received: from [198.51.100.7] (unknown [198.51.100.7])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n\t(Authenticated sender: alice@shop.example)\r\n\tby mail.shop.example (Postfix) with ESMTPSA id 4626FFF809;\r\n\tTue, 24 Nov 2026 09:29:59 +0000 (UTC)\r\nFrom: \"Alice of the shop\" <alice@shop.example>\r\nTo: Bob <bob@elsewhere.example>\r\nDate: Tue, 24 Nov 2026 09:29:58 +0000\r\nSubject: =?utf-8?q?Ihre_Bestellung_f=C3=BCr_November?=\r\nMessage-ID: <20261124092958.4626FFF809@mail.shop.example>\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:91.0) Gecko/20100101 Thunderbird/91.8.0\r\nMIME-Version: 1.0\r\nContent-Language: de-DE\r\n";

fn filler(bytes: usize) -> String {
    "The quick brown fox jumps over the lazy dog, and does so until the line is full.\r\n".repeat(bytes / 83)
}

fn text(bytes: usize) -> Vec<u8> {
    format!("{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n{}", filler(bytes - 1000)).into_bytes()
}

fn cpanel(bytes: usize) -> Vec<u8> {
    let fields = "X-AntiAbuse: This header was added to track abuse, please include it with any abuse report\r\nX-AntiAbuse: Primary Hostname - cp1.hoster.example\r\nX-AntiAbuse: Original Domain - elsewhere.example\r\nX-AntiAbuse: Originator/Caller UID/GID - [47 12] / [47 12]\r\nX-AntiAbuse: Sender Address Domain - shop.example\r\nX-Get-Message-Sender-Via: cp1.hoster.example: authenticated_id: alice@shop.example\r\nX-Authenticated-Sender: cp1.hoster.example: alice@shop.example\r\nX-Source: \r\nX-Source-Args: \r\nX-Source-Dir: \r\n";
    format!("{HEADER}Content-Type: text/plain\r\n{fields}\r\n{}", filler(bytes - 1600)).into_bytes()
}

fn alternative(bytes: usize) -> Vec<u8> {
    let half = filler((bytes - 1300) / 2);
    format!(
        "{HEADER}Content-Type: multipart/alternative; boundary=\"=_b1\"\r\n\r\n--=_b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{half}--=_b1\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body>{half}</body></html>\r\n--=_b1--\r\n"
    )
    .into_bytes()
}

fn attachment(bytes: usize) -> Vec<u8> {
    let line = format!("{}\r\n", "JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSL0ZpbHRlci9GbGF0");
    format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=\"=_b1\"\r\n\r\n--=_b1\r\nContent-Type: text/plain\r\n\r\nattached\r\n--=_b1\r\nContent-Type: application/pdf; name=\"invoice.pdf\"\r\nContent-Disposition: attachment; filename=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--=_b1--\r\n",
        line.repeat(bytes / line.len())
    )
    .into_bytes()
}

/// The most that a pass over boundaries can cost: many are open, and every line looks like one.
fn false_boundaries(bytes: usize) -> Vec<u8> {
    let mut message = HEADER.to_owned();
    for depth in 0..40 {
        let start = if depth == 0 { String::new() } else { format!("--b{}\r\n", depth - 1) };
        message.push_str(&format!("{start}Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n"));
    }
    message.push_str(&"--c\r\n".repeat(bytes / 5));
    message.into_bytes()
}

fn nested(bytes: usize) -> Vec<u8> {
    let part = format!("--b\r\nContent-Type: message/rfc822\r\n\r\n{}", "A: 1\r\n".repeat(bytes / 6000));
    format!("{HEADER}Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(1000)).into_bytes()
}
