//! Dot-stuffing at the socket (RFC 5321 4.5.2). What comes out never has a bare CR or LF and never ends early.

/// Appends `message` to `out` as it goes over the wire after DATA, with the final dot.
pub fn stuff(parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut stuffer = Stuffer::default();
    for part in parts {
        stuffer.take(part, out);
    }
    stuffer.finish(out);
}

/// Works through a message piece by piece.
#[derive(Debug)]
pub struct Stuffer {
    line_start: bool,
    after_cr: bool,
}

impl Default for Stuffer {
    fn default() -> Self {
        Stuffer { line_start: true, after_cr: false }
    }
}

impl Stuffer {
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while at < input.len() {
            if self.after_cr {
                // Every CR becomes CR LF; the LF that belongs to it is passed over.
                self.after_cr = false;
                out.extend_from_slice(b"\r\n");
                self.line_start = true;
                if input[at] == b'\n' {
                    at += 1;
                    continue;
                }
            }
            if self.line_start && input[at] == b'.' {
                out.push(b'.');
            }
            let end = memchr::memchr2(b'\r', b'\n', &input[at..]).map(|n| at + n);
            let line = &input[at..end.unwrap_or(input.len())];
            out.extend_from_slice(line);
            self.line_start = self.line_start && line.is_empty();
            let Some(end) = end else { return };
            if input[end] == b'\r' {
                self.after_cr = true;
            } else {
                out.extend_from_slice(b"\r\n");
                self.line_start = true;
            }
            at = end + 1;
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.after_cr || !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        stuff(parts, &mut out);
        out
    }

    #[test]
    fn lines_dots_and_ends() {
        assert_eq!(stuffed(&[b"a\r\n.b\r\n"]), b"a\r\n..b\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r", b"\n", b".", b"\r\n"]), b"a\r\n..\r\n.\r\n");
        assert_eq!(stuffed(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\nb\rc"]), b"a\r\nb\r\nc\r\n.\r\n");
        assert_eq!(stuffed(&[b""]), b".\r\n");
        assert_eq!(stuffed(&[b"x\n.\nQUIT"]), b"x\r\n..\r\nQUIT\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn nothing_escapes(input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60), cut in 0usize..60) {
            let cut = cut.min(input.len());
            let out = stuffed(&[&input[..cut], &input[cut..]]);
            prop_assert_eq!(&out, &stuffed(&[&input]));
            let text = String::from_utf8(out).unwrap();
            prop_assert!(text.ends_with(".\r\n"));
            let body = text.strip_suffix(".\r\n").unwrap();
            prop_assert!(!body.replace("\r\n", "").contains(['\r', '\n']));
            prop_assert!(!body.split("\r\n").any(|line| line == "."));
        }
    }
}
