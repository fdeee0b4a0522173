//! Content-Transfer-Encoding (RFC 2045 6), decoded as receivers do: what does not belong is passed over, so that a broken
//! encoding hides nothing from us that its reader would see.

/// Base64 up to `max` decoded bytes.
#[must_use]
pub fn base64(encoded: &[u8], max: usize) -> Vec<u8> {
    let mut decoded = Vec::with_capacity((encoded.len() / 4 * 3).min(max) + 3);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in encoded {
        let value = BASE64[usize::from(byte)];
        if byte == b'=' {
            // Pieces that were encoded one by one and joined are read on by mail programs.
            end_group(bits, count, &mut decoded);
            (bits, count) = (0, 0);
        }
        if value == SKIP {
            continue;
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            decoded.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
            if decoded.len() >= max {
                break;
            }
        }
    }
    end_group(bits, count, &mut decoded);
    decoded.truncate(max);
    decoded
}

/// What fewer than four characters still hold.
fn end_group(bits: u32, count: u32, decoded: &mut Vec<u8>) {
    match count {
        2 => decoded.push((bits >> 4) as u8),
        3 => decoded.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
}

const SKIP: u8 = 255;

/// Value of each octet of the alphabet.
const BASE64: [u8; 256] = {
    let mut table = [SKIP; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut index = 0;
    while index < 64 {
        table[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    table
};

/// Quoted-printable up to `max` decoded bytes. An `=` that encodes nothing stands for itself.
#[must_use]
pub fn quoted_printable(encoded: &[u8], max: usize) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(encoded.len().min(max));
    let mut rest = encoded;
    while decoded.len() < max {
        let Some(at) = memchr::memchr(b'=', rest) else {
            decoded.extend_from_slice(rest);
            break;
        };
        decoded.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest {
            [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => rest = after,
            [high, low, after @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                decoded.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => match soft_break(rest) {
                Some(after) => rest = after,
                None => decoded.push(b'='),
            },
        }
    }
    decoded.truncate(max);
    decoded
}

/// A soft line break with space before the line end, which RFC 2045 6.7 (3) tells to delete.
fn soft_break(rest: &[u8]) -> Option<&[u8]> {
    let spaces = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    match &rest[spaces..] {
        [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => Some(after),
        _ => None,
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_whatever_is_mixed_in() {
        for (encoded, decoded) in [
            ("aGVsbG8=", "hello"),
            ("aGVs\r\nbG8=\r\n", "hello"),
            ("aGV!s bG8", "hello"),
            ("aGVsbG8gd29ybGQ", "hello world"),
            ("aA==", "h"),
            ("aA", "h"),
            ("", ""),
            ("====", ""),
            ("aA==aA==", "hh"),
        ] {
            assert_eq!(base64(encoded.as_bytes(), 100), decoded.as_bytes(), "{encoded}");
        }
        assert_eq!(base64(b"aGVsbG8gd29ybGQ", 4), b"hell");
    }

    #[test]
    fn quoted_printable_is_read_whatever_is_wrong() {
        for (encoded, decoded) in [
            ("a=3Db", "a=b"),
            ("a=3db", "a=b"),
            ("so=\r\nft", "soft"),
            ("so= \t\r\nft", "soft"),
            ("so=\nft", "soft"),
            ("a=zz=", "a=zz="),
            ("100=% sure", "100=% sure"),
        ] {
            assert_eq!(quoted_printable(encoded.as_bytes(), 100), decoded.as_bytes(), "{encoded}");
        }
        assert_eq!(quoted_printable(b"=41=42=43", 2), b"AB");
    }
}
