//! Password guessing is slowed, then blocked: per client address, and per login and the network the guesses come from.
//! Nothing that is done elsewhere blocks the correct client of a login: from a network that did not fail it always has
//! one try, and where it succeeded it has many.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures are forgotten after this long without another.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Failures of one address, and of one login from one network, until they are blocked for the rest of the window.
const BLOCKED_AFTER: u32 = 10;
/// Failures of one login, from anywhere, from which on each network has one try.
const LOGIN_UNDER_ATTACK: u32 = 30;
/// Failures of a login from an address where it succeeded lately: such an address may have other users, too.
const BLOCKED_WHERE_KNOWN: u32 = 50;
/// How long an address is known for a login.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// The first failures only cost time.
const DELAY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Entries of each kind that are remembered.
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
    networks: HashMap<(String, IpAddr), Failures>,
    logins: HashMap<String, Failures>,
    /// Where a login succeeded, and what failed there since.
    known: HashMap<(String, IpAddr), Known>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

#[derive(Clone, Copy)]
struct Known {
    succeeded: Instant,
    failures: Failures,
}

/// What counts as one client: an IPv6 client has a /64 to choose its addresses from.
fn address(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 64)
}

/// What counts as one place.
fn network(ip: IpAddr) -> IpAddr {
    masked(ip, 24, 56)
}

fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4_bits))).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6_bits))).into(),
    }
}

impl Guard {
    pub(super) fn before(&self, ip: IpAddr, login: &str, now: Instant) -> Judgement {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.known.get(&(login.to_owned(), address(ip)));
        if let Some(known) = known.filter(|known| now.duration_since(known.succeeded) < KNOWN_FOR) {
            let failures = recent(Some(&known.failures), now);
            return judge(failures, BLOCKED_WHERE_KNOWN, "as this user from this IP address");
        }
        let of_address = recent(state.addresses.get(&address(ip)), now);
        let of_network = recent(state.networks.get(&(login.to_owned(), network(ip))), now);
        let under_attack = recent(state.logins.get(login), now) >= LOGIN_UNDER_ATTACK;
        let tries = if under_attack { 1 } else { BLOCKED_AFTER };
        if of_network >= tries {
            return judge(of_network, tries, "as this user from your network");
        }
        judge(of_address, BLOCKED_AFTER, "from this IP address")
    }

    pub(super) fn after(&self, ip: IpAddr, login: &str, good: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (login.to_owned(), address(ip));
        // A success takes back no failure: a guesser may own a login, too.
        if good {
            let none = Known { succeeded: now, failures: Failures { count: 0, last: now } };
            bound(&mut state.known, |known| known.succeeded);
            state.known.entry(place).or_insert(none).succeeded = now;
            return;
        }
        if let Some(known) = state.known.get_mut(&place) {
            one_more(&mut known.failures, now);
        }
        count(&mut state.addresses, address(ip), now);
        count(&mut state.networks, (login.to_owned(), network(ip)), now);
        count(&mut state.logins, login.to_owned(), now);
    }
}

fn judge(failures: u32, blocked_after: u32, what: &str) -> Judgement {
    match failures {
        0 => Judgement::Go,
        n if n >= blocked_after => {
            Judgement::Blocked { why: format!("Too many failed logins {what}, try again in 15 minutes") }
        }
        n => Judgement::Wait { delay: (DELAY.0 * 2u32.saturating_pow(n.min(16) - 1)).min(DELAY.1) },
    }
}

fn recent(failures: Option<&Failures>, now: Instant) -> u32 {
    failures.filter(|f| now.duration_since(f.last) < WINDOW).map_or(0, |f| f.count)
}

fn count<K: Hash + Eq>(map: &mut HashMap<K, Failures>, key: K, now: Instant) {
    bound(map, |failures| failures.last);
    one_more(map.entry(key).or_insert(Failures { count: 0, last: now }), now);
}

