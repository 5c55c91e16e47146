//! What a site system that observes lets go on although enforcing would refuse it: what only its
//! token or its route speaks against, and nothing that protects the backend itself.
//!
//! Pure, like the decision, whose refusals it looks at. Sends nothing, counts nothing.

use jiff::Timestamp;

use super::decide::{Head, Pass, Refused, is_blocked, too_large};
use super::guard::VERB;
use super::policy::{Policy, SitePolicy};
use super::upgrade::Asks;
use crate::config::ObserveUntil;
use crate::denial::Denial;
use crate::route::{CanonicalPath, Requirement, RouteTable, guarded};

/// How a site system observes.
#[derive(Clone, Debug)]
pub struct Observing {
    until: ObserveUntil,
    /// Namespaces of any role that are closed, or whose requests are looked into: a backend may
    /// have them though this site system has not the role. And what is not the backend's at all.
    guarded: RouteTable,
}

impl Observing {
    /// Observing until that time, by a site system with these routes.
    pub fn new(until: ObserveUntil, routes: &RouteTable) -> Self {
        Observing { until, guarded: guarded(routes) }
    }

    /// Until when.
    pub fn until(&self) -> ObserveUntil {
        self.until
    }
}

/// Whether a site system observes at present, and would let go on what is refused so.
pub(super) fn relaxes(site: &SitePolicy, denial: Denial, now: Timestamp) -> bool {
    let observing = site.observing.as_ref().is_some_and(|observing| observing.until.holds(now));
    observing && is_relaxed(denial)
}

/// The pass of a request that was refused, if its site system observes at present and nothing but
/// its token or its route speaks against it. `place` is its route's, where it has one.
///
/// # Errors
/// The refusal, where it stays one.
pub(super) fn relax<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    place: Option<usize>,
    head: &Head<'a, F>,
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
    let Ok(path) = CanonicalPath::parse(head.target, policy.uri_bytes_max) else {
        return Err(refused);
    };
    // Nobody's connection leaves HTTP.
    if head.asks == Asks::WebSocket {
        return Err(refused);
    }
    if route.is_some_and(|route| is_closed(route.requirement)) || observing.guarded.claims(&path) {
        return Err(refused);
    }
    // Messages are read by their verb: by another one they would pass unread.
    let for_messages = route.is_some_and(|route| route.takes(VERB).is_ok());
    if for_messages && refused.denial == Denial::RouteMethod {
        return Err(refused);
    }
    // What the decision did not come to, because it ended earlier.
    too_large(route, head.body)?;
    is_blocked(policy, site, head.fields.clone(), now)?;
    Ok(Pass {
        verified: None,
        // As it came; what authenticates a connection is left out of every shared one.
        forward_token: true,
        unasked: false,
        pinned: false,
        cached: None,
        websocket: false,
        translation: None,
        observed: Some(Box::new(refused)),
    })
}

/// Whether a route stays closed, or its requests looked into, whatever the mode.
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

/// Whether a refusal may be relaxed in clear, where all others are about plain HTTP itself, or would
/// be the same by TLS.
fn is_relaxed_in_clear(denial: Denial) -> bool {
    denial == Denial::RouteQuery
}

/// Whether a refusal is about the token, the route or a list of the operator's alone. Every denial has
/// to choose here.
fn is_relaxed(denial: Denial) -> bool {
    use Denial::*;
    match denial {
        RouteUnknown | RouteMethod | RouteQuery => true,
        // What it asks for is on no list, and every value in it is plain.
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
        // Somebody has said that these are not to come in.
        CertificateRevoked | TokenBlocked | DeviceBlocked | UserBlocked | SiteUnheard => false,
        ClearRefused | ClearRedirected => false,
        RouteDenied | RouteAltAuth | RouteAltAuthNetwork | RouteWindowsAuth | RouteWebsocket => {
            false
        }
        // More than one reading, or too much: nobody knows what the backend would make of it.
        FramingLengthAndCoding
        | FramingCoding
        | FramingChunk
        | FramingLength
        | FramingHead
        | FramingMethod
        | FramingUpgrade
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
        LimitUri | LimitHead | LimitTime | LimitBody | LimitRate | LimitRequests => false,
        UpstreamUnreachable | UpstreamTimeout | UpstreamCertificate | UpstreamCredentials
        | UpstreamResponse | UpstreamClosed | GatewayInternal => false,
    }
}

#[cfg(test)]
mod tests;
