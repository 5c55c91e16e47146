//! Remote keys of a token issuer: fetched before they expire and when a token names an unknown key,
//! cached on disk, published as a key set.
//!
//! Working keys stay until the issuer itself publishes others: no failure removes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fetch::{FetchError, FetchFault};
use super::key_cache::{CachedKeys, KeyCache};
use super::keys::{OnKeys, WatchedKeys};
use super::provider::{Provider, Provides, Published};
use super::schedule;
use crate::clock::Clock;
use crate::live::{Live, Publisher, live};
use crate::refetch::{Cause, Fetching, Refetch, refetch};
use crate::token::KeySet;

/// Called after each fetch: with the issuer's name, and the time of the fetch or its fault. Also
/// called with the fetch time of cached keys.
pub type OnFetch = Arc<dyn Fn(&str, Fetched) + Send + Sync>;

/// The outcome of a fetch.
#[derive(Clone, Copy, Debug)]
pub enum Fetched {
    /// Cached keys are in use; they were fetched at this time.
    Kept(Timestamp),
    /// The keys were fetched at this time.
    Now(Timestamp),
    /// The fetch failed.
    Failed(FetchFault),
}

/// The parameters of an issuer's remote keys.
pub struct RemoteParams<P = Provider> {
    /// The configured name of the issuer.
    pub name: Arc<str>,
    /// Where its keys are published.
    pub provider: P,
    /// The state directory.
    pub state: PathBuf,
    /// The maximum age of the keys, which overrides the age that the issuer declares.
    pub refresh: Option<Duration>,
    /// The minimum time between two fetches that unknown keys trigger.
    pub refetch_interval: Duration,
    /// The clock.
    pub clock: Clock,
    /// Called with the number of keys.
    pub on_keys: OnKeys,
    /// Called after each fetch.
    pub on_fetch: OnFetch,
}

/// The readable state of an issuer's remote keys.
#[derive(Clone, Debug)]
pub struct RemoteView {
    /// The current keys.
    pub keys: Live<KeySet>,
    /// When they were fetched.
    pub fetched: Live<Option<Timestamp>>,
    /// The problems of the keys or of fetching them.
    pub troubles: Live<Vec<String>>,
    /// Requests a fetch when a key is missing.
    pub refetch: Refetch,
}

/// The task that keeps one issuer's remote keys up to date.
pub struct RemoteKeys<P = Provider> {
    provider: P,
    source: String,
    cache: KeyCache,
    refresh: Option<Duration>,
    clock: Clock,
    ring: WatchedKeys,
    on_fetch: OnFetch,
    fetched: Publisher<Option<Timestamp>>,
    asked: Fetching,
    /// The document with the published keys.
    good: Option<Vec<u8>>,
    /// The problems of some of its keys.
    faults: Vec<String>,
    failures: u32,
}

impl RemoteKeys {
    /// Starts with the cached keys, if there are any. Fetching begins with [`Self::run`].
    pub fn start(params: RemoteParams) -> (Self, RemoteView) {
        let source = RemoteKeys::source(&params.provider.url, &params.provider.accepts);
        RemoteKeys::with(params, source)
    }

    /// The cached keys of an issuer, for tools.
    pub fn kept(state: &Path, issuer: &str, source: &str) -> KeySet {
        let kept = KeyCache::new(state, issuer).read(source);
        kept.map(|kept| KeySet::parse(&[("kept keys", kept.keys.as_bytes())]).0).unwrap_or_default()
    }

    /// The cache key: the URL of the keys and the issuers that are accepted.
    pub fn source(url: &str, accepts: &[String]) -> String {
        format!("{url} of {}", accepts.join(", "))
    }
}

impl<P: Provides> RemoteKeys<P> {
    fn with(params: RemoteParams<P>, source: String) -> (Self, RemoteView) {
        let RemoteParams { name, provider, state, refresh, clock, on_fetch, .. } = params;
        let cache = KeyCache::new(&state, &name);
        let (ring, keys) = WatchedKeys::new(name, params.on_keys);
        let (fetched, fetched_read) = live(None);
        let (asked, refetch) = refetch(params.refetch_interval);
        let troubles = ring.troubles();
        let mut remote = RemoteKeys {
            provider,
            source,
            cache,
            refresh,
            clock,
            ring,
            on_fetch,
            fetched,
            asked,
            good: None,
            faults: Vec::new(),
            failures: 0,
        };
        remote.recall();
        (remote, RemoteView { keys, fetched: fetched_read, troubles, refetch })
    }

    /// Fetches and publishes the keys until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut due = Instant::now();
        loop {
            let cause = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep_until(due) => Cause::Due,
                () = self.asked.wanted() => Cause::Asked,
            };
            self.asked.begin(cause);
            let found = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                found = self.provider.fetch() => found,
            };
            due = Instant::now() + self.learn(found);
            self.asked.end();
        }
    }

    /// Publishes the cached keys.
    fn recall(&mut self) {
        let Some(kept) = self.cache.read(&self.source) else {
            return self.ring.publish_none();
        };
        let (usable, faults) = self.ring.publish_if_usable("kept keys", kept.keys.as_bytes());
        self.faults = faults;
        if usable {
            let age = self.clock.now().duration_since(kept.fetched).as_secs();
            tracing::info!(
                target: "sitegate::keys",
                issuer = self.ring.name(), fetched = %kept.fetched, age_s = age,
                "using saved keys until they are fetched"
            );
            self.good = Some(kept.keys.into_bytes());
            self.fetched.publish(Some(kept.fetched));
            (self.on_fetch)(self.ring.name(), Fetched::Kept(kept.fetched));
        } else {
            self.ring.publish_none();
        }
    }

    /// Publishes fetched keys, if usable. Returns the delay until the next fetch.
    fn learn(&mut self, found: Result<Published, FetchError>) -> Duration {
        match found.and_then(|published| self.take(published)) {
            Ok(max_age) => {
                self.failures = 0;
                self.ring.tell(self.faults.clone());
                let next = schedule::ahead(schedule::age(self.refresh, max_age), chance());
                tracing::debug!(
                    target: "sitegate::keys",
                    issuer = self.ring.name(), next_s = next.as_secs(), "the keys were fetched"
                );
                next
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                (self.on_fetch)(self.ring.name(), Fetched::Failed(error.fault));
                let kept = match self.good {
                    Some(_) => "previous keys stay in use",
                    None => "there are none yet",
                };
                self.ring.tell(vec![format!("the keys were not fetched, {kept}: {error}")]);
                schedule::retry(self.failures, chance())
            }
        }
    }

    fn take(&mut self, published: Published) -> Result<Option<Duration>, FetchError> {
        let Published { from, document } = published;
        let now = self.clock.now();
        if self.good.as_ref() != Some(&document.body) {
            let (usable, faults) = self.ring.publish_if_usable(&from, &document.body);
            if !usable {
                let why = faults.first().map_or("its key set is empty", String::as_str);
                let detail = format!("{from} holds no key that can be used: {why}");
                return Err(FetchError::new(FetchFault::Malformed, detail));
            }
            self.faults = faults;
            self.good = Some(document.body.clone());
        }
        self.fetched.publish(Some(now));
        (self.on_fetch)(self.ring.name(), Fetched::Now(now));
        if let Ok(keys) = String::from_utf8(document.body) {
            self.cache.write(&CachedKeys { source: self.source.clone(), fetched: now, keys });
        }
        Ok(document.max_age)
    }
}

/// A random number from 0 up to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness only the jitter is lost.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
