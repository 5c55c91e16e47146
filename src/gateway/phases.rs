//! pingora's phases, each a few lines that call and record.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::ctx::RequestCtx;
use super::decide::Refused;
use super::lane::FRESH;
use super::rewrite::{remove_from_answer, remove_unsaid};
use super::upgrade::Asks;
use super::view::conn_of;
use super::witness::{Connector, Whose};
use super::{
    Gateway, Outcome, added, answer, arrival, bootstrap, hollow, linked, record, rejudge, switch,
    upstream,
};
use crate::clock::http_date;
use crate::denial::Denial;
use crate::front::Cut;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx::new()
    }

    /// No module: compression would change the bytes that BITS counts.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Outcome<bool> {
        let body_expected = !session.as_downstream_mut().is_body_empty();
        ctx.in_flight = conn_of(session).map(|conn| conn.state.begin(body_expected));
        ctx.body_ended = !body_expected;
        if session.req_header().version == Version::HTTP_10 {
            // Without it, bytes after a body that nobody announced would be the next request.
            session.set_keepalive(None);
        } else {
            session.as_downstream_mut().set_pipelining_enabled(true);
        }
        ctx.keepalive = session.as_downstream().get_keepalive();
        let mut verdict = self.judge(session, ctx);
        if let (Err(refused), Some(policy)) = (&verdict, ctx.policy.clone())
            && rejudge::is_worth_it(&policy, refused, ctx).await
        {
            verdict = self.decide(&policy, session, ctx);
        }
        let refused = match verdict {
            Ok(()) => match self.wrong_protocol(session, ctx) {
                true => return Err(http_1_1_required(session)),
                false => match self.last_looks(session, ctx).await? {
                    Ok(()) => return Ok(false),
                    Err(refused) => refused,
                },
            },
            Err(refused) if bootstrap::may_be_one(&refused, ctx) => {
                match bootstrap::judge(session, ctx, self.clock.now()).await? {
                    Ok(pass) => {
                        ctx.pass = Some(pass);
                        match self.turn(session, ctx) {
                            Ok(()) => return Ok(false),
                            Err(refused) => refused,
                        }
                    }
                    Err(refused) => refused,
                }
            }
            Err(refused) => refused,
        };
        ctx.detail = refused.detail;
        ctx.kid = refused.kid;
        ctx.token_fingerprint = refused.fingerprint;
        self.refuse(session, ctx, refused.denial).await?;
        answer::drain(session).await;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Outcome<Box<HttpPeer>> {
        let pinned = ctx.pass.as_ref().is_some_and(|pass| pass.pinned);
        let websocket = ctx.may_upgrade();
        let (Some(site), Some(policy)) = (&ctx.site, &ctx.policy) else {
            return Err(fail(ctx, Denial::GatewayInternal));
        };
        let attempt = ctx.attempts;
        let patience = ctx.route.and_then(|n| site.routes.get(n)).and_then(|r| r.answer_time);
        let Some(backend) = site.upstream(ctx.route) else {
            return Err(fail(ctx, Denial::GatewayInternal));
        };
        let peers = backend.peers();
        let Some(target) = peers.iter().cycle().nth(attempt) else {
            return Err(fail(ctx, Denial::UpstreamUnreachable));
        };
        ctx.attempts += 1;
        let idempotent = session.req_header().method.is_idempotent();
        let age = if idempotent { Duration::MAX } else { FRESH };
        let whose = match conn_of(session).filter(|_| pinned) {
            _ if websocket => Whose::WebSockets,
            Some(conn) => Whose::Clients(conn.clone()),
            None => Whose::Anybodys(self.pool.clone()),
        };
        let connector = Connector {
            target,
            tls: backend.tls.clone(),
            whose,
            waiting: (attempt == 0).then_some(age),
            connect_time: backend.times.connect,
            idle_time: backend.times.idle,
            place: ctx.place.clone(),
            body_pace: policy.body_pace,
            attempt: ctx.attempt.clone(),
        };
        Ok(upstream::peer(connector, backend, patience, websocket))
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestCtx,
    ) -> Outcome<()> {
        ctx.received += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if ctx.body_max.is_some_and(|max| ctx.received > max) {
            // Both sides are aborted: the backend never sees a complete request.
            return Err(fail(ctx, Denial::LimitBody));
        }
        ctx.body_ended |= end;
        if end && let Some(in_flight) = &ctx.in_flight {
            in_flight.body_done();
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Outcome<()> {
        let (Some(site), Some(pass), Some(conn)) = (&ctx.site, &ctx.pass, conn_of(session)) else {
            return Err(fail(ctx, Denial::GatewayInternal));
        };
        remove_unsaid(session.req_header(), request, site, pass, ctx.credential().is_some());
        match pass.target(session.req_header().raw_path()) {
            Some(Cow::Borrowed(_)) => {}
            Some(Cow::Owned(target)) => request.set_raw_path(&target)?,
            None => return Err(fail(ctx, Denial::GatewayInternal)),
        }
        let host = request.headers.get(header::HOST).cloned();
        let host = host.as_ref().map(|host| host.as_bytes());
        added::write(ctx, conn, host, |name, value| request.insert_header(name, value))?;
        if ctx.may_upgrade() {
            switch::ask(request)?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Outcome<()> {
        if response.status == StatusCode::UNAUTHORIZED && ctx.credential().is_some() {
            return Err(fail(ctx, Denial::UpstreamCredentials));
        }
        let pinned = ctx.pass.as_ref().is_some_and(|pass| pass.pinned);
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            switch::leave_http(session, response, ctx).map_err(|denial| fail(ctx, denial))?;
        }
        remove_from_answer(response, pinned);
        if ctx.rewrites_links() && !response.status.is_informational() {
            linked::begin(session, response, ctx)?;
        }
        if ctx.sets_clocks() && !response.status.is_informational() {
            response.insert_header(header::DATE, http_date(self.clock.now()))?;
        }
        if switches {
            switch::tell(response)?;
        }
        // Whoever asked to leave HTTP has no further request on this connection, answer or not.
        if ctx.asks == Asks::WebSocket || session.is_process_shutting_down() {
            session.set_keepalive(None);
        } else if ctx.body_ended && !response.status.is_informational() {
            // pingora takes the backend's 100 for an answer that came too early to go on after.
            session.set_keepalive(ctx.keepalive);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestCtx,
    ) -> Outcome<Option<Duration>> {
        linked::pass(session.req_header(), body, end, ctx);
        Ok(None)
    }

    /// A second try, on a new connection, where the backend may have closed one that had waited, and
    /// where that cannot do anything twice.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut RequestCtx,
        reused: bool,
    ) -> Box<Error> {
        let blocked = ctx.place.as_ref().is_some_and(|place| place.blocked().is_some());
        let repeatable = !blocked
            && session.req_header().method.is_idempotent()
            && !session.as_downstream().retry_buffer_truncated();
        let reused = reused || ctx.attempt.seen().reused;
        match repeatable {
            true => error.retry.decide_reuse(reused),
            false => error.set_retry(false),
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        let cut = conn_of(session).map_or(Cut::No, |conn| conn.state.cut());
        let blocked = ctx.place.as_ref().and_then(|place| place.blocked());
        let denial = match (ctx.denial.or(blocked), cut) {
            (Some(denial), _) => Some(denial),
            (None, Cut::BodyRate) => Some(Denial::LimitRate),
            (None, Cut::Framing) => Some(Denial::FramingChunk),
            (None, _) => match upstream::denial_of(error) {
                // The backend waited for a body that did not come.
                Some(Denial::UpstreamTimeout) if !ctx.body_ended => Some(Denial::LimitRate),
                found => found,
            },
        };
        ctx.detail.get_or_insert_with(|| record::cause(error));
        // A wait for more bytes of an answer that has begun can only end in a cut.
        ctx.answer_abandoned = record::answered(session).is_some();
        let mut told = 0;
        if let Some(denial) = denial {
            ctx.denial = Some(denial);
            if !ctx.answer_abandoned {
                session.set_keepalive(None);
                if self.refuse(session, ctx, denial).await.is_ok() {
                    told = denial.status();
                    if *error.esource() == pingora_core::ErrorSource::Downstream || ctx.received > 0
                    {
                        session.as_downstream_mut().shutdown().await;
                    }
                }
            }
        }
        FailToProxy { error_code: told, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestCtx) {
        record::finished(session, ctx, &self.access, self.clock.now());
    }

    /// Failures are in the access log, with their code; pingora's own lines would double them.
    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, _: &Error) -> bool {
        true
    }
}

impl Gateway {
    /// The last of what is asked of a request that was admitted: its turn, and what it is found to
    /// be once its body begins.
    async fn last_looks(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Outcome<Result<(), Refused>> {
        if let Err(refused) = self.turn(session, ctx) {
            return Ok(Err(refused));
        }
        if let Err(denial) = hollow::judge(session, ctx).await? {
            ctx.pass = None;
            return Ok(Err(denial.into()));
        }
        let judged = arrival::judge(session, ctx, self.clock.now()).await?;
        ctx.turned_away = judged.is_err();
        Ok(judged.map(|observed| ctx.observe(observed)))
    }

    fn turn(&self, session: &Session, ctx: &mut RequestCtx) -> Result<(), Refused> {
        let conn = conn_of(session).ok_or(Denial::GatewayInternal)?;
        self.take_turn(conn.peer.ip(), ctx)
    }

    /// Windows authentication is bound to a connection, and a connection of HTTP/2 is shared.
    fn wrong_protocol(&self, session: &Session, ctx: &RequestCtx) -> bool {
        session.as_downstream().is_http2() && ctx.pass.as_ref().is_some_and(|pass| pass.pinned)
    }
}

/// Reset the stream so that the client comes again with HTTP/1.1 (RFC 9113 §7).
fn http_1_1_required(session: &mut Session) -> Box<Error> {
    session.as_downstream_mut().shutdown_with_reason(h2::Reason::HTTP_1_1_REQUIRED);
    Error::explain(ErrorType::H2Downgrade, "Windows authentication needs HTTP/1.1").into_down()
}

/// End the request with this denial, through pingora's error path.
fn fail(ctx: &mut RequestCtx, denial: Denial) -> Box<Error> {
    ctx.denial = Some(denial);
    Error::explain(ErrorType::HTTPStatus(denial.status()), denial.code())
}
