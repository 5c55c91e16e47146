//! A handle to a running process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::watch;

/// A running process.
pub struct Running {
    /// The addresses that site systems listen on, by name.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// The address of admin page, API and status.
    pub admin: SocketAddr,
    /// The address of metrics and health.
    pub metrics: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) thread: JoinHandle<Result<(), LostThread>>,
}

/// A thread that the process needs has ended unexpectedly; the reason.
#[derive(Debug, thiserror::Error)]
#[error("a thread that sitegate needs has ended: {0}")]
pub struct LostThread(pub(super) String);

impl LostThread {
    /// Also logs it. The thread's work is no longer done, so the process should be restarted.
    pub(super) fn told(why: String) -> Self {
        tracing::error!(why, "a thread or a task has ended; the process exits");
        LostThread(why)
    }
}

impl Running {
    /// Begins to shut down: no new connections, requests in flight finish within the drain time.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// A thread has ended unexpectedly, and its work is no longer done: restart the process.
    pub fn join(self) -> Result<(), LostThread> {
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(LostThread("control panicked".to_owned())))
    }
}
