//! The decision: joins the request, its route's requirement and its token's identity. The only
//! place where an identity meets a requirement.
//!
//! Takes borrowed views of a head, and the time. Sends nothing, counts nothing.

use std::net::IpAddr;

use jiff::Timestamp;

use super::certificate::ClientCertificate;
use super::framing::Body;
use super::head::JudgedHead;
use super::headers::{DESTINATION, is};
use super::host;
use super::policy::{Policy, SitePolicy};
use super::target::origin_form;
use super::upgrade::Asks;
use super::verdict::{Pass, Refused};
use crate::denial::Denial;
use crate::route::{CanonicalPath, QueryAccess, Requirement, Route, TokenFacts, TokenHandling};
use crate::token::{self, BearerToken, Fingerprint, Identified, Refusal, Verified};

/// Judges a request. Returns the route's index, if a route was found, and the verdict.
pub fn decide<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    head: &JudgedHead<'a, F>,
    now: Timestamp,
) -> (Option<usize>, Result<Pass, Refused>)
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let (index, route) = match find(policy, site, head) {
        Ok(found) => found,
        Err((index, denial)) => return (index, Err(denial.into())),
    };
    let verdict = admit(policy, site, route, head, now).and_then(|pass| match head.asks {
        Asks::WebSocket if !route.websocket => Err(Denial::RouteWebsocket.into()),
        asks => Ok(Pass { websocket: asks == Asks::WebSocket, ..pass }),
    });
    (Some(index), verdict)
}

pub(in crate::gateway) type RouteFound<'s> = Result<(usize, &'s Route), (Option<usize>, Denial)>;

/// Finds the route of a request: checks host, path, route, method and a second target
/// (`Destination`).
pub(in crate::gateway) fn find<'s, 'a, F>(
    policy: &Policy,
    site: &'s SitePolicy,
    head: &JudgedHead<'a, F>,
) -> RouteFound<'s>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let nowhere = |denial| (None, denial);
    let asked = host::ConnectionTarget { by_default: head.by_default, local: head.local };
    host::judge(head.host, &site.hosts, asked).map_err(nowhere)?;
    let path = CanonicalPath::parse(head.target, policy.limits.uri_bytes).map_err(nowhere)?;
    let place = site.routes.place(&path).map_err(nowhere)?;
    let route = site.routes.get(place).ok_or((None, Denial::GatewayInternal))?;
    route.takes(head.method).map_err(|denial| (Some(place), denial))?;
    let mut destinations = head.fields.clone().filter(|(name, _)| is(name, DESTINATION));
    let stays = |(_, value): (_, &[u8])| {
        let target = origin_form(value, head.host, head.clear).ok()?;
        let path = CanonicalPath::parse(target, policy.limits.uri_bytes).ok()?;
        site.routes.place(&path).ok().filter(|there| *there == place)
    };
    match (destinations.next(), destinations.next()) {
        (None, _) => Ok((place, route)),
        (Some(one), None) if stays(one).is_some() => Ok((place, route)),
        _ => Err((Some(place), Denial::RouteDestination)),
    }
}

/// Checks the route's requirement.
fn admit<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    route: &Route,
    head: &JudgedHead<'a, F>,
    now: Timestamp,
) -> Result<Pass, Refused>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    too_large(Some(route), head.body)?;
    takes_query(site, route, head)?;
    let forward_token = route.token == TokenHandling::Forward;
    let nobody = Pass { forward_token, translation: route.translation, ..Pass::of_nobody() };
    if route.requirement == Requirement::Certificate {
        has_good_certificate(head.certificate)?;
        return Ok(nobody);
    }
    if route.requirement == Requirement::AltAuth {
        alt_auth(site, head.client)?;
        return Ok(nobody);
    }
    if !route.requirement.asks_for_a_token() {
        route.judge(None, site.windows_auth)?;
        let pinned = route.requirement == Requirement::WindowsAuth;
        return Ok(Pass { pinned, ..nobody });
    }
    let token = token::find(head.fields.clone(), &site.tokens.sources)?;
    let token = token.ok_or(Denial::TokenMissing)?;
    let found = identify(policy, site, &token, now)?;
    not_blocked(policy, &token, &found.verified)?;
    is_for_here(site, &token, &found.verified)?;
    let identity = found.verified.identity();
    if let Some(wanted) = &identity.bound_to {
        has_bound_certificate(wanted, head.certificate).map_err(|detail| Refused {
            detail: Some(detail.to_owned()),
            fingerprint: Some(found.fingerprint),
            ..Denial::TokenBinding.into()
        })?;
    }
    let facts = TokenFacts {
        purpose: identity.purpose,
        device: identity.is_device(),
        user: identity.is_user(),
    };
    route.judge(Some(facts), site.windows_auth).map_err(|denial| Refused {
        detail: Some(format!("purpose {}", identity.purpose)),
        fingerprint: Some(found.fingerprint),
        ..denial.into()
    })?;
    if !identity.scopes.is_empty() {
        let path = CanonicalPath::parse(head.target, policy.limits.uri_bytes)?;
        if !identity.reaches(path.as_str()) {
            let fingerprint = Some(found.fingerprint);
            return Err(Refused { fingerprint, ..Denial::TokenScope.into() });
        }
    }
    Ok(Pass { verified: Some(found.verified), cached: Some(found.hit), ..nobody })
}

