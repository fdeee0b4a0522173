//! Slots for connections: all together, per client address, and per login from an address.
//!
//! A connection is counted for its address, which has room for as many as the user says whose address it is, or the defaults
//! where it is nobody's. A login that is at work from there makes the room as large as its own number. Where its own number is
//! smaller, it bounds the connections of this login from this address, whoever else is behind the address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Limits;
use crate::listener::Shared;

/// Who has a slot and who waits for one.
pub struct Slots {
    max: usize,
    max_waiting: u32,
    wait: std::time::Duration,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// Those who wait included: they are connections, too.
    all: usize,
    by_ip: HashMap<IpAddr, OfIp>,
}

#[derive(Default)]
struct OfIp {
    active: u32,
    waiting: u32,
    logins: HashMap<String, OfLogin>,
    /// Wakes those who wait.
    freed: Arc<Notify>,
}

#[derive(Default)]
struct OfLogin {
    active: u32,
    /// As it was at the last AUTH.
    max: u32,
}

/// One of all connections, given back when dropped.
pub struct Admission {
    shared: Arc<Shared>,
}

/// One of a client address's connections, given back when dropped.
pub struct Slot {
    admission: Admission,
    ip: IpAddr,
    login: Option<String>,
}

/// One who waits, no more when dropped.
struct Waiting<'a> {
    slots: &'a Slots,
    ip: IpAddr,
}

impl OfIp {
    /// Takes a slot of the address, whose own number is `own`.
    fn take(&mut self, own: u32) -> bool {
        let room = self.logins.values().map(|login| login.max).max().unwrap_or(0).max(own);
        let free = self.active < room;
        self.active += u32::from(free);
        free
    }

    /// Counts a connection that has a slot for `login` as well.
    fn take_for_login(&mut self, login: &str, max: u32) -> bool {
        let of_login = self.logins.entry(login.to_owned()).or_default();
        of_login.max = max;
        let free = of_login.active < max;
        of_login.active += u32::from(free);
        self.forget_if_unused(login);
        free
    }

    fn free_login(&mut self, login: &str) {
        if let Some(of_login) = self.logins.get_mut(login) {
            of_login.active -= 1;
        }
        self.forget_if_unused(login);
    }

    fn forget_if_unused(&mut self, login: &str) {
        if self.logins.get(login).is_some_and(|of_login| of_login.active == 0) {
            self.logins.remove(login);
        }
    }
}

impl Slots {
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Slots {
            max: limits.max_connections,
            max_waiting: limits.max_waiting_per_ip,
            wait: limits.slot_wait,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries `take` until it succeeds, after each change of the address, as long as the limits say.
    async fn take_or_wait(&self, ip: IpAddr, take: impl Fn(&mut OfIp) -> bool) -> bool {
        let freed = {
            let mut taken = self.taken();
            let of_ip = taken.by_ip.entry(ip).or_default();
            if take(of_ip) {
                return true;
            }
            if of_ip.waiting >= self.max_waiting {
                taken.forget_if_idle(ip);
                return false;
            }
            of_ip.waiting += 1;
            Arc::clone(&of_ip.freed)
        };
        let _waiting = Waiting { slots: self, ip };
        let deadline = tokio::time::Instant::now() + self.wait;
        loop {
            // Listens before it looks, so that no change in between is missed.
            let mut change = std::pin::pin!(freed.notified());
            change.as_mut().enable();
            if self.taken().by_ip.get_mut(&ip).is_some_and(&take) {
                return true;
            }
            if tokio::time::timeout_at(deadline, change).await.is_err() {
                return false;
            }
        }
    }
}

impl Taken {
    fn forget_if_idle(&mut self, ip: IpAddr) {
        if self.by_ip.get(&ip).is_some_and(|of_ip| of_ip.active == 0 && of_ip.waiting == 0) {
            self.by_ip.remove(&ip);
        }
    }
}

impl Shared {
    /// Counts a connection, if one more may be.
    pub fn admit(self: &Arc<Self>) -> Option<Admission> {
        let mut taken = self.slots.taken();
        if taken.all >= self.slots.max {
            return None;
        }
        taken.all += 1;
        Some(Admission { shared: Arc::clone(self) })
    }

    /// A slot for a connection from `ip`, waited for as long as the limits say.
    pub async fn slot(&self, admission: Admission, ip: IpAddr) -> Result<Slot, Admission> {
        let own = {
            let settings = self.settings.read();
            let user = settings.user_by_ip(ip);
            user.map_or_else(|| settings.effective_for_nobody(), |user| settings.effective(user))
                .max_connections
        };
        if self.slots.take_or_wait(ip, |of_ip| of_ip.take(own)).await {
            Ok(Slot { admission, ip, login: None })
        } else {
            Err(admission)
        }
    }
}

impl Slot {
    /// Counts the connection for `login`, too, from now on; `false`: this login has too many from here, and none became free
    /// while this one waited.
    pub async fn log_in(&mut self, login: &str) -> bool {
        let shared = Arc::clone(&self.admission.shared);
        let max = {
            let settings = shared.settings.read();
            settings.user_by_login(login).map(|user| settings.effective(user).max_connections)
        };
        // Removed since its password was checked: MAIL FROM will say so.
        let Some(max) = max else { return true };
        self.log_out();
        if !shared.slots.take_or_wait(self.ip, |of_ip| of_ip.take_for_login(login, max)).await {
            return false;
        }
        self.login = Some(login.to_owned());
        self.wake();
        true
    }

    fn log_out(&mut self) {
        if let Some(login) = self.login.take()
            && let Some(of_ip) = self.admission.shared.slots.taken().by_ip.get_mut(&self.ip)
        {
            of_ip.free_login(&login);
        }
    }

    /// Lets those who wait look again.
    fn wake(&self) {
        if let Some(of_ip) = self.admission.shared.slots.taken().by_ip.get(&self.ip) {
            of_ip.freed.notify_waiters();
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.shared.slots.taken().all -= 1;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.log_out();
        let mut taken = self.admission.shared.slots.taken();
        if let Some(of_ip) = taken.by_ip.get_mut(&self.ip) {
            of_ip.active -= 1;
            of_ip.freed.notify_waiters();
        }
        taken.forget_if_idle(self.ip);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        if let Some(of_ip) = taken.by_ip.get_mut(&self.ip) {
            of_ip.waiting -= 1;
        }
        taken.forget_if_idle(self.ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_at_work_makes_the_room_of_its_address_larger_until_its_last_connection_ends() {
        let mut of_ip = OfIp::default();
        assert!(of_ip.take(2) && of_ip.take(2) && !of_ip.take(2));
        assert!(of_ip.take_for_login("a", 4));
        assert!(of_ip.take(2) && of_ip.take(2) && !of_ip.take(2));
        of_ip.free_login("a");
        of_ip.active -= 2;
        assert!(!of_ip.take(2), "two are there, and nobody has a larger number");
    }

    #[test]
    fn a_smaller_number_bounds_its_login_alone() {
        let mut of_ip = OfIp::default();
        (0..5).for_each(|_| assert!(of_ip.take(10)));
        assert!(of_ip.take_for_login("small", 2) && of_ip.take_for_login("small", 2));
        assert!(!of_ip.take_for_login("small", 2));
        assert!(of_ip.take_for_login("other", 10), "another login is not concerned");
        assert!(of_ip.take(10), "nor is the address");
        of_ip.free_login("small");
        assert!(of_ip.take_for_login("small", 2));
        of_ip.free_login("small");
        of_ip.free_login("small");
        assert!(!of_ip.logins.contains_key("small"));
    }
}
