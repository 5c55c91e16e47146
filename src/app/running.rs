//! A running process, for whoever has started it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::watch;

/// A running process.
pub struct Running {
    /// The addresses that site systems listen on, by name.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Where page, API and status are.
    pub admin: SocketAddr,
    /// Where metrics and health are.
    pub metrics: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) thread: JoinHandle<Result<(), Lost>>,
}

/// A thread that the process needs has ended by itself, and why.
#[derive(Debug, thiserror::Error)]
#[error("a thread has ended that sitegate cannot go on without: {0}")]
pub struct Lost(pub(super) String);

impl Lost {
    /// Say it in the log, too. What is gone is done by nobody any more: the process is better started
    /// anew.
    pub(super) fn told(why: String) -> Self {
        tracing::error!(why, "a thread or a task has ended; so does the process");
        Lost(why)
    }
}

impl Running {
    /// Begin to end: no new connections, requests under way finish within the drain time.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }

    /// Wait for the end.
    ///
    /// # Errors
    /// A thread has ended by itself, and what it did is not done any more: start the process anew.
    pub fn join(self) -> Result<(), Lost> {
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(Lost("control panicked".to_owned())))
    }
}
