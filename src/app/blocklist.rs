//! What is blocked, by the operator's file and by the site's store: two lists that requests are
//! judged by as one.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::issuers::SharedIssuers;
use crate::config::Config;
use crate::control::{BlocklistFile, OnBlocklist};
use crate::gateway::UnderWay;
use crate::live::{Live, Publisher, live};
use crate::metrics::Metrics;
use crate::token::{Blocklist, IssuerNames, Trusted};

/// The two lists, joined anew whenever one of them changes, or the issuers that they name.
#[derive(Clone)]
pub(super) struct Joined(Arc<Inner>);

struct Inner {
    parts: OnceLock<[Live<Blocklist>; 2]>,
    trusted: Live<Vec<Trusted>>,
    publisher: Mutex<Publisher<Blocklist>>,
    reader: Live<Blocklist>,
    under_way: Arc<UnderWay>,
}

impl Joined {
    /// Nothing joined yet: until then nobody knows who is blocked.
    pub(super) fn new(trusted: Live<Vec<Trusted>>, under_way: Arc<UnderWay>) -> Self {
        let (publisher, reader) = live(Blocklist::unheard());
        let publisher = Mutex::new(publisher);
        Joined(Arc::new(Inner { parts: OnceLock::new(), trusted, publisher, reader, under_way }))
    }

    /// What is in force.
    pub(super) fn list(&self) -> Live<Blocklist> {
        self.0.reader.clone()
    }

    /// Join these from now on; what each is at present counts at once.
    pub(super) fn begin(&self, parts: [Live<Blocklist>; 2]) {
        let _ = self.0.parts.set(parts);
        self.again();
    }

    /// One of them has changed, or the issuers have, and its own reader sees it.
    pub(super) fn again(&self) {
        self.join(&[]);
    }

    /// Other issuers will be in force in a moment. Until [`Joined::again`] all names count, so that no
    /// request falls between two configurations.
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
        // In force first: what begins from then on is judged by it, what is under way is judged now.
        self.0.under_way.end_blocked(&list);
    }
}

/// The file's list of the moment, and a task that keeps it; an empty one where none is configured.
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

/// The blocklist of a configuration as it is now, for tools.
pub(crate) fn read_blocklist(config: &Config) -> Result<Blocklist, StartError> {
    let Some(path) = &config.site.blocklist else { return Ok(Blocklist::default()) };
    let cause =
        |told: String| StartError::File { path: path.clone(), cause: std::io::Error::other(told) };
    let list = BlocklistFile::read(path).map_err(cause)?;
    let names = IssuerNames::of_policies(config.issuers.iter().map(|issuer| &issuer.policy));
    Ok(Blocklist::joined([Arc::new(list)], names))
}

/// A name that is written wrongly would block nobody, and nobody would notice.
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
