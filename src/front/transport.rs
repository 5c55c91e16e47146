//! What the bytes of a connection travel by: TLS, or nothing where an address is one of plain HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::tcp::Tcp;

/// The transport of one connection.
#[expect(clippy::large_enum_variant, reason = "nearly all are TLS, and a box would cost those")]
pub(super) enum Transport {
    Tls(TlsStream<Tcp>),
    Clear(Tcp),
}

impl Transport {
    /// The socket below it.
    pub(super) fn tcp(&self) -> &Tcp {
        match self {
            Transport::Tls(tls) => tls.get_ref().0,
            Transport::Clear(tcp) => tcp,
        }
    }

    /// Whether HTTP/2 was agreed on, which takes TLS.
    pub(super) fn is_http2(&self) -> bool {
        match self {
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
            Transport::Clear(_) => false,
        }
    }

    /// Hold up to that much of what is sent; without TLS it is the system alone that holds it.
    pub(super) fn set_buffer_limit(&mut self, bytes: usize) {
        if let Transport::Tls(tls) = self {
            tls.get_mut().1.set_buffer_limit(Some(bytes));
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, out),
            Transport::Clear(tcp) => Pin::new(tcp).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Transport::Clear(tcp) => Pin::new(tcp).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Transport::Clear(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Transport::Clear(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
