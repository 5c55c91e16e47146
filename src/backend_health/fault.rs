//! Why a backend address is down: the metric label, the code in the log, and the remedy.

use crate::denial::Denial;

/// Why an address is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// No connection.
    Unreachable,
    /// No connection, or no response, in time.
    Timeout,
    /// Its certificate is not trusted.
    Certificate,
    /// It rejects sitegate's own account.
    Credentials,
    /// It sends an ambiguous response.
    Response,
    /// It closes connections before it has responded.
    Closed,
    /// It responds with 502, 503 or 504: the server behind it fails (RFC 9110 §15.6).
    Unavailable,
}

impl BackendFault {
    /// Every fault, in the order of the documentation.
    pub const ALL: [BackendFault; 7] = [
        BackendFault::Unreachable,
        BackendFault::Timeout,
        BackendFault::Certificate,
        BackendFault::Credentials,
        BackendFault::Response,
        BackendFault::Closed,
        BackendFault::Unavailable,
    ];

    /// The label of metrics, and the code in log and status: that of the denial that clients
    /// receive, unless they receive the backend's own response.
    pub fn code(self) -> &'static str {
        match self {
            BackendFault::Unreachable => Denial::UpstreamUnreachable.code(),
            BackendFault::Timeout => Denial::UpstreamTimeout.code(),
            BackendFault::Certificate => Denial::UpstreamCertificate.code(),
            BackendFault::Credentials => Denial::UpstreamCredentials.code(),
            BackendFault::Response => Denial::UpstreamResponse.code(),
            BackendFault::Closed => Denial::UpstreamClosed.code(),
            BackendFault::Unavailable => "upstream.unavailable",
        }
    }

    /// The backend fault behind a denial, if there is one.
    pub fn of(denial: Denial) -> Option<Self> {
        match denial {
            Denial::UpstreamUnreachable => Some(BackendFault::Unreachable),
            Denial::UpstreamTimeout => Some(BackendFault::Timeout),
            Denial::UpstreamCertificate => Some(BackendFault::Certificate),
            Denial::UpstreamCredentials => Some(BackendFault::Credentials),
            Denial::UpstreamResponse => Some(BackendFault::Response),
            Denial::UpstreamClosed => Some(BackendFault::Closed),
            _ => None,
        }
    }

    /// How an operator fixes it.
    pub fn hint(self) -> &'static str {
        match self {
            BackendFault::Unreachable => {
                "is the service running, and does it listen on this address and port?"
            }
            BackendFault::Timeout => {
                "is the server overloaded, or does a firewall drop packets to it?"
            }
            BackendFault::Certificate => {
                "does its certificate have the name in `backend`, and does `backend_ca` name its issuer?"
            }
            BackendFault::Credentials => "is the account in `backend_auth` right, and not locked?",
            BackendFault::Response => "`sitegate doctor` tests it and shows its responses",
            BackendFault::Closed => "its own log says why it ends connections",
            BackendFault::Unavailable => {
                "in IIS, the application pool has most likely stopped; its own log says why"
            }
        }
    }
}
