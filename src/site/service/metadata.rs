//! Publishes the service's metadata (RFC 8414) and the keys that sign its tokens.

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use super::ServiceState;
use crate::token::Algorithm;

/// Short: a client with an outdated address or key is refused.
const CACHED: &str = "public, max-age=300";

pub(super) async fn metadata(State(serving): ServiceState) -> Response {
    let issuer = &serving.service.params.issuer;
    let algorithms: Vec<_> =
        Algorithm::ALL.iter().map(|a| a.name()).chain([Algorithm::ED25519]).collect();
    let methods = ["private_key_jwt"];
    let body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "jwks_uri": format!("{issuer}/jwks"),
        // There is no authorization endpoint; RFC 8414 requires the list, and clients require an
        // entry.
        "response_types_supported": ["none"],
        "grant_types_supported":
            ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "scopes_supported": ["content"],
        "tls_client_certificate_bound_access_tokens": true,
    });
    ([(CACHE_CONTROL, CACHED)], Json(body)).into_response()
}

pub(super) async fn jwks(State(serving): ServiceState) -> Response {
    let kind = (CONTENT_TYPE, "application/jwk-set+json");
    ([kind, (CACHE_CONTROL, CACHED)], serving.service.tokens.jwks()).into_response()
}
