//! Control: the one writer of settings, and the commands and queries behind the CLI, the API and the panel.
//!
//! The modules stand in reading order: what crosses the socket (`api`), how a settings file becomes settings
//! (`settings_file`, `password`, `dkim`), what applying it would change (`diff`, `redact`) and who writes it (`writer`);
//! then the views (`queue_view`, `quarantine_view`, `history`), the commands (`commands`), and the routes over all of it.

pub mod api;
pub mod cluster_key;
pub mod error;

pub mod dkim;
pub mod password;
pub mod settings_file;

pub mod diff;
pub mod redact;
pub mod resolve;

pub use error::Error;
