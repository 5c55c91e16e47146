//! The lane for ordinary requests: HTTP/1.1, with no body or one of known length. Whatever else comes
//! is left, unread, to pingora, together with its connection.
//!
//! Judges by the same rooms as pingora's phases do and knows no type of pingora's own.

mod answer_fault;
mod arrival;
mod backend;
mod exchange;
mod held;
mod pool;
mod relay;
mod request;
mod response;
mod scratch;

pub use answer_fault::AnswerFault;
pub use response::judge_answer;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Gateway;
use super::bootstrap;
use super::ctx::RequestCtx;
use super::decide::Refused;
use super::framing::{HeadEnd, parse};
use super::guard;
use super::record::{self, Asked, Ended};
use super::rejudge;
use super::reply;
use crate::clock::http_date;
use crate::denial::Denial;
use crate::front::{Conn, ConnInfo, Cut};
pub(super) use answer_fault::What;
pub(super) use backend::FRESH;
use exchange::{Answered, Failed};
pub(super) use pool::{Pool, Waiting};
pub(super) use relay::INTERIM_MAX;
use request::{Judged, Outgoing};
pub(super) use request::{asked, read as read_head};
pub(super) use response::{Rest, read as read_answer, read_switching};

/// What is asked of the system at a time while a head is read.
const HEAD_READ: usize = 2048;

/// The lane of one shard.
pub(super) struct Lane {
    gateway: Gateway,
    pool: Arc<Pool>,
}

/// What becomes of a connection.
enum Next {
    /// The next request.
    Request,
    /// It ends in order.
    Close,
    /// It ends, and the client must notice that what it was sent is not whole.
    Abort,
    /// pingora reads the request under way, and all that follow.
    Leave,
}

impl Lane {
    pub(super) fn new(gateway: Gateway) -> Self {
        Lane { pool: gateway.pool.clone(), gateway }
    }

    /// Let go of backend connections that were idle for too long, or that the backend has closed.
    pub(super) fn tidy(&self) {
        self.pool.tidy();
    }

