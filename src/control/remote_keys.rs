//! The keys of one token issuer that come from a URL: fetched ahead of their age and when somebody
//! misses one, kept on disk, published as a key set.
//!
//! Keys that work stay until the issuer itself publishes others: nothing that fails takes them away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fetch::{FetchError, FetchFault};
use super::key_cache::{Kept, KeyCache};
use super::keys::{OnKeys, Ring};
use super::provider::{Provider, Provides, Published};
use super::schedule;
use crate::clock::Clock;
use crate::live::{Live, Publisher, live};
use crate::refetch::{Cause, Fetching, Refetch, refetch};
use crate::token::KeySet;

/// Told of each fetch: the issuer, and the time in seconds after 1970, or why there is none. A time
/// without a fetch is that of kept keys.
pub type OnFetch = Arc<dyn Fn(&str, Fetched) + Send + Sync>;

/// What came of looking for keys.
#[derive(Clone, Copy, Debug)]
pub enum Fetched {
    /// Kept keys are used, which were fetched at this time.
    Kept(Timestamp),
    /// They were fetched at this time.
    Now(Timestamp),
    /// They were not.
    Failed(FetchFault),
}

/// What an issuer's remote keys are kept by.
pub struct RemoteParams {
    /// The configured name of the issuer.
    pub name: Arc<str>,
    /// Where its keys are published.
    pub provider: Provider,
    /// The state directory.
    pub state: PathBuf,
    /// How old keys may become, whatever the issuer says.
    pub refresh: Option<Duration>,
    /// The least time between two fetches for a key that somebody missed.
    pub refetch_interval: Duration,
    /// The time.
    pub clock: Clock,
    /// Told how many keys there are.
    pub on_keys: OnKeys,
    /// Told of each fetch.
    pub on_fetch: OnFetch,
}

/// What others see of an issuer's remote keys.
#[derive(Clone, Debug)]
pub struct RemoteView {
    /// The keys of the moment.
    pub keys: Live<KeySet>,
    /// When they were fetched.
    pub fetched: Live<Option<Timestamp>>,
    /// What is wrong with them, or with fetching them.
    pub troubles: Live<Vec<String>>,
    /// Whom to ask where one is missing.
    pub refetch: Refetch,
}

/// The task that keeps one issuer's remote keys.
pub struct RemoteKeys<P = Provider> {
    provider: P,
    source: String,
    cache: KeyCache,
    refresh: Option<Duration>,
    clock: Clock,
    ring: Ring,
    on_fetch: OnFetch,
    fetched: Publisher<Option<Timestamp>>,
    asked: Fetching,
    /// The document whose keys are published.
    good: Option<Vec<u8>>,
    /// What is wrong with some of them.
    faults: Vec<String>,
    failures: u32,
}

impl RemoteKeys {
    /// Begin with the keys that were kept, if there are any. Fetching begins with [`Self::run`].
    pub fn start(params: RemoteParams) -> (Self, RemoteView) {
        let RemoteParams { provider, name, state, refresh, refetch_interval, clock, .. } = params;
        let source = RemoteKeys::source(&provider.url, &provider.accepts);
        let told = (params.on_keys, params.on_fetch);
        let cache = KeyCache::new(&state, &name);
        RemoteKeys::with(provider, (name, source), cache, (refresh, refetch_interval), clock, told)
    }

    /// The keys that were kept for an issuer, for tools.
    pub fn kept(state: &Path, issuer: &str, source: &str) -> KeySet {
        let kept = KeyCache::new(state, issuer).read(source);
        kept.map(|kept| KeySet::parse(&[("kept keys", kept.keys.as_bytes())]).0).unwrap_or_default()
    }

    /// What keys are kept for: where they are, and who the issuer is.
    pub fn source(url: &str, accepts: &[String]) -> String {
        format!("{url} of {}", accepts.join(", "))
    }
}

impl<P: Provides> RemoteKeys<P> {
    fn with(
        provider: P,
        (name, source): (Arc<str>, String),
        cache: KeyCache,
        (refresh, interval): (Option<Duration>, Duration),
        clock: Clock,
        (on_keys, on_fetch): (OnKeys, OnFetch),
    ) -> (Self, RemoteView) {
        let (ring, keys) = Ring::new(name, on_keys);
        let (fetched, fetched_read) = live(None);
        let (asked, refetch) = refetch(interval);
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

    /// Keep the keys until told to stop.
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

    /// Use what was kept.
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
                "keys that were kept are used until they are fetched"
            );
            self.good = Some(kept.keys.into_bytes());
            self.fetched.publish(Some(kept.fetched));
            (self.on_fetch)(self.ring.name(), Fetched::Kept(kept.fetched));
        } else {
            self.ring.publish_none();
        }
    }

    /// Publish what was fetched, if it is usable. Returns when to fetch again.
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
                    Some(_) => "those from before stay in use",
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
                let why = faults.first().map_or("it is an empty set", String::as_str);
                let detail = format!("{from} holds no key that can be used: {why}");
                return Err(FetchError::new(FetchFault::Malformed, detail));
            }
            self.faults = faults;
            self.good = Some(document.body.clone());
        }
        self.fetched.publish(Some(now));
        (self.on_fetch)(self.ring.name(), Fetched::Now(now));
        if let Ok(keys) = String::from_utf8(document.body) {
            self.cache.write(&Kept { source: self.source.clone(), fetched: now, keys });
        }
        Ok(document.max_age)
    }
}

/// A number from 0 up to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is less spreading, and nothing else.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
