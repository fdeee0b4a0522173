//! A message read for its content: header section decoded, every text part decoded and taken apart. What the features are
//! made from.

use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::parsers::MessageStream;

use super::html::{Html, Link};
use super::links;
use crate::facts::Facts;
use crate::header::HeaderField;
use crate::mime::Part;
use crate::summary;

/// Decoded text that is looked at, in bytes: of one part, and of the message.
const MAX_PART_BYTES: usize = 128 * 1024;
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Of a part without markup: about as much as the words that are counted take.
const MAX_PLAIN_BYTES: usize = 32 * 1024;
/// Text parts that are looked at.
const MAX_TEXT_PARTS: usize = 20;
/// Of an address field, this much is read, in bytes.
const MAX_ADDRESS_BYTES: usize = 16 * 1024;
const MAX_TEXT_LINKS: usize = 100;

/// Name and address of one mailbox in a header field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub local_part: String,
    /// Lower case.
    pub host: String,
}

/// The text of a message.
#[derive(Default)]
pub struct Reading {
    pub subject: String,
    pub from: Person,
    pub reply_to: Option<Person>,
    pub to: Vec<Person>,
    /// What stands after the `@`, lower case.
    pub message_id_host: String,
    /// Visible text, plain parts and HTML parts apart.
    pub plain: Vec<String>,
    pub seen: Vec<String>,
    pub hidden: Vec<String>,
    pub links: Vec<Link>,
    pub pictures: Vec<String>,
}

impl Reading {
    #[must_use]
    pub fn of(facts: &Facts<'_>) -> Self {
        let message_id = summary::header_message_id(facts).unwrap_or_default();
        Reading {
            subject: summary::subject(facts).unwrap_or_default(),
            from: facts.header.first("from").map(|f| people(f, 1)).and_then(first).unwrap_or_default(),
            reply_to: facts.header.first("reply-to").map(|f| people(f, 1)).and_then(first),
            to: facts.header.first("to").map(|f| people(f, 50)).unwrap_or_default(),
            message_id_host: message_id.rsplit_once('@').map_or("", |(_, host)| host).to_lowercase(),
            ..Reading::default()
        }
    }

    /// Reads the text parts; `with_html` sees each HTML part as it was taken apart.
    pub fn read_parts(&mut self, facts: &Facts<'_>, mut with_html: impl FnMut(&Html<'_>)) {
        let mut left = MAX_TEXT_BYTES;
        let parts = facts.structure().parts.iter().filter(|part| part.is_text() && !part.is_attachment);
        for part in parts.take(MAX_TEXT_PARTS) {
            let is_html = part.content_type == "text/html";
            let max = if is_html { MAX_PART_BYTES } else { MAX_PLAIN_BYTES };
            let text = decoded_text(part, left.min(max));
            left = left.saturating_sub(text.len());
            if is_html || looks_like_html(&text) {
                let html = Html::read(&text);
                with_html(&html);
                self.seen.push(html.text);
                self.hidden.push(html.hidden);
                self.links.extend(html.links);
                self.pictures.extend(html.pictures);
            } else {
                let targets = links::in_text(&text, MAX_TEXT_LINKS);
                self.links
                    .extend(targets.map(|target| Link { target: target.to_owned(), ..Link::default() }));
                self.plain.push(text);
            }
        }
    }
}

/// Mail programs show HTML that calls itself plain text as text; spam is often made so all the same.
fn looks_like_html(text: &str) -> bool {
    let start = text.trim_ascii_start();
    let starts_with = |tag: &str| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag));
    starts_with("<html") || starts_with("<!doctype html")
}

/// The text of a part: in the charset that it names, else UTF-8, else as Windows-1252.
fn decoded_text(part: &Part<'_>, max: usize) -> String {
    let octets = part.decoded_start(max);
    let named = part.charset.as_deref().unwrap_or("utf-8");
    let is_unicode = named.eq_ignore_ascii_case("utf-8") || named.eq_ignore_ascii_case("us-ascii");
    if !is_unicode && let Some(decode) = charset_decoder(named.as_bytes()) {
        return decode(&octets);
    }
    match String::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => {
            let octets = error.as_bytes();
            let valid = error.utf8_error().valid_up_to();
            // Cut in the middle of a character, or a few wrong octets: still what it says it is.
            let lossy = String::from_utf8_lossy(octets);
            let wrong = lossy.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
            let foreign = octets.iter().filter(|b| !b.is_ascii()).count();
            if valid + 4 > octets.len() || wrong * 3 < foreign {
                lossy.into_owned()
            } else {
                charset_decoder(b"windows-1252").map_or_else(|| lossy.into_owned(), |decode| decode(octets))
            }
        }
    }
}

fn first(people: Vec<Person>) -> Option<Person> {
    people.into_iter().next()
}

fn people(field: HeaderField<'_>, max: usize) -> Vec<Person> {
    let value = &field.value[..field.value.len().min(MAX_ADDRESS_BYTES)];
    let Some(address) = MessageStream::new(value).parse_address().into_address() else { return Vec::new() };
    address
        .iter()
        .take(max)
        .map(|mailbox| {
            let address = mailbox.address.as_deref().unwrap_or_default();
            let (local_part, host) = address.rsplit_once('@').unwrap_or((address, ""));
            Person {
                name: mailbox.name.as_deref().unwrap_or_default().to_owned(),
                local_part: local_part.to_owned(),
                host: host.trim_end_matches('.').to_lowercase(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;

    fn reading(message: &str) -> Reading {
        let envelope = envelope("a@b.example", &[]);
        let facts = Facts::of(&envelope, message.as_bytes());
        let mut reading = Reading::of(&facts);
        reading.read_parts(&facts, |_| {});
        reading
    }

    #[test]
    fn every_text_is_decoded() {
        for (fields, body, expect) in [
            (
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64",
                "w6TDtsO8",
                "äöü",
            ),
            (
                "Content-Type: text/plain; charset=iso-8859-2\r\nContent-Transfer-Encoding: quoted-printable",
                "=B1",
                "ą",
            ),
            (
                "Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: quoted-printable",
                "=D0",
                "п",
            ),
            ("Content-Type: text/plain; charset=nonsense", "plain", "plain"),
            ("Content-Transfer-Encoding: quoted-printable", "caf=E9 au lait", "café au lait"),
        ] {
            assert_eq!(reading(&format!("{fields}\r\n\r\n{body}")).plain, [expect], "{fields}");
        }
    }

    #[test]
    fn the_header_is_read() {
        let read = reading(
            "From: \"=?utf-8?q?M=C3=BCller?=\" <M@B.Example>\r\nReply-To: x@y.example\r\nMessage-ID: <1@C.example>\r\n\r\nsee https://d.example/",
        );
        assert_eq!((read.from.name.as_str(), read.from.host.as_str()), ("Müller", "b.example"));
        assert_eq!(read.reply_to.unwrap().host, "y.example");
        assert_eq!(read.message_id_host, "c.example");
        assert_eq!(read.links[0].target, "https://d.example/");
    }
}
