//! The whole loop on the embedded log: 10 KiB messages to strangers that wait in `accepted` are judged and committed; also with 200
//! From domains looked up in DNS (a server in the same process, whose time is counted). `cargo bench -p scorer --bench run`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Clock, Log, NewRecord, SystemClock, View};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};
use prometheus_client::registry::Registry;
use schemas::settings::SettingsView;
use schemas::{MessageId, Topic, UserId, spool};
use scorer::outside::alignment::{Alignment, Node};
use scorer::outside::{Outside, dns};
use scorer::{Config, Metrics};
use tokio_util::sync::CancellationToken;

const MESSAGES: usize = 20_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for (slots, aligned) in [(1, false), (1, true), (2, false), (2, true)] {
        let (rate, cpu) = measure(slots, aligned).await;
        let asked = if aligned { ", From domains looked up" } else { "" };
        println!("{slots} members: {rate:.0} messages/s, {cpu:.3} CPU ms a message, log included{asked}");
    }
}

async fn measure(slots: usize, aligned: bool) -> (f64, f64) {
    let directory = tempfile::tempdir().expect("a directory for the log");
    let log: Log = EmbeddedLog::open(EmbeddedConfig::new(directory.path()), Arc::new(SystemClock))
        .expect("the log opens");
    fill(&log).await;
    let shutdown = CancellationToken::new();
    let settings = eventlog::view::settings(Arc::clone(&log), shutdown.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new(&mut Registry::default());
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let outside = Arc::new(if aligned { alignment(&settings).await } else { Outside::default() });
    let config = Config { slots, outside, ..Config::new("node1", classifier()) };
    let scorer =
        tokio::spawn(scorer::run(config, Arc::clone(&log), clock, settings, metrics, shutdown.clone()));
    while log.lag("scorer", Topic::Accepted).await.expect("the lag is known") > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    shutdown.cancel();
    scorer.await.expect("no panic").expect("a clean end");
    log.close().await;
    (MESSAGES as f64 / took, cpu * 1000.0 / MESSAGES as f64)
}

async fn alignment(settings: &View<SettingsView>) -> Outside {
    let server = name_server().await;
    let resolver = dns::resolver(&[server]).expect("a resolver");
    let addresses = vec![std::net::Ipv4Addr::new(192, 0, 2, 10).into()];
    let node = Node { hostname: "node1.example".into(), addresses };
    let alignment = Alignment::new(resolver, settings.clone(), node);
    Outside { alignment: Some(Arc::new(alignment)), ..Outside::default() }
}

/// Answers each question for text with an SPF or a DMARC record.
async fn name_server() -> std::net::SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut packet = [0u8; 1500];
        while let Ok((len, client)) = socket.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..len]).expect("a question");
            let query = question.queries.first().expect("a question").clone();
            let is_dmarc = query.name().to_ascii().starts_with("_dmarc");
            let text = if is_dmarc { "v=DMARC1; p=reject" } else { "v=spf1 ip4:192.0.2.10 -all" };
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            let data = RData::TXT(TXT::new(vec![text.to_owned()]));
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            answer.add_query(query);
            let _ = socket.send_to(&answer.to_vec().expect("an answer"), client).await;
        }
    });
    address
}

fn classifier() -> Arc<scorer::Classifier> {
    Arc::new(scorer::Classifier::shipped().expect("the shipped model can be read"))
}

async fn fill(log: &Log) {
    let line = "The quick brown fox jumps over the lazy dog, and does so until the line is full.\r\n";
    let message_of = |shop: usize| {
        format!(
            "From: a@shop{shop}.example\r\nDate: {}\r\nSubject: bench\r\n\r\n{}",
            SystemClock.now().rfc5322(),
            line.repeat(120)
        )
    };
    let message = message_of(0);
    let template = scorer::score_message(message.as_bytes(), &classifier(), SystemClock.now()).verdict;
    for batch in 0..MESSAGES / 100 {
        let records = (0..100).map(|n| {
            let shop = (batch * 100 + n) % 200;
            let message = message_of(shop);
            let sender = schemas::Mailbox::parse(&format!("a@shop{shop}.example")).expect("an address");
            let user = UserId(format!("user{}.example", n % 20));
            let envelope = schemas::Envelope {
                id: MessageId::derived(&format!("{batch} {n}"), template.at),
                accepted_at: template.at,
                node: "node1".into(),
                reply_partition: Some(0),
                user: user.clone(),
                domain: template.message.domain.clone(),
                client: template.client.clone(),
                reverse_path: schemas::ReversePath::Mailbox(sender),
                recipients: vec![schemas::envelope::Recipient {
                    forward_path: schemas::Mailbox::parse(&format!("r{batch}@domain{n}.example"))
                        .expect("a mailbox"),
                    notify: None,
                    orcpt: None,
                }],
                ret: None,
                envid: None,
                body_type: schemas::envelope::BodyType::SevenBit,
                smtputf8: false,
                size_bytes: message.len() as u64,
                chunks: Vec::new(),
                origin: None,
            };
            let value =
                spool::encode(&envelope, message.as_bytes()).expect("an envelope can be written as JSON");
            NewRecord::new(Topic::Accepted, user.0, envelope.id.to_string(), value)
        });
        log.append(records.collect()).await.expect("the log takes it");
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, 14 and 15 of proc(5), in ticks of 10 ms
    (ticks(11) + ticks(12)) / 100.0
}
