//! The MIME structure of a message (RFC 2045, 2046): one pass over the lines that may be boundaries, no part decoded,
//! memory bounded whatever is nested in what.

use mail_parser::ContentType;
use mail_parser::parsers::MessageStream;
use memchr::{memchr, memmem};

use crate::header::{HeaderField, HeaderSection};
use crate::transfer;

/// Parts looked at; the rest of a message with more is not, since it is blocked or its operator wants it so.
pub const MAX_PARTS: usize = 1000;
/// Boundaries looked for at once, and messages within messages.
const MAX_DEPTH: usize = 32;
/// `Content-Type` and `Content-Disposition` longer than this are read up to here, in bytes.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// The parts of a message, in order; the first is the message itself.
pub struct Structure<'a> {
    pub parts: Vec<Part<'a>>,
}

/// A MIME part.
pub struct Part<'a> {
    /// Type and subtype in lower case; `text/plain` when it has none (RFC 2045 5.2).
    pub content_type: String,
    /// What it calls its file: in `Content-Disposition`, in `Content-Type`; decoded (RFC 2231, RFC 2047).
    pub file_names: Vec<String>,
    pub encoding: Encoding,
    /// As it is named, if it is.
    pub charset: Option<String>,
    /// `Content-Disposition: attachment`.
    pub is_attachment: bool,
    /// Of a multipart.
    pub boundary: Option<String>,
    /// As it stands, encoded; of a multipart everything within.
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Base64,
    QuotedPrintable,
}

impl Part<'_> {
    #[must_use]
    pub fn is_multipart(&self) -> bool {
        self.content_type.starts_with("multipart/")
    }

    #[must_use]
    pub fn is_text(&self) -> bool {
        self.content_type.starts_with("text/")
    }

    /// The first `max` bytes, decoded.
    #[must_use]
    pub fn decoded_start(&self, max: usize) -> Vec<u8> {
        match self.encoding {
            Encoding::Identity => self.body[..self.body.len().min(max)].to_vec(),
            Encoding::Base64 => transfer::base64(self.body, max),
            Encoding::QuotedPrintable => transfer::quoted_printable(self.body, max),
        }
    }

    /// All of it, decoded.
    #[must_use]
    pub fn decoded(&self) -> Vec<u8> {
        self.decoded_start(self.body.len())
    }
}

/// A boundary that is open: lines `--boundary` separate the parts of part number `part`.
struct Open {
    boundary: Vec<u8>,
    part: usize,
}

impl<'a> Structure<'a> {
    /// `section` is the header section of `message`.
    #[must_use]
    pub fn of(message: &'a [u8], section: &HeaderSection<'a>) -> Self {
        let mut walk = Walk { message, parts: Vec::new(), starts: Vec::new(), open: Vec::new() };
        walk.begin(section, section.body_at(), 0);
        walk.run(section.body_at());
        Structure { parts: walk.parts }
    }
}

struct Walk<'a> {
    message: &'a [u8],
    parts: Vec<Part<'a>>,
    /// Where the body of each part begins; its end is set when it is known.
    starts: Vec<usize>,
    open: Vec<Open>,
}

impl<'a> Walk<'a> {
    fn run(&mut self, from: usize) {
        if self.open.is_empty() {
            return;
        }
        let finder = memmem::Finder::new(b"\n--");
        // The line end before the body, so that a boundary on its first line is found.
        let mut at = from.saturating_sub(1);
        while let Some(found) = finder.find(&self.message[at..]) {
            let line_at = at + found + 1;
            let end = memchr(b'\n', &self.message[line_at..]).map_or(self.message.len(), |n| line_at + n);
            at = end.min(self.message.len());
            if let Some(body_at) = self.boundary_line(line_at, end) {
                // The new part's header section may end in the line end that stands before the next boundary.
                at = at.max(body_at.saturating_sub(1));
            }
            if self.parts.len() >= MAX_PARTS || self.open.is_empty() {
                return;
            }
        }
    }

    /// When the line is an open boundary, ends what it ends; begins the next part and tells where its body is.
    fn boundary_line(&mut self, line_at: usize, end: usize) -> Option<usize> {
        let text = self.message[line_at + 2..end].trim_ascii_end();
        let closes = |open: &Open| {
            text.strip_prefix(open.boundary.as_slice()).is_some_and(|rest| rest.is_empty() || rest == b"--")
        };
        let depth = self.open.iter().rposition(closes)?;
        let is_last = text.len() > self.open[depth].boundary.len();
        // Whatever stands within is over, also when its own closing boundary is missing.
        self.end_parts_after(self.open[depth].part, line_at);
        self.open.truncate(if is_last { depth } else { depth + 1 });
        if is_last {
            return None;
        }
        let start = (end + 1).min(self.message.len());
        let (section, body_at) = self.section_at(start);
        self.begin(&section, body_at, depth + 1);
        Some(body_at)
    }

