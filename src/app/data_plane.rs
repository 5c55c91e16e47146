//! Assembles the data plane: a front whose shards each have a server with the policy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{App, Options, StartError, observe};
use crate::config::{Config, Limits};
use crate::front::{Binding, Front, FrontParams, bind};
use crate::gateway::{Gateway, Policy, RequestsInFlight, ShardServer};
use crate::live::Live;
use crate::log::{AccessLog, BatchGuard};
use crate::metrics::Metrics;
use crate::thread_guard::ThreadGuard;

pub(super) type ForFront = (Live<Limits>, Live<Vec<Binding>>, watch::Receiver<bool>, ThreadGuard);
pub(super) type ForGateway = (Live<Policy>, AccessLog, Arc<Metrics>, Arc<RequestsInFlight>);

/// Starts the shards: from here on, connections to bound listeners are accepted.
pub(super) fn start_front(
    config: &Config,
    (limits, bindings, shutdown, guard): ForFront,
    options: &Options,
    (policy, access, metrics, under_way): ForGateway,
) -> Result<Front, StartError> {
    let refuse_tls = crate::tls::refusing(options.provider.clone())
        .map_err(|error| StartError::Defect(error.to_string()))?;
    let shards = match config.limits.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let idle_max =
        config.site_systems.iter().flat_map(|s| s.backends()).map(|b| b.connections).sum();
    let clock = options.clock.clone();
    let params = FrontParams {
        shards,
        limits,
        bindings,
        refuse_tls,
        metrics: metrics.clone(),
        on_refusal: observe::refusals(policy.clone(), access.clone(), clock.clone()),
        shutdown,
        guard,
    };
    let server = move || {
        let (policy, access) = (policy.clone(), access.clone());
        let gateway = Gateway::new(policy, clock.clone(), metrics.clone(), access);
        ShardServer::new(gateway, idle_max, &under_way)
    };
    Ok(Front::start(params, server)?)
}

/// Opens the access log as configured.
pub(super) fn open_access(
    config: &Config,
    metrics: Arc<Metrics>,
    now: Timestamp,
    watched: ThreadGuard,
) -> Result<(AccessLog, Option<BatchGuard>), StartError> {
    let (sink, format) = (&config.log.access, config.log.access_format);
    let opened = AccessLog::open(sink, format, metrics, now).and_then(|(log, writer)| {
        let Some(writer) = writer else { return Ok((log, None)) };
        let guard = writer.guard();
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || watched.run("access-log", || writer.run()))?;
        Ok((log, Some(guard)))
    });
    opened.map_err(|cause| StartError::File {
        path: match &config.log.access {
            crate::config::LogSink::File(path) => path.clone(),
            _ => PathBuf::from("standard error"),
        },
        cause,
    })
}

/// Opens a listener for administrators, separate from the clients' addresses.
pub(super) async fn listen(what: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen {
        what: what.to_owned(),
        address,
        cause,
    })
}

impl App {
    /// Opens every listen address of the configuration.
    pub(super) fn open_all(&mut self) -> Result<BTreeMap<String, SocketAddr>, StartError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_name = BTreeMap::new();
        for system in state.config.site_systems.clone() {
            for configured in system.listens() {
                let bound = match state.addresses.get(&configured) {
                    Some(bound) => *bound,
                    None => {
                        let listener = bind(configured, self.front.shards()).map_err(|cause| {
                            let what = format!("site system {}", system.name);
                            StartError::Listen { what, address: configured, cause }
                        })?;
                        let bound = listener.address;
                        self.front.open(configured, listener);
                        state.addresses.insert(configured, bound);
                        bound
                    }
                };
                let by = if configured == system.listen { "https" } else { "http" };
                tracing::info!(site_system = system.name, address = %bound, by, "listening");
            }
            if let Some(bound) = state.addresses.get(&system.listen) {
                by_name.insert(system.name, *bound);
            }
        }
        Ok(by_name)
    }
}
