//! What the end-to-end tests stand on: real peers with their own configuration on loopback, the `mailweir` command as a
//! process that can be killed, and clients that speak SMTP byte by byte.

pub mod certificate;
pub mod clickhouse;
pub mod cluster;
pub mod compose;
pub mod dns;
pub mod engines;
pub mod exim;
pub mod hostile;
pub mod kafka;
pub mod ledger;
pub mod mailweir;
pub mod opendkim;
pub mod ports;
pub mod postfix;
pub mod process;
pub mod sink;
pub mod smtp;
pub mod wait;
