//! Diagnoses a configuration: its files, its machine, and the servers that it connects to.
//!
//! Changes nothing. Each probe has a timeout, and all of them run concurrently.

mod ask;
mod backend;
mod files;
mod finding;
mod gateway;
mod issuers;
mod store;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::task::JoinSet;

pub(crate) use finding::Finding;
pub use finding::{Ailment, Severity};

use crate::cert::Anchors;
use crate::clock::Clock;
use crate::config::Config;
use crate::tls::ClientConfigs;

/// How long one probe may take.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The permitted clock skew: tokens and tickets allow for five minutes in all.
const SKEW_MAX_S: u64 = 120;

/// The shared inputs of the probes.
#[derive(Clone)]
struct Instruments {
    clock: Clock,
    provider: Arc<CryptoProvider>,
    system: Arc<Anchors>,
    tls: ClientConfigs,
}

/// Running probes; each returns its findings.
type Probes = JoinSet<Vec<Finding>>;

/// Runs all probes. The most severe findings come first.
///
/// # Errors
/// If no probe can run.
pub(crate) fn examine(
    config: &Config,
    provider: Arc<CryptoProvider>,
    clock: Clock,
) -> anyhow::Result<Vec<Finding>> {
    let native = rustls_native_certs::load_native_certs();
    let system = Arc::new(Anchors::lenient(native.certs.iter()));
    let tls = ClientConfigs::new(provider.clone(), system.root_store())?;
    let with = Instruments { clock, provider, system, tls };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut found, served) = runtime.block_on(files::examine(config, &with));
    found.extend(runtime.block_on(async {
        let mut probes = Probes::new();
        backend::probe(config, &with, &mut probes);
        issuers::probe(config, &with, &mut probes);
        gateway::probe(config, served, &with, &mut probes);
        gateway::probe_status(config, &mut probes);
        store::probe(config, &mut probes);
        let mut found = Vec::new();
        while let Some(done) = probes.join_next().await {
            found.extend(done.unwrap_or_default());
        }
        found
    }));
    let order = |finding: &Finding| {
        let place = Ailment::ALL.iter().position(|ailment| *ailment == finding.ailment);
        (finding.ailment.severity(), place, finding.about.clone(), finding.evidence.clone())
    };
    found.sort_by_key(order);
    found.dedup_by(|a, b| order(a) == order(b));
    // A name resolution that is still in progress is not awaited.
    runtime.shutdown_background();
    Ok(found)
}

/// Runs a probe with a timeout; `late` is the finding after the timeout.
async fn within(late: Finding, probe: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(WAIT_MAX, probe).await.unwrap_or_else(|_| vec![late])
}
