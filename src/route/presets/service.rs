//! The routes of the site's own services: only their endpoints.

use super::super::pattern::Pattern;
use super::super::table::{Destination, Requirement, Route, TokenHandling};
use super::rows::{NO_BODY, NOBODY, POST, READ, SMALL};
use Requirement::{Anonymous, Deny};
use TokenHandling::{Forward, Strip};

/// The routes of the token service at a canonical path: only its endpoints.
pub fn token_service(path: &str) -> Vec<Route> {
    let well_known = "/.well-known/oauth-authorization-server";
    let rows: [ServiceRow; 7] = [
        (
            "token-service",
            format!("{path}/"),
            &["GET", "HEAD", "POST"],
            Deny,
            "Paths that are no endpoint of the token service are denied.",
        ),
        (
            "token-service-metadata",
            format!("{well_known}{path}"),
            READ,
            Anonymous,
            "Metadata of the token service (RFC 8414): public.",
        ),
        (
            "token-service-metadata",
            format!("{path}{well_known}"),
            READ,
            Anonymous,
            "The same, for clients that request it below the issuer's path.",
        ),
        (
            "token-service-keys",
            format!("{path}/jwks"),
            READ,
            Anonymous,
            "Public keys, by which anyone can verify the site's tokens.",
        ),
        (
            "token-service-registration",
            format!("{path}/register"),
            POST,
            Anonymous,
            "A client has no token yet; the service asks for a bulk or Entra token or a certificate.",
        ),
        (
            "token-service-token",
            format!("{path}/token"),
            POST,
            Anonymous,
            "Clients prove their keys, or exchange a token: the service checks both.",
        ),
        (
            "token-service-revocation",
            format!("{path}/revoke"),
            POST,
            Anonymous,
            "A client that has proved its key revokes one of its own tokens.",
        ),
    ];
    let route = |(name, path, methods, requirement, reason): ServiceRow| {
        Some(Route {
            name: name.into(),
            pattern: Pattern::parse(&path).ok()?,
            methods: methods.iter().map(|m| (*m).into()).collect(),
            queries: None,
            body_bytes: Some(if methods == POST { SMALL } else { NO_BODY }),
            requirement,
            purposes: NOBODY,
            token: Forward,
            answer_time: None,
            requests_per_minute: None,
            websocket: false,
            rewrite_links: false,
            destination: Destination::TokenService,
            translation: None,
            reason: reason.into(),
        })
    };
    rows.into_iter().filter_map(route).collect()
}

/// The path of the publications of the site's CA.
pub const PUBLICATION: &str = "/sitegate/authority";

/// The route to the publications of the site's CA. It is the same over https and plain HTTP.
pub fn publication() -> Route {
    Route {
        name: "authority".into(),
        pattern: Pattern::of_canonical("/sitegate/authority/"),
        methods: READ.iter().map(|m| (*m).into()).collect(),
        queries: None,
        body_bytes: Some(NO_BODY),
        requirement: Anonymous,
        purposes: NOBODY,
        token: Strip,
        answer_time: None,
        requests_per_minute: None,
        websocket: false,
        rewrite_links: false,
        destination: Destination::Publication,
        translation: None,
        reason: "Verifying a certificate needs the certificate of its issuer and the CRL.".into(),
    }
}

type ServiceRow = (&'static str, String, &'static [&'static str], Requirement, &'static str);