fn one_more(failures: &mut Failures, now: Instant) {
    if now.duration_since(failures.last) >= WINDOW {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
}

/// Makes room when the map is full: the older half goes.
fn bound<K: Hash + Eq, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Instant) {
    if map.len() < MAX_REMEMBERED {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    map.retain(|_, value| last(value) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(network: u8, last: u8) -> IpAddr {
        IpAddr::from([192, 0, network, last])
    }

    fn fail(guard: &Guard, ip: IpAddr, login: &str, times: u32, now: Instant) {
        (0..times).for_each(|_| guard.after(ip, login, false, now));
    }

    fn blocked(judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Blocked { .. })
    }

    #[test]
    fn a_guesser_is_slowed_then_blocked_and_the_owner_is_not() {
        let (guard, now) = (Guard::default(), Instant::now());
        guard.after(ip(1, 1), "shop", true, now);
        assert_eq!(guard.before(ip(1, 9), "shop", now), Judgement::Go);
        let mut last = Duration::ZERO;
        for _ in 1..BLOCKED_AFTER {
            guard.after(ip(1, 9), "shop", false, now);
            let Judgement::Wait { delay } = guard.before(ip(1, 9), "shop", now) else {
                panic!("it is slowed")
            };
            assert!(delay > last || delay == DELAY.1);
            last = delay;
        }
        guard.after(ip(1, 9), "shop", false, now);
        assert!(blocked(&guard.before(ip(1, 9), "other", now)));
        // In the guesser's own network the owner is known by its address.
        assert_eq!(guard.before(ip(1, 1), "shop", now), Judgement::Go);
        assert_eq!(guard.before(ip(1, 9), "other", now + WINDOW), Judgement::Go);
    }

    #[test]
    fn guesses_from_everywhere_leave_each_network_one_try() {
        let (guard, now) = (Guard::default(), Instant::now());
        for n in 0..LOGIN_UNDER_ATTACK {
            guard.after(ip(100 + n as u8, 1), "shop", false, now);
        }
        assert!(blocked(&guard.before(ip(100, 2), "shop", now)));
        assert_eq!(guard.before(ip(100, 2), "other", now), Judgement::Go);
        // The owner, never seen before, comes with the right password.
        assert_eq!(guard.before(ip(50, 1), "shop", now), Judgement::Go);
    }

    #[test]
    fn a_login_of_ones_own_buys_no_more_guesses() {
        let (guard, now) = (Guard::default(), Instant::now());
        for _ in 0..BLOCKED_AFTER {
            guard.after(ip(1, 9), "shop", false, now);
            guard.after(ip(1, 9), "mine", true, now);
        }
        assert!(blocked(&guard.before(ip(1, 9), "shop", now)));
        assert_eq!(guard.before(ip(1, 9), "mine", now), Judgement::Go);
    }

    #[test]
    fn an_address_that_is_known_may_fail_more_often_but_not_for_ever() {
        let (guard, now) = (Guard::default(), Instant::now());
        guard.after(ip(1, 1), "shop", true, now);
        fail(&guard, ip(1, 1), "shop", BLOCKED_WHERE_KNOWN - 1, now);
        assert_eq!(guard.before(ip(1, 1), "shop", now), Judgement::Wait { delay: DELAY.1 });
        fail(&guard, ip(1, 1), "shop", 1, now);
        assert!(blocked(&guard.before(ip(1, 1), "shop", now)));
        assert!(blocked(&guard.before(ip(1, 1), "other", now)));
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let (guard, now) = (Guard::default(), Instant::now());
        for n in 0..BLOCKED_AFTER {
            guard.after(format!("2001:db8::{n:x}").parse().unwrap(), "shop", false, now);
        }
        assert!(blocked(&guard.before("2001:db8::ffff".parse().unwrap(), "other", now)));
        assert_eq!(guard.before("2001:db8:0:100::1".parse().unwrap(), "other", now), Judgement::Go);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let (mut map, begin) = (HashMap::new(), Instant::now());
        for n in 0..MAX_REMEMBERED + 10 {
            count(&mut map, n, begin + Duration::from_millis(n as u64));
        }
        assert!(map.len() < MAX_REMEMBERED);
        assert!(map.contains_key(&(MAX_REMEMBERED + 9)) && !map.contains_key(&0));
    }
}
