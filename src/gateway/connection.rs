//! A connection to a backend: TCP or a unix socket, as it is or under TLS. Whoever reads answers from
//! it sees bytes and not which of these it is.
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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend_health::BackendHealth;
use crate::denial::Denial;

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// TLS to a backend: whom to trust, and the name that its certificate must have.
#[derive(Clone, Debug)]
pub struct BackendTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// What its connections are known by: those that were made by other roots, or to another name,
    /// are not its own, so none of them outlives a reload.
    serial: u64,
}

impl BackendTls {
    /// By this configuration, to a certificate of this name.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        BackendTls { config, name, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Connections with the same one may stand for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) address: Address,
    tls: Option<u64>,
}

impl Peer {
    pub(super) fn new(address: Address, tls: Option<&BackendTls>) -> Self {
        Peer { address, tls: tls.map(|tls| tls.serial) }
    }
}

/// One address of a backend, as a request has it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) peer: Peer,
    /// `None` for a service of this process.
    pub(super) health: Option<Arc<BackendHealth>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    /// Nobody there, or nobody who speaks TLS.
    #[error("{0}")]
    Unreachable(io::Error),
    /// Not in time.
    #[error("no connection in time")]
    TimedOut,
    /// A certificate of somebody else, or of nobody who is trusted.
    #[error("{0}")]
    Certificate(io::Error),
}

impl NoConnection {
    /// Whether this machine gives no connection: it lacks descriptors, ports or memory, and the backend
    /// was not asked.
    pub(super) fn is_our_own(&self) -> bool {
        use rustix::io::Errno;
        const OWN: [Errno; 5] =
            [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        let NoConnection::Unreachable(error) = self else { return false };
        OWN.iter().any(|own| error.raw_os_error() == Some(own.raw_os_error()))
    }

    /// What becomes of the request.
    pub(super) fn denial(&self) -> Denial {
        match self {
            NoConnection::Unreachable(_) => Denial::UpstreamUnreachable,
            NoConnection::TimedOut => Denial::UpstreamTimeout,
            NoConnection::Certificate(_) => Denial::UpstreamCertificate,
        }
    }
}

/// Connect. TCP has this time, and TLS has it once more.
pub(super) async fn connect(
    address: &Address,
    tls: Option<&BackendTls>,
    time: Duration,
) -> Result<Stream, NoConnection> {
    let late = |_| NoConnection::TimedOut;
    let socket = timeout(time, Socket::connect(address)).await.map_err(late)?;
    let socket = socket.map_err(NoConnection::Unreachable)?;
    let Some(tls) = tls else { return Ok(Stream::Plain(socket)) };
    let connector = TlsConnector::from(tls.config.clone());
    let shaken = timeout(time, connector.connect(tls.name.clone(), socket)).await.map_err(late)?;
    match shaken {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) if is_about_certificate(&error) => Err(NoConnection::Certificate(error)),
        Err(error) => Err(NoConnection::Unreachable(error)),
    }
}

/// Whether a handshake failed over the backend's certificate rather than over anything else.
fn is_about_certificate(error: &io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(InvalidCertificate(_) | NoCertificatesPresented))
}

/// A transport.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn connect(address: &Address) -> io::Result<Socket> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Without it a small request may wait for a moment; it goes all the same.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(stream) => {
                // TLS may hold the end of a request back, and who waits for its answer does not
                // write any more. A failure is no answer's end: what came before it is read.
                let _ = Pin::new(&mut **stream).poll_flush(cx);
                Pin::new(&mut **stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
