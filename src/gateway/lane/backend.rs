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
use crate::gateway::connection::{NoConnection, Peer, Stream, connect};

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
    since: Instant,
    deadline: Deadline,
}

impl Backend {
    /// A connection that waited for a request, or a new one.
    pub(super) async fn open(
        pool: &Pool,
        going: &Outgoing,
        fresh: bool,
    ) -> Result<Backend, Failed> {
        let backend = going.upstream().ok_or_else(|| {
            Failed::because(Denial::GatewayInternal, "the route leads nowhere".to_owned())
        })?;
        let peers = backend.peers();
        if !fresh {
            let age = if going.repeatable { Duration::MAX } else { FRESH };
            let waiting = |peer: Peer| pool.take(&peer, age).map(|stream| (peer, stream));
            if let Some((peer, stream)) = peers.iter().find_map(waiting) {
                return Ok(Backend::new(stream, peer, true, going));
            }
        }
        let nowhere = "the backend's name has no address".to_owned();
        let mut failed = Failed::because(Denial::UpstreamUnreachable, nowhere);
        for peer in peers.iter().take(ADDRESSES_MAX) {
            match connect(&peer.address, backend.tls.as_ref(), backend.times.connect).await {
                Ok(stream) => return Ok(Backend::new(stream, peer, false, going)),
                Err(why) => failed = no_connection(&peer, why),
            }
        }
        Err(failed)
    }

    fn new(stream: Stream, peer: Peer, reused: bool, going: &Outgoing) -> Self {
        Backend {
            stream,
            peer,
            idle_time: going.idle_time,
            reused,
            patience: going.answer_time,
            since: Instant::now(),
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
        }
        written
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

fn no_connection(peer: &Peer, why: NoConnection) -> Failed {
    let at = &peer.address;
    match why {
        NoConnection::Unreachable(error) => {
            Failed::because(Denial::UpstreamUnreachable, format!("{at}: {error}"))
        }
        NoConnection::TimedOut => {
            Failed::because(Denial::UpstreamTimeout, format!("{at}: no connection in time"))
        }
        NoConnection::Certificate(error) => {
            Failed::because(Denial::UpstreamCertificate, format!("{at}: {error}"))
        }
    }
}
