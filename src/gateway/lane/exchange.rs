//! One request and its answer: the request goes to the backend and the answer to the client, each as
//! fast as its receiver takes it, and neither is held whole.

use std::future::poll_fn;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::answer_fault::AnswerFault;
use super::backend::Backend;
use super::held::Held;
use super::pool::Pool;
use super::request::Outgoing;
use super::response::Rest;
use super::scratch::{self, SCRATCH_BYTES};
use crate::denial::Denial;
use crate::front::Conn;
use crate::gateway::ctx::RequestCtx;

/// What is read at first, and again once a client has shown to be slow: what it does not take is
/// held for it.
pub(super) const READ_MIN: usize = 32 * 1024;
/// How much of the next requests is read while one is answered.
const AHEAD_MAX: usize = 16 * 1024;
/// How long an answer is still waited for once the client has said that it will send no more: most
/// who say so are gone, and a few are waiting.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// A request was answered, in full.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) received: usize,
    pub(super) sent: usize,
    /// Whether the client's connection is to end.
    pub(super) close: bool,
    /// Whether the client was answered before it had sent all of its request.
    pub(super) early: bool,
}

/// A request was not answered in full.
pub(super) struct Failed {
    /// Why; `None` if the client went away.
    pub(super) denial: Option<Denial>,
    /// More of it, for the log.
    pub(super) detail: String,
    /// The status, if the answer had begun.
    pub(super) status: Option<u16>,
    pub(super) received: usize,
    pub(super) sent: usize,
}

impl Failed {
    pub(super) fn because(denial: Denial, detail: String) -> Self {
        Failed { denial: Some(denial), detail, status: None, received: 0, sent: 0 }
    }

    pub(super) fn client(detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Failed { denial: None, detail, status: None, received: 0, sent: 0 }
    }

    pub(super) fn closed(detail: impl ToString) -> Self {
        Failed::because(Denial::UpstreamClosed, detail.to_string())
    }

    pub(super) fn challenged() -> Self {
        let detail = "the backend answered 401".to_owned();
        Failed::because(Denial::UpstreamCredentials, detail)
    }

    pub(super) fn malformed(fault: impl Into<AnswerFault>) -> Self {
        Failed::because(Denial::UpstreamResponse, fault.into().to_string())
    }
}

/// Send a request to its backend and the answer to the client. `buf` holds what came after the
/// request's head.
pub(super) async fn run(
    conn: &mut Conn,
    buf: &mut BytesMut,
    pool: &Pool,
    ctx: &RequestCtx,
    going: Outgoing,
) -> Result<Answered, Failed> {
    let mut up = Backend::open(pool, &going, &ctx.attempt, false).await?;
    let mut tried = false;
    let mut exchange = Exchange::new(conn, buf, going);
    loop {
        match poll_fn(|cx| exchange.poll(cx, &mut up, ctx)).await {
            Ok(keep) => {
                let (close, early) = (exchange.going.close, exchange.body_left > 0);
                let Exchange { received, sent, status, .. } = exchange;
                if keep {
                    up.keep(pool);
                }
                let status = status.unwrap_or(0);
                return Ok(Answered { status, received, sent, close, early });
            }
            // The backend closed the connection just as the request was sent on it.
            Err(failed)
                if up.reused
                    && !tried
                    && exchange.may_repeat()
                    && failed.denial == Some(Denial::UpstreamClosed) =>
            {
                tried = true;
                exchange.out_at = 0;
                up = Backend::open(pool, &exchange.going, &ctx.attempt, true).await?;
            }
            Err(failed) => {
                let Exchange { received, sent, status, back_at, .. } = exchange;
                // In the middle of an interim answer there is no room for another.
                let status = status.or((back_at > 0).then_some(0));
                return Err(Failed { received, sent, status, ..failed });
            }
        }
    }
}

/// The state of one request.
pub(super) struct Exchange<'a> {
    pub(super) conn: &'a mut Conn,
    buf: &'a mut BytesMut,
    pub(super) going: Outgoing,
    /// To the backend: what was not sent yet begins at `out_at`.
    pub(super) out: Vec<u8>,
    pub(super) out_at: usize,
    /// Bytes of body that the client is still to send.
    pub(super) body_left: u64,
    /// From the backend: an answer's head while it is not whole.
    pub(super) head: Vec<u8>,
    pub(super) heard: bool,
    pub(super) interims: usize,
    /// To the client: what was not sent yet begins at `back_at`.
    pub(super) back: Vec<u8>,
    pub(super) back_at: usize,
    /// What is not sent before it is whole.
    pub(super) held: Option<Held>,
    /// What is still to come of the answer, once its head was there.
    pub(super) rest: Option<Rest>,
    pub(super) keep: bool,
    pub(super) read_size: usize,
    pub(super) blocked: Option<Instant>,
    half_closed: Option<Instant>,
    /// Of an answer whose head was just read.
    pub(super) upstream_status: Option<u16>,
    /// Of an answer that goes to the client.
    pub(super) status: Option<u16>,
    received: usize,
    pub(super) sent: usize,
}

impl<'a> Exchange<'a> {
    fn new(conn: &'a mut Conn, buf: &'a mut BytesMut, mut going: Outgoing) -> Self {
        let mut out = mem::take(&mut going.head);
        let here = usize::try_from(going.body).unwrap_or(usize::MAX).min(buf.len());
        out.extend_from_slice(&buf.split_to(here));
        let body_left = going.body - here as u64;
        conn.expect_body(body_left);
        Exchange {
            conn,
            buf,
            body_left,
            going,
            out,
            out_at: 0,
            head: Vec::new(),
            heard: false,
            interims: 0,
            back: Vec::new(),
            back_at: 0,
            held: None,
            rest: None,
            keep: true,
            read_size: READ_MIN,
            blocked: None,
            half_closed: None,
            upstream_status: None,
            status: None,
            received: here,
            sent: 0,
        }
    }

