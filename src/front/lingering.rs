//! Closing a connection so that the client can still read its answer.
//!
//! A socket closed with unread bytes in it is reset by the system, and the reset may overtake the
//! answer: read on for a moment, within bounds, before letting go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::conn::Conn;
use super::state::Phase;

const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A close that is under way.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// The client was answered in the middle of what it sends.
    pub(super) wanted: bool,
    until: Option<Instant>,
    read: usize,
}

impl Conn {
    /// End the connection: what was written is sent and its end is told; what the client goes on
    /// sending of a request that nobody wants is thrown away, for a while.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.until.is_none() {
            ready!(self.poll_gathered(cx))?;
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
            let interrupted = matches!(self.phase(), Phase::Head | Phase::Body);
            if self.is_http2() || !(interrupted || self.lingering.wanted) {
                return Poll::Ready(Ok(()));
            }
            self.lingering.until = Some(Instant::now() + LINGER);
        }
        let mut scratch = [0; 4096];
        while self.lingering.read < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingering.read += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let until = self.lingering.until.unwrap_or_else(Instant::now);
                    return match self.passed(cx, until) {
                        true => Poll::Ready(Ok(())),
                        false => Poll::Pending,
                    };
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
