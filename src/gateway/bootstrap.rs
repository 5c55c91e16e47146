//! Clients that have no token yet: whether a request without one goes on for the message it carries,
//! which is read to its end.
//!
//! Holds no more of a body than the proxy keeps for a second try anyway, so that what was judged
//! is what is sent.

use std::time::Duration;

use bytes::Bytes;
use http::{Version, header};
use jiff::Timestamp;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::decide::{Pass, Refused};
use super::guard::{Guard, Inspection, READ_BYTES_MAX};
use super::policy::SitePolicy;
use super::view::fields_of;
use super::{Outcome, guard};
use crate::denial::Denial;

/// Streams of HTTP/2 have no deadline for their bodies.
const READ_TIME: Duration = Duration::from_secs(60);

/// Whether a refused request may be one that needs no token.
pub(super) fn may_be_one(refused: &Refused, ctx: &RequestCtx) -> bool {
    let route = ctx.site.as_ref().zip(ctx.route).and_then(|(site, n)| site.routes.get(n));
    refused.denial == Denial::TokenMissing
        && route.is_some_and(|route| route.requirement.takes_bootstrap_messages())
}

/// Read the body of a request without a token, and judge it by its message.
///
/// # Errors
/// Outside, that the client went away; inside, why the request may not go on.
pub(super) async fn judge(
    session: &mut Session,
    ctx: &RequestCtx,
    now: Timestamp,
) -> Outcome<Result<Pass, Refused>> {
    let Some(site) = ctx.site.as_deref() else { return Ok(Err(Denial::GatewayInternal.into())) };
    let body = match tokio::time::timeout(READ_TIME, read(session)).await {
        Ok(body) => body.map_err(|error| error.into_down())?,
        Err(_) => return Ok(Err(Denial::LimitRate.into())),
    };
    if let (Some(in_flight), true) = (&ctx.in_flight, session.as_downstream_mut().is_body_done()) {
        in_flight.body_done();
    }
    let fields: Vec<_> = fields_of(&session.req_header().headers).collect();
    Ok(body.and_then(|body| admit(site, fields.iter().copied(), &body, now)))
}

/// The whole body; it stays where the proxy takes it from. A refusal if it is not looked at.
async fn read(session: &mut Session) -> Outcome<Result<Bytes, Refused>> {
    let declared = session.req_header().headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0_u64);
    if declared > READ_BYTES_MAX as u64 {
        return Ok(Err(too_large()));
    }
    session.as_downstream_mut().enable_retry_buffering();
    ask_for_body(session).await?;
    let mut read = 0;
    while !session.as_downstream_mut().is_body_done() {
        let Some(bytes) = session.as_downstream_mut().read_request_body().await? else { break };
        read += bytes.len();
        if read > READ_BYTES_MAX {
            return Ok(Err(too_large()));
        }
    }
    Ok(match session.as_downstream().get_retry_buffer() {
        Some(body) => Ok(body),
        None => Err(missing("no message".to_owned())),
    })
}

/// Why a large message without a token does not go on.
pub(super) fn too_large() -> Refused {
    missing("a message this large is not looked at".to_owned())
}

/// Tell a client that waits for it to send its body. The backend is not asked again.
pub(super) async fn ask_for_body(session: &mut Session) -> Outcome<()> {
    let head = session.req_header();
    if head.version == Version::HTTP_11 && head.headers.contains_key(header::EXPECT) {
        // pingora takes the interim answer for one that comes before its request is read, after
        // which no connection could go on.
        let kept = session.as_downstream().get_keepalive();
        session.as_downstream_mut().write_continue_response().await?;
        session.set_keepalive(kept);
    }
    session.req_header_mut().remove_header(&header::EXPECT);
    Ok(())
}

/// Whether a request with these fields and this whole body goes on for its message.
///
/// # Errors
/// Why it may not go on.
pub(super) fn admit<'a>(
    site: &SitePolicy,
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    body: &[u8],
    now: Timestamp,
) -> Result<Pass, Refused> {
    let content_type = guard::content_type(fields).ok_or_else(guard::untyped)?;
    let mut inspection = Inspection::new(Guard::of_newcomer(site, now), content_type)?;
    let observed = inspection.look(body, true).ok_or(Denial::GatewayInternal)??;
    Ok(Pass { observed, ..Pass::of_nobody() })
}

fn missing(detail: String) -> Refused {
    Refused { detail: Some(detail), ..Denial::TokenMissing.into() }
}
