//! What an identity sent lately, and what it usually sends.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Lately, Steps, Usual, bits, day_of, five_minutes_of, hour_of};
use crate::Timestamp;

/// Hours with mail that weigh the most in what is usual: those of some weeks.
const HOURS_REMEMBERED: u16 = 200;
/// The same, in days.
const DAYS_REMEMBERED: u16 = 30;
/// The largest numbers are those of this period and the one before, so that what somebody does once a month is known.
const PERIOD_DAYS: i64 = 35;
/// Who sent nothing for so long comes back.
const QUIET: Duration = Duration::from_secs(14 * 24 * 3600);

/// The row of an identity. Only the windows change with a message; what is usual is learnt when its day is over, from
/// hours and days with mail alone. All times are UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// When it began.
    pub since: Timestamp,
    /// Of the newest message; nothing counts as earlier.
    pub newest: Timestamp,
    /// Days with mail that are over.
    pub days: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Return>,
    /// Messages, by five minutes.
    pub last_hour: Steps<12>,
    /// Messages, by hour.
    pub messages: Steps<24>,
    /// Recipients of messages, by hour.
    #[serde(default, skip_serializing_if = "Steps::is_empty")]
    pub recipients: Steps<24>,
    /// Those it had not written to before, by hour.
    #[serde(default, skip_serializing_if = "Steps::is_empty")]
    pub strangers: Steps<24>,
    /// Domains of recipients.
    #[serde(default, skip_serializing_if = "Lately::is_empty")]
    pub domains: Lately,
    /// Domains of authors.
    #[serde(default, skip_serializing_if = "Lately::is_empty")]
    pub from_domains: Lately,
    #[serde(default)]
    pub usually: Usually,
    /// Hours with mail, by hour of the day.
    #[serde(default)]
    pub by_hour: ByHour,
}

/// What is usual for an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usually {
    /// Messages in an hour with mail.
    pub messages: Usual,
    /// Of a day with mail: recipients it had not written to before, domains of recipients, domains of authors.
    pub strangers: Usual,
    pub domains: Usual,
    pub from_domains: Usual,
    /// Day on which the period of the largest numbers began.
    pub period: i64,
}

/// When somebody came back who had been quiet for weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    pub at: Timestamp,
    pub after_days: u32,
}

/// What of a message counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted<'a> {
    pub recipients: u32,
    /// Recipients that were not written to before.
    pub strangers: u32,
    pub domains: &'a [u16],
    pub from_domain: Option<u16>,
}

impl Rates {
    /// Of somebody of whom nothing was counted.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Rates {
            since: at,
            newest: at,
            days: 0,
            returned: None,
            last_hour: Steps::default(),
            messages: Steps::default(),
            recipients: Steps::default(),
            strangers: Steps::default(),
            domains: Lately::default(),
            from_domains: Lately::default(),
            usually: Usually { period: day_of(at), ..Usually::default() },
            by_hour: ByHour::default(),
        }
    }

    /// Counts a message.
    pub fn count(&mut self, at: Timestamp, counted: &Counted<'_>) {
        let at = at.max(self.newest);
        if day_of(at) > day_of(self.newest) {
            self.end_day();
        }
        let quiet = at.since(self.newest);
        if quiet >= QUIET {
            self.returned = Some(Return { at, after_days: (quiet.as_secs() / 86_400) as u32 });
        }
        self.newest = at;
        let hour = hour_of(at);
        self.last_hour.add(five_minutes_of(at), 1);
        self.messages.add(hour, 1);
        if counted.recipients == 0 {
            return;
        }
        self.recipients.add(hour, counted.recipients);
        self.strangers.add(hour, counted.strangers);
        self.domains.meet(hour, counted.domains);
        self.from_domains.meet(hour, counted.from_domain.as_slice());
    }

    /// Learns from the day of the newest message, which is over.
    fn end_day(&mut self) {
        let day = day_of(self.newest);
        let (first, last) = (day * 24, day * 24 + 23);
        self.days = self.days.saturating_add(1);
        let usually = &mut self.usually;
        let age = day.saturating_sub(usually.period);
        if age >= PERIOD_DAYS {
            let periods = if age >= 2 * PERIOD_DAYS { 2 } else { 1 };
            for _ in 0..periods {
                let all = [
                    &mut usually.messages,
                    &mut usually.strangers,
                    &mut usually.domains,
                    &mut usually.from_domains,
                ];
                all.into_iter().for_each(Usual::next_period);
            }
            usually.period = day;
        }
        for (hour, count) in self.messages.iter().filter(|(hour, _)| (first..=last).contains(hour)) {
            if count > 0 {
                usually.messages.learn(count, HOURS_REMEMBERED);
                self.by_hour.note(hour);
            }
        }
        if self.recipients.sum(first, last) > 0 {
            usually.strangers.learn(self.strangers.sum(first, last), DAYS_REMEMBERED);
            usually.domains.learn(self.domains.since(first) as u32, DAYS_REMEMBERED);
            usually.from_domains.learn(self.from_domains.since(first) as u32, DAYS_REMEMBERED);
        }
    }
}

