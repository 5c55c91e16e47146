//! The namespaces of the site's own services: their endpoints, and nothing else.

use super::super::table::{Destination, Pattern, Requirement, Route, TokenHandling};
use super::rows::{NO_BODY, NOBODY, POST, READ, SMALL};
use Requirement::{Anonymous, Deny};
use TokenHandling::{Forward, Strip};

/// The namespace of the token service at a canonical path: its endpoints, and nothing else.
pub fn token_service(path: &str) -> Vec<Route> {
    let well_known = "/.well-known/oauth-authorization-server";
    let rows: [ServiceRow; 7] = [
        (
            "token-service",
            format!("{path}/"),
            &["GET", "HEAD", "POST"],
            Deny,
            "What is no endpoint of the token service is nothing.",
        ),
        (
            "token-service-metadata",
            format!("{well_known}{path}"),
            READ,
            Anonymous,
            "Where the endpoints are, as RFC 8414 has it: known to everyone.",
        ),
        (
            "token-service-metadata",
            format!("{path}{well_known}"),
            READ,
            Anonymous,
            "The same, for clients that look below the issuer.",
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
            "Clients prove their keys, or exchange a token: the service judges both.",
        ),
        (
            "token-service-revocation",
            format!("{path}/revoke"),
            POST,
            Anonymous,
            "A client that has proved its key gives up a token of its own.",
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

/// Where what the site's authority publishes is found.
pub const PUBLICATION: &str = "/sitegate/authority";

/// The route to what the site's authority publishes. It is the same by https and in clear.
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
        reason: "Whoever checks a certificate needs its issuer's and the list of revoked ones."
            .into(),
    }
}

type ServiceRow = (&'static str, String, &'static [&'static str], Requirement, &'static str);
