//! CPU time to decode and classify one message: `cargo bench -p scorer --bench classify`. One line per kind of message, the
//! best of several rounds, since anything else on the machine only ever adds.

use std::hint::black_box;
use std::time::Instant;

use scorer::Classifier;

const ROUNDS: usize = 15;

fn main() {
    let classifier = Classifier::shipped().expect("the shipped model can be read");
    println!("{:<34} {:>9} {:>8} {:>10}", "message", "bytes", "µs", "per second");
    for (name, message) in [
        ("text, 2 KiB", text(2 * 1024)),
        ("text, 10 KiB", text(10 * 1024)),
        ("text and HTML, 10 KiB", alternative(10 * 1024)),
        ("text and HTML, 50 KiB", alternative(50 * 1024)),
        ("text and HTML, 1 MiB", alternative(1024 * 1024)),
        ("attachment, 5 MiB", attachment(5 * 1024 * 1024)),
        ("10,000 parts", parts(10_000)),
        ("tags and quotes, 1 MiB", html("<a href=\"'<b style='\">&", 1024 * 1024)),
        ("links, 1 MiB", html("<a href=http://a.example/b?c=d>e</a> ", 1024 * 1024)),
        ("a header field of 200 KiB", long_field(200 * 1024)),
    ] {
        let messages = (200_000 / message.len()).clamp(2, 100);
        let round = || {
            let started = Instant::now();
            for _ in 0..messages {
                black_box(scorer::spam_probability(black_box(&message), &classifier));
            }
            started.elapsed().as_secs_f64() / messages as f64
        };
        let best = (0..ROUNDS).map(|_| round()).fold(f64::MAX, f64::min);
        println!("{name:<34} {:>9} {:>8.1} {:>10.0}", message.len(), best * 1e6, 1.0 / best);
    }
}

const HEADER: &str = "From: \"Alice of the shop\" <alice@shop.example>\r\nTo: Bob <bob@elsewhere.example>\r\nDate: Tue, 24 Nov 2026 09:29:58 +0000\r\nSubject: =?utf-8?q?Ihre_Bestellung_f=C3=BCr_November?=\r\nMessage-ID: <20261124092958.4626FFF809@mail.shop.example>\r\nMIME-Version: 1.0\r\n";

/// Text in which every word is another one, which is the most work.
fn filler(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 20);
    let mut number = 7u32;
    while text.len() < bytes {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let letters = (0..3 + number % 7).map(|at| char::from(b'a' + ((number >> (at * 3)) % 26) as u8));
        text.extend(letters);
        text.push_str(if number.is_multiple_of(13) { ".\r\n" } else { " " });
    }
    text
}

fn text(bytes: usize) -> Vec<u8> {
    format!("{HEADER}Content-Type: text/plain; charset=utf-8\r\n\r\n{}", filler(bytes - 400)).into_bytes()
}

fn alternative(bytes: usize) -> Vec<u8> {
    let half = filler((bytes - 800) / 2);
    let rich = half
        .replace(".\r\n", "=2E</p>\r\n<p style=3D\"color:#333\"><a href=3D\"https://shop.example/a\">x</a>");
    format!(
        "{HEADER}Content-Type: multipart/alternative; boundary=\"=_b1\"\r\n\r\n--=_b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{half}\r\n--=_b1\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><p>{rich}</p></body></html>\r\n--=_b1--\r\n"
    )
    .into_bytes()
}

fn html(piece: &str, bytes: usize) -> Vec<u8> {
    format!("{HEADER}Content-Type: text/html\r\n\r\n{}", piece.repeat(bytes / piece.len())).into_bytes()
}

fn attachment(bytes: usize) -> Vec<u8> {
    let line = "JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSL0ZpbHRlci9GbGF0\r\n";
    format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=\"=_b1\"\r\n\r\n--=_b1\r\n\r\nattached\r\n--=_b1\r\nContent-Type: application/pdf; name=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--=_b1--\r\n",
        line.repeat(bytes / line.len())
    )
    .into_bytes()
}

fn parts(count: usize) -> Vec<u8> {
    format!(
        "{HEADER}Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\n\r\nsome text\r\n".repeat(count)
    )
    .into_bytes()
}

fn long_field(bytes: usize) -> Vec<u8> {
    format!("Subject: {}\r\n{HEADER}\r\nhello\r\n", filler(bytes).replace("\r\n", "\r\n ")).into_bytes()
}
