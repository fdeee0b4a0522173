//! DNS lists, and SPF and DMARC of From domains, over a real name server.

use std::time::{Duration, Instant};

use mailweir_tests::dns::{Gate, NameServer};
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{smtp, wait};

const SETTINGS: &str =
    "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";
const BLOCKS: &str = "[[domain]]\nname = \"a.example\"\nchecks = { listed_host = \"block\", dmarc = \"block\" }\n\
    [[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

/// A list of domains that works, with these entries.
fn domain_list(entries: &str) -> String {
    format!("test A 127.0.0.2\n{entries}")
}

fn list(zone: &str, kind: &str, symbol: &str, more: &str) -> String {
    format!(
        "[[scorer.dns_list]]\nzone = \"{zone}\"\nkind = \"{kind}\"\ncodes = [\"127.0.1.2\", \"127.0.0.2\"]\n\
         symbol = \"{symbol}\"\n{more}\n"
    )
}

fn node(gate: &Gate, sink: &Sink, scorer: &str, settings: &str) -> Mailweir {
    let delivery = format!(
        "dns_servers = [\"{}\"]\nrelay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]",
        gate.address(),
        sink.port
    );
    let filter = Some("info,hickory_net=trace,hickory_resolver=trace");
    Mailweir::start(&Setup { delivery, scorer: scorer.to_owned(), filter, ..Setup::default() }, settings)
}

fn wait_for_lists(node: &Mailweir, standings: &[(&str, u8)]) {
    wait::until("the lists were looked at", Duration::from_secs(20), || {
        let (_, metrics) = node.get("/metrics")?;
        let is = |(zone, standing): &(&str, u8)| {
            metrics.contains(&format!("mailweir_scorer_dns_list_believed{{zone=\"{zone}\"}} {standing}\n"))
        };
        standings.iter().all(is).then_some(())
    });
}

/// The reply to a message, and its trace once it is judged.
fn judged(node: &Mailweir, from: &str, message: &[u8]) -> (String, String) {
    let reply = smtp::send(node.port, from, &["ok@r.example"], message).expect("an answer");
    let id = reply.split_whitespace().last().expect("an id").to_owned();
    wait::until("it is in the log", Duration::from_secs(20), || {
        node.log_lines(&[]).iter().any(|line| line["message_id"] == id.as_str()).then_some(())
    });
    let trace = node.trace(&id);
    assert!(trace.contains("CONTENT"), "{trace}");
    (reply, trace)
}

fn with_link(link: &str) -> Vec<u8> {
    smtp::message(
        "x@a.example",
        "ok@r.example",
        "Hi",
        &format!("See https://www.{link}/x or\r\nhttp://192.0.2.7/ please."),
    )
}

#[test]
fn a_host_counts_when_a_list_that_works_names_it_with_a_code_that_counts() {
    let wildcard = "* A 127.0.0.2\n* A 127.0.1.2".to_owned();
    let names = NameServer::start(&[
        ("dbl.test", domain_list("bad.example A 127.0.1.2\nodd.example A 127.0.1.9")),
        ("ip.test", "2.0.0.127 A 127.0.0.2\n7.2.0.192 A 127.0.1.2".to_owned()),
        ("paid.test", "test.s3cret A 127.0.0.2\nbad.example.s3cret A 127.0.1.2".to_owned()),
        // As what is left of a list that was given up: everything is listed, or nothing.
        ("everything.test", wildcard.clone()),
        ("all-ips.test", wildcard),
        ("nothing.test", "bad.example A 127.0.1.2".to_owned()),
        ("refuses.test", "test A 127.255.255.254\nbad.example A 127.0.1.2".to_owned()),
    ]);
    let (gate, sink) = (Gate::before(&names), Sink::start());
    let lists = [
        list("dbl.test", "domain", "BY_DOMAIN", "weight = 0.11"),
        list("ip.test", "ip", "BY_ADDRESS", ""),
        list("paid.test", "domain", "PAID", "key = \"s3cret\""),
        list("everything.test", "domain", "EVERYTHING", ""),
        list("all-ips.test", "ip", "ALL_IPS", ""),
        list("nothing.test", "domain", "NOTHING", ""),
        list("refuses.test", "domain", "REFUSES", ""),
        list("missing.test", "domain", "MISSING", ""),
    ];
    let node = node(&gate, &sink, &lists.concat(), SETTINGS);
    let good = ["dbl.test", "ip.test", "paid.test"];
    let bad = ["everything.test", "all-ips.test", "nothing.test", "refuses.test", "missing.test"];
    let standings: Vec<(&str, u8)> =
        good.map(|zone| (zone, 1)).into_iter().chain(bad.map(|zone| (zone, 0))).collect();
    wait_for_lists(&node, &standings);

    let (reply, trace) = judged(&node, "x@a.example", &with_link("bad.example"));
    assert!(reply.starts_with("250"), "{reply}");
    assert!(trace.contains("BY_DOMAIN") && trace.contains("bad.example in a link (127.0.1.2)"), "{trace}");
    assert!(trace.contains("0.11") && trace.contains("PAID"), "{trace}");
    assert!(trace.contains("BY_ADDRESS") && trace.contains("192.0.2.7 in a link (127.0.1.2)"), "{trace}");
    for symbol in ["EVERYTHING", "ALL_IPS", "NOTHING", "REFUSES", "MISSING"] {
        assert!(!trace.contains(symbol), "{symbol}: {trace}");
    }
    for unlisted in ["good.example", "odd.example"] {
        let (_, trace) = judged(&node, "x@a.example", &with_link(unlisted));
        assert!(!trace.contains("BY_DOMAIN") && !trace.contains("PAID"), "{unlisted}: {trace}");
    }
    assert!(gate.questions_with("s3cret") > 0, "it is asked with the key");
    let (_, metrics) = node.get("/metrics").expect("metrics");
    for text in [node.log_text(), metrics, trace] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    let told = node.log_text().matches("a DNS list is not believed").count();
    assert_eq!(told, bad.len(), "each is told once");

    node.apply(BLOCKS);
    wait::until("the check blocks", Duration::from_secs(10), || {
        let reply =
            smtp::send(node.port, "x@a.example", &["ok@r.example"], &with_link("bad.example")).ok()?;
        let text = "550 5.7.1 Blocked: it names a host or domain that is on a DNS list, ref ";
        reply.starts_with(text).then_some(())
    });
}

