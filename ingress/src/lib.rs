//! SMTP in: listeners, sessions, and the durable accept behind every `250`.
//!
//! A message's way through here: `listener` accepts the connection, `connection` moves its bytes, `session` is the
//! dialogue (a pure state machine, one file per stage), `gate` says whether mail is taken in, `data` takes the message
//! off the wire, `accept` appends it, `verdict` waits for the scorer's word.

pub mod accept;
pub mod auth;
mod config;
pub mod connection;
pub mod data;
mod error;
mod gate;
pub mod listener;
pub mod metrics;
pub mod proxy;
pub mod refusals;
pub mod session;
pub mod slots;
pub mod tls;
pub mod verdict;

pub use config::{Config, Limits, ListenerConfig, ListenerTls, TlsFiles};
pub use error::Error;
pub use gate::{Gate, Shut};
pub use listener::Ingress;
