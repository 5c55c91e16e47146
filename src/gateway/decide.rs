//! The decision: joins what a request asks for, what its route requires, and who its token says it
//! is from. The one place where an identity meets a requirement.
//!
//! Sees borrowed views of a head and the time; sends nothing, counts nothing.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;

use super::certificate::ClientCertificate;
use super::framing::Body;
use super::headers::Credential;
use super::host;
use super::policy::{Policy, SitePolicy};
use super::upgrade::Asks;
use crate::denial::Denial;
use crate::route::{
    Asked, CanonicalPath, Requirement, Route, TokenFacts, TokenHandling, Translation,
    plainly_spelled,
};
use crate::token::{self, BearerToken, Fingerprint, Identified, Missed, Origin, Refusal, Verified};

/// A request head as the decision sees it.
pub struct Head<'a, F> {
    /// The method.
    pub method: &'a str,
    /// The raw target, as it will be forwarded.
    pub target: &'a [u8],
    /// Host, or `:authority`.
    pub host: &'a [u8],
    /// What the head says about the body.
    pub body: Body,
    /// Whether it asks to leave HTTP.
    pub asks: Asks,
    /// Whether the site system was picked for want of a known name.
    pub by_default: bool,
    /// The client's address.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Whether it came in clear, to an address of plain HTTP.
    pub clear: bool,
    /// The certificate that the client sent, judged; `None` if it sent none or was not asked.
    pub certificate: Option<&'a ClientCertificate<'a>>,
    /// All fields, name and value.
    pub fields: F,
}

/// A request that may go on.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Who sent it, unless the route asks nobody.
    pub verified: Option<Arc<Verified>>,
    /// Whether its token goes on with it.
    pub forward_token: bool,
    /// Whether it goes on without the token that its route asks for.
    pub unasked: bool,
    /// Whether the connection to the backend may not be shared.
    pub pinned: bool,
    /// Whether the token had been verified before; `None` without one.
    pub cached: Option<bool>,
    /// Whether its connection may become a WebSocket.
    pub websocket: bool,
    /// What its target becomes for the backend; as it came where there is none.
    pub translation: Option<Translation>,
    /// Why it would have been refused, had its site system not been observing.
    pub observed: Option<Box<Refused>>,
}

impl Pass {
    /// For a request that nobody need have sent.
    pub fn of_nobody() -> Self {
        Pass {
            verified: None,
            forward_token: false,
            unasked: false,
            pinned: false,
            cached: None,
            websocket: false,
            translation: None,
            observed: None,
        }
    }

    /// The target that the backend is sent; `None` if that cannot be said, which no target causes
    /// that its route covers.
    pub fn target<'a>(&self, came: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let plain = plainly_spelled(came);
        match self.translation {
            None => Some(plain),
            Some(translation) => translation.apply(&plain).map(Cow::Owned),
        }
    }

    /// Which of the client's credentials go on with the request.
    pub fn credential(&self) -> Credential {
        match (self.pinned, self.forward_token) {
            (true, _) => Credential::Any,
            (false, true) => Credential::Token,
            (false, false) => Credential::None,
        }
    }

    /// The fields by which the backend is told who sent the request. `certificate` is the
    /// thumbprint of the client's certificate, where that is good. A request that is only observed
    /// says nothing: nobody vouches for it.
    pub fn says<'a>(
        &'a self,
        certificate: Option<&'a str>,
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        let who = self.verified.as_ref().map(|verified| verified.identity());
        let certificate = certificate.filter(|_| self.observed.is_none());
        let origin = who.and_then(|who| who.origins.first());
        [
            ("Sitegate-Issuer", who.map(|who| &*who.issuer)),
            ("Sitegate-Device", who.and_then(|who| who.device.as_deref())),
            ("Sitegate-User", who.and_then(|who| who.user.as_deref())),
            ("Sitegate-Token-Id", who.and_then(|who| who.token_id.as_deref())),
            ("Sitegate-Origin-Issuer", origin.map(|origin| &*origin.iss)),
            ("Sitegate-Origin-Subject", origin.and_then(Origin::subject)),
            ("Sitegate-Client-Cert-Sha256", certificate),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A request that may not.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The reason.
    pub denial: Denial,
    /// More of it, for the log alone.
    pub detail: Option<String>,
    /// The key that the token named, made safe for logs.
    pub kid: Option<String>,
    /// The token's fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// The key that its issuer does not have, where newer keys could change that.
    pub missed: Option<Missed>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Refused { denial, detail: None, kid: None, fingerprint: None, missed: None }
    }
}

/// Judge a request. Returns the index of the route, where one was found, beside the verdict.
pub fn decide<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    head: &Head<'a, F>,
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

