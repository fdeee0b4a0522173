//! Slots for connections: all together, and per client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Limits;
use crate::listener::Shared;

/// Connections per client address whose user says nothing, and of clients we do not know.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 10;

/// Who has a slot and who waits for one.
pub struct Slots {
    max: usize,
    max_waiting: u32,
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
    /// Wakes one of those who wait.
    freed: Arc<Notify>,
}

/// One of all connections, given back when dropped.
pub struct Admission {
    shared: Arc<Shared>,
}

/// One of a client address's connections, given back when dropped.
pub struct Slot {
    admission: Admission,
    ip: IpAddr,
}

/// One who waits, no more when dropped.
struct Waiting<'a> {
    slots: &'a Slots,
    ip: IpAddr,
}

/// What became of asking for a slot.
enum Asked {
    Taken,
    Full(Arc<Notify>),
    TooManyWait,
}

impl Slots {
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Slots { max: limits.max_connections, max_waiting: limits.max_waiting_per_ip, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot, or a place among those who wait.
    fn ask(&self, ip: IpAddr, max_of_ip: u32) -> Asked {
        let mut taken = self.taken();
        let of_ip = taken.by_ip.entry(ip).or_default();
        if of_ip.active < max_of_ip {
            of_ip.active += 1;
            return Asked::Taken;
        }
        if of_ip.waiting >= self.max_waiting {
            taken.forget_if_idle(ip);
            return Asked::TooManyWait;
        }
        of_ip.waiting += 1;
        Asked::Full(Arc::clone(&of_ip.freed))
    }

    /// Takes a slot for one who waits.
    fn take_if_free(&self, ip: IpAddr, max_of_ip: u32) -> bool {
        let mut taken = self.taken();
        let of_ip = taken.by_ip.entry(ip).or_default();
        let free = of_ip.active < max_of_ip;
        of_ip.active += u32::from(free);
        free
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
        let max_of_ip = {
            let settings = self.settings.read();
            settings
                .user_by_ip(ip)
                .map_or(DEFAULT_MAX_CONNECTIONS, |user| settings.effective(user).max_connections)
        };
        let freed = match self.slots.ask(ip, max_of_ip) {
            Asked::Taken => return Ok(Slot { admission, ip }),
            Asked::TooManyWait => return Err(admission),
            Asked::Full(freed) => freed,
        };
        let _waiting = Waiting { slots: &self.slots, ip };
        let deadline = tokio::time::Instant::now() + self.config.limits.slot_wait;
        loop {
            // A slot freed before this waits leaves its notice behind, so none is missed.
            if tokio::time::timeout_at(deadline, freed.notified()).await.is_err() {
                return Err(admission);
            }
            if self.slots.take_if_free(ip, max_of_ip) {
                return Ok(Slot { admission, ip });
            }
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
        let mut taken = self.admission.shared.slots.taken();
        if let Some(of_ip) = taken.by_ip.get_mut(&self.ip) {
            of_ip.active -= 1;
            of_ip.freed.notify_one();
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