#[test]
fn a_name_server_that_falls_silent_holds_mail_up_for_no_longer_than_the_deadline() {
    let entries: Vec<String> = (0..1000).map(|n| format!("d{n}.example A 127.0.1.2")).collect();
    let names = NameServer::start(&[("dbl.test", domain_list(&entries.join("\n")))]);
    let (gate, sink) = (Gate::before(&names), Sink::start());
    let scorer = list("dbl.test", "domain", "BY_DOMAIN", "");
    let scorer = format!("{scorer}[scorer.alignment]\naddresses = [\"192.0.2.10\"]");
    let node = node(&gate, &sink, &scorer, SETTINGS);
    wait_for_lists(&node, &[("dbl.test", 1)]);
    let mut next = 0;
    let mut send = || {
        let links: Vec<String> = (next..next + 8).map(|n| format!("https://d{n}.example/")).collect();
        next += 8;
        let message = smtp::message("x@a.example", "ok@r.example", "Hi", &links.join("\r\n"));
        let (started, answer) = (Instant::now(), judged(&node, "x@a.example", &message));
        (started.elapsed(), answer)
    };
    let (_, (_, trace)) = send();
    assert!(trace.contains("BY_DOMAIN"), "{trace}");

    gate.set_silent(true);
    let (took, (reply, trace)) = send();
    assert!(reply.starts_with("250") && !trace.contains("BY_DOMAIN"), "{reply} {trace}");
    // verdict_timeout / 2, and what a busy machine needs.
    assert!(took < Duration::from_secs(4), "{took:?}");
    let started = Instant::now();
    for _ in 0..5 {
        let (_, (reply, _)) = send();
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "it is not asked for a while: {:?}",
        started.elapsed()
    );
    assert!(node.log_text().contains("a DNS list does not answer"), "{}", node.log_tail());
    node.wait_for_outcomes(7, Duration::from_secs(20));

    gate.set_silent(false);
    wait::until("it is asked again", Duration::from_secs(40), || {
        let (_, (_, trace)) = send();
        trace.contains("BY_DOMAIN").then_some(())
    });
}

