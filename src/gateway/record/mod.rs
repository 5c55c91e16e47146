//! Records a finished request: one line in the access log, one set of counters.
//!
//! Never the token, never the query: both may hold secrets.

pub(super) mod ctx;
pub(super) mod request_id;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::gateway::judge::framing::RequestHead;
use crate::gateway::judge::policy::SitePolicy;
use crate::gateway::judge::verdict::Refused;
use crate::log::{Access, AccessLog};
use crate::metrics::ClearOutcome;
use crate::route::Destination;
use crate::token::TokenOrigin;
use ctx::RequestCtx;

/// The size and the status of a finished exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::gateway) struct Ended {
    /// 0 if the client was gone before a response.
    pub(in crate::gateway) status: u16,
    pub(in crate::gateway) received: usize,
    pub(in crate::gateway) sent: usize,
}

/// The fields of a request head for the log.
pub(in crate::gateway) struct LoggedRequest<'a> {
    pub(in crate::gateway) protocol: &'static str,
    pub(in crate::gateway) method: &'a str,
    pub(in crate::gateway) target: &'a [u8],
    pub(in crate::gateway) host: Option<Cow<'a, str>>,
    pub(in crate::gateway) user_agent: Option<Cow<'a, str>>,
}

impl<'a> LoggedRequest<'a> {
    /// For an unreadable head.
    pub(in crate::gateway) fn unread() -> Self {
        LoggedRequest {
            protocol: "HTTP/1.1",
            method: "",
            target: b"",
            host: None,
            user_agent: None,
        }
    }

    /// For a head that was read.
    pub(in crate::gateway) fn of(head: &RequestHead<'a>) -> Self {
        let text = |wanted: &str| {
            let (_, value) =
                head.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some(String::from_utf8_lossy(value))
        };
        LoggedRequest {
            protocol: head.version.as_str(),
            method: head.method,
            target: head.target,
            host: text("host"),
            user_agent: text("user-agent"),
        }
    }
}

/// Counts a finished request.
pub(in crate::gateway) fn count(ctx: &RequestCtx, ended: &Ended) {
    let Some(site) = &ctx.site else { return };
    let counters = site.counters(ctx.route);
    counters.answered(ended.status, ctx.began.elapsed(), ended.received, ended.sent);
    if let Some(denial) = ctx.refusal.denial {
        counters.denied(denial);
        ctx.exchange.attempt.failed(denial, ctx.refusal.detail.as_deref());
    }
    if let Some(observed) = observed(ctx) {
        counters.observed(observed.denial);
    }
    if ctx.head.plain_http {
        counters.came_in_clear(in_clear(ctx, site));
    }
}

/// Returns the outcome of a request over plain HTTP.
fn in_clear(ctx: &RequestCtx, site: &SitePolicy) -> ClearOutcome {
    let route = ctx.route.and_then(|n| site.routes.get(n));
    match (&ctx.pass, ctx.refusal.denial) {
        (_, Some(Denial::ClearRedirected)) => ClearOutcome::Redirected,
        (None, _) => ClearOutcome::Refused,
        _ if ctx.refusal.after_pass => ClearOutcome::Refused,
        _ if route.is_some_and(|r| r.destination == Destination::Publication) => {
            ClearOutcome::Served
        }
        _ => ClearOutcome::Passed,
    }
}

/// Checks whether the access log takes this request.
pub(in crate::gateway) fn wanted(ctx: &RequestCtx, log: &AccessLog) -> bool {
    log.wants(ctx.refusal.denial.is_some() || observed(ctx).is_some())
}

/// Returns the refusal that enforcing would have given, if the request passed in observe mode.
fn observed(ctx: &RequestCtx) -> Option<&Refused> {
    // A request that was admitted and then refused for its message did not pass.
    ctx.pass.as_ref().filter(|_| !ctx.refusal.after_pass)?.observed.as_deref()
}

/// Writes the log line of a finished request.
pub(in crate::gateway) fn write(
    ctx: &RequestCtx,
    conn: &ConnInfo,
    ended: &Ended,
    asked: LoggedRequest<'_>,
    log: &AccessLog,
    now: Timestamp,
) {
    let path = asked.target.split(|b| *b == b'?').next().unwrap_or_default();
    let route = ctx.site.as_ref().zip(ctx.route).and_then(|(site, n)| site.routes.get(n));
    let identity = ctx.pass.as_ref().and_then(|p| p.verified.as_ref()).map(|v| v.identity());
    let origin = identity.and_then(|who| who.origins.first());
    let observed = observed(ctx);
    let reason = observed.map(|refused| refused.denial).or(ctx.refusal.denial);
    // A failure after an observed request passed has no other place.
    let then = observed.and(ctx.refusal.denial).map(|denial| {
        let also = ctx.refusal.detail.as_deref().unwrap_or_default();
        format!("then {}: {also}", denial.code())
    });
    let detail = then.as_deref().or(ctx.refusal.detail.as_deref());
    let fingerprint = ctx.refusal.fingerprint.or(observed.and_then(|refused| refused.fingerprint));
    let attempt = ctx.exchange.attempt.seen();
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
            _ if ctx.refusal.after_pass => "denied",
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
        origin_subject: origin.and_then(TokenOrigin::subject),
        purpose: identity.map(|i| i.purpose.as_str()),
        token_id: identity.and_then(|i| i.token_id.as_deref()),
        token: fingerprint.map(|f| f.to_string()).as_deref(),
        kid: ctx.refusal.kid.as_deref().or(observed.and_then(|refused| refused.kid.as_deref())),
        certificate: ctx.certificate.as_ref().map(|(sha256, _)| &**sha256),
        upstream: attempt.health.as_ref().map(|health| health.address()),
        upstream_status: attempt.answered.map(|(status, _)| status),
        upstream_connect_ms: attempt.connect.map(ms),
        upstream_first_byte_ms: attempt.answered.map(|(_, waited)| ms(waited)),
        received: ended.received,
        sent: ended.sent,
        duration_ms: ms(ctx.began.elapsed()),
        incomplete: ctx.exchange.incomplete,
    });
}

/// Milliseconds with a microsecond resolution: more digits would mean nothing.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
