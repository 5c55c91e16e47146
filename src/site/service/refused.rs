//! A refusal on its way to the client: the standards' error, sitegate's code, and a line in the
//! log.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::caller::Caller;
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

impl Refused {
    /// The answer to whoever asked.
    pub(super) fn answered(self, caller: &Caller) -> Response {
        let denial = self.denial;
        let description = match self.detail.is_empty() {
            true => denial.title().to_owned(),
            false => format!("{} ({})", denial.title(), self.detail),
        };
        let mut body = json!({ "error_description": description, "code": denial.code() });
        if let (Some(error), Some(members)) = (denial.error(), body.as_object_mut()) {
            members.insert("error".to_owned(), error.into());
        }
        let status = StatusCode::from_u16(denial.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 6750 §3: how to authenticate. RFC 6749 §5.2: for a client that is not accepted only
        // where it used the Authorization field; libraries that see a challenge read no body.
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
