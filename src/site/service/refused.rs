//! Builds the response to a refused request: the standard's error code, sitegate's code, and the
//! details for the log.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::caller::Caller;
use crate::grant_denial::GrantDenial;

/// Why a request is refused, with details.
#[derive(Clone, Debug)]
pub(in crate::site) struct ServiceRefusal {
    pub denial: GrantDenial,
    /// A detail in fixed words; the client gets it, too.
    pub detail: Cow<'static, str>,
    /// The client it is about, only for the log.
    pub about: Option<String>,
}

impl ServiceRefusal {
    pub(super) fn of(denial: GrantDenial, detail: impl Into<Cow<'static, str>>) -> Self {
        ServiceRefusal { denial, detail: detail.into(), about: None }
    }

    pub(super) fn about(self, about: &str) -> Self {
        ServiceRefusal { about: Some(about.to_owned()), ..self }
    }
}

impl From<GrantDenial> for ServiceRefusal {
    fn from(denial: GrantDenial) -> Self {
        ServiceRefusal::of(denial, "")
    }
}

impl ServiceRefusal {
    /// The HTTP response.
    pub(super) fn answered(self, caller: &Caller) -> Response {
        let denial = self.denial;
        let description = if self.detail.is_empty() {
            denial.title().to_owned()
        } else {
            format!("{} ({})", denial.title(), self.detail)
        };
        let mut body = json!({ "error_description": description, "code": denial.code() });
        if let (Some(error), Some(members)) = (denial.error(), body.as_object_mut()) {
            members.insert("error".to_owned(), error.into());
        }
        let status = StatusCode::from_u16(denial.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 6750 §3: names the authentication scheme. RFC 6749 §5.2: for invalid_client only if
        // the client used the Authorization field, because libraries that see a challenge do not
        // read the body.
        let challenge = match (status, denial.error()) {
            (StatusCode::UNAUTHORIZED, Some("invalid_client")) => {
                caller.has_authorization.then_some("Bearer")
            }
            (StatusCode::UNAUTHORIZED, Some("invalid_token")) => {
                Some("Bearer error=\"invalid_token\"")
            }
            (StatusCode::UNAUTHORIZED, _) => Some("Bearer"),
            (StatusCode::FORBIDDEN, Some("insufficient_scope")) => {
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
