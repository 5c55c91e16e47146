//! The context of one request in flight.
//!
//! Each request gets a new one, so that no request affects another.

use std::sync::Arc;
use std::time::Instant;

use super::request_id::RequestId;
use crate::denial::Denial;
use crate::front::InFlight;
use crate::gateway::exchange::{Attempt, InFlightEntry};
use crate::gateway::judge::framing::Body;
use crate::gateway::judge::hops::Hops;
use crate::gateway::judge::policy::{Policy, SitePolicy};
use crate::gateway::judge::trace::Trace;
use crate::gateway::judge::upgrade::Asks;
use crate::gateway::judge::verdict::{Pass, Refused};
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
    /// The thumbprint of the client's certificate, and whether it is good.
    pub(in crate::gateway) certificate: Option<(Arc<str>, bool)>,
    pub(in crate::gateway) head: HeadFacts,
    pub(in crate::gateway) refusal: RefusalFacts,
    pub(in crate::gateway) exchange: ExchangeFacts,
}

/// What the head announces.
pub(in crate::gateway) struct HeadFacts {
    pub(in crate::gateway) body: Body,
    /// Whether it asks for an upgrade.
    pub(in crate::gateway) asks: Asks,
    /// Whether it came over plain HTTP.
    pub(in crate::gateway) plain_http: bool,
}

/// Why the request is refused, or failed.
#[derive(Default)]
pub(in crate::gateway) struct RefusalFacts {
    pub(in crate::gateway) denial: Option<Denial>,
    /// Whether a refusal is final, because newer keys were fetched already.
    pub(in crate::gateway) is_final: bool,
    /// Whether it was refused after it was admitted.
    pub(in crate::gateway) after_pass: bool,
    /// The redirect target, if it was redirected.
    pub(in crate::gateway) moved: Option<String>,
    /// Details, for the log only.
    pub(in crate::gateway) detail: Option<String>,
    /// The key that its token names.
    pub(in crate::gateway) kid: Option<String>,
    /// Its token's fingerprint.
    pub(in crate::gateway) fingerprint: Option<Fingerprint>,
}

/// The exchange with the backend.
#[derive(Default)]
pub(in crate::gateway) struct ExchangeFacts {
    /// Its slot among the requests in flight, if its token was verified.
    pub(in crate::gateway) place: Option<Arc<InFlightEntry>>,
    pub(in crate::gateway) in_flight: Option<InFlight>,
    /// The route's limit of the body, in bytes.
    pub(in crate::gateway) body_max: Option<u64>,
    /// The attempt to reach its backend.
    pub(in crate::gateway) attempt: Attempt,
    /// Whether its response ended before it was complete.
    pub(in crate::gateway) incomplete: bool,
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
            certificate: None,
            head: HeadFacts { body: Body::Empty, asks: Asks::Http, plain_http: false },
            refusal: RefusalFacts::default(),
            exchange: ExchangeFacts::default(),
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
        route.is_some_and(|route| route.rewrite_links && !self.head.plain_http)
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
        let site =
            self.site.as_ref().filter(|_| self.refusal.denial == Some(Denial::RouteMethod))?;
        site.routes.get(self.route?).map(|route| route.allow())
    }
}
