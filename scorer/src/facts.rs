//! What the checks look at: an envelope and a message, each part of it read once and only when it is asked for.

use std::cell::OnceCell;

use mail_parser::parsers::MessageStream;
use schemas::{Envelope, Mailbox};

use crate::header::HeaderSection;
use crate::mime::Structure;

/// `From` longer than this is read up to here, in bytes.
const MAX_FROM_BYTES: usize = 64 * 1024;
/// Authors looked at.
const MAX_AUTHORS: usize = 100;

pub struct Facts<'a> {
    pub envelope: &'a Envelope,
    pub message: &'a [u8],
    pub header: HeaderSection<'a>,
    structure: OnceCell<Structure<'a>>,
    authors: OnceCell<Vec<Author>>,
}

/// One mailbox of the From field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    Mailbox(Mailbox),
    /// An address that is no mailbox, as it stands.
    Invalid(String),
}

impl<'a> Facts<'a> {
    #[must_use]
    pub fn of(envelope: &'a Envelope, message: &'a [u8]) -> Self {
        Facts {
            envelope,
            message,
            header: HeaderSection::split(message),
            structure: OnceCell::new(),
            authors: OnceCell::new(),
        }
    }

    pub fn structure(&self) -> &Structure<'a> {
        self.structure.get_or_init(|| Structure::of(self.message, &self.header))
    }

    /// The mailboxes of all From fields.
    pub fn authors(&self) -> &[Author] {
        self.authors.get_or_init(|| {
            let mut authors = Vec::new();
            for field in self.header.all("from") {
                read_authors(&field.value[..field.value.len().min(MAX_FROM_BYTES)], &mut authors);
            }
            authors
        })
    }

    /// The first author with a valid mailbox.
    pub fn header_from(&self) -> Option<&Mailbox> {
        self.authors().iter().find_map(|author| match author {
            Author::Mailbox(mailbox) => Some(mailbox),
            Author::Invalid(_) => None,
        })
    }
}

fn read_authors(value: &[u8], authors: &mut Vec<Author>) {
    let parsed = MessageStream::new(value).parse_address().into_address();
    for address in parsed.iter().flat_map(mail_parser::Address::iter) {
        if authors.len() >= MAX_AUTHORS {
            return;
        }
        let text = address.address.as_deref().or(address.name.as_deref()).unwrap_or_default();
        authors.push(match Mailbox::parse(text) {
            Ok(mailbox) => Author::Mailbox(mailbox),
            Err(_) => Author::Invalid(text.to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;

    #[test]
    fn authors_are_read_from_every_from_field() {
        let envelope = envelope("", &[]);
        let message = b"From: \"A, B\" <a@b.example>,\r\n c@d.example\r\nFrom: nobody\r\n\r\n";
        let facts = Facts::of(&envelope, message);
        let mailbox = |text| Author::Mailbox(Mailbox::parse(text).unwrap());
        assert_eq!(
            facts.authors(),
            [mailbox("a@b.example"), mailbox("c@d.example"), Author::Invalid("nobody".into())]
        );
        assert_eq!(facts.header_from().unwrap().to_string(), "a@b.example");
    }
}
