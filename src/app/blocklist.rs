//! Merges the operator's blocklist file and the blocks of the site's store into the one list that
//! requests are checked against.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::issuers::SharedIssuers;
use crate::config::Config;
use crate::control::{BlocklistFile, OnBlocklist};
use crate::gateway::RequestsInFlight;
use crate::live::{Live, Publisher, live};
use crate::metrics::Metrics;
use crate::token::{Blocklist, IssuerNames, Trusted};

/// The merged list, rebuilt whenever one of the two changes, or the issuers that they name.
#[derive(Clone)]
pub(super) struct Joined(Arc<Inner>);

struct Inner {
    parts: OnceLock<[Live<Blocklist>; 2]>,
    trusted: Live<Vec<Trusted>>,
    publisher: Mutex<Publisher<Blocklist>>,
    reader: Live<Blocklist>,
    under_way: Arc<RequestsInFlight>,
}

impl Joined {
    /// Not merged yet: until then it is unknown who is blocked.
    pub(super) fn new(trusted: Live<Vec<Trusted>>, under_way: Arc<RequestsInFlight>) -> Self {
        let (publisher, reader) = live(Blocklist::unheard());
        let publisher = Mutex::new(publisher);
        Joined(Arc::new(Inner { parts: OnceLock::new(), trusted, publisher, reader, under_way }))
    }

    /// The merged list.
    pub(super) fn list(&self) -> Live<Blocklist> {
        self.0.reader.clone()
    }

    /// Merges these lists from now on, beginning with their current contents.
    pub(super) fn begin(&self, parts: [Live<Blocklist>; 2]) {
        let _ = self.0.parts.set(parts);
        self.again();
    }

    /// Rebuilds the list after one of the two, or the issuers, have changed.
    pub(super) fn again(&self) {
        self.join(&[]);
    }

    /// Prepares for a change of issuers. Until [`Joined::again`] the names of both sets count, so
    /// that no request falls between two configurations.
    pub(super) fn before(&self, next: &[Trusted]) {
        self.join(next);
    }

    fn join(&self, next: &[Trusted]) {
        let Some(parts) = self.0.parts.get() else { return };
        let publisher = self.0.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.0.trusted.load();
        let policies = present.iter().chain(next).map(|trusted| &*trusted.issuer);
        let names = IssuerNames::of_policies(policies);
        let list = Arc::new(Blocklist::joined(parts.iter().map(Live::load), names));
        publisher.publish_arc(list.clone());
        // Published first: new requests are checked against it, and requests in flight are checked
        // now.
        self.0.under_way.end_blocked(&list);
    }
}

/// The file's current list, and a task that follows the file; an empty list if none is configured.
pub(super) fn follow(
    config: &Config,
    issuers: SharedIssuers,
    joined: &Joined,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
    stop: watch::Receiver<bool>,
) -> Result<Live<Blocklist>, StartError> {
    let Some(path) = config.site.blocklist.clone() else {
        return Ok(live(Blocklist::default()).1);
    };
    let (metrics, joined) = (metrics.clone(), joined.clone());
    let on_list: OnBlocklist = Arc::new(move |list| {
        metrics.tokens.blocklist_read(list.map(Blocklist::len));
        if let Some(list) = list {
            joined.again();
            tell_unknown(list, &issuers);
        }
    });
    let (file, list) = BlocklistFile::start(path.clone(), on_list)
        .map_err(|told| StartError::File { path, cause: std::io::Error::other(told) })?;
    tasks.spawn(file.run(stop));
    Ok(list)
}

/// The current blocklist of a configuration, for tools.
pub(crate) fn read_blocklist(config: &Config) -> Result<Blocklist, StartError> {
    let Some(path) = &config.site.blocklist else { return Ok(Blocklist::default()) };
    let cause =
        |told: String| StartError::File { path: path.clone(), cause: std::io::Error::other(told) };
    let list = BlocklistFile::read(path).map_err(cause)?;
    let names = IssuerNames::of_policies(config.issuers.iter().map(|issuer| &issuer.policy));
    Ok(Blocklist::joined([Arc::new(list)], names))
}

/// Warns of unknown issuers: a misspelled name would silently block no device.
fn tell_unknown(list: &Blocklist, issuers: &SharedIssuers) {
    let issuers = issuers.lock().unwrap_or_else(PoisonError::into_inner);
    for name in list.issuers() {
        if !issuers.iter().any(|(issuer, _)| &*issuer.name == name) {
            tracing::warn!(
                target: "sitegate::blocklist",
                issuer = name, "the blocklist names a token issuer that is not configured"
            );
        }
    }
}
