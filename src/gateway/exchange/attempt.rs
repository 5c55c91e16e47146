//! Records one attempt to reach a backend: the address, and the time of each step. Log, metrics and
//! backend health use the same record for every protocol.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::transport::{BackendTls, ConnectTarget, NoConnection, Stream, connect};
use crate::backend_health::{BackendFault, BackendHealth};
use crate::denial::Denial;

/// The last attempt of one request.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Attempt(Mutex<AttemptAddress>);

/// The recorded facts of an attempt.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct AttemptAddress {
    /// The health of its address; `None` for a service of this process.
    pub(in crate::gateway) health: Option<Arc<BackendHealth>>,
    /// Whether there is a connection.
    connected: bool,
    /// The connect time, if the connection is new.
    pub(in crate::gateway) connect: Option<Duration>,
    /// The response status, and the time from the last request byte to the response head.
    pub(in crate::gateway) answered: Option<(u16, Duration)>,
}

impl Attempt {
    fn known(&self) -> MutexGuard<'_, AttemptAddress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the recorded facts.
    pub(in crate::gateway) fn seen(&self) -> AttemptAddress {
        self.known().clone()
    }

    /// Records that it uses an idle connection from the pool.
    pub(super) fn reuse(&self, target: &ConnectTarget) {
        let health = target.health.clone();
        *self.known() = AttemptAddress { health, connected: true, ..AttemptAddress::default() };
    }

    /// Opens a connection for it.
    pub(super) async fn connect(
        &self,
        target: &ConnectTarget,
        tls: Option<&BackendTls>,
        time: Duration,
    ) -> Result<Stream, NoConnection> {
        let began = Instant::now();
        let health = target.health.clone();
        *self.known() = AttemptAddress { health, ..AttemptAddress::default() };
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
            // A shortage on this machine does not count against the backend.
            (Err(why), Some(_)) if why.is_our_own() => {}
            (Err(why), Some(health)) => {
                let fault = BackendFault::of(why.denial()).unwrap_or(BackendFault::Unreachable);
                health.unconnected(fault, &why.to_string(), now);
            }
            (Err(_), None) => {}
        }
        stream
    }

    /// Records that the response head arrived, and the time since the last request byte.
    pub(super) fn answered(&self, status: u16, waited: Duration, now: Instant) {
        let mut known = self.known();
        known.answered = Some((status, waited));
        if let Some(health) = &known.health {
            health.answered(status, waited, now);
        }
    }

    /// Records that the request failed. A failed connect was recorded already. After an upgrade the
    /// end of a connection does not count against the backend.
    pub(in crate::gateway) fn failed(&self, denial: Denial, detail: Option<&str>) {
        let known = self.known();
        if known.answered.is_some_and(|(status, _)| status == 101) {
            return;
        }
        if let (true, Some(health), Some(fault)) =
            (known.connected, &known.health, BackendFault::of(denial))
        {
            health.failed(fault, detail.unwrap_or_else(|| denial.title()), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::transport::{Address, Peer};
    use super::*;
    use crate::metrics::Metrics;

    #[rstest]
    #[case::before_an_answer(None, 1)]
    #[case::in_the_middle_of_an_answer(Some(200), 1)]
    #[case::after_it_has_left_http(Some(101), 0)]
    fn a_failure_counts_unless_the_connection_has_left_http(
        #[case] status: Option<u16>,
        #[case] failures: u32,
    ) {
        let metrics = Metrics::new().unwrap();
        let health = metrics.backends.of("iis:80", "192.0.2.1:80");
        let health = Arc::new(BackendHealth::new("192.0.2.1:80", health));
        let peer = Peer::new(Address::Tcp("192.0.2.1:80".parse().unwrap()), None);
        let (attempt, now) = (Attempt::default(), Instant::now());
        attempt.reuse(&ConnectTarget { peer, health: Some(health.clone()) });
        if let Some(status) = status {
            attempt.answered(status, Duration::ZERO, now);
        }
        attempt.failed(Denial::UpstreamTimeout, None);
        assert_eq!(health.seen(now).failures_in_a_row, failures);
    }

    #[test]
    fn a_refusal_that_is_not_the_backends_fault_is_none_of_it() {
        let metrics = Metrics::new().unwrap();
        let health = metrics.backends.of("iis:80", "192.0.2.1:80");
        let health = Arc::new(BackendHealth::new("192.0.2.1:80", health));
        let peer = Peer::new(Address::Tcp("192.0.2.1:80".parse().unwrap()), None);
        let attempt = Attempt::default();
        attempt.reuse(&ConnectTarget { peer, health: Some(health.clone()) });
        for denial in Denial::ALL.iter().filter(|d| !d.code().starts_with("upstream.")) {
            attempt.failed(*denial, None);
        }
        assert_eq!(health.seen(Instant::now()).last_failure, None);
    }
}
