//! The routes over a real embedded log.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by panicking

mod api {
    pub mod node;

    mod commands;
    mod dkim;
    mod model;
    mod queries;
    mod settings;
}