#[test]
fn spf_and_dmarc_are_looked_at_with_the_addresses_of_this_relay() {
    // All under one zone, so that the tree walk finds an answer at its end, too.
    let zones = |key: &str| {
        let records = r#"good TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.good TXT "v=DMARC1; p=reject"
bad TXT "v=spf1 ip4:198.51.100.1 -all"
_dmarc.bad TXT "v=DMARC1; p=reject"
_dmarc.test-mode TXT "v=DMARC1; p=reject; t=y"
_dmarc.strict TXT "v=DMARC1; p=none; aspf=s"
b.strict TXT "v=spf1 ip4:192.0.2.10 -all"
none TXT "something else"
_dmarc.signed TXT "v=DMARC1; p=reject"
_dmarc.early TXT "v=DMARC1; p=reject"
"#;
        [("example", format!("{records}{key}"))]
    };
    let key_of = |domain: &str| {
        format!(
            "[[domain]]\nname = \"{domain}\"\n[[dkim_key]]\ndomain = \"{domain}\"\nselector = \"s1\"\ngenerate = true\n"
        )
    };
    let unsigned = NameServer::start(&zones(""));
    let (gate, sink) = (Gate::before(&unsigned), Sink::start());
    let scorer = "[scorer.alignment]\naddresses = [\"192.0.2.10\"]\n";
    let node_with_key = node(
        &gate,
        &sink,
        scorer,
        &format!("{SETTINGS}{}{}", key_of("early.example"), key_of("signed.example")),
    );
    let node = node(&gate, &sink, scorer, SETTINGS);
    let trace_of = |node: &Mailweir, reverse_path: &str, from: &str| {
        let message = smtp::message(from, "ok@r.example", "Hi", "Text");
        let (reply, trace) = judged(node, reverse_path, &message);
        assert!(reply.starts_with("250"), "{reply}");
        trace
    };
    for (reverse_path, from, expected, not) in [
        ("x@good.example", "x@good.example", "", "DMARC_FAIL SPF_"),
        // Relaxed alignment with a parent, whose record the tree walk finds.
        ("x@good.example", "x@news.good.example", "", "DMARC_FAIL SPF_"),
        (
            "x@bad.example",
            "x@bad.example",
            "DMARC_FAIL|p=reject|SPF of bad.example does not allow 192.0.2.10|SPF_NOT_US",
            "",
        ),
        (
            "x@good.example",
            "x@a.b.bad.example",
            "DMARC_FAIL|p=reject|SPF passes for good.example, which is not aligned",
            "SPF_",
        ),
        ("x@none.example", "x@test-mode.example", "DMARC_FAIL|p=quarantine", "SPF_"),
        ("x@b.strict.example", "x@strict.example", "DMARC_FAIL|p=none", "SPF_"),
        ("x@b.strict.example", "x@b.strict.example", "", "DMARC_FAIL SPF_"),
        ("x@bad.example", "x@none.example", "SPF_NOT_US", "DMARC_FAIL"),
        ("x@none.example", "x@none.example", "", "DMARC_FAIL SPF_"),
        ("", "x@bad.example", "DMARC_FAIL", "SPF_"),
    ] {
        let trace = trace_of(&node, reverse_path, from);
        for part in expected.split('|') {
            assert!(trace.contains(part), "{from}: {part}: {trace}");
        }
        for part in not.split_whitespace() {
            assert!(!trace.contains(part), "{from}: {part}: {trace}");
        }
    }

    // A key that receivers do not find is none.
    let trace = trace_of(&node_with_key, "x@none.example", "x@early.example");
    assert!(
        trace.contains("DMARC_FAIL") && trace.contains("s1._domainkey.early.example is not in DNS"),
        "{trace}"
    );
    let keys = node_with_key.json(&["dkim", "list"]);
    let keys = keys["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["domain"] == "signed.example").expect("its key");
    let record = key["record"]["zone_file"].as_str().expect("its record");
    let published = NameServer::start(&zones(record));
    gate.stand_before(&published);
    let trace = trace_of(&node_with_key, "x@good.example", "x@signed.example");
    assert!(!trace.contains("DMARC_FAIL"), "{trace}");

    // A valid signature that the message brings along counts, too.
    let signed = wait::until("it arrives signed", Duration::from_secs(20), || {
        let all = sink.received();
        let from = b"From: x@signed.example";
        let is = |m: &&mailweir_tests::sink::Received| m.message.windows(from.len()).any(|w| w == from);
        all.iter().find(is).map(|m| m.message.clone())
    });
    assert!(String::from_utf8_lossy(&signed).contains("DKIM-Signature:"), "signed");
    let (_, trace) = judged(&node, "x@none.example", &signed);
    assert!(!trace.contains("DMARC_FAIL"), "{trace}");
    let changed = String::from_utf8_lossy(&signed).replace("\r\n\r\nText", "\r\n\r\nOther text");
    let (_, trace) = judged(&node, "x@none.example", changed.as_bytes());
    assert!(trace.contains("DMARC_FAIL"), "{trace}");

    node.apply(BLOCKS);
    wait::until("the check blocks", Duration::from_secs(10), || {
        let message = smtp::message("x@bad.example", "ok@r.example", "Hi", "Text");
        let reply = smtp::send(node.port, "x@bad.example", &["ok@r.example"], &message).ok()?;
        reply.starts_with("550 5.7.26 Blocked: From domain fails DMARC").then_some(())
    });
}

#[test]
fn egress_sources_are_the_addresses_that_receivers_see() {
    let names = NameServer::start(&[("example", "bad TXT \"v=spf1 ip4:192.0.2.10 -all\"".to_owned())]);
    let settings = format!(
        "{SETTINGS}[[egress_source]]\nnode = \"node1\"\nip = \"192.0.2.11\"\n[[egress_source]]\nnode = \"node1\"\nip = \"192.0.2.12\"\n\
         [[egress_pool]]\nname = \"default\"\nsources = [\"192.0.2.11\", \"192.0.2.12\"]\n"
    );
    let delivery = format!("dns_servers = [\"{}\"]\nretry = [\"1h\"]", names.address());
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, &settings);
    let message = smtp::message("x@bad.example", "ok@r.example", "Hi", "Text");
    let (_, trace) = judged(&node, "x@bad.example", &message);
    assert!(trace.contains("SPF of bad.example does not allow 192.0.2.11, 192.0.2.12"), "{trace}");
}

