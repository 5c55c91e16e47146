//! Process shutdown: the signals that trigger it, and the graceful drain.

use std::sync::PoisonError;
use std::time::Duration;

use super::App;
use crate::os::{self, Signal, Signals};

impl App {
    /// Drains: not ready, no new connections, requests in flight finish within the drain time.
    pub(super) async fn drain(self, mut signals: Signals) {
        let limit = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.config.limits.drain_time
        };
        tracing::info!(connections = self.front.count()(), ?limit, "draining");
        os::notify_stopping();
        self.readiness.set_draining();
        let _ = self.shutdown.send(true);
        let front = self.front;
        let joined = tokio::task::spawn_blocking(move || front.join());
        tokio::select! {
            _ = joined => tracing::info!("drained"),
            () = tokio::time::sleep(limit) => {
                tracing::warn!("the drain time is over; closing the remaining connections");
            }
            () = end(&mut signals) => tracing::warn!("second signal; closing the remaining \
                                                  connections"),
        }
        let _ = self.stop.send(true);
        self.applied.authorities.end();
        // Their tasks end when their stop channels are dropped.
        drop((self.applied.sites, self.applied.issuers));
        let mut tasks = self.tasks;
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
    }
}

/// Waits for a signal to end.
async fn end(signals: &mut Signals) {
    while signals.next().await != Signal::End {}
}