/// Checks that a client may use the AltAuth namespaces. The endpoint of a message is judged when
/// its body arrives.
pub(in crate::gateway) fn alt_auth(site: &SitePolicy, client: IpAddr) -> Result<(), Denial> {
    let policy = site.alt_auth.as_ref().ok_or(Denial::RouteAltAuth)?;
    if policy.networks.iter().any(|network| network.contains(&client)) {
        Ok(())
    } else {
        Err(Denial::RouteAltAuthNetwork)
    }
}

/// Checks that a route accepts a request's query from this client.
pub(in crate::gateway) fn takes_query<F>(
    site: &SitePolicy,
    route: &Route,
    head: &JudgedHead<'_, F>,
) -> Result<(), Refused> {
    let Some(queries) = &route.queries else { return Ok(()) };
    let (word, asked) = queries.judge(head.target)?;
    let from_media = || alt_auth(site, head.client).is_ok();
    match asked {
        QueryAccess::Open => Ok(()),
        QueryAccess::Media if from_media() => Ok(()),
        QueryAccess::Media | QueryAccess::Closed => {
            let detail = match word {
                "" => "no query".to_owned(),
                word => format!("query {word}"),
            };
            Err(Refused { detail: Some(detail), ..Denial::RouteQuery.into() })
        }
    }
}

/// Checks that a body of known length does not exceed the route's limit.
pub(in crate::gateway) fn too_large(route: Option<&Route>, body: Body) -> Result<(), Denial> {
    match (body, route.and_then(|route| route.body_bytes)) {
        (Body::Length(length), Some(max)) if length > max => Err(Denial::LimitBody),
        _ => Ok(()),
    }
}

fn identify(
    policy: &Policy,
    site: &SitePolicy,
    token: &BearerToken<'_>,
    now: Timestamp,
) -> Result<Identified, Refused> {
    token::identify(&policy.tokens, token, &policy.trusted, &site.tokens.issuers, now)
        .map_err(|refusal| of_token(token, refusal))
}

/// Checks cached tokens too: a block applies from the next request.
fn not_blocked(
    policy: &Policy,
    token: &BearerToken<'_>,
    verified: &Verified,
) -> Result<(), Refused> {
    policy
        .blocklist
        .peek(|list| list.judge(verified.identity(), verified.issued()))
        .map_err(|refusal| of_token(token, refusal.naming(verified.kid())))
}

/// Checks the audience: a token may be limited to one of the site's systems (RFC 8707), and the
/// others refuse it.
fn is_for_here(
    site: &SitePolicy,
    token: &BearerToken<'_>,
    verified: &Verified,
) -> Result<(), Refused> {
    let accepted = &verified.issuer().audiences;
    let here = |aud: &String| accepted.contains(aud) && !site.tokens.elsewhere.contains(aud);
    if site.tokens.elsewhere.is_empty() || verified.audiences().iter().any(here) {
        return Ok(());
    }
    let detail = "it is for another site system of this site";
    Err(of_token(token, Refusal::new(Denial::TokenAudience, detail).naming(verified.kid())))
}

fn of_token(token: &BearerToken<'_>, refusal: Refusal) -> Refused {
    Refused {
        denial: refusal.denial,
        detail: Some(refusal.detail.to_string()),
        kid: refusal.kid,
        missed: refusal.missed,
        fingerprint: Some(Fingerprint::of(token.as_str().as_bytes())),
    }
}

/// Checks whether a request with an unjudged token carries one that is valid but blocked.
///
/// # Errors
/// The block.
pub(in crate::gateway) fn is_blocked<'a>(
    policy: &Policy,
    site: &SitePolicy,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    now: Timestamp,
) -> Result<(), Refused> {
    let Ok(Some(token)) = token::find(fields, &site.tokens.sources) else { return Ok(()) };
    match identify(policy, site, &token, now) {
        Ok(found) => not_blocked(policy, &token, &found.verified),
        Err(_) => Ok(()),
    }
}

/// Checks that the certificate is good now, for a route that requires one.
fn has_good_certificate(certificate: Option<&ClientCertificate<'_>>) -> Result<(), Refused> {
    match certificate.map(ClientCertificate::verdict) {
        Some(Ok(())) => Ok(()),
        Some(Err((denial, detail))) => {
            Err(Refused { detail: Some((*detail).to_owned()), ..(*denial).into() })
        }
        None => Err(Denial::CertificateMissing.into()),
    }
}

/// Checks that the connection proved the key of the certificate that a token is bound to. Its
/// issuer and its trust by an authority do not matter (RFC 8705 §3).
fn has_bound_certificate(
    wanted: &str,
    certificate: Option<&ClientCertificate<'_>>,
) -> Result<(), &'static str> {
    match certificate {
        Some(certificate) if certificate.is(wanted) => Ok(()),
        Some(_) => Err("bound to another certificate than the connection's"),
        None => Err("bound to a certificate, and the connection has none"),
    }
}
