//! The scorer: judges what ingress accepted. It owns the state of its users: what is decided about them is decided
//! here, in the order of their partition, and written in one step with the offsets.
//!
//! The journey of a message: `run` polls it, `intake` reads it, `policy` says by which settings, `outside` asks others, `batch` takes it up, `judge` decides:
//! it asks `identity` who sent it, `checks` and `content` what is wrong with it, `behaviour` what is unlike its sender, `bulk` what large
//! receivers ask of its sender, `forwarded` whether it is only passed on, `state` whether its sender is locked, and `decision` what follows
//! from all that (`recompute`: what would follow from what a stored verdict says, under another policy);
//! `locks` says whether its sender now is, `outputs` writes what follows, `batch` commits it. `commands` is what people ask for, `timers` what time brings, `holds` what waits
//! for a limit, `rechecks` what waits for an engine,
//! `replay` how a partition's state comes back after a restart or a move.
//! `feedback` is what becomes of the recipients: it comes back from `attempts`, and counts for limits and symbols (`bounces`).
//! `learner` corrects the content classifier by what people release and confirm.

pub mod run;

mod batch;
mod commands;
mod feedback;
mod holds;
mod intake;
mod learner;
mod outputs;
mod rechecks;
mod replay;
mod timers;

pub mod policy;

pub mod address_list;
pub mod behaviour;
pub mod bounces;
pub mod bulk;
pub mod checks;
pub mod classifier;
pub mod content;
pub mod decision;
pub mod evidence;
pub mod facts;
pub mod forwarded;
pub mod header;
pub mod identity;
pub mod judge;
pub mod locks;
pub mod mime;
pub mod outside;
pub mod recompute;
pub mod score_file;
pub mod state;
pub mod summary;
pub mod transfer;
pub mod zip;

pub mod error;
pub mod metrics;

#[cfg(test)]
mod samples;

pub use classifier::Classifier;
pub use error::Error;
pub use judge::{Case, Judgement, judge};
pub use metrics::Metrics;
pub use run::{Config, run};
pub use score_file::{after_feedback, score_message, spam_probability};
