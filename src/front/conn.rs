//! A client connection as a stream with deadlines: header time, body rate, idle time, send stall.
//!
//! Deadlines run on tokio's clock and only while the client is the one that is waited for. Buffers
//! exist only while something is in them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::frames::FrameWatch;
use super::lingering::Lingering;
use super::low_water::LowWater;
use super::patience::{Pace, Patience};
use super::pingora::Digests;
use super::refusal::OnRefusal;
use super::state::{ConnInfo, Cut, Phase};
use super::transport::Transport;
use crate::config::ConnLimits;
use crate::denial::Denial;
use crate::metrics::Metrics;

/// Small writes are gathered up to this size, so that a head and a short body are one TLS record.
const GATHER_BYTES: usize = 4096;
/// What is read at a time where somebody has to see how much there is.
const LITTLE_BYTES: usize = 8 * 1024;
/// How late, at most, the end of the last HTTP/2 stream is noticed by the idle deadline.
const RECHECK: Duration = Duration::from_secs(1);

/// A client's connection: a stream of bytes that ends when its client is too slow.
pub struct Conn {
    pub(super) transport: Transport,
    pub(super) info: Arc<ConnInfo>,
    http2: bool,
    /// There for HTTP/2, whose parser refuses requests by itself.
    pub(super) frames: Option<Box<FrameWatch>>,
    limits: ConnLimits,
    pub(super) on_refusal: OnRefusal,
    /// What is gathered for one TLS record.
    gathered: Vec<u8>,
    sent: usize,
    /// The phase, and the number of requests so far, that `since` belongs to.
    pub(super) seen: Phase,
    requests: u32,
    since: Instant,
    head_bytes: usize,
    pub(super) answered_head: bool,
    /// While the client is waited for in a body.
    patience: Patience,
    stalled: Option<Instant>,
    timer: Deadline,
    /// Bytes of a body that are known to be still to come.
    expected: u64,
    low_water: LowWater,
    pub(super) lingering: Lingering,
    /// Bytes that were read, and are to be read again.
    unread: BytesMut,
    /// There once another parser reads this connection, which has to be watched.
    pub(super) parser: Option<Box<Digests>>,
}

impl Conn {
    pub(super) fn new(
        transport: Transport,
        info: ConnInfo,
        limits: ConnLimits,
        on_refusal: OnRefusal,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let http2 = transport.is_http2();
        Conn {
            http2,
            frames: http2.then(|| Box::new(FrameWatch::new(metrics.clone()))),
            patience: patience(&limits),
            limits,
            on_refusal,
            gathered: Vec::new(),
            sent: 0,
            seen: Phase::Idle,
            requests: 0,
            since: Instant::now(),
            head_bytes: 0,
            answered_head: false,
            stalled: None,
            timer: Deadline::default(),
            expected: 0,
            low_water: LowWater::default(),
            lingering: Lingering::default(),
            unread: BytesMut::new(),
            parser: None,
            info: Arc::new(info),
            transport,
        }
    }

    /// What is known of the connection.
    pub fn info(&self) -> &Arc<ConnInfo> {
        &self.info
    }

    /// Whether HTTP/2 was agreed on.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// Leave the connection to pingora, whose parser is watched from here on. `unread` was read
    /// from it already, and is the beginning of a request.
    ///
    /// # Errors
    /// None that the bytes of a client can cause.
    pub fn for_pingora(mut self, unread: BytesMut) -> io::Result<Box<Self>> {
        let digests = Digests::new(self.transport.tcp(), &self.info)?;
        self.parser = Some(Box::new(digests));
        self.unread = unread;
        self.head_bytes = 0;
        Ok(Box::new(self))
    }

    /// A part of the next request head was read together with the request that just ended.
    pub fn head_began(&mut self) {
        self.info.state.set_phase(Phase::Head);
        self.enter(Phase::Head);
    }

    /// That many bytes of the body of the request under way are still to come.
    pub fn expect_body(&mut self, bytes: u64) {
        self.expected = bytes;
    }

    /// The client was answered in the middle of what it sends, or the answer may be the last thing
    /// it can read: see that it can.
    pub fn linger(&mut self) {
        self.lingering.wanted = true;
    }

