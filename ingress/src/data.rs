//! Taking a message off the wire: the end of DATA, dot-unstuffing (RFC 5321 4.5.2), and bare line ends.

use bytes::BytesMut;

/// Takes a message out of DATA. Only CR LF . CR LF ends it; nothing else ever does.
#[derive(Debug)]
pub struct Unstuffer {
    state: State,
    bare_line_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line: to be removed, or the end.
    Dot,
    DotCr,
    InLine,
    Cr,
}

/// What came of some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Octets of the input that belonged to the message or its end.
    pub consumed: usize,
    /// The end was seen; what follows `consumed` are commands.
    pub done: bool,
}

impl Default for Unstuffer {
    fn default() -> Self {
        Unstuffer { state: State::LineStart, bare_line_end: false }
    }
}

impl Unstuffer {
    /// Appends the message's octets of `input` to `message`. The input may be cut anywhere.
    pub fn take(&mut self, input: &[u8], message: &mut BytesMut) -> Taken {
        let mut at = 0;
        while at < input.len() {
            match (self.state, input[at]) {
                (State::LineStart, b'.') => {
                    self.state = State::Dot;
                    at += 1;
                }
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    at += 1;
                }
                (State::DotCr, b'\n') => return Taken { consumed: at + 1, done: true },
                (State::Cr, b'\n') => {
                    message.extend_from_slice(b"\r\n");
                    self.state = State::LineStart;
                    at += 1;
                }
                (State::Cr | State::DotCr, _) => {
                    self.bare_line_end = true;
                    message.extend_from_slice(b"\r");
                    self.state = State::InLine;
                }
                (State::LineStart | State::Dot | State::InLine, _) => at += self.line(&input[at..], message),
            }
        }
        Taken { consumed: at, done: false }
    }

    /// Takes octets of a line up to its CR; returns how many.
    fn line(&mut self, input: &[u8], message: &mut BytesMut) -> usize {
        self.state = State::InLine;
        let mut end = 0;
        loop {
            match memchr::memchr2(b'\r', b'\n', &input[end..]) {
                None => {
                    message.extend_from_slice(input);
                    return input.len();
                }
                Some(found) if input[end + found] == b'\n' => {
                    self.bare_line_end = true;
                    end += found + 1;
                }
                Some(found) => {
                    let cr = end + found;
                    // The common case, a whole line in one piece, is copied at once with its end and those after it.
                    if input.get(cr + 1) == Some(&b'\n')
                        && input.get(cr + 2).is_some_and(|next| *next != b'.')
                    {
                        end = cr + 2;
                        continue;
                    }
                    message.extend_from_slice(&input[..cr]);
                    self.state = State::Cr;
                    return cr + 1;
                }
            }
        }
    }

    /// A CR without LF, or an LF without CR, was seen.
    #[must_use]
    pub fn has_bare_line_end(&self) -> bool {
        self.bare_line_end
    }
}

/// Watches the octets of BDAT for bare line ends.
#[derive(Debug, Default)]
pub struct LineEnds {
    after_cr: bool,
    bare: bool,
}

impl LineEnds {
    pub fn look(&mut self, input: &[u8]) {
        let mut at = 0;
        if self.after_cr && !input.is_empty() {
            self.after_cr = false;
            if input[0] == b'\n' {
                at = 1;
            } else {
                self.bare = true;
            }
        }
        while let Some(found) = memchr::memchr2(b'\r', b'\n', &input[at..]) {
            let found = at + found;
            match (input[found], input.get(found + 1)) {
                (b'\r', Some(b'\n')) => at = found + 2,
                (b'\r', None) => {
                    self.after_cr = true;
                    return;
                }
                _ => {
                    self.bare = true;
                    at = found + 1;
                }
            }
        }
    }

    /// A bare CR or LF was seen; `at_end`: nothing more comes.
    #[must_use]
    pub fn has_bare(&self, at_end: bool) -> bool {
        self.bare || (at_end && self.after_cr)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Octet by octet, as the RFC reads.
    fn reference(input: &[u8]) -> (Vec<u8>, Option<usize>) {
        let end = (0..input.len()).find(|i| {
            let before_ok = *i == 0 || input[..*i].ends_with(b"\r\n");
            before_ok && input[*i..].starts_with(b".\r\n")
        });
        let whole = &input[..end.unwrap_or(input.len())];
        let mut out = Vec::new();
        for (i, byte) in whole.iter().enumerate() {
            let stuffed = *byte == b'.' && (i == 0 || whole[..i].ends_with(b"\r\n"));
            if !stuffed {
                out.push(*byte);
            }
        }
        (out, end.map(|end| end + 3))
    }

    fn unstuff(pieces: &[&[u8]]) -> (Vec<u8>, Option<usize>, bool) {
        let mut unstuffer = Unstuffer::default();
        let mut message = BytesMut::new();
        let mut consumed = 0;
        for piece in pieces {
            let taken = unstuffer.take(piece, &mut message);
            consumed += taken.consumed;
            if taken.done {
                return (message.to_vec(), Some(consumed), unstuffer.has_bare_line_end());
            }
        }
        (message.to_vec(), None, unstuffer.has_bare_line_end())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn cutting_changes_nothing(input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60), cut in 0usize..60, cut2 in 0usize..60) {
            let (a, b) = (cut.min(cut2).min(input.len()), cut.max(cut2).min(input.len()));
            let whole = unstuff(&[&input]);
            prop_assert_eq!(&whole, &unstuff(&[&input[..a], &input[a..b], &input[b..]]));
            let (message, end) = reference(&input);
            prop_assert_eq!(whole.1, end);
            if end.is_some() {
                prop_assert_eq!(whole.0, message);
            }
        }
    }

    #[test]
    fn nothing_but_crlf_dot_crlf_ends_a_message() {
        for end in [
            "\n.\n",
            "\r.\r",
            "\n.\r\n",
            "\r\n.\n",
            "\r\n.\r",
            "\r.\r\n",
            "\n.\r",
            "\r\n\0.\r\n",
            "\r\n.\0\r\n",
            "\r\n..\r\n",
            "\r\n. \r\n",
            "\r\n.\r\r\n",
        ] {
            let (_, done, _) = unstuff(&[b"text", end.as_bytes(), b"more"]);
            assert_eq!(done, None, "{end:?} ended the message");
        }
        assert_eq!(unstuff(&[b"text\r\n.\r", b"\nQUIT\r\n"]), (b"text\r\n".to_vec(), Some(9), false));
        assert_eq!(unstuff(&[b".\r\n"]), (Vec::new(), Some(3), false));
        assert!(
            unstuff(&[b"a\nb\r\n.\r\n"]).2
                && unstuff(&[b"a\rb\r\n.\r\n"]).2
                && unstuff(&[b".\rx\r\n.\r\n"]).2
        );
    }

    #[test]
    fn bare_line_ends_in_chunks() {
        let bare = |pieces: &[&[u8]]| {
            let mut ends = LineEnds::default();
            pieces.iter().for_each(|p| ends.look(p));
            ends.has_bare(true)
        };
        assert!(!bare(&[b"a\r", b"\nb\r\n"]) && !bare(&[b"", b"a"]));
        assert!(
            bare(&[b"a\r", b"b"])
                && bare(&[b"a\nb"])
                && bare(&[b"a\r"])
                && bare(&[b"\n"])
                && bare(&[b"a\r\r\n"])
        );
    }
}
