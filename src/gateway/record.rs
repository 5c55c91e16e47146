//! What is told of a finished request: one line in the access log, one set of counters.
//!
//! Never the token, never the query: both may hold secrets.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use pingora_core::Error;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::decide::Refused;
use super::framing::RequestHead;
use super::policy::SitePolicy;
use super::view::conn_of;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::log::{Access, AccessLog};
use crate::metrics::ClearOutcome;
use crate::route::Destination;
use crate::token::Origin;

/// The status of the answer, once one was begun: an interim answer is none.
pub(super) fn answered(session: &Session) -> Option<u16> {
    let status = session.response_written()?.status;
    (status == http::StatusCode::SWITCHING_PROTOCOLS || !status.is_informational())
        .then(|| status.as_u16())
}

/// An error and its causes, short.
pub(super) fn cause(error: &Error) -> String {
    let mut text = error.etype().as_str().to_owned();
    if let Some(context) = &error.context {
        text.push_str(": ");
        text.push_str(context.as_str());
    }
    if let Some(root) = error.cause.as_deref() {
        text.push_str(": ");
        text.push_str(&root.to_string());
    }
    text.truncate(text.char_indices().nth(300).map_or(text.len(), |(at, _)| at));
    text
}

/// How much went over the wire, and how it ended.
pub(super) struct Ended {
    /// 0 for a client that was gone before it could be answered.
    pub(super) status: u16,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// What the log tells of a request head.
pub(super) struct Asked<'a> {
    pub(super) protocol: &'static str,
    pub(super) method: &'a str,
    pub(super) target: &'a [u8],
    pub(super) host: Option<Cow<'a, str>>,
    pub(super) user_agent: Option<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    /// Of a head that could not be read.
    pub(super) fn unread() -> Self {
        Asked { protocol: "HTTP/1.1", method: "", target: b"", host: None, user_agent: None }
    }

    /// Of a head of HTTP/1.
    pub(super) fn of(head: &RequestHead<'a>) -> Self {
        let text = |wanted: &str| {
            let (_, value) =
                head.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some(String::from_utf8_lossy(value))
        };
        Asked {
            protocol: if head.http10 { "HTTP/1.0" } else { "HTTP/1.1" },
            method: head.method,
            target: head.target,
            host: text("host"),
            user_agent: text("user-agent"),
        }
    }
}

/// A request that pingora has read is over.
pub(super) fn finished(
    session: &mut Session,
    ctx: &mut RequestCtx,
    log: &AccessLog,
    now: Timestamp,
) {
    let ended = Ended {
        status: answered(session).unwrap_or(0),
        received: session.as_downstream().body_bytes_read(),
        sent: session.as_downstream().body_bytes_sent(),
    };
    count(ctx, &ended);
    if wanted(ctx, log)
        && let Some(conn) = conn_of(session)
    {
        write(ctx, conn, &ended, asked(session.req_header()), log, now);
    }
}

fn asked(request: &RequestHeader) -> Asked<'_> {
    let text = |name: http::HeaderName| {
        request.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()))
    };
    Asked {
        protocol: match request.version {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        method: request.method.as_str(),
        target: request.raw_path(),
        host: text(http::header::HOST).or(request.uri.host().map(Cow::from)),
        user_agent: text(http::header::USER_AGENT),
    }
}

/// Count a request that is over.
pub(super) fn count(ctx: &RequestCtx, ended: &Ended) {
    let Some(site) = &ctx.site else { return };
    let counters = site.counters(ctx.route);
    counters.answered(ended.status, ctx.began.elapsed(), ended.received, ended.sent);
    if let Some(denial) = ctx.denial {
        counters.denied(denial);
        ctx.attempt.failed(denial, ctx.detail.as_deref());
    }
    if let Some(observed) = observed(ctx) {
        counters.observed(observed.denial);
    }
    if ctx.clear {
        counters.came_in_clear(in_clear(ctx, site));
    }
}

/// What became of a request in clear.
fn in_clear(ctx: &RequestCtx, site: &SitePolicy) -> ClearOutcome {
    let route = ctx.route.and_then(|n| site.routes.get(n));
    match (&ctx.pass, ctx.denial) {
        (_, Some(Denial::ClearRedirected)) => ClearOutcome::Redirected,
        (None, _) => ClearOutcome::Refused,
        _ if ctx.turned_away => ClearOutcome::Refused,
        _ if route.is_some_and(|r| r.destination == Destination::Publication) => {
            ClearOutcome::Served
        }
        _ => ClearOutcome::Passed,
    }
}

