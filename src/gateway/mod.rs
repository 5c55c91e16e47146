//! The gateway proper: requests judged by the policy of the moment, in one of two lanes.
//!
//! The only room besides the front that knows pingora. Knows nothing of certificates or files.

mod added;
mod answer;
mod arrival;
mod attempt;
mod bootstrap;
mod certificate;
mod clear;
mod connection;
mod ctx;
mod decide;
mod framing;
mod guard;
mod headers;
mod hollow;
mod hops;
mod host;
mod lane;
mod linked;
mod links;
mod observe;
mod phases;
mod policy;
mod record;
mod rejudge;
mod replay;
mod reply;
mod rewrite;
mod server;
mod switch;
mod trace;
mod under_way;
mod upgrade;
mod upstream;
mod view;
mod witness;

use std::net::IpAddr;
use std::sync::Arc;

use http::Version;
use pingora_proxy::Session;

pub use connection::BackendTls;
pub use ctx::{RequestCtx, RequestId};
pub use framing::judge_raw;
pub use lane::{AnswerFault, judge_answer};
pub use observe::Observing;
pub use policy::{NO_ROUTE, Policy, SitePolicy, TokenPolicy, UnixEndpoint, Upstream, Upstreams};
pub use replay::{Becomes, Captured, Forwarded, Replay, Step, replay};
pub use server::Server;
pub use under_way::UnderWay;

use crate::clock::Clock;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::live::Live;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use certificate::{ClientCertificate, certificate_of};
use decide::{Head, Refused};
use framing::Body;
use lane::Pool;
use under_way::Shard;
use view::{conn_of, fields_of, framing_of, host_of};

type Outcome<T> = pingora_core::Result<T>;

/// Handles requests by the policy of the moment.
#[derive(Clone)]
pub struct Gateway {
    policy: Live<Policy>,
    clock: Clock,
    metrics: Arc<Metrics>,
    access: AccessLog,
    /// The backends' connections that wait for a request.
    pool: Arc<Pool>,
    /// The requests that a block ends.
    under_way: Arc<Shard>,
}

impl Gateway {
    /// A gateway for one shard or for all: it holds no state of its own, and keeps no connection.
    pub fn new(
        policy: Live<Policy>,
        clock: Clock,
        metrics: Arc<Metrics>,
        access: AccessLog,
    ) -> Self {
        let (pool, under_way) = (Arc::default(), Arc::default());
        Gateway { policy, clock, metrics, access, pool, under_way }
    }

    /// Judge a request; remember what was found in its context.
    fn judge(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<(), Refused> {
        let policy = self.policy.load();
        ctx.policy = Some(policy.clone());
        let raw = session.as_downstream().as_http1().map(|h1| h1.get_headers_raw_bytes());
        let body_empty = session.as_downstream_mut().is_body_empty();
        if raw.is_none() {
            // A stream that its client's window holds up does not hold up the connection, which
            // is all that the front sees.
            session.as_downstream_mut().set_write_timeout(Some(policy.send_stall));
        }
        let conn = conn_of(session).ok_or(Denial::GatewayInternal)?;
        ctx.site = policy.site_of(conn, host_of(session.req_header()));
        ctx.clear = conn.clear.is_some();
        let body = framing_of(session.req_header(), raw.as_deref(), body_empty, &policy)?;
        if ctx.in_flight.as_ref().is_some_and(|f| f.odd_request_line()) {
            return Err(Denial::FramingHead.into());
        }
        if raw.is_some() {
            conn.state.expect_body(match body {
                Body::Empty => Some(0),
                Body::Length(length) => Some(length),
                Body::Chunked => None,
            })?;
        }
        ctx.body = body;
        let request = session.req_header();
        if request.version == Version::HTTP_11 {
            let bodiless = body == Body::Empty;
            let fields = fields_of(&request.headers);
            ctx.asks = upgrade::judge(request.method.as_str(), bodiless, fields)?;
        }
        self.decide(&policy, session, ctx)
    }

    /// Decide on a request that pingora holds: a look that may be taken twice.
    fn decide(
        &self,
        policy: &Policy,
        session: &Session,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refused> {
        let conn = conn_of(session).ok_or(Denial::GatewayInternal)?;
        let certificate = self.certificate(conn, ctx);
        let request = session.req_header();
        let fields: Vec<_> = fields_of(&request.headers).collect();
        let head = Head {
            method: request.method.as_str(),
            target: request.raw_path(),
            host: host_of(request).ok_or(Denial::HostInvalid)?,
            body: ctx.body,
            asks: ctx.asks,
            by_default: conn.by_default,
            client: conn.peer.ip().to_canonical(),
            local: conn.local,
            clear: conn.clear.is_some(),
            certificate: certificate.as_ref(),
            fields: fields.iter().copied(),
        };
        self.admit(policy, head, ctx)
    }

    /// The client's certificate, judged by the files of the moment; remembered in the context.
    fn certificate<'c>(
        &self,
        conn: &'c ConnInfo,
        ctx: &mut RequestCtx,
    ) -> Option<ClientCertificate<'c>> {
        let certificate = certificate_of(conn, ctx.site.as_ref()?, self.clock.now());
        ctx.certificate = certificate.as_ref().map(|c| (c.sha256().clone(), c.good().is_some()));
        certificate
    }

    /// Decide on a request whose framing is sound; remember what was found in its context.
    fn admit<'a, F>(
        &self,
        policy: &Policy,
        head: Head<'a, F>,
        ctx: &mut RequestCtx,
    ) -> Result<(), Refused>
    where
        F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
    {
        // A site system that is no longer configured: its connections are not another's.
        let site = ctx.site.clone().ok_or(Denial::HostMisdirected)?;
        ctx.hops = hops::Hops::of(head.fields.clone())?;
        if site.trusts_traces {
            ctx.trace = trace::Trace::of(head.fields.clone());
        }
        let now = self.clock.now();
        let seen = policy.blocklist.generation();
        let (route, verdict) = match head.clear {
            false => decide::decide(policy, &site, &head, now),
            true => clear::decide(policy, &site, &head, now),
        };
        ctx.route = route;
        ctx.body_max = route.and_then(|index| site.routes.get(index)).and_then(|r| r.body_bytes);
        let pass = match verdict {
            // Newer keys come first: they may let it in as whoever it is from.
            Err(refused) if head.clear => {
                ctx.moved = clear::moved(&site, &refused, &head);
                observe::relax(policy, &site, route, &head, refused, now)
            }
            Err(refused) if refused.missed.is_none() || ctx.last_look => {
                observe::relax(policy, &site, route, &head, refused, now)
            }
            verdict => verdict,
        }?;
        if let Some(hit) = pass.cached {
            self.metrics.token_cache(hit);
        }
        let by = pass.verified.clone();
        ctx.place = by.map(|by| Arc::new(self.under_way.enter(by, &policy.blocklist, seen)));
        ctx.pass = Some(pass);
        Ok(())
    }

    /// Take a turn of a route that counts them, for a request that was admitted and is not left to
    /// another reader: nobody uses up turns by what its head refuses, or two by one request.
    fn take_turn(&self, client: IpAddr, ctx: &mut RequestCtx) -> Result<(), Refused> {
        let Some(site) = &ctx.site else { return Ok(()) };
        site.takes_turn(ctx.route, client.to_canonical()).map_err(|denial| {
            (ctx.pass, ctx.place) = (None, None);
            denial.into()
        })
    }
}
