//! Builds responses of a web server: pages, errors, header fields.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};

use crate::content::ContentBody;

/// A response body.
pub(crate) type SimBody = Either<Full<Bytes>, ContentBody>;

pub(super) const XML: &str = "text/xml; charset=utf-8";

/// A page of a known length.
pub(super) fn page(kind: &str, text: &str) -> Response<SimBody> {
    bytes(kind, Bytes::copy_from_slice(text.as_bytes()))
}

/// Bytes with a content type.
pub(super) fn bytes(kind: &str, bytes: Bytes) -> Response<SimBody> {
    let mut answer = Response::new(Either::Left(Full::new(bytes)));
    set(&mut answer, CONTENT_TYPE, kind);
    answer
}

/// An error response: as IIS writes it for remote clients, with the reason and without a substatus.
pub(crate) fn error(status: StatusCode) -> Response<SimBody> {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!(
        "<html><head><title>{code} - {reason}</title></head><body><h2>{code} - {reason}</h2></body></html>",
        code = status.as_u16()
    );
    let mut answer = page("text/html", &text);
    *answer.status_mut() = status;
    answer
}

/// Sets a header field; an invalid value is left out.
pub(crate) fn set(answer: &mut Response<SimBody>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}
