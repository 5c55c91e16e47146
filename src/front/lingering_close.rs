//! Lingering close: closes a connection so that the client can still read its response.
//!
//! The system resets a socket that is closed with unread bytes, and the reset may overtake the
//! response: many clients read nothing before they have sent everything. So further bytes from the
//! client are read and discarded for a while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body_rate::BodyRate;
use super::conn::Conn;
use super::state::Phase;

/// The limits in total and while no bytes arrive, as in nginx (`lingering_time`,
/// `lingering_timeout`). The minimum body rate applies too.
const LINGER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes to discard before other connections get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// A close in progress.
#[derive(Debug, Default)]
pub(super) struct LingeringClose {
    /// Whether the client was answered while it still sends.
    pub(super) wanted: bool,
    begun: Option<LingeringSince>,
}

#[derive(Debug)]
struct LingeringSince {
    until: Instant,
    /// The time of the last bytes.
    heard: Instant,
    patience: BodyRate,
}

impl Conn {
    /// Closes the connection: sends all written data and the end of the stream, then discards the
    /// rest of an unwanted request for a while.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.begun.is_none() {
            ready!(self.poll_gathered(cx))?;
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
            let interrupted = matches!(self.phase(), Phase::Head | Phase::Body);
            if self.is_http2() || !(interrupted || self.lingering.wanted) {
                return Poll::Ready(Ok(()));
            }
        }
        let (now, patience) = (Instant::now(), self.patience());
        let begun = || LingeringSince { until: now + LINGER, heard: now, patience };
        self.lingering.begun.get_or_insert_with(begun);
        let mut scratch = [0; 16 * 1024];
        let mut read = 0;
        while read < TURN_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            let polled = Pin::new(&mut self.transport).poll_read(cx, &mut buffer);
            let Some(begun) = &mut self.lingering.begun else { return Poll::Ready(Ok(())) };
            match polled {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    begun.heard = now;
                    begun.patience.earn(buffer.filled().len());
                    read += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let paced = begun.patience.until().min(begun.heard + SILENCE);
                    let until = begun.until.min(paced);
                    return if self.passed(cx, until) {
                        Poll::Ready(Ok(()))
                    } else {
                        Poll::Pending
                    };
                }
            }
            if now >= begun.until {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
