//! Command lines out of what arrives.

use memchr::memchr;

/// Octets that arrived and were not used yet. An empty one holds next to no memory.
#[derive(Debug, Default)]
pub struct InputBuffer {
    bytes: Vec<u8>,
    start: usize,
}

/// What a buffer may keep allocated while its session waits for a command, in bytes.
const KEPT_WHEN_IDLE: usize = 2048;

impl InputBuffer {
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Where the next read goes: at least `room` bytes are free behind what is unread.
    pub fn space(&mut self, room: usize) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve(room);
        &mut self.bytes
    }

    /// Gives memory back before a wait that may be long.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_WHEN_IDLE {
            self.bytes = Vec::new();
        }
    }
}

/// Finds command lines. Each LF ends a line, so that the two sides cannot lose step; but a line that does not end
/// with CRLF is no command.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Octets at the start of the buffer that hold no LF.
    searched: usize,
    /// The rest of a line that is too long is being thrown away.
    skipping: bool,
}

/// A line in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: LineKind,
    /// Octets without the line end.
    pub len: usize,
    /// Octets with it; what is to be consumed.
    pub total: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Whole,
    TooLong,
    /// It ended with a bare LF.
    BareLf,
}

impl LineReader {
    /// The next whole line; none when more input is needed. `limit`: the longest line in bytes, its end included.
    pub fn next(&mut self, input: &mut InputBuffer, limit: usize) -> Option<Line> {
        let unread = input.unread();
        let Some(found) = memchr(b'\n', &unread[self.searched..]) else {
            self.searched = unread.len();
            if self.skipping || self.searched > limit {
                self.skipping = true;
                input.consume(self.searched);
                self.searched = 0;
            }
            return None;
        };
        let total = self.searched + found + 1;
        let has_cr = total >= 2 && unread[total - 2] == b'\r';
        let kind = if self.skipping || total > limit {
            LineKind::TooLong
        } else if has_cr {
            LineKind::Whole
        } else {
            LineKind::BareLf
        };
        self.searched = 0;
        self.skipping = false;
        Some(Line { kind, len: total - 1 - usize::from(has_cr), total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(wire: &[u8], step: usize) -> Vec<(LineKind, String)> {
        let (mut input, mut reader, mut found) = (InputBuffer::default(), LineReader::default(), Vec::new());
        for piece in wire.chunks(step) {
            input.space(piece.len()).extend_from_slice(piece);
            while let Some(line) = reader.next(&mut input, 10) {
                found.push((line.kind, String::from_utf8_lossy(&input.unread()[..line.len]).into_owned()));
                input.consume(line.total);
            }
        }
        found
    }

    #[test]
    fn lines_are_found_in_pieces_of_any_size() {
        let wire = b"NOOP\r\n12345678\r\n123456789\r\nRSET\r\nQUIT\n\r\n0123456789012345678901234567890123456789\r\nX\r\n";
        for step in 1..wire.len() {
            let found = lines(wire, step);
            let kinds: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
            use LineKind::{BareLf, TooLong, Whole};
            assert_eq!(kinds, [Whole, Whole, TooLong, Whole, BareLf, Whole, TooLong, Whole], "step {step}");
            assert_eq!(found[0].1, "NOOP");
            assert_eq!(found[1].1, "12345678");
            assert_eq!(found[7].1, "X");
        }
    }
}
