//! What is known of one request while it travels through the phases.
//!
//! Made anew for each request: nothing of one decides for another.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use uuid::Uuid;
use uuid::fmt::Simple;

use super::attempt::Attempt;
use super::decide::{Pass, Refused};
use super::framing::Body;
use super::hops::Hops;
use super::policy::{Policy, SitePolicy};
use super::trace::Trace;
use super::under_way::Place;
use super::upgrade::Asks;
use crate::denial::Denial;
use crate::front::InFlight;
use crate::route::{Destination, Requirement};
use crate::secret::BasicCredential;
use crate::token::Fingerprint;

/// One request.
pub struct RequestCtx {
    pub(super) began: Instant,
    pub(super) id: RequestId,
    /// The configuration that this request is judged by, whole, from its first phase to its last.
    pub(super) policy: Option<Arc<Policy>>,
    /// The client's own trace, where that is trusted.
    pub(super) trace: Option<Trace>,
    /// Who has passed it on before.
    pub(super) hops: Hops,
    pub(super) site: Option<Arc<SitePolicy>>,
    pub(super) route: Option<usize>,
    pub(super) pass: Option<Pass>,
    /// Its place among those under way, if somebody is known to have sent it.
    pub(super) place: Option<Arc<Place>>,
    /// Whether a refusal is the last word, because newer keys were asked for already.
    pub(super) last_look: bool,
    /// The thumbprint of the client's certificate, and whether it is good.
    pub(super) certificate: Option<(Arc<str>, bool)>,
    /// Whether it was refused for its body, after whoever sent it was let in.
    pub(super) turned_away: bool,
    pub(super) denial: Option<Denial>,
    /// Whether it came in clear, to an address of plain HTTP.
    pub(super) clear: bool,
    /// Where it is to go instead, if it was redirected.
    pub(super) moved: Option<String>,
    /// Why, for the log alone.
    pub(super) detail: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) token_fingerprint: Option<Fingerprint>,
    /// What the head says about the body.
    pub(super) body: Body,
    /// Whether it asks to leave HTTP.
    pub(super) asks: Asks,
    pub(super) in_flight: Option<InFlight>,
    pub(super) received: u64,
    pub(super) body_ended: bool,
    /// Whether the client's connection may go on after this request, as the client sees it.
    pub(super) keepalive: Option<u64>,
    pub(super) body_max: Option<u64>,
    /// An answer whose links are rewritten, as far as it is there.
    pub(super) held: Option<Vec<u8>>,
    pub(super) attempts: usize,
    /// How it fares with its backend.
    pub(super) attempt: Arc<Attempt>,
    pub(super) answer_abandoned: bool,
}

impl RequestCtx {
    pub(super) fn new() -> Self {
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
            received: 0,
            body_ended: false,
            keepalive: None,
            body_max: None,
            held: None,
            attempts: 0,
            attempt: Arc::default(),
            answer_abandoned: false,
        }
    }

    /// The `traceparent` that the backend gets.
    pub(super) fn traceparent(&self) -> String {
        let carried = self.trace.as_ref().map(|trace| trace.carried(&self.id));
        carried.unwrap_or_else(|| self.id.traceparent())
    }

    /// Whether its connection may become a WebSocket.
    pub(super) fn may_upgrade(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.websocket)
    }

    /// What sitegate asks the backend with, where the client's own word does not count.
    pub(super) fn credential(&self) -> Option<&BasicCredential> {
        self.site.as_ref()?.credential(self.route, self.pass.as_ref()?)
    }

    /// Remember that it goes on although enforcing would refuse it for its message. What was said
    /// of it before stays: that came first.
    pub(super) fn observe(&mut self, refused: Option<Box<Refused>>) {
        if let Some(pass) = self.pass.as_mut().filter(|pass| pass.observed.is_none()) {
            pass.observed = refused;
        }
    }

    /// Whether links in its answer are rewritten.
    pub(super) fn rewrites_links(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        // By http its client goes on as it came.
        route.is_some_and(|route| route.rewrite_links && !self.clear)
    }

    /// Whether its client sets its clock by the answer: media, before anything else.
    pub(super) fn sets_clocks(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        route.is_some_and(|route| route.requirement == Requirement::AltAuth)
    }

    /// Whether it goes to the site's own services, which judge credentials themselves.
    pub(super) fn to_site(&self) -> bool {
        let route = self.site.as_ref().zip(self.route).and_then(|(s, n)| s.routes.get(n));
        route.is_some_and(|route| {
            matches!(route.destination, Destination::TokenService | Destination::SiteServer)
        })
    }

    /// The methods that the request's route takes, if it was refused for its own.
    pub(super) fn allowed_methods(&self) -> Option<String> {
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
    /// An id that no other request has.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let process = *PROCESS.get_or_init(|| Uuid::new_v4().as_u64_pair().0 | 1);
        RequestId { process, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// The `traceparent` of a trace that begins here (W3C Trace Context §3.2).
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        for part in ["00-", self.hex(&mut buffer()), "-", &self.span(), "-01"] {
            text.push_str(part);
        }
        text
    }

    /// The request's own part of a trace.
    pub(super) fn span(&self) -> String {
        self.hex(&mut buffer()).get(16..).unwrap_or_default().to_owned()
    }

    /// In hexadecimal digits, without the machinery of formatting: each request is asked thrice.
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
