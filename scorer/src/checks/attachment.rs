//! Attachments of kinds that are not allowed, also within ZIP archives.

use crate::facts::Facts;
use crate::mime::Part;
use crate::policy::Policy;
use crate::zip;

/// Archives unpacked this far have their directory at hand; a larger one is judged by its own name only, in bytes.
const MAX_ARCHIVE_BYTES: usize = 64 * 1024 * 1024;

pub fn blocked_attachment(facts: &Facts<'_>, policy: &Policy) -> Option<String> {
    if policy.blocked_extensions.is_empty() {
        return None;
    }
    facts.structure().parts.iter().find_map(|part| in_part(part, &policy.blocked_extensions))
}

fn in_part(part: &Part<'_>, blocked: &[String]) -> Option<String> {
    if part.is_multipart() {
        return None;
    }
    if let Some(name) = part.file_names.iter().find(|name| is_blocked(name, blocked)) {
        return Some(name.clone());
    }
    if !may_be_zip(part) || part.body.len() > MAX_ARCHIVE_BYTES {
        return None;
    }
    let archive = part.decoded();
    let inner = zip::names(&archive).into_iter().find(|name| is_blocked(name, blocked))?;
    let outer = part.file_names.first().map_or("archive", String::as_str);
    Some(format!("{inner} in {outer}"))
}

/// By its first bytes, so that another name hides nothing.
fn may_be_zip(part: &Part<'_>) -> bool {
    zip::is_zip(&part.decoded_start(16))
}

/// By the last extension. Windows drops dots and spaces at the end of a name, so they hide nothing.
fn is_blocked(name: &str, blocked: &[String]) -> bool {
    let name = name.trim_end_matches(|c: char| c == '.' || c.is_whitespace() || c.is_control());
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match base.rsplit_once('.') {
        Some((_, extension)) => blocked.iter().any(|b| b.eq_ignore_ascii_case(extension.trim())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};
    use crate::zip::tests::archive;

    fn check(message: impl AsRef<[u8]>) -> Option<String> {
        blocked_attachment(
            &Facts::of(&envelope("a@b.example", &["c@d.example"]), message.as_ref()),
            &policy("{}"),
        )
    }

    fn attached(name: &str, encoding: &str, body: &[u8]) -> Vec<u8> {
        let mut message = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        )
        .into_bytes();
        message.extend(body);
        message.extend(b"\r\n--b--\r\n");
        message
    }

    fn base64(bytes: &[u8]) -> Vec<u8> {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        for (i, chunk) in bytes.chunks(3).enumerate() {
            let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            for k in 0..4 {
                let index = (n >> (18 - 6 * k)) as usize & 63;
                out.push(if k > chunk.len() { b'=' } else { ALPHABET[index] });
            }
            if i % 19 == 18 {
                out.extend(b"\r\n");
            }
        }
        out
    }

    #[test]
    fn names_are_judged_by_their_extension() {
        for bad in ["a.exe", "A.EXE", "invoice.pdf.scr", "a.exe. ", "dir\\a.vbs"] {
            assert!(check(attached(bad, "7bit", b"x")).is_some(), "{bad}");
        }
        for good in ["a.pdf", "exe", "a.exe.txt", "www.example.com", "résumé.docx"] {
            assert!(check(attached(good, "7bit", b"x")).is_none(), "{good}");
        }
        assert!(check("Content-Type: text/plain; name=a.bat\r\n\r\nx").is_some());
    }

    #[test]
    fn archives_are_looked_into() {
        let many: Vec<String> = (0..300).map(|n| format!("dir/file{n}.txt")).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        let clean = base64(&archive(&names));
        names.push("dir/run.exe");
        let bad = base64(&archive(&names));
        assert_eq!(check(attached("a.zip", "base64", &bad)).unwrap(), "dir/run.exe in a.zip");
        assert!(check(attached("a.dat", "BASE64", &bad)).is_some());
        assert!(check(attached("a.zip", "base64", &clean)).is_none());
    }
}