#[test]
fn a_bulk_sender_is_told_what_large_receivers_ask_of_it() {
    let records = "_dmarc.good TXT \"v=DMARC1; p=none\"\nnone TXT \"something else\"";
    let names = NameServer::start(&[("example", records.to_owned())]);
    let (gate, sink) = (Gate::before(&names), Sink::start());
    let node = node(&gate, &sink, "[scorer.alignment]\naddresses = [\"192.0.2.10\"]\n", SETTINGS);
    let recipients: Vec<String> = (0..1000).map(|n| format!("x{n}@gmail.com")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let news = |from: &str, fields: &str| {
        let message = smtp::message(from, "ok@r.example", "News", "What is new in the shop.");
        [fields.as_bytes(), &message].concat()
    };
    let one_click = "List-Unsubscribe: <https://shop.example/u?1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
    for from in ["x@none.example", "x@good.example"] {
        for _ in 0..5 {
            let reply = smtp::send(node.port, from, &recipients, &news(from, "")).expect("an answer");
            assert!(reply.starts_with("250"), "{reply}");
        }
    }
    let trace_of = |from: &str, fields: &str| {
        let reply = smtp::send(node.port, from, &["x@gmail.com"], &news(from, fields)).expect("an answer");
        assert!(reply.starts_with("250"), "{reply}");
        let id = reply.split_whitespace().last().expect("an id").to_owned();
        wait::until("it is judged", Duration::from_secs(20), || {
            node.log_lines(&[]).iter().any(|line| line["message_id"] == id.as_str()).then_some(())
        });
        node.trace(&id)
    };
    let (click, dkim, dmarc) = ("no one-click unsubscribe", "no aligned DKIM", "publish _dmarc.none.example");
    let trace = trace_of("x@none.example", "");
    assert!(trace.contains("BULK_SENDER") && trace.contains("5,001 recipients at Google today"), "{trace}");
    assert!([click, dkim, dmarc].iter().all(|part| trace.contains(part)), "{trace}");
    let trace = trace_of("x@good.example", one_click);
    assert!(trace.contains("recipients at Google today from good.example: no aligned DKIM"), "{trace}");
    assert!(!trace.contains(click) && !trace.contains("no DMARC"), "{trace}");
    // One that is not verified may be valid: nothing is said of it.
    let unverified = format!(
        "{one_click}DKIM-Signature: v=1; a=rsa-sha256; d=none.example; s=s1; h=from; bh=eA==; b=eA==\r\n"
    );
    let trace = trace_of("x@none.example", &unverified);
    assert!(!trace.contains(click) && !trace.contains(dkim) && trace.contains(dmarc), "{trace}");

    node.apply(&SETTINGS.replacen(
        "\n[[outgoing_user]]",
        "\nchecks = { bulk_sender = \"block\" }\n[[outgoing_user]]",
        1,
    ));
    wait::until("the check blocks", Duration::from_secs(10), || {
        let reply =
            smtp::send(node.port, "x@none.example", &["x@gmail.com"], &news("x@none.example", "")).ok()?;
        reply.starts_with("550 5.7.1 Blocked: bulk mail without what its receiver asks for").then_some(())
    });
    let reply = smtp::send(node.port, "x@none.example", &["x@r.example"], &news("x@none.example", ""));
    assert!(reply.expect("an answer").starts_with("250"), "elsewhere it is not asked");
}