    /// Take up to `bytes` of what is sent before the client has to take them: much for bulk, to be
    /// sent in few system calls; little for a client that is slow, to be held in little memory.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        self.transport.set_buffer_limit(bytes);
    }

    /// The phase of the moment; entering one starts its clock.
    pub(super) fn phase(&mut self) -> Phase {
        let phase = match self.http2 {
            true if self.info.state.is_busy() => Phase::Answer,
            true => Phase::Idle,
            false => self.info.state.phase(),
        };
        let requests = self.info.state.requests();
        if phase != self.seen || (requests != self.requests && !self.http2) {
            self.requests = requests;
            self.enter(phase);
        }
        phase
    }

    fn enter(&mut self, phase: Phase) {
        self.seen = phase;
        self.since = Instant::now();
        match phase {
            Phase::Body => self.patience = patience(&self.limits),
            Phase::Idle | Phase::Head => {
                self.head_bytes = 0;
                self.answered_head = false;
            }
            Phase::Answer => {}
        }
    }

    /// Read from the transport: little at a time where somebody asked for that.
    fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.parser.is_none() || !self.info.state.reads_little() {
            return Pin::new(&mut self.transport).poll_read(cx, out);
        }
        let mut piece = [0; LITTLE_BYTES];
        let room = piece.get_mut(..out.remaining().min(LITTLE_BYTES)).unwrap_or_default();
        let mut read = ReadBuf::new(room);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
        out.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Bytes came: a head begins or goes on, or a body earns patience.
    fn received(&mut self, phase: Phase, received: &[u8]) -> io::Result<()> {
        if let Some(frames) = &mut self.frames {
            frames.came(received);
        }
        if self.http2 || received.is_empty() {
            return Ok(());
        }
        match phase {
            Phase::Idle => {
                self.info.state.set_phase(Phase::Head);
                self.enter(Phase::Head);
                self.head_bytes = received.len();
                self.see_head(received);
            }
            Phase::Head => {
                self.head_bytes += received.len();
                self.see_head(received);
            }
            Phase::Body => {
                self.patience.earn(received.len());
                self.expected = self.expected.saturating_sub(received.len() as u64);
                let tcp = self.transport.tcp().stream();
                self.low_water.received(tcp, received.len(), self.expected);
                if self.parser.is_some() && !self.info.state.see_body(received) {
                    return Err(self.cut(Cut::Framing));
                }
            }
            Phase::Answer if self.parser.is_some() => {
                // Whatever comes now is the next request's, or is found to be odd there.
                self.info.state.see_body(received);
            }
            Phase::Answer => {}
        }
        Ok(())
    }

    fn sent_frames(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.went(bytes);
        }
    }

    fn see_head(&self, received: &[u8]) {
        if self.parser.is_some() {
            self.info.state.see_head(received);
        }
    }

    /// When the client must have sent something, if it must.
    fn deadline(&mut self, phase: Phase) -> Option<(Instant, Cut)> {
        match phase {
            // Who is silent before a handshake has no longer either.
            Phase::Idle if self.info.clear.is_some() && self.requests == 0 => {
                let time = self.limits.idle_time.min(self.limits.handshake_time);
                Some((self.since + time, Cut::No))
            }
            Phase::Idle => Some((self.since + self.limits.idle_time, Cut::No)),
            Phase::Head => Some((self.since + self.limits.header_time, Cut::HeaderTime)),
            Phase::Body => Some((self.patience.until(), Cut::BodyRate)),
            // An HTTP/2 connection is not polled when its last stream ends: be polled again soon.
            _ if self.http2 => Some((Instant::now() + RECHECK, Cut::No)),
            _ => None,
        }
    }

    /// Whether `deadline` has passed; if not, be woken when it does.
    pub(super) fn passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        self.timer.passed(cx, deadline)
    }

    /// Nothing to read: hold the client to its deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<io::Result<()>> {
        let Some((deadline, cut)) = self.deadline(phase) else { return Poll::Pending };
        if !self.passed(cx, deadline) {
            return Poll::Pending;
        }
        match phase {
            Phase::Idle => {
                // To the reader this is the client's own end of a quiet connection.
                let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
                Poll::Ready(Ok(()))
            }
            Phase::Head => Poll::Ready(Err(self.refuse(cx, cut, Denial::LimitTime))),
            Phase::Body => Poll::Ready(Err(self.cut(cut))),
            _ => Poll::Pending,
        }
    }

    pub(super) fn cut(&mut self, cut: Cut) -> io::Error {
        self.info.state.set_cut(cut);
        io::Error::new(io::ErrorKind::TimedOut, "the client was too slow")
    }

    /// Hand what was gathered to TLS; the memory is let go once it is empty.
    pub(super) fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.transport).poll_write(cx, rest) {
                Poll::Ready(n) => {
                    self.sent += n?;
                    self.stalled = None;
                }
                Poll::Pending => return self.poll_stall(cx),
            }
        }
        if !self.gathered.is_empty() {
            self.gathered = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// The client takes nothing: hold it to its deadline.
    fn poll_stall<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let since = *self.stalled.get_or_insert_with(Instant::now);
        if self.passed(cx, since + self.limits.send_stall) {
            return Poll::Ready(Err(self.cut(Cut::SendStall)));
        }
        Poll::Pending
    }
}

fn patience(limits: &ConnLimits) -> Patience {
    Patience::new(Pace { grace: limits.body_grace, bytes_per_second: limits.body_bytes_per_second })
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let phase = me.phase();
        if phase == Phase::Head && me.head_bytes >= me.limits.header_bytes {
            return Poll::Ready(Err(me.refuse(cx, Cut::HeaderBytes, Denial::LimitHead)));
        }
        if !me.unread.is_empty() {
            let n = out.remaining().min(me.unread.len());
            let again = me.unread.split_to(n);
            out.put_slice(&again);
            return Poll::Ready(me.received(phase, &again));
        }
        let before = out.filled().len();
        match me.poll_transport(cx, out) {
            Poll::Ready(done) => {
                done?;
                Poll::Ready(me.received(phase, out.filled().get(before..).unwrap_or_default()))
            }
            Poll::Pending => {
                // Whoever waits for the client wants it to have what was written so far.
                if !me.gathered.is_empty()
                    && let Poll::Ready(Err(error)) = me.poll_gathered(cx)
                {
                    return Poll::Ready(Err(error));
                }
                me.low_water.waits(cx, me.transport.tcp().stream());
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
        me.answered_head |= me.seen == Phase::Head;
        if me.gathered.len() + bytes.len() <= GATHER_BYTES {
            me.gathered.extend_from_slice(bytes);
            me.sent_frames(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(me.poll_gathered(cx))?;
        match Pin::new(&mut me.transport).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                me.stalled = None;
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
                me.stalled = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => me.poll_stall(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}