    /// The header section that begins at `start`, and where its body begins. It ends where a boundary may be, so that a
    /// part without an empty line hides nothing.
    fn section_at(&self, start: usize) -> (HeaderSection<'a>, usize) {
        let before = start.saturating_sub(1);
        let limit =
            memmem::find(&self.message[before..], b"\n--").map_or(self.message.len(), |n| before + n + 1);
        let section = HeaderSection::split(&self.message[start..limit.max(start)]);
        let body_at = start + section.body_at();
        (section, body_at)
    }

    /// Cuts the bodies of the parts after `parent` that still run, where `line_at` begins.
    fn end_parts_after(&mut self, parent: usize, line_at: usize) {
        // The line end before a boundary belongs to the boundary (RFC 2046 5.1.1).
        let end = match &self.message[..line_at] {
            [.., b'\r', b'\n'] => line_at - 2,
            _ => line_at - 1,
        };
        for index in (parent + 1..self.parts.len()).rev() {
            let start = self.starts[index];
            let runs_on = start + self.parts[index].body.len() == self.message.len();
            if !runs_on {
                break;
            }
            self.parts[index].body = &self.message[start..end.max(start)];
        }
    }

    fn begin(&mut self, section: &HeaderSection<'a>, body_at: usize, depth: usize) {
        let content_type = section.first("content-type").and_then(parse);
        let disposition = section.first("content-disposition").and_then(parse);
        let part = self.parts.len();
        self.parts.push(Part {
            content_type: type_of(content_type.as_ref()),
            file_names: file_names(disposition.as_ref(), content_type.as_ref()),
            encoding: encoding(section),
            charset: content_type.as_ref().and_then(|c| c.attribute("charset")).map(str::to_owned),
            is_attachment: disposition.as_ref().is_some_and(|d| d.ctype().eq_ignore_ascii_case("attachment")),
            boundary: content_type.as_ref().and_then(|c| c.attribute("boundary")).map(str::to_owned),
            body: &self.message[body_at..],
        });
        self.starts.push(body_at);
        if depth >= MAX_DEPTH || self.parts.len() >= MAX_PARTS {
            return;
        }
        if self.parts[part].is_multipart() {
            let boundary =
                content_type.as_ref().and_then(|c| c.attribute("boundary")).unwrap_or("").trim_end();
            if !boundary.is_empty() {
                self.open.push(Open { boundary: boundary.as_bytes().to_vec(), part });
            }
        } else if matches!(self.parts[part].content_type.as_str(), "message/rfc822" | "message/global")
            && self.parts[part].encoding == Encoding::Identity
        {
            let (inner, inner_body_at) = self.section_at(body_at);
            self.begin(&inner, inner_body_at, depth + 1);
        }
    }
}

fn parse<'a>(field: HeaderField<'a>) -> Option<ContentType<'a>> {
    let value = &field.value[..field.value.len().min(MAX_FIELD_BYTES)];
    MessageStream::new(value).parse_content_type().into_content_type()
}

fn type_of(content_type: Option<&ContentType<'_>>) -> String {
    match content_type {
        Some(c) => match c.subtype() {
            Some(subtype) => format!("{}/{}", c.ctype(), subtype).to_ascii_lowercase(),
            None => c.ctype().to_ascii_lowercase(),
        },
        None => "text/plain".into(),
    }
}

