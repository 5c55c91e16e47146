//! Connection metrics: how many are open, their TLS handshakes, and why some carried no request.
//!
//! Labels are words from closed lists only.

use prometheus::{Error, IntCounter, IntCounterVec, IntGauge};

use super::registrar::Registrar;
use super::{Counted, totals};

/// Why a connection ended before it carried a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The system refused the connection (no file descriptors, for example).
    AcceptFailed,
    /// The limit of connections was reached.
    TooMany,
    /// The limit of connections of one address was reached.
    TooManyOfAddress,
    /// The handshake took too long.
    HandshakeTime,
    /// A load balancer sent no valid PROXY header.
    ProxyHeader,
    /// The client sent an alert: it does not accept the certificate or parameters.
    HandshakeAlert,
    /// The client sent no acceptable TLS.
    HandshakeFailed,
    /// The client closed before the handshake was done.
    HandshakeClosed,
    /// No site system on this address has the requested name.
    NameUnknown,
    /// The site system has no fit certificate.
    NoCertificate,
}

impl ConnectionEnd {
    /// Every end, in the order of the documentation.
    pub const ALL: [ConnectionEnd; 10] = [
        ConnectionEnd::AcceptFailed,
        ConnectionEnd::TooMany,
        ConnectionEnd::TooManyOfAddress,
        ConnectionEnd::HandshakeTime,
        ConnectionEnd::ProxyHeader,
        ConnectionEnd::HandshakeAlert,
        ConnectionEnd::HandshakeFailed,
        ConnectionEnd::HandshakeClosed,
        ConnectionEnd::NameUnknown,
        ConnectionEnd::NoCertificate,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionEnd::AcceptFailed => "accept_failed",
            ConnectionEnd::TooMany => "too_many",
            ConnectionEnd::TooManyOfAddress => "too_many_of_address",
            ConnectionEnd::HandshakeTime => "handshake_time",
            ConnectionEnd::ProxyHeader => "proxy_header",
            ConnectionEnd::HandshakeAlert => "handshake_alert",
            ConnectionEnd::HandshakeFailed => "handshake_failed",
            ConnectionEnd::HandshakeClosed => "handshake_closed",
            ConnectionEnd::NameUnknown => "name_unknown",
            ConnectionEnd::NoCertificate => "no_certificate",
        }
    }
}

/// The metrics of client connections.
pub struct ConnectionMetrics {
    open: IntGauge,
    total: IntCounter,
    ends: Vec<IntCounter>,
    handshakes: IntCounterVec,
}

impl ConnectionMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        let ends = r.counters(
            "connection_ends_total",
            "Connections that ended before they carried a request, by reason.",
            &["reason"],
        )?;
        Ok(ConnectionMetrics {
            open: r.int_gauge("connections", "Client connections that are open.")?,
            total: r.counter("connections_total", "Client connections accepted.")?,
            ends: ConnectionEnd::ALL
                .iter()
                .map(|e| ends.with_label_values(&[e.as_str()]))
                .collect(),
            handshakes: r.counters(
                "tls_handshakes_total",
                "TLS handshakes completed, by protocol version and cipher suite.",
                &["version", "cipher"],
            )?,
        })
    }

    /// Counts an accepted connection; it is open until the guard is dropped.
    pub fn opened(&self) -> Counted<'_> {
        self.total.inc();
        Counted::new(&self.open)
    }

    /// Counts a connection that ended before it carried a request.
    pub fn ended(&self, end: ConnectionEnd) {
        if let Some(counter) = self.ends.get(end as usize) {
            counter.inc();
        }
    }

    /// Counts a completed handshake. Both values come from rustls' closed lists.
    pub fn handshake_done(&self, version: &'static str, cipher: &'static str) {
        self.handshakes.with_label_values(&[version, cipher]).inc();
    }

    pub(super) fn handshakes_in_all(&self) -> u64 {
        totals::sum(&self.handshakes)
    }
}
