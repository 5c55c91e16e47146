//! Backends: where they are, and how long they are waited for.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::secret::PasswordSource;

/// Where the requests of a site system go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// As configured, for logs.
    pub url: String,
    /// The address.
    pub address: BackendAddress,
    /// The name in its certificate; `None` for plain HTTP.
    pub tls_name: Option<ServerName<'static>>,
    /// The roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Where the account is that sitegate asks it with, if it has one of its own.
    pub auth: Option<PasswordSource>,
    /// How long to wait for what.
    pub times: BackendTimes,
    /// Idle connections kept, for each shard.
    pub connections: usize,
}

/// The address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendAddress {
    /// A host name or IP address, and a port.
    Host(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BackendAddress::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            BackendAddress::Host(host, port) => write!(f, "{host}:{port}"),
            BackendAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// How long to wait for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTimes {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to begin, and between its parts.
    pub answer: Duration,
    /// How long an idle connection is kept: less than the backend keeps it.
    pub idle: Duration,
    /// For anything to come from it over a WebSocket, its answer to the request included.
    pub websocket: Duration,
}
