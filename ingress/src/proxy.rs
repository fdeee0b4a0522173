//! The PROXY protocol header (versions 1 and 2) that a load balancer puts before a connection.

use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult};

/// Longest header taken, in octets; version 2 may carry TLVs behind the addresses.
pub const MAX_HEADER_BYTES: usize = 4096;

/// What some octets at the start of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More is needed.
    Incomplete,
    /// A header of so many octets; without an address (LOCAL, UNKNOWN) the connection's own counts.
    Header {
        length: usize,
        client: Option<SocketAddr>,
    },
    Malformed,
}

/// Longest header of version 1, in octets.
const MAX_V1_BYTES: usize = 107;

/// The shortest header there is: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;
/// Octets of version 2 before its addresses; the last two tell how many follow.
const V2_FIXED: usize = 16;

/// How many more octets belong to the header whatever they are, at least one. Reading no more than that leaves
/// what follows, the start of a TLS handshake perhaps, in the socket.
#[must_use]
pub fn missing(input: &[u8]) -> usize {
    if input.len() < SHORTEST {
        return SHORTEST - input.len();
    }
    if input.starts_with(b"PROXY") {
        return 1;
    }
    let whole = match input.get(14..V2_FIXED) {
        Some(length) => V2_FIXED + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => V2_FIXED,
    };
    whole.saturating_sub(input.len()).max(1)
}

/// Version 1 is one line: its first LF stands behind a CR, and nothing before the line's end depends on how TCP cut it.
fn has_whole_line(input: &[u8]) -> bool {
    memchr::memchr(b'\n', input).is_some_and(|end| end > 0 && end < MAX_V1_BYTES && input[end - 1] == b'\r')
}

/// Parses the start of a connection.
#[must_use]
pub fn parse(input: &[u8]) -> Parsed {
    if input.starts_with(b"PROXY") && !has_whole_line(input) {
        return if input.len() < MAX_V1_BYTES && !input.contains(&b'\n') {
            Parsed::Incomplete
        } else {
            Parsed::Malformed
        };
    }
    let header = HeaderResult::parse(input);
    if header.is_incomplete() {
        // A line that is whole lacks something that no more octets will bring.
        let over = input.starts_with(b"PROXY") || input.len() >= MAX_HEADER_BYTES;
        return if over { Parsed::Malformed } else { Parsed::Incomplete };
    }
    match header {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                ppp::v1::Addresses::Tcp4(a) => Some(SocketAddr::from((a.source_address, a.source_port))),
                ppp::v1::Addresses::Tcp6(a) => Some(SocketAddr::from((a.source_address, a.source_port))),
                ppp::v1::Addresses::Unknown => None,
            };
            Parsed::Header { length: header.header.len(), client }
        }
        HeaderResult::V2(Ok(header)) => {
            let proxied = header.command == ppp::v2::Command::Proxy;
            let client = match header.addresses {
                ppp::v2::Addresses::IPv4(a) if proxied => {
                    Some(SocketAddr::from((a.source_address, a.source_port)))
                }
                ppp::v2::Addresses::IPv6(a) if proxied => {
                    Some(SocketAddr::from((a.source_address, a.source_port)))
                }
                _ => None,
            };
            Parsed::Header { length: header.len(), client }
        }
        _ => Parsed::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\nEHLO x\r\n";
        assert_eq!(parse(v1), Parsed::Header { length: 40, client: Some("192.0.2.7:4711".parse().unwrap()) });
        assert_eq!(parse(&v1[..20]), Parsed::Incomplete);
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Header { length: 15, client: None });
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        v2.extend_from_slice(&[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 25]);
        assert_eq!(
            parse(&v2),
            Parsed::Header { length: 28, client: Some("192.0.2.7:4711".parse().unwrap()) }
        );
        assert_eq!(parse(&v2[..27]), Parsed::Incomplete);
        assert_eq!(parse(b"EHLO x\r\n"), Parsed::Malformed);
        assert_eq!(parse(b"PROXY TCP4 192.0.2.7\r\n"), Parsed::Malformed);
        assert_eq!(parse(b"PROXY UNKNOWN fff:fff 65534 \n\r\n"), Parsed::Malformed);
        assert_eq!(parse(&[&b"PROXY "[..], &[b'x'; 200]].concat()), Parsed::Malformed);
        assert_eq!(parse(b"PROXY TCP4 300.0.2.7 192.0.2.1 4711 25\r\n"), Parsed::Malformed);
    }

    /// Reads a header as the connection does; what is left is what came behind it.
    #[test]
    fn no_octet_behind_the_header_is_read() {
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
        v2.extend_from_slice(&[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 25, 4, 0, 1, 0]);
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
        let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n".to_vec();
        for header in [v1, b"PROXY UNKNOWN\r\n".to_vec(), v2, local] {
            let wire = [&header[..], b"\x16\x03\x01"].concat();
            let mut read = 0;
            while parse(&wire[..read]) == Parsed::Incomplete {
                read += missing(&wire[..read]);
            }
            assert_eq!(read, header.len(), "{header:?}");
            assert!(matches!(parse(&wire[..read]), Parsed::Header { length, .. } if length == read));
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(input in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse(&input);
        }
    }
}
