//! A client's connection, request by request. Each protocol has its own session, which supplies a
//! head, a request body and a response. The verdict on a request is made here, in the same order of
//! checks for all protocols.

mod http1;
mod http2;
mod prefetch;
mod rejudge;
mod reply;
mod unauthenticated_message;
mod unread_responses;

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use http1::serve as serve_http1;
pub(super) use http2::serve as serve_http2;
pub(super) use unauthenticated_message::{
    admit as admit_newcomer, may_be_one as may_be_newcomer, too_large,
};

use super::Gateway;
use super::exchange::{
    ClientStream, ConnectionReuse, Failed, Follows, IdleConnection, Outgoing, Peer, Permit,
    PermitRequest, Prefetched, ResponseHead, run,
};
use super::judge::framing::{Body, RequestHead, Version};
use super::judge::host;
use super::judge::message_guard::{self, Inspection, MessageRules};
use super::judge::upgrade;
use super::judge::verdict::Refused;
use super::record::ctx::RequestCtx;
use super::record::{self, Ended, LoggedRequest};
use crate::clock::http_date;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::rate::neighbourhood;

/// A route with a body limit up to this size has its body read before the backend is contacted: a
/// client that sends slowly then holds no backend connection.
const SMALL_BYTES: u64 = 64 * 1024;
/// How long a request waits for a permit, and how often it tries again.
const PERMIT_WAIT: Duration = Duration::from_secs(2);
const PERMIT_LOOK: Duration = Duration::from_millis(50);

/// The client of one request, in the protocol of its connection.
pub(super) trait Session: ClientStream {
    /// Whether the connection carries several requests at once.
    fn is_shared(&self) -> bool;

    /// Makes the client retry over HTTP/1.1.
    fn come_by_http1(&mut self);

    /// Discards the received part of the request's body. Returns whether that was the rest of it,
    /// so that another request may follow.
    fn discard_body(&mut self) -> bool;
}

/// The backend connection that is pinned to a client's connection.
type ClientsBackend = Option<(Peer, IdleConnection)>;

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// It was answered.
    Answered,
    /// The connection or stream must be cut, so that the client sees an incomplete response.
    CutOff,
}

/// The reason why a request stops.
enum Stopped {
    Refused(Box<Refused>),
    Failed(Failed),
    /// Windows authentication is bound to a connection, and this one is shared.
    NeedsHttp1,
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Stopped::Refused(Box::new(refused))
    }
}

impl From<Denial> for Stopped {
    fn from(denial: Denial) -> Self {
        Refused::from(denial).into()
    }
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Stopped::Failed(failed)
    }
}

impl Gateway {
    /// Serves one request.
    async fn request<S: Session>(
        &self,
        session: &mut S,
        info: &Arc<ConnInfo>,
        head: &RequestHead<'_>,
        own: &mut ClientsBackend,
    ) -> Over {
        let mut ctx = RequestCtx::new();
        ctx.exchange.in_flight = Some(info.state.begin(head.body != Body::Empty));
        let most = self.policy.peek(|policy| policy.limits.buffered_bytes);
        let held = self.buffered.hold(&info.state, head.bytes(), most);
        let mut ahead = Prefetched { held, ..Prefetched::default() };
        let (ended, over) = match self.let_in(session, info, head, &mut ctx, &mut ahead).await {
            Ok(()) if ctx.pass.is_none() => (self.options(session).await, Over::Answered),
            Ok(()) => self.exchange(session, info, head, &mut ctx, own, ahead).await,
            Err(Stopped::Refused(refused)) => {
                self.refused(session, head, &mut ctx, *refused, &ahead).await
            }
            Err(Stopped::Failed(failed)) => self.failed(session, head, &mut ctx, failed).await,
            Err(Stopped::NeedsHttp1) => {
                session.come_by_http1();
                (Ended::default(), Over::CutOff)
            }
        };
        self.record(&ctx, info, LoggedRequest::of(head), ended);
        over
    }

