//! The octets of a message on the wire: end of DATA, dot-unstuffing, bare line ends.
//!
//! Only CRLF.CRLF ends DATA (RFC 5321 4.1.1.4). A CR or LF that stands alone is content, is never the start or the end
//! of a line, and makes the message one to be refused; but the refusal comes after the true end, so that nothing
//! that follows can be read differently here than where the client thinks it stands.

use memchr::memchr2;

/// What is wrong with a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLineEnd {
    Cr,
    Lf,
}

/// Reads DATA as it arrives, in pieces of any size.
#[derive(Clone, Debug)]
pub struct DataDecoder {
    at: At,
    defect: Option<BareLineEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CRLF, or where the data begins.
    LineStart,
    Text,
    /// After a CR that may be half of a line end.
    Cr,
    /// After a dot at the start of a line; it is not content.
    Dot,
    /// After such a dot and a CR; the CR has not been given to the sink.
    DotCr,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Octets of the input that belong to the data, the end included; the rest belongs to the next command.
    pub consumed: usize,
    pub finished: bool,
}

impl Default for DataDecoder {
    fn default() -> Self {
        DataDecoder { at: At::LineStart, defect: None }
    }
}

impl DataDecoder {
    /// Takes the next octets and gives the content in them to `sink`, unstuffed, in as few slices as possible.
    pub fn decode(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Decoded {
        let mut i = 0;
        // Content from here on has not been given to the sink.
        let mut kept = 0;
        while i < input.len() {
            match self.at {
                At::Text => match memchr2(b'\r', b'\n', &input[i..]) {
                    None => i = input.len(),
                    Some(n) if input[i + n] == b'\r' => {
                        self.at = At::Cr;
                        i += n + 1;
                    }
                    Some(n) => {
                        self.note(BareLineEnd::Lf);
                        i += n + 1;
                    }
                },
                At::Cr if input[i] == b'\n' => {
                    self.at = At::LineStart;
                    i += 1;
                }
                At::Cr => {
                    self.note(BareLineEnd::Cr);
                    self.at = At::Text;
                }
                At::LineStart if input[i] == b'.' => {
                    sink(&input[kept..i]);
                    self.at = At::Dot;
                    i += 1;
                    kept = i;
                }
                At::LineStart => self.at = At::Text,
                At::Dot if input[i] == b'\r' => {
                    self.at = At::DotCr;
                    i += 1;
                    kept = i;
                }
                At::Dot => self.at = At::Text,
                At::DotCr if input[i] == b'\n' => {
                    self.at = At::LineStart;
                    return Decoded { consumed: i + 1, finished: true };
                }
                At::DotCr => {
                    self.note(BareLineEnd::Cr);
                    sink(b"\r");
                    self.at = At::Text;
                }
            }
        }
        if kept < input.len() {
            sink(&input[kept..]);
        }
        Decoded { consumed: input.len(), finished: false }
    }

    /// The first bare line end that was seen.
    #[must_use]
    pub fn defect(&self) -> Option<BareLineEnd> {
        self.defect
    }

    fn note(&mut self, defect: BareLineEnd) {
        self.defect.get_or_insert(defect);
    }
}

/// Watches the line ends of a message that comes in BDAT chunks (RFC 3030), across their boundaries.
#[derive(Clone, Debug, Default)]
pub struct ChunkCheck {
    after_cr: bool,
    ends_with_crlf: bool,
    defect: Option<BareLineEnd>,
}

impl ChunkCheck {
    /// Takes the next octets.
    pub fn update(&mut self, input: &[u8]) {
        let mut i = 0;
        while i < input.len() {
            if self.after_cr {
                self.after_cr = false;
                if input[i] == b'\n' {
                    i += 1;
                    self.ends_with_crlf = i == input.len();
                    continue;
                }
                self.defect.get_or_insert(BareLineEnd::Cr);
            }
            self.ends_with_crlf = false;
            match memchr2(b'\r', b'\n', &input[i..]) {
                None => return,
                Some(n) => {
                    if input[i + n] == b'\r' {
                        self.after_cr = true;
                    } else {
                        self.defect.get_or_insert(BareLineEnd::Lf);
                    }
                    i += n + 1;
                }
            }
        }
    }

    /// The first bare line end; after the last chunk also a CR that it ended with.
    #[must_use]
    pub fn defect(&self, last: bool) -> Option<BareLineEnd> {
        self.defect.or((last && self.after_cr).then_some(BareLineEnd::Cr))
    }

