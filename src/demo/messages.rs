//! The demo's traffic: what real customers of a hoster send, good and bad, each with the outcome it must have.

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;
use schemas::Timestamp;

/// Which of the three outgoing users sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The server known by its address.
    Server,
    /// `shop.example` with its password.
    Domain,
    /// `orders@shop.example` with its password.
    Mailbox,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every recipient has it.
    Delivered,
    /// 550 at the end of DATA, and in quarantine.
    Blocked,
    /// The receiver refuses the first recipient: a DSN comes back.
    Bounced,
}

/// One message of the batch.
#[derive(Clone, Debug)]
pub struct Item {
    pub what: &'static str,
    pub sender: Sender,
    pub reverse_path: String,
    pub recipients: Vec<String>,
    pub message: Vec<u8>,
    pub expected: Expected,
}

/// GTUBE: the line that every filter must take for spam.
const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// The whole batch: `rounds` of every kind, in a mixed order.
///
/// # Errors
/// When a message cannot be signed.
pub fn batch(rounds: usize, now: Timestamp, client_key: &ClientKey) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for round in 0..rounds {
        items.push(clean_server(round, now));
        items.push(clean_domain(round, now));
        items.push(clean_mailbox(round, now));
        items.push(client_signed(round, now, client_key)?);
        items.push(deferred(round, now));
        if round % 4 == 0 {
            items.push(bounced(round, now));
            items.push(malformed(round, now));
            items.push(blocked_sender(round, now));
        }
        if round % 8 == 0 {
            items.push(spam(round, now));
        }
    }
    Ok(items)
}

/// The key with which a customer of the demo signs its own mail.
pub struct ClientKey {
    pkcs8: Vec<u8>,
}

impl ClientKey {
    /// # Errors
    /// When no key can be made.
    pub fn generate() -> anyhow::Result<Self> {
        let pkcs8 =
            Ed25519Key::generate_pkcs8().map_err(|error| anyhow::anyhow!("the client's key: {error:?}"))?;
        Ok(ClientKey { pkcs8 })
    }

    /// The TXT record at `client._domainkey.newsroom.example`.
    ///
    /// # Errors
    /// When the key does not read back.
    pub fn record(&self) -> anyhow::Result<String> {
        use base64::Engine;
        let public = base64::engine::general_purpose::STANDARD.encode(self.key()?.public_key());
        Ok(format!("v=DKIM1; k=ed25519; p={public}"))
    }

    fn key(&self) -> anyhow::Result<Ed25519Key> {
        Ed25519Key::from_pkcs8_der(&self.pkcs8)
            .map_err(|error| anyhow::anyhow!("the client's key: {error:?}"))
    }
}

fn message(
    from: &str,
    to: &str,
    subject: &str,
    id: &str,
    now: Timestamp,
    extra: &str,
    body: &str,
) -> Vec<u8> {
    format!(
        "{extra}From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: <{id}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n",
        now.rfc5322()
    )
    .into_bytes()
}

fn clean_server(round: usize, now: Timestamp) -> Item {
    let account = ["anna@florist.example", "office@lawyers.example", "info@bakery.example"][round % 3];
    let to = format!("guest{round}@inbox.example");
    let extra = format!(
        "X-AuthUser: {account}\r\nReceived: from [192.0.2.{}] (helo=laptop) by server1.hoster.example with esmtpa (Exim 4.96) id 1abcde-{round:06}-AB; {}\r\n",
        round % 250,
        now.rfc5322()
    );
    Item {
        what: "from an account of a shared server",
        sender: Sender::Server,
        reverse_path: account.into(),
        message: message(
            account,
            &to,
            "Your appointment on Friday",
            &format!("clean-s{round}@server1.hoster.example"),
            now,
            &extra,
            "Dear customer,\r\n\r\nwe look forward to seeing you on Friday at ten.\r\n\r\nKind regards",
        ),
        recipients: vec![to],
        expected: Expected::Delivered,
    }
}

fn clean_domain(round: usize, now: Timestamp) -> Item {
    let to = vec![format!("buyer{round}@inbox.example"), format!("copy{round}@inbox.example")];
    Item {
        what: "an order confirmation to two recipients",
        sender: Sender::Domain,
        reverse_path: "sales@shop.example".into(),
        message: message(
            "Shop <sales@shop.example>",
            &to.join(", "),
            &format!("Order {} confirmed", 10_000 + round),
            &format!("clean-d{round}@shop.example"),
            now,
            "",
            "Thank you for your order. It leaves our warehouse tomorrow.",
        ),
        recipients: to,
        expected: Expected::Delivered,
    }
}

