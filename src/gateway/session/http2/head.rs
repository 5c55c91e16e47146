//! Message heads of HTTP/2: a request's, in the form that is judged, and a response's, in that of h2.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::gateway::exchange::ResponseHead;
use crate::gateway::judge::framing::{Body, RequestHead, Version};

/// Joins cookie fields into one, as HTTP/1.1 requires (RFC 9113 §8.2.3).
pub(super) fn joined_cookies(parts: &Parts) -> Option<Vec<u8>> {
    let crumbs = parts.headers.get_all(header::COOKIE).iter().map(|crumb| crumb.as_bytes());
    let crumbs: Vec<&[u8]> = crumbs.collect();
    (crumbs.len() > 1).then(|| crumbs.join(&b"; "[..]))
}

/// Converts a head to the judge's form. The judge also checks that it has one reading.
pub(super) fn head_of<'a>(
    parts: &'a Parts,
    cookie: Option<&'a [u8]>,
    ended: bool,
) -> RequestHead<'a> {
    let mut fields: Vec<(&str, &[u8])> = Vec::with_capacity(parts.headers.len() + 1);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    fields.extend(authority.map(|authority| ("host", authority)));
    let mut cookie = cookie;
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        let same = |authority: &[u8]| authority.eq_ignore_ascii_case(value);
        match name {
            // RFC 9113 §8.3.1: Host must equal `:authority`. Another value is a second host, which
            // the judge refuses.
            "host" if authority.is_some_and(same) => {}
            "cookie" if parts.headers.get_all(header::COOKIE).iter().nth(1).is_some() => {
                fields.extend(cookie.take().map(|whole| (name, whole)));
            }
            _ => fields.push((name, value)),
        }
    }
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let body = match length.and_then(|length| length.to_str().ok()?.parse().ok()) {
        Some(0) => Body::Empty,
        Some(length) => Body::Length(length),
        None if ended => Body::Empty,
        None => Body::Chunked,
    };
    let target = parts.uri.path_and_query().map(|target| target.as_str().as_bytes());
    RequestHead {
        method: parts.method.as_str(),
        target: target.unwrap_or_default(),
        version: Version::Http2,
        body,
        fields,
    }
}

/// Builds a response head. It has no connection-specific field (RFC 9113 §8.2.2).
pub(super) fn response(answer: &ResponseHead<'_>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).ok()?;
    for (name, value) in &answer.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(response)
}
