//! Large messages, many recipients, many connections.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp;

fn settings(max_connections: u32) -> String {
    format!(
        "[defaults]\nmax_connections = {max_connections}\n[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n"
    )
}

fn node(sink: &Sink, max_connections: u32) -> Mailweir {
    let delivery = format!("relay_host = \"127.0.0.1:{}\"", sink.port);
    Mailweir::start(&Setup { delivery, ..Setup::default() }, &settings(max_connections))
}

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn fifty_mebibytes_arrive_byte_for_byte_and_one_byte_more_is_refused() {
    let sink = Sink::start();
    let node = node(&sink, 10);
    let limit = 50 * 1024 * 1024;
    let mut message = smtp::message("x@a.example", "ok@b.example", "large", "begin");
    let line: Vec<u8> = (0..76).map(|n| b'a' + n % 26).chain(*b"\r\n").collect();
    while message.len() + line.len() <= limit {
        message.extend_from_slice(&line);
    }
    let rest = limit - message.len();
    message.extend(std::iter::repeat_n(b'z', rest.saturating_sub(2)));
    message.extend_from_slice(b"\r\n");
    message.truncate(limit.max(message.len() - 2));
    assert_eq!(message.len(), limit);
    let reply = smtp::send(node.port, "x@a.example", &["ok@b.example"], &message).expect("sent");
    assert!(reply.starts_with("250"), "{reply}");
    node.wait_for_outcomes(1, Duration::from_secs(60));
    let received = sink.received().remove(0);
    let body = |m: &[u8]| {
        m.windows(8).position(|w| w == b"\r\n\r\nbegi").map(|at| m[at..].to_vec()).expect("the body")
    };
    assert!(body(&received.message) == body(&message), "the body is another");
    message.push(b'z');
    let reply = smtp::send(node.port, "x@a.example", &["ok@b.example"], &message).expect("sent");
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    println!("50 MiB through: {} MiB resident", resident_kib(node.pid()) / 1024);
}

#[test]
fn a_thousand_recipients_in_one_message_and_not_one_more() {
    let sink = Sink::start();
    let node = node(&sink, 10);
    let recipients: Vec<String> = (0..1000).map(|n| format!("ok{n}@b.example")).collect();
    let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let message = smtp::message("x@a.example", "list@a.example", "to many", "Hi");
    let reply = smtp::send(node.port, "x@a.example", &to, &message).expect("sent");
    assert!(reply.starts_with("250"), "{reply}");
    let lines = node.wait_for_outcomes(1000, Duration::from_secs(30));
    assert!(lines.iter().all(|line| line["outcome"] == "delivered"));
    let arrived: usize = sink.received().iter().map(|r| r.recipients.len()).sum();
    assert_eq!(arrived, 1000);
    let mut more = to.clone();
    more.push("one-more@b.example");
    let reply = smtp::send(node.port, "x@a.example", &more, &message).expect("sent");
    assert!(reply.starts_with("452 4.5.3"), "{reply}");
}

#[test]
fn the_eleventh_connection_waits_then_gets_the_agreed_text() {
    let sink = Sink::start();
    let node = node(&sink, 10);
    let mut held: Vec<_> = (0..10).map(|_| smtp::Client::connect(node.port).expect("a slot")).collect();
    assert!(held.iter().all(|(_, greeting)| greeting.starts_with("220")));
    let began = Instant::now();
    let (_, reply) = smtp::Client::connect(node.port).expect("an answer");
    assert_eq!(
        reply,
        "421 Too many concurrent SMTP connections from this IP address; please try again later.\r\n"
    );
    assert!(began.elapsed() >= Duration::from_secs(9), "it waits for a slot first");
    // One that becomes free while it waits is given to it.
    let waiting = std::thread::spawn({
        let port = node.port;
        move || smtp::Client::connect(port).map(|(_, greeting)| greeting)
    });
    std::thread::park_timeout(Duration::from_millis(300));
    drop(held.pop());
    assert!(waiting.join().expect("the thread").expect("an answer").starts_with("220"));
}

#[test]
fn five_thousand_idle_connections_cost_little_and_others_are_served() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("open files");
    let sink = Sink::start();
    let node = node(&sink, 6000);
    smtp::send(
        node.port,
        "x@a.example",
        &["ok@b.example"],
        &smtp::message("x@a.example", "ok@b.example", "warm", "up"),
    )
    .expect("sent");
    let before = resident_kib(node.pid());
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..5000 {
        let (client, greeting) = smtp::Client::connect(node.port).expect("a connection");
        assert!(greeting.starts_with("220"), "{greeting}");
        idle.push(client.into_stream());
    }
    let each = (resident_kib(node.pid()).saturating_sub(before)) as f64 / 5000.0;
    println!("5,000 idle connections: {each:.1} KiB each");
    assert!(each < 30.0, "{each:.1} KiB for an idle connection");
    let reply = smtp::send(
        node.port,
        "x@a.example",
        &["ok@b.example"],
        &smtp::message("x@a.example", "ok@b.example", "busy", "hour"),
    )
    .expect("sent");
    assert!(reply.starts_with("250"), "{reply}");
}
