//! The backends that are in use: the addresses of their names, which are resolved again and again,
//! and how they are.
//!
//! An address that was found is kept until another is: a resolver that is away stops nothing.

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
/// How soon an outage is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Over how many looks the mean wait is taken: a minute.
const LOOKS_KEPT: usize = 60;
/// What metrics have for an address while the backend's name does not resolve.
const NO_ADDRESS: &str = "none";

/// The backends that are in use.
pub struct Backends {
    known: Mutex<BTreeMap<BackendAddress, Known>>,
    metrics: BackendMetrics,
}

/// A backend.
struct Known {
    name: String,
    endpoints: Endpoints,
    /// By address.
    outages: BTreeMap<String, Outage>,
    /// How many answers had begun, and the seconds they were waited for, at the last looks.
    waits: VecDeque<(u64, f64)>,
}

enum Endpoints {
    Host(Publisher<Vec<Endpoint>>),
    Unix(Arc<BackendHealth>),
}

/// A backend as status shows it.
#[derive(Clone, Debug)]
pub struct BackendSeen {
    /// Its name: host and port, or the path of its socket.
    pub name: String,
    /// The same as the configuration has it.
    pub address: BackendAddress,
    /// The mean time that requests of the last minute waited for an answer to begin, if there was
    /// any.
    pub first_byte: Option<Duration>,
    /// Its addresses with their health; none while its name does not resolve.
    pub endpoints: Vec<(String, HealthSeen)>,
}

impl Known {
    fn healths(&self) -> Vec<Arc<BackendHealth>> {
        match &self.endpoints {
            Endpoints::Host(endpoints) => {
                endpoints.reader().load().iter().map(|endpoint| endpoint.health.clone()).collect()
            }
            Endpoints::Unix(health) => vec![health.clone()],
        }
    }

    /// The mean wait of what was answered since the first look that is kept.
    fn mean_wait(&self, (answers, seconds): (u64, f64)) -> Option<Duration> {
        let (answers_before, seconds_before) = self.waits.front().copied().unwrap_or_default();
        let answers = answers.checked_sub(answers_before).filter(|answers| *answers > 0)?;
        Duration::try_from_secs_f64((seconds - seconds_before) / answers as f64).ok()
    }
}

impl Backends {
    /// None yet.
    pub fn new(metrics: BackendMetrics) -> Self {
        Backends { known: Mutex::default(), metrics }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<BackendAddress, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self, backend: &str, address: &str) -> Arc<BackendHealth> {
        Arc::new(BackendHealth::new(address, self.metrics.of(backend, address)))
    }

    /// The addresses of a backend, from now on. Empty while its name does not resolve.
    pub fn addresses(&self, host: &str, port: u16) -> Live<Vec<Endpoint>> {
        let address = BackendAddress::Host(host.to_owned(), port);
        let mut all = self.known();
        if let Some(Known { endpoints: Endpoints::Host(publisher), .. }) = all.get(&address) {
            return publisher.reader();
        }
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            // The next look says that there is none.
            Err(_) => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
        };
        let name = address.to_string();
        let of = |address: SocketAddr| Endpoint {
            address,
            health: self.health(&name, &address.to_string()),
        };
        let (publisher, reader) = live(found.into_iter().map(of).collect());
        all.insert(address, Known::new(name, Endpoints::Host(publisher)));
        reader
    }

    /// The health of a backend that is reached by a unix socket.
    pub fn socket(&self, path: &std::path::Path) -> Arc<BackendHealth> {
        let address = BackendAddress::Unix(path.to_owned());
        let mut all = self.known();
        if let Some(Known { endpoints: Endpoints::Unix(health), .. }) = all.get(&address) {
            return health.clone();
        }
        let name = address.to_string();
        let health = self.health(&name, &name);
        all.insert(address, Known::new(name, Endpoints::Unix(health.clone())));
        health
    }

    /// Forget the backends that are not among these.
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

    /// Every backend, as requests found it.
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

    /// Resolve all names every now and then, and tell of outages, until told to stop.
    pub async fn run(&self, clock: Clock, stop: watch::Receiver<bool>) {
        let resolve = every(RESOLVE_EVERY, stop.clone(), || self.resolve_all());
        let look = every(LOOK_EVERY, stop, async || self.look(&clock));
        tokio::join!(resolve, look);
    }

    /// Look at every backend once: metrics of the moment, and a line in the log where an outage
    /// has begun or ended.
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
                let of = (&*known.name, health.address());
                self.metrics.seen(of, up, seen.last_success.map(at));
                let outage = known.outages.entry(health.address().to_owned()).or_default();
                outage.look(of, &seen, now);
            }
            let none = healths.is_empty();
            known.outages.entry(NO_ADDRESS.to_owned()).or_default().look_for_name(
                &known.name,
                none,
                now,
            );
            match none {
                true => self.metrics.seen((&known.name, NO_ADDRESS), Some(false), None),
                false => self.forget(&known.name, NO_ADDRESS),
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

    /// A name resolves to these addresses. Those that it had keep their health.
    fn found(&self, address: BackendAddress, found: BTreeSet<SocketAddr>) {
        let mut all = self.known();
        let Some(known) = all.get_mut(&address) else { return };
        let Endpoints::Host(publisher) = &known.endpoints else { return };
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

impl Known {
    fn new(name: String, endpoints: Endpoints) -> Self {
        Known { name, endpoints, outages: BTreeMap::new(), waits: VecDeque::new() }
    }
}

/// Do this at once and then in these intervals, until told to stop.
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
