//! What is told of a finished request: one line in the access log, one set of counters.
//!
//! Never the token, never the query: both may hold secrets.

use jiff::Timestamp;
use pingora_core::Error;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::view::conn_of;
use crate::log::{Access, AccessLog};

/// The time as HTTP writes it (RFC 9110 §5.6.7).
pub(super) fn http_date(now: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default()
}

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

pub(super) fn finished(
    session: &mut Session,
    ctx: &mut RequestCtx,
    log: &AccessLog,
    now: Timestamp,
) {
    let took = ctx.began.elapsed();
    let status = answered(session).unwrap_or(0);
    let sent = session.as_downstream().body_bytes_sent();
    let received = session.as_downstream().body_bytes_read();
    if let Some(site) = &ctx.site {
        let counters = site.counters(ctx.route);
        counters.answered(status, took, received, sent);
        if let Some(denial) = ctx.denial {
            counters.denied(denial);
        }
    }
    if !log.is_on() {
        return;
    }
    let Some(conn) = conn_of(session) else { return };
    let request = session.req_header();
    let path = request.raw_path().split(|b| *b == b'?').next().unwrap_or_default();
    let route = ctx.site.as_ref().zip(ctx.route).and_then(|(site, n)| site.routes.get(n));
    let identity = ctx.pass.as_ref().and_then(|p| p.verified.as_ref()).map(|v| v.identity());
    let text = |name: http::HeaderName| {
        request.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()))
    };
    log.write(&Access {
        time: now,
        request_id: &ctx.id.to_string(),
        site_system: &conn.site,
        client: conn.peer.ip().to_canonical(),
        connection: conn.id,
        protocol: match request.version {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        tls: conn.tls_version,
        sni: conn.sni.as_deref(),
        host: text(http::header::HOST).as_deref().or(request.uri.host()),
        method: request.method.as_str(),
        path: &String::from_utf8_lossy(path),
        user_agent: text(http::header::USER_AGENT).as_deref(),
        status,
        decision: if ctx.pass.is_some() { "allowed" } else { "denied" },
        reason: ctx.denial.map(|d| d.code()),
        substatus: ctx.denial.and_then(|d| d.substatus()),
        detail: ctx.detail.as_deref(),
        route: route.map(|r| &*r.name),
        issuer: identity.map(|i| &*i.issuer),
        device: identity.and_then(|i| i.device.as_deref()),
        user: identity.and_then(|i| i.user.as_deref()),
        purpose: identity.map(|i| i.purpose.as_str()),
        token_id: identity.and_then(|i| i.token_id.as_deref()),
        token: ctx.token_fingerprint.map(|f| f.to_string()).as_deref(),
        kid: ctx.kid.as_deref(),
        certificate: ctx.certificate.as_ref().map(|(sha256, _)| &**sha256),
        upstream_status: ctx.upstream_status,
        received,
        sent,
        duration_ms: took.as_secs_f64() * 1e3,
        incomplete: ctx.answer_abandoned,
    });
}
