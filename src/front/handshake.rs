//! The TLS handshake: from an accepted socket to TLS with the site system that the ClientHello
//! names.
//!
//! An alert reports an unknown name or a site system without a certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::process_state::{Each, ProcessState};
use super::state::{ConnInfo, ConnState};
use super::tcp::Tcp;
use crate::client::Presented;
use crate::metrics::ConnectionEnd;

/// The content type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The most bytes of a plaintext record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The connection, its site system, and whether that is the default because no name matched.
type Shaken = (TlsStream<Tcp>, Arc<str>, bool);

/// The most bytes of a ClientHello to wait for. The usual ones are shorter.
const HELLO_BYTES: usize = 4096;

/// Waits for the first complete TLS record, for bytes that cannot be one, or for the client's
/// close. The bytes are read, not peeked at: where readiness is level-triggered (Windows), a partial
/// record that stays in the kernel would wake its task all the time.
pub(super) async fn first_record(stream: TcpStream) -> Tcp {
    let mut hello = Vec::new();
    while stream.readable().await.is_ok() {
        let mut piece = [0; HELLO_BYTES];
        let room = piece.get_mut(hello.len()..).unwrap_or_default();
        match stream.try_read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // The next read reports the end or the error again.
            Ok(0) | Err(_) => break,
            Ok(read) => hello.extend_from_slice(room.get(..read).unwrap_or_default()),
        }
        if !is_partial(&hello) {
            break;
        }
    }
    Tcp::after(stream, hello)
}

/// Whether more bytes are needed for the first TLS record.
fn is_partial(hello: &[u8]) -> bool {
    match hello {
        [HANDSHAKE, _, _, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            length <= RECORD_BYTES_MAX && hello.len() < HELLO_BYTES && rest.len() < length
        }
        [first, rest @ ..] => *first == HANDSHAKE && rest.len() < 4,
        [] => false,
    }
}

pub(super) async fn handshake<A>(io: Tcp, each: &Each<A>) -> Result<Shaken, ConnectionEnd> {
    let shared = &each.shared;
    let bindings = shared.bindings.load();
    let binding =
        bindings.iter().find(|b| b.listen == each.configured).ok_or(ConnectionEnd::NameUnknown)?;
    if let [door] = binding.doors.as_slice() {
        // With one site system the ClientHello need not be read in advance.
        let Some(config) = (door.tls)() else {
            let _ = TlsAcceptor::from(shared.refuse_tls.clone()).accept(io).await;
            return Err(ConnectionEnd::NoCertificate);
        };
        let tls = TlsAcceptor::from(config).accept(io).await.map_err(|error| failed(&error))?;
        let by_default =
            binding.pick(tls.get_ref().1.server_name()).is_none_or(|picked| picked.by_default);
        return Ok((tls, door.site.clone(), by_default));
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(|e| failed(&e))?;
    let picked = binding.pick(start.client_hello().server_name());
    let config = picked.as_ref().and_then(|picked| (picked.door.tls)());
    match (picked, config) {
        (Some(picked), Some(config)) => {
            let (site, by_default) = (picked.door.site.clone(), picked.by_default);
            let tls = start.into_stream(config).await.map_err(|error| failed(&error))?;
            Ok((tls, site, by_default))
        }
        (picked, _) => {
            // Completes with an alert, so that the client learns of the refusal.
            let _ = start.into_stream(shared.refuse_tls.clone()).await;
            Err(match picked {
                Some(_) => ConnectionEnd::NoCertificate,
                None => ConnectionEnd::NameUnknown,
            })
        }
    }
}

fn failed(error: &io::Error) -> ConnectionEnd {
    tracing::debug!(%error, "a handshake failed");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(_)) => ConnectionEnd::HandshakeAlert,
        Some(_) => ConnectionEnd::HandshakeFailed,
        None => ConnectionEnd::HandshakeClosed,
    }
}

pub(super) fn describe(
    tls: &TlsStream<Tcp>,
    site: Arc<str>,
    by_default: bool,
    peer: SocketAddr,
    local: SocketAddr,
    shared: &ProcessState,
) -> Option<ConnInfo> {
    let session = tls.get_ref().1;
    let peer_ip = HeaderValue::from_str(&peer.ip().to_canonical().to_string()).ok()?;
    Some(ConnInfo {
        id: shared.next_id.fetch_add(1, Ordering::Relaxed),
        site,
        sni: session.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str()),
        by_default,
        peer,
        peer_ip,
        local,
        clear: None,
        tls_version: session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown"),
        cipher: session.negotiated_cipher_suite().and_then(|c| c.suite().as_str()).unwrap_or(""),
        certificate: session.peer_certificates().and_then(Presented::of),
        state: Arc::new(ConnState::default()),
    })
}

/// Describes a connection to a plain-HTTP address. It starts with the address's default or first
/// site system: the Host of each request selects the right one.
pub(super) fn in_clear<A>(each: &Each<A>, peer: SocketAddr, local: SocketAddr) -> Option<ConnInfo> {
    let bindings = each.shared.bindings.load();
    let binding = bindings.iter().find(|binding| binding.listen == each.configured)?;
    let door = binding.default.and_then(|n| binding.doors.get(n)).or(binding.doors.first())?;
    Some(ConnInfo {
        id: each.shared.next_id.fetch_add(1, Ordering::Relaxed),
        site: door.site.clone(),
        sni: None,
        by_default: true,
        peer,
        peer_ip: HeaderValue::from_str(&peer.ip().to_canonical().to_string()).ok()?,
        local,
        clear: Some(each.configured),
        tls_version: "none",
        cipher: "",
        certificate: None,
        state: Arc::new(ConnState::default()),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Sends `pieces` one after another, and `rest` once the wait has ended. Returns what the wait
    /// received, and all that a reader gets.
    async fn received(pieces: &[&[u8]], rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let waiting = tokio::spawn(first_record(stream));
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut stream = waiting.await.unwrap();
        let left = stream.received().to_vec();
        client.write_all(rest).await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        (left, all)
    }

    #[tokio::test]
    async fn a_record_in_pieces_is_received_whole() {
        let record = [&[HANDSHAKE, 3, 1, 1, 0][..], &[7; 256]].concat();
        let pieces: Vec<&[u8]> = record.chunks(50).collect();
        let (left, all) = received(&pieces, b"next").await;
        assert_eq!((left, all), (record.clone(), [&record[..], b"next"].concat()));
    }

    #[tokio::test]
    async fn bytes_that_are_no_record_are_not_waited_for() {
        let (left, all) = received(&[b"GET"], b" / HTTP/1.1").await;
        assert_eq!((&left[..], &all[..]), (&b"GET"[..], &b"GET / HTTP/1.1"[..]));
    }

    #[test]
    fn only_the_beginning_of_a_record_is_partial() {
        let begun = |length: u16| [&[HANDSHAKE, 3, 1][..], &length.to_be_bytes()].concat();
        for (bytes, partial) in [
            (&[][..], false),
            (&[HANDSHAKE][..], true),
            (&[HANDSHAKE, 3, 1, 0][..], true),
            (&begun(1), true),
            (&[&begun(1)[..], &[0]].concat(), false),
            (&begun(u16::MAX), false),
            (&[&begun(16_000)[..], &[0; HELLO_BYTES - 6]].concat(), true),
            (&[&begun(16_000)[..], &[0; HELLO_BYTES - 5]].concat(), false),
            (b"\x80\x2e\x01\x03", false),
        ] {
            assert_eq!(is_partial(bytes), partial, "{} bytes", bytes.len());
        }
    }
}
