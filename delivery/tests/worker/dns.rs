//! Where mail goes by DNS, against a name server on loopback.

use std::collections::HashMap;
use std::net::SocketAddr;

use delivery::Config;
use delivery::dns::Dns;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

use crate::MAIL;
use crate::peer::Peer;
use crate::rig::{NODE, Rig};

/// Serves `zone`: `name TYPE data`, one record a line; `name FAIL` answers SERVFAIL. What is not there does not exist.
pub async fn serve(zone: &str) -> SocketAddr {
    let mut records: HashMap<String, Vec<Option<RData>>> = HashMap::new();
    for line in zone.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (name, kind, data) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        let data = match kind {
            "A" => Some(RData::A(A(data.parse().unwrap()))),
            "AAAA" => Some(RData::AAAA(AAAA(data.parse().unwrap()))),
            "MX" => {
                let (preference, host) = data.split_once(' ').unwrap();
                Some(RData::MX(MX::new(preference.parse().unwrap(), Name::from_ascii(host).unwrap())))
            }
            "PTR" => Some(RData::PTR(PTR(Name::from_ascii(data).unwrap()))),
            "TXT" => {
                let parts = data.as_bytes().chunks(255);
                Some(RData::TXT(TXT::new(parts.map(|p| String::from_utf8(p.to_vec()).unwrap()).collect())))
            }
            "FAIL" => None,
            other => panic!("{other}"),
        };
        records.entry(format!("{name}.")).or_default().push(data);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0u8; 1500];
        while let Ok((len, client)) = socket.recv_from(&mut packet).await {
            let _ = socket.send_to(&answer(&records, &packet[..len]), client).await;
        }
    });
    address
}

