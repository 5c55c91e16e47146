//! The request half of an exchange: reads the body at the backend's pace (backpressure), and sends
//! it in the framing that the head announced.

use std::mem;
use std::task::{Context, Poll};

use super::answer::Rest;
use super::backend_connection::BackendConnection;
use super::client::ClientStream;
use super::relay::chunk;
use super::scratch::SCRATCH_BYTES;
use super::{Exchange, Failed, RequestProgress, Upload, Waits};
use crate::denial::Denial;
use crate::gateway::judge::framing::Body;
use crate::gateway::record::ctx::RequestCtx;

/// The capacity that the send buffer keeps while the client sends nothing.
const BUFFER_KEPT: usize = 64 * 1024;

impl<C: ClientStream> Exchange<'_, C> {
    /// Sends as much of the request as is available and the backend accepts.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
        ctx: &RequestCtx,
    ) -> Result<Waits, Failed> {
        loop {
            // The first bytes of the body are sent together with the head.
            if self.request.upload == Upload::Open && !mem::replace(&mut self.request.begun, true) {
                let _ = self.poll_body(cx, up)?;
            }
            while let Some(out) =
                self.request.out.get(self.request.out_at..).filter(|out| !out.is_empty())
            {
                match up.poll_write(cx, out) {
                    Poll::Ready(Ok(n)) => self.request.out_at += n,
                    // The backend may have sent its response before it stopped reading.
                    Poll::Ready(Err(_)) if self.going.body != Body::Empty => {
                        (self.request.out, self.request.out_at) = (Vec::new(), 0);
                        self.request.upload = Upload::Abandoned;
                    }
                    Poll::Ready(Err(error)) => return Err(Failed::closed(error)),
                    Poll::Pending => return Ok(Waits::ForBackend),
                }
            }
            match self.request.upload {
                Upload::Sent | Upload::Abandoned => return Ok(Waits::ForBackend),
                Upload::Received => {
                    self.request.upload = Upload::Sent;
                    if let Some(room) = &mut self.request.room {
                        room.release();
                    }
                    if self.going.body != Body::Empty
                        && let Some(in_flight) = &ctx.exchange.in_flight
                    {
                        in_flight.body_done();
                    }
                    return Ok(Waits::ForBackend);
                }
                Upload::Open => match self.poll_body(cx, up)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Ok(Waits::ForClient),
                },
            }
        }
    }

    /// Reads the next piece of the request's body, and writes as much as the backend accepts.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut BackendConnection,
    ) -> Result<Poll<()>, Failed> {
        if self.request.out_at == self.request.out.len() {
            self.request.out.clear();
            self.request.out_at = 0;
        }
        let Exchange { client, request, .. } = self;
        let RequestProgress { out, left, received, .. } = request;
        let mut too_long = false;
        let mut take = |cx: &mut Context<'_>, bytes: &[u8]| {
            *received += bytes.len();
            let mut rest = bytes;
            if let Some(left) = left {
                match left.checked_sub(bytes.len() as u64) {
                    Some(less) => *left = less,
                    None => too_long = true,
                }
                // If nothing is queued, write directly, without a copy.
                while out.is_empty() && !rest.is_empty() && !too_long {
                    match up.poll_write(cx, rest) {
                        Poll::Ready(Ok(n)) => rest = rest.get(n..).unwrap_or_default(),
                        // The next write of the queue finds the error again, and handles it.
                        Poll::Ready(Err(_)) | Poll::Pending => break,
                    }
                }
            }
            put_body(out, left.is_none(), rest);
        };
        let more = match client.poll_body(cx, SCRATCH_BYTES, &mut take) {
            Poll::Ready(more) => more?,
            Poll::Pending => {
                // A client that stalls keeps no large buffer; one that is fast uses it again.
                out.shrink_to(BUFFER_KEPT);
                return Ok(Poll::Pending);
            }
        };
        let ended = !more || self.request.left == Some(0);
        if matches!(self.response.rest, Some(Rest::Tunnel)) {
            if ended {
                self.request.upload = Upload::Received;
            }
            return Ok(Poll::Ready(()));
        }
        if too_long || (ended && self.request.left.is_some_and(|left| left > 0)) {
            return Err(Failed::because(
                Denial::FramingLength,
                "a body of another length than announced",
            ));
        }
        if self.going.body_max.is_some_and(|max| self.request.received as u64 > max) {
            return Err(Failed::because(Denial::LimitBody, "more than its route allows"));
        }
        if ended {
            self.received_all();
        }
        Ok(Poll::Ready(()))
    }

    /// After the upgrade the client's bytes pass unchanged.
    pub(super) fn leave_http(&mut self) {
        (self.request.upload, self.request.left) = (Upload::Open, Some(u64::MAX));
    }
}

/// Writes a piece of a request's body in the framing for the backend.
pub(super) fn put_body(out: &mut Vec<u8>, chunked: bool, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if chunked {
        chunk(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
}
