//! The backend as pingora's peer, and pingora's errors as denials.
//!
//! Every wait has an end: no timeout is left to a default. pingora connects to nothing by itself.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::{Error, ErrorSource, ErrorType};

use super::connection::Address;
use super::policy::Upstream;
use super::witness::Connector;
use crate::denial::Denial;

/// The peer to which `connector` connects. `answer_time` is the route's own patience, where that is
/// longer than the backend's; a WebSocket has another.
pub(super) fn peer(
    connector: Connector,
    upstream: &Upstream,
    answer_time: Option<Duration>,
    websocket: bool,
) -> Box<HttpPeer> {
    // Whoever connects knows where to; pingora only needs something to call it by.
    let address = match connector.target.peer.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    let mut peer = HttpPeer::new(address, false, String::new());
    let times = upstream.times;
    let options = &mut peer.options;
    options.custom_l4 = Some(Arc::new(connector));
    options.connection_timeout = Some(times.connect);
    options.total_connection_timeout = Some(times.connect * 2);
    let answer = match websocket {
        true => times.websocket,
        false => times.answer.max(answer_time.unwrap_or_default()),
    };
    options.read_timeout = Some(answer);
    options.write_timeout = Some(times.answer);
    // Each is for one request; what may serve another waits elsewhere.
    options.idle_timeout = Some(Duration::ZERO);
    options.alpn = ALPN::H1;
    options.http_upstream_request_policy = match websocket {
        true => HttpUpstreamRequestPolicy::standard(),
        false => HttpUpstreamRequestPolicy::deny_upgrades(),
    };
    Box::new(peer)
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
        ConnectTimedout | ReadTimedout | WriteTimedout => Denial::UpstreamTimeout,
        InvalidCert => Denial::UpstreamCertificate,
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
