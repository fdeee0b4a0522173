//! The log: one trait, engines behind it, one conformance suite, and the clock.
//!
//! `EventLog` is shaped for two engines: the embedded one here and Kafka. What a worker may rely on, and no more, is
//! written at the trait; `tests/conformance` proves it for every engine.

pub mod bodies;
pub mod clock;
pub mod embedded;
pub mod error;
pub mod kafka;
pub mod log;
pub mod record;
pub mod view;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::LogError;
pub use log::{Consumer, EventLog, Polled, Table, TableEvent, Tail, TailFrom};
pub use record::{NewRecord, Partitioning, Record};
pub use view::View;

/// The log as workers hold it.
pub type Log = std::sync::Arc<dyn EventLog>;
