//! The metrics of the site's own side: its token service, and what its store blocks.
//!
//! Labels are closed lists alone: nothing that a client sends.

use prometheus::core::{Collector, Desc};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::registered;
use crate::grant_denial::GrantDenial;

/// The metrics of the site's own side.
pub struct SiteMetrics {
    answers: IntCounterVec,
    blocks: IntGauge,
}

impl SiteMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let answers = IntCounterVec::new(
            Opts::new(
                "sitegate_token_service_requests_total",
                "Requests to the token service, by what came of them.",
            ),
            &["endpoint", "outcome"],
        )?;
        let blocks = IntGauge::new(
            "sitegate_store_blocks",
            "Tokens, devices, users and times that the site's store blocks.",
        )?;
        Ok(SiteMetrics { answers: registered(r, answers)?, blocks: registered(r, blocks)? })
    }

    /// An endpoint of the token service answered.
    pub fn answered(&self, endpoint: &str, outcome: Result<(), GrantDenial>) {
        let outcome = outcome.map_or_else(GrantDenial::code, |()| "granted");
        self.answers.with_label_values(&[endpoint, outcome]).inc();
    }

    /// So much is blocked from now on.
    pub fn blocks(&self, entries: usize) {
        self.blocks.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// What is there once the token service was asked.
    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        self.answers.desc()
    }
}