    /// Judges a request: all checks, in one order.
    async fn let_in<S: Session>(
        &self,
        session: &mut S,
        info: &ConnInfo,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
        ahead: &mut Prefetched,
    ) -> Result<(), Stopped> {
        let policy = self.policy.load();
        ctx.policy = Some(policy.clone());
        ctx.site = policy.site_of(info, head.field("host"));
        ctx.head.plain_http = info.clear.is_some();
        ctx.head.body = head.body;
        if ahead.held.is_none() {
            return Err(prefetch::too_much_held());
        }
        head.judge(policy.limits.headers, policy.limits.header_bytes, ctx.head.plain_http)?;
        if head.version == Version::Http11 {
            let bodiless = head.body == Body::Empty;
            ctx.head.asks = upgrade::judge(head.method, bodiless, head.fields.iter().copied())?;
        }
        if (head.method, head.target, head.body) == ("OPTIONS", b"*", Body::Empty) {
            let site = ctx.site.as_deref().ok_or(Denial::HostMisdirected)?;
            let asked = host::ConnectionTarget { by_default: info.by_default, local: info.local };
            host::judge(head.field("host").unwrap_or_default(), &site.hosts, asked)?;
            return prefetch::none(session, ahead).await;
        }
        let mut verdict = self.decide(&policy, info, head, ctx);
        if let Err(refused) = &verdict
            && rejudge::is_worth_it(&policy, refused, ctx).await
        {
            verdict = self.decide(&policy, info, head, ctx);
        }
        let newcomer = match verdict {
            Err(refused) if unauthenticated_message::may_be_one(&refused, ctx) => {
                ctx.pass = Some(self.newcomer(session, head, ctx, ahead).await?);
                true
            }
            verdict => verdict.map(|()| false)?,
        };
        if session.is_shared() && ctx.pass.as_ref().is_some_and(|pass| pass.pinned) {
            return Err(Stopped::NeedsHttp1);
        }
        ahead.count_for(ctx)?;
        self.take_turn(info.peer.ip(), ctx)?;
        if let Err(stopped) = self.last_looks(session, head, ctx, ahead, newcomer).await {
            // The request was admitted, and then refused.
            ctx.refusal.after_pass = matches!(stopped, Stopped::Refused(_));
            return Err(stopped);
        }
        Ok(())
    }

    /// Judges the body of an admitted request.
    async fn last_looks<S: Session>(
        &self,
        session: &mut S,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
        ahead: &mut Prefetched,
        newcomer: bool,
    ) -> Result<(), Stopped> {
        if head.body == Body::Empty {
            // Forwarded now, it would be a complete request to the backend before its hidden body
            // is seen.
            prefetch::none(session, ahead).await?;
        }
        if !newcomer && let Some(guard) = MessageRules::of(ctx, head.method, self.clock.now()) {
            let kind = message_guard::content_type(head.fields.iter().copied());
            let kind = kind.ok_or_else(message_guard::untyped)?;
            let mut inspection = Inspection::new(guard, kind)?;
            ahead.ask(session, head);
            let look = |body: &[u8], whole| inspection.look(body, whole);
            let observed = prefetch::read(session, ctx, ahead, look).await??;
            ctx.observe(observed);
        }
        if let Some(max) = ctx.exchange.body_max.filter(|max| !ahead.whole && *max <= SMALL_BYTES) {
            ahead.ask(session, head);
            let look = |body: &[u8], whole: bool| {
                let over = body.len() as u64 > max;
                if over { Some(Err(Denial::LimitBody)) } else { whole.then_some(Ok(())) }
            };
            prefetch::read(session, ctx, ahead, look).await??;
        }
        Ok(())
    }

    /// Forwards an admitted request to its backend, and relays the response to the client.
    async fn exchange<S: Session>(
        &self,
        session: &mut S,
        info: &ConnInfo,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
        own: &mut ClientsBackend,
        ahead: Prefetched,
    ) -> (Ended, Over) {
        let _permit = match self.permit(session, info, ctx).await {
            Ok(permit) => permit,
            Err(failed) if failed.denial.is_none() => {
                return self.failed(session, head, ctx, failed).await;
            }
            Err(Failed { detail, .. }) => {
                ctx.refusal.after_pass = true;
                let refused = Refused { detail: Some(detail), ..Denial::LimitInFlight.into() };
                return self.refused(session, head, ctx, refused, &ahead).await;
            }
        };
        let _counted = self.metrics.requests.in_flight();
        let whose = match ctx.pass.as_ref() {
            Some(pass) if pass.websocket => ConnectionReuse::Never,
            Some(pass) if pass.pinned => ConnectionReuse::Client(own),
            _ => ConnectionReuse::Pool(&self.pool),
        };
        let Some(going) = Outgoing::new(head, info, ctx, &self.clock, ahead.asked) else {
            let refused = Denial::GatewayInternal.into();
            return self.refused(session, head, ctx, refused, &ahead).await;
        };
        match Box::pin(run(session, whose, ctx, going, ahead)).await {
            Ok(answered) => (
                Ended { status: answered.status, received: answered.received, sent: answered.sent },
                Over::Answered,
            ),
            Err(failed) => self.failed(session, head, ctx, failed).await,
        }
    }

