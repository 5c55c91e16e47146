//! The first part of a message that pingora reads, judged before the backend is asked.
//!
//! Holds no more of a body than the proxy keeps for a second try anyway, so that what was judged is
//! what is sent first.

use std::time::Duration;

use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::decide::Refused;
use super::guard::{self, FIRST_PART_BYTES_MAX, Guard};
use super::view::{conn_of, fields_of};
use super::{Outcome, bootstrap};
use crate::denial::Denial;
use crate::message::{Envelope, Fault, FirstPart, envelope};

/// Streams of HTTP/2 have no deadline for their bodies.
const READ_TIME: Duration = Duration::from_secs(60);

/// Judge a message that may go on otherwise; whatever is no message has nothing to fear.
///
/// # Errors
/// Outside, that the client went away; inside, why the request may not go on.
pub(super) async fn judge(session: &mut Session, ctx: &RequestCtx) -> Outcome<Result<(), Refused>> {
    let Some(guard) = Guard::of(ctx, session.req_header().method.as_str()) else {
        return Ok(Ok(()));
    };
    let little = conn_of(session).map(|conn| conn.state.clone());
    let little = little.filter(|_| !session.as_downstream().is_http2());
    let tell = |on: bool| little.iter().for_each(|state| state.read_little(on));
    tell(true);
    let read = tokio::time::timeout(READ_TIME, read(session)).await;
    tell(false);
    let read = match read {
        Ok(read) => read.map_err(|error| error.into_down())?,
        Err(_) => return Ok(Err(Denial::LimitRate.into())),
    };
    if let (Some(in_flight), true) = (&ctx.in_flight, session.as_downstream_mut().is_body_done()) {
        in_flight.body_done();
    }
    Ok(read.and_then(|read| guard.judge(read)))
}

/// Read until the first part is whole; what was read stays where the proxy takes it from.
async fn read(session: &mut Session) -> Outcome<Result<Result<Envelope, Fault>, Refused>> {
    let fields: Vec<_> = fields_of(&session.req_header().headers).collect();
    let Some(content_type) = guard::content_type(fields.iter().copied()).map(<[u8]>::to_vec) else {
        return Ok(Err(guard::untyped()));
    };
    let mut part = match FirstPart::new(&content_type) {
        Ok(part) => part,
        Err(fault) => return Ok(Ok(Err(fault))),
    };
    session.as_downstream_mut().enable_retry_buffering();
    bootstrap::ask_for_body(session).await?;
    let mut body: Vec<u8> = Vec::new();
    let end = loop {
        match part.end(&body) {
            Err(fault) => return Ok(Ok(Err(fault))),
            Ok(Some(end)) => break end,
            Ok(None) if body.len() >= FIRST_PART_BYTES_MAX => return Ok(Ok(Err(Fault::Size))),
            Ok(None) => {}
        }
        // Whatever is missing at its end is for the envelope to find.
        if session.as_downstream_mut().is_body_done() {
            break body.len();
        }
        match session.as_downstream_mut().read_request_body().await? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => break body.len(),
        }
    };
    // What the proxy does not keep would be missing at the backend.
    let kept =
        session.as_downstream().get_retry_buffer().is_none_or(|kept| kept.len() == body.len());
    if !kept || session.as_downstream().retry_buffer_truncated() {
        return Ok(Err(Denial::GatewayInternal.into()));
    }
    Ok(Ok(envelope(&content_type, body.get(..end).unwrap_or_default())))
}
