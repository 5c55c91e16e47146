//! The backends in use: periodic DNS resolution of their names, their health, outage logging.
//!
//! Addresses stay in use until another resolution succeeds: a failing resolver stops no traffic.

mod outage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend_health::{BackendHealth, BackendState, Endpoint, HealthSeen};
use crate::clock::Clock;
use crate::config::BackendAddress;
use crate::live::{Live, Publisher, live};
use crate::metrics::BackendMetrics;
use outage::Outage;

const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// How often health is sampled for outages and metrics.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The mean wait is taken over this many samples: a minute.
const LOOKS_KEPT: usize = 60;
/// The address label in metrics while the backend's name does not resolve.
const NO_ADDRESS: &str = "none";

/// The backends that are in use.
pub struct Backends {
    known: Mutex<BTreeMap<BackendAddress, KnownAddress>>,
    metrics: BackendMetrics,
}

/// One backend.
struct KnownAddress {
    name: String,
    endpoints: WatchedEndpoints,
    /// By address.
    outages: BTreeMap<String, Outage>,
    /// At the latest samples: how many responses had begun, and the total seconds waited for them.
    waits: VecDeque<(u64, f64)>,
}

enum WatchedEndpoints {
    Host(Publisher<Vec<Endpoint>>),
    Unix(Arc<BackendHealth>),
}

/// A backend as status shows it.
#[derive(Clone, Debug)]
pub struct BackendSeen {
    /// Its name: host and port, or the path of its socket.
    pub name: String,
    /// The same in the form of the configuration.
    pub address: BackendAddress,
    /// The mean time to first byte over the last minute, if there were responses.
    pub first_byte: Option<Duration>,
    /// Its addresses with their health; empty while its name does not resolve.
    pub endpoints: Vec<(String, HealthSeen)>,
}

impl KnownAddress {
    fn healths(&self) -> Vec<Arc<BackendHealth>> {
        match &self.endpoints {
            WatchedEndpoints::Host(endpoints) => {
                endpoints.reader().load().iter().map(|endpoint| endpoint.health.clone()).collect()
            }
            WatchedEndpoints::Unix(health) => vec![health.clone()],
        }
    }

    /// The mean wait of the responses since the oldest stored sample.
    fn mean_wait(&self, (answers, seconds): (u64, f64)) -> Option<Duration> {
        let (answers_before, seconds_before) = self.waits.front().copied().unwrap_or_default();
        let answers = answers.checked_sub(answers_before).filter(|answers| *answers > 0)?;
        Duration::try_from_secs_f64((seconds - seconds_before) / answers as f64).ok()
    }
}

impl Backends {
    /// No backends yet.
    pub fn new(metrics: BackendMetrics) -> Self {
        Backends { known: Mutex::default(), metrics }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<BackendAddress, KnownAddress>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self, backend: &str, address: &str) -> Arc<BackendHealth> {
        Arc::new(BackendHealth::new(address, self.metrics.of(backend, address)))
    }

