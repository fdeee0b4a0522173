//! A real Postfix or Exim in front, a real Postfix behind, real DNS between.

use std::process::Command;
use std::time::Duration;

use mail_parser::MessageParser;
use mailweir_tests::dns::NameServer;
use mailweir_tests::exim::Exim;
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::postfix::Postfix;
use mailweir_tests::{smtp, wait};

const SETTINGS: &str = r#"
[defaults]
max_connections = 20

[[domain]]
name = "server7.hoster.example"
abuse_address = "abuse@hoster.example"

[[domain]]
name = "customer.example"
dkim_selector = "mw1"

[[dkim_key]]
domain = "customer.example"
selector = "mw1"
generate = true

[[dkim_key]]
domain = "customer.example"
selector = "ed1"
algorithm = "ed25519"
generate = true

[[outgoing_user]]
domain = "server7.hoster.example"
ip = "127.0.0.1/32"

[[outgoing_user]]
domain = "customer.example"
login = "shop@customer.example"
password = "correct horse"
"#;

const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// Receiver, name server and node, wired as on the internet: MX by DNS, STARTTLS.
struct World {
    receiver: Postfix,
    names: NameServer,
    node: Mailweir,
}

fn world() -> World {
    let receiver = Postfix::receiver(
        &["receiver.example", "customer.example", "hoster.example"],
        &[
            "anna@receiver.example",
            "bert@receiver.example",
            "shop@customer.example",
            "abuse@hoster.example",
            "office@hoster.example",
        ],
    );
    let mx = |_: &str| "@ MX 10 mx.receiver.example.\n".to_owned();
    let names = NameServer::start(&[
        ("receiver.example", format!("{}mx A 127.0.0.1", mx(""))),
        ("customer.example", mx("")),
        ("hoster.example", mx("")),
        ("null.example", "@ MX 0 .\n".to_owned()),
    ]);
    let delivery =
        format!("dns_servers = [\"{}\"]\nsmtp_port = {}\nretry = [\"2s\"]", names.address(), receiver.port);
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);
    World { receiver, names, node }
}

fn header(message: &[u8], name: &str) -> Option<String> {
    let parsed = MessageParser::new().parse(message)?;
    parsed.header_raw(name.to_owned()).map(|value| value.trim().to_owned())
}

/// From the first byte of the message as its client made it.
fn original_part<'a>(arrived: &'a [u8], first_line: &[u8]) -> &'a [u8] {
    let at = arrived.windows(first_line.len()).position(|w| w == first_line).expect("the original is in it");
    &arrived[at..]
}

#[test]
fn postfix_known_by_its_address_delivers_to_postfix_over_tls() {
    let World { receiver, names: _names, node } = world();
    let client = Postfix::client(node.port, None);
    let body = "Hello Anna,\r\n.\r\n..dots\r\n  trailing blank  \r\n\r\nunderneath\tTabs\r\n";
    let message = smtp::message("office@hoster.example", "anna@receiver.example", "Byte for byte", body);
    let reply = smtp::send(client.port, "office@hoster.example", &["anna@receiver.example"], &message)
        .expect("Postfix takes it");
    assert!(reply.starts_with("250"), "{reply}");
    let arrived = receiver.wait_for_mail("anna@receiver.example", 1).remove(0);
    // A mailbox has LF; everything from the first field of the original on is as it was.
    let expected = String::from_utf8_lossy(&message).replace("\r\n", "\n");
    let kept = original_part(&arrived, b"From: office@hoster.example\n");
    assert_eq!(String::from_utf8_lossy(kept).trim_end(), expected.trim_end());
    let trace = String::from_utf8_lossy(&arrived);
    assert!(trace.contains("using TLSv1.3"), "TLS to the receiver: {trace}");
    assert!(trace.contains("by smtp.hoster.example (Mailweir)"), "our trace field: {trace}");
    let lines = node.wait_for_outcomes(1, Duration::from_secs(20));
    assert_eq!((&lines[0]["outcome"], &lines[0]["user"]), (&"delivered".into(), &"127.0.0.1/32".into()));
    // The client's own queue id finds it.
    let log = client.wait_for_log(&["status=sent", "queued as"]);
    let queue_id = log.split(": ").nth(1).expect("a queue id").to_owned();
    let traced = node.trace(&queue_id);
    assert!(traced.contains(" judged ") && traced.contains("anna@receiver.example delivered"), "{traced}");
}

