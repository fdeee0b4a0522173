//! Limits of an outgoing user: what it sent within sliding windows, and whether one more message fits. The counters stand in
//! the user's row of `senders`; the scorer that owns it counts, ingress reads.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::Limits;
use crate::{Mailbox, Timestamp};

mod distinct;
mod window;

pub use distinct::{Distinct, Hashes, hash};
pub use window::Window;

/// A share of invalid recipients says nothing before so many were written to, unless the settings say otherwise.
pub const DEFAULT_MIN_SAMPLE: u64 = 50;

/// The kinds of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    MessagesPerMonth,
    MessagesPerDay,
    RecipientsPerDay,
    MessagesPerHour,
    MessagesPerMinute,
    /// Recipients of whom the receiver said that they do not exist.
    InvalidRecipientsPerDay,
    /// What share of the recipients these are.
    InvalidRecipientsPercent,
    DistinctRecipientsPerDay,
}

impl Kind {
    /// Those that have one window, and are over when it is full.
    pub const WINDOWS: [Kind; 6] = [
        Kind::MessagesPerMonth,
        Kind::MessagesPerDay,
        Kind::RecipientsPerDay,
        Kind::MessagesPerHour,
        Kind::MessagesPerMinute,
        Kind::InvalidRecipientsPerDay,
    ];

    #[must_use]
    pub fn span(self) -> Duration {
        Duration::from_secs(match self {
            Kind::MessagesPerMonth => 30 * 24 * 3600,
            Kind::MessagesPerHour => 3600,
            Kind::MessagesPerMinute => 60,
            _ => 24 * 3600,
        })
    }

    /// As a reply says it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Kind::MessagesPerMonth => "messages per 30 days",
            Kind::MessagesPerDay => "messages per day",
            Kind::RecipientsPerDay => "recipients per day",
            Kind::MessagesPerHour => "messages per hour",
            Kind::MessagesPerMinute => "messages per minute",
            Kind::InvalidRecipientsPerDay => "invalid recipients per day",
            Kind::InvalidRecipientsPercent => "percent of invalid recipients per day",
            Kind::DistinctRecipientsPerDay => "distinct recipients per day",
        }
    }

    /// The name of the limit in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::MessagesPerMonth => "messages_per_month",
            Kind::MessagesPerDay => "messages_per_day",
            Kind::RecipientsPerDay => "recipients_per_day",
            Kind::MessagesPerHour => "messages_per_hour",
            Kind::MessagesPerMinute => "messages_per_minute",
            Kind::InvalidRecipientsPerDay => "invalid_recipients_per_day",
            Kind::InvalidRecipientsPercent => "invalid_recipients_percent",
            Kind::DistinctRecipientsPerDay => "distinct_recipients_per_day",
        }
    }

    /// What is set of this kind.
    #[must_use]
    pub fn limit(self, limits: &Limits) -> Option<u64> {
        match self {
            Kind::MessagesPerMonth => limits.messages_per_month,
            Kind::MessagesPerDay => limits.messages_per_day,
            Kind::RecipientsPerDay => limits.recipients_per_day,
            Kind::MessagesPerHour => limits.messages_per_hour,
            Kind::MessagesPerMinute => limits.messages_per_minute,
            Kind::InvalidRecipientsPerDay => limits.invalid_recipients_per_day,
            Kind::InvalidRecipientsPercent => limits.invalid_recipients_percent,
            Kind::DistinctRecipientsPerDay => limits.distinct_recipients_per_day,
        }
    }

    /// Sets it.
    pub fn set(self, limits: &mut Limits, limit: u64) {
        let field = match self {
            Kind::MessagesPerMonth => &mut limits.messages_per_month,
            Kind::MessagesPerDay => &mut limits.messages_per_day,
            Kind::RecipientsPerDay => &mut limits.recipients_per_day,
            Kind::MessagesPerHour => &mut limits.messages_per_hour,
            Kind::MessagesPerMinute => &mut limits.messages_per_minute,
            Kind::InvalidRecipientsPerDay => &mut limits.invalid_recipients_per_day,
            Kind::InvalidRecipientsPercent => &mut limits.invalid_recipients_percent,
            Kind::DistinctRecipientsPerDay => &mut limits.distinct_recipients_per_day,
        };
        *field = Some(limit);
    }

    /// What a message counts.
    #[must_use]
    pub fn cost(self, recipients: u64) -> u64 {
        if self == Kind::RecipientsPerDay { recipients } else { 1 }
    }
}

