//! The response half of an exchange: reads the head, relays the body at the client's pace
//! (backpressure), and judges its framing.

use std::io::Write;
use std::mem;
use std::task::{Context, Poll, ready};

use super::BufferedBytes;
use super::answer::{self, BackendHead, Rest};
use super::answer_fault::{AnswerFault, What};
use super::backend_connection::BackendConnection;
use super::client::{ClientStream, ResponseHead};
use super::link_rewriting;
use super::response_buffer::ResponseBuffer;
use super::scratch::{self, SCRATCH_BYTES};
use super::{Exchange, Failed, Upload};
use crate::clock::http_date;
use crate::denial::Denial;

/// Bytes that one request may relay before it yields: a fast backend and a fast client would
/// otherwise keep a thread to themselves.
const TURN_BYTES: usize = 1024 * 1024;
/// The most interim responses before the final one.
const INTERIM_MAX: usize = 8;

impl<C: ClientStream> Exchange<'_, C> {
    /// Takes bytes of a response head. Returns whether the head is complete.
    pub(super) fn take_head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<bool, Failed> {
        if bytes.is_empty() {
            return Err(Failed::closed("the backend closed the connection before it responded"));
        }
        self.response.heard = true;
        if self.response.head.is_empty() {
            let used = self.read_heads(cx, bytes)?;
            if self.response.rest.is_none() {
                self.response.head = bytes.get(used..).unwrap_or_default().to_vec();
            }
        } else {
            let mut head = mem::take(&mut self.response.head);
            head.extend_from_slice(bytes);
            let used = self.read_heads(cx, &head)?;
            if self.response.rest.is_none() {
                head.drain(..used);
                self.response.head = head;
            }
        }
        Ok(self.response.rest.is_some())
    }

    /// Reads interim responses, the final head and the first bytes of its body. Returns the number
    /// of bytes used.
    fn read_heads(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, Failed> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let read = answer::read(rest, self.going.asked).map_err(Failed::malformed)?;
            let Some(head) = read else { return Ok(used) };
            let here = rest.get(..head.length).unwrap_or_default();
            used += head.length;
            let after = bytes.get(used..).unwrap_or_default();
            match head.status {
                101 => {
                    self.switch(head)?;
                    self.take_body(cx, after)?;
                    return Ok(bytes.len());
                }
                ..200 => self.interim(head)?,
                200.. => {
                    self.begin(head, here)?;
                    self.take_body(cx, after)?;
                    return Ok(bytes.len());
                }
            }
        }
    }

    fn interim(&mut self, head: BackendHead<'_>) -> Result<(), Failed> {
        self.response.interims += 1;
        if self.response.interims > INTERIM_MAX {
            return Err(Failed::malformed(AnswerFault::in_head(What::TooManyInterims)));
        }
        // Without `Expect` the client sends its body anyway, so a 100 Continue is dropped.
        if head.status != 100 || self.going.expects {
            let BackendHead { status, reason, fields, .. } = head;
            self.client.interim(&ResponseHead { status, reason, fields });
        }
        Ok(())
    }

    /// The backend switches protocols, as requested.
    fn switch(&mut self, head: BackendHead<'_>) -> Result<(), Failed> {
        let BackendHead { status, reason, fields, rest, follows, .. } = head;
        self.response.upstream_status = Some(status);
        self.client.begin(&ResponseHead { status, reason, fields }, follows, true)?;
        self.leave_http();
        (self.response.rest, self.response.status, self.response.keep) =
            (Some(rest), Some(status), false);
        Ok(())
    }

    /// The final response begins. `raw` is its head as received.
    fn begin(&mut self, mut head: BackendHead<'_>, raw: &[u8]) -> Result<(), Failed> {
        self.response.upstream_status = Some(head.status);
        if head.status == 401 && self.going.authenticated {
            let detail = "the backend answered 401";
            return Err(Failed::because(Denial::UpstreamCredentials, detail));
        }
        self.response.keep = head.keep;
        self.response.status = Some(head.status);
        match &self.going.links {
            None => {
                self.response.rest = Some(mem::replace(&mut head.rest, Rest::Length(0)));
                return self.tell(head);
            }
            Some(authority) => {
                let fields = head.fields.iter().map(|(n, v)| (n.as_bytes(), *v));
                let looked_into = link_rewriting::may_be_in(head.status, fields);
                if looked_into && !self.going.asked.bodiless {
                    let room = self.request.room.as_ref().map(BufferedBytes::another);
                    self.response.held = Some(ResponseBuffer::new(raw, room));
                } else {
                    // A HEAD response has no body to rewrite, so its new length is unknown and left
                    // out.
                    let raw = if looked_into {
                        link_rewriting::head(raw, authority, None)
                    } else {
                        link_rewriting::redirect(raw, authority)
                    };
                    self.tell_again(&raw)?;
                }
            }
        }
        self.response.rest = Some(head.rest);
        Ok(())
    }

    /// Sends the client a head that was changed after it was parsed.
    pub(super) fn tell_again(&mut self, raw: &[u8]) -> Result<(), Failed> {
        match answer::read(raw, self.going.asked).map_err(Failed::malformed)? {
            Some(head) => self.tell(head),
            // Invariant: only values within whole lines change.
            None => Err(Failed::because(Denial::GatewayInternal, "an incomplete response head")),
        }
    }

    /// Sends the client the head of its response.
    fn tell(&mut self, head: BackendHead<'_>) -> Result<(), Failed> {
        let date;
        let has_date = head.has("date");
        let BackendHead { status, reason, mut fields, follows, .. } = head;
        if self.going.sets_clocks || !has_date {
            date = http_date(self.going.clock.now());
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
            fields.push(("Date", date.as_bytes()));
        }
        // On an early response the rest of the request is not read: the connection closes.
        let ends = matches!(self.request.upload, Upload::Open | Upload::Abandoned);
        self.client.begin(&ResponseHead { status, reason, fields }, follows, ends)
    }

    /// Takes bytes of the response body.
    fn take_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed> {
        match &mut self.response.rest {
            Some(Rest::Length(left)) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                // Bytes beyond the end belong to no response, so the connection is not reused.
                self.response.keep &= here == bytes.len();
                let ended = *left == 0;
                self.give(cx, bytes.get(..here).unwrap_or_default())?;
                if ended {
                    self.whole(cx)?;
                }
                Ok(())
            }
            Some(Rest::Chunked(_)) => self.take_chunks(cx, bytes),
            Some(Rest::UntilClose | Rest::Tunnel) => self.give(cx, bytes),
            None => Ok(()),
        }
    }

    fn take_chunks(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> Result<(), Failed> {
        loop {
            let Some(Rest::Chunked(chunks)) = &mut self.response.rest else { return Ok(()) };
            match chunks.next(&mut bytes).map_err(Failed::malformed)? {
                Some(data) => self.give(cx, data)?,
                None if chunks.is_done() => {
                    self.response.keep &= bytes.is_empty();
                    return self.whole(cx);
                }
                None => return Ok(()),
            }
        }
    }

    /// Sends a piece of the response body, or buffers it for link rewriting.
    fn give(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Result<(), Failed> {
        if data.is_empty() {
            return Ok(());
        }
        self.response.sent += data.len();
        match &mut self.response.held {
            None => self.client.data(cx, data),
            Some(held) => {
                if held.add(data) {
                    Ok(())
                } else {
                    self.let_go(cx)
                }
            }
        }
    }

    /// Ends the response.
    fn whole(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        self.response.ended = true;
        self.send_held(cx)?;
        self.client.end()
    }

    /// Relays the rest of the response. Ready with `None` if the exchange waits for the backend,
    /// else with whether the backend connection can be reused.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
    ) -> Poll<Result<Option<bool>, Failed>> {
        let before = self.response.sent;
        loop {
            ready!(self.client.poll_sent(cx))?;
            self.response.sending = None;
            if self.response.ended {
                ready!(self.client.poll_flush(cx))?;
                return Poll::Ready(Ok(Some(
                    self.response.keep && self.request.upload == Upload::Sent,
                )));
            }
            if self.response.sent - before >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let room = match self.response.held {
                Some(_) => self.client.first_read(),
                None => ready!(self.client.poll_room(cx))?.min(SCRATCH_BYTES),
            };
            let passed = scratch::with(room, |scratch| {
                let read = ready!(up.poll_read(cx, scratch)).map_err(Failed::closed)?;
                Poll::Ready(self.pass_on(cx, scratch.get(..read).unwrap_or_default()))
            });
            match passed {
                Poll::Ready(passed) => passed?,
                Poll::Pending => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Takes bytes of the response body, or its end if there are none.
    fn pass_on(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Failed> {
        match self.response.rest {
            _ if !bytes.is_empty() => self.take_body(cx, bytes),
            Some(Rest::UntilClose | Rest::Tunnel) => {
                self.response.keep = false;
                self.whole(cx)
            }
            _ => Err(Failed::closed(
                "the backend closed the connection in the middle of its response",
            )),
        }
    }
}

/// Writes one chunk (RFC 9112 §7.1).
pub(in crate::gateway) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
