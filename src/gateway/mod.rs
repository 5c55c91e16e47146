//! The data path: judges each request by the current policy, forwards it to a backend and relays
//! the response.
//!
//! Knows nothing of certificates or files.

mod exchange;
mod judge;
mod record;
mod replay;
mod server;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

pub use exchange::{AnswerFault, BackendTls, Bound, RequestsInFlight, judge_answer};
pub use judge::framing::judge_raw;
pub use judge::modes::Observing;
pub use judge::policy::{
    LocalEndpoint, NO_ROUTE, Policy, SitePolicy, TokenPolicy, Upstream, Upstreams,
};
pub use record::ctx::RequestCtx;
pub use record::request_id::RequestId;
pub use replay::{Becomes, Captured, Forwarded, Replay, ReplayStep, replay};
pub use server::ShardServer;

use crate::clock::Clock;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::live::Live;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use exchange::{BufferLimit, InFlightShard, Permits, Pool};
use judge::certificate::{ClientCertificate, certificate_of};
use judge::decide;
use judge::framing::RequestHead;
use judge::head::JudgedHead;
use judge::verdict::Refused;
use judge::{hops, observe, plain_http, trace};

/// Handles requests by the current policy.
#[derive(Clone)]
pub struct Gateway {
    policy: Live<Policy>,
    clock: Clock,
    metrics: Arc<Metrics>,
    access: AccessLog,
    /// Idle backend connections.
    pool: Arc<Pool>,
    /// The requests in flight on this shard, which a block ends.
    under_way: Arc<InFlightShard>,
    /// The limits on requests in flight.
    permits: Option<Arc<Permits>>,
    /// The account of bytes buffered for requests and responses.
    buffered: Arc<BufferLimit>,
}

impl Gateway {
    /// Creates a gateway for one shard or for all. It keeps no idle connection and has no permits
    /// until [`ShardServer::new`] sets them.
    pub fn new(
        policy: Live<Policy>,
        clock: Clock,
        metrics: Arc<Metrics>,
        access: AccessLog,
    ) -> Self {
        let (pool, under_way) = (Arc::default(), Arc::default());
        let buffered = BufferLimit::new(metrics.requests.buffered_bytes());
        Gateway { policy, clock, metrics, access, pool, under_way, permits: None, buffered }
    }

    /// Decides on a request. The decision may be repeated for the same request.
    fn decide(
        &self,
        policy: &Policy,
        info: &ConnInfo,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refused> {
        let certificate = self.certificate(info, ctx);
        let head = JudgedHead::of(head, info, certificate.as_ref(), ctx.head.asks);
        self.admit(policy, head, ctx)
    }

    /// Returns the client's certificate, judged by the current files, and records it in the
    /// context.
    fn certificate<'c>(
        &self,
        conn: &'c ConnInfo,
        ctx: &mut RequestCtx,
    ) -> Option<ClientCertificate<'c>> {
        let certificate = certificate_of(conn, ctx.site.as_ref()?, self.clock.now());
        ctx.certificate = certificate.as_ref().map(|c| (c.sha256().clone(), c.good().is_some()));
        certificate
    }

    /// Decides on a request whose framing is sound, and records the findings in its context.
    fn admit<'a, F>(
        &self,
        policy: &Policy,
        head: JudgedHead<'a, F>,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refused>
    where
        F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
    {
        // The site system is no longer configured. Its connections do not pass to another.
        let site = ctx.site.clone().ok_or(Denial::HostMisdirected)?;
        ctx.hops = hops::Hops::of(head.fields.clone())?;
        if site.trusts_traces {
            ctx.trace = trace::Trace::of(head.fields.clone());
        }
        let now = self.clock.now();
        let seen = policy.blocklist.generation();
        let (route, verdict) = if head.clear {
            plain_http::decide(policy, &site, &head, now)
        } else {
            decide::decide(policy, &site, &head, now)
        };
        ctx.route = route;
        ctx.exchange.body_max =
            route.and_then(|index| site.routes.get(index)).and_then(|r| r.body_bytes);
        let pass = match verdict {
            // Newer keys come before observe mode: with them the token may verify.
            Err(refused) if head.clear => {
                ctx.refusal.moved = plain_http::moved(&site, &refused, &head);
                observe::relax(policy, &site, route, &head, refused, now)
            }
            Err(refused) if refused.missed.is_none() || ctx.refusal.is_final => {
                observe::relax(policy, &site, route, &head, refused, now)
            }
            verdict => verdict,
        }?;
        if let Some(hit) = pass.cached {
            self.metrics.tokens.cached(hit);
        }
        let by = pass.verified.clone();
        ctx.exchange.place =
            by.map(|by| Arc::new(self.under_way.enter(by, &policy.blocklist, seen)));
        ctx.pass = Some(pass);
        Ok(())
    }

    /// Counts a request against its route's rate limit: once, and only after its head was accepted.
    /// A request that the client must repeat over HTTP/1.1 is not counted.
    fn take_turn(&self, client: IpAddr, ctx: &mut RequestCtx) -> Result<(), Refused> {
        let Some(site) = &ctx.site else { return Ok(()) };
        site.takes_turn(ctx.route, client.to_canonical()).map_err(|denial| {
            (ctx.pass, ctx.exchange.place) = (None, None);
            denial.into()
        })
    }
}
