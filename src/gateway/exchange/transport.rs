//! A connection to a backend: TCP, a Unix socket or a service of this process, with or without TLS.
//! Its readers see one byte stream.
//!
//! Knows nothing of HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::backend_health::BackendHealth;
use crate::denial::Denial;
use crate::local_service::LocalService;
use crate::os;

/// The address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) enum Address {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
    Local(LocalService),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
            Address::Local(service) => service.fmt(f),
        }
    }
}

/// TLS to a backend: the trusted roots, and the name that its certificate must have.
#[derive(Clone, Debug)]
pub struct BackendTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Identifies its connections. Connections made with other roots or to another name have
    /// another serial, so none of them is reused after a reload.
    serial: u64,
}

impl BackendTls {
    /// Creates it with this configuration, for a certificate with this name.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        BackendTls { config, name, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }
}

/// The pool key. Connections with equal keys are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct Peer {
    pub(super) address: Address,
    tls: Option<u64>,
}

impl Peer {
    pub(in crate::gateway) fn new(address: Address, tls: Option<&BackendTls>) -> Self {
        Peer { address, tls: tls.map(|tls| tls.serial) }
    }
}

/// One address of a backend, for one request.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct ConnectTarget {
    pub(in crate::gateway) peer: Peer,
    /// `None` for a service of this process.
    pub(in crate::gateway) health: Option<Arc<BackendHealth>>,
}

/// The reason of a failed connect.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    /// No listener, or no TLS there.
    #[error("{0}")]
    Unreachable(io::Error),
    /// No connection in time.
    #[error("no connection in time")]
    TimedOut,
    /// A certificate for another name, or one that is not trusted.
    #[error("{0}")]
    Certificate(io::Error),
}

impl NoConnection {
    /// Checks whether this machine is at fault: it lacks descriptors, ports or memory, and the
    /// backend was not contacted.
    pub(super) fn is_our_own(&self) -> bool {
        matches!(self, NoConnection::Unreachable(error) if os::is_exhausted(error))
    }

    /// Returns the denial for the request.
    pub(super) fn denial(&self) -> Denial {
        match self {
            NoConnection::Unreachable(_) => Denial::UpstreamUnreachable,
            NoConnection::TimedOut => Denial::UpstreamTimeout,
            NoConnection::Certificate(_) => Denial::UpstreamCertificate,
        }
    }
}

/// Connects. `time` limits TCP and TLS each.
pub(super) async fn connect(
    address: &Address,
    tls: Option<&BackendTls>,
    time: Duration,
) -> Result<Stream, NoConnection> {
    let late = |_| NoConnection::TimedOut;
    let socket = timeout(time, open(address)).await.map_err(late)?;
    let socket = socket.map_err(NoConnection::Unreachable)?;
    let Some(tls) = tls else { return Ok(Either::Left(socket)) };
    let connector = TlsConnector::from(tls.config.clone());
    let shaken = timeout(time, connector.connect(tls.name.clone(), socket)).await.map_err(late)?;
    match shaken {
        Ok(stream) => Ok(Either::Right(OverTls(Box::new(stream)))),
        Err(error) if is_about_certificate(&error) => Err(NoConnection::Certificate(error)),
        Err(error) => Err(NoConnection::Unreachable(error)),
    }
}

/// Checks whether a handshake failed because of the backend's certificate.
fn is_about_certificate(error: &io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(InvalidCertificate(_) | NoCertificatesPresented))
}

/// A transport.
type Socket = Either<TcpStream, Either<os::LocalStream, DuplexStream>>;

async fn open(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            // Without TCP_NODELAY a small request may be delayed, but it is still sent.
            let _ = stream.set_nodelay(true);
            Ok(Either::Left(stream))
        }
        Address::Unix(path) => Ok(Either::Right(Either::Left(os::connect_local(path).await?))),
        Address::Local(service) => Ok(Either::Right(Either::Right(service.connect().await?))),
    }
}

/// A connection.
pub(in crate::gateway) type Stream = Either<Socket, OverTls>;

/// A connection with TLS. Reading flushes it: TLS may buffer the end of a request, and nothing
/// flushes it after the last write.
#[derive(Debug)]
pub(in crate::gateway) struct OverTls(Box<TlsStream<Socket>>);

impl AsyncRead for OverTls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A flush error does not end the response: bytes that arrived before it are still read.
        let _ = Pin::new(&mut self.0).poll_flush(cx);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for OverTls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
