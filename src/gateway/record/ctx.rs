//! The context of one request in flight.
//!
//! Each request gets a new one, so that no request affects another.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use uuid::Uuid;
use uuid::fmt::Simple;

use crate::denial::Denial;
use crate::front::InFlight;
use crate::gateway::exchange::{Attempt, InFlightEntry};
use crate::gateway::judge::decide::{Pass, Refused};
use crate::gateway::judge::framing::Body;
use crate::gateway::judge::hops::Hops;
use crate::gateway::judge::policy::{Policy, SitePolicy};
use crate::gateway::judge::trace::Trace;
use crate::gateway::judge::upgrade::Asks;
use crate::route::{Destination, Requirement};
use crate::secret::BasicCredential;
use crate::token::Fingerprint;

/// One request.
pub struct RequestCtx {
    pub(in crate::gateway) began: Instant,
    pub(in crate::gateway) id: RequestId,
    /// The policy that judges this request from start to end, across reloads.
    pub(in crate::gateway) policy: Option<Arc<Policy>>,
    /// The client's own trace, if it is trusted.
    pub(in crate::gateway) trace: Option<Trace>,
    /// The marks of the proxies that have forwarded it.
    pub(in crate::gateway) hops: Hops,
    pub(in crate::gateway) site: Option<Arc<SitePolicy>>,
    pub(in crate::gateway) route: Option<usize>,
    pub(in crate::gateway) pass: Option<Pass>,
    /// Its slot among the requests in flight, if its token was verified.
    pub(in crate::gateway) place: Option<Arc<InFlightEntry>>,
    /// Whether a refusal is final, because newer keys were fetched already.
    pub(in crate::gateway) last_look: bool,
    /// The thumbprint of the client's certificate, and whether it is good.
    pub(in crate::gateway) certificate: Option<(Arc<str>, bool)>,
    /// Whether it was refused after it was admitted.
    pub(in crate::gateway) turned_away: bool,
    pub(in crate::gateway) denial: Option<Denial>,
    /// Whether it came over plain HTTP.
    pub(in crate::gateway) clear: bool,
    /// The redirect target, if it was redirected.
    pub(in crate::gateway) moved: Option<String>,
    /// Details, for the log only.
    pub(in crate::gateway) detail: Option<String>,
    pub(in crate::gateway) kid: Option<String>,
    pub(in crate::gateway) token_fingerprint: Option<Fingerprint>,
    /// The body that the head announces.
    pub(in crate::gateway) body: Body,
    /// Whether it asks for an upgrade.
    pub(in crate::gateway) asks: Asks,
    pub(in crate::gateway) in_flight: Option<InFlight>,
    pub(in crate::gateway) body_max: Option<u64>,
    /// The attempt to reach its backend.
    pub(in crate::gateway) attempt: Attempt,
    pub(in crate::gateway) answer_abandoned: bool,
}

impl RequestCtx {
    pub(in crate::gateway) fn new() -> Self {
        RequestCtx {
            began: Instant::now(),
            id: RequestId::next(),
            policy: None,
            trace: None,
            hops: Hops::default(),
            site: None,
            route: None,
            pass: None,
            place: None,
            last_look: false,
            certificate: None,
            turned_away: false,
            denial: None,
            clear: false,
            moved: None,
            detail: None,
            kid: None,
            token_fingerprint: None,
            body: Body::Empty,
            asks: Asks::Http,
            in_flight: None,
            body_max: None,
            attempt: Attempt::default(),
            answer_abandoned: false,
        }
    }

    /// Returns the `traceparent` for the backend.
    pub(in crate::gateway) fn traceparent(&self) -> String {
        let carried = self.trace.as_ref().map(|trace| trace.carried(&self.id));
        carried.unwrap_or_else(|| self.id.traceparent())
    }

    /// Returns the gateway's own credential, if it authenticates to the backend as itself.
    pub(in crate::gateway) fn credential(&self) -> Option<&BasicCredential> {
        self.site.as_ref()?.credential(self.route, self.pass.as_ref()?)
    }

    /// Records that the request passes although enforcing would refuse its message. An earlier
    /// observed refusal takes precedence.
    pub(in crate::gateway) fn observe(&mut self, refused: Option<Box<Refused>>) {
        if let Some(pass) = self.pass.as_mut().filter(|pass| pass.observed.is_none()) {
            pass.observed = refused;
        }
    }

    /// Checks whether the request is authenticated, by a token or a good certificate.
    pub(in crate::gateway) fn is_of_somebody(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.verified.is_some())
            || self.certificate.as_ref().is_some_and(|(_, good)| *good)
    }

    /// Checks whether links in its response are rewritten.
    pub(in crate::gateway) fn rewrites_links(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        // A client that came over plain HTTP stays there.
        route.is_some_and(|route| route.rewrite_links && !self.clear)
    }

    /// Checks whether its client sets its clock by the response. Boot media do so first.
    pub(in crate::gateway) fn sets_clocks(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        route.is_some_and(|route| route.requirement == Requirement::AltAuth)
    }

    /// Checks whether it goes to the site's own services, which judge credentials themselves.
    pub(in crate::gateway) fn to_site(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        route.is_some_and(|route| {
            matches!(route.destination, Destination::TokenService | Destination::SiteServer)
        })
    }

    /// Returns the methods that the route accepts, if the request's own was refused.
    pub(in crate::gateway) fn allowed_methods(&self) -> Option<String> {
        let site = self.site.as_ref().filter(|_| self.denial == Some(Denial::RouteMethod))?;
        site.routes.get(self.route?).map(|route| route.allow())
    }
}

/// The id of a request: unique, and not a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    process: u64,
    serial: u64,
}

impl RequestId {
    /// Returns an id that no other request has.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let process = *PROCESS.get_or_init(|| Uuid::new_v4().as_u64_pair().0 | 1);
        RequestId { process, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// Returns the `traceparent` of a trace that begins here (W3C Trace Context §3.2).
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        for part in ["00-", self.hex(&mut buffer()), "-", &self.span(), "-01"] {
            text.push_str(part);
        }
        text
    }

    /// Returns the request's own span of a trace.
    pub(in crate::gateway) fn span(&self) -> String {
        self.hex(&mut buffer()).get(16..).unwrap_or_default().to_owned()
    }

    /// Returns hexadecimal digits without the formatting machinery: each request needs them three
    /// times.
    fn hex<'b>(&self, buffer: &'b mut [u8; Simple::LENGTH]) -> &'b str {
        Uuid::from_u64_pair(self.process, self.serial).simple().encode_lower(buffer)
    }
}

fn buffer() -> [u8; Simple::LENGTH] {
    [0; Simple::LENGTH]
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.hex(&mut buffer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_valid_trace_ids() {
        let (a, b) = (RequestId::next(), RequestId::next());
        assert_ne!(a.to_string(), b.to_string());
        assert_eq!(a.to_string().len(), 32);
        assert!(a.to_string().bytes().all(|b| b.is_ascii_hexdigit()));
        let (id, span) = (a.to_string(), a.span());
        assert_eq!(a.traceparent(), format!("00-{id}-{span}-01"));
        assert_eq!(span, id[16..]);
    }
}
