//! How many connections there may be: in all, and from one address.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The connections of all listeners.
#[derive(Debug)]
pub(crate) struct Permits {
    all: Arc<Semaphore>,
    all_max: u32,
    per_address: Mutex<HashMap<IpAddr, u32>>,
    per_address_max: u32,
    /// Told when the last connection has ended.
    none: Notify,
}

/// One connection's place among all; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    all: Option<OwnedSemaphorePermit>,
    permits: Arc<Permits>,
}

/// One connection's place among all and at its address; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    place: Place,
    address: IpAddr,
}

impl Permits {
    pub(crate) fn new(all_max: u32, per_address_max: u32) -> Arc<Self> {
        let all_max = all_max.max(1);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(all_max as usize)),
            all_max,
            per_address: Mutex::default(),
            per_address_max: per_address_max.max(1),
            none: Notify::new(),
        })
    }

    /// A place among all, waited for.
    pub(crate) async fn wait(self: &Arc<Self>) -> Option<Place> {
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { all: Some(all), permits: Arc::clone(self) })
    }

    /// A place among all, if there is one now.
    pub(crate) fn now(self: &Arc<Self>) -> Option<Place> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        Some(Place { all: Some(all), permits: Arc::clone(self) })
    }

    /// A place at this address; `None` if it has too many.
    pub(crate) fn at(&self, place: Place, client: IpAddr) -> Option<Permit> {
        let address = block(client);
        let mut counts = self.counts();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.per_address_max {
            // The place is given back when nothing is locked.
            drop(counts);
            return None;
        }
        *count += 1;
        Some(Permit { place, address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a client that has not proven its address should do so first: when half the places are taken, in all or
    /// at that address, someone may be filling them in another's name.
    pub(crate) fn is_crowded(&self, client: IpAddr) -> bool {
        let counts = self.counts();
        let here = counts.get(&block(client)).copied().unwrap_or(0);
        here.saturating_mul(2) >= self.per_address_max || self.all.available_permits() * 2 <= self.all_max as usize
    }

    /// Resolves when every connection has ended, also those whose client is not known yet. Meanwhile others may begin.
    pub(crate) async fn none_left(&self) {
        loop {
            let none = self.none.notified();
            if self.all.available_permits() == self.all_max as usize {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.all.take());
        if self.permits.all.available_permits() == self.permits.all_max as usize {
            self.permits.none.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.place.permits.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// The block of addresses that one client has: an IPv4 address, an IPv6 /64.
fn block(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(permits: &Arc<Permits>, client: &str) -> Option<Permit> {
        permits.at(permits.now()?, client.parse().expect("an address"))
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let permits = Permits::new(10, 2);
        let first = take(&permits, "192.0.2.1");
        let second = take(&permits, "::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some() && take(&permits, "192.0.2.1").is_none());
        assert!(take(&permits, "192.0.2.2").is_some());
        drop(first);
        assert!(take(&permits, "192.0.2.1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_last_to_end_keeps_nobody_out() {
        let permits = Permits::new(2, 2);
        let first = take(&permits, "192.0.2.1");
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.none_left().await }
        });
        tokio::task::yield_now().await;
        let second = take(&permits, "192.0.2.2");
        assert!(first.is_some() && second.is_some());
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.expect("no panic");
    }

    #[test]
    fn an_ipv6_client_is_its_64_bit_block() {
        let permits = Permits::new(10, 1);
        let held = take(&permits, "2001:db8:1:2::1");
        assert!(held.is_some() && take(&permits, "2001:db8:1:2:ffff::9").is_none());
        assert!(take(&permits, "2001:db8:1:3::1").is_some());
    }

    #[test]
    fn all_together_have_a_limit_and_a_refused_address_gives_its_place_back() {
        let permits = Permits::new(2, 1);
        let held = take(&permits, "192.0.2.1");
        assert!(take(&permits, "192.0.2.1").is_none());
        let other = take(&permits, "192.0.2.2");
        assert!(held.is_some() && other.is_some() && take(&permits, "192.0.2.3").is_none());
    }
}
