//! Samples the counters once a minute, for the plots of the page.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::admin::History;
use crate::clock::Clock;
use crate::metrics::Metrics;

const SAMPLE: Duration = Duration::from_secs(60);

impl App {
    /// Sample from now on.
    pub(super) fn keep_history(&mut self, history: History) {
        let (metrics, clock) = (self.metrics.clone(), self.options.clock.clone());
        self.tasks.spawn(keep(history, metrics, clock, self.stop.subscribe()));
    }
}

/// Sample until told to stop; once at the beginning.
async fn keep(
    history: History,
    metrics: Arc<Metrics>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let mut due = tokio::time::interval(SAMPLE);
    // A machine that slept has nothing to make up for.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => history.sample(clock.now(), metrics.totals()),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
