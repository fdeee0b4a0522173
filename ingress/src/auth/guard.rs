//! Password guessing is slowed, then blocked: per client address, and per login for addresses that the login was never
//! used from with success. So a guesser elsewhere cannot lock out the correct client.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures are forgotten after this long without another.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Failures of one address until it is blocked for the rest of the window.
const PER_ADDRESS: u32 = 10;
/// Failures of one login, from anywhere, until addresses that never succeeded are blocked from it.
const PER_LOGIN: u32 = 30;
/// The first failures only cost time.
const DELAY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Addresses and logins remembered, each.
const MAX_REMEMBERED: usize = 50_000;

/// What to do with a login before its password is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Go,
    Wait { delay: Duration },
    Blocked { why: String },
}

#[derive(Default)]
pub(super) struct Guard {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: HashMap<IpAddr, Failures>,
    logins: HashMap<String, Failures>,
    /// Where a login succeeded last.
    good: HashMap<(String, IpAddr), Instant>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Guard {
    pub(super) fn before(&self, ip: IpAddr, login: &str, now: Instant) -> Judgement {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.good.contains_key(&(login.to_owned(), ip)) {
            return Judgement::Go;
        }
        let of_address = recent(state.addresses.get(&ip), now);
        if of_address >= PER_ADDRESS {
            return Judgement::Blocked {
                why: "Too many failed logins from this IP address, try again in 15 minutes".into(),
            };
        }
        if recent(state.logins.get(login), now) >= PER_LOGIN {
            return Judgement::Blocked {
                why: "Too many failed logins as this user from elsewhere, try again in 15 minutes".into(),
            };
        }
        match of_address {
            0 => Judgement::Go,
            n => Judgement::Wait { delay: (DELAY.0 * 2u32.saturating_pow(n - 1)).min(DELAY.1) },
        }
    }

    pub(super) fn after(&self, ip: IpAddr, login: &str, good: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if good {
            state.addresses.remove(&ip);
            bound(&mut state.good, |at| now.duration_since(*at) < WINDOW * 96);
            state.good.insert((login.to_owned(), ip), now);
            return;
        }
        let fresh = |f: &Failures| now.duration_since(f.last) < WINDOW;
        bound(&mut state.addresses, fresh);
        bound(&mut state.logins, fresh);
        count(&mut state.addresses, ip, now);
        count(&mut state.logins, login.to_owned(), now);
    }
}

fn recent(failures: Option<&Failures>, now: Instant) -> u32 {
    failures.filter(|f| now.duration_since(f.last) < WINDOW).map_or(0, |f| f.count)
}

fn count<K: Hash + Eq>(map: &mut HashMap<K, Failures>, key: K, now: Instant) {
    let failures = map.entry(key).or_insert(Failures { count: 0, last: now });
    if now.duration_since(failures.last) >= WINDOW {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
}

/// Makes room when the map is full: what is stale goes, else everything.
fn bound<K: Hash + Eq, V>(map: &mut HashMap<K, V>, fresh: impl Fn(&V) -> bool) {
    if map.len() >= MAX_REMEMBERED {
        map.retain(|_, value| fresh(value));
    }
    if map.len() >= MAX_REMEMBERED {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_guesser_is_slowed_then_blocked_and_the_owner_is_not() {
        let (guard, now) = (Guard::default(), Instant::now());
        guard.after(ip(1), "shop", true, now);
        assert_eq!(guard.before(ip(9), "shop", now), Judgement::Go);
        guard.after(ip(9), "shop", false, now);
        assert!(matches!(guard.before(ip(9), "shop", now), Judgement::Wait { .. }));
        for _ in 0..PER_ADDRESS {
            guard.after(ip(9), "shop", false, now);
        }
        assert!(matches!(guard.before(ip(9), "other", now), Judgement::Blocked { .. }));
        assert_eq!(guard.before(ip(1), "shop", now), Judgement::Go);
        assert_eq!(guard.before(ip(9), "other", now + WINDOW), Judgement::Go);
    }

    #[test]
    fn many_addresses_guessing_one_login_are_blocked_from_it_alone() {
        let (guard, now) = (Guard::default(), Instant::now());
        guard.after(ip(1), "shop", true, now);
        for n in 0..PER_LOGIN {
            guard.after(ip(100 + n as u8), "shop", false, now);
        }
        assert!(matches!(guard.before(ip(50), "shop", now), Judgement::Blocked { .. }));
        assert_eq!(guard.before(ip(50), "other", now), Judgement::Go);
        assert_eq!(guard.before(ip(1), "shop", now), Judgement::Go);
    }
}
