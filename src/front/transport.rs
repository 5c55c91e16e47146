//! The transport of a connection: TLS, or bare TCP on a plain-HTTP address.

use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::tcp::Tcp;

/// The transport of one connection.
pub(super) type Transport = Either<TlsStream<Tcp>, Tcp>;

/// Returns the socket below it.
pub(super) fn tcp(transport: &Transport) -> &Tcp {
    match transport {
        Either::Left(tls) => tls.get_ref().0,
        Either::Right(tcp) => tcp,
    }
}

/// Checks whether HTTP/2 was negotiated, which requires TLS.
pub(super) fn is_http2(transport: &Transport) -> bool {
    match transport {
        Either::Left(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        Either::Right(_) => false,
    }
}

/// Sets the size of the send buffer. Without TLS only the system buffers.
pub(super) fn set_buffer_limit(transport: &mut Transport, bytes: usize) {
    if let Either::Left(tls) = transport {
        tls.get_mut().1.set_buffer_limit(Some(bytes));
    }
}
