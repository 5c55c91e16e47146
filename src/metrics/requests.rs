//! Metrics of the requests in flight, over all site systems.

use prometheus::{Error, IntCounter, IntGauge};

use super::Counted;
use super::registrar::Registrar;

/// The metrics of requests in flight.
pub struct RequestMetrics {
    in_flight: IntGauge,
    waited: IntCounter,
    buffered_bytes: Level,
}

/// A gauge of whole units, kept up to date by its owner.
#[derive(Clone, Debug)]
pub struct Level(IntGauge);

impl RequestMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(RequestMetrics {
            in_flight: r.int_gauge(
                "requests_in_flight",
                "Requests that have a backend connection, or are about to get one.",
            )?,
            waited: r.counter(
                "requests_waited_total",
                "Requests that waited because the limit of requests in flight was reached.",
            )?,
            buffered_bytes: Level(r.int_gauge(
                "buffered_bytes",
                "Bytes buffered for requests not yet forwarded and responses not yet complete.",
            )?),
        })
    }

    /// Counts a request that got a permit; it is in flight until the guard is dropped.
    pub fn in_flight(&self) -> Counted<'_> {
        Counted::new(&self.in_flight)
    }

    /// Counts a request that waits for a permit.
    pub fn waits(&self) {
        self.waited.inc();
    }

    /// The gauge of bytes that are buffered for clients.
    pub fn buffered_bytes(&self) -> Level {
        self.buffered_bytes.clone()
    }
}

impl Level {
    /// Adds to it.
    pub fn add(&self, amount: usize) {
        self.0.add(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// Subtracts from it.
    pub fn sub(&self, amount: usize) {
        self.0.sub(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// Its value; a negative one is 0.
    pub fn get(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(0)
    }
}
