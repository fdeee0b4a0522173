//! The statistics store: one suite of rules, run on each engine, and what only SQLite can get wrong.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

mod events;
mod sqlite;
mod suite;
