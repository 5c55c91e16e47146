//! A message that pingora reads, judged before the backend is asked: by its first part, or by all of
//! it.
//!
//! Holds no more of a body than the proxy keeps for a second try anyway, so that what was judged is
//! what is sent first.

use std::time::Duration;

use jiff::Timestamp;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::guard::{self, Guard, Inspection, Verdict};
use super::view::{conn_of, fields_of};
use super::{Outcome, bootstrap};
use crate::denial::Denial;

/// Streams of HTTP/2 have no deadline for their bodies.
const READ_TIME: Duration = Duration::from_secs(60);

/// Judge a message that may go on otherwise; whatever is no message has nothing to fear.
///
/// # Errors
/// Outside, that the client went away; inside, why the request may not go on.
pub(super) async fn judge(
    session: &mut Session,
    ctx: &RequestCtx,
    now: Timestamp,
) -> Outcome<Verdict> {
    let Some(guard) = Guard::of(ctx, session.req_header().method.as_str(), now) else {
        return Ok(Ok(None));
    };
    let little = conn_of(session).map(|conn| conn.state.clone());
    let little = little.filter(|_| !session.as_downstream().is_http2());
    let tell = |on: bool| little.iter().for_each(|state| state.read_little(on));
    tell(true);
    let read = tokio::time::timeout(READ_TIME, read(session, guard)).await;
    tell(false);
    let verdict = match read {
        Ok(verdict) => verdict.map_err(|error| error.into_down())?,
        Err(_) => return Ok(Err(Denial::LimitRate.into())),
    };
    if let (Some(in_flight), true) = (&ctx.in_flight, session.as_downstream_mut().is_body_done()) {
        in_flight.body_done();
    }
    Ok(verdict)
}

/// Read until the message is judged; what was read stays where the proxy takes it from.
async fn read(session: &mut Session, guard: Guard<'_>) -> Outcome<Verdict> {
    let fields: Vec<_> = fields_of(&session.req_header().headers).collect();
    let Some(content_type) = guard::content_type(fields.iter().copied()).map(<[u8]>::to_vec) else {
        return Ok(Err(guard::untyped()));
    };
    let mut inspection = match Inspection::new(guard, &content_type) {
        Ok(inspection) => inspection,
        Err(refused) => return Ok(Err(refused)),
    };
    session.as_downstream_mut().enable_retry_buffering();
    bootstrap::ask_for_body(session).await?;
    let mut body: Vec<u8> = Vec::new();
    let mut whole = false;
    let verdict = loop {
        whole |= session.as_downstream_mut().is_body_done();
        if let Some(verdict) = inspection.look(&body, whole) {
            break verdict;
        }
        match session.as_downstream_mut().read_request_body().await? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => whole = true,
        }
    };
    // What the proxy does not keep would be missing at the backend.
    let kept =
        session.as_downstream().get_retry_buffer().is_none_or(|kept| kept.len() == body.len());
    let lost = !kept || session.as_downstream().retry_buffer_truncated();
    match verdict {
        Ok(_) if lost => Ok(Err(Denial::GatewayInternal.into())),
        verdict => Ok(verdict),
    }
}
