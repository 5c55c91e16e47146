//! A backend connection while it serves one request: its timeouts, and its return to the pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ConnectionReuse;
use super::attempt::Attempt;
use super::outgoing::Outgoing;
use super::pool::IdleConnection;
use super::transport::{Peer, Stream};
use crate::front::Deadline;

/// The connection.
pub(super) struct BackendConnection {
    stream: Stream,
    peer: Peer,
    idle_time: Duration,
    /// Whether it served a request before this one.
    pub(super) reused: bool,
    timeout: Duration,
    /// The time of the last read or write, and of the last write.
    since: Instant,
    sent: Instant,
    deadline: Deadline,
}

impl BackendConnection {
    pub(super) fn new(stream: Stream, peer: Peer, reused: bool, going: &Outgoing) -> Self {
        let now = Instant::now();
        BackendConnection {
            stream,
            peer,
            idle_time: going.idle_time,
            reused,
            timeout: going.answer_time,
            since: now,
            sent: now,
            deadline: Deadline::default(),
        }
    }

    /// Returns the connection for the next request.
    pub(super) fn keep(self, whose: ConnectionReuse<'_>) {
        match whose {
            ConnectionReuse::Pool(pool) => pool.put(self.peer, self.stream, self.idle_time),
            ConnectionReuse::Client(kept) => {
                *kept = Some((self.peer, IdleConnection::new(self.stream, self.idle_time)));
            }
            ConnectionReuse::Never => {}
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
    pub(super) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.passed(cx, self.since + self.timeout) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