fn answer(records: &HashMap<String, Vec<Option<RData>>>, packet: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(packet).unwrap();
    let query = question.queries.first().unwrap().clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match records.get(&query.name().to_ascii().to_ascii_lowercase()) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(found) if found.iter().any(Option::is_none) => {
            answer.metadata.response_code = ResponseCode::ServFail;
        }
        Some(found) => {
            let wanted = found.iter().flatten().filter(|data| data.record_type() == query.query_type());
            answer.add_answers(wanted.map(|data| Record::from_rdata(query.name().clone(), 60, data.clone())));
        }
    }
    answer.to_vec().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_found_as_the_rfcs_say() {
    let zone = "
        three.example MX 20 b.mx.example.
        three.example MX 10 a.mx.example.
        three.example MX 30 nowhere.mx.example.
        a.mx.example A 127.0.0.2
        a.mx.example AAAA ::1
        b.mx.example A 127.0.0.3
        null.example MX 0 .
        half-null.example MX 0 .
        half-null.example MX 10 a.mx.example.
        address.example A 127.0.0.4
        nothing.example TXT x
        broken.example FAIL
        lost.example MX 10 broken.example.
        hostless.example MX 10 nothing.example.
        loop.example MX 10 relay.example.
        loop.example MX 20 a.mx.example.
        backup.example MX 10 b.mx.example.
        backup.example MX 20 relay.example.
        9.2.0.192.in-addr.arpa PTR out9.example.
        apart.example MX 10 b.mx.example.
        apart.example MX 20 six.mx.example.
        six.mx.example AAAA ::1
    ";
    let mut config = Config::new("node1".into(), "relay.example".into());
    config.dns_servers = vec![serve(zone).await];
    config.smtp_port = 2525;
    let dns = Dns::new(&config).unwrap();
    let found = async |site: &str, source: Option<&str>| {
        let source = source.map(|source| source.parse().unwrap());
        match dns.servers(site, source, false).await {
            Ok(servers) => servers.iter().map(|s| s.address.to_string()).collect::<Vec<_>>().join(" "),
            Err(reply) => format!("{} {}", reply.code, reply.enhanced.unwrap()),
        }
    };
    for (site, source, expected) in [
        ("three.example", None, "[::1]:2525 127.0.0.2:2525 127.0.0.3:2525"),
        ("three.example", Some("127.0.0.1"), "127.0.0.2:2525 127.0.0.3:2525"),
        ("three.example", Some("::1"), "[::1]:2525"),
        ("address.example", Some("::1"), "451 4.4.4"),
        ("apart.example", None, "127.0.0.3:2525 [::1]:2525"),
        ("apart.example", Some("::1"), "[::1]:2525"),
        ("null.example", None, "556 5.1.10"),
        ("half-null.example", None, "[::1]:2525 127.0.0.2:2525"),
        ("address.example", None, "127.0.0.4:2525"),
        ("nothing.example", None, "550 5.1.2"),
        ("missing.example", None, "550 5.1.2"),
        ("broken.example", None, "451 4.4.3"),
        ("lost.example", None, "451 4.4.3"),
        ("hostless.example", None, "451 4.4.4"),
        ("loop.example", None, "550 5.4.6"),
        ("backup.example", None, "127.0.0.3:2525"),
        ("[127.0.0.7]", None, "127.0.0.7:2525"),
        ("[IPv6:::1]", None, "[::1]:2525"),
        ("b.mx.example:26", None, "127.0.0.3:26"),
        ("[::1]:26", None, "[::1]:26"),
        ("127.0.0.7:26", None, "127.0.0.7:26"),
    ] {
        assert_eq!(found(site, source).await, expected, "{site} from {source:?}");
    }
    let six = "::1".parse().unwrap();
    let best = dns.servers("three.example", Some(six), true).await.unwrap();
    assert_eq!(best.len(), 1);
    let other = dns.servers("apart.example", Some(six), true).await.unwrap_err();
    assert_eq!(other.enhanced.unwrap().to_string(), "4.4.4", "its best server is for the other source");
    assert_eq!(dns.ptr("192.0.2.9".parse().unwrap()).await.as_deref(), Some("out9.example"));
    assert_eq!(dns.ptr("192.0.2.10".parse().unwrap()).await, None);
    assert_eq!(dns.ptr("127.0.0.9".parse().unwrap()).await, None, "`localhost` is no name to greet with");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_addresses_of_one_family_do_not_hide_the_other() {
    let many: String = (1..=9).map(|n| format!("many.mx.example AAAA ::{n}\n")).collect();
    let zone = format!(
        "{many}many.mx.example A 127.0.0.2
         many.example MX 10 many.mx.example.
         many.example MX 20 next.mx.example.
         next.mx.example A 127.0.0.3"
    );
    let mut config = Config::new("node1".into(), "relay.example".into());
    config.dns_servers = vec![serve(&zone).await];
    let dns = Dns::new(&config).unwrap();
    for site in ["many.example", "many.mx.example", "many.mx.example:25"] {
        let any = dns.servers(site, None, false).await.unwrap();
        assert_eq!(any.len(), 8, "{any:?}");
        let of_v4: Vec<bool> = any.iter().map(|server| server.address.is_ipv4()).collect();
        assert!(!of_v4[0] && of_v4[1], "the second is of the other family: {any:?}");
    }
    let four = dns.servers("many.example", Some("127.0.0.1".parse().unwrap()), false).await.unwrap();
    let four: Vec<String> = four.iter().map(|server| server.address.ip().to_string()).collect();
    assert_eq!(four, ["127.0.0.2", "127.0.0.3"], "what cannot be reached is not counted");
}

/// A pool of one source of each family: whichever a message would leave from, it leaves at the first try.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_both_families_delivers_to_either() {
    let peer = Peer::start_at("127.0.0.3:0", &["PIPELINING"]).await;
    let six = Peer::start_at(&format!("[::1]:{}", peer.port), &["PIPELINING"]).await;
    let server = serve(
        "four.example A 127.0.0.3
         six.example AAAA ::1
         half.example A 127.0.0.3
         half.example AAAA ::2
         apart.example MX 10 four.example.
         apart.example MX 20 six.example.
         down.example A 127.0.0.4",
    )
    .await;
    let mut rig = Rig::start_with(|config| {
        config.dns_servers = vec![server];
        config.smtp_port = peer.port;
    })
    .await;
    rig.set_pool("default", &[("127.0.0.9", NODE), ("::1", NODE)]).await;
    for n in 0..20 {
        let to = ["four", "six", "half", "apart"].map(|domain| format!("ok{n}@{domain}.example"));
        rig.release(&to.each_ref().map(String::as_str), MAIL).await;
        rig.release(&["ok@down.example"], MAIL).await;
    }
    rig.wait_for("all", async |rig: &Rig| rig.attempts().await.len() == 100).await;
    let attempts = rig.attempts().await;
    for attempt in &attempts {
        let reply = &attempt.recipients[0].reply;
        if attempt.site == "down.example" {
            let text = reply.to_string();
            assert!(text.contains("127.0.0.4"), "what is told is what came of the server there is: {text}");
        } else {
            assert_eq!(reply.code, 250, "{attempt:?}");
        }
    }
    assert_eq!((peer.to("@four.").len(), six.to("@six.").len()), (20, 20));
    assert_eq!(peer.to("@half.").len(), 20, "an address that nobody answers at does not keep it");
    assert_eq!(peer.to("@apart.").len(), 20, "the best server comes first");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_tried_and_a_domain_that_takes_no_mail_is_told_at_once() {
    let peer = Peer::start_at("127.0.0.3:0", &["PIPELINING"]).await;
    let zone = "
        x.example MX 10 down.x.example.
        x.example MX 20 up.x.example.
        down.x.example A 127.0.0.2
        up.x.example A 127.0.0.3
        null.example MX 0 .
    ";
    let server = serve(zone).await;
    let mut rig = Rig::start_with(|config| {
        config.dns_servers = vec![server];
        config.smtp_port = peer.port;
    })
    .await;
    rig.release(&["ok@x.example", "a@null.example"], MAIL).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.wait_for_outcome("a@null.example failed").await;
    let attempts = rig.attempts().await;
    let delivered = attempts.iter().find(|attempt| attempt.site == "x.example").unwrap();
    assert_eq!(delivered.remote_host.as_deref(), Some("up.x.example"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drops_us_before_the_message_is_passed_over() {
    let peer = Peer::start_at("127.0.0.3:0", &["PIPELINING"]).await;
    let rude = tokio::net::TcpListener::bind(("127.0.0.2", peer.port)).await.unwrap();
    let busy = tokio::net::TcpListener::bind(("127.0.0.4", peer.port)).await.unwrap();
    tokio::spawn(says_then_closes(rude, &["220 rude\r\n", "250 rude\r\n"]));
    tokio::spawn(says_then_closes(
        busy,
        &["220 busy\r\n", "250 busy\r\n", "421 4.3.2 busy\r\n", "250 ok\r\n"],
    ));
    let server = serve(
        "x.example MX 10 rude.x.example.
         x.example MX 20 busy.x.example.
         x.example MX 30 up.x.example.
         only.example MX 10 busy.x.example.
         rude.x.example A 127.0.0.2
         busy.x.example A 127.0.0.4
         up.x.example A 127.0.0.3",
    )
    .await;
    let mut rig = Rig::start_with(|config| {
        config.dns_servers = vec![server];
        config.smtp_port = peer.port;
    })
    .await;
    rig.release(&["ok@x.example", "a@only.example"], MAIL).await;
    rig.wait_for_outcome("ok@x.example delivered").await;
    rig.wait_for_outcome("a@only.example deferred").await;
    let attempts = rig.attempts().await;
    let of = |site: &str| attempts.iter().find(|attempt| attempt.site == site).unwrap();
    assert_eq!(of("x.example").remote_host.as_deref(), Some("up.x.example"));
    let reply = &of("only.example").recipients[0].reply;
    assert_eq!(reply.code, 421, "what the last server said is what is told: {reply}");
    rig.stop().await;
}

/// Says one line per line it gets, then closes.
async fn says_then_closes(listener: tokio::net::TcpListener, lines: &'static [&'static str]) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            for line in lines {
                let _ = stream.write_all(line.as_bytes()).await;
                let _ = stream.read_until(b'\n', &mut Vec::new()).await;
            }
        });
    }
}
