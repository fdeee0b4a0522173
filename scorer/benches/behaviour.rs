//! What the history of senders costs a message, in CPU time and in what is written: `cargo bench -p scorer --bench behaviour`.

use std::hint::black_box;
use std::time::Instant;

use schemas::envelope::Recipient;
use schemas::history::Fingerprint;
use schemas::verdict::Identity;
use schemas::{Envelope, Mailbox, Timestamp};
use scorer::behaviour::{self, Sighting};
use scorer::classifier::fingerprint;
use scorer::classifier::words::Words;
use scorer::facts::Facts;
use scorer::state::{Fate, Senders};

const MESSAGES: usize = 20_000;
const AT: i64 = 1_795_512_600_000;

fn main() {
    let classifier = scorer::Classifier::shipped().expect("the shipped model can be read");
    let text: Vec<String> = (0..1700).map(|n| format!("word{}", (n * n * 7) % 3001)).collect();
    let words = Words::of(&text.join(" "), false);
    let started = Instant::now();
    for _ in 0..MESSAGES {
        black_box(fingerprint::of(black_box(&words)));
    }
    println!("fingerprint of 10 KiB of text: {:.1} µs", micros(started));

    println!("{:<44} {:>8} {:>8} {:>8} {:>8}", "sender", "judge µs", "note µs", "write µs", "bytes");
    for (name, identities, recipients, batch) in [
        ("100 identities, one known recipient", 100, Some(50), 256),
        ("100 identities, each message to a stranger", 100, None, 256),
        ("the same, one message a commit", 100, None, 1),
        ("one identity, each message to a stranger", 1, None, 256),
        ("the same, one message a commit", 1, None, 1),
    ] {
        let [judge, note, write, bytes] = measure(&classifier, identities, recipients, batch);
        println!("{name:<44} {judge:>8.1} {note:>8.1} {write:>8.1} {bytes:>8.0}");
    }
}

/// For each message: microseconds, and bytes of the rows.
fn measure(
    classifier: &scorer::Classifier,
    identities: usize,
    recipients: Option<usize>,
    batch: usize,
) -> [f64; 4] {
    let raw = b"From: a@shop.example\r\n\r\nx";
    let judged = scorer::score_message(raw, classifier, Timestamp(AT)).verdict;
    let mut envelope = envelope(&judged);
    let mut senders = Senders::default();
    let (mut judge, mut note, mut write, mut bytes) = (0.0, 0.0, 0.0, 0);
    for number in 0..MESSAGES {
        let to = recipients.map_or(number, |among| number % among);
        let forward_path = Mailbox::parse(&format!("r{to}@domain{}.example", to % 500)).expect("a mailbox");
        envelope.recipients = vec![Recipient { forward_path, notify: None, orcpt: None }];
        // Some weeks go by.
        envelope.accepted_at = Timestamp(AT + number as i64 * 150_000);
        let mut message = judged.message.clone();
        message.accepted_at = envelope.accepted_at;
        message.identity = Identity(format!("account-{}@shop.example", number % identities));
        // No two texts are alike.
        let text = Fingerprint(std::array::from_fn(|at| 1 + ((number * (31 + at)) % 255) as u8));
        let facts = Facts::of(&envelope, raw);

        let started = Instant::now();
        let sighting = Sighting::of(&facts, false, "user", Some(text)).expect("a client's mail");
        let known = senders.known(&message.user, &message.identity, message.accepted_at);
        black_box(behaviour::symbols(&sighting, &known, message.accepted_at));
        judge += micros(started);
        let started = Instant::now();
        senders.note_behaviour(&message, &sighting, Fate::Released);
        note += micros(started);
        senders.count(&message, None, Fate::Released);
        if number % batch == 0 {
            let started = Instant::now();
            bytes += senders.histories.take_dirty().iter().map(|(_, _, value)| value.len()).sum::<usize>();
            write += micros(started);
        }
    }
    // `micros` is for each of all messages already.
    [judge, note, write, bytes as f64 / MESSAGES as f64]
}

fn envelope(judged: &schemas::verdict::Verdict) -> Envelope {
    Envelope {
        id: judged.message.id,
        accepted_at: judged.at,
        node: "node1".into(),
        reply_partition: None,
        user: judged.message.user.clone(),
        domain: judged.message.domain.clone(),
        client: judged.client.clone(),
        reverse_path: judged.message.reverse_path.clone(),
        recipients: Vec::new(),
        ret: None,
        envid: None,
        body_type: schemas::envelope::BodyType::SevenBit,
        smtputf8: false,
        size_bytes: 0,
        chunks: Vec::new(),
        origin: None,
    }
}

/// Microseconds since then, for each of all messages.
fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6 / MESSAGES as f64
}
