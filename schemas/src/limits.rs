//! Limits of an outgoing user: what it sent within sliding windows, and whether one more message fits. The counters stand in
//! the user's row of `senders`; the scorer that owns it counts, ingress reads.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::settings::Limits;

/// A window slides in steps of this part of itself: what it counts is never less than what was sent within it, and never
/// more than what was sent within it and one step.
const STEPS: i64 = 60;

/// What was counted, by step; only steps with something, oldest first: step number and count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(Vec<(i64, u64)>);

impl Window {
    /// Counts `n` at a time. What the window has left behind by then is forgotten; a time before the newest step counts in
    /// that: windows never slide backwards.
    pub fn add(&mut self, at: Timestamp, n: u64, span: Duration) {
        let newest = self.0.last().map_or(i64::MIN, |(step, _)| *step);
        let step = step_of(at, span).max(newest);
        self.0.retain(|(old, _)| *old >= step - STEPS);
        match self.0.last_mut() {
            Some((last, count)) if *last == step => *count += n,
            _ => self.0.push((step, n)),
        }
    }

    /// What was counted within `span` before `now`.
    #[must_use]
    pub fn count(&self, now: Timestamp, span: Duration) -> u64 {
        let newest = self.0.last().map_or(i64::MIN, |(step, _)| *step);
        let first = step_of(now, span).max(newest) - STEPS;
        self.0.iter().filter(|(step, _)| *step >= first).map(|(_, count)| count).sum()
    }

    /// When no more than `rest` will be left of what is counted now.
    #[must_use]
    pub fn down_to(&self, rest: u64, span: Duration) -> Timestamp {
        let mut left: u64 = self.0.iter().map(|(_, count)| count).sum();
        let mut at = Timestamp(0);
        for (step, count) in &self.0 {
            if left <= rest {
                break;
            }
            left -= count;
            at = Timestamp((step + STEPS + 1) * width(span));
        }
        at
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Milliseconds of a step.
fn width(span: Duration) -> i64 {
    (i64::try_from(span.as_millis()).unwrap_or(i64::MAX) / STEPS).max(1)
}

fn step_of(at: Timestamp, span: Duration) -> i64 {
    at.0.div_euclid(width(span))
}

/// The kinds of limit, in the order they are looked at: the one that frees last comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    MessagesPerMonth,
    MessagesPerDay,
    RecipientsPerDay,
    MessagesPerHour,
    MessagesPerMinute,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::MessagesPerMonth,
        Kind::MessagesPerDay,
        Kind::RecipientsPerDay,
        Kind::MessagesPerHour,
        Kind::MessagesPerMinute,
    ];

    #[must_use]
    pub fn span(self) -> Duration {
        Duration::from_secs(match self {
            Kind::MessagesPerMonth => 30 * 24 * 3600,
            Kind::MessagesPerDay | Kind::RecipientsPerDay => 24 * 3600,
            Kind::MessagesPerHour => 3600,
            Kind::MessagesPerMinute => 60,
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
}

/// A limit that does not let a message through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub kind: Kind,
    pub limit: u64,
    /// What was sent within the window.
    pub count: u64,
    /// When it will let it through, unless more is sent meanwhile.
    pub free_at: Timestamp,
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} {}", self.count, self.limit, self.kind.unit())
    }
}

impl Counters {
    fn window(&self, kind: Kind) -> &Window {
        match kind {
            Kind::MessagesPerMonth => &self.month,
            Kind::MessagesPerDay => &self.day,
            Kind::RecipientsPerDay => &self.recipients_day,
            Kind::MessagesPerHour => &self.hour,
            Kind::MessagesPerMinute => &self.minute,
        }
    }

    fn window_mut(&mut self, kind: Kind) -> &mut Window {
        match kind {
            Kind::MessagesPerMonth => &mut self.month,
            Kind::MessagesPerDay => &mut self.day,
            Kind::RecipientsPerDay => &mut self.recipients_day,
            Kind::MessagesPerHour => &mut self.hour,
            Kind::MessagesPerMinute => &mut self.minute,
        }
    }

    /// Counts a message that is released, where a limit asks for it; the rest costs nothing.
    pub fn count(&mut self, at: Timestamp, recipients: u64, limits: &Limits) {
        for kind in Kind::ALL {
            if kind.limit(limits).is_some() {
                self.window_mut(kind).add(at, kind.cost(recipients), kind.span());
            } else {
                *self.window_mut(kind) = Window::default();
            }
        }
    }

