use super::window::{STEPS, width};
use super::*;

/// A small generator, so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn to(recipients: u64) -> Asked {
    Asked { recipients, ..Asked::default() }
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
            let count =
                |within: i64| list.iter().filter(|(at, _)| *at > now - within).map(|(_, n)| *n).sum::<u64>();
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
                    counters.count(now, &to(recipients), &limits);
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
    counters.count(Timestamp(0), &to(50), &limits);
    assert_eq!(counters.over(Timestamp(0), 1, &limits).unwrap().count, 50);
}

#[test]
fn invalid_recipients_are_refused_for_as_long_as_a_list_of_them_says() {
    let day = Kind::InvalidRecipientsPerDay.span();
    for seed in 0..150 {
        let mut random = Random(seed);
        let limits = Limits {
            invalid_recipients_per_day: (seed % 3 > 0).then(|| 5 + random.below(40)),
            invalid_recipients_percent: (seed % 3 != 1).then(|| 1 + random.below(60)),
            invalid_recipients_min_sample: (seed % 2 > 0).then(|| 1 + random.below(200)),
            ..Limits::default()
        };
        let min_sample = limits.invalid_recipients_min_sample.unwrap_or(DEFAULT_MIN_SAMPLE);
        let (mut counters, mut now) = (Counters::default(), Timestamp(1_795_512_600_000));
        let (mut sent, mut invalid) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            now = now.plus(Duration::from_millis(random.below(1_200_000)));
            // What stands within the day counts, and what stands within the step before it may.
            let of = |list: &[(Timestamp, u64)], within: Duration| {
                list.iter().filter(|(at, _)| now.since(*at) < within).map(|(_, n)| *n).sum::<u64>()
            };
            let longer = day + Duration::from_millis(width(day) as u64);
            let is_over = |invalid: u64, sent: u64| {
                let sample = sent.max(invalid);
                limits.invalid_recipients_per_day.is_some_and(|limit| invalid >= limit)
                    || limits
                        .invalid_recipients_percent
                        .is_some_and(|percent| sample >= min_sample && invalid * 100 > percent * sample)
            };
            let corners = [day, longer].map(|span| (of(&invalid, span), of(&sent, span)));
            let [(fewest, least), (most_invalid, most)] = corners;
            let over = counters.over(now, 1, &limits);
            if fewest == most_invalid && least == most {
                assert_eq!(over.is_some(), is_over(fewest, least), "seed {seed}");
            }
            if let Some(over) = over {
                assert!((fewest..=most_invalid).contains(&over.count), "seed {seed}: {over}");
                assert!(over.free_at >= now);
                assert!(counters.over(now.plus(2 * day), 1, &limits).is_none());
                // With both, a share may grow again while what was sent leaves.
                if seed % 3 < 2 {
                    assert!(counters.over(over.free_at, 1, &limits).is_none(), "seed {seed}: {over:?}");
                    let before = Timestamp(over.free_at.0 - 1);
                    assert!(counters.over(before, 1, &limits).is_some());
                }
            } else if random.below(3) > 0 {
                let asked = Asked { forwarded: random.below(5) == 0, ..to(1 + random.below(6)) };
                counters.count(now, &asked, &limits);
                if !asked.forwarded {
                    sent.push((now, asked.recipients));
                }
            }
            if random.below(3) == 0 {
                let n = 1 + random.below(3);
                counters.count_invalid(now, n, &limits);
                invalid.push((now, n));
            }
            assert!(serde_json::to_vec(&counters).unwrap().len() < 4 * 1024);
        }
    }
}

#[test]
fn distinct_recipients_are_never_more_than_the_limit_while_few() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let limit = 5 + random.below(200);
        let limits = Limits { distinct_recipients_per_day: Some(limit), ..Limits::default() };
        let (mut distinct, counters) = (Distinct::default(), Counters::default());
        let (mut last, mut now) = (std::collections::HashMap::new(), Timestamp(1_795_512_600_000));
        let people = limit * 2;
        for _ in 0..400 {
            now = now.plus(Duration::from_millis(random.below(1_800_000)));
            let hashes: Hashes = (0..=random.below(4))
                .map(|_| (random.below(people) as u32).wrapping_mul(2_654_435_761))
                .collect();
            let asked = Asked { hashes: hashes.clone(), ..to(hashes.len() as u64) };
            match over(&counters, &distinct, now, &asked, &limits) {
                None => {
                    distinct.add(now, &hashes);
                    last.extend(hashes.iter().map(|hash| (hash, now)));
                }
                Some(over) => {
                    assert_eq!(over.kind, Kind::DistinctRecipientsPerDay);
                    assert!(over.free_at > now && over.count <= limit, "{over:?}");
                    // Whom it knows it lets through.
                    let known: Hashes = hashes.iter().filter(|hash| distinct.knows(now, *hash)).collect();
                    let asked = Asked { hashes: known.clone(), ..to(known.len() as u64) };
                    assert!(
                        known.is_empty() || super::over(&counters, &distinct, now, &asked, &limits).is_none()
                    );
                }
            }
            let day = last.values().filter(|at| now.since(**at) < Kind::MessagesPerDay.span());
            assert!(day.count() as u64 <= limit, "seed {seed}");
        }
    }
}

#[test]
fn more_distinct_recipients_than_the_limit_pass_alone_and_unknown_ones_are_new() {
    let limits = Limits { distinct_recipients_per_day: Some(2), ..Limits::default() };
    let (counters, mut distinct, now) = (Counters::default(), Distinct::default(), Timestamp(0));
    let three = Asked { hashes: (0..3).collect(), ..to(3) };
    assert!(over(&counters, &distinct, now, &three, &limits).is_none());
    distinct.add(now, &(0..2).collect());
    let text = over(&counters, &distinct, now, &three, &limits).unwrap().to_string();
    assert_eq!(text, "2 of 2 distinct recipients per day");
    assert!(over(&counters, &distinct, now, &to(1), &limits).is_some());
    assert!(over_distinct(&distinct, now, 0, &limits).is_none());
}

#[test]
fn a_share_is_told_with_its_sample() {
    let limits = Limits { invalid_recipients_percent: Some(10), ..Limits::default() };
    let mut counters = Counters::default();
    counters.count(Timestamp(0), &to(60), &limits);
    counters.count_invalid(Timestamp(0), 6, &limits);
    assert!(counters.over(Timestamp(0), 1, &limits).is_none(), "at most 10 percent are let through");
    counters.count_invalid(Timestamp(0), 32, &limits);
    let over = counters.over(Timestamp(0), 1, &limits).unwrap().to_string();
    assert_eq!(over, "38 of 60 recipients invalid, at most 10 percent per day");
}
