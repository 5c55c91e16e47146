//! Why connections end that carry no request: the labels of a metric.

/// Why a connection ended before it carried a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The system gave no connection (no descriptors, say).
    AcceptFailed,
    /// The limit of connections was reached.
    TooMany,
    /// The limit of connections of one address was reached.
    TooManyOfAddress,
    /// The handshake took too long.
    HandshakeTime,
    /// A load balancer did not say whose connection it is.
    ProxyHeader,
    /// The client sent an alert: it does not accept what it was shown.
    HandshakeAlert,
    /// What the client sent is no acceptable TLS.
    HandshakeFailed,
    /// The client closed before the handshake was done.
    HandshakeClosed,
    /// No site system on this address has the name that was asked for.
    NameUnknown,
    /// The site system has no certificate that is fit.
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
