//! HTTP/2 (RFC 9113): pingora's handshake and the h2 streams of a connection. Request and response
//! are full duplex, each with flow control by its receiver.

mod head;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use http::request::Parts;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options, handshake};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::head::{head_of, joined_cookies, response};
use super::unread_responses::{UnreadResponses, UnsentResponse};
use super::{Over, Session};
use crate::denial::Denial;
use crate::front::{BodyRate, Conn, ConnInfo, Deadline};
use crate::gateway::Gateway;
use crate::gateway::exchange::{ClientStream, Failed, Follows, ResponseHead};

/// Flow-control windows: enough for one client, and a bound on the memory it can take.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes buffered per response until the client reads them.
const SEND_BUFFER: usize = 16 * 1024;
/// The read size for a response before its client is known to read it, and if the client is behind
/// with reading others.
const FIRST_READ: usize = 8 * 1024;
const FIRST_READ_BEHIND: usize = 2 * 1024;
/// How long the data of a client that still sends is discarded: in total, and while none arrives.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// How long the head of an early error response waits for its body. A client that gets the head
/// alone may end its upload before its announced length (curl before 8.7 does), and h2 resets the
/// stream of such a request, with its response (RFC 9113 §8.1.1).
const EARLY_HEAD: Duration = Duration::from_secs(5);

/// Returns the HTTP/2 settings.
fn options(streams_max: usize) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(u32::try_from(streams_max).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    options
}

/// Serves a connection to its end.
pub(in crate::gateway) async fn serve(
    gateway: &Arc<Gateway>,
    conn: Conn,
    shutdown: &mut watch::Receiver<bool>,
) {
    let info = conn.info().clone();
    // The front watches the frames, and counts malformed HTTP/2.
    let options = options(gateway.policy.peek(|policy| policy.limits.http2_streams));
    let Ok(mut connection) = handshake(Box::new(conn), Some(options)).await else { return };
    let mut streams = JoinSet::new();
    let unread = Arc::new(UnreadResponses::default());
    let mut ending = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.changed(), if !ending => {
                connection.graceful_shutdown();
                ending = true;
                continue;
            }
            accepted = connection.accept() => accepted,
            Some(_) = streams.join_next(), if !streams.is_empty() => continue,
        };
        match accepted {
            Some(Ok((request, respond))) => {
                let (head, body) = request.into_parts();
                let client = Http2::new(gateway, body, respond, unread.clone());
                streams.spawn(stream(gateway.clone(), info.clone(), head, client));
            }
            Some(Err(_)) | None => break,
        }
    }
    // Exchanges still in flight find that their client is gone.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

/// Serves one request.
async fn stream(gateway: Arc<Gateway>, info: Arc<ConnInfo>, parts: Parts, mut client: Http2) {
    let cookie = joined_cookies(&parts);
    let head = head_of(&parts, cookie.as_deref(), client.body_ended);
    match gateway.request(&mut client, &info, &head, &mut None).await {
        Over::Answered => client.linger().await,
        Over::CutOff => {
            client.send_early().await;
            // A reset discards unsent data: let the connection send it first.
            tokio::task::yield_now().await;
            client.reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// The client side of one request.
struct Http2 {
    body: RecvStream,
    body_ended: bool,
    /// Body bytes passed on whose flow-control capacity is not released yet.
    unreleased: usize,
    body_rate: BodyRate,
    respond: SendResponse<Bytes>,
    /// The head of an early error response, which is sent with its body.
    early: Option<EarlyHead>,
    answer: Option<SendStream<Bytes>>,
    unsent: UnsentResponse,
    /// Whether the response is complete; `told` says whether END_STREAM was sent.
    ended: bool,
    told: bool,
    reserved: bool,
    send_stall: Duration,
    stalled: Option<Instant>,
    deadline: Deadline,
}

/// The head of an error response that a backend sent before it had read the request.
struct EarlyHead {
    response: Response<()>,
    /// When it is sent without its body.
    until: Instant,
}

impl Http2 {
    fn new(
        gateway: &Gateway,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        unread: Arc<UnreadResponses>,
    ) -> Self {
        let (body_rate, send_stall) =
            gateway.policy.peek(|policy| (BodyRate::new(&policy.limits), policy.limits.send_stall));
        Http2 {
            body_ended: body.is_end_stream(),
            body,
            unreleased: 0,
            body_rate,
            respond,
            early: None,
            answer: None,
            unsent: UnsentResponse::new(unread),
            ended: false,
            told: false,
            reserved: false,
            send_stall,
            stalled: None,
            deadline: Deadline::default(),
        }
    }

    fn send_head(&mut self, response: Response<()>) -> Result<(), Failed> {
        let sent = self.respond.send_response(response, self.told);
        self.answer = Some(sent.map_err(Failed::client)?);
        Ok(())
    }

    /// Sends an early head that is still held, with the part of its body that has arrived.
    async fn send_early(&mut self) {
        if let Some(early) = self.early.take()
            && self.send_head(early.response).is_ok()
        {
            let _ = poll_fn(|cx| Poll::Ready(self.poll_sent(cx))).await;
        }
    }

    /// Resets the stream before the end of its response.
    fn reset(&mut self, reason: Reason) {
        match &mut self.answer {
            Some(answer) => answer.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Discards the client's further data for a while (lingering close).
    async fn linger(mut self) {
        let _ = timeout(LINGER, async {
            while let Ok(Some(Ok(data))) = timeout(LINGER_SILENCE, self.body.data()).await {
                let _ = self.body.flow_control().release_capacity(data.len());
            }
        })
        .await;
    }

    /// Returns how many of `wanted` bytes the client accepts now: at least one.
    fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, Failed>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(Failed::because(
                Denial::GatewayInternal,
                "no response was started",
            )));
        };
        answer.reserve_capacity(wanted);
        self.reserved = true;
        while answer.capacity() == 0 {
            match answer.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Failed::client(error))),
                Poll::Ready(None) => return Poll::Ready(Err(taken_back())),
                Poll::Pending => return self.poll_stalled(cx),
            }
        }
        self.stalled = None;
        Poll::Ready(Ok(answer.capacity()))
    }

    /// Waits for a client that does not read, for a limited time.
    fn poll_stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failed>> {
        let since = *self.stalled.get_or_insert_with(Instant::now);
        if self.deadline.passed(cx, since + self.send_stall) {
            Poll::Ready(Err(Failed::client("the client was too slow")))
        } else {
            Poll::Pending
        }
    }

    /// Returns the reason for a broken body.
    fn broken(error: &h2::Error) -> Failed {
        if error.is_remote() || error.is_io() || error.is_go_away() {
            Failed::client(error)
        } else {
            // For a body that contradicts its Content-Length, h2 has reset the stream: this is
            // logged only.
            Failed::because(Denial::FramingLength, error.to_string())
        }
    }
}

