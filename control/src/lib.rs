//! Control: the one writer of settings, and the commands and queries behind the CLI, the API and the panel.
//!
//! The modules stand in reading order: what crosses the socket (`api`); how a settings file becomes settings
//! (`settings_file`, `password`, `dkim`, `resolve`), what applying it would change (`diff`, `redact`, `tried`: without applying it)
//! and who writes it (`writer`, `history`); what is known of queue and quarantine (`queue_view`, `quarantine_view`, `message`); how a command
//! is given (`command`), how a lane is moved (`lane_move`) and what the log may drop (`trimming`); and `context` and `routes` over all of it.

pub mod api;
pub mod cluster_key;
pub mod error;

pub mod dkim;
mod field_names;
pub mod password;
pub mod resolve;
pub mod settings_file;

pub mod diff;
pub mod redact;
pub mod tried;

pub mod history;
pub mod writer;

pub mod message;
pub mod quarantine_view;
pub mod queue_view;

pub mod command;
pub mod export;
pub mod lane_move;
pub mod trimming;

pub mod context;
pub mod routes;

pub use context::{BackupHook, Config, Context, Obstacle, start};
pub use error::Error;
pub use routes::{read_models, router, unlock_pages};
