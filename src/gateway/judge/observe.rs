//! Observe mode: lets a request pass that enforcing would refuse, if only its token, its
//! certificate, its route or an operator's list speaks against it. Never relaxes a check that
//! protects the backend.
//!
//! Pure, like the decision, whose refusals it judges. Sends nothing, counts nothing.

use jiff::Timestamp;

use super::decide::{is_blocked, too_large};
use super::head::JudgedHead;
use super::headers::{DESTINATION, is};
use super::policy::{Policy, SitePolicy};
use super::upgrade::Asks;
use super::verdict::{Pass, Refused};
use crate::denial::Denial;
use crate::message;
use crate::route::{CanonicalPath, Requirement};

/// Checks whether a site system observes now and relaxes this denial.
pub(in crate::gateway) fn relaxes(site: &SitePolicy, denial: Denial, now: Timestamp) -> bool {
    let observing = site.observing.as_ref().is_some_and(|observing| observing.until().holds(now));
    observing && is_relaxed(denial)
}

/// Returns the pass of a refused request, if its site system observes now and only its token or its
/// route speaks against it. `place` is the index of its route, if it has one.
///
/// # Errors
/// The refusal, if it stands.
pub(in crate::gateway) fn relax<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    place: Option<usize>,
    head: &JudgedHead<'a, F>,
    refused: Refused,
    now: Timestamp,
) -> Result<Pass, Refused>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let relaxed =
        relaxes(site, refused.denial, now) && (!head.clear || is_relaxed_in_clear(refused.denial));
    let Some(observing) = site.observing.as_ref().filter(|_| relaxed) else {
        return Err(refused);
    };
    let route = place.and_then(|place| site.routes.get(place));
    let Ok(path) = CanonicalPath::parse(head.target, policy.limits.uri_bytes) else {
        return Err(refused);
    };
    // An unauthenticated request is never upgraded to WebSocket, and never writes to a second
    // target that was not judged.
    if head.asks == Asks::WebSocket || head.fields.clone().any(|(name, _)| is(name, DESTINATION)) {
        return Err(refused);
    }
    if route.is_some_and(|route| is_closed(route.requirement)) || observing.guarded.claims(&path) {
        return Err(refused);
    }
    // The guard recognizes messages by their method: with another one they would pass unread.
    let for_messages = route.is_some_and(|route| route.takes(message::METHOD).is_ok());
    if for_messages && refused.denial == Denial::RouteMethod {
        return Err(refused);
    }
    // The decision ended before these two checks.
    too_large(route, head.body)?;
    is_blocked(policy, site, head.fields.clone(), now)?;
    Ok(Pass {
        verified: None,
        // The token passes unchanged. Credentials that authenticate a connection are removed from
        // every shared connection.
        forward_token: true,
        unasked: false,
        pinned: false,
        cached: None,
        websocket: false,
        translation: None,
        observed: Some(Box::new(refused)),
    })
}

/// Checks whether a route stays closed or inspected in every mode.
fn is_closed(requirement: Requirement) -> bool {
    match requirement {
        Requirement::Deny
        | Requirement::AltAuth
        | Requirement::WindowsAuth
        | Requirement::BootstrapMessage => true,
        Requirement::Anonymous
        | Requirement::Device
        | Requirement::User
        | Requirement::DeviceOrUser
        | Requirement::Certificate => false,
    }
}

/// Checks whether a refusal may be relaxed over plain HTTP. All others concern plain HTTP itself,
/// or would be the same over TLS.
fn is_relaxed_in_clear(denial: Denial) -> bool {
    denial == Denial::RouteQuery
}

/// Checks whether a refusal concerns only the token, the certificate, the route or an operator's
/// list. Every denial must be listed here.
fn is_relaxed(denial: Denial) -> bool {
    use Denial::*;
    match denial {
        RouteUnknown | RouteMethod | RouteQuery => true,
        // The requested type is on no list, and every value in the message is plain.
        MessageRequest => true,
        CertificateMissing
        | CertificateRevocationUnknown
        | CertificateUntrusted
        | CertificateUsage
        | CertificateExpired => true,
        TokenMissing | TokenAmbiguous | TokenMalformed | TokenAlgorithm | TokenCritical
        | TokenType | TokenIssuer | TokenSignature | TokenExpired | TokenNotYetValid
        | TokenLifetime | TokenAudience | TokenTenant | TokenClaims | TokenBinding
        | TokenPurpose | TokenScope | DeviceTokenRequired | UserTokenRequired => true,
        // Revoked or blocked, or the blocklist is not known.
        CertificateRevoked | TokenBlocked | DeviceBlocked | UserBlocked | SiteUnheard => false,
        ClearRefused | ClearRedirected => false,
        RouteDestination => false,
        RouteDenied | RouteAltAuth | RouteAltAuthNetwork | RouteWindowsAuth | RouteWebsocket => {
            false
        }
        // More than one reading, or too large: the backend's interpretation is unknown.
        FramingLengthAndCoding
        | FramingCoding
        | FramingChunk
        | FramingLength
        | FramingHead
        | FramingMethod
        | FramingUpgrade
        | FramingExpectation
        | HostInvalid
        | HostMisdirected
        | HostLoop
        | PathAmbiguous
        | PathMalformed
        | PathQuery
        | MessageMalformed
        | MessagePayload
        | MessageSource => false,
        MessageEndpoint | MessageDevice => false,
        LimitUri | LimitHead | LimitTime | LimitBody | LimitRate | LimitRequests
        | LimitInFlight => false,
        UpstreamUnreachable | UpstreamTimeout | UpstreamCertificate | UpstreamCredentials
        | UpstreamResponse | UpstreamClosed | GatewayInternal => false,
    }
}

#[cfg(test)]
mod tests;
