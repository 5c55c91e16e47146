//! A backend connection while it serves one request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::connection::{ConnectTarget, Peer, Stream};
use super::outgoing::Outgoing;
use super::pool::IdleConnection;
use super::{Failed, Whose};
use crate::denial::Denial;
use crate::front::Deadline;

/// The longest idle time of a pooled connection for a request that is unsafe to retry. The longer
/// it was idle, the likelier the backend is just closing it.
const FRESH: Duration = Duration::from_secs(5);
/// The most addresses to try in turn (failover to the next address).
const ADDRESSES_MAX: usize = 2;

/// The connection.
pub(super) struct BackendConnection {
    stream: Stream,
    peer: Peer,
    idle_time: Duration,
    /// Whether it served a request before this one.
    pub(super) reused: bool,
    patience: Duration,
    /// The time of the last read or write, and of the last write.
    since: Instant,
    sent: Instant,
    deadline: Deadline,
}

impl BackendConnection {
    /// Takes an idle connection, or opens a new one.
    pub(super) async fn open(
        whose: &mut Whose<'_>,
        going: &Outgoing,
        attempt: &Attempt,
        fresh: bool,
    ) -> Result<BackendConnection, Failed> {
        let backend = going
            .upstream()
            .ok_or_else(|| Failed::because(Denial::GatewayInternal, "the route has no backend"))?;
        let peers = backend.peers();
        if !fresh {
            let age = if going.repeatable { Duration::MAX } else { FRESH };
            let waiting =
                |target: ConnectTarget| whose.take(&target, age).map(|stream| (target, stream));
            if let Some((target, stream)) = peers.iter().find_map(waiting) {
                attempt.reuse(&target);
                return Ok(BackendConnection::new(stream, target.peer, true, going));
            }
        }
        let nowhere = "the backend's name has no address";
        let mut failed = Failed::because(Denial::UpstreamUnreachable, nowhere);
        for target in peers.iter().take(ADDRESSES_MAX) {
            match attempt.connect(&target, backend.tls.as_ref(), backend.times.connect).await {
                Ok(stream) => return Ok(BackendConnection::new(stream, target.peer, false, going)),
                Err(why) => {
                    let detail = format!("{}: {why}", target.peer.address);
                    failed = Failed::because(why.denial(), detail);
                }
            }
        }
        Err(failed)
    }

    fn new(stream: Stream, peer: Peer, reused: bool, going: &Outgoing) -> Self {
        let now = Instant::now();
        BackendConnection {
            stream,
            peer,
            idle_time: going.idle_time,
            reused,
            patience: going.answer_time,
            since: now,
            sent: now,
            deadline: Deadline::default(),
        }
    }

    /// Returns the connection for the next request.
    pub(super) fn keep(self, whose: Whose<'_>) {
        match whose {
            Whose::Anybodys(pool) => pool.put(self.peer, self.stream, self.idle_time),
            Whose::Clients(kept) => {
                *kept = Some((self.peer, IdleConnection::new(self.stream, self.idle_time)));
            }
            Whose::Nobodys => {}
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        Pin::new(&mut self.stream).poll_read(cx, &mut buffer).map_ok(|()| {
            self.since = Instant::now();
            buffer.filled().len()
        })
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.since = Instant::now();
            self.sent = self.since;
        }
        written
    }

    /// Records that the last read completed the response head.
    pub(super) fn answered(&self, status: u16, attempt: &Attempt) {
        attempt.answered(status, self.since - self.sent, self.since);
    }

    /// Waits for the backend. Ready when the timeout has passed.
    pub(super) fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.passed(cx, self.since + self.patience) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Whose<'_> {
    /// Takes an idle connection that was idle no longer than `age`.
    fn take(&mut self, target: &ConnectTarget, age: Duration) -> Option<Stream> {
        match self {
            Whose::Anybodys(pool) => pool.take(&target.peer, age),
            Whose::Clients(kept) => {
                let (_, waiting) = kept.take_if(|(peer, _)| *peer == target.peer)?;
                waiting.take()
            }
            Whose::Nobodys => None,
        }
    }
}
