//! Token metrics: the keys of issuers, and the blocklist.
//!
//! Labels are configured names and words from closed lists only.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{Error, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::registrar::Registrar;

/// The token metrics.
pub struct TokenMetrics {
    keys: IntGaugeVec,
    key_problems: IntGaugeVec,
    fetches: IntCounterVec,
    fetched: GaugeVec,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    blocked: IntGauge,
    blocklist_read: IntGauge,
    /// The label pairs in use, so that they can be removed.
    results: Mutex<Results>,
}

type Results = BTreeSet<(String, &'static str)>;

impl TokenMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        let blocklist_read = r.int_gauge(
            "blocklist_last_read_successful",
            "Whether the blocklist, as it was last read, is in force.",
        )?;
        // Without a blocklist there is no fault in it.
        blocklist_read.set(1);
        Ok(TokenMetrics {
            keys: r.int_gauges("token_keys", "Usable keys of a token issuer.", &["issuer"])?,
            key_problems: r.int_gauges(
                "token_key_problems",
                "Keys of a token issuer that were refused at the last reading.",
                &["issuer"],
            )?,
            fetches: r.counters(
                "token_key_fetches_total",
                "Fetches of a token issuer's keys, by result.",
                &["issuer", "result"],
            )?,
            fetched: r.gauges(
                "token_keys_fetched_timestamp_seconds",
                "When a token issuer's keys were last fetched, in seconds since 1970.",
                &["issuer"],
            )?,
            cache_hits: r
                .counter("token_cache_hits_total", "Tokens whose verification was cached.")?,
            cache_misses: r.counter(
                "token_cache_misses_total",
                "Tokens whose signature had to be verified.",
            )?,
            blocked: r.int_gauge("blocklist_entries", "Entries of the blocklist in force.")?,
            blocklist_read,
            results: Mutex::default(),
        })
    }

    /// Counts a token cache hit (`true`) or miss.
    pub fn cached(&self, hit: bool) {
        if hit { self.cache_hits.inc() } else { self.cache_misses.inc() }
    }

    pub(super) fn cache_hits_and_misses(&self) -> (u64, u64) {
        (self.cache_hits.get(), self.cache_misses.get())
    }

    /// Records that an issuer's keys were read.
    pub fn keys_loaded(&self, issuer: &str, usable: usize, refused: usize) {
        self.keys.with_label_values(&[issuer]).set(usable as i64);
        self.key_problems.with_label_values(&[issuer]).set(refused as i64);
    }

    /// Removes an issuer that is no longer configured.
    pub fn forget_issuer(&self, issuer: &str) {
        let _ = self.keys.remove_label_values(&[issuer]);
        let _ = self.key_problems.remove_label_values(&[issuer]);
        let _ = self.fetched.remove_label_values(&[issuer]);
        let results = std::mem::take(&mut *self.results());
        let (gone, stay): (Results, Results) = results.into_iter().partition(|(i, _)| i == issuer);
        *self.results() = stay;
        for (issuer, result) in gone {
            let _ = self.fetches.remove_label_values(&[&*issuer, result]);
        }
    }

    /// Records the result of a key fetch, from a closed list, and the time if it succeeded.
    pub fn keys_fetched(&self, issuer: &str, result: &'static str, seconds: Option<i64>) {
        self.results().insert((issuer.to_owned(), result));
        self.fetches.with_label_values(&[issuer, result]).inc();
        if let Some(seconds) = seconds {
            self.keys_kept(issuer, seconds);
        }
    }

    /// Records when the keys in use were fetched.
    pub fn keys_kept(&self, issuer: &str, seconds: i64) {
        self.fetched.with_label_values(&[issuer]).set(seconds as f64);
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the blocklist was read: `Some` with its entries if it is in force now.
    pub fn blocklist_read(&self, entries: Option<usize>) {
        self.blocklist_read.set(i64::from(entries.is_some()));
        if let Some(entries) = entries {
            self.blocked.set(entries as i64);
        }
    }
}
