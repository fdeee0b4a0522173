//! The reporter on the real embedded log: verdicts and attempts in; rows, sums, traces and feedback reports out.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

#[path = "../store/events.rs"]
#[allow(dead_code)] // the store's suite uses the rest
mod events;
#[path = "../store/server.rs"]
#[allow(dead_code)] // the store's tests use the rest
mod server;

mod clickhouse;
#[path = "../../../eventlog/tests/faulty/mod.rs"]
mod faulty;
mod feedback;
mod queries;
mod site;
mod statistics;
