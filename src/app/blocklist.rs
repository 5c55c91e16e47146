//! The site's blocklist: read before anything is served, and followed by a task.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::issuers::SharedIssuers;
use crate::config::Config;
use crate::control::{BlocklistFile, OnBlocklist};
use crate::gateway::UnderWay;
use crate::live::{Live, live};
use crate::metrics::Metrics;
use crate::token::Blocklist;

/// The list of the moment, and a task that keeps it; an empty one where none is configured.
pub(super) fn follow(
    config: &Config,
    (issuers, under_way): (SharedIssuers, Arc<UnderWay>),
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
    stop: watch::Receiver<bool>,
) -> Result<Live<Blocklist>, StartError> {
    let Some(path) = config.site.blocklist.clone() else {
        return Ok(live(Blocklist::default()).1);
    };
    let metrics = metrics.clone();
    let on_list: OnBlocklist = Arc::new(move |list| {
        metrics.tokens.blocklist_read(list.map(Blocklist::len));
        if let Some(list) = list {
            under_way.end_blocked(list);
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
    BlocklistFile::read(path).map_err(cause)
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
