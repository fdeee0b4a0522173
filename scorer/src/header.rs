//! The header section (RFC 5322 2.2), split once into slices of the message: nothing is copied, nothing can panic.

use memchr::memchr;

/// Header sections longer than this are not split further, in bytes (256 KiB).
pub const MAX_SECTION_BYTES: usize = 256 * 1024;

/// The header section of a message or of a MIME part.
pub struct HeaderSection<'a> {
    raw: &'a [u8],
    fields: Vec<Field>,
    body_at: usize,
    cut: bool,
}

/// Where one field stands; offsets into the message.
#[derive(Clone, Copy)]
struct Field {
    start: u32,
    name_len: u16,
    end: u32,
}

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// Without the colon; empty for a line that is no field.
    pub name: &'a [u8],
    /// What stands after the colon, folds and the last line end included.
    pub value: &'a [u8],
    /// Length of the whole field, in bytes.
    pub len: usize,
}

impl<'a> HeaderField<'a> {
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line: folds undone (RFC 5322 2.2.3), space around it cut, octets that are no UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        let value = self.value.trim_ascii();
        if !value.iter().any(|b| matches!(b, b'\r' | b'\n')) {
            return String::from_utf8_lossy(value);
        }
        let unfolded: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&unfolded).into_owned().into()
    }
}

impl<'a> HeaderSection<'a> {
    /// Splits what stands before the first empty line. A line end is LF with or without CR before it (ingress lets only
    /// CRLF in; files that are scored from disk may have either).
    #[must_use]
    pub fn split(raw: &'a [u8]) -> Self {
        let mut section =
            HeaderSection { raw, fields: Vec::with_capacity(32), body_at: raw.len(), cut: false };
        let mut at = 0;
        while at < raw.len() {
            if at > MAX_SECTION_BYTES {
                section.cut = true;
                section.body_at = raw.len();
                break;
            }
            let end = memchr(b'\n', &raw[at..]).map_or(raw.len(), |n| at + n + 1);
            let line = &raw[at..end];
            match line[0] {
                b'\n' => {
                    section.body_at = end;
                    break;
                }
                b'\r' if line == b"\r\n" => {
                    section.body_at = end;
                    break;
                }
                b' ' | b'\t' if !section.fields.is_empty() => {
                    if let Some(last) = section.fields.last_mut() {
                        last.end = offset(end);
                    }
                }
                _ => section.fields.push(Field {
                    start: offset(at),
                    name_len: name_len(line),
                    end: offset(end),
                }),
            }
            at = end;
        }
        section
    }

    /// All fields, from the top.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = HeaderField<'a>> + '_ {
        self.fields.iter().map(|field| self.field(field))
    }

    /// All fields of a name, from the top.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = HeaderField<'a>> + 's {
        self.fields
            .iter()
            .filter(|field| usize::from(field.name_len) == name.len())
            .map(|field| self.field(field))
            .filter(|field| field.is(name))
    }

    #[must_use]
    pub fn first(&self, name: &str) -> Option<HeaderField<'a>> {
        self.all(name).next()
    }

    #[must_use]
    pub fn last(&self, name: &str) -> Option<HeaderField<'a>> {
        self.all(name).next_back()
    }

    /// Where the body begins; the end of the message when there is no empty line.
    #[must_use]
    pub fn body_at(&self) -> usize {
        self.body_at
    }

    /// Length of the section with its empty line, in bytes; at least [`MAX_SECTION_BYTES`] when it was cut.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body_at
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// `true` when it is longer than [`MAX_SECTION_BYTES`], so that later fields are not among `fields`.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn field(&self, field: &Field) -> HeaderField<'a> {
        let raw = &self.raw[field.start as usize..field.end as usize];
        let name_len = usize::from(field.name_len);
        if name_len == 0 {
            return HeaderField { name: &[], value: raw, len: raw.len() };
        }
        let name = raw[..name_len].trim_ascii_end();
        // The colon need not follow at once: obsolete syntax has space before it (RFC 5322 4.5).
        let value = memchr(b':', raw).map_or(&raw[raw.len()..], |colon| &raw[colon + 1..]);
        HeaderField { name, value, len: raw.len() }
    }
}

fn offset(at: usize) -> u32 {
    // A message is at most 4 GiB: ingress has a far smaller maximum. Beyond it fields would only look empty.
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Length of the field name of `line` without space before the colon; 0 for a line that is no field.
fn name_len(line: &[u8]) -> u16 {
    let Some(colon) = memchr(b':', line) else { return 0 };
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return 0;
    }
    u16::try_from(name.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_slices_of_the_message() {
        let raw = b"A: 1\r\nb:two\r\n\tmore\r\n odd line\r\nnot a field\r\nA : 3\r\n\r\nbody: x\r\n";
        let section = HeaderSection::split(raw);
        let names: Vec<_> = section.fields().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        assert_eq!(names, ["A", "b", "", "A"]);
        assert_eq!(section.first("B").unwrap().text(), "two\tmore odd line");
        assert_eq!(section.first("a").unwrap().text(), "1");
        assert_eq!(section.last("a").unwrap().text(), "3");
        assert_eq!(&raw[section.body_at()..], b"body: x\r\n");
    }

    #[test]
    fn a_section_may_be_everything_or_nothing() {
        assert_eq!(HeaderSection::split(b"A: 1").body_at(), 4);
        assert!(HeaderSection::split(b"").is_empty());
        assert_eq!(HeaderSection::split(b"\r\nA: 1\r\n").body_at(), 2);
        let long = b"a:\n".repeat(200_000);
        let section = HeaderSection::split(&long);
        assert!(section.is_cut() && section.fields().count() < 100_000);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_split(raw in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let section = HeaderSection::split(&raw);
            let total: usize = section.fields().map(|f| { let _ = f.text(); f.len }).sum();
            prop_assert!(total <= raw.len());
            prop_assert!(section.body_at() <= raw.len());
        }

        #[test]
        fn any_lines_can_be_split(lines in proptest::collection::vec("[ \ta:\r]{0,6}", 0..50)) {
            let raw = lines.join("\n");
            let section = HeaderSection::split(raw.as_bytes());
            prop_assert!(section.fields().all(|f| f.value.len() <= f.len));
        }
    }
}
