//! A client connection as a stream with deadlines: header time, minimum body rate, idle time, send
//! stall.
//!
//! Deadlines run on tokio's clock, and only while the gateway waits for the client. Buffers exist
//! only while they hold data.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body_rate::BodyRate;
use super::deadline::Deadline;
use super::frames::FrameWatch;
use super::lingering_close::LingeringClose;
use super::low_water::LowWater;
use super::state::{ConnInfo, Cut, OnRefusal, Phase};
use super::transport::{self, Transport};
use crate::config::Limits;
use crate::metrics::Metrics;

/// Small writes are gathered up to this size, so that a head and a short body are one TLS record.
const GATHER_BYTES: usize = 4096;
/// The longest delay until the idle deadline sees the end of the last HTTP/2 stream.
const RECHECK: Duration = Duration::from_secs(1);

/// A client's connection: a byte stream that ends when its client is too slow.
pub struct Conn {
    transport: Transport,
    info: Arc<ConnInfo>,
    http2: bool,
    /// Present for HTTP/2, whose parser refuses requests by itself.
    frames: Option<Box<FrameWatch>>,
    limits: Limits,
    on_refusal: OnRefusal,
    written: GatheredWrites,
    clock: PhaseClock,
    body: BodyProgress,
    timer: Deadline,
    lingering: LingeringClose,
}

/// Bytes on their way to the client.
#[derive(Default)]
struct GatheredWrites {
    /// Bytes gathered for one TLS record.
    gathered: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// Since when the client reads nothing.
    stalled: Option<Instant>,
}

/// How long the phase of the connection has lasted.
struct PhaseClock {
    phase: Phase,
    /// The number of requests so far: a new request is a new phase.
    requests: u32,
    since: Instant,
    /// The bytes of an incomplete head.
    head_bytes: usize,
}

/// The body that the gateway waits for.
struct BodyProgress {
    /// The minimum rate.
    rate: BodyRate,
    /// Bytes known to be still to come.
    expected: u64,
    low_water: LowWater,
}

impl Conn {
    pub(super) fn new(
        transport: Transport,
        info: ConnInfo,
        limits: Limits,
        on_refusal: OnRefusal,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let http2 = transport::is_http2(&transport);
        let now = Instant::now();
        let (rate, low_water) = (BodyRate::new(&limits), LowWater::default());
        Conn {
            http2,
            frames: http2.then(|| Box::new(FrameWatch::new(metrics.clone()))),
            limits,
            on_refusal,
            written: GatheredWrites::default(),
            clock: PhaseClock { phase: Phase::Idle, requests: 0, since: now, head_bytes: 0 },
            body: BodyProgress { rate, expected: 0, low_water },
            timer: Deadline::default(),
            lingering: LingeringClose::default(),
            info: Arc::new(info),
            transport,
        }
    }

    /// Returns the facts of the connection.
    pub fn info(&self) -> &Arc<ConnInfo> {
        &self.info
    }

    /// Checks whether HTTP/2 was negotiated.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// A part of the next request head was read together with the previous request.
    pub fn head_began(&mut self) {
        self.info.state.set_phase(Phase::Head);
        self.enter(Phase::Head);
    }

    /// Sets the number of body bytes still to come for the request in flight.
    pub fn expect_body(&mut self, bytes: u64) {
        self.body.expected = bytes;
    }

    /// The client was answered while it still sends, or the response may be the last data that it
    /// can read: requests a lingering close.
    pub fn linger(&mut self) {
        self.lingering.wanted = true;
    }

