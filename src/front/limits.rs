//! Connection limits: in total and per address.
//!
//! Only counts; the caller decides what a reached limit means.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;

/// Returns the address to count. For IPv6 that is the /64 network, because a host owns a whole one.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
        v4 => v4,
    }
}

/// Open connections by address. An entry exists only while a connection of its address is open.
#[derive(Debug, Default)]
pub struct AddressLimit(Mutex<HashMap<IpAddr, usize>>);

impl AddressLimit {
    fn enter(&self, address: IpAddr, max: usize) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(counted(address)).or_default();
        let admitted = *count < max;
        *count += usize::from(admitted);
        if *count == 0 {
            open.remove(&counted(address));
        }
        admitted
    }

    fn leave(&self, address: IpAddr) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&counted(address)) {
            *count -= 1;
            if *count == 0 {
                open.remove(&counted(address));
            }
        }
    }
}

/// The count of open connections, for the whole process.
#[derive(Debug, Default)]
pub struct Admission {
    open: AtomicUsize,
    addresses: AddressLimit,
}

/// One open connection, counted until dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

/// The reason to close a connection as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    Address,
}

impl Admission {
    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection toward an address. `None` while a load balancer has not announced the
    /// client.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Admitted, Full> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Connections);
        }
        let mut admitted = Admitted { admission: self.clone(), address: None };
        if let Some(address) = address {
            admitted.count(address, limits)?;
        }
        Ok(admitted)
    }
}

impl Admitted {
    /// Counts the connection toward an address.
    pub(super) fn count(&mut self, address: IpAddr, limits: &Limits) -> Result<(), Full> {
        if let Some(max) = limits.per_address
            && self.address.is_none()
        {
            if !self.admission.addresses.enter(address, max) {
                return Err(Full::Address);
            }
            self.address = Some(address);
        }
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.admission.addresses.leave(address);
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, per_address: Option<usize>) -> Limits {
        Limits { connections, per_address, ..Limits::default() }
    }

    #[test]
    fn a_connection_beyond_the_total_is_refused_until_one_ends() {
        let admission = Arc::new(Admission::default());
        let address = Some("192.0.2.1".parse().unwrap());
        let first = admission.admit(address, &limits(1, None)).unwrap();
        assert_eq!(admission.admit(address, &limits(1, None)).unwrap_err(), Full::Connections);
        drop(first);
        assert!(admission.admit(address, &limits(1, None)).is_ok());
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn an_ipv6_host_cannot_escape_its_limit_within_its_64() {
        let admission = Arc::new(Admission::default());
        let limits = limits(10, Some(1));
        let address = |text: &str| Some(text.parse().unwrap());
        let (a, b) = (address("2001:db8::1"), address("2001:db8::2"));
        let held = admission.admit(a, &limits).unwrap();
        assert_eq!(admission.admit(b, &limits).unwrap_err(), Full::Address);
        assert!(admission.admit(address("2001:db8:0:1::1"), &limits).is_ok());
        drop(held);
        assert!(admission.addresses.0.lock().unwrap().is_empty(), "no address is remembered");
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn clients_behind_a_balancer_are_counted_individually() {
        let admission = Arc::new(Admission::default());
        let limits = limits(10, Some(1));
        let client = "192.0.2.1".parse().unwrap();
        let mut first = admission.admit(None, &limits).unwrap();
        let mut second = admission.admit(None, &limits).unwrap();
        assert_eq!(first.count(client, &limits), Ok(()));
        assert_eq!(second.count(client, &limits), Err(Full::Address));
        assert_eq!(admission.admit(Some(client), &limits).unwrap_err(), Full::Address);
        drop((first, second));
        assert!(admission.admit(Some(client), &limits).is_ok());
        assert!(admission.addresses.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_comes_mapped_into_ipv6() {
        assert_eq!(
            counted("::ffff:192.0.2.1".parse().unwrap()),
            counted("192.0.2.1".parse().unwrap())
        );
    }
}
