//! Waiting for what must come, never for a time.

use std::time::{Duration, Instant};

/// Looks every 50 ms until `look` gives something.
///
/// # Panics
/// When it has not after `limit`; the message says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        pause();
    }
}

/// Between two looks.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(50));
}

/// Waits until a TCP port takes connections.
pub fn for_port(port: u16) {
    until(&format!("port {port} takes connections"), Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
}
