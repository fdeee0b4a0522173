//! No end of data but CR LF . CR LF, in and out: nothing behind a look-alike becomes a message of its own.

use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp::Client;

const SETTINGS: &str = r#"
[[domain]]
name = "a.example"
[[outgoing_user]]
domain = "a.example"
ip = "127.0.0.1/32"
"#;

const LOOK_ALIKES: [&str; 13] = [
    "\n.\n",
    "\r.\r",
    "\n.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r.\r\n",
    "\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\n\n.\r\n",
    "\r\r\n.\r\r\n",
    "\r\n.\r\r\n",
    "\r\n\x20.\r\n",
];

fn node(sink: &Sink) -> Mailweir {
    let delivery = format!("relay_host = \"127.0.0.1:{}\"", sink.port);
    Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS)
}

const HEAD: &str = "From: x@a.example\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nMessage-ID: <1@a.example>\r\nSubject: outer\r\n\r\n";
const INNER: &str = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nSubject: inner\r\n\r\nsmuggled\r\n.\r\n";

#[test]
fn no_look_alike_ends_a_message_that_comes_in() {
    let sink = Sink::start();
    let node = node(&sink);
    let mut accepted = 0;
    for look_alike in LOOK_ALIKES {
        let (mut client, _) = Client::connect(node.port).expect("a connection");
        client.command("EHLO c").expect("EHLO");
        client.command("MAIL FROM:<x@a.example>").expect("MAIL");
        client.command("RCPT TO:<ok@b.example>").expect("RCPT");
        client.command("DATA").expect("DATA");
        // The inner message's own end is the only real one.
        client.send(format!("{HEAD}text{look_alike}{INNER}").as_bytes()).expect("the message");
        let reply = client.reply().expect("one reply");
        accepted += usize::from(reply.starts_with("250"));
        assert!(reply.starts_with("250") || reply.starts_with("550"), "{look_alike:?}: {reply}");
        // One reply for one message: the next one is NOOP's.
        let noop = client.command("NOOP").expect("NOOP");
        assert!(noop.starts_with("250 2.0.0 OK"), "{look_alike:?} left another reply behind: {noop}");
    }
    node.wait_for_outcomes(accepted, Duration::from_secs(20));
    assert!(sink.received().iter().all(|r| r.recipients == ["ok@b.example"]), "a smuggled message arrived");
    assert!(accepted >= 1, "a NUL or a blank is no reason to refuse");
}

#[test]
fn what_leaves_is_stuffed_and_has_no_bare_line_end() {
    let sink = Sink::start();
    let node = node(&sink);
    let (mut client, _) = Client::connect(node.port).expect("a connection");
    client.command("EHLO c").expect("EHLO");
    // BDAT has no dot-stuffing: the message itself may have what would end DATA.
    let message = format!("{HEAD}text\r\n.\r\n{INNER}..\r\n.x\r\nlast line without an end");
    client.command("MAIL FROM:<x@a.example>").expect("MAIL");
    client.command("RCPT TO:<ok@b.example>").expect("RCPT");
    let (first, second) = message.as_bytes().split_at(HEAD.len() + 5);
    client.send(format!("BDAT {}\r\n", first.len()).as_bytes()).expect("BDAT");
    client.send(first).expect("a chunk");
    assert!(client.reply().expect("a reply").starts_with("250"));
    client.send(format!("BDAT {} LAST\r\n", second.len()).as_bytes()).expect("BDAT");
    client.send(second).expect("a chunk");
    let reply = client.reply().expect("a reply");
    assert!(reply.starts_with("250"), "{reply}");
    node.wait_for_outcomes(1, Duration::from_secs(20));
    let received = sink.received();
    assert_eq!(received.len(), 1, "one message, not two");
    let wire = &received[0].raw;
    let bare = wire.iter().enumerate().any(|(i, b)| match b {
        b'\n' => i == 0 || wire[i - 1] != b'\r',
        b'\r' => wire.get(i + 1) != Some(&b'\n'),
        _ => false,
    });
    assert!(!bare, "a bare CR or LF left");
    let text = String::from_utf8_lossy(&received[0].message).into_owned();
    assert!(
        text.ends_with(&format!("{}\r\n", &message[HEAD.len()..])),
        "the body came through as it was: {text}"
    );
}

#[test]
fn commands_behind_starttls_are_never_carried_over() {
    let sink = Sink::start();
    let node = node(&sink);
    let (mut client, _) = Client::connect(node.port).expect("a connection");
    client.command("EHLO c").expect("EHLO");
    client.send(b"STARTTLS\r\nMAIL FROM:<x@a.example>\r\n").expect("both at once");
    let reply = client.reply().expect("a reply");
    assert!(reply.starts_with("554"), "{reply}");
    assert!(client.reply().is_err(), "the connection ends");
}
