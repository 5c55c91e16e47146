//! What is known of a connection, and what is under way on it: shared between the stream, which keeps
//! the deadlines, and whoever handles the requests.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;

use super::watch::RequestWatch;
use crate::client::Presented;
use crate::denial::Denial;

/// What is known of a connection once its handshake is done.
#[derive(Debug)]
pub struct ConnInfo {
    /// Unique in this process.
    pub id: u64,
    /// The configured name of the site system that this connection is for.
    pub site: Arc<str>,
    /// The server name that the client asked for, lower case.
    pub sni: Option<Box<str>>,
    /// Whether the site system was picked for want of a known name.
    pub by_default: bool,
    /// The client's address.
    pub peer: SocketAddr,
    /// The client's IP address as a header value.
    pub peer_ip: HeaderValue,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The configured address of plain HTTP that the connection came to; `None` for one of TLS.
    pub clear: Option<SocketAddr>,
    /// `TLSv1.2` or `TLSv1.3`; `none` on an address of plain HTTP.
    pub tls_version: &'static str,
    /// The cipher suite's IANA name; empty on an address of plain HTTP.
    pub cipher: &'static str,
    /// The certificate that the client sent, if any, its key proven and nothing else judged.
    pub certificate: Option<Presented>,
    /// What is under way, shared with whoever handles the requests.
    pub state: Arc<ConnState>,
}

/// Why the connection cut its client off.
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
    /// The client took nothing of the response.
    SendStall,
    /// The chunked body of a request is not well-formed.
    Framing,
}

/// What is under way on a connection. The stream reads it to know which deadline holds.
#[derive(Debug, Default)]
pub struct ConnState {
    phase: AtomicU8,
    streams: AtomicU32,
    /// How many requests there were: tells two of them apart that have the same phase.
    requests: AtomicU32,
    cut: AtomicU8,
    little: AtomicBool,
    watch: Mutex<RequestWatch>,
    own: Mutex<Own>,
}

/// What whoever handles the requests keeps for the client of this connection alone.
#[derive(Default)]
struct Own(Option<Box<dyn Any + Send>>);

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Own({})", self.0.is_some())
    }
}

/// What the client of a connection is waited for, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing is under way.
    Idle = 0,
    /// A request head has begun.
    Head,
    /// A request body is being received.
    Body,
    /// The client has sent its request and waits.
    Answer,
}

impl ConnState {
    /// Have a body read little at a time, so that no read brings much more than is looked for.
    pub fn read_little(&self, little: bool) {
        self.little.store(little, Ordering::Relaxed);
    }

    pub(super) fn reads_little(&self) -> bool {
        self.little.load(Ordering::Relaxed)
    }

    /// A request head was read. Until the guard is dropped the request is under way.
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

    /// Whether a request is under way; for HTTP/2, where several may be.
    pub(super) fn is_busy(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn set_cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::Relaxed);
    }

    fn watch(&self) -> MutexGuard<'_, RequestWatch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the HTTP/1 request under way was read: judge its body's framing from its first
    /// byte on. `None` is a chunked body.
    ///
    /// # Errors
    /// If what has come already is not well-formed.
    pub fn expect_body(&self, length: Option<u64>) -> Result<(), Denial> {
        self.watch().expect_body(length).map_err(|()| Denial::FramingChunk)
    }

    /// The connection leaves HTTP: bytes are no requests any more.
    ///
    /// # Errors
    /// If the client has sent something after its request already.
    pub fn leave_http(&self) -> Result<(), Denial> {
        self.watch().leave_http().map_err(|()| Denial::FramingUpgrade)
    }

    pub(super) fn see_head(&self, bytes: &[u8]) {
        self.watch().see_head(bytes);
    }

    /// Whether bytes that came after a head may be what they are.
    pub(super) fn see_body(&self, bytes: &[u8]) -> bool {
        self.watch().see_body(bytes).is_ok()
    }

    /// Keep something for the next request of this connection: nobody else gets it, and it ends
    /// with the connection.
    pub fn keep<T: Send + 'static>(&self, own: T) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(Box::new(own));
    }

    /// Take what was kept.
    pub fn take_kept<T: Send + 'static>(&self) -> Option<T> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).0.take()?;
        own.downcast().ok().map(|own| *own)
    }

    /// Why the client was cut off, if it was.
    pub fn cut(&self) -> Cut {
        match self.cut.load(Ordering::Relaxed) {
            1 => Cut::HeaderTime,
            2 => Cut::HeaderBytes,
            3 => Cut::BodyRate,
            4 => Cut::SendStall,
            5 => Cut::Framing,
            _ => Cut::No,
        }
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub struct InFlight(Arc<ConnState>);

impl InFlight {
    /// Whether the request line, as it came, was not three words of printable ASCII. The parser
    /// mends some of those, so that its own record of the head no longer shows it.
    pub fn odd_request_line(&self) -> bool {
        self.0.watch().is_odd()
    }

    /// The whole request body was read: from now on the client waits, not the gateway.
    pub fn body_done(&self) {
        self.0.set_phase(Phase::Answer);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            let head_begun = self.0.watch().next();
            self.0.set_phase(if head_begun { Phase::Head } else { Phase::Idle });
        }
    }
}
