//! Resolved backends: their addresses, TLS trust, and timeouts.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::secret::PasswordSource;

/// A backend of a site system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// As configured, for logs.
    pub url: String,
    /// The address.
    pub address: BackendAddress,
    /// The name in its certificate; `None` for plain HTTP.
    pub tls_name: Option<ServerName<'static>>,
    /// The roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The source of the account for authentication to the backend, if configured.
    pub auth: Option<PasswordSource>,
    /// Its timeouts.
    pub times: BackendTimes,
    /// The most idle connections in the pool of each shard.
    pub connections: usize,
    /// The most requests in flight; `None` leaves room for other backends.
    pub requests: Option<usize>,
}

/// The address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendAddress {
    /// A host name or IP address, and a port.
    Host(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
    /// The site server of this process.
    SiteServer,
}

impl std::fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BackendAddress::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            BackendAddress::Host(host, port) => write!(f, "{host}:{port}"),
            BackendAddress::Unix(path) => path.display().fmt(f),
            BackendAddress::SiteServer => f.write_str("the site server"),
        }
    }
}

/// The timeouts of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTimes {
    /// Of a connection attempt.
    pub connect: Duration,
    /// Until the response begins, and between its parts.
    pub answer: Duration,
    /// How long an idle connection is kept: less than the backend keeps it.
    pub idle: Duration,
    /// The idle timeout for data from the backend over a WebSocket, its response to the upgrade
    /// request included.
    pub websocket: Duration,
}
