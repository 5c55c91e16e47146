//! Reads the first part of a request's body before the backend is contacted: because the request is
//! judged by it, or because the whole body is small. It is forwarded first.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::{Session, Stopped};
use crate::denial::Denial;
use crate::gateway::exchange::{BufferedBytes, Prefetched, ResponseHead};
use crate::gateway::judge::framing::{RequestHead, Version};
use crate::gateway::judge::verdict::Refused;
use crate::gateway::record::ctx::RequestCtx;

/// Bytes per read from the client.
const READ_BYTES: usize = 8 * 1024;
/// The time limit for the read, beside the minimum body rate: the part is small.
const READ_TIME: Duration = Duration::from_secs(60);

impl Prefetched {
    /// Sends 100 Continue to a client that waits for it (RFC 9110 §10.1.1).
    pub(super) fn ask<S: Session>(&mut self, session: &mut S, head: &RequestHead<'_>) {
        if !self.asked && head.version != Version::Http10 && head.field("expect").is_some() {
            self.asked = true;
            session.interim(&ResponseHead { status: 100, reason: b"Continue", fields: Vec::new() });
        }
    }

    /// Counts its bytes for the sender, once that is known or known to be missing.
    ///
    /// # Errors
    /// If unauthenticated requests have too many bytes buffered.
    pub(super) fn count_for(&mut self, ctx: &RequestCtx) -> Result<(), Stopped> {
        let has_room = |held: &mut BufferedBytes| ctx.is_of_somebody() || held.count_as_anonymous();
        if self.held.as_mut().is_none_or(has_room) { Ok(()) } else { Err(too_much_held()) }
    }
}

/// Reads on until `look` returns a result. `look` gets the bytes so far, and whether they are all.
pub(super) async fn read<S: Session, T>(
    session: &mut S,
    ctx: &RequestCtx,
    ahead: &mut Prefetched,
    mut look: impl FnMut(&[u8], bool) -> Option<T> + Send,
) -> Result<T, Stopped> {
    ahead.count_for(ctx)?;
    let reading = async {
        loop {
            if let Some(found) = look(&ahead.bytes, ahead.whole) {
                return Ok(found);
            }
            let Prefetched { bytes, whole, asked, held } = ahead;
            let before = bytes.len();
            let more = poll_fn(|cx| {
                if *asked && let Poll::Ready(Err(failed)) = session.poll_flush(cx) {
                    return Poll::Ready(Err(failed));
                }
                session.poll_body(cx, READ_BYTES, &mut |_, piece| bytes.extend_from_slice(piece))
            });
            *whole = !more.await?;
            let came = bytes.len() - before;
            if !held.as_mut().is_some_and(|held| held.add(came)) {
                return Err(too_much_held());
            }
            if let (true, Some(in_flight)) = (*whole, &ctx.exchange.in_flight) {
                in_flight.body_done();
            }
        }
    };
    timeout(READ_TIME, reading).await.unwrap_or(Err(Denial::LimitRate.into()))
}

/// Returns the refusal of a request for which there is no buffer space.
pub(super) fn too_much_held() -> Stopped {
    let detail = "too many bytes are buffered: over 1 MiB for this connection, or over \
                  limits.buffered_bytes in all";
    Refused { detail: Some(detail.to_owned()), ..Denial::LimitInFlight.into() }.into()
}

/// Waits until a request without a body has ended, and checks that no body arrives.
pub(super) async fn none<S: Session>(
    session: &mut S,
    ahead: &mut Prefetched,
) -> Result<(), Stopped> {
    let mut came = 0;
    loop {
        let more = poll_fn(|cx| session.poll_body(cx, READ_BYTES, &mut |_, b| came += b.len()));
        if !more.await? {
            ahead.whole = true;
            return Ok(());
        }
        if came > 0 {
            return Err(Denial::FramingLength.into());
        }
    }
}
