//! Answers whose links are rewritten, in pingora's lane: held until they are whole, and then sent
//! without a length that was said before.

use bytes::Bytes;
use http::header;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::view::{fields_of, host_of};
use super::{Outcome, links};

/// An answer begins: rewrite the links in its head, and hold its body if there may be some in it.
pub(super) fn begin(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &mut RequestCtx,
) -> Outcome<()> {
    let Some(authority) = host_of(session.req_header()).map(<[u8]>::to_vec) else { return Ok(()) };
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let found = response.headers.get(&name).map(|value| value.as_bytes().to_vec());
        if let Some(value) = found {
            response.insert_header(&name, links::rewritten(&value, &authority))?;
        }
    }
    let fields = fields_of(&response.headers).map(|(name, value)| (name.as_bytes(), value));
    if !links::may_be_in(response.status.as_u16(), fields) {
        return Ok(());
    }
    response.remove_header(&header::CONTENT_LENGTH);
    if session.req_header().method != http::Method::HEAD {
        ctx.held = Some(Vec::new());
        // Older clients read until the connection ends, and so it will.
        if session.req_header().version == http::Version::HTTP_11 {
            response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
    }
    Ok(())
}

/// A piece of the body.
pub(super) fn pass(
    request: &RequestHeader,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut RequestCtx,
) {
    let Some(held) = &mut ctx.held else { return };
    if let Some(piece) = body.take() {
        held.extend_from_slice(&piece);
    }
    let authority = host_of(request).unwrap_or_default();
    if end {
        *body = Some(links::rewritten(held, authority).into());
        ctx.held = None;
    } else if held.len() > links::BODY_BYTES_MAX {
        // Larger than any listing: as it came.
        *body = ctx.held.take().map(Bytes::from);
    }
}
