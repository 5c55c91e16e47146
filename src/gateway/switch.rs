//! The moment at which a connection leaves HTTP for a WebSocket, and its fields on both sides.
//!
//! Past it nothing is judged any more: whether it may come is decided before.

use http::{HeaderValue, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::view::conn_of;
use crate::denial::Denial;

/// Ask the backend for it.
pub(super) fn ask(request: &mut RequestHeader) -> Result<()> {
    request.insert_header(header::CONNECTION, "Upgrade")?;
    request.insert_header(header::UPGRADE, "websocket")
}

/// Tell the client of it.
pub(super) fn tell(response: &mut ResponseHeader) -> Result<()> {
    response.insert_header(header::CONNECTION, "Upgrade")?;
    response.insert_header(header::UPGRADE, "websocket")
}

/// The backend leaves HTTP. From here on bytes pass as they are, if the request was one for that,
/// the answer is one to it, and the client has waited for it.
///
/// # Errors
/// Why the request fails instead.
pub(super) fn leave_http(
    session: &Session,
    response: &ResponseHeader,
    ctx: &mut RequestCtx,
) -> std::result::Result<(), Denial> {
    let mut protocols = response.headers.get_all(header::UPGRADE).iter();
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let named = protocols.next().is_some_and(websocket) && protocols.next().is_none();
    if !ctx.may_upgrade() || !named {
        return Err(Denial::UpstreamResponse);
    }
    // What came before the switch could be a request to a backend that does not switch
    // (RUSTSEC-2026-0033): it goes nowhere.
    conn_of(session).ok_or(Denial::GatewayInternal)?.state.leave_http()?;
    // A limit of requests, not of what comes after.
    ctx.body_max = None;
    Ok(())
}
