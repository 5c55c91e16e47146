//! One exchange: forwards the request to the backend and relays the response to the client, full
//! duplex, with backpressure in both directions. Neither is buffered whole.
//!
//! Independent of the client's protocol: the session implements [`ClientStream`].

mod added_headers;
mod answer;
mod answer_fault;
mod attempt;
mod backend_connection;
mod buffered;
mod client;
mod failover;
mod in_flight;
mod link_rewriting;
mod outgoing;
mod permits;
mod pool;
mod relay;
mod response_buffer;
mod scratch;
mod transport;
mod upload;

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, ready};

pub use answer::judge_answer;
pub use answer_fault::AnswerFault;
pub use in_flight::RequestsInFlight;
pub use permits::Bound;
pub use transport::BackendTls;

pub(super) use added_headers::write as write_added;
pub(super) use attempt::Attempt;
pub(super) use buffered::{BufferLimit, BufferedBytes};
pub(super) use client::{ClientStream, Follows, ResponseHead};
pub(super) use in_flight::{InFlightEntry, InFlightShard};
pub(super) use outgoing::{Outgoing, put};
pub(super) use permits::{Permit, PermitRequest, Permits};
pub(super) use pool::{IdleConnection, Pool};
pub(super) use relay::chunk;
pub(super) use scratch::{SCRATCH_BYTES, with as with_scratch};
pub(super) use transport::{Address, ConnectTarget, Peer};

use super::judge::framing::Body;
use super::record::ctx::RequestCtx;
use crate::denial::Denial;

use answer::Rest;
use backend_connection::BackendConnection;
use response_buffer::ResponseBuffer;
use upload::put_body;

/// The owner of a backend connection once its exchange is over.
pub(super) enum ConnectionReuse<'a> {
    /// Any client: the connection returns to the pool.
    Pool(&'a Pool),
    /// This client only, and it closes with the client's connection: Windows authentication is
    /// bound to both.
    Client(&'a mut Option<(Peer, IdleConnection)>),
    /// None: the request asks for an upgrade.
    Never,
}

/// The part of a request's body that was read before the backend is contacted.
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    pub(super) bytes: Vec<u8>,
    /// Whether that is the whole body.
    pub(super) whole: bool,
    /// Whether 100 Continue was sent.
    pub(super) asked: bool,
    /// The account of its buffered bytes, and later of the response's; `None` if there is no room.
    pub(super) held: Option<BufferedBytes>,
}

/// A complete exchange.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// An exchange that failed before the response was complete.
#[derive(Debug)]
pub(super) struct Failed {
    /// The reason; `None` if the client is gone.
    pub(super) denial: Option<Denial>,
    /// Details, for the log.
    pub(super) detail: String,
    /// The status, if the response had begun.
    pub(super) status: Option<u16>,
    pub(super) received: usize,
    pub(super) sent: usize,
}

impl Failed {
    pub(super) fn because(denial: Denial, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Failed { denial: Some(denial), detail, status: None, received: 0, sent: 0 }
    }

    /// The client is gone.
    pub(super) fn client(detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Failed { denial: None, detail, status: None, received: 0, sent: 0 }
    }

    fn closed(detail: impl ToString) -> Self {
        Failed::because(Denial::UpstreamClosed, detail.to_string())
    }

    fn malformed(fault: impl Into<AnswerFault>) -> Self {
        Failed::because(Denial::UpstreamResponse, fault.into().to_string())
    }
}

/// Forwards a request to its backend and relays the response to the client.
pub(super) async fn run<C: ClientStream>(
    client: &mut C,
    mut whose: ConnectionReuse<'_>,
    ctx: &RequestCtx,
    going: Outgoing,
    ahead: Prefetched,
) -> Result<Answered, Failed> {
    let received = ahead.bytes.len();
    let opened = failover::open(&mut whose, &going, &ctx.exchange.attempt, false).await;
    let mut up = opened.map_err(|failed| Failed { received, ..failed })?;
    let mut tried = false;
    let mut exchange = Exchange::new(client, going, ahead);
    loop {
        match poll_fn(|cx| exchange.poll(cx, &mut up, ctx)).await {
            Ok(keep) => {
                let Exchange { request, response, .. } = exchange;
                if keep {
                    up.keep(whose);
                }
                let status = response.status.unwrap_or(0);
                return Ok(Answered { status, received: request.received, sent: response.sent });
            }
            // The backend closed the idle connection just as the request was sent: retry once on a
            // new one.
            Err(failed)
                if up.reused
                    && !tried
                    && exchange.may_repeat()
                    && failed.denial == Some(Denial::UpstreamClosed) =>
            {
                tried = true;
                exchange.again();
                up = failover::open(&mut whose, &exchange.going, &ctx.exchange.attempt, true)
                    .await?;
            }
            Err(failed) => {
                // Send the received part of a broken response before the client sees the failure.
                let flushed = |cx: &mut Context<'_>| Poll::Ready(exchange.client.poll_flush(cx));
                let _ = poll_fn(flushed).await;
                let Exchange { request, response, .. } = exchange;
                let (received, status, sent) = (request.received, response.status, response.sent);
                return Err(Failed { received, sent, status, ..failed });
            }
        }
    }
}

/// The progress of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upload {
    /// The client is still sending it.
    Open,
    /// The client has sent it, but the backend has not accepted all of it.
    Received,
    /// The backend has all of it.
    Sent,
    /// The backend accepts no more of it.
    Abandoned,
}

