//! SMTP out: from `released` to the remote `250`, with everything that can go wrong between.
//!
//! A message's way through here: `run` joins the log, `worker` takes the message from it, `route` groups its recipients by
//! site and `egress` chooses where it leaves from, `site` keeps the connections, `attempt` tries, `content` and `dkim` make
//! the bytes, `client` speaks SMTP, `outcome` says what came of it, `aftermath` what follows, `lane` keeps what is to be
//! tried again, `dsn` tells the sender.

mod aftermath;
mod attempt;
pub mod client;
mod config;
mod consumer;
pub mod content;
pub mod convert;
pub mod dkim;
pub mod dns;
pub mod dsn;
pub mod egress;
mod error;
pub mod header;
mod keep;
pub mod lane;
mod lane_commands;
mod lane_rows;
mod message;
mod metrics;
pub mod outcome;
mod own_mail;
mod records;
pub mod reply;
pub mod retry;
pub mod route;
pub mod run;
mod site;
pub mod stuffing;
pub mod tls;
pub mod transaction;
pub mod users;
mod wire;
mod worker;

pub use config::Config;
pub use error::Error;
pub use metrics::Metrics;
pub use retry::RetrySchedule;
pub use run::run;