    /// Limits the data that is buffered for the client before it reads. A large limit suits bulk
    /// transfers, with few system calls; a small one suits a slow client, with little memory.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        transport::set_buffer_limit(&mut self.transport, bytes);
    }

    /// Returns the current phase; a new phase starts its clock.
    fn phase(&mut self) -> Phase {
        let phase = if !self.http2 {
            self.info.state.phase()
        } else if self.info.state.is_busy() {
            Phase::Answer
        } else {
            Phase::Idle
        };
        let requests = self.info.state.requests();
        if phase != self.clock.phase || (requests != self.clock.requests && !self.http2) {
            self.clock.requests = requests;
            self.enter(phase);
        }
        phase
    }

    fn enter(&mut self, phase: Phase) {
        self.clock.phase = phase;
        self.clock.since = Instant::now();
        match phase {
            Phase::Body => self.body.rate = BodyRate::new(&self.limits),
            Phase::Idle | Phase::Head => {
                self.clock.head_bytes = 0;
            }
            Phase::Answer => {}
        }
    }

    /// Records received bytes: a head begins or continues, or a body earns grace.
    fn received(&mut self, phase: Phase, received: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.came(received);
        }
        if self.http2 || received.is_empty() {
            return;
        }
        match phase {
            Phase::Idle => {
                self.info.state.set_phase(Phase::Head);
                self.enter(Phase::Head);
                self.clock.head_bytes = received.len();
            }
            Phase::Head => {
                self.clock.head_bytes += received.len();
            }
            Phase::Body => {
                self.body.rate.earn(received.len());
                self.body.expected = self.body.expected.saturating_sub(received.len() as u64);
                let tcp = transport::tcp(&self.transport).stream();
                self.body.low_water.received(tcp, received.len(), self.body.expected);
            }
            Phase::Answer => {}
        }
    }

    fn sent_frames(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.went(bytes);
        }
    }

    /// Returns the deadline for the client's next bytes, if there is one.
    fn deadline(&mut self, phase: Phase) -> Option<(Instant, Cut)> {
        match phase {
            // A client that is silent after connecting gets no longer than for a handshake.
            Phase::Idle if self.info.clear.is_some() && self.clock.requests == 0 => {
                let time = self.limits.idle_time.min(self.limits.handshake_time);
                Some((self.clock.since + time, Cut::No))
            }
            Phase::Idle => Some((self.clock.since + self.limits.idle_time, Cut::No)),
            Phase::Head => Some((self.clock.since + self.limits.header_time, Cut::HeaderTime)),
            Phase::Body => Some((self.body.rate.until(), Cut::BodyRate)),
            // An HTTP/2 connection is not polled when its last stream ends: be polled again soon.
            _ if self.http2 => Some((Instant::now() + RECHECK, Cut::No)),
            _ => None,
        }
    }

    /// Checks whether `deadline` has passed; if not, the task is woken when it does.
    fn passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        self.timer.passed(cx, deadline)
    }

    /// Nothing to read: enforces the client's deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<io::Result<()>> {
        let Some((deadline, cut)) = self.deadline(phase) else { return Poll::Pending };
        if !self.passed(cx, deadline) {
            return Poll::Pending;
        }
        match phase {
            Phase::Idle => {
                // The reader sees this as the client's own close of an idle connection.
                let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
                Poll::Ready(Ok(()))
            }
            Phase::Head | Phase::Body => Poll::Ready(Err(self.cut(cut))),
            _ => Poll::Pending,
        }
    }

    fn cut(&mut self, cut: Cut) -> io::Error {
        self.info.state.set_cut(cut);
        io::Error::new(io::ErrorKind::TimedOut, "the client was too slow")
    }

    /// Writes the gathered bytes to TLS, and frees the buffer once it is empty.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) =
            self.written.gathered.get(self.written.sent..).filter(|rest| !rest.is_empty())
        {
            match Pin::new(&mut self.transport).poll_write(cx, rest) {
                Poll::Ready(n) => {
                    self.written.sent += n?;
                    self.written.stalled = None;
                }
                Poll::Pending => return self.poll_stall(cx),
            }
        }
        if !self.written.gathered.is_empty() {
            self.written.gathered = Vec::new();
            self.written.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the connection: sends all written data and the end of the stream, then discards the
    /// rest of an unwanted request for a while.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.lingering.has_begun() {
            ready!(self.poll_gathered(cx))?;
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
            let interrupted = matches!(self.phase(), Phase::Head | Phase::Body);
            if self.http2 || !(interrupted || self.lingering.wanted) {
                return Poll::Ready(Ok(()));
            }
            self.lingering.begin(BodyRate::new(&self.limits));
        }
        self.lingering.poll(&mut self.transport, &mut self.timer, cx).map(Ok)
    }

    /// The client reads nothing: enforces its deadline.
    fn poll_stall<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let since = *self.written.stalled.get_or_insert_with(Instant::now);
        if self.passed(cx, since + self.limits.send_stall) {
            return Poll::Ready(Err(self.cut(Cut::SendStall)));
        }
        Poll::Pending
    }
}

impl Drop for Conn {
    /// Reports requests that the HTTP/2 parser refused before their head was complete.
    fn drop(&mut self) {
        let begun = self.info.state.requests();
        if let Some(refused) = self.frames.as_ref().and_then(|frames| frames.refused(begun)) {
            (self.on_refusal)(&self.info, &refused);
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let phase = me.phase();
        if phase == Phase::Head && me.clock.head_bytes >= me.limits.header_bytes {
            return Poll::Ready(Err(me.cut(Cut::HeaderBytes)));
        }
        let before = out.filled().len();
        match Pin::new(&mut me.transport).poll_read(cx, out) {
            Poll::Ready(done) => {
                done?;
                me.received(phase, out.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                // A read that waits for the client first sends it all gathered bytes.
                if !me.written.gathered.is_empty()
                    && let Poll::Ready(Err(error)) = me.poll_gathered(cx)
                {
                    return Poll::Ready(Err(error));
                }
                me.body.low_water.waits(cx, transport::tcp(&me.transport).stream());
                me.poll_deadline(cx, phase)
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if me.written.gathered.len() + bytes.len() <= GATHER_BYTES {
            me.written.gathered.extend_from_slice(bytes);
            me.sent_frames(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(me.poll_gathered(cx))?;
        match Pin::new(&mut me.transport).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                me.written.stalled = None;
                me.sent_frames(bytes.get(..written.as_ref().map_or(0, |n| *n)).unwrap_or_default());
                Poll::Ready(written)
            }
            Poll::Pending => me.poll_stall(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_gathered(cx))?;
        match Pin::new(&mut me.transport).poll_flush(cx) {
            Poll::Ready(flushed) => {
                me.written.stalled = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => me.poll_stall(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}