/// Whether anybody wants to know of a request.
pub(super) fn wanted(ctx: &RequestCtx, log: &AccessLog) -> bool {
    log.wants(ctx.denial.is_some() || observed(ctx).is_some())
}

/// Why a request would have been refused, if it went on because its site system observes.
fn observed(ctx: &RequestCtx) -> Option<&Refused> {
    // One that was let on and then refused for its message did not go on.
    ctx.pass.as_ref().filter(|_| !ctx.turned_away)?.observed.as_deref()
}

/// Write the line of a request that is over.
pub(super) fn write(
    ctx: &RequestCtx,
    conn: &ConnInfo,
    ended: &Ended,
    asked: Asked<'_>,
    log: &AccessLog,
    now: Timestamp,
) {
    let path = asked.target.split(|b| *b == b'?').next().unwrap_or_default();
    let route = ctx.site.as_ref().zip(ctx.route).and_then(|(site, n)| site.routes.get(n));
    let identity = ctx.pass.as_ref().and_then(|p| p.verified.as_ref()).map(|v| v.identity());
    let origin = identity.and_then(|who| who.origins.first());
    let observed = observed(ctx);
    let reason = observed.map(|refused| refused.denial).or(ctx.denial);
    // What failed after it went on has no other place.
    let then = observed.and(ctx.denial).map(|denial| {
        let also = ctx.detail.as_deref().unwrap_or_default();
        format!("then {}: {also}", denial.code())
    });
    let detail = then.as_deref().or(ctx.detail.as_deref());
    let fingerprint = ctx.token_fingerprint.or(observed.and_then(|refused| refused.fingerprint));
    let attempt = ctx.attempt.seen();
    log.write(&Access {
        time: now,
        request_id: &ctx.id.to_string(),
        site_system: ctx.site.as_ref().map_or(&conn.site, |site| &site.name),
        client: conn.peer.ip().to_canonical(),
        local: Some(conn.local),
        connection: conn.id,
        protocol: asked.protocol,
        tls: conn.tls_version,
        sni: conn.sni.as_deref(),
        host: asked.host.as_deref(),
        method: asked.method,
        path: &String::from_utf8_lossy(path),
        user_agent: asked.user_agent.as_deref(),
        status: ended.status,
        decision: match (&ctx.pass, observed) {
            _ if ctx.turned_away => "denied",
            (Some(_), Some(_)) => "would-deny",
            (Some(_), None) => "allowed",
            (None, _) => "denied",
        },
        reason: reason.map(|d| d.code()),
        substatus: reason.and_then(|d| d.substatus()),
        detail: detail.or(observed.and_then(|refused| refused.detail.as_deref())),
        route: route.map(|r| &*r.name),
        issuer: identity.map(|i| &*i.issuer),
        device: identity.and_then(|i| i.device.as_deref()),
        user: identity.and_then(|i| i.user.as_deref()),
        origin_issuer: origin.map(|o| &*o.iss),
        origin_subject: origin.and_then(Origin::subject),
        purpose: identity.map(|i| i.purpose.as_str()),
        token_id: identity.and_then(|i| i.token_id.as_deref()),
        token: fingerprint.map(|f| f.to_string()).as_deref(),
        kid: ctx.kid.as_deref().or(observed.and_then(|refused| refused.kid.as_deref())),
        certificate: ctx.certificate.as_ref().map(|(sha256, _)| &**sha256),
        upstream: attempt.health.as_ref().map(|health| health.address()),
        upstream_status: attempt.answered.map(|(status, _)| status),
        upstream_connect_ms: attempt.connect.map(ms),
        upstream_first_byte_ms: attempt.answered.map(|(_, waited)| ms(waited)),
        received: ended.received,
        sent: ended.sent,
        duration_ms: ms(ctx.began.elapsed()),
        incomplete: ctx.answer_abandoned,
    });
}

/// In milliseconds, to the microsecond: the log has no digits that mean nothing.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
