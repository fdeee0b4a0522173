//! Mailweir: an outgoing mail filter and relay. One process runs any subset of the roles; this crate wires them.

pub mod config;
pub mod logging;
pub mod pipeline;
pub mod http;
pub mod socket;
pub mod restore;
pub mod cli;
pub mod demo;
