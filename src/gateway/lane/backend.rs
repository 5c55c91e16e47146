//! A connection to a backend while one request is on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::exchange::Failed;
use super::pool::Pool;
use super::request::Outgoing;
use crate::denial::Denial;
use crate::front::Deadline;
use crate::gateway::attempt::Attempt;
use crate::gateway::connection::{Peer, Stream, Target};

/// A request that cannot be sent twice goes on a connection only this short a while after its last
/// use: the longer it was idle, the likelier the backend is closing it at this very moment.
pub(in crate::gateway) const FRESH: Duration = Duration::from_secs(5);
/// One address after the other is tried, and no more than these.
const ADDRESSES_MAX: usize = 2;

/// The connection.
pub(super) struct Backend {
    stream: Stream,
    peer: Peer,
    idle_time: Duration,
    /// Whether it had a request before this one.
    pub(super) reused: bool,
    patience: Duration,
    /// When the last byte went or came, and when the last one went.
    since: Instant,
    sent: Instant,
    deadline: Deadline,
}

impl Backend {
    /// A connection that waited for a request, or a new one.
    pub(super) async fn open(
        pool: &Pool,
        going: &Outgoing,
        attempt: &Attempt,
        fresh: bool,
    ) -> Result<Backend, Failed> {
        let backend = going.upstream().ok_or_else(|| {
            Failed::because(Denial::GatewayInternal, "the route leads nowhere".to_owned())
        })?;
        let peers = backend.peers();
        if !fresh {
            let age = if going.repeatable { Duration::MAX } else { FRESH };
            let waiting =
                |target: Target| pool.take(&target.peer, age).map(|stream| (target, stream));
            if let Some((target, stream)) = peers.iter().find_map(waiting) {
                attempt.reuse(&target);
                return Ok(Backend::new(stream, target.peer, true, going));
            }
        }
        let nowhere = "the backend's name has no address".to_owned();
        let mut failed = Failed::because(Denial::UpstreamUnreachable, nowhere);
        for target in peers.iter().take(ADDRESSES_MAX) {
            match attempt.connect(&target, backend.tls.as_ref(), backend.times.connect).await {
                Ok(stream) => return Ok(Backend::new(stream, target.peer, false, going)),
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
        Backend {
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

    /// Leave it for the next request.
    pub(super) fn keep(self, pool: &Pool) {
        pool.put(self.peer, self.stream, self.idle_time);
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

    /// What was read last is the head of the answer.
    pub(super) fn answered(&self, status: u16, attempt: &Attempt) {
        attempt.answered(status, self.since - self.sent, self.since);
    }

    /// The backend is waited for: ready once that was too long, or at `until`.
    pub(super) fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<Instant>,
    ) -> Poll<()> {
        let end = self.since + self.patience;
        match self.deadline.passed(cx, until.map_or(end, |until| until.min(end))) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