/// What a user sent, in one window for each limit that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub month: Window,
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub day: Window,
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub recipients_day: Window,
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub hour: Window,
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub minute: Window,
    /// Recipients of whom the receiver said that they do not exist, by when it did.
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub invalid_day: Window,
    /// Recipients of mail that is not only passed on: of these the invalid ones are a share.
    #[serde(default, skip_serializing_if = "Window::is_empty")]
    pub sample_day: Window,
}

/// What limits look at in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub recipients: u64,
    /// None where they are not known: each recipient is then taken to be new.
    pub hashes: Hashes,
    /// Mail that is only passed on, to recipients that somebody else chose.
    pub forwarded: bool,
}

impl Asked {
    /// The hashes are made only where something is to be done with them.
    #[must_use]
    pub fn of<'a>(
        recipients: impl ExactSizeIterator<Item = &'a Mailbox>,
        forwarded: bool,
        with_hashes: bool,
    ) -> Self {
        let number = recipients.len() as u64;
        let hashes = if with_hashes { Hashes::of(recipients) } else { Hashes::default() };
        Asked { recipients: number, hashes, forwarded }
    }

    fn new_recipients(&self, distinct: &Distinct, now: Timestamp) -> u64 {
        if self.hashes.is_empty() { self.recipients } else { distinct.new_among(now, &self.hashes) }
    }
}

/// A limit that does not let a message through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub kind: Kind,
    pub limit: u64,
    /// What was sent within the window.
    pub count: u64,
    /// Of how many recipients the invalid ones are a share; with the other kinds 0.
    pub sample: u64,
    /// When it will let it through, unless more is sent meanwhile.
    pub free_at: Timestamp,
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Over { kind, limit, count, sample, .. } = self;
        if *kind == Kind::InvalidRecipientsPercent {
            return write!(f, "{count} of {sample} recipients invalid, at most {limit} percent per day");
        }
        write!(f, "{count} of {limit} {}", kind.unit())
    }
}

impl Counters {
    /// The window of one of `Kind::WINDOWS`.
    fn window(&self, kind: Kind) -> &Window {
        match kind {
            Kind::MessagesPerMonth => &self.month,
            Kind::MessagesPerDay => &self.day,
            Kind::RecipientsPerDay => &self.recipients_day,
            Kind::MessagesPerHour => &self.hour,
            Kind::MessagesPerMinute => &self.minute,
            _ => &self.invalid_day,
        }
    }

    fn window_mut(&mut self, kind: Kind) -> &mut Window {
        match kind {
            Kind::MessagesPerMonth => &mut self.month,
            Kind::MessagesPerDay => &mut self.day,
            Kind::RecipientsPerDay => &mut self.recipients_day,
            Kind::MessagesPerHour => &mut self.hour,
            Kind::MessagesPerMinute => &mut self.minute,
            _ => &mut self.invalid_day,
        }
    }

    /// Counts a message that is released, where a limit asks for it; the rest costs nothing.
    pub fn count(&mut self, at: Timestamp, asked: &Asked, limits: &Limits) {
        for kind in Kind::WINDOWS {
            if kind == Kind::InvalidRecipientsPerDay {
                if !counts_invalid(limits) {
                    self.invalid_day = Window::default();
                }
            } else if kind.limit(limits).is_some() {
                self.window_mut(kind).add(at, kind.cost(asked.recipients), kind.span());
            } else {
                *self.window_mut(kind) = Window::default();
            }
        }
        if limits.invalid_recipients_percent.is_none() {
            self.sample_day = Window::default();
        } else if !asked.forwarded {
            self.sample_day.add(at, asked.recipients, Kind::InvalidRecipientsPercent.span());
        }
    }

    /// Counts recipients of whom the receiver said at this time that they do not exist.
    pub fn count_invalid(&mut self, at: Timestamp, recipients: u64, limits: &Limits) {
        if counts_invalid(limits) {
            self.invalid_day.add(at, recipients, Kind::InvalidRecipientsPerDay.span());
        } else {
            self.invalid_day = Window::default();
        }
    }

