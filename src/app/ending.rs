//! The end of a process: what asks for it, and how it comes without cutting anybody off.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::App;

impl App {
    /// Not ready, no new connections, requests under way finish within the drain time.
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
                tracing::warn!("the drain time is over; what is under way is cut off");
            }
            () = signals.end() => tracing::warn!("told again; what is under way is cut off"),
        }
        let _ = self.stop.send(true);
        self.authorities.end();
        // Their tasks end when nobody can stop them any more.
        drop((self.sites, self.issuers));
        let mut tasks = self.tasks;
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Reload,
    End,
}

/// SIGHUP, SIGTERM and SIGINT; none of them where they are somebody else's.
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
            // By default these end the process: nobody means that, least of all a file that has
            // grown to its limit. Whoever is told of them goes on, and nobody needs to listen.
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

    /// Wait to be told to end.
    async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}
