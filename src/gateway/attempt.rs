//! How a request fares with its backend: where it went, and how long each step took. Log, metrics and
//! the backend's health are told the same, whichever way the request goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{BackendTls, NoConnection, Stream, Target, connect};
use crate::backend_health::{BackendFault, BackendHealth};
use crate::denial::Denial;

/// The last attempt of one request.
#[derive(Debug, Default)]
pub(super) struct Attempt(Mutex<Known>);

/// What is known of an attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Where it went, if not to a service of this process.
    pub(super) health: Option<Arc<BackendHealth>>,
    /// Whether there is a connection.
    connected: bool,
    /// Whether that had a request before this one, and the backend may be closing it.
    pub(super) reused: bool,
    /// How long the connection took, if it is a new one.
    pub(super) connect: Option<Duration>,
    /// The status of the answer, and how long that was waited for once the request was sent.
    pub(super) answered: Option<(u16, Duration)>,
}

impl Attempt {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it.
    pub(super) fn seen(&self) -> Known {
        self.known().clone()
    }

    /// It goes on a connection that had a request before.
    pub(super) fn reuse(&self, target: &Target) {
        let health = target.health.clone();
        *self.known() = Known { health, connected: true, reused: true, ..Known::default() };
    }

    /// Make a connection for it.
    pub(super) async fn connect(
        &self,
        target: &Target,
        tls: Option<&BackendTls>,
        time: Duration,
    ) -> Result<Stream, NoConnection> {
        let began = Instant::now();
        let health = target.health.clone();
        *self.known() = Known { health, ..Known::default() };
        let stream = connect(&target.peer.address, tls, time).await;
        let now = Instant::now();
        match (&stream, &target.health) {
            (Ok(_), health) => {
                let took = now - began;
                let mut known = self.known();
                (known.connected, known.connect) = (true, Some(took));
                if let Some(health) = health {
                    health.connected(took);
                }
            }
            (Err(why), Some(health)) => {
                let fault = BackendFault::of(why.denial()).unwrap_or(BackendFault::Unreachable);
                health.unconnected(fault, &why.to_string(), now);
            }
            (Err(_), None) => {}
        }
        stream
    }

    /// The head of its answer has come, so long after the last byte of the request went.
    pub(super) fn answered(&self, status: u16, waited: Duration, now: Instant) {
        let mut known = self.known();
        known.answered = Some((status, waited));
        if let Some(health) = &known.health {
            health.answered(status, waited, now);
        }
    }

    /// The request has failed for this reason. Without a connection that was told already.
    pub(super) fn failed(&self, denial: Denial, detail: Option<&str>) {
        let known = self.known();
        if let (true, Some(health), Some(fault)) =
            (known.connected, &known.health, BackendFault::of(denial))
        {
            health.failed(fault, detail.unwrap_or_else(|| denial.title()), Instant::now());
        }
    }
}
