//! The client side of one HTTP/1 request.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::denial::Denial;
use crate::front::{Chunks, Conn, Cut, Deadline};
use crate::gateway::exchange::{
    ClientStream, Failed, Follows, ResponseHead, SCRATCH_BYTES, chunk, put, with_scratch,
};
use crate::gateway::judge::framing::{Body, RequestHead, Version};
use crate::gateway::judge::headers::names;
use crate::gateway::session::Session;

/// The initial read size for a response, and the size for a slow client: unsent bytes are buffered.
const READ_MIN: usize = 32 * 1024;
/// A client that reads its data within this time may get more at once.
const QUICK: Duration = Duration::from_millis(20);
/// The most bytes to read ahead of the next requests (pipelining) during an exchange.
const AHEAD_MAX: usize = 16 * 1024;
/// How long to wait for a response after the client has half-closed its connection. Most such
/// clients are gone, and a few still wait.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// Checks whether the connection closes after the response (RFC 9112 §9.6). It does for HTTP/1.0,
/// and for an upgrade, after which there is no further request.
fn ends_after(head: &RequestHead<'_>) -> bool {
    let mut fields = head.fields.iter();
    head.version == Version::Http10
        || fields.any(|(name, value)| match name.len() {
            7 => name.eq_ignore_ascii_case("upgrade"),
            10 => name.eq_ignore_ascii_case("connection") && names(value, "close"),
            _ => false,
        })
}

/// The rest of a request's body.
#[derive(Debug)]
enum Incoming {
    Length(u64),
    Chunks(Chunks),
    /// Bytes of another protocol.
    Foreign,
    Ended,
}

/// The client side of one request.
pub(super) struct Http1<'a> {
    conn: &'a mut Conn,
    /// The bytes after the request's head.
    buf: &'a mut BytesMut,
    body: Incoming,
    http10: bool,
    /// Whether the connection closes after the response.
    pub(super) close: bool,
    /// Bytes for the client. The unsent part begins at `back_at`.
    back: Vec<u8>,
    back_at: usize,
    chunked: bool,
    read_size: usize,
    blocked: Option<Instant>,
    half_closed: Option<Instant>,
    deadline: Deadline,
}

impl<'a> Http1<'a> {
    pub(super) fn new(conn: &'a mut Conn, buf: &'a mut BytesMut, head: &RequestHead<'_>) -> Self {
        let body = match head.body {
            Body::Empty => Incoming::Ended,
            Body::Length(length) => Incoming::Length(length),
            Body::Chunked => Incoming::Chunks(Chunks::default()),
        };
        let http10 = head.version == Version::Http10;
        Http1 { http10, close: ends_after(head), ..Http1::of(conn, buf, body) }
    }

    /// The client side without a request: its head could not be read.
    pub(super) fn without_body(conn: &'a mut Conn, buf: &'a mut BytesMut) -> Self {
        Http1::of(conn, buf, Incoming::Ended)
    }

    fn of(conn: &'a mut Conn, buf: &'a mut BytesMut, body: Incoming) -> Self {
        Http1 {
            conn,
            buf,
            body,
            http10: false,
            close: false,
            back: Vec::new(),
            back_at: 0,
            chunked: false,
            read_size: READ_MIN,
            blocked: None,
            half_closed: None,
            deadline: Deadline::default(),
        }
    }

