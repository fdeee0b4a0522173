//! Every check with a message that it finds, and what becomes of that: by default, and under each of its modes.

use schemas::verdict::Disposition;
use schemas::{Position, Topic};

use super::*;
use crate::judge::{Case, judge};
use crate::outside::Findings;
use crate::samples::{NOW, classifier, envelope, policy};
use crate::state::Senders;

/// A message that only one check finds something in.
struct Row {
    classification: Classification,
    blocks_by_default: bool,
    /// Settings that the check needs, as JSON.
    settings: &'static str,
    sender: &'static str,
    recipients: &'static [&'static str],
    helo: &'static str,
    message: String,
}

const FROM: &str = "From: a@b.example\r\n";
const DATE: &str = "Date: Tue, 24 Nov 2026 09:30:00 +0000\r\n";
const SUBJECT: &str = "Subject: Re: minutes of the meeting\r\n";
/// Of an answer: what is so short and no answer is suspect.
const REST: &str = "To: c@d.example\r\nMessage-ID: <2@b.example>\r\nIn-Reply-To: <1@d.example>\r\nReferences: <1@d.example>\r\n";

fn row(classification: Classification, blocks_by_default: bool, message: String) -> Row {
    Row {
        classification,
        blocks_by_default,
        settings: "",
        sender: "a@b.example",
        recipients: &["c@d.example"],
        helo: "mail.customer.example",
        message,
    }
}

fn with(more: &str) -> String {
    format!("{FROM}{DATE}{SUBJECT}{REST}{more}")
}

fn plain() -> String {
    with("\r\nThank you, see you there.\r\n")
}

fn table() -> Vec<Row> {
    let multipart = |parts: &str| {
        with(&format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n"
        ))
    };
    let attachment = "--b\r\nContent-Type: application/octet-stream; name=a.exe\r\n\r\nx\r\n";
    vec![
        row(C::TooManyReceived, true, format!("{}{}", "Received: x\r\n".repeat(101), plain())),
        Row {
            sender: "",
            recipients: &["c@d.example", "e@f.example"],
            ..row(C::NullPathManyRecipients, true, plain())
        },
        Row { recipients: &["a%b@d.example"], ..row(C::RestrictedCharacters, true, plain()) },
        Row {
            settings: r#""from_domains": ["other.example"], "#,
            ..row(C::FromDomainNotAllowed, true, plain())
        },
        Row {
            settings: r#""require_valid_sender": true, "#,
            sender: "root@web1",
            ..row(C::InvalidSender, true, plain())
        },
        row(C::BlockedAttachment, true, multipart(attachment)),
        row(C::MessagePartial, true, with("Content-Type: message/partial; id=x; number=1\r\n\r\nx\r\n")),
        row(C::HeaderTooLong, true, format!("X-Long: x\r\n{}{}", " y\r\n".repeat(30_000), plain())),
        row(C::DuplicateHeader, true, format!("{SUBJECT}{}", plain())),
        row(C::LineTooLong, true, with(&format!("\r\n{}\r\n", "word ".repeat(200)))),
        row(C::TooManyParts, true, multipart(&"--b\r\n\r\nx\r\n".repeat(101))),
        row(C::MissingFrom, false, format!("{DATE}{SUBJECT}{REST}\r\nx\r\n")),
        row(C::ManyFrom, false, format!("From: a@b.example, z@b.example\r\n{DATE}{SUBJECT}{REST}\r\nx\r\n")),
        Row { helo: "192.0.2.1", ..row(C::InvalidHelo, false, plain()) },
        row(
            C::DateOff,
            false,
            format!("{FROM}Date: Mon, 16 Nov 2026 09:00:00 +0000\r\n{SUBJECT}{REST}\r\nx\r\n"),
        ),
        row(C::MissingDate, false, format!("{FROM}{SUBJECT}{REST}\r\nx\r\n")),
        row(C::RawSubject, false, format!("{FROM}{DATE}Subject: Re: Gr\u{fc}\u{df}e\r\n{REST}\r\nx\r\n")),
        row(C::MalformedHeader, false, format!("{FROM}{DATE}{SUBJECT}no field at all\r\n{REST}\r\nx\r\n")),
    ]
}

/// The classification, whether it goes out, and what the checks found.
fn outcome(row: &Row, checks: &str) -> (Classification, bool, Vec<String>) {
    let mut envelope = envelope(row.sender, row.recipients);
    envelope.client.helo = row.helo.into();
    let policy = policy(&format!("{{{}\"checks\": {{{checks}}}}}", row.settings));
    let at = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let senders = Senders::default();
    let case = Case { envelope: &envelope, message: row.message.as_bytes(), policy: &policy };
    let verdict = judge(&case, &Findings::default(), at, &senders, classifier(), NOW).verdict;
    let found = verdict.symbols.into_iter().map(|symbol| symbol.name);
    let found = found.filter(|name| CHECKS.iter().any(|check| check.symbol == name)).collect();
    (verdict.message.classification, verdict.disposition == Disposition::Release, found)
}

#[test]
fn each_check_does_what_its_mode_says() {
    let table = table();
    let of_table: Vec<&str> = table.iter().map(|row| row.classification.code()).collect();
    let of_checks: Vec<&str> = CHECKS.iter().map(|check| check.classification.code()).collect();
    assert_eq!(of_table, of_checks, "each check has its row, in the same order");
    for (row, check) in table.iter().zip(&CHECKS) {
        let code = row.classification.code();
        let mode = |mode: &str| outcome(row, &format!("\"{code}\": \"{mode}\""));
        let symbol = vec![check.symbol.to_owned()];
        let blocked = (row.classification, false, symbol.clone());
        assert_eq!(mode("block"), blocked, "{code} blocks");
        let counted = mode("count");
        assert!(matches!(counted.0, C::Clean | C::Suspect), "{code} counts: {counted:?}");
        assert_eq!((counted.1, &counted.2), (true, &symbol), "{code} counts");
        let off = mode("off");
        assert!(matches!(off.0, C::Clean | C::Suspect), "{code} is off: {off:?}");
        assert_eq!((off.1, off.2), (true, Vec::new()), "{code} is off");
        let default = if row.blocks_by_default { blocked } else { counted };
        assert_eq!(outcome(row, ""), default, "{code} by default");
    }
}
