//! The facts and the state of a connection, shared between the stream, which enforces the
//! deadlines, and the session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use http::HeaderValue;

use crate::client::Presented;

/// The facts of a connection after its handshake.
#[derive(Debug)]
pub struct ConnInfo {
    /// Unique in this process.
    pub id: u64,
    /// The configured name of the site system that this connection is for.
    pub site: Arc<str>,
    /// The SNI of the client, lower case.
    pub sni: Option<Box<str>>,
    /// Whether the site system is the default, because SNI named no known host.
    pub by_default: bool,
    /// The client's address.
    pub peer: SocketAddr,
    /// The client's IP address as a header value.
    pub peer_ip: HeaderValue,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The configured plain-HTTP address that the connection came to; `None` for TLS.
    pub clear: Option<SocketAddr>,
    /// `TLSv1.2` or `TLSv1.3`; `none` on a plain-HTTP address.
    pub tls_version: &'static str,
    /// The cipher suite's IANA name; empty on a plain-HTTP address.
    pub cipher: &'static str,
    /// The client's certificate, if any. The handshake proved its key; nothing else is judged.
    pub certificate: Option<Presented>,
    /// The state, shared with the session.
    pub state: Arc<ConnState>,
}

/// The reason why the gateway cut off a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// It did not.
    No = 0,
    /// The request head took too long.
    HeaderTime,
    /// The request head grew too large.
    HeaderBytes,
    /// The request body came too slowly.
    BodyRate,
    /// The client read nothing of the response.
    SendStall,
}

/// Receives a connection on which requests were refused before their head was complete, and a
/// summary of the errors.
pub(super) type OnRefusal = Arc<dyn Fn(&ConnInfo, &str) + Send + Sync>;

/// The state of a connection. It tells the stream which deadline applies.
#[derive(Debug, Default)]
pub struct ConnState {
    phase: AtomicU8,
    streams: AtomicU32,
    /// The number of requests so far. It distinguishes two requests in the same phase.
    requests: AtomicU32,
    cut: AtomicU8,
    /// Bytes buffered in memory for it.
    pub held: AtomicUsize,
}

/// The phase of a connection, which selects its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No request is in flight.
    Idle = 0,
    /// A request head has begun.
    Head,
    /// A request body is being received.
    Body,
    /// The client has sent its request and waits for the response.
    Answer,
}

impl ConnState {
    /// A request head was read. The request is in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>, body_expected: bool) -> InFlight {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let phase = if body_expected { Phase::Body } else { Phase::Answer };
        self.set_phase(phase);
        InFlight(self.clone())
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Head,
            2 => Phase::Body,
            3 => Phase::Answer,
            _ => Phase::Idle,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Checks whether a request is in flight; for HTTP/2, which may have several.
    pub(super) fn is_busy(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn set_cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::Relaxed);
    }

    /// Returns the reason why the client was cut off.
    pub fn cut(&self) -> Cut {
        match self.cut.load(Ordering::Relaxed) {
            1 => Cut::HeaderTime,
            2 => Cut::HeaderBytes,
            3 => Cut::BodyRate,
            4 => Cut::SendStall,
            _ => Cut::No,
        }
    }
}

/// A request in flight on a connection.
#[derive(Debug)]
pub struct InFlight(Arc<ConnState>);

impl InFlight {
    /// The whole request body was read: from now on the client waits, not the gateway.
    pub fn body_done(&self) {
        self.0.set_phase(Phase::Answer);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set_phase(Phase::Idle);
        }
    }
}
