//! Messages made to cost time or memory, or to hide what they say.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

use std::fmt::Write;
use std::time::{Duration, Instant};

use schemas::Timestamp;
use scorer::Classifier;

/// Far above what any of these takes, also in a build without optimisation beside other work: it tells a cost that grows with
/// the square of the input from one that grows with it.
const PATIENCE: Duration = Duration::from_secs(20);
const HEADER: &str = "From: a@b.example\r\nTo: c@d.example\r\nMessage-ID: <1@b.example>\r\nSubject: x\r\n\
                      Date: Tue, 24 Nov 2026 09:30:00 +0000\r\nMIME-Version: 1.0\r\n";

fn judged_in_time(name: &str, message: &[u8]) {
    let classifier = Classifier::shipped().expect("the shipped model");
    let started = Instant::now();
    let verdict = scorer::score_message(message, &classifier, Timestamp(1_795_512_600_000)).verdict;
    assert!(started.elapsed() < PATIENCE, "{name}: {:?}", started.elapsed());
    let json = serde_json::to_vec(&verdict).expect("JSON");
    assert!(json.len() < 128 * 1024, "{name}: a verdict of {} bytes", json.len());
}

#[test]
fn ten_thousand_parts_and_deep_nesting() {
    let flat = format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\nContent-Type: text/html\r\n\r\n<p>some <b>text</b>\r\n".repeat(10_000)
    );
    judged_in_time("flat", flat.as_bytes());
    let mut nested = HEADER.to_owned();
    for depth in 0..10_000 {
        let _ = write!(nested, "Content-Type: multipart/mixed; boundary=\"b{depth}\"\r\n\r\n--b{depth}\r\n");
    }
    judged_in_time("nested", nested.as_bytes());
    let wrapped = format!("{HEADER}{}", "Content-Type: message/rfc822\r\n\r\n".repeat(50_000));
    judged_in_time("messages in messages", wrapped.as_bytes());
    let one_boundary =
        format!("{HEADER}{}", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(20_000));
    judged_in_time("one boundary", one_boundary.as_bytes());
}

#[test]
fn megabytes_of_header() {
    let word = "word ".repeat(14);
    for (name, message) in [
        ("one folded field", format!("Subject: {}\r\n{HEADER}\r\nx", format!("{word}\r\n ").repeat(60_000))),
        ("one line", format!("X-Long: {}\r\n{HEADER}\r\nx", "y".repeat(4 * 1024 * 1024))),
        ("many fields", format!("{}{HEADER}\r\nx", "X-Field: value\r\n".repeat(200_000))),
        (
            "encoded words",
            format!("Subject:{}\r\n{HEADER}\r\nx", " =?utf-8?b?w7zDvA==?=\r\n".repeat(100_000)),
        ),
        (
            "addresses",
            format!("To: {}z@z.example\r\n{HEADER}\r\nx", "\"a, b\" <c@d.example>,\r\n ".repeat(100_000)),
        ),
        ("comments", format!("From: {}a@b.example\r\nTo: c@d.example\r\n\r\nx", "(".repeat(1024 * 1024))),
        ("parameters", format!("{HEADER}Content-Type: text/plain;{}\r\n\r\nx", " a=\"b\";".repeat(200_000))),
        (
            "received",
            format!(
                "{}{HEADER}\r\nx",
                "Received: from a by b; Tue, 24 Nov 2026 09:30:00 +0000\r\n".repeat(50_000)
            ),
        ),
        ("no end", format!("Subject: {}", "x\r\n ".repeat(500_000))),
    ] {
        judged_in_time(name, message.as_bytes());
    }
}

#[test]
fn markup_and_encodings_without_end() {
    let html = |piece: &str| {
        format!("{HEADER}Content-Type: text/html\r\n\r\n{}", piece.repeat(2 * 1024 * 1024 / piece.len()))
    };
    for (name, message) in [
        ("open tags", html("<div><table><a href=\"")),
        ("quotes", html("<a href='\"><b style=\"'")),
        ("comments", html("<!-- <!-- ")),
        ("entities", html("&#x41;&amp;&nosuch;&")),
        ("links", html("<a href=http://a.example/?b=http://c.example>http://d.example</a>")),
        ("styles", html("<p style=\"display:none;font-size:0;color:#fff\">x")),
        ("long word", html("x")),
        ("addresses in text", format!("{HEADER}\r\n{}", "http://a.example/".repeat(100_000))),
    ] {
        judged_in_time(name, message.as_bytes());
    }
    for encoding in ["base64", "quoted-printable"] {
        let message = format!(
            "{HEADER}Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{}",
            "=3D=C3AAAA".repeat(400_000)
        );
        judged_in_time(encoding, message.as_bytes());
    }
}

