//! The backend as pingora's peer, and pingora's errors as denials.
//!
//! Every wait has an end: no timeout is left to a default.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use pingora_core::{Error, ErrorSource, ErrorType};

use super::policy::Upstream;
use crate::denial::Denial;

/// Roots for an https backend, from DER. Certificates that are none are left out.
pub fn roots(ders: Vec<Vec<u8>>) -> Option<Arc<CaType>> {
    let sound = |der: &Vec<u8>| {
        rustls::RootCertStore::empty().add(der.as_slice().into()).is_ok()
            && x509_parser::parse_x509_certificate(der).is_ok()
    };
    let roots: Box<[WrappedX509]> =
        ders.into_iter().filter(sound).map(|der| WrappedX509::new(der, parse_x509)).collect();
    (!roots.is_empty()).then(|| roots.into())
}

/// The peer for one attempt. `group` keeps connections with another number apart; 0 shares.
/// `answer_time` is the route's own patience, where that is longer than the backend's; a WebSocket
/// has another.
///
/// # Errors
/// [`Denial::UpstreamUnreachable`] while the backend's name does not resolve.
pub(super) fn peer(
    upstream: &Upstream,
    group: u64,
    attempt: usize,
    answer_time: Option<Duration>,
    websocket: bool,
) -> Result<Box<HttpPeer>, Denial> {
    let (tls, sni) = match &upstream.tls_name {
        Some(name) => (true, name.clone()),
        None => (false, String::new()),
    };
    let mut peer = match &upstream.unix {
        Some(path) => HttpPeer::new_uds(path, tls, sni).map_err(|_| Denial::UpstreamUnreachable)?,
        None => {
            let address = upstream.addresses.peek(|all| match all.len() {
                0 => None,
                n => all.get(attempt % n).copied(),
            });
            HttpPeer::new(address.ok_or(Denial::UpstreamUnreachable)?, tls, sni)
        }
    };
    peer.group_key = group;
    let times = upstream.times;
    let options = &mut peer.options;
    options.connection_timeout = Some(times.connect);
    options.total_connection_timeout = Some(times.connect * 2);
    let answer = match websocket {
        true => times.websocket,
        false => times.answer.max(answer_time.unwrap_or_default()),
    };
    options.read_timeout = Some(answer);
    options.write_timeout = Some(times.answer);
    // A connection that might have become a WebSocket is for no other request.
    options.idle_timeout = Some(if websocket { Duration::ZERO } else { times.idle });
    options.alpn = ALPN::H1;
    options.verify_cert = true;
    options.verify_hostname = true;
    options.ca = upstream.ca.clone();
    options.http_upstream_request_policy = match websocket {
        true => HttpUpstreamRequestPolicy::standard(),
        false => HttpUpstreamRequestPolicy::deny_upgrades(),
    };
    Ok(Box::new(peer))
}

/// The denial that a failure of pingora's means, or `None` if the client itself is gone.
pub(super) fn denial_of(error: &Error) -> Option<Denial> {
    use ErrorType::*;
    if *error.esource() == ErrorSource::Downstream {
        return match error.etype() {
            // H2Downgrade: the client was told to come again with HTTP/1.1.
            ReadError | WriteError | ConnectionClosed | ReadTimedout | WriteTimedout | H2Error
            | H2Downgrade => None,
            _ => Some(Denial::FramingHead),
        };
    }
    if *error.esource() != ErrorSource::Upstream && !is_connect(error.etype()) {
        return Some(Denial::GatewayInternal);
    }
    Some(match error.etype() {
        ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout => {
            Denial::UpstreamTimeout
        }
        InvalidCert => Denial::UpstreamCertificate,
        TLSHandshakeFailure if about_certificate(error) => Denial::UpstreamCertificate,
        ReadError if caused_by(error, ErrorKind::InvalidData) => Denial::UpstreamResponse,
        ReadError if caused_by(error, ErrorKind::TimedOut) => Denial::UpstreamTimeout,
        ConnectionClosed | ReadError | WriteError => Denial::UpstreamClosed,
        etype if is_connect(etype) => Denial::UpstreamUnreachable,
        _ => Denial::UpstreamResponse,
    })
}

fn is_connect(etype: &ErrorType) -> bool {
    use ErrorType::*;
    matches!(
        etype,
        ConnectError
            | ConnectTimedout
            | ConnectRefused
            | ConnectNoRoute
            | TLSHandshakeFailure
            | TLSHandshakeTimedout
            | InvalidCert
            | SocketError
            | BindError
    )
}

/// Whether the connection itself said this: it judges answers and waits for requests.
fn caused_by(error: &Error, kind: ErrorKind) -> bool {
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == kind)
}

/// Whether a handshake failed over the certificate rather than over anything else. pingora keeps
/// rustls' words and drops its error.
fn about_certificate(error: &Error) -> bool {
    error.context.as_ref().is_some_and(|context| context.as_str().contains("peer certificate"))
}
