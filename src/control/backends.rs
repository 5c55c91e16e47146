//! The addresses of backends over time: names are resolved again and again, so that a backend that
//! moves is followed.
//!
//! An address that was found is kept until another is: a resolver that is away stops nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::live::{Live, Publisher, live};

const EVERY: Duration = Duration::from_secs(30);

/// A host name or address, and a port.
pub type HostPort = (String, u16);

/// The backends that are in use.
#[derive(Default)]
pub struct Backends(Mutex<HashMap<HostPort, Publisher<Vec<SocketAddr>>>>);

impl Backends {
    /// The addresses of a backend, from now on. Empty while its name does not resolve.
    pub fn addresses(&self, host: &str, port: u16) -> Live<Vec<SocketAddr>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(publisher) = known.get(&(host.to_owned(), port)) {
            return publisher.reader();
        }
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => match (host, port).to_socket_addrs() {
                Ok(found) => found.collect(),
                Err(error) => {
                    tracing::warn!(
                        target: "sitegate::backend", host, %error,
                        "the backend's name does not resolve; trying again"
                    );
                    Vec::new()
                }
            },
        };
        let (publisher, reader) = live(found);
        known.insert((host.to_owned(), port), publisher);
        reader
    }

    /// Forget the backends that are not among these.
    pub fn retain(&self, keep: &BTreeSet<HostPort>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| keep.contains(key));
    }

    /// Resolve all names every now and then, until told to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(EVERY) => self.resolve_all().await,
            }
        }
    }

    async fn resolve_all(&self) {
        let names: Vec<HostPort> = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.keys().filter(|(host, _)| host.parse::<IpAddr>().is_err()).cloned().collect()
        };
        for (host, port) in names {
            let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await else { continue };
            let mut found: Vec<SocketAddr> = found.collect();
            found.sort();
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(publisher) = known.get(&(host, port)) else { continue };
            let mut before = publisher.reader().load().to_vec();
            before.sort();
            if !found.is_empty() && found != before {
                publisher.publish(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_resolver_and_one_that_does_not_resolve_is_empty_not_fatal() {
        let backends = Backends::default();
        let found = backends.addresses("127.0.0.1", 80).load();
        assert_eq!(*found, ["127.0.0.1:80".parse().unwrap()]);
        assert!(backends.addresses("no-such-host.invalid", 80).load().is_empty());
        backends.retain(&BTreeSet::new());
        assert!(backends.0.lock().unwrap().is_empty());
    }
}
