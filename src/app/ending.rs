//! Process shutdown: the signals that trigger it, and the graceful drain.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::App;

impl App {
    /// Drains: not ready, no new connections, requests in flight finish within the drain time.
    pub(super) async fn drain(self, mut signals: Signals) {
        let limit = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.config.limits.drain_time
        };
        tracing::info!(connections = self.front.count()(), ?limit, "draining");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.readiness.set_draining();
        let _ = self.shutdown.send(true);
        let front = self.front;
        let joined = tokio::task::spawn_blocking(move || front.join());
        tokio::select! {
            _ = joined => tracing::info!("drained"),
            () = tokio::time::sleep(limit) => {
                tracing::warn!("the drain time is over; closing the remaining connections");
            }
            () = signals.end() => tracing::warn!("second signal; closing the remaining \
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

/// The request of a signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Reload,
    End,
}

/// SIGHUP, SIGTERM and SIGINT; none of them if the process's owner handles them.
pub(super) struct Signals(Option<[tokio::signal::unix::Signal; 3]>);

impl Signals {
    pub(super) fn new(ours: bool) -> Self {
        let open = || -> std::io::Result<_> {
            Ok([
                signal(SignalKind::hangup())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ])
        };
        if ours {
            // By default these signals end the process, which no one wants, least of all when a
            // file has grown to its limit. Installing a handler is enough; no one needs to listen.
            let harmless = [SignalKind::user_defined1(), SignalKind::user_defined2()];
            let grown = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            for kind in harmless.into_iter().chain([grown]) {
                let _ = signal(kind);
            }
        }
        Signals(if ours { open().ok() } else { None })
    }

    pub(super) async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Some([reload, terminate, interrupt]) => tokio::select! {
                _ = reload.recv() => Signal::Reload,
                _ = terminate.recv() => Signal::End,
                _ = interrupt.recv() => Signal::End,
            },
            None => std::future::pending().await,
        }
    }

    /// Waits for a signal to end.
    async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}