    /// Serve a connection to its end, or to the first request that is not for this lane: then it
    /// is returned, with what was read of that request.
    pub(super) async fn serve(
        &self,
        mut conn: Conn,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Option<(Conn, BytesMut)> {
        let mut buf = BytesMut::new();
        loop {
            let next = match head(&mut conn, &mut buf, shutdown).await {
                Some(Ok(end)) => self.request(&mut conn, &mut buf, end, shutdown).await,
                Some(Err(denial)) => self.malformed(&mut conn, &buf, denial).await,
                None => Next::Close,
            };
            match next {
                Next::Request if buf.is_empty() => buf = BytesMut::new(),
                Next::Request => conn.head_began(),
                Next::Close => {
                    // The error is that there is nobody any more to say good-bye to.
                    let _ = conn.shutdown().await;
                    return None;
                }
                Next::Abort => return None,
                Next::Leave => return Some((conn, buf)),
            }
        }
    }

    /// One request, of which the head is at the beginning of `buf`.
    async fn request(
        &self,
        conn: &mut Conn,
        buf: &mut BytesMut,
        end: usize,
        shutdown: &watch::Receiver<bool>,
    ) -> Next {
        let info = conn.info().clone();
        let mut ctx = RequestCtx::new();
        let raw = buf.get(..end).unwrap_or_default();
        let mut judged = self.judge(&info, raw, &mut ctx);
        if let Judged::Refused { refused, .. } = &judged
            && rejudge::is_worth_it(&self.gateway.policy.load(), refused, &mut ctx).await
        {
            judged = self.judge(&info, raw, &mut ctx);
        }
        let mut going = match judged {
            Judged::Goes(going) => going,
            Judged::Refused { refused, .. } if bootstrap::may_be_one(&refused, &ctx) => {
                return Next::Leave;
            }
            Judged::Refused { refused, body } => {
                ctx.in_flight = Some(info.state.begin(body != Some(0)));
                let whole = body.and_then(|n| usize::try_from(n).ok()?.checked_add(end));
                let whole = whole.filter(|whole| *whole <= buf.len());
                ctx.detail = refused.detail;
                ctx.kid = refused.kid;
                ctx.token_fingerprint = refused.fingerprint;
                let ends = whole.is_none()
                    || reply::ends_connection(refused.denial)
                    || parse(raw).is_ok_and(|head| request::asks_to_close(&head));
                let told = self.refuse(conn, &mut ctx, refused.denial, raw, ends).await;
                self.record(&ctx, &info, raw, told);
                buf.advance(whole.unwrap_or(end));
                return if ends { Next::Close } else { Next::Request };
            }
            Judged::NotOrdinary => return Next::Leave,
        };
        let head = buf.split_to(end);
        ctx.in_flight = Some(info.state.begin(going.body > 0));
        going.close |= *shutdown.borrow();
        going.clock = ctx.sets_clocks().then(|| self.gateway.clock.clone());
        if let Some(next) = self.message(conn, buf, (&head, &mut going), &mut ctx).await {
            return next;
        }
        let answered = Box::pin(exchange::run(conn, buf, &self.pool, &ctx, going)).await;
        let (ended, next) = match answered {
            Ok(Answered { status, received, sent, close, early }) => {
                if early {
                    conn.linger();
                }
                let next = if close { Next::Close } else { Next::Request };
                (Ended { status, received, sent }, next)
            }
            Err(failed) => self.failed(conn, &mut ctx, &head, failed).await,
        };
        self.record(&ctx, &info, &head, ended);
        next
    }

    /// What becomes of the connection if the request is a message that may not go on.
    async fn message(
        &self,
        conn: &mut Conn,
        buf: &mut BytesMut,
        (head, going): (&[u8], &mut Outgoing),
        ctx: &mut RequestCtx,
    ) -> Option<Next> {
        if !head.starts_with(guard::VERB.as_bytes()) {
            return None;
        }
        let info = conn.info().clone();
        let whole = usize::try_from(going.body).unwrap_or(usize::MAX);
        let now = self.gateway.clock.now();
        let refused = match arrival::judge(conn, buf, (head, going.body), ctx, now).await {
            Ok(Ok(None)) => return None,
            Ok(Ok(observed)) => {
                ctx.observe(observed);
                // It was written with the account that only those are lent who are let in.
                let again = parse(head).ok().and_then(|head| Outgoing::new(&head, &info, ctx));
                // Invariant: it was written once already, from the same head.
                let Some(again) = again else { return Some(Next::Abort) };
                let (close, clock) = (going.close, going.clock.take());
                *going = again;
                (going.close, going.clock) = (close, clock);
                return None;
            }
            Ok(Err(refused)) => refused,
            Err(error) => {
                let received = buf.len().min(whole);
                let failed = Failed { received, ..Failed::client(error) };
                let (ended, next) = self.failed(conn, ctx, head, failed).await;
                self.record(ctx, &info, head, ended);
                return Some(next);
            }
        };
        ctx.turned_away = true;
        ctx.detail = refused.detail;
        let ends = buf.len() < whole || reply::ends_connection(refused.denial) || going.close;
        let told = self.refuse(conn, ctx, refused.denial, head, ends).await;
        let received = buf.len().min(whole);
        self.record(ctx, &info, head, Ended { received, ..told });
        buf.advance(received);
        Some(if ends { Next::Close } else { Next::Request })
    }

    /// A request was let in, and could not be served.
    async fn failed(
        &self,
        conn: &mut Conn,
        ctx: &mut RequestCtx,
        head: &[u8],
        failed: Failed,
    ) -> (Ended, Next) {
        let denial = match conn.info().state.cut() {
            Cut::BodyRate => Some(Denial::LimitRate),
            _ => failed.denial,
        };
        ctx.detail.get_or_insert(failed.detail);
        ctx.denial = denial;
        ctx.answer_abandoned = failed.status.is_some();
        let ended = Ended {
            status: failed.status.unwrap_or(0),
            received: failed.received,
            sent: failed.sent,
        };
        match (denial, failed.status) {
            (Some(denial), None) => {
                let told = self.refuse(conn, ctx, denial, head, true).await;
                (Ended { received: failed.received, ..told }, Next::Close)
            }
            _ => (ended, Next::Abort),
        }
    }

    /// Something that is no request head.
    async fn malformed(&self, conn: &mut Conn, raw: &[u8], denial: Denial) -> Next {
        let info = conn.info().clone();
        let mut ctx = RequestCtx::new();
        ctx.site = self.gateway.policy.load().sites.get(&info.site).cloned();
        ctx.clear = info.clear.is_some();
        ctx.in_flight = Some(info.state.begin(true));
        let told = self.refuse(conn, &mut ctx, denial, raw, true).await;
        self.record(&ctx, &info, &[], told);
        Next::Close
    }

    /// Answer a refused request.
    async fn refuse(
        &self,
        conn: &mut Conn,
        ctx: &mut RequestCtx,
        denial: Denial,
        head: &[u8],
        ends: bool,
    ) -> Ended {
        ctx.denial = Some(denial);
        if ends {
            conn.linger();
        }
        let date = http_date(self.gateway.clock.now());
        let bodiless = head.starts_with(b"HEAD ");
        let reply = reply::refusal(denial, ctx);
        let sent = if bodiless { 0 } else { reply.body.len() };
        let bytes = response::refusal(reply, &date, ends, bodiless);
        let told = match conn.write_all(&bytes).await {
            Ok(()) => conn.flush().await,
            error => error,
        };
        Ended { status: if told.is_ok() { denial.status() } else { 0 }, received: 0, sent }
    }

    fn record(&self, ctx: &RequestCtx, info: &ConnInfo, head: &[u8], ended: Ended) {
        record::count(ctx, &ended);
        let log = &self.gateway.access;
        if !record::wanted(ctx, log) {
            return;
        }
        let asked = parse(head).map_or_else(|_| Asked::unread(), |head| Asked::of(&head));
        record::write(ctx, info, &ended, asked, log, self.gateway.clock.now());
    }

    fn judge(&self, info: &ConnInfo, raw: &[u8], ctx: &mut RequestCtx) -> Judged {
        let policy = self.gateway.policy.load();
        ctx.site = policy.site_of(info, None);
        ctx.clear = info.clear.is_some();
        let refused = |refused: Refused, body| Judged::Refused { refused, body };
        let head = match request::read(raw, &policy) {
            Ok(head) => head,
            Err(denial) => return refused(denial.into(), None),
        };
        if info.clear.is_some() {
            ctx.site = policy.site_of(info, request::field(&head, "host"));
        }
        if !request::is_ordinary(&head) {
            return Judged::NotOrdinary;
        }
        let body = request::length(head.body);
        let certificate = self.gateway.certificate(info, ctx);
        match self.gateway.admit(&policy, asked(&head, info, certificate.as_ref()), ctx) {
            Err(denied) => refused(denied, body),
            Ok(()) => match Outgoing::new(&head, info, ctx) {
                Some(outgoing) => match self.gateway.take_turn(info.peer.ip(), ctx) {
                    Ok(()) => Judged::Goes(outgoing),
                    Err(denied) => refused(denied, body),
                },
                None => Judged::NotOrdinary,
            },
        }
    }
}

/// Read until a request head is whole: its length. `None` if the connection is over.
async fn head(
    conn: &mut Conn,
    buf: &mut BytesMut,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<Result<usize, Denial>> {
    let mut end = HeadEnd::default();
    let mut begun = false;
    loop {
        if !begun {
            // An empty line before a request line is to be ignored (RFC 9112 §2.2).
            while buf.starts_with(b"\r\n") {
                buf.advance(2);
            }
            begun = buf.len() > 1 || buf.first().is_some_and(|b| *b != b'\r');
        }
        if begun {
            match end.find(buf) {
                Ok(None) => {}
                Ok(Some(end)) => return Some(Ok(end)),
                Err(denial) => return Some(Err(denial)),
            }
        }
        buf.reserve(HEAD_READ);
        let read = tokio::select! {
            biased;
            read = tokio::io::AsyncReadExt::read_buf(conn, buf) => read,
            _ = shutdown.changed(), if buf.is_empty() => return None,
        };
        // Whoever is too slow was told by the connection itself.
        if !matches!(read, Ok(1..)) {
            return None;
        }
    }
}
