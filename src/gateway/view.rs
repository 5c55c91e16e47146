//! A request as pingora holds it, seen as the deciding rooms want it.

use std::sync::Arc;

use http::header;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::framing::{self, Body, judge_raw};
use super::policy::Policy;
use crate::denial::Denial;
use crate::front::ConnInfo;

/// What the front knows of the connection that a request came on.
pub(super) fn conn_of(session: &Session) -> Option<&Arc<ConnInfo>> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<ConnInfo>>()
}

pub(super) fn fields_of(headers: &http::HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

pub(super) fn host_of(request: &RequestHeader) -> Option<&[u8]> {
    let authority = request.uri.authority().map(|a| a.as_str().as_bytes());
    let host = request.headers.get(header::HOST).map(|h| h.as_bytes());
    host.or(authority)
}

/// What a head says about its body, once its framing is found to have one reading.
pub(super) fn framing_of(
    request: &RequestHeader,
    raw: Option<&[u8]>,
    body_empty: bool,
    policy: &Policy,
) -> Result<Body, Denial> {
    if matches!(request.method, http::Method::CONNECT | http::Method::TRACE) {
        return Err(Denial::FramingMethod);
    }
    if request.headers.len() > policy.headers_max {
        return Err(Denial::LimitHead);
    }
    match raw {
        Some(raw) if raw.len() > policy.header_bytes_max => Err(Denial::LimitHead),
        Some(raw) => judge_raw(raw),
        None => Ok(match framing::judge_fields(fields_of(&request.headers))? {
            // It would be a whole request to the backend before the rest of it is found.
            Some(0) if !body_empty => return Err(Denial::FramingLength),
            Some(0) => Body::Empty,
            Some(length) => Body::Length(length),
            None if body_empty => Body::Empty,
            None => Body::Chunked,
        }),
    }
}