    /// Waits for a permit; `None` if requests are not limited.
    ///
    /// # Errors
    /// If no permit is free in time, or if the client is gone.
    async fn permit<S: Session>(
        &self,
        session: &mut S,
        info: &ConnInfo,
        ctx: &RequestCtx,
    ) -> Result<Option<Permit>, Failed> {
        let upstream = ctx.site.as_ref().and_then(|site| site.upstream(ctx.route));
        let (Some(permits), Some(policy), Some(upstream)) = (&self.permits, &ctx.policy, upstream)
        else {
            return Ok(None);
        };
        let asked = PermitRequest {
            address: neighbourhood(info.peer.ip()),
            anonymous: !ctx.is_of_somebody(),
            backend: &upstream.in_flight,
            backend_max: upstream.requests_max,
            limits: &policy.limits,
        };
        if let Some(permit) = permits.admit(&asked) {
            return Ok(Some(permit));
        }
        let until = Instant::now() + PERMIT_WAIT;
        self.metrics.requests.waits();
        loop {
            tokio::time::sleep(PERMIT_LOOK).await;
            poll_fn(|cx| Poll::Ready(session.poll_gone(cx, false))).await?;
            match permits.admit(&asked) {
                Some(permit) => return Ok(Some(permit)),
                None if Instant::now() >= until => {
                    return Err(Failed::because(Denial::LimitInFlight, permits.told(&asked)));
                }
                None => {}
            }
        }
    }

    /// Answers a refused request.
    async fn refused<S: Session>(
        &self,
        session: &mut S,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
        refused: Refused,
        ahead: &Prefetched,
    ) -> (Ended, Over) {
        (ctx.refusal.detail, ctx.refusal.kid) = (refused.detail, refused.kid);
        ctx.refusal.fingerprint = refused.fingerprint;
        let whole = ahead.whole || session.discard_body();
        let ends = !whole || reply::ends_connection(refused.denial);
        let told = self.tell(session, ctx, refused.denial, head.method == "HEAD", ends).await;
        (Ended { received: ahead.bytes.len(), ..told }, Over::Answered)
    }

    /// Ends an admitted request that failed.
    async fn failed<S: Session>(
        &self,
        session: &mut S,
        head: &RequestHead<'_>,
        ctx: &mut RequestCtx,
        failed: Failed,
    ) -> (Ended, Over) {
        ctx.refusal.detail.get_or_insert(failed.detail);
        ctx.refusal.denial = failed.denial;
        ctx.exchange.incomplete = failed.status.is_some();
        let Failed { received, sent, .. } = failed;
        match (failed.denial, failed.status) {
            (Some(denial), None) => {
                let ends = head.body != Body::Empty || reply::ends_connection(denial);
                let told = self.tell(session, ctx, denial, head.method == "HEAD", ends).await;
                (Ended { received, ..told }, Over::Answered)
            }
            (_, status) => (Ended { status: status.unwrap_or(0), received, sent }, Over::CutOff),
        }
    }

    /// Answers `OPTIONS *`: the server responds, and has no further options (RFC 9110 §9.3.7).
    async fn options<S: Session>(&self, session: &mut S) -> Ended {
        let date = http_date(self.clock.now());
        let fields = vec![("Content-Length", &b"0"[..]), ("Date", date.as_bytes())];
        answer(session, &ResponseHead { status: 200, reason: b"OK", fields }, b"", false).await
    }

    /// Sends a client the response to its refused request.
    async fn tell<S: Session>(
        &self,
        session: &mut S,
        ctx: &mut RequestCtx,
        denial: Denial,
        bodiless: bool,
        ends: bool,
    ) -> Ended {
        ctx.refusal.denial = Some(denial);
        let reply = reply::refusal(denial, ctx);
        let (date, length) = (http_date(self.clock.now()), reply.body.len().to_string());
        let own = reply.fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        let framing = [("Content-Length", length.as_bytes()), ("Date", date.as_bytes())];
        let told = ResponseHead {
            status: reply.status,
            reason: reply.reason.as_bytes(),
            fields: own.chain(framing).collect(),
        };
        let body = if bodiless { &[][..] } else { reply.body.as_bytes() };
        answer(session, &told, body, ends).await
    }

    fn record(&self, ctx: &RequestCtx, info: &ConnInfo, asked: LoggedRequest<'_>, ended: Ended) {
        record::count(ctx, &ended);
        if record::wanted(ctx, &self.access) {
            record::write(ctx, info, &ended, asked, &self.access, self.clock.now());
        }
    }
}

/// Sends a client a complete response of sitegate's own.
async fn answer<S: Session>(
    session: &mut S,
    answer: &ResponseHead<'_>,
    body: &[u8],
    ends: bool,
) -> Ended {
    let follows = match body.len() {
        0 => Follows::Nothing,
        length => Follows::Length(length as u64),
    };
    let mut given = false;
    let told = poll_fn(|cx| {
        if !mem::replace(&mut given, true) {
            session.begin(answer, follows, ends)?;
            session.data(cx, body)?;
            session.end()?;
        }
        ready!(session.poll_sent(cx))?;
        session.poll_flush(cx)
    });
    let status = if told.await.is_ok() { answer.status } else { 0 };
    Ended { status, received: 0, sent: body.len() }
}
