//! A backend's connection under pingora's proxy whose answers are judged by the reader of the lane:
//! what has more than one reading never reaches pingora, and what follows an answer never another.
//!
//! Serves one exchange; then the connection, if it is sound, waits for the next one.

mod exchange;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::connection::{BackendTls, NoConnection, Peer, Stream, Target};
use super::lane::{Pool, Waiting};
use super::under_way::Place;
use crate::front::{ConnInfo, Deadline, Pace, Patience};
use exchange::Exchange;

/// Whose a connection is, once its exchange is over.
#[derive(Clone)]
pub(super) enum Whose {
    /// That of whoever has a request next: it waits with those of the lane.
    Anybodys(Arc<Pool>),
    /// The client connection's, and ends with it: Windows authentication belongs to both.
    Clients(Arc<ConnInfo>),
    /// Nobody's: it asks to leave HTTP.
    WebSockets,
}

/// What waits for the next request of one client.
type OfClient = (Peer, Waiting);

impl Whose {
    /// A connection that waits, if it was idle no longer than `age`.
    fn take(&self, peer: &Peer, age: Duration) -> Option<Stream> {
        match self {
            Whose::Anybodys(pool) => pool.take(peer, age),
            Whose::Clients(client) => {
                let (to, waiting) = client.state.take_kept::<OfClient>()?;
                (to == *peer).then_some(waiting)?.take()
            }
            Whose::WebSockets => None,
        }
    }

    fn put(&self, peer: &Peer, stream: Stream, idle_time: Duration) {
        match self {
            Whose::Anybodys(pool) => pool.put(peer.clone(), stream, idle_time),
            Whose::Clients(client) => {
                let kept: OfClient = (peer.clone(), Waiting::new(stream, idle_time));
                client.state.keep(kept);
            }
            Whose::WebSockets => {}
        }
    }
}

/// Connects to a backend.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) tls: Option<BackendTls>,
    pub(super) whose: Whose,
    /// Take one that waits, if it was idle no longer than this; `None` takes a new one.
    pub(super) waiting: Option<Duration>,
    pub(super) connect_time: Duration,
    pub(super) idle_time: Duration,
    /// The place of the request, if a block may end it.
    pub(super) place: Option<Arc<Place>>,
    /// How fast the request has to come until it is whole.
    pub(super) body_pace: Pace,
    /// Told of where the request goes, and of its answer.
    pub(super) attempt: Arc<Attempt>,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, _: &SocketAddr) -> pingora_core::Result<l4::stream::Stream> {
        let peer = &self.target.peer;
        let stream = match self.waiting.and_then(|age| self.whose.take(peer, age)) {
            Some(stream) => {
                self.attempt.reuse(&self.target);
                stream
            }
            None => self
                .attempt
                .connect(&self.target, self.tls.as_ref(), self.connect_time)
                .await
                .map_err(no_connection)?,
        };
        let witness = Witness {
            stream: Some(stream),
            peer: peer.clone(),
            attempt: self.attempt.clone(),
            sent: Instant::now(),
            whose: self.whose.clone(),
            idle_time: self.idle_time,
            exchange: Exchange::new(matches!(self.whose, Whose::WebSockets)),
            place: self.place.clone(),
            patience: Patience::new(self.body_pace),
            blocked: false,
            deadline: Deadline::default(),
        };
        Ok(VirtualSocketStream::new(Box::new(witness)).into())
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// The connection.
struct Witness {
    /// Until it is given back.
    stream: Option<Stream>,
    peer: Peer,
    attempt: Arc<Attempt>,
    /// When the last byte of the request went.
    sent: Instant,
    whose: Whose,
    idle_time: Duration,
    exchange: Exchange,
    place: Option<Arc<Place>>,
    /// With the request, while it is not whole.
    patience: Patience,
    /// Whether it is the backend that holds the request up.
    blocked: bool,
    deadline: Deadline,
}

fn no_connection(why: NoConnection) -> Box<Error> {
    let (etype, error) = match why {
        NoConnection::TimedOut => {
            return Error::explain(ErrorType::ConnectTimedout, "no connection in time");
        }
        NoConnection::Unreachable(error) => (ErrorType::ConnectError, error),
        NoConnection::Certificate(error) => (ErrorType::InvalidCert, error),
    };
    Error::because(etype, "no connection", error)
}

impl Witness {
    /// Let it wait for the next request as soon as this one is over, and not only when pingora has
    /// found out: the client may have sent the next by then, and it may have to go on this very one.
    fn give_back(&mut self) {
        if self.exchange.leaves_it_sound()
            && let Some(stream) = self.stream.take()
        {
            self.whose.put(&self.peer, stream, self.idle_time);
        }
    }

    /// Whether the client has been waited for too long to send the rest of its request. Streams of
    /// HTTP/2 share a connection, so that no deadline of the connection's holds for them.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let waits = !self.blocked && !self.exchange.is_asked();
        waits && self.deadline.passed(cx, self.patience.until())
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl VirtualSocket for Witness {
    /// What there is to set was set by whoever connected.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Witness {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = this.stream.as_mut().filter(|_| !this.exchange.is_answered()) else {
            return Poll::Ready(Ok(()));
        };
        if this.place.as_ref().is_some_and(|place| place.poll_blocked(cx).is_some()) {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(stream).poll_read(cx, buf) else {
            return match this.is_stalled(cx) {
                true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                false => Poll::Pending,
            };
        };
        read?;
        let came = buf.filled().get(before..).unwrap_or_default();
        let known = this.exchange.status;
        let used = this.exchange.came(came);
        if let (None, Some(status)) = (known, this.exchange.status) {
            let now = Instant::now();
            this.attempt.answered(status, now - this.sent, now);
        }
        match used {
            Ok(used) => {
                buf.set_filled(before + used);
                this.give_back();
                Poll::Ready(Ok(()))
            }
            Err(fault) => {
                buf.set_filled(before);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)))
            }
        }
    }
}

impl AsyncWrite for Witness {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if this.place.as_ref().is_some_and(|place| place.blocked().is_some()) {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let written = Pin::new(stream).poll_write(cx, bytes);
        this.blocked = written.is_pending();
        let written = ready!(written)?;
        this.sent = Instant::now();
        this.patience.earn(written);
        this.exchange.went(bytes.get(..written).unwrap_or_default());
        this.give_back();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.exchange.spoiled = true;
        match &mut this.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