    /// `true` when the last two octets were CRLF.
    #[must_use]
    pub fn ends_with_crlf(&self) -> bool {
        self.ends_with_crlf
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits at CRLF and nothing else: slow, and plainly what the RFC says. Content, defect, octets consumed.
    fn reference(wire: &[u8]) -> Option<(Vec<u8>, bool, usize)> {
        let mut content = Vec::new();
        let mut start = 0;
        loop {
            let end = start + wire[start..].windows(2).position(|w| w == b"\r\n")?;
            let line = &wire[start..end];
            if line == b"." {
                let bare = |w: &[u8]| {
                    let bytes = w.iter().enumerate();
                    bytes.clone().any(|(i, b)| *b == b'\r' && w.get(i + 1) != Some(&b'\n'))
                        || bytes.clone().any(|(i, b)| *b == b'\n' && (i == 0 || w[i - 1] != b'\r'))
                };
                return Some((content, bare(&wire[..end + 2]), end + 2));
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            content.extend_from_slice(b"\r\n");
            start = end + 2;
        }
    }

    /// Feeds `wire` in pieces of the given sizes, the sizes being used again and again.
    fn decode(wire: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<BareLineEnd>, Option<usize>) {
        let (mut decoder, mut content, mut at) = (DataDecoder::default(), Vec::new(), 0);
        for size in sizes.iter().cycle() {
            if at == wire.len() {
                return (content, decoder.defect(), None);
            }
            let piece = &wire[at..wire.len().min(at + size)];
            let decoded = decoder.decode(piece, |slice| content.extend_from_slice(slice));
            at += decoded.consumed;
            if decoded.finished {
                return (content, decoder.defect(), Some(at));
            }
        }
        unreachable!("sizes are never empty")
    }

    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"\r\n".to_vec()),
            2 => Just(b".".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\0".to_vec()),
            3 => Just(b"text".to_vec()),
            1 => Just(b"\r\n.\r\n".to_vec()),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing_and_the_reference_agrees(
            wire in wire(),
            sizes in prop::collection::vec(1_usize..9, 1..6),
        ) {
            let (content, defect, end) = decode(&wire, &sizes);
            match reference(&wire) {
                Some((expected, bare, consumed)) => {
                    prop_assert_eq!(content, expected);
                    prop_assert_eq!(defect.is_some(), bare);
                    prop_assert_eq!(end, Some(consumed));
                }
                None => prop_assert_eq!(end, None),
            }
        }

        #[test]
        fn chunks_are_checked_across_their_boundaries(
            wire in wire(),
            sizes in prop::collection::vec(1_usize..9, 1..6),
        ) {
            let mut pieces = ChunkCheck::default();
            let mut rest = &wire[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, left) = rest.split_at(rest.len().min(*size));
                pieces.update(piece);
                rest = left;
            }
            let bare = wire.iter().enumerate().any(|(i, b)| match b {
                b'\r' => wire.get(i + 1) != Some(&b'\n'),
                b'\n' => i == 0 || wire[i - 1] != b'\r',
                _ => false,
            });
            prop_assert_eq!(pieces.defect(true).is_some(), bare);
            prop_assert_eq!(pieces.ends_with_crlf(), wire.ends_with(b"\r\n"));
        }
    }

    /// What smuggling tools try in the hope that one side takes it for the end of data.
    #[test]
    fn nothing_but_crlf_dot_crlf_ends_the_data() {
        let ends = ["\r\n", "\n", "\r", "\0\r\n", "\r\0\n", "\r\n\0", "\n\r", "\r\r\n", "\n\n", "\r\r", "\0"];
        for before in ends {
            for after in ends {
                for (dot, stuffed) in [(".", false), ("..", true), (".\0", true), ("\0.", true), (". ", true)] {
                    let wire = format!("Subject: x\r\n\r\nfirst{before}{dot}{after}MAIL FROM:<a@b.example>\r\n");
                    let (_, defect, end) = decode(wire.as_bytes(), &[wire.len()]);
                    let true_end = before.ends_with("\r\n") && after.starts_with("\r\n") && !stuffed;
                    assert_eq!(end.is_some(), true_end, "{wire:?}");
                    let after_that = format!("{wire}\r\n.\r\n");
                    let (_, defect_at_end, end) = decode(after_that.as_bytes(), &[1]);
                    assert!(end.is_some(), "{after_that:?}");
                    if defect.is_some() {
                        assert!(defect_at_end.is_some(), "{after_that:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_data_may_be_empty_or_begin_with_a_dot() {
        assert_eq!(decode(b".\r\n", &[1]), (vec![], None, Some(3)));
        assert_eq!(decode(b"..a\r\n.\r\nQUIT\r\n", &[100]), (b".a\r\n".to_vec(), None, Some(8)));
    }
}
