//! Mailweir: an outgoing mail filter and relay. One process runs any subset of the roles; this crate wires them.

pub mod cli;
pub mod config;
pub mod demo;
pub mod http;
pub mod log_engine;
pub mod logging;
pub mod migrate;
pub mod pipeline;
pub mod restore;
pub mod roles;
pub mod socket;
pub mod whatif;
