//! Checks of lines and MIME parts.

use memchr::memchr_iter;

use crate::facts::Facts;
use crate::policy::Policy;

/// Longest line without its line end, in bytes (RFC 5322 2.1.1).
const MAX_LINE_BYTES: usize = 998;
const MAX_PARTS: usize = 100;

pub fn line_too_long(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let message = facts.message;
    let mut start = 0;
    for (number, end) in memchr_iter(b'\n', message).chain(std::iter::once(message.len())).enumerate() {
        // With its CR a line of the maximum is one longer.
        if end - start > MAX_LINE_BYTES {
            let len = end - start - usize::from(message[..end].ends_with(b"\r"));
            if len > MAX_LINE_BYTES {
                return Some(format!("line {} has {len} bytes", number + 1));
            }
        }
        start = end + 1;
        if start > message.len() {
            break;
        }
    }
    None
}

pub fn too_many_parts(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let leaves = facts.structure().parts.iter().filter(|part| !part.is_multipart()).count();
    (leaves > MAX_PARTS).then(|| format!("{leaves} parts or more"))
}

/// A fragment cannot be checked for what the whole is (RFC 2046 5.2.2).
pub fn message_partial(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    facts.structure().parts.iter().any(|part| part.content_type == "message/partial").then(String::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};

    fn check(find: fn(&Facts<'_>, &Policy) -> Option<String>, message: impl AsRef<[u8]>) -> Option<String> {
        find(&Facts::of(&envelope("a@b.example", &["c@d.example"]), message.as_ref()), &policy("{}"))
    }

    #[test]
    fn a_line_has_998_octets_at_most() {
        assert!(check(line_too_long, format!("a\r\n{}\r\n{}", "x".repeat(998), "y".repeat(998))).is_none());
        assert_eq!(
            check(line_too_long, format!("a\r\n{}\r\n", "x".repeat(999))).unwrap(),
            "line 2 has 999 bytes"
        );
        assert_eq!(check(line_too_long, "x".repeat(2000)).unwrap(), "line 1 has 2000 bytes");
        assert!(check(line_too_long, "").is_none());
    }

    #[test]
    fn parts_are_counted() {
        let message = |n: usize| {
            format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
                "--b\r\n\r\nx\r\n".repeat(n)
            )
        };
        assert!(check(too_many_parts, message(100)).is_none());
        assert!(check(too_many_parts, message(101)).is_some());
        assert!(check(message_partial, "Content-Type: Message/Partial; id=x; number=1\r\n\r\n").is_some());
        assert!(check(message_partial, message(1)).is_none());
    }
}
