//! The TLS handshake: from an accepted socket to TLS with the site system that the ClientHello
//! names.
//!
//! An alert reports an unknown name or a site system without a certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use rustix::net::RecvFlags;
use rustls::server::Acceptor;
use tokio::io::Interest;
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
/// close. Reads nothing: an incomplete record stays in the kernel and costs no memory here.
pub(super) async fn hello_came(stream: &TcpStream) {
    let whole = || {
        let mut buffer = [0; HELLO_BYTES];
        let (_, there) = rustix::net::recv(stream, &mut buffer[..], RecvFlags::PEEK)?;
        let partly = match buffer.get(..there).unwrap_or_default() {
            [HANDSHAKE, _, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                length <= RECORD_BYTES_MAX && there < HELLO_BYTES && rest.len() < length
            }
            [first, rest @ ..] => *first == HANDSHAKE && rest.len() < 4,
            [] => false,
        };
        // Tell the runtime that the socket is not ready until more bytes arrive.
        if partly { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    };
    // The next read reports any other error of the connection.
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        match stream.try_io(Interest::READABLE, whole) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

pub(super) async fn handshake<A>(
    stream: TcpStream,
    each: &Each<A>,
) -> Result<Shaken, ConnectionEnd> {
    let shared = &each.shared;
    let bindings = shared.bindings.load();
    let binding =
        bindings.iter().find(|b| b.listen == each.configured).ok_or(ConnectionEnd::NameUnknown)?;
    let io = Tcp::new(stream);
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