/// Archives are read by their directory and never unpacked, so that a bomb is as small as it came.
#[test]
fn a_bomb_in_an_archive_stays_packed() {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for number in 0..20_000u32 {
        let name = format!("{number}.txt");
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&[0; 20]);
        // Uncompressed size: 4 GiB.
        directory.splice(directory.len() - 4.., u32::MAX.to_le_bytes());
        directory.extend_from_slice(&(name.len() as u16).to_le_bytes());
        directory.extend_from_slice(&[0; 16]);
        directory.extend_from_slice(name.as_bytes());
    }
    zip.extend_from_slice(b"PK\x03\x04");
    zip.extend_from_slice(&directory);
    zip.extend_from_slice(b"PK\x05\x06");
    zip.extend_from_slice(&[0; 8]);
    zip.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    zip.extend_from_slice(&[0; 6]);
    for claimed in [directory.len() as u32, u32::MAX, 0] {
        let at = zip.len() - 10;
        zip.splice(at..at + 4, claimed.to_le_bytes());
        let mut message = format!(
            "{HEADER}Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        )
        .into_bytes();
        message.extend_from_slice(&zip);
        judged_in_time("zip", &message);
    }
}

/// The same letter in many charsets: whoever writes in another must not hide what he says.
#[test]
fn every_charset_is_read() {
    use scorer::classifier::reading::Reading;
    use scorer::facts::Facts;

    let utf16 = |big: bool, text: &str| -> Vec<u8> {
        let octets = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(octets).collect()
    };
    let latin = "Your account is limited";
    let mut cases: Vec<(String, &str, Vec<u8>)> = vec![
        ("utf-16le".into(), latin, utf16(false, latin)),
        ("utf-16be".into(), latin, utf16(true, latin)),
        ("utf-7".into(), "Konto gesperrt: prüfen", b"Konto gesperrt: pr+APw-fen".to_vec()),
        ("no-such-charset".into(), latin, latin.into()),
    ];
    for (label, text) in [
        ("iso-8859-1", "Ihr Konto wurde eingeschränkt"),
        ("iso-8859-2", "Twoje konto zostało zablokowane"),
        ("iso-8859-3", latin),
        ("iso-8859-4", "Jūsu konts ir bloķēts"),
        ("iso-8859-5", "Ваш счёт заблокирован"),
        ("iso-8859-6", "تم تعليق حسابك"),
        ("iso-8859-7", "Ο λογαριασμός σας"),
        ("iso-8859-8", "החשבון שלך נחסם"),
        ("iso-8859-9", "Hesabınız askıya alındı"),
        ("iso-8859-10", latin),
        ("iso-8859-13", "Jūsų sąskaita užblokuota"),
        ("iso-8859-14", latin),
        ("iso-8859-15", "Votre cœur à 5 €"),
        ("iso-8859-16", latin),
        ("windows-1250", "Váš účet byl zablokován"),
        ("windows-1251", "Ваш счет заблокирован"),
        ("windows-1252", "Ihr Konto – geprüft"),
        ("windows-1253", "Ο λογαριασμός σας"),
        ("windows-1254", "Hesabınız askıya alındı"),
        ("windows-1255", "החשבון שלך נחסם"),
        ("windows-1256", "تم تعليق حسابك"),
        ("windows-1257", "Jūsų sąskaita užblokuota"),
        ("windows-1258", latin),
        ("windows-874", "บัญชีของคุณถูกระงับ"),
        ("koi8-r", "Ваш счет заблокирован"),
        ("koi8-u", "Ваш рахунок заблоковано"),
        ("macintosh", "Votre compte est limité"),
        ("ibm866", "Ваш счет заблокирован"),
        ("gbk", "您的帐户已被限制"),
        ("gb2312", "您的帐户已被限制"),
        ("gb18030", "您的帐户已被限制"),
        ("big5", "您的帳戶已被限制"),
        ("shift_jis", "アカウントが制限されています"),
        ("euc-jp", "アカウントが制限されています"),
        ("iso-2022-jp", "アカウントが制限されています"),
        ("euc-kr", "귀하의 계정이 제한되었습니다"),
        ("us-ascii", latin),
        ("utf-8", "您的帐户 Ваш счет"),
    ] {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).expect("a label");
        let (octets, _, lost) = encoding.encode(text);
        assert!(!lost, "{label} has no way to write {text}");
        cases.push((label.into(), text, octets.into_owned()));
    }
    for (label, text, octets) in cases {
        let encoded: String = octets.iter().map(|octet| format!("={octet:02X}=\r\n")).collect();
        let message = format!(
            "{HEADER}Content-Type: text/plain; charset=\"{label}\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{encoded}"
        );
        let envelope = scorer::score_message(
            b"From: a@b.example\r\n\r\n",
            &Classifier::shipped().expect("the shipped model"),
            Timestamp(0),
        );
        let envelope = envelope_of(&envelope.verdict);
        let facts = Facts::of(&envelope, message.as_bytes());
        let mut reading = Reading::of(&facts);
        reading.read_parts(&facts, |_| {});
        assert!(reading.plain.iter().any(|plain| plain.contains(text)), "{label}: {:?}", reading.plain);
    }
}

fn envelope_of(verdict: &schemas::verdict::Verdict) -> schemas::Envelope {
    schemas::Envelope {
        id: verdict.message.id,
        accepted_at: Timestamp(0),
        node: "node1".into(),
        reply_partition: None,
        user: verdict.message.user.clone(),
        domain: verdict.message.domain.clone(),
        client: verdict.client.clone(),
        reverse_path: verdict.message.reverse_path.clone(),
        recipients: Vec::new(),
        ret: None,
        envid: None,
        body_type: schemas::envelope::BodyType::EightBitMime,
        smtputf8: false,
        size_bytes: 0,
        chunks: Vec::new(),
        origin: None,
    }
}