    /// The limit that a message to so many recipients is over; of several the one that frees last. A message with more
    /// recipients than the limit passes when nothing else was sent: it would never get through. Distinct recipients are
    /// looked at by [`over_distinct`].
    #[must_use]
    pub fn over(&self, now: Timestamp, recipients: u64, limits: &Limits) -> Option<Over> {
        let each = Kind::WINDOWS.into_iter().filter_map(|kind| {
            let (limit, window) = (kind.limit(limits)?, self.window(kind));
            let (count, cost) = (window.count(now, kind.span()), kind.cost(recipients));
            let fits = count + cost <= limit || (count == 0 && cost > limit);
            let free_at = window.down_to(limit.saturating_sub(cost), kind.span()).max(now);
            (!fits).then_some(Over { kind, limit, count, sample: 0, free_at })
        });
        each.chain(self.over_share(now, limits)).max_by_key(|over| over.free_at)
    }

    fn over_share(&self, now: Timestamp, limits: &Limits) -> Option<Over> {
        let kind = Kind::InvalidRecipientsPercent;
        let (span, percent) = (kind.span(), kind.limit(limits)?);
        let min_sample = limits.invalid_recipients_min_sample.unwrap_or(DEFAULT_MIN_SAMPLE);
        let at = |time: Timestamp| {
            let count = self.invalid_day.count(time, span);
            // Those of yesterday's mail may become known today.
            (count, self.sample_day.count(time, span).max(count))
        };
        let is_over = |(count, sample)| sample >= min_sample && count * 100 > percent * sample;
        let (count, sample) = at(now);
        if !is_over((count, sample)) {
            return None;
        }
        let leaves = self.invalid_day.leaves(span).chain(self.sample_day.leaves(span));
        let free_at = leaves.filter(|time| *time > now && !is_over(at(*time))).min();
        Some(Over { kind, limit: percent, count, sample, free_at: free_at.unwrap_or(now) })
    }

    /// Whether so many recipients are more than a day's limit leaves, though nothing else was sent.
    #[must_use]
    pub fn too_many(&self, now: Timestamp, recipients: u64, limits: &Limits) -> Option<Over> {
        let kind = Kind::RecipientsPerDay;
        let limit = kind.limit(limits)?;
        let count = self.window(kind).count(now, kind.span());
        let free_at = now.plus(kind.span());
        (count + recipients > limit).then_some(Over { kind, limit, count, sample: 0, free_at })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        Kind::WINDOWS.into_iter().all(|kind| self.window(kind).is_empty()) && self.sample_day.is_empty()
    }
}

fn counts_invalid(limits: &Limits) -> bool {
    limits.invalid_recipients_per_day.is_some() || limits.invalid_recipients_percent.is_some()
}

/// The limit of distinct recipients, where so many new ones are over it.
#[must_use]
pub fn over_distinct(distinct: &Distinct, now: Timestamp, new: u64, limits: &Limits) -> Option<Over> {
    let kind = Kind::DistinctRecipientsPerDay;
    let limit = kind.limit(limits)?;
    let count = distinct.count(now);
    (new > 0 && count + new > limit).then(|| {
        let free_at = distinct.room_at(now, new, limit).max(now);
        Over { kind, limit, count, sample: 0, free_at }
    })
}

/// The limit that a message is over; of several the one that frees last. As with all recipients, a message that alone has
/// more distinct ones than the limit passes when nothing else was sent.
#[must_use]
pub fn over(
    counters: &Counters,
    distinct: &Distinct,
    now: Timestamp,
    asked: &Asked,
    limits: &Limits,
) -> Option<Over> {
    let new_recipients = || {
        let limit = limits.distinct_recipients_per_day?;
        let new = asked.new_recipients(distinct, now);
        over_distinct(distinct, now, new, limits).filter(|over| over.count > 0 || new <= limit)
    };
    let each = counters.over(now, asked.recipients, limits).into_iter().chain(new_recipients());
    each.max_by_key(|over| over.free_at)
}

/// What counts against each limit that is set, and the limit, by its name.
#[must_use]
pub fn standing(
    counters: &Counters,
    distinct: &Distinct,
    now: Timestamp,
    limits: &Limits,
) -> BTreeMap<String, (u64, u64)> {
    let windows = Kind::WINDOWS.map(|kind| (kind, counters.window(kind).count(now, kind.span())));
    let span = Kind::InvalidRecipientsPercent.span();
    let (invalid, sample) = (counters.invalid_day.count(now, span), counters.sample_day.count(now, span));
    let others = [
        (Kind::InvalidRecipientsPercent, invalid * 100 / sample.max(invalid).max(1)),
        (Kind::DistinctRecipientsPerDay, distinct.count(now)),
    ];
    let each = windows.into_iter().chain(others);
    each.filter_map(|(kind, count)| Some((kind.name().to_owned(), (count, kind.limit(limits)?)))).collect()
}

#[cfg(test)]
mod tests;