    /// The limit that a message to so many recipients is over; of several the one that frees last. A message with more
    /// recipients than the limit passes when nothing else was sent: it would never get through.
    #[must_use]
    pub fn over(&self, now: Timestamp, recipients: u64, limits: &Limits) -> Option<Over> {
        let each = Kind::ALL.into_iter().filter_map(|kind| {
            let (limit, window) = (kind.limit(limits)?, self.window(kind));
            let (count, cost) = (window.count(now, kind.span()), kind.cost(recipients));
            let fits = count + cost <= limit || (count == 0 && cost > limit);
            let free_at = window.down_to(limit.saturating_sub(cost), kind.span()).max(now);
            (!fits).then_some(Over { kind, limit, count, free_at })
        });
        each.max_by_key(|over| over.free_at)
    }

    /// What counts against each limit that is set, and the limit, by its name.
    #[must_use]
    pub fn standing(&self, now: Timestamp, limits: &Limits) -> BTreeMap<String, (u64, u64)> {
        let each = Kind::ALL.into_iter().filter_map(|kind| {
            let count = self.window(kind).count(now, kind.span());
            Some((kind.name().to_owned(), (count, kind.limit(limits)?)))
        });
        each.collect()
    }

    /// Whether so many recipients are more than a day's limit leaves, though nothing else was sent.
    #[must_use]
    pub fn too_many(&self, now: Timestamp, recipients: u64, limits: &Limits) -> Option<Over> {
        let kind = Kind::RecipientsPerDay;
        let limit = kind.limit(limits)?;
        let count = self.window(kind).count(now, kind.span());
        (count + recipients > limit).then(|| Over { kind, limit, count, free_at: now.plus(kind.span()) })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.window(kind).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that a failure can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    #[test]
    fn a_window_counts_what_a_list_of_times_counts() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let span = Duration::from_secs([60, 3600, 86_400, 2_592_000][random.below(4) as usize]);
            let millis = span.as_millis() as u64;
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 1_795_512_600_000_i64);
            for _ in 0..300 {
                now += random.below(millis / 20) as i64;
                let count = |within: i64| {
                    list.iter().filter(|(at, _)| *at > now - within).map(|(_, n)| *n).sum::<u64>()
                };
                let counted = window.count(Timestamp(now), span);
                let (least, most) = (count(millis as i64), count(millis as i64 + width(span)));
                assert!((least..=most).contains(&counted), "seed {seed}: {least} <= {counted} <= {most}");
                let n = 1 + random.below(5);
                window.add(Timestamp(now), n, span);
                list.push((now, n));
                assert!(window.0.len() as i64 <= STEPS + 1);
            }
        }
    }

    #[test]
    fn a_limit_is_never_exceeded_and_frees_when_it_says() {
        for seed in 0..100 {
            let mut random = Random(seed);
            let limits = Limits {
                messages_per_minute: Some(1 + random.below(5)),
                messages_per_hour: Some(5 + random.below(20)),
                recipients_per_day: Some(20 + random.below(100)),
                ..Limits::default()
            };
            let (mut counters, mut sent, mut now) =
                (Counters::default(), Vec::new(), Timestamp(1_795_512_600_000));
            for _ in 0..500 {
                now = now.plus(Duration::from_millis(random.below(40_000)));
                let recipients = 1 + random.below(4);
                match counters.over(now, recipients, &limits) {
                    Some(over) => {
                        assert!(over.free_at >= now);
                        let before = Timestamp(over.free_at.0 - 1).max(now);
                        assert!(before == now || counters.over(before, recipients, &limits).is_some());
                        assert!(
                            counters.over(over.free_at, recipients, &limits).is_none(),
                            "seed {seed}: {over:?}"
                        );
                    }
                    None => {
                        counters.count(now, recipients, &limits);
                        sent.push((now, recipients));
                    }
                }
                let within =
                    |span: u64| sent.iter().filter(move |(at, _)| now.since(*at) < Duration::from_secs(span));
                assert!(within(60).count() as u64 <= limits.messages_per_minute.unwrap());
                assert!(within(3600).count() as u64 <= limits.messages_per_hour.unwrap());
                let recipients: u64 = within(86_400).map(|(_, n)| n).sum();
                assert!(recipients <= limits.recipients_per_day.unwrap());
            }
        }
    }

    #[test]
    fn windows_never_slide_backwards_and_come_back_from_json() {
        let span = Duration::from_secs(60);
        let mut window = Window::default();
        window.add(Timestamp(120_000), 3, span);
        window.add(Timestamp(5_000), 2, span);
        assert_eq!(window.count(Timestamp(5_000), span), 5, "an earlier time sees what the newest saw");
        assert_eq!(window.count(Timestamp(181_000), span), 0);
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(text, "[[120,5]]");
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
    }

    #[test]
    fn more_recipients_than_the_limit_pass_alone() {
        let limits = Limits { recipients_per_day: Some(10), ..Limits::default() };
        let mut counters = Counters::default();
        assert!(counters.over(Timestamp(0), 50, &limits).is_none());
        counters.count(Timestamp(0), 50, &limits);
        assert_eq!(counters.over(Timestamp(0), 1, &limits).unwrap().count, 50);
    }
}