fn clean_mailbox(round: usize, now: Timestamp) -> Item {
    let to = format!("partner{round}@inbox.example");
    Item {
        what: "a letter with umlauts",
        sender: Sender::Mailbox,
        reverse_path: "orders@shop.example".into(),
        message: message(
            "orders@shop.example",
            &to,
            "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=",
            &format!("clean-m{round}@shop.example"),
            now,
            "",
            "Schöne Grüße aus Köln.\r\n.\u{2e} a line with dots",
        ),
        recipients: vec![to],
        expected: Expected::Delivered,
    }
}

fn client_signed(round: usize, now: Timestamp, key: &ClientKey) -> anyhow::Result<Item> {
    let to = format!("reader{round}@inbox.example");
    let from = "desk@newsroom.example";
    let unsigned = message(
        from,
        &to,
        "Morning briefing",
        &format!("signed-{round}@newsroom.example"),
        now,
        "",
        "Today in the news: nothing happened.",
    );
    let signature = DkimSigner::from_key(key.key()?)
        .domain("newsroom.example")
        .selector("client")
        .headers(["From", "To", "Subject", "Date", "Message-ID"])
        .sign(&unsigned)
        .map_err(|error| anyhow::anyhow!("the client's signature: {error:?}"))?;
    let mut signed = signature.to_header().into_bytes();
    signed.extend_from_slice(&unsigned);
    Ok(Item {
        what: "already signed by the customer",
        sender: Sender::Server,
        reverse_path: from.into(),
        recipients: vec![to],
        message: signed,
        expected: Expected::Delivered,
    })
}

fn deferred(round: usize, now: Timestamp) -> Item {
    let to = format!("friend{round}@slow.example");
    Item {
        what: "to a receiver that first defers",
        sender: Sender::Domain,
        reverse_path: "sales@shop.example".into(),
        message: message(
            "sales@shop.example",
            &to,
            "Your parcel",
            &format!("slow-{round}@shop.example"),
            now,
            "",
            "It is on its way.",
        ),
        recipients: vec![to],
        expected: Expected::Delivered,
    }
}

fn bounced(round: usize, now: Timestamp) -> Item {
    let to = format!("nobody@inbox{}.example", round % 2);
    Item {
        what: "to a mailbox that does not exist",
        sender: Sender::Mailbox,
        reverse_path: "orders@shop.example".into(),
        message: message(
            "orders@shop.example",
            &to,
            "Are you there?",
            &format!("bounce-{round}@shop.example"),
            now,
            "",
            "Hello?",
        ),
        recipients: vec![to],
        expected: Expected::Bounced,
    }
}

fn malformed(round: usize, now: Timestamp) -> Item {
    let to = format!("guest{round}@inbox.example");
    Item {
        what: "malformed: two Subject fields",
        sender: Sender::Server,
        reverse_path: "forum@bakery.example".into(),
        message: message(
            "forum@bakery.example",
            &to,
            "One",
            &format!("bad-{round}@bakery.example"),
            now,
            "X-PHP-Originating-Script: 1001:mailer.php\r\nSubject: Two\r\n",
            "Hi",
        ),
        recipients: vec![to],
        expected: Expected::Blocked,
    }
}

fn blocked_sender(round: usize, now: Timestamp) -> Item {
    let to = format!("guest{round}@inbox.example");
    Item {
        what: "from a blocked address",
        sender: Sender::Domain,
        reverse_path: "casino@shop.example".into(),
        message: message(
            "casino@shop.example",
            &to,
            "You won",
            &format!("casino-{round}@shop.example"),
            now,
            "",
            "Click here.",
        ),
        recipients: vec![to],
        expected: Expected::Blocked,
    }
}

fn spam(round: usize, now: Timestamp) -> Item {
    let to = format!("guest{round}@inbox.example");
    Item {
        what: "spam from a hacked account",
        sender: Sender::Server,
        reverse_path: "hacked@florist.example".into(),
        message: message(
            "hacked@florist.example",
            &to,
            "Cheap",
            &format!("spam-{round}@florist.example"),
            now,
            "X-AuthUser: hacked@florist.example\r\n",
            GTUBE,
        ),
        recipients: vec![to],
        expected: Expected::Blocked,
    }
}