fn taken_back() -> Failed {
    Failed::client("the client reset the stream")
}

impl ClientStream for Http2 {
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
        take: &mut dyn FnMut(&mut Context<'_>, &[u8]),
    ) -> Poll<Result<bool, Failed>> {
        if self.unreleased > 0 {
            let _ = self.body.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        if self.body_ended {
            return Poll::Ready(Ok(false));
        }
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.body_rate.earn(data.len());
                self.unreleased = data.len();
                take(cx, &data);
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Http2::broken(&error))),
            Poll::Ready(None) => {
                self.body_ended = true;
                Poll::Ready(Ok(false))
            }
            Poll::Pending => {
                if self.deadline.passed(cx, self.body_rate.until()) {
                    let detail = "the client was too slow";
                    Poll::Ready(Err(Failed::because(Denial::LimitRate, detail)))
                } else {
                    Poll::Pending
                }
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _: bool) -> Result<(), Failed> {
        let reset = match &mut self.answer {
            Some(answer) => answer.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        match reset {
            Poll::Ready(Ok(_)) => Err(taken_back()),
            Poll::Ready(Err(error)) => Err(Failed::client(error)),
            Poll::Pending => Ok(()),
        }
    }

    fn first_read(&self) -> usize {
        if self.unsent.unread().is_behind() { FIRST_READ_BEHIND } else { FIRST_READ }
    }

    fn interim(&mut self, answer: &ResponseHead<'_>) {
        if let Some(response) = response(answer) {
            // A client that is gone is detected by the next write.
            let _ = self.respond.send_informational(response);
        }
    }

    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        follows: Follows,
        _: bool,
    ) -> Result<(), Failed> {
        let Some(response) = response(answer) else {
            return Err(Failed::because(Denial::GatewayInternal, "not a response of HTTP/2"));
        };
        self.told = !matches!(follows, Follows::Length(1..) | Follows::Body);
        if !self.told && !self.body_ended && answer.status >= 400 {
            self.early = Some(EarlyHead { response, until: Instant::now() + EARLY_HEAD });
            return Ok(());
        }
        self.send_head(response)
    }

    fn data(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed> {
        self.unsent.put(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failed> {
        self.ended = true;
        Ok(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if let Some(early) = &self.early {
            let is_whole = self.ended || self.unsent.len() >= SEND_BUFFER;
            if !is_whole && !self.body_ended && !self.deadline.passed(cx, early.until) {
                return Poll::Ready(Ok(()));
            }
            if let Some(early) = self.early.take() {
                self.send_head(early.response)?;
            }
        }
        while !self.unsent.is_empty() {
            let room = ready!(self.poll_capacity(cx, self.unsent.len()))?;
            let piece = self.unsent.take(room);
            self.told = self.ended && self.unsent.is_empty();
            if let Some(answer) = &mut self.answer {
                answer.send_data(piece, self.told).map_err(Failed::client)?;
            }
        }
        if self.ended && !self.told {
            self.told = true;
            if let Some(answer) = &mut self.answer {
                answer.send_data(Bytes::new(), true).map_err(Failed::client)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Failed>> {
        if !self.unsent.unread().has_room(cx) {
            return self.poll_stalled(cx);
        }
        if self.early.is_some() {
            return Poll::Ready(Ok(SEND_BUFFER));
        }
        self.poll_capacity(cx, SEND_BUFFER)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.answer.is_some() || self.early.is_some() {
            ready!(self.poll_sent(cx))?;
        }
        // The connection is shared: unused capacity goes to other streams.
        if let Some(answer) = self.answer.as_mut().filter(|_| self.reserved && !self.told) {
            answer.reserve_capacity(0);
            self.reserved = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Session for Http2 {
    fn is_shared(&self) -> bool {
        true
    }

    fn come_by_http1(&mut self) {
        self.reset(Reason::HTTP_1_1_REQUIRED);
    }

    fn discard_body(&mut self) -> bool {
        true
    }
}
