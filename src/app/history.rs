//! Once a minute, samples the counters for the plots of the admin page, and the site's roots for
//! metrics.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::admin::History;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::site::{Authority, ShownKind};

const SAMPLE: Duration = Duration::from_secs(60);

impl App {
    /// Starts sampling.
    pub(super) fn keep_history(&mut self, history: History) {
        let looked_at = LookedAt {
            history,
            metrics: self.metrics.clone(),
            authority: self.applied.authorities.certificates.clone(),
        };
        let (clock, stop) = (self.options.clock.clone(), self.stop.subscribe());
        self.tasks.spawn(keep(looked_at, clock, stop));
    }
}

struct LookedAt {
    history: History,
    metrics: Arc<Metrics>,
    authority: Option<Arc<Authority>>,
}

impl LookedAt {
    fn look(&self, now: Timestamp) {
        self.history.sample(now, self.metrics.totals());
        // If the roots cannot be read, the metrics stay as they are.
        let Some(Ok(shown)) = self.authority.as_ref().map(|authority| authority.overview(now))
        else {
            return;
        };
        let roots = shown.iter().filter(|row| row.kind == ShownKind::Root).map(|row| &row.facts);
        self.metrics.site.roots(roots.map(|root| (&*root.sha256, root.not_after.as_second())));
    }
}

/// Samples at once and then periodically, until stopped.
async fn keep(what: LookedAt, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut due = tokio::time::interval(SAMPLE);
    // Samples missed during a suspend are not made up for.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => what.look(clock.now()),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
