//! Lingering close: closes a connection so that the client can still read its response.
//!
//! The system resets a socket that is closed with unread bytes, and the reset may overtake the
//! response: many clients read nothing before they have sent everything. So further bytes from the
//! client are read and discarded for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::body_rate::BodyRate;
use super::deadline::Deadline;
use super::transport::Transport;

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
    body_rate: BodyRate,
}

impl LingeringClose {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// All data and the end of the stream are sent.
    pub(super) fn begin(&mut self, body_rate: BodyRate) {
        let now = Instant::now();
        self.begun = Some(LingeringSince { until: now + LINGER, heard: now, body_rate });
    }

    /// Discards the client's bytes until it closes or a limit is reached.
    pub(super) fn poll(
        &mut self,
        transport: &mut Transport,
        timer: &mut Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(begun) = &mut self.begun else { return Poll::Ready(()) };
        let now = Instant::now();
        let mut scratch = [0; 16 * 1024];
        let mut read = 0;
        while read < TURN_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *transport).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    begun.heard = now;
                    begun.body_rate.earn(buffer.filled().len());
                    read += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let paced = begun.body_rate.until().min(begun.heard + SILENCE);
                    let is_over = timer.passed(cx, begun.until.min(paced));
                    return if is_over { Poll::Ready(()) } else { Poll::Pending };
                }
            }
            if now >= begun.until {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