/// How many hours with mail there were at each hour of the day. All are halved when there are many, so that old ones fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByHour([u8; 24]);

impl ByHour {
    const MANY: u32 = 240;

    fn note(&mut self, hour: i64) {
        let slot = &mut self.0[hour.rem_euclid(24) as usize];
        *slot = slot.saturating_add(1);
        if self.sum() >= Self::MANY {
            self.0.iter_mut().for_each(|slot| *slot /= 2);
        }
    }

    #[must_use]
    pub fn sum(&self) -> u32 {
        self.0.iter().map(|slot| u32::from(*slot)).sum()
    }

    /// At this hour of the day, and the one before and after it.
    #[must_use]
    pub fn around(&self, hour: i64) -> u32 {
        (-1..=1).map(|off| u32::from(self.0[(hour + off).rem_euclid(24) as usize])).sum()
    }
}

impl Serialize for ByHour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bits::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for ByHour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = bits::decode(deserializer)?;
        bytes.try_into().map(ByHour).map_err(|_| de::Error::custom("a day has 24 hours"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23, a Monday, 00:00
    const MONDAY: i64 = 1_795_392_000_000;
    const HOUR: i64 = 3_600_000;

    fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
        Timestamp(MONDAY + (day * 24 + hour) * HOUR + minute * 60_000)
    }

    #[test]
    fn a_day_is_learnt_when_it_is_over() {
        let mut rates = Rates::new(at(0, 9, 0));
        let counted = Counted { recipients: 2, strangers: 1, domains: &[1, 2], from_domain: Some(9) };
        for (hour, minute) in [(9, 0), (9, 59), (14, 0)] {
            rates.count(at(0, hour, minute), &counted);
        }
        assert_eq!((rates.days, rates.usually.messages.mean()), (0, 0.0));
        rates.count(at(1, 10, 0), &counted);
        assert_eq!(
            (rates.days, rates.usually.messages.mean(), rates.usually.messages.largest()),
            (1, 1.5, 2)
        );
        assert_eq!((rates.usually.strangers.largest(), rates.usually.domains.largest()), (3, 2));
        assert_eq!((rates.by_hour.around(13), rates.by_hour.around(11), rates.by_hour.sum()), (1, 0, 2));
        assert_eq!(rates.returned, None);
        rates.count(at(30, 10, 0), &counted);
        assert_eq!(rates.returned, Some(Return { at: at(30, 10, 0), after_days: 29 }));
        // What is late counts as of now.
        rates.count(at(3, 10, 0), &counted);
        assert_eq!((rates.newest, rates.last_hour.count(five_minutes_of(at(30, 10, 0)))), (at(30, 10, 0), 2));
    }

    #[test]
    fn the_largest_numbers_are_those_of_the_last_weeks() {
        let mut rates = Rates::new(at(0, 9, 0));
        let count = |rates: &mut Rates, day: i64, messages: usize| {
            (0..messages).for_each(|_| rates.count(at(day, 9, 0), &Counted::default()));
        };
        count(&mut rates, 0, 50);
        for day in 1..36 {
            count(&mut rates, day, 2);
        }
        assert_eq!(rates.usually.messages.largest(), 50);
        for day in 36..110 {
            count(&mut rates, day, 2);
        }
        assert_eq!(rates.usually.messages.largest(), 2);
    }

    #[test]
    fn a_row_is_small() {
        let mut rates = Rates::new(at(0, 0, 0));
        for number in 0..60_000i64 {
            let counted = Counted {
                recipients: 1,
                strangers: 1,
                domains: &[number as u16],
                from_domain: Some((number * 7) as u16),
            };
            rates.count(at(number / 2000, (number / 60) % 24, 0), &counted);
        }
        let text = serde_json::to_string(&rates).unwrap();
        assert!(text.len() < 2500, "{} {text}", text.len());
        let mut office = Rates::new(at(0, 9, 0));
        for day in 0..20 {
            for message in 0..20 {
                let counted = Counted {
                    recipients: 1,
                    strangers: u32::from(message == 3),
                    domains: &[message % 4],
                    from_domain: Some(1),
                };
                office.count(at(day, 8 + i64::from(message) / 2, 0), &counted);
            }
        }
        let text = serde_json::to_string(&office).unwrap();
        assert!(text.len() < 650, "{} {text}", text.len());
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(messages in proptest::collection::vec((0i64..40_000_000, 0u32..6, proptest::collection::vec(any::<u16>(), 0..5)), 1..80)) {
            let mut rates = Rates::new(Timestamp(MONDAY));
            let mut now = MONDAY;
            for (later, recipients, domains) in &messages {
                now += later;
                let counted = Counted {
                    recipients: *recipients,
                    strangers: recipients / 2,
                    domains,
                    from_domain: domains.first().copied(),
                };
                rates.count(Timestamp(now), &counted);
                let read: Rates = serde_json::from_str(&serde_json::to_string(&rates).unwrap()).unwrap();
                prop_assert_eq!(&read, &rates);
            }
        }
    }
}
