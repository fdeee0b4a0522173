//! Header sections taken apart without copying (RFC 5322 2.2).

use std::ops::Range;

/// One header field: its name and where it stands, with its line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Range<usize>,
    pub whole: Range<usize>,
}

/// Where the header section of a message ends and its body begins; the empty line belongs to neither.
#[must_use]
pub fn split(message: &[u8]) -> (usize, usize) {
    if message.starts_with(b"\r\n") {
        return (0, 2);
    }
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => (at + 2, at + 4),
        None => (message.len(), message.len()),
    }
}

/// The fields of a header section, in order. A line that is no field belongs to none.
#[must_use]
pub fn fields(section: &[u8]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut at = 0;
    while at < section.len() {
        let end = memchr::memchr(b'\n', &section[at..]).map_or(section.len(), |n| at + n + 1);
        let continues = matches!(section[at], b' ' | b'\t');
        match fields.last_mut() {
            Some(last) if continues && last.whole.end == at => last.whole.end = end,
            _ => {
                let colon = memchr::memchr(b':', &section[at..end]).map(|n| at + n);
                if let Some(colon) = colon.filter(|_| !continues) {
                    let name_end = at + section[at..colon].trim_ascii_end().len();
                    fields.push(Field { name: at..name_end, whole: at..end });
                }
            }
        }
        at = end;
    }
    fields
}

/// Whether a field of this name (any case) is among `fields`.
#[must_use]
pub fn has(section: &[u8], fields: &[Field], name: &str) -> bool {
    fields.iter().any(|field| section[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_fields_and_lines_that_are_none() {
        let section = b"A: 1\r\n 2\r\nnonsense\r\n\tmore\r\nB : 3\r\n";
        let found: Vec<_> = fields(section)
            .into_iter()
            .map(|f| String::from_utf8_lossy(&section[f.whole]).into_owned())
            .collect();
        assert_eq!(found, ["A: 1\r\n 2\r\n", "B : 3\r\n"]);
        assert!(has(section, &fields(section), "b"));
        assert_eq!(split(b"A: 1\r\n\r\nbody"), (6, 8));
        assert_eq!(split(b"\r\nbody"), (0, 2));
        assert_eq!(split(b"A: 1\r\n"), (6, 6));
    }
}
