//! Free ports of the loopback addresses.

use std::net::TcpListener;

/// A port that nobody listens on now.
///
/// # Panics
/// When the machine has none.
#[must_use]
pub fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A port that is free now on each of these addresses: servers that one `smtp_port` reaches.
///
/// # Panics
/// When none can be found.
#[must_use]
pub fn free_on(addresses: &[&str]) -> u16 {
    let is_free = |port: &u16| addresses.iter().all(|ip| TcpListener::bind((*ip, *port)).is_ok());
    (0..100).map(|_| free()).find(is_free).expect("a port that is free on all of them")
}
