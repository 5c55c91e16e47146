//! The metric labels of connections that end without a request.

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
