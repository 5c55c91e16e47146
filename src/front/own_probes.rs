//! The connections of this process to itself, recognized by their port.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The addresses from which this process now connects to itself.
#[derive(Debug, Default)]
pub(super) struct OwnProbes {
    count: AtomicUsize,
    addresses: Mutex<HashSet<SocketAddr>>,
}

impl OwnProbes {
    /// Checks whether a connection comes from this process.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        // Nearly always there is none, and then no lock is taken.
        self.count.load(Ordering::Acquire) > 0 && {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.contains(&canonical(peer))
        }
    }

    /// Registers the local address of a connection to itself, until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, address: SocketAddr) -> Entered {
        let address = canonical(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.insert(address);
        self.count.store(addresses.len(), Ordering::Release);
        Entered { own: self.clone(), address }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A registered address.
pub(super) struct Entered {
    own: Arc<OwnProbes>,
    address: SocketAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut addresses = self.own.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.remove(&self.address);
        self.own.count.store(addresses.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_its_own_as_long_as_it_is_entered() {
        let own = Arc::new(OwnProbes::default());
        let address = "127.0.0.1:4711".parse().unwrap();
        assert!(!own.has(address));
        let entered = own.enter(address);
        assert!(own.has("[::ffff:127.0.0.1]:4711".parse().unwrap()));
        assert!(!own.has("127.0.0.1:4712".parse().unwrap()));
        drop(entered);
        assert!(!own.has(address));
    }
}