    fn may_repeat(&self) -> bool {
        self.going.repeatable && !self.heard
    }

    /// Whether the backend's connection can be kept, once the answer was sent.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Backend,
        ctx: &RequestCtx,
    ) -> Poll<Result<bool, Failed>> {
        if let Some(denial) = ctx.place.as_ref().and_then(|place| place.poll_blocked(cx)) {
            let detail = "blocked while it was under way".to_owned();
            return Poll::Ready(Err(Failed::because(denial, detail)));
        }
        if self.rest.is_none() {
            ready!(self.poll_head(cx, up, ctx))?;
        }
        self.poll_rest(cx, up)
    }

    /// Send the request until the head of its answer is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Backend,
        ctx: &RequestCtx,
    ) -> Poll<Result<(), Failed>> {
        loop {
            let waits = self.poll_send(cx, up, ctx)?;
            let taken = scratch::with(READ_MIN, |scratch| {
                let read = ready!(up.poll_read(cx, scratch)).map_err(Failed::closed)?;
                Poll::Ready(self.take_head(scratch.get(..read).unwrap_or_default()))
            });
            if let Some(status) = self.upstream_status.take() {
                up.answered(status, &ctx.attempt);
            }
            match taken {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => continue,
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(failed)),
                Poll::Pending => {}
            }
            // The connection itself holds a client that is waited for to its time.
            return match waits {
                Waits::ForClient => Poll::Pending,
                Waits::ForBackend => self.poll_backend(cx, up),
            };
        }
    }

    /// The backend is waited for: meanwhile the client gets what there is, and may go.
    pub(super) fn poll_backend<T>(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Backend,
    ) -> Poll<Result<T, Failed>> {
        if let Poll::Ready(Err(failed)) = self.poll_back(cx) {
            return Poll::Ready(Err(failed));
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut *self.conn).poll_flush(cx) {
            return Poll::Ready(Err(Failed::client(error)));
        }
        self.poll_client(cx)?;
        // Once it goes out, a client that is gone is found by its not taking it.
        let unanswered = self.half_closed.filter(|_| self.rest.is_none());
        let gone = unanswered.map(|since| since + HALF_CLOSED);
        match up.poll_patience(cx, gone) {
            Poll::Ready(()) if gone.is_some_and(|gone| gone <= Instant::now()) => {
                Poll::Ready(Err(Failed::client("the client went away")))
            }
            Poll::Ready(()) => Poll::Ready(Err(Failed::because(
                Denial::UpstreamTimeout,
                "the backend did not go on in time".to_owned(),
            ))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Send as much of the request as is there and is taken.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Backend,
        ctx: &RequestCtx,
    ) -> Result<Waits, Failed> {
        loop {
            while let Some(out) = self.out.get(self.out_at..).filter(|out| !out.is_empty()) {
                match up.poll_write(cx, out) {
                    Poll::Ready(Ok(n)) => self.out_at += n,
                    // It may have answered before it stopped reading.
                    Poll::Ready(Err(_)) if self.body_left > 0 || self.received > 0 => {
                        return Ok(Waits::ForBackend);
                    }
                    Poll::Ready(Err(error)) => return Err(Failed::closed(error)),
                    Poll::Pending => return Ok(Waits::ForBackend),
                }
            }
            if self.body_left == 0 {
                if self.received > 0
                    && let Some(in_flight) = &ctx.in_flight
                {
                    in_flight.body_done();
                }
                return Ok(Waits::ForBackend);
            }
            match self.poll_body(cx, up) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return Ok(Waits::ForClient),
            }
        }
    }

    /// Read the next piece of the request's body, and send what the backend takes of it.
    fn poll_body(&mut self, cx: &mut Context<'_>, up: &mut Backend) -> Poll<Result<(), Failed>> {
        let most = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(SCRATCH_BYTES);
        scratch::with(most, |scratch| {
            let mut read = ReadBuf::new(scratch);
            // One read gives one record: gather a few for one system call.
            while read.remaining() > 0 {
                let before = read.filled().len();
                match Pin::new(&mut *self.conn).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if read.filled().len() > before => {}
                    Poll::Ready(_) if before > 0 => break,
                    Poll::Ready(Ok(())) => {
                        return Poll::Ready(Err(Failed::client("the body was cut off")));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::client(error))),
                    Poll::Pending if before > 0 => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let bytes = read.filled();
            self.body_left -= bytes.len() as u64;
            self.received += bytes.len();
            self.out.clear();
            self.out_at = 0;
            let mut at = 0;
            while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
                match up.poll_write(cx, rest) {
                    Poll::Ready(Ok(n)) => at += n,
                    // Found again, with all that follows from it, by whoever sends the rest.
                    Poll::Ready(Err(_)) | Poll::Pending => {
                        self.out.extend_from_slice(rest);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// While the backend is waited for: has the client gone, or sent its next request?
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let listens = self.body_left == 0 && self.half_closed.is_none();
        while listens && self.buf.len() < AHEAD_MAX {
            let mut piece = [MaybeUninit::uninit(); 1024];
            let mut read = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut *self.conn).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.buf.extend_from_slice(read.filled());
                }
                Poll::Ready(Ok(())) => {
                    self.half_closed = Some(Instant::now());
                    // What it sent ahead is answered, too.
                    self.going.close |= self.buf.is_empty();
                    break;
                }
                Poll::Ready(Err(error)) => return Err(Failed::client(error)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

/// Who is waited for while a request is sent.
enum Waits {
    ForClient,
    ForBackend,
}
