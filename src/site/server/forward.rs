//! Token service requests that a gateway without a store forwards, with its own information about
//! the client.
//!
//! Those header fields are trusted because an enrolled gateway sent them. The front has removed the
//! fields with the token service's own names from all other requests.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use tower_service::Service as _;

use super::refused::{ServerRefusal, SiteDenial};
use super::{ServerState, told};
use crate::site::service::Caller;

/// The gateway's names for client information, and the token service's.
pub const FIELDS: [(&str, &str); 4] = [
    ("gateway-client-address", "x-forwarded-for"),
    ("gateway-client-issuers", "sitegate-accepted-issuers"),
    ("gateway-client-cert-sha256", "sitegate-client-cert-sha256"),
    ("gateway-client-cert-proven", "sitegate-client-cert-proven"),
];

/// The role for which clients get tokens.
const SERVING: &str = "management-point";

pub(super) async fn forward(
    State(serving): ServerState,
    Path(endpoint): Path<String>,
    request: Request,
) -> Response {
    let caller = Caller::of(request.headers());
    let outcome = async {
        let gateway = serving.gateway(&caller).await?;
        if !gateway.roles.iter().any(|role| role == SERVING) {
            return Err(SiteDenial::ServiceRole.into());
        }
        let (service, path) =
            serving.server.token_service.clone().ok_or(SiteDenial::ServiceAway)?;
        let below = match endpoint.as_str() {
            "metadata" => format!("{path}/.well-known/oauth-authorization-server"),
            "jwks" | "register" | "token" | "revoke" => format!("{path}/{endpoint}"),
            _ => return Err(SiteDenial::Malformed.into()),
        };
        let (mut head, body) = request.into_parts();
        head.uri = Uri::try_from(below)
            .map_err(|_| ServerRefusal::of(SiteDenial::Malformed, "no such endpoint"))?;
        let mut fields = HeaderMap::new();
        for name in [ACCEPT, AUTHORIZATION, CONTENT_TYPE] {
            for value in head.headers.get_all(&name) {
                fields.append(name.clone(), value.clone());
            }
        }
        for (theirs, ours) in FIELDS {
            let mut said = head.headers.get_all(theirs).iter();
            // A repeated field is ignored.
            if let (Some(value), None) = (said.next(), said.next()) {
                fields.insert(HeaderName::from_static(ours), HeaderValue::clone(value));
            }
        }
        head.headers = fields;
        head.extensions.clear();
        let mut service = service;
        match service.call(Request::from_parts(head, Body::new(body))).await {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    };
    told("token-service", &caller, outcome.await)
}
