//! What each target does with its bytes: run the parser, and check what must hold of every answer.

use bytes::{Bytes, BytesMut};
use schemas::{Position, ReversePath, Timestamp, Topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

thread_local! {
    /// Made once: a run of a target must cost what its input costs.
    static CLASSIFIER: scorer::Classifier = scorer::Classifier::shipped().expect("the shipped model can be read");
}

/// Runs a target by its name; `false` when there is none.
pub fn run(target: &str, data: &[u8]) -> bool {
    match target {
        "command" => command(data),
        "content" => content(data),
        "unstuff" => unstuff(data),
        "proxy" => proxy(data),
        "header" => header(data),
        "event" => event(data),
        _ => return false,
    }
    true
}

/// A command line: what parses has no control character left in it, what does not gets a permanent reply of one line.
pub fn command(data: &[u8]) {
    use ingress::session::command::{Command, ForwardPath, parse};
    match parse(data) {
        Ok(
            Command::Mail { path: ReversePath::Mailbox(path), .. }
            | Command::Rcpt { path: ForwardPath::Mailbox(path), .. },
        ) => {
            let text = path.to_string();
            assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
            assert_eq!(schemas::Mailbox::parse(&text).as_ref(), Ok(&path));
        }
        Ok(_) => {}
        Err(problem) => {
            let reply = problem.reply();
            assert!(reply.is_permanent() && !reply.text.contains(['\r', '\n']), "{reply:?}");
        }
    }
}

/// The content of a message: decoded, taken apart and classified; the same every time, explained with what was seen.
pub fn content(data: &[u8]) {
    CLASSIFIER.with(|classifier| {
        let probability = scorer::spam_probability(data, classifier);
        assert!((0.0..=1.0).contains(&probability), "{probability}");
        assert!(probability.to_bits() == scorer::spam_probability(data, classifier).to_bits());
    });
    assert!(scorer::transfer::base64(data, 4096).len() <= 4096);
    assert!(scorer::transfer::quoted_printable(data, 4096).len() <= 4096);
    let text = String::from_utf8_lossy(data);
    let html = scorer::classifier::html::Html::read(&text);
    // Entities are the one thing that grows: three octets of reference for a character of up to four.
    assert!(html.text.len() + html.hidden.len() <= text.len() * 3 + 16);
    for address in scorer::classifier::links::in_text(&text, 50) {
        let _ = scorer::classifier::links::WebAddress::parse(address);
    }
}

/// DATA: the same however the input is cut; ended by CRLF . CRLF and nothing else; what delivery sends for the message is
/// the same message to the next server, and ends where it ends.
pub fn unstuff(data: &[u8]) {
    let whole = unstuffed(data, data.len().max(1));
    for piece in [1, 2, 3, 7] {
        assert_eq!(unstuffed(data, piece), whole, "in pieces of {piece}");
    }
    let (message, consumed, done, bare) = whole;
    let first_end = data.windows(5).position(|w| w == b"\r\n.\r\n").map(|at| at + 5);
    let end = if data.starts_with(b".\r\n") { Some(3) } else { first_end };
    assert_eq!(done.then_some(consumed), end, "the end");
    if done && !bare {
        let mut sent = Vec::new();
        delivery::stuffing::stuff(&[&message], &mut sent);
        let again = unstuffed(&sent, sent.len());
        assert_eq!(again, (message, sent.len(), true, false), "sent on");
    }
}

fn unstuffed(data: &[u8], piece: usize) -> (Vec<u8>, usize, bool, bool) {
    let mut unstuffer = ingress::data::Unstuffer::default();
    let mut message = BytesMut::new();
    let (mut consumed, mut done) = (0, false);
    for input in data.chunks(piece) {
        let taken = unstuffer.take(input, &mut message);
        consumed += taken.consumed;
        done = taken.done;
        if done {
            break;
        }
        assert_eq!(taken.consumed, input.len(), "all of it belongs to the message");
    }
    (message.to_vec(), consumed, done, unstuffer.has_bare_line_end())
}

/// A PROXY header: never longer than its input, and no beginning of one is another one.
pub fn proxy(data: &[u8]) {
    use ingress::proxy::{Parsed, parse};
    if let Parsed::Header { length, .. } = parse(data) {
        assert!(length <= data.len());
        assert_eq!(parse(&data[..length]), parse(data), "what follows the header is none of it");
        for cut in [length / 2, length - 1] {
            assert!(!matches!(parse(&data[..cut]), Parsed::Header { .. }), "cut at {cut}");
        }
    }
}

/// A message: header section, MIME structure, and the whole judgement of it; and delivery's reading of the same.
pub fn header(data: &[u8]) {
    let section = scorer::header::HeaderSection::split(data);
    assert!(section.body_at() <= data.len());
    for field in section.fields() {
        assert!(!field.text().contains(['\r', '\n']));
    }
    let structure = scorer::mime::Structure::of(data, &section);
    for part in &structure.parts {
        let _ = (part.decoded_start(4096), part.is_text());
    }
    let judgement =
        CLASSIFIER.with(|classifier| scorer::score_message(data, classifier, Timestamp(1_795_512_600_000)));
    assert!(judgement.verdict.score.is_finite());
    let (head, body) = delivery::header::split(data);
    assert!(head <= body && body <= data.len());
    for field in delivery::header::fields(&data[..head]) {
        assert!(field.name.end <= head);
    }
    if let Some(converted) = delivery::convert::to_7bit(data) {
        assert!(converted.is_ascii());
    }
}

/// A record: every type reads it or says why not; what was read is the same when written and read again.
pub fn event(data: &[u8]) {
    again::<schemas::Envelope>(data);
    again::<schemas::attempt::AttemptEvent>(data);
    again::<schemas::commands::Command>(data);
    again::<schemas::quarantine::QuarantineState>(data);
    reads::<schemas::models::ModelRecord>(data);
    again::<schemas::queue::QueueEntry>(data);
    again::<schemas::reply::Reply>(data);
    again::<schemas::senders::SenderRow>(data);
    again::<schemas::history::Contacts>(data);
    again::<schemas::history::Arrivals>(data);
    again::<schemas::history::Text>(data);
    again::<schemas::session::SessionRefusals>(data);
    again::<schemas::settings::Change>(data);
    // These have fractions, whose text may change in the last digit.
    reads::<schemas::history::Rates>(data);
    reads::<schemas::verdict::VerdictEvent>(data);
    reads::<schemas::verdict::Judged>(data);
    reads::<schemas::quarantine::QuarantineRow>(data);
    reads::<schemas::settings::Setting>(data);
    let record = Bytes::copy_from_slice(data);
    let _ = schemas::spool::decode::<schemas::Envelope>(&record);
    let _ = schemas::spool::decode::<schemas::verdict::Judged>(&record);
    for topic in [Topic::Verdicts, Topic::Attempts] {
        let position = Position { topic, partition: 0, offset: 0 };
        let _ = reporter::rows::change_of(position, data);
    }
    let mut settings = schemas::settings::SettingsView::default();
    let _ = settings.apply(b"key", Some(data), 0);
    let mut models = schemas::models::ModelsView::default();
    let _ = models.apply(b"delta/1", Some(data));
    let mut senders = schemas::senders::SendersView::default();
    let _ = senders.apply(b"key", Some(data));
}

fn reads<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<Vec<u8>> {
    let record: T = serde_json::from_slice(data).ok()?;
    // An enum's arm for later versions is read, never written; it writes as a name of its own.
    Some(serde_json::to_vec(&record).expect("what was read can be written"))
}

fn again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Some(written) = reads::<T>(data) else { return };
    let (was, is) = (serde_json::from_slice::<T>(data), serde_json::from_slice::<T>(&written));
    let is = is.unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&written)));
    assert_eq!(was.ok(), Some(is));
}
