//! From an accepted socket to TLS with the site system that its ClientHello asks for.
//!
//! A name that nobody here has, and a site system without a certificate, are told by an alert.

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

use super::open::Each;
use super::shard::Shared;
use super::state::{ConnInfo, ConnState};
use super::tcp::Tcp;
use crate::client::Presented;
use crate::metrics::ConnectionEnd;

/// The kind of a record that a hello comes in (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What a record in clear holds at most.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The connection, the site system that it is for, and whether that was picked for want of a name.
type Shaken = (TlsStream<Tcp>, Arc<str>, bool);

/// As much of a hello as is waited for: the usual ones are shorter.
const HELLO_BYTES: usize = 4096;

/// Wait until the first record of TLS is there, or what cannot be one, or the client's end. Nothing
/// is taken: what is not whole stays with the system, where it costs us no memory.
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
        // To the runtime: nothing is there until more comes.
        if partly { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    };
    // Whatever else is wrong with the connection is found by whoever reads it.
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
        // Nothing to choose: spare the second look at the ClientHello.
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
            // Completes with an alert, so that the client learns that it was refused.
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
    (peer, local): (SocketAddr, SocketAddr),
    shared: &Shared,
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

/// A connection to an address of plain HTTP. It begins as the first site system's there: which one is
/// meant is said by the Host of each request.
pub(super) fn in_clear<A>(
    each: &Each<A>,
    (peer, local): (SocketAddr, SocketAddr),
) -> Option<ConnInfo> {
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