fn file_names(disposition: Option<&ContentType<'_>>, content_type: Option<&ContentType<'_>>) -> Vec<String> {
    let mut names = Vec::new();
    let named = [
        (disposition, "filename"),
        (content_type, "name"),
        (disposition, "name"),
        (content_type, "filename"),
    ];
    for (field, attribute) in named {
        if let Some(name) = field.and_then(|f| f.attribute(attribute)) {
            let name = decode_words(name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A file name is often sent in encoded words within quotes, which RFC 2047 5 forbids and receivers read.
fn decode_words(name: &str) -> String {
    if !name.contains("=?") {
        return name.into();
    }
    let line = format!("{name}\r\n");
    MessageStream::new(line.as_bytes())
        .parse_unstructured()
        .into_text()
        .map_or_else(|| name.to_owned(), std::borrow::Cow::into_owned)
}

fn encoding(section: &HeaderSection<'_>) -> Encoding {
    let Some(field) = section.first("content-transfer-encoding") else { return Encoding::Identity };
    let value = field.value.trim_ascii();
    if value.eq_ignore_ascii_case(b"base64") {
        Encoding::Base64
    } else if value.eq_ignore_ascii_case(b"quoted-printable") {
        Encoding::QuotedPrintable
    } else {
        Encoding::Identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(message: &[u8], expect: &[(&str, &str)]) {
        let section = HeaderSection::split(message);
        let structure = Structure::of(message, &section);
        let found: Vec<_> = structure
            .parts
            .iter()
            .filter(|p| !p.is_multipart())
            .map(|p| (p.content_type.clone(), String::from_utf8_lossy(p.body).into_owned()))
            .collect();
        let expect: Vec<_> = expect.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn parts_are_found_where_they_are() {
        check(b"A: 1\r\n\r\nbody\r\n", &[("text/plain", "body\r\n")]);
        check(
            b"Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\npreamble\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\nepilogue\r\n--b\r\n",
            &[("text/plain", "one"), ("text/html", "two")],
        );
        // nested, the inner one never closed; a boundary that is a prefix of another
        check(
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\nin\n--b\n\nout\n--b--\n",
            &[("text/plain", "in"), ("text/plain", "out")],
        );
        check(
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nContent-Type: text/x\n\nin\n--b--\n",
            &[("message/rfc822", "Content-Type: text/x\n\nin"), ("text/x", "in")],
        );
        // a part without an empty line hides nothing
        check(
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\nX: y\n--b\n\nx\n--b--\n",
            &[("text/plain", ""), ("text/plain", "x")],
        );
        // an empty part
        check(
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\n\nx\n--b--\n",
            &[("text/plain", ""), ("text/plain", "x")],
        );
    }

    #[test]
    fn file_names_are_decoded() {
        for (fields, name) in [
            ("Content-Disposition: attachment; filename=\"a.exe\"", "a.exe"),
            ("Content-Type: application/octet-stream; name=a.exe", "a.exe"),
            ("Content-Disposition: attachment; filename*=utf-8''%e2%82%ac.exe", "€.exe"),
            (
                "Content-Disposition: attachment;\r\n filename*0=\"inv\";\r\n filename*1=\"oice.exe\"",
                "invoice.exe",
            ),
            ("Content-Disposition: attachment; filename=\"=?utf-8?B?YS5leGU=?=\"", "a.exe"),
            ("Content-Disposition: attachment; filename==?utf-8?Q?a=2Eexe?=", "a.exe"),
        ] {
            let message = format!("{fields}\r\n\r\n");
            let section = HeaderSection::split(message.as_bytes());
            let structure = Structure::of(message.as_bytes(), &section);
            assert_eq!(structure.parts[0].file_names, [name], "{fields}");
        }
    }

    #[test]
    fn the_number_of_parts_is_bounded() {
        let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
        message.extend(b"--b\r\n\r\n".repeat(5000));
        let section = HeaderSection::split(&message);
        assert_eq!(Structure::of(&message, &section).parts.len(), MAX_PARTS);
        let nested = b"Content-Type: message/rfc822\r\n\r\n".repeat(5000);
        let section = HeaderSection::split(&nested);
        assert!(Structure::of(&nested, &section).parts.len() <= MAX_DEPTH + 2);
    }

    proptest! {
        #[test]
        fn any_structure_is_read(pieces in proptest::collection::vec(prop_oneof![
            Just("\r\n"), Just("--b"), Just("--b--"), Just("--c"), Just("\n\n"), Just("x"),
            Just("Content-Type: multipart/mixed; boundary=b\r\n"),
            Just("Content-Type: multipart/mixed; boundary=c\r\n"),
            Just("Content-Type: message/rfc822\r\n"),
            Just("Content-Transfer-Encoding: base64\r\n"),
        ], 0..60)) {
            let message = pieces.concat();
            let section = HeaderSection::split(message.as_bytes());
            for part in Structure::of(message.as_bytes(), &section).parts {
                let _ = part.decoded();
            }
        }

        #[test]
        fn any_content_type_is_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = b"Content-Type: ".to_vec();
            message.extend(&value);
            message.extend(b"\r\nContent-Disposition: ");
            message.extend(&value);
            let section = HeaderSection::split(&message);
            let _ = Structure::of(&message, &section);
        }
    }
}
