//! Answers of a web server: a page, an error, a field.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};

use crate::sim::content::ContentBody;

/// What is sent back.
pub(in crate::sim) type Body = Either<Full<Bytes>, ContentBody>;

pub(super) const XML: &str = "text/xml; charset=utf-8";

/// A page of a known length.
pub(super) fn page(kind: &str, text: &str) -> Response<Body> {
    bytes(kind, Bytes::copy_from_slice(text.as_bytes()))
}

/// Bytes of a kind.
pub(super) fn bytes(kind: &str, bytes: Bytes) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::new(bytes)));
    set(&mut answer, CONTENT_TYPE, kind);
    answer
}

/// An answer that is no page: as IIS writes it for others than its own machine, with the reason and
/// without a substatus.
pub(in crate::sim) fn error(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!(
        "<html><head><title>{code} - {reason}</title></head><body><h2>{code} - {reason}</h2></body></html>",
        code = status.as_u16()
    );
    let mut answer = page("text/html", &text);
    *answer.status_mut() = status;
    answer
}

/// Set a field; a value that is none is left out.
pub(in crate::sim) fn set(answer: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}
