//! The statistics store: one suite of rules, run on each engine, and what only one of them can get wrong.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

mod clickhouse;
mod events;
mod questions;
#[allow(dead_code)] // the benchmark and the pipeline use the rest
mod server;
mod sqlite;
mod suite;
