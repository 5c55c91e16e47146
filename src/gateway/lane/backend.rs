//! A connection to a backend while one request is on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::exchange::Failed;
use super::pool::Pool;
use super::request::Outgoing;
use crate::denial::Denial;
use crate::front::Deadline;

/// A request that cannot be sent twice goes on a connection only this short a while after its last
/// use: the longer it was idle, the likelier the backend is closing it at this very moment.
pub(in crate::gateway) const FRESH: Duration = Duration::from_secs(5);
/// One address after the other is tried, and no more than these.
const ADDRESSES_MAX: usize = 2;

/// The connection.
pub(super) struct Backend {
    stream: TcpStream,
    address: SocketAddr,
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
        let addresses = going.addresses.load();
        let unreachable = |detail: String| Failed::because(Denial::UpstreamUnreachable, detail);
        if !fresh {
            let age = if going.repeatable { Duration::MAX } else { FRESH };
            let waiting = |address: &SocketAddr| Some((*address, pool.take(*address, age)?));
            if let Some((address, stream)) = addresses.iter().find_map(waiting) {
                return Ok(Backend::new(stream, address, true, going));
            }
        }
        let mut failed = unreachable("the backend's name has no address".to_owned());
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match tokio::time::timeout(going.connect_time, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it a small request may wait for a moment; it goes all the same.
                    let _ = stream.set_nodelay(true);
                    return Ok(Backend::new(stream, *address, false, going));
                }
                Ok(Err(error)) => failed = unreachable(format!("{address}: {error}")),
                Err(_) => {
                    let detail = format!("{address}: no connection in time");
                    failed = Failed::because(Denial::UpstreamTimeout, detail);
                }
            }
        }
        Err(failed)
    }

    fn new(stream: TcpStream, address: SocketAddr, reused: bool, going: &Outgoing) -> Self {
        Backend {
            stream,
            address,
            reused,
            patience: going.answer_time,
            since: Instant::now(),
            deadline: Deadline::default(),
        }
    }

    /// Leave it for the next request.
    pub(super) fn keep(self, pool: &Pool, idle_time: Duration) {
        pool.put(self.address, self.stream, idle_time);
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