#[test]
fn postfix_with_a_password_is_signed_for_and_the_signature_verifies() {
    let mut world = world();
    // The public keys go into the real zone, as `mailweir dkim list` shows them.
    let keys = world.node.json(&["dkim", "list"]);
    let records: String = keys["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| format!("{}\n", key["record"]["zone_file"].as_str().expect("a line")))
        .collect();
    let delivery_names =
        NameServer::start(&[("customer.example", format!("@ MX 10 mx.receiver.example.\n{records}"))]);
    let client = Postfix::client(world.node.port, Some(("shop@customer.example", "correct horse")));
    let message = smtp::message(
        "Shop <shop@customer.example>",
        "anna@receiver.example",
        "Signed",
        "Grüße aus Köln\r\n.\r\nend",
    );
    let reply = smtp::send(client.port, "shop@customer.example", &["anna@receiver.example"], &message)
        .expect("Postfix takes it");
    assert!(reply.starts_with("250"), "{reply}");
    let arrived = world.receiver.wait_for_mail("anna@receiver.example", 1).remove(0);
    assert_eq!(
        arrived.windows(15).filter(|w| w.eq_ignore_ascii_case(b"DKIM-Signature:")).count(),
        2,
        "RSA and Ed25519"
    );
    verify_with_dkimpy(&arrived, &delivery_names);
    let lines = world.node.wait_for_outcomes(1, Duration::from_secs(20));
    assert_eq!(lines[0]["user"], "shop@customer.example");
    let trace = world.node.ask(&["trace", lines[0]["message_id"].as_str().expect("an id")]);
    assert!(
        trace.contains("ESMTPSA")
            && trace.contains("login shop@customer.example")
            && trace.contains("a=rsa-sha256"),
        "{trace}"
    );
    assert_eq!(world.node.terminate(), Some(0));
}

/// Verifies every signature with dkimpy, an implementation that is not ours, against the name server of the test.
fn verify_with_dkimpy(arrived: &[u8], names: &NameServer) {
    let script = r"
import dkim, dns.resolver, sys
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ['127.0.0.1'], int(sys.argv[1])
def txt(name, timeout=5):
    answer = resolver.resolve(name.decode() if isinstance(name, bytes) else name, 'TXT')
    return b''.join(answer[0].strings)
message = open(sys.argv[2], 'rb').read().replace(b'\n', b'\r\n')
d = dkim.DKIM(message)
count = sum(1 for name, _ in d.headers if name.lower() == b'dkim-signature')
print(count, [d.verify(idx=i, dnsfunc=txt) for i in range(count)])
";
    let file = names.directory().join("arrived.eml");
    // The delivery agent's own lines on top are not part of what was signed, and need not be.
    std::fs::write(&file, arrived).expect("the message");
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script, &names.port.to_string()])
        .arg(&file)
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "2 [True, True]", "dkimpy: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exim_with_cpanel_fields_shows_accounts_not_one_host_name() {
    let World { receiver, names: _names, node } = world();
    let exim = Exim::cpanel(node.port);
    let mut ids = Vec::new();
    for account in ["anna@florist.example", "bert@bakery.example"] {
        ids.push(exim.send(
            account,
            "anna@receiver.example",
            &smtp::message(account, "anna@receiver.example", "Hi", "Text"),
        ));
    }
    receiver.wait_for_mail("anna@receiver.example", 2);
    node.wait_for_outcomes(2, Duration::from_secs(20));
    let answer = node.json(&["identities", "--since", "10m"]);
    let mut found: Vec<(String, String)> = answer["identities"]
        .as_array()
        .expect("identities")
        .iter()
        .map(|row| {
            (
                row["identity"].as_str().unwrap_or_default().to_owned(),
                row["identity_source"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    found.sort();
    let accounts: Vec<&str> = found.iter().map(|(identity, _)| identity.as_str()).collect();
    assert_eq!(accounts, ["anna@florist.example", "bert@bakery.example"]);
    assert!(
        found.iter().all(|(_, source)| source.starts_with("header:X-")),
        "found by cPanel's fields: {found:?}"
    );
    // Exim's own id, as it stands in its log, finds the message.
    let trace = node.ask(&["trace", &ids[0]]);
    assert!(trace.contains("identity anna@florist.example"), "{trace}");
}

#[test]
fn a_blocked_message_gets_550_with_a_reference_is_reported_and_can_be_released() {
    let World { receiver, names: _names, node } = world();
    let client = Postfix::client(node.port, None);
    let message = smtp::message("office@hoster.example", "anna@receiver.example", "Cheap", GTUBE);
    smtp::send(client.port, "office@hoster.example", &["anna@receiver.example"], &message)
        .expect("Postfix takes it");
    let log = client.wait_for_log(&["status=bounced", "Blocked as spam, ref "]);
    let id = log
        .split("ref ")
        .nth(1)
        .expect("a reference")
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect::<String>();
    // The abuse desk has one report, which an outside parser reads.
    // (Postfix' own bounce carries the same text, and is blocked and reported, too.)
    let report = wait::until("the report on it arrives", Duration::from_secs(60), || {
        let reports = receiver.mailbox("abuse@hoster.example");
        reports
            .into_iter()
            .find(|report| header(report, "X-Mailweir-Identity").as_deref() == Some("office@hoster.example"))
    });
    assert_eq!(header(&report, "X-Mailweir-Classification").as_deref(), Some("spam"));
    read_with_python(&report);
    let held = node.json(&["quarantine"]);
    let held = held["messages"].as_array().expect("messages");
    assert!(held.iter().any(|row| row["message"]["id"] == id.as_str()), "{id}: {held:?}");
    assert!(receiver.mailbox("anna@receiver.example").is_empty(), "it was not delivered");
    node.verb(&["quarantine", "release", &id]);
    let arrived = receiver.wait_for_mail("anna@receiver.example", 1).remove(0);
    assert!(String::from_utf8_lossy(&arrived).contains(GTUBE));
    wait::until("the log has it as delivered", Duration::from_secs(20), || {
        let lines = node.log_lines(&[&id]);
        lines.iter().any(|line| line["outcome"] == "delivered").then_some(())
    });
    // A second release changes nothing.
    let again = node.ask(&["quarantine", "release", &id]);
    assert!(again.contains("0 of"), "{again}");
}

/// The report's parts as Python's own parser reads them (RFC 5965 3).
fn read_with_python(report: &[u8]) {
    let script = r"
import email, sys
m = email.message_from_binary_file(sys.stdin.buffer)
parts = m.get_payload()
assert m.get_content_type() == 'multipart/report' and m.get_param('report-type') == 'feedback-report', m.get_content_type()
kinds = [p.get_content_type() for p in parts]
assert kinds == ['text/plain', 'message/feedback-report', 'message/rfc822'], kinds
fields = email.message_from_string(parts[1].get_payload()[0].as_string() if isinstance(parts[1].get_payload(), list) else parts[1].get_payload())
for name in ['Feedback-Type', 'User-Agent', 'Version', 'Arrival-Date', 'Source-IP', 'Original-Mail-From', 'Original-Rcpt-To', 'Reported-Domain', 'Authentication-Results']:
    assert fields[name], name
assert fields['Feedback-Type'] == 'abuse' and 'smtp.auth=office@hoster.example' in fields['Authentication-Results'], fields.as_string()
assert parts[2].get_payload()[0]['Subject'] == 'Cheap'
assert m['Auto-Submitted'] == 'auto-generated'
";
    run_python(script, report);
}

fn run_python(script: &str, input: &[u8]) {
    use std::io::Write;
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    child.stdin.take().expect("its input").write_all(input).expect("the message");
    let output = child.wait_with_output().expect("python3 ends");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(input)
    );
}

#[test]
fn a_recipient_that_does_not_exist_gives_a_bounce_that_parses() {
    let World { receiver, names: _names, node } = world();
    let message = smtp::message("shop@customer.example", "nobody@receiver.example", "Hello?", "Anyone?");
    let reply = smtp::send(
        node.port,
        "shop@customer.example",
        &["nobody@receiver.example", "x@null.example", "anna@receiver.example"],
        &message,
    )
    .expect("taken");
    assert!(reply.starts_with("250"), "{reply}");
    receiver.wait_for_mail("anna@receiver.example", 1);
    let bounces = receiver.wait_for_mail("shop@customer.example", 2);
    let script = r"
import email, sys
m = email.message_from_binary_file(sys.stdin.buffer)
assert m.get_content_type() == 'multipart/report' and m.get_param('report-type') == 'delivery-status'
text, status, returned = m.get_payload()
assert status.get_content_type() == 'message/delivery-status' and returned.get_content_type() == 'text/rfc822-headers'
per_message, per_recipient = status.get_payload()
assert per_message['Reporting-MTA'] == 'dns; smtp.hoster.example', per_message.as_string()
assert per_recipient['Action'] == 'failed' and per_recipient['Status'] in ('5.1.1', '5.1.10'), per_recipient.as_string()
assert 'Hello?' in returned.get_payload()
assert m['Auto-Submitted'] == 'auto-replied' and m['Return-Path'] == '<>', m['Return-Path']
";
    bounces.iter().for_each(|bounce| run_python(script, bounce));
    let lines = node.wait_for_outcomes(3, Duration::from_secs(20));
    let failed: Vec<_> = lines.iter().filter(|line| line["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 2, "{lines:?}");
    assert!(
        failed.iter().any(|line| line["reply"].as_str().is_some_and(|r| r.contains("null MX"))),
        "{failed:?}"
    );
}

#[test]
fn mail_that_its_author_signed_is_left_alone() {
    let signed = signed_by_python();
    let receiver = Postfix::receiver(&["receiver.example"], &["anna@receiver.example"]);
    let names = NameServer::start(&[
        ("receiver.example", "@ MX 10 mx\nmx A 127.0.0.1".to_owned()),
        ("newsroom.example", format!("s1._domainkey TXT {}", zone_strings(&signed.record))),
    ]);
    let delivery = format!("dns_servers = [\"{}\"]\nsmtp_port = {}", names.address(), receiver.port);
    let settings = format!(
        "{SETTINGS}\n[[dkim_key]]\ndomain = \"newsroom.example\"\nselector = \"ours\"\ngenerate = true\n"
    );
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, &settings);
    let reply = smtp::send(node.port, "desk@newsroom.example", &["anna@receiver.example"], &signed.message)
        .expect("taken");
    assert!(reply.starts_with("250"), "{reply}");
    let arrived = receiver.wait_for_mail("anna@receiver.example", 1).remove(0);
    let text = String::from_utf8_lossy(&arrived);
    assert_eq!(text.matches("DKIM-Signature:").count(), 1, "no second signature: {text}");
    assert!(!text.contains("X-Mailweir-Id"), "nothing but the trace field was added: {text}");
    let kept = original_part(&arrived, b"DKIM-Signature:");
    assert_eq!(
        String::from_utf8_lossy(kept).trim_end(),
        String::from_utf8_lossy(&signed.message).replace("\r\n", "\n").trim_end()
    );
}

struct Signed {
    message: Vec<u8>,
    record: String,
}

/// A message signed by dkimpy with a key of OpenSSL's.
fn signed_by_python() -> Signed {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key.pem");
    let made = Command::new("openssl")
        .args(["genrsa", "-traditional", "-out"])
        .arg(&key)
        .arg("2048")
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = Command::new("openssl")
        .args(["rsa", "-pubout", "-outform", "DER", "-in"])
        .arg(&key)
        .output()
        .expect("openssl");
    let message =
        smtp::message("desk@newsroom.example", "anna@receiver.example", "Briefing", "Nothing happened.");
    let unsigned = directory.path().join("message.eml");
    std::fs::write(&unsigned, &message).expect("the message");
    let script = "import dkim,sys; m=open(sys.argv[1],'rb').read(); sys.stdout.buffer.write(dkim.sign(m,b's1',b'newsroom.example',open(sys.argv[2],'rb').read())+m)";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(&unsigned)
        .arg(&key)
        .output()
        .expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    use base64::Engine;
    let record =
        format!("v=DKIM1; k=rsa; p={}", base64::engine::general_purpose::STANDARD.encode(public.stdout));
    Signed { message: output.stdout, record }
}

fn zone_strings(record: &str) -> String {
    record
        .as_bytes()
        .chunks(250)
        .map(|part| format!("\"{}\"", String::from_utf8_lossy(part)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn each_user_leaves_from_its_own_address_under_its_own_name() {
    let receiver = Postfix::receiver(&["receiver.example"], &["anna@receiver.example"]);
    let names = NameServer::start(&[("receiver.example", "@ MX 10 mx\nmx A 127.0.0.1".to_owned())]);
    let delivery = format!("dns_servers = [\"{}\"]\nsmtp_port = {}", names.address(), receiver.port);
    let settings = r#"
[[egress_source]]
node = "node1"
ip = "127.0.0.5"
ehlo = "out5.hoster.example"
[[egress_source]]
node = "node1"
ip = "127.0.0.6"
ehlo = "out6.hoster.example"
[[egress_pool]]
name = "default"
sources = ["127.0.0.5"]
[[egress_pool]]
name = "bulk"
sources = ["127.0.0.6"]
[[domain]]
name = "plain.example"
[[domain]]
name = "bulk.example"
delivery_pool = "bulk"
[[outgoing_user]]
domain = "plain.example"
ip = "127.0.0.1/32"
[[outgoing_user]]
domain = "bulk.example"
login = "bulk.example"
password = "a long password"
"#;
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, settings);
    let plain = Postfix::client(node.port, None);
    let bulk = Postfix::client(node.port, Some(("bulk.example", "a long password")));
    for (client, subject) in [(&plain, "plain"), (&bulk, "bulk")] {
        let message = smtp::message("x@plain.example", "anna@receiver.example", subject, "Text");
        smtp::send(client.port, "x@plain.example", &["anna@receiver.example"], &message).expect("taken");
    }
    let arrived = receiver.wait_for_mail("anna@receiver.example", 2);
    for (subject, ip, name) in
        [("plain", "127.0.0.5", "out5.hoster.example"), ("bulk", "127.0.0.6", "out6.hoster.example")]
    {
        let message =
            arrived.iter().find(|m| header(m, "Subject").as_deref() == Some(subject)).expect("it arrived");
        let received = String::from_utf8_lossy(message);
        assert!(received.contains(ip) && received.contains(name), "{subject} came from {received}");
    }
}