/// The state of one exchange.
struct Exchange<'a, C> {
    client: &'a mut C,
    going: Outgoing,
    request: RequestProgress,
    response: ResponseProgress,
}

/// The request on its way to the backend.
struct RequestProgress {
    /// The account of its buffered bytes, until it is forwarded.
    room: Option<BufferedBytes>,
    /// Bytes for the backend. The unsent part begins at `out_at`.
    out: Vec<u8>,
    out_at: usize,
    upload: Upload,
    /// Whether the body bytes that came with the head were looked for.
    begun: bool,
    /// The body bytes still to come, if known.
    left: Option<u64>,
    received: usize,
}

/// The response on its way to the client.
struct ResponseProgress {
    /// Bytes from the backend: an incomplete response head.
    head: Vec<u8>,
    heard: bool,
    interims: usize,
    /// A response that is buffered for link rewriting.
    held: Option<ResponseBuffer>,
    /// The account of those bytes, until the client has taken them.
    sending: Option<BufferedBytes>,
    /// The rest of the response, once its head is complete.
    rest: Option<Rest>,
    ended: bool,
    keep: bool,
    /// The status of a response whose head was just read.
    upstream_status: Option<u16>,
    /// The status of the response to the client.
    status: Option<u16>,
    sent: usize,
}

/// The side that the upload waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForClient,
    ForBackend,
}

impl<'a, C: ClientStream> Exchange<'a, C> {
    fn new(client: &'a mut C, mut going: Outgoing, ahead: Prefetched) -> Self {
        let left = match going.body {
            Body::Empty => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked => None,
        };
        let request = RequestProgress {
            room: ahead.held,
            out: mem::take(&mut going.head),
            out_at: 0,
            upload: Upload::Open,
            begun: false,
            left: left.map(|left| left.saturating_sub(ahead.bytes.len() as u64)),
            received: ahead.bytes.len(),
        };
        let response = ResponseProgress {
            head: Vec::new(),
            heard: false,
            interims: 0,
            held: None,
            sending: None,
            rest: None,
            ended: false,
            keep: true,
            upstream_status: None,
            status: None,
            sent: 0,
        };
        let mut exchange = Exchange { client, going, request, response };
        let RequestProgress { out, left, .. } = &mut exchange.request;
        put_body(out, left.is_none(), &ahead.bytes);
        if ahead.whole || *left == Some(0) {
            exchange.received_all();
        }
        exchange
    }

    fn may_repeat(&self) -> bool {
        self.going.repeatable && !self.response.heard
    }

    /// Resets the request for a retry. Only a request without a body is repeatable, and its head is
    /// still buffered.
    fn again(&mut self) {
        (self.request.out_at, self.request.upload) = (0, Upload::Received);
    }

    /// The client has sent its whole request.
    fn received_all(&mut self) {
        if self.request.left.is_none() {
            self.request.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.request.upload = Upload::Received;
    }

    /// Runs the exchange. Ready with whether the backend connection can be reused.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
        ctx: &RequestCtx,
    ) -> Poll<Result<bool, Failed>> {
        if let Some(denial) = ctx.exchange.place.as_ref().and_then(|place| place.poll_blocked(cx)) {
            let detail = "blocked while it was in flight";
            return Poll::Ready(Err(Failed::because(denial, detail)));
        }
        let waits = self.poll_send(cx, up, ctx)?;
        let tunnelled = matches!(self.response.rest, Some(Rest::Tunnel));
        if tunnelled && self.request.upload != Upload::Open {
            return Poll::Ready(Ok(false));
        }
        if self.response.rest.is_none() && self.poll_head(cx, up, ctx)?.is_pending() {
            return self.poll_waiting(cx, up, waits);
        }
        match self.poll_rest(cx, up) {
            Poll::Ready(Ok(Some(keep))) => Poll::Ready(Ok(keep)),
            Poll::Ready(Ok(None)) => self.poll_waiting(cx, up, waits),
            Poll::Ready(Err(failed)) => Poll::Ready(Err(failed)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads until the response head is complete.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
        ctx: &RequestCtx,
    ) -> Result<Poll<()>, Failed> {
        loop {
            let taken = scratch::with(self.client.first_read(), |scratch| {
                let read = ready!(up.poll_read(cx, scratch)).map_err(Failed::closed)?;
                Poll::Ready(self.take_head(cx, scratch.get(..read).unwrap_or_default()))
            });
            if let Some(status) = self.response.upstream_status.take() {
                up.answered(status, &ctx.exchange.attempt);
            }
            match taken {
                Poll::Ready(Ok(true)) => return Ok(Poll::Ready(())),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(failed)) => return Err(failed),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Waits for the backend, or for the client's body. Meanwhile flushes to the client, and
    /// detects a client that is gone.
    fn poll_waiting<T>(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
        waits: Waits,
    ) -> Poll<Result<T, Failed>> {
        if let Poll::Ready(Err(failed)) = self.client.poll_flush(cx) {
            return Poll::Ready(Err(failed));
        }
        if self.request.upload != Upload::Open {
            self.client.poll_gone(cx, self.response.rest.is_some())?;
        }
        // The session itself limits the wait for the client.
        if waits == Waits::ForClient && !matches!(self.response.rest, Some(Rest::Tunnel)) {
            return Poll::Pending;
        }
        ready!(up.poll_timeout(cx));
        Poll::Ready(Err(Failed::because(
            Denial::UpstreamTimeout,
            "the backend stopped sending for too long",
        )))
    }
}
