//! A refusal on its way to the client: the standards' error, sitegate's code, and a line in the
//! log.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::grant_denial::GrantDenial;

/// Why a request is refused, and more of it.
#[derive(Clone, Debug)]
pub(in crate::site) struct Refused {
    pub denial: GrantDenial,
    /// More of it: words of our own, told to the client as well.
    pub detail: Cow<'static, str>,
    /// Whom it is about, for the log alone.
    pub about: Option<String>,
}

impl Refused {
    pub(super) fn of(denial: GrantDenial, detail: impl Into<Cow<'static, str>>) -> Self {
        Refused { denial, detail: detail.into(), about: None }
    }

    pub(super) fn about(self, about: &str) -> Self {
        Refused { about: Some(about.to_owned()), ..self }
    }
}

impl From<GrantDenial> for Refused {
    fn from(denial: GrantDenial) -> Self {
        Refused::of(denial, "")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let denial = self.denial;
        let description = match self.detail.is_empty() {
            true => denial.title().to_owned(),
            false => format!("{} ({})", denial.title(), self.detail),
        };
        let body = json!({
            "error": denial.error(),
            "error_description": description,
            "code": denial.code(),
        });
        let status = StatusCode::from_u16(denial.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 6749 §5.2 and RFC 6750 §3: which way to authenticate.
        let challenge = match (status, denial.error()) {
            (StatusCode::UNAUTHORIZED, "invalid_token") => Some("Bearer error=\"invalid_token\""),
            (StatusCode::UNAUTHORIZED, _) => Some("Bearer"),
            (StatusCode::FORBIDDEN, "insufficient_scope") => {
                Some("Bearer error=\"insufficient_scope\"")
            }
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert("retry-after", HeaderValue::from_static("30"));
        }
        response
    }
}
