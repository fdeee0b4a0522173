//! Whether mail is taken in: one answer for clients, health and status.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventlog::{Log, LogError, View};
use schemas::Topic;
use schemas::senders::SendersView;
use schemas::settings::SettingsView;

/// Who must not fall behind, and in what.
pub const GROUPS: [(&str, Topic); 2] = [("scorer", Topic::Accepted), ("delivery", Topic::Released)];

/// Says why no mail is taken in now; clones share what it knows. Without an ingress that runs nobody looks at how far
/// others are behind, and it goes by the log and the views alone.
#[derive(Clone)]
pub struct Gate {
    pub(crate) log: Log,
    pub(crate) settings: View<SettingsView>,
    pub(crate) senders: View<SendersView>,
    max_lag: u64,
    /// In records, as last seen, in the order of `GROUPS`.
    lag: Arc<[AtomicU64; GROUPS.len()]>,
}

/// Why no mail is taken in; displayed, it is for who runs the node.
#[derive(Debug)]
pub enum Shut {
    StartingUp,
    Log(LogError),
    Behind { group: &'static str, records: u64, max: u64 },
}

impl Gate {
    /// `max_lag`: records that a group may be behind.
    #[must_use]
    pub fn new(log: Log, settings: View<SettingsView>, senders: View<SendersView>, max_lag: u64) -> Self {
        Gate { log, settings, senders, max_lag, lag: Arc::default() }
    }

    /// Why no mail is taken in now; `None`: it is.
    #[must_use]
    pub fn shut(&self) -> Option<Shut> {
        let caught_up = self.settings.is_caught_up() && self.senders.is_caught_up();
        let lag = std::array::from_fn(|group| self.lag[group].load(Ordering::Relaxed));
        decide(caught_up, self.log.accepting(), lag, self.max_lag)
    }

    /// How far a group of `GROUPS` is behind.
    pub(crate) fn set_lag(&self, group: usize, records: u64) {
        self.lag[group].store(records, Ordering::Relaxed);
    }
}

fn decide(caught_up: bool, log: Result<(), LogError>, lag: [u64; GROUPS.len()], max: u64) -> Option<Shut> {
    if let Err(error) = log {
        return Some(Shut::Log(error));
    }
    if !caught_up {
        return Some(Shut::StartingUp);
    }
    let behind = GROUPS.iter().zip(lag).find(|(_, records)| *records > max);
    behind.map(|((group, _), records)| Shut::Behind { group, records, max })
}

impl Shut {
    /// What a client's log should say.
    #[must_use]
    pub fn for_client(&self) -> &'static str {
        match self {
            Shut::StartingUp => "Starting up, try again shortly",
            Shut::Log(_) => "Mail cannot be stored now, try again later",
            Shut::Behind { .. } => "Too much mail waits to be checked or delivered, try again later",
        }
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shut::StartingUp => f.write_str("settings and senders are still being read"),
            Shut::Log(error) => error.fmt(f),
            Shut::Behind { group, records, max } => {
                write!(f, "{group} is {records} messages behind, more than max_lag ({max})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named_for_its_reader() {
        let says = |caught_up, log, lag| {
            decide(caught_up, log, lag, 10).map(|shut| (shut.to_string(), shut.for_client()))
        };
        assert_eq!(says(true, Ok(()), [10, 10]), None);
        let (operator, client) = says(true, Ok(()), [3, 11]).expect("a reason");
        assert_eq!(operator, "delivery is 11 messages behind, more than max_lag (10)");
        assert!(client.starts_with("Too much mail waits"), "{client}");
        assert!(says(true, Ok(()), [11, 11]).expect("a reason").0.starts_with("scorer is 11"));
        let (operator, _) = says(false, Ok(()), [0, 0]).expect("a reason");
        assert_eq!(operator, "settings and senders are still being read");
        let no_room = || Err(LogError::Unavailable("no room".into()));
        assert!(says(false, no_room(), [0, 0]).expect("a reason").0.contains("no room"));
    }
}
