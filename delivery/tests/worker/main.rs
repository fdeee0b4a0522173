//! The delivery worker on the real embedded log, with real connections to peers on loopback.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod delivering;
mod dns;
mod dsn;
mod peer;
mod queue;
mod rig;
mod signing;
mod start_tls;
mod two_nodes;

/// An ordinary message.
const MAIL: &str = "From: a@customer.example\r\nTo: b@x.example\r\nSubject: hi\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nMessage-ID: <m1@customer.example>\r\n\r\nHello\r\n.dot\r\n";
