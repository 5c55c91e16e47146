//! Which bundle each gateway has: recorded in the store for all gateways at once, because each of them
//! asks again after each change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::site::store::Store;

/// The interval for recording a gateway's unchanged bundle version.
const SEEN_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How long records are collected before they are written.
const COLLECT: Duration = Duration::from_millis(10);
/// The delay after a failed write.
const AGAIN: Duration = Duration::from_secs(1);
/// The largest number of known certificates: far more than a site has gateways.
const KNOWN_MAX: usize = 100_000;

/// The gateways that have asked.
pub struct GatewaysSeen {
    store: Store,
    clock: Clock,
    seen: Mutex<SeenState>,
    news: Notify,
}

#[derive(Default)]
struct SeenState {
    /// The certificates that were those of gateways at their last request.
    known: HashSet<String>,
    /// The last version of each gateway, and when it was recorded.
    last: HashMap<String, (u64, Timestamp)>,
    /// What is not recorded yet.
    pending: BTreeMap<String, u64>,
}

impl GatewaysSeen {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        GatewaysSeen { store, clock, seen: Mutex::default(), news: Notify::new() }
    }

    fn seen(&self) -> MutexGuard<'_, SeenState> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a certificate was a gateway's at its last request.
    pub(super) fn knows(&self, proven: &str) -> bool {
        self.seen().known.contains(proven)
    }

    /// Stores whether a certificate is that of a gateway.
    pub(super) fn identified(&self, proven: &str, is_gateway: bool) {
        let mut seen = self.seen();
        if !is_gateway {
            seen.known.remove(proven);
        } else if !seen.known.contains(proven) && seen.known.len() < KNOWN_MAX {
            seen.known.insert(proven.to_owned());
        }
    }

    /// A gateway has this version. Recorded soon, if it has changed or the record is old.
    pub(super) fn has(&self, gateway: &str, held: u64) {
        let now = self.clock.now();
        let mut seen = self.seen();
        let fresh = |at: Timestamp| now.duration_since(at) < SEEN_EVERY && now >= at;
        let is_known =
            seen.last.get(gateway).is_some_and(|(version, at)| *version == held && fresh(*at));
        if !is_known {
            seen.last.insert(gateway.to_owned(), (held, now));
            seen.pending.insert(gateway.to_owned(), held);
            self.news.notify_one();
        }
    }

    fn put_back(&self, unrecorded: BTreeMap<String, u64>) {
        let mut seen = self.seen();
        for (gateway, held) in unrecorded {
            // What came since is later.
            seen.pending.entry(gateway).or_insert(held);
        }
    }

    /// Records until `stop` is set.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.news.notified() => {}
            }
            tokio::time::sleep(COLLECT).await;
            let pending = std::mem::take(&mut self.seen().pending);
            if let Err(error) = self.store.gateways_have(&pending, self.clock.now()).await {
                tracing::debug!(target: "sitegate::site_server", %error,
                    "which bundle gateways have is not recorded yet");
                self.put_back(pending);
                tokio::time::sleep(AGAIN).await;
                self.news.notify_one();
            }
        }
    }
}