pub(super) type Found<'s> = Result<(usize, &'s Route), (Option<usize>, Denial)>;

/// Path, host, route and method.
pub(super) fn find<'s, F>(policy: &Policy, site: &'s SitePolicy, head: &Head<'_, F>) -> Found<'s> {
    let nowhere = |denial| (None, denial);
    let asked = host::Asked { by_default: head.by_default, local: head.local };
    host::judge(head.host, &site.hosts, asked).map_err(nowhere)?;
    let path = CanonicalPath::parse(head.target, policy.uri_bytes_max).map_err(nowhere)?;
    let place = site.routes.place(&path).map_err(nowhere)?;
    let route = site.routes.get(place).ok_or((None, Denial::GatewayInternal))?;
    route.takes(head.method).map_err(|denial| (Some(place), denial))?;
    Ok((place, route))
}

/// What the route requires.
fn admit<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    route: &Route,
    head: &Head<'a, F>,
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
    let token = token::find(head.fields.clone(), &site.token_sources)?;
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
        let path = CanonicalPath::parse(head.target, policy.uri_bytes_max)?;
        if !identity.reaches(path.as_str()) {
            let fingerprint = Some(found.fingerprint);
            return Err(Refused { fingerprint, ..Denial::TokenScope.into() });
        }
    }
    Ok(Pass { verified: Some(found.verified), cached: Some(found.hit), ..nobody })
}

/// Whether a client may use the AltAuth namespaces. What its messages may be for is judged when they
/// are there.
pub(super) fn alt_auth(site: &SitePolicy, client: IpAddr) -> Result<(), Denial> {
    let policy = site.alt_auth.as_ref().ok_or(Denial::RouteAltAuth)?;
    match policy.networks.iter().any(|network| network.contains(&client)) {
        true => Ok(()),
        false => Err(Denial::RouteAltAuthNetwork),
    }
}

/// Whether a route takes the query of a request, from this client.
pub(super) fn takes_query<F>(
    site: &SitePolicy,
    route: &Route,
    head: &Head<'_, F>,
) -> Result<(), Refused> {
    let Some(queries) = &route.queries else { return Ok(()) };
    let (word, asked) = queries.judge(head.target)?;
    let from_media = || alt_auth(site, head.client).is_ok();
    match asked {
        Asked::Open => Ok(()),
        Asked::Media if from_media() => Ok(()),
        Asked::Media | Asked::Closed => {
            let detail = match word {
                "" => "no query".to_owned(),
                word => format!("query {word}"),
            };
            Err(Refused { detail: Some(detail), ..Denial::RouteQuery.into() })
        }
    }
}

/// Whether a body of a length that is known is more than the route takes.
pub(super) fn too_large(route: Option<&Route>, body: Body) -> Result<(), Denial> {
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
    token::identify(&policy.tokens, token, &policy.trusted, &site.issuers, now)
        .map_err(|refusal| of_token(token, refusal))
}

/// Of tokens that are remembered too: a block takes hold at the next request.
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

/// A token may be limited to one of the site's systems (RFC 8707), and is nothing to the others.
fn is_for_here(
    site: &SitePolicy,
    token: &BearerToken<'_>,
    verified: &Verified,
) -> Result<(), Refused> {
    let accepted = &verified.issuer().audiences;
    let here = |aud: &String| accepted.contains(aud) && !site.elsewhere.contains(aud);
    if site.elsewhere.is_empty() || verified.audiences().iter().any(here) {
        return Ok(());
    }
    let detail = "it is for another of the site's systems";
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

/// Whether a request whose token nobody has looked at carries one that is good and blocked.
///
/// # Errors
/// The block.
pub(super) fn is_blocked<'a>(
    policy: &Policy,
    site: &SitePolicy,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    now: Timestamp,
) -> Result<(), Refused> {
    let Ok(Some(token)) = token::find(fields, &site.token_sources) else { return Ok(()) };
    match identify(policy, site, &token, now) {
        Ok(found) => not_blocked(policy, &token, &found.verified),
        Err(_) => Ok(()),
    }
}

/// What a route that requires a certificate asks: one that is good now.
fn has_good_certificate(certificate: Option<&ClientCertificate<'_>>) -> Result<(), Refused> {
    match certificate.map(ClientCertificate::verdict) {
        Some(Ok(())) => Ok(()),
        Some(Err((denial, detail))) => {
            Err(Refused { detail: Some((*detail).to_owned()), ..(*denial).into() })
        }
        None => Err(Denial::CertificateMissing.into()),
    }
}

/// What a bound token asks: that the connection proved the key of that very certificate. Who issued
/// it, and whether it is good by any authority, plays no part (RFC 8705 §3).
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