    /// Passes on the buffered part of the body. Returns whether there was any.
    fn take_buffered(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&mut Context<'_>, &[u8]),
    ) -> Result<bool, Failed> {
        match &mut self.body {
            _ if self.buf.is_empty() => return Ok(false),
            Incoming::Ended => return Ok(false),
            Incoming::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buf.len());
                *left -= here as u64;
                take(cx, &self.buf.split_to(here));
                self.conn.expect_body(*left);
            }
            Incoming::Chunks(chunks) => {
                let mut bytes = &self.buf[..];
                while let Some(data) = chunks.next(&mut bytes).map_err(|_| malformed_chunk())? {
                    take(cx, data);
                }
                let used = self.buf.len() - bytes.len();
                self.buf.advance(used);
            }
            Incoming::Foreign => take(cx, &self.buf.split()),
        }
        Ok(true)
    }

    fn has_ended(&self) -> bool {
        match &self.body {
            Incoming::Ended | Incoming::Length(0) => true,
            Incoming::Chunks(chunks) => chunks.is_done(),
            Incoming::Length(_) | Incoming::Foreign => false,
        }
    }

    /// Reads into a scratch buffer. One read returns one TLS record, so several are gathered for
    /// one system call.
    fn gather(&mut self, cx: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<Result<(), Failed>> {
        while read.remaining() > 0 {
            let before = read.filled().len();
            match Pin::new(&mut *self.conn).poll_read(cx, read) {
                Poll::Ready(Ok(())) if read.filled().len() > before => {}
                Poll::Ready(_) | Poll::Pending if before > 0 => break,
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.gone(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The connection has failed, or the client was too slow.
    fn gone(&self, error: std::io::Error) -> Failed {
        match self.conn.info().state.cut() {
            Cut::BodyRate => Failed::because(Denial::LimitRate, error.to_string()),
            _ => Failed::client(error),
        }
    }
}

fn malformed_chunk() -> Failed {
    Failed::because(Denial::FramingChunk, "a chunk does not follow RFC 9112 §7.1")
}

impl ClientStream for Http1<'_> {
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        take: &mut dyn FnMut(&mut Context<'_>, &[u8]),
    ) -> Poll<Result<bool, Failed>> {
        if self.has_ended() {
            return Poll::Ready(Ok(false));
        }
        if self.take_buffered(cx, take)? {
            return Poll::Ready(Ok(true));
        }
        let most = match self.body {
            Incoming::Length(left) => usize::try_from(left).unwrap_or(usize::MAX).min(most),
            // Bytes after its end belong to the next request, and are buffered for it.
            Incoming::Chunks(_) => most.min(READ_MIN),
            _ => most,
        };
        with_scratch(most, |scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(self.gather(cx, &mut read))?;
            let bytes = read.filled();
            match &mut self.body {
                Incoming::Foreign if bytes.is_empty() => return Poll::Ready(Ok(false)),
                _ if bytes.is_empty() => {
                    return Poll::Ready(Err(Failed::client(
                        "the client closed the connection in the middle of the body",
                    )));
                }
                Incoming::Chunks(chunks) => {
                    let mut rest = bytes;
                    while let Some(data) = chunks.next(&mut rest).map_err(|_| malformed_chunk())? {
                        take(cx, data);
                    }
                    self.buf.extend_from_slice(rest);
                }
                Incoming::Length(left) => {
                    *left -= bytes.len() as u64;
                    take(cx, bytes);
                }
                Incoming::Foreign | Incoming::Ended => take(cx, bytes),
            }
            Poll::Ready(Ok(true))
        })
    }

    /// Detects a client that is gone, and reads ahead its next request.
    fn poll_gone(&mut self, cx: &mut Context<'_>, answered: bool) -> Result<(), Failed> {
        while self.half_closed.is_none() && self.buf.len() < AHEAD_MAX {
            let mut piece = [MaybeUninit::uninit(); 1024];
            let mut read = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut *self.conn).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.buf.extend_from_slice(read.filled());
                }
                Poll::Ready(Ok(())) => {
                    self.half_closed = Some(Instant::now());
                    // Requests that it sent ahead are still answered.
                    self.close |= self.buf.is_empty();
                }
                Poll::Ready(Err(error)) => return Err(self.gone(error)),
                Poll::Pending => break,
            }
        }
        // Once a response is on its way, a client that is gone fails by not reading it.
        let Some(since) = self.half_closed.filter(|_| !answered) else { return Ok(()) };
        if self.deadline.passed(cx, since + HALF_CLOSED) {
            Err(Failed::client("the client closed the connection"))
        } else {
            Ok(())
        }
    }

    fn first_read(&self) -> usize {
        READ_MIN
    }

    fn interim(&mut self, answer: &ResponseHead<'_>) {
        // RFC 9110 §15.2.
        if !self.http10 {
            self.put_head(answer);
            self.back.extend_from_slice(b"\r\n");
        }
    }

    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        follows: Follows,
        ends: bool,
    ) -> Result<(), Failed> {
        if follows == Follows::AnotherProtocol {
            // Bytes before the switch could be a request to a backend that does not switch
            // (RUSTSEC-2026-0033): they are not forwarded.
            if !self.buf.is_empty() {
                let detail = "the client sent bytes before the upgrade was complete";
                return Err(Failed::because(Denial::FramingUpgrade, detail));
            }
            self.body = Incoming::Foreign;
        }
        self.put_head(answer);
        self.close |= ends;
        if ends && follows != Follows::AnotherProtocol {
            self.conn.linger();
        }
        match follows {
            Follows::AnotherProtocol => {
                put(&mut self.back, "Connection", b"Upgrade");
                put(&mut self.back, "Upgrade", b"websocket");
            }
            // RFC 9112 §6.3: for an HTTP/1.0 client the body ends with the connection.
            Follows::Body | Follows::NoBody if !self.http10 => {
                self.chunked = follows == Follows::Body;
                put(&mut self.back, "Transfer-Encoding", b"chunked");
            }
            _ => {}
        }
        if self.close && follows != Follows::AnotherProtocol {
            put(&mut self.back, "Connection", b"close");
        }
        self.back.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn data(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed> {
        if self.chunked {
            if !bytes.is_empty() {
                chunk(&mut self.back, bytes);
            }
            return Ok(());
        }
        let mut rest = bytes;
        while self.back.is_empty() && !rest.is_empty() {
            match Pin::new(&mut *self.conn).poll_write(cx, rest) {
                Poll::Ready(Ok(n)) => rest = rest.get(n..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(Failed::client(error)),
                Poll::Pending => break,
            }
        }
        self.back.extend_from_slice(rest);
        // A backend that fills a whole read may fill a larger one.
        if bytes.len() == self.read_size && self.read_size < SCRATCH_BYTES {
            self.read_size *= 2;
            self.conn.set_send_buffer(self.read_size);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failed> {
        if self.chunked {
            self.back.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        while let Some(back) = self.back.get(self.back_at..).filter(|back| !back.is_empty()) {
            match Pin::new(&mut *self.conn).poll_write(cx, back) {
                Poll::Ready(Ok(n)) => self.back_at += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::client(error))),
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        self.back.clear();
        self.back_at = 0;
        if self.blocked.take().is_some_and(|since| since.elapsed() > QUICK) {
            self.back = Vec::new();
            self.read_size = READ_MIN;
            self.conn.set_send_buffer(READ_MIN);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<Result<usize, Failed>> {
        Poll::Ready(Ok(self.read_size))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut *self.conn).poll_flush(cx).map_err(Failed::client)
    }
}

impl Http1<'_> {
    /// Writes the head of a response, without its empty line.
    fn put_head(&mut self, answer: &ResponseHead<'_>) {
        let back = &mut self.back;
        back.extend_from_slice(b"HTTP/1.1 ");
        let digit = |n: u16| b'0' + (n % 10) as u8;
        back.extend([answer.status / 100, answer.status / 10, answer.status].map(digit));
        back.push(b' ');
        back.extend_from_slice(answer.reason);
        back.extend_from_slice(b"\r\n");
        for (name, value) in &answer.fields {
            put(back, name, value);
        }
    }
}

impl Session for Http1<'_> {
    fn is_shared(&self) -> bool {
        false
    }

    fn come_by_http1(&mut self) {}

    fn discard_body(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !self.has_ended() && self.take_buffered(&mut cx, &mut |_, _| ()).unwrap_or(false) {}
        self.has_ended()
    }
}
