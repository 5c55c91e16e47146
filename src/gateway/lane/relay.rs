//! The answer's half of an exchange: its head is read and rewritten, its body passed on at the pace of
//! the client, its framing judged on the way.

use std::io::Write;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::answer_fault::{AnswerFault, What};
use super::backend::Backend;
use super::exchange::{Exchange, Failed, READ_MIN};
use super::response::{self, Rest};
use super::scratch::{self, SCRATCH_BYTES};
use crate::clock::http_date;

/// A client that takes what it is given within this time may be given more at once.
const QUICK: Duration = Duration::from_millis(20);
/// What one request may move before others have their turn: a backend and a client that are both fast
/// would keep a thread to themselves.
const TURN_BYTES: usize = 1024 * 1024;
/// Interim answers that a backend may send before it answers.
pub(in crate::gateway) const INTERIM_MAX: usize = 8;

impl Exchange<'_> {
    /// Bytes of an answer's head. Returns whether that is whole.
    pub(super) fn take_head(&mut self, bytes: &[u8]) -> Result<bool, Failed> {
        if bytes.is_empty() {
            return Err(Failed::closed("the backend closed before it answered"));
        }
        self.heard = true;
        if self.head.is_empty() {
            let used = self.read_heads(bytes)?;
            if self.rest.is_none() {
                self.head = bytes.get(used..).unwrap_or_default().to_vec();
            }
        } else {
            let mut head = mem::take(&mut self.head);
            head.extend_from_slice(bytes);
            let used = self.read_heads(&head)?;
            if self.rest.is_none() {
                head.drain(..used);
                self.head = head;
            }
        }
        Ok(self.rest.is_some())
    }

    /// Read interim answers and the answer's head, and what there is of its body. Returns how many
    /// bytes were used.
    fn read_heads(&mut self, bytes: &[u8]) -> Result<usize, Failed> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let begin = self.back.len();
            // An answer before the whole request: what is left of it is not waited for.
            let early = self.body_left > 0 || self.out_at < self.out.len();
            let close = self.going.close || early;
            let head = response::read(rest, self.going.bodiless, close, &mut self.back)
                .map_err(Failed::malformed)?;
            let Some(head) = head else { return Ok(used) };
            used += head.length;
            if head.status < 200 {
                self.interims += 1;
                if self.interims > INTERIM_MAX {
                    return Err(Failed::malformed(AnswerFault::in_head(What::TooManyInterims)));
                }
                if head.status == 100 {
                    // Nobody asked for it, and the request is being sent anyway.
                    self.back.truncate(begin);
                }
                continue;
            }
            self.upstream_status = Some(head.status);
            if head.status == 401 && self.going.authenticated {
                return Err(Failed::challenged());
            }
            if let Some(clock) = &self.going.clock {
                response::date(&mut self.back, begin, &http_date(clock.now()));
            }
            self.hold(begin, head.status, &head.rest);
            self.going.close = close;
            self.keep = head.keep && !early;
            self.status = Some(head.status);
            self.rest = Some(head.rest);
            let rest = bytes.get(used..).unwrap_or_default();
            self.take_body(rest)?;
            return Ok(bytes.len());
        }
    }

    /// Bytes of the answer's body, to be sent after what is to be sent already.
    fn take_body(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        match &mut self.rest {
            Some(Rest::Length(left)) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                // What comes beyond its end is nobody's, and so is all that follows.
                self.keep &= here == bytes.len();
                let ended = *left == 0;
                self.sent += here;
                self.give(bytes.get(..here).unwrap_or_default(), false);
                if ended {
                    self.whole(false);
                }
            }
            Some(Rest::Chunked(_)) => self.take_chunks(bytes)?,
            Some(Rest::UntilClose) => {
                self.sent += bytes.len();
                if !bytes.is_empty() {
                    self.give(bytes, true);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn take_chunks(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        loop {
            let Some(Rest::Chunked(chunks)) = &mut self.rest else { return Ok(()) };
            match chunks.next(&mut bytes).map_err(Failed::malformed)? {
                Some(data) => {
                    self.sent += data.len();
                    self.give(data, true);
                }
                None if chunks.is_done() => {
                    self.keep &= bytes.is_empty();
                    self.rest = Some(Rest::Length(0));
                    self.whole(true);
                }
                None => return Ok(()),
            }
        }
    }

    /// Send the rest of the answer.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Backend,
    ) -> Poll<Result<bool, Failed>> {
        let before = self.sent;
        loop {
            ready!(self.poll_back(cx))?;
            if self.sent - before >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if matches!(self.rest, Some(Rest::Length(0))) {
                return match ready!(Pin::new(&mut *self.conn).poll_flush(cx)) {
                    Ok(()) => Poll::Ready(Ok(self.keep)),
                    Err(error) => Poll::Ready(Err(Failed::client(error))),
                };
            }
            let size = self.read_size;
            let passed = scratch::with(size, |scratch| {
                let read = ready!(up.poll_read(cx, scratch)).map_err(Failed::closed)?;
                let bytes = scratch.get(..read).unwrap_or_default();
                if read == size && size < SCRATCH_BYTES {
                    self.read_size = size * 2;
                    self.conn.set_send_buffer(size * 2);
                }
                Poll::Ready(self.pass_on(cx, bytes))
            });
            match passed {
                Poll::Ready(passed) => passed?,
                Poll::Pending => return self.poll_backend(cx, up),
            }
        }
    }

    /// Bytes of the answer's body, to be sent now.
    fn pass_on(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed> {
        if bytes.is_empty() {
            return match self.rest {
                Some(Rest::UntilClose) => {
                    self.rest = Some(Rest::Length(0));
                    self.keep = false;
                    self.whole(true);
                    Ok(())
                }
                _ => Err(Failed::closed("the backend closed in the middle of its answer")),
            };
        }
        if self.held.is_some() {
            return self.take_body(bytes);
        }
        let Some(Rest::Length(left)) = &mut self.rest else { return self.take_body(bytes) };
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        *left -= here as u64;
        // What comes beyond its end is nobody's, and so is all that follows.
        self.keep &= here == bytes.len();
        self.sent += here;
        let mut rest = bytes.get(..here).unwrap_or_default();
        while !rest.is_empty() {
            match Pin::new(&mut *self.conn).poll_write(cx, rest) {
                Poll::Ready(Ok(n)) => rest = rest.get(n..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(Failed::client(error)),
                Poll::Pending => {
                    self.back.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Send what is to be sent to the client already.
    pub(super) fn poll_back(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
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
}

/// Write one chunk (RFC 9112 §7.1).
pub(super) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
