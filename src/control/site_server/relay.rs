//! The token service of a gateway without a store: a relay to the site server.
//!
//! Makes no decisions. The gateway's statements about the client are forwarded under separate
//! header names.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tokio::sync::watch;

use super::link::{Link, bounded};
use crate::grant_denial::GrantDenial;
use crate::site::server::FIELDS;

const BODY_BYTES_MAX: usize = 64 * 1024;
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
/// The headers that pass from client to service, and back.
const ASKED: [HeaderName; 3] = [ACCEPT, AUTHORIZATION, CONTENT_TYPE];
const ANSWERED: [HeaderName; 4] = [CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE];

#[derive(Clone)]
struct Relay {
    path: String,
    link: watch::Receiver<Option<Link>>,
}

/// The service's endpoints below `path`, answered through `link`.
pub fn relay(path: &str, link: watch::Receiver<Option<Link>>) -> Router {
    Router::new()
        .fallback(pass_on)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Relay { path: path.to_owned(), link })
}

async fn pass_on(State(relay): State<Relay>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let Some(endpoint) = endpoint(head.uri.path(), &relay.path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return refused(GrantDenial::RequestMalformed);
    };
    let link = relay.link.borrow().clone();
    let Some(link) = link else { return refused(GrantDenial::StoreAway) };
    match answered(&link, head.method, endpoint, &head.headers, body).await {
        Some(answer) => answer,
        None => refused(GrantDenial::StoreAway),
    }
}

async fn answered(
    link: &Link,
    method: Method,
    endpoint: &'static str,
    headers: &HeaderMap,
    body: Bytes,
) -> Option<Response> {
    let mut fields = HeaderMap::new();
    for name in ASKED {
        for value in headers.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    for (theirs, ours) in FIELDS {
        if let Some(value) = headers.get(ours) {
            fields.insert(HeaderName::from_static(theirs), HeaderValue::clone(value));
        }
    }
    let told = |error: &dyn std::fmt::Display| {
        tracing::warn!(target: "sitegate::site_server", endpoint, %error,
            "a client's request was not relayed to the site server");
    };
    let answer = link.forward(method, endpoint, fields, body.to_vec()).await;
    let answer = answer.inspect_err(|error| told(error)).ok()?;
    let mut response = Response::builder().status(answer.status());
    for name in ANSWERED {
        for value in answer.headers().get_all(&name) {
            response = response.header(name.clone(), value.clone());
        }
    }
    let body = bounded(answer, ANSWER_BYTES_MAX).await.inspect_err(|error| told(error)).ok()?;
    response.body(Body::from(body)).ok()
}

/// The endpoint of a path.
fn endpoint(path: &str, base: &str) -> Option<&'static str> {
    if path.strip_prefix(WELL_KNOWN) == Some(base) {
        return Some("metadata");
    }
    Some(match path.strip_prefix(base)? {
        WELL_KNOWN => "metadata",
        "/jwks" => "jwks",
        "/register" => "register",
        "/token" => "token",
        "/revoke" => "revoke",
        _ => return None,
    })
}

fn refused(denial: GrantDenial) -> Response {
    let body = json!({
        "error": denial.error().unwrap_or_default(),
        "error_description": denial.title(),
        "code": denial.code(),
    });
    let status = StatusCode::from_u16(denial.status()).unwrap_or(StatusCode::BAD_REQUEST);
    (status, [(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "2")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoints_of_the_service_are_passed_on() {
        let base = "/sitegate/oauth2";
        for (path, expected) in [
            ("/sitegate/oauth2/token", Some("token")),
            ("/sitegate/oauth2/jwks", Some("jwks")),
            ("/sitegate/oauth2/.well-known/oauth-authorization-server", Some("metadata")),
            ("/.well-known/oauth-authorization-server/sitegate/oauth2", Some("metadata")),
            ("/.well-known/oauth-authorization-server", None),
            ("/sitegate/oauth2", None),
            ("/sitegate/oauth2/token/x", None),
            ("/sitegate/oauth2/../site/v1/join", None),
            ("/other/token", None),
        ] {
            assert_eq!(endpoint(path, base), expected, "{path}");
        }
    }
}