    /// The live addresses of a backend. Empty while its name does not resolve.
    pub fn addresses(&self, host: &str, port: u16) -> Live<Vec<Endpoint>> {
        let address = BackendAddress::Host(host.to_owned(), port);
        let mut all = self.known();
        if let Some(KnownAddress { endpoints: WatchedEndpoints::Host(publisher), .. }) =
            all.get(&address)
        {
            return publisher.reader();
        }
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            // The next sample reports the missing address.
            Err(_) => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
        };
        let name = address.to_string();
        let of = |address: SocketAddr| Endpoint {
            address,
            health: self.health(&name, &address.to_string()),
        };
        let (publisher, reader) = live(found.into_iter().map(of).collect());
        all.insert(address, KnownAddress::new(name, WatchedEndpoints::Host(publisher)));
        reader
    }

    /// The health of a backend that is reached through a Unix socket.
    pub fn socket(&self, path: &std::path::Path) -> Arc<BackendHealth> {
        let address = BackendAddress::Unix(path.to_owned());
        let mut all = self.known();
        if let Some(KnownAddress { endpoints: WatchedEndpoints::Unix(health), .. }) =
            all.get(&address)
        {
            return health.clone();
        }
        let name = address.to_string();
        let health = self.health(&name, &name);
        all.insert(address, KnownAddress::new(name, WatchedEndpoints::Unix(health.clone())));
        health
    }

    /// Forgets the backends that are not among these.
    pub fn retain(&self, keep: &BTreeSet<BackendAddress>) {
        self.known().retain(|address, known| {
            let stays = keep.contains(address);
            if !stays {
                known
                    .healths()
                    .iter()
                    .for_each(|health| self.forget(&known.name, health.address()));
                self.forget(&known.name, NO_ADDRESS);
                self.metrics.forget(&known.name);
            }
            stays
        });
    }

    fn forget(&self, backend: &str, address: &str) {
        self.metrics.forget_address(backend, address);
    }

    /// Every backend with the health that requests found.
    pub fn seen(&self) -> Vec<BackendSeen> {
        let now = Instant::now();
        let all = self.known();
        let seen = all.iter().map(|(address, known)| BackendSeen {
            name: known.name.clone(),
            address: address.clone(),
            first_byte: known.mean_wait(self.metrics.waits(&known.name)),
            endpoints: known
                .healths()
                .iter()
                .map(|health| (health.address().to_owned(), health.seen(now)))
                .collect(),
        });
        seen.collect()
    }

    /// Resolves all names periodically and logs outages, until stopped.
    pub async fn run(&self, clock: Clock, stop: watch::Receiver<bool>) {
        let resolve = every(RESOLVE_EVERY, stop.clone(), || self.resolve_all());
        let look = every(LOOK_EVERY, stop, async || self.look(&clock));
        tokio::join!(resolve, look);
    }

    /// Samples every backend once: updates the gauges, and logs each outage that began or ended.
    fn look(&self, clock: &Clock) {
        let now = Instant::now();
        for known in self.known().values_mut() {
            let healths = known.healths();
            for health in &healths {
                let seen = health.seen(now);
                let up = match seen.state {
                    BackendState::Unknown => None,
                    state => Some(state == BackendState::Up),
                };
                let at = |ago: Duration| clock.now().as_second() as f64 - ago.as_secs_f64();
                let address = health.address();
                self.metrics.seen(&known.name, address, up, seen.last_success.map(at));
                let outage = known.outages.entry(health.address().to_owned()).or_default();
                outage.look(&known.name, address, &seen, now);
            }
            let none = healths.is_empty();
            known.outages.entry(NO_ADDRESS.to_owned()).or_default().look_for_name(
                &known.name,
                none,
                now,
            );
            if none {
                self.metrics.seen(&known.name, NO_ADDRESS, Some(false), None);
            } else {
                self.forget(&known.name, NO_ADDRESS);
            }
            if known.waits.len() >= LOOKS_KEPT {
                known.waits.pop_front();
            }
            known.waits.push_back(self.metrics.waits(&known.name));
        }
    }

    async fn resolve_all(&self) {
        let is_name = |address: &BackendAddress| match address {
            BackendAddress::Host(host, port) if host.parse::<IpAddr>().is_err() => {
                Some((host.clone(), *port))
            }
            _ => None,
        };
        let names: Vec<(String, u16)> = self.known().keys().filter_map(is_name).collect();
        for (host, port) in names {
            let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await else { continue };
            let found: BTreeSet<SocketAddr> = found.collect();
            self.found(BackendAddress::Host(host, port), found);
        }
    }

    /// Publishes the addresses that a name resolved to. Addresses that stay keep their health.
    fn found(&self, address: BackendAddress, found: BTreeSet<SocketAddr>) {
        let mut all = self.known();
        let Some(known) = all.get_mut(&address) else { return };
        let WatchedEndpoints::Host(publisher) = &known.endpoints else { return };
        let before = publisher.reader().load();
        if found.is_empty() || before.iter().map(|e| e.address).collect::<BTreeSet<_>>() == found {
            return;
        }
        for gone in before.iter().filter(|endpoint| !found.contains(&endpoint.address)) {
            self.forget(&known.name, gone.health.address());
            known.outages.remove(gone.health.address());
        }
        let of = |address: SocketAddr| {
            let kept = before.iter().find(|endpoint| endpoint.address == address).cloned();
            let health = || self.health(&known.name, &address.to_string());
            kept.unwrap_or_else(|| Endpoint { address, health: health() })
        };
        publisher.publish(found.into_iter().map(of).collect());
    }
}

impl KnownAddress {
    fn new(name: String, endpoints: WatchedEndpoints) -> Self {
        KnownAddress { name, endpoints, outages: BTreeMap::new(), waits: VecDeque::new() }
    }
}

/// Runs this at once and then at this interval, until stopped.
async fn every<F: Future<Output = ()>>(
    interval: Duration,
    mut stop: watch::Receiver<bool>,
    mut what: impl FnMut() -> F,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stop.borrow_and_update() {
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { return },
            _ = ticks.tick() => what().await,
        }
    }
}

#[cfg(test)]
mod tests;
