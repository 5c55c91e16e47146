//! The metrics of tokens: their issuers' keys, and what is blocked.
//!
//! Labels are configured names and words from closed lists alone.

use prometheus::core::{Collector, Desc};
use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{int_gauges, registered};

/// The metrics of tokens.
pub struct TokenMetrics {
    keys: IntGaugeVec,
    key_files_bad: IntGaugeVec,
    blocked: IntGauge,
    blocklist_read: IntGauge,
}

impl TokenMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let blocklist_read = registered(
            r,
            IntGauge::new(
                "sitegate_blocklist_last_read_successful",
                "Whether the blocklist, as it was last read, is in force.",
            )?,
        )?;
        // Where there is no blocklist, there is nothing amiss with it.
        blocklist_read.set(1);
        Ok(TokenMetrics {
            keys: int_gauges(r, "token_keys", "Usable keys of a token issuer.", &["issuer"])?,
            key_files_bad: int_gauges(
                r,
                "token_key_problems",
                "Keys of a token issuer that were refused at the last reading.",
                &["issuer"],
            )?,
            blocked: registered(
                r,
                IntGauge::new("sitegate_blocklist_entries", "Entries of the blocklist in force.")?,
            )?,
            blocklist_read,
        })
    }

    /// An issuer's keys were read.
    pub fn keys_loaded(&self, issuer: &str, usable: usize, refused: usize) {
        self.keys.with_label_values(&[issuer]).set(usable as i64);
        self.key_files_bad.with_label_values(&[issuer]).set(refused as i64);
    }

    /// An issuer is no longer configured.
    pub fn forget_issuer(&self, issuer: &str) {
        let _ = self.keys.remove_label_values(&[issuer]);
        let _ = self.key_files_bad.remove_label_values(&[issuer]);
    }

    /// The blocklist was read: `Some` with its entries if it is in force now.
    pub fn blocklist_read(&self, entries: Option<usize>) {
        self.blocklist_read.set(i64::from(entries.is_some()));
        if let Some(entries) = entries {
            self.blocked.set(entries as i64);
        }
    }

    /// What is there once there is an issuer.
    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        [self.keys.desc(), self.key_files_bad.desc()].concat()
    }
}
