//! Builds the request for the backend.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::added_headers;
use super::answer::RequestTraits;
use crate::clock::Clock;
use crate::front::ConnInfo;
use crate::gateway::judge::framing::{Body, RequestHead, Version};
use crate::gateway::judge::headers::{DESTINATION, RequestRules, is};
use crate::gateway::judge::policy::{SitePolicy, Upstream};
use crate::gateway::judge::target::origin_form;
use crate::gateway::record::ctx::RequestCtx;

/// A request for the backend.
pub(in crate::gateway) struct Outgoing {
    /// The head.
    pub(super) head: Vec<u8>,
    /// The body that follows.
    pub(super) body: Body,
    /// The most body bytes that its route accepts.
    pub(super) body_max: Option<u64>,
    /// The facts that its response is parsed by.
    pub(super) asked: RequestTraits,
    /// Whether it is safe to retry (RFC 9110 §9.2.2).
    pub(super) repeatable: bool,
    /// Whether the client waits for 100 Continue.
    pub(super) expects: bool,
    /// Whether sitegate authenticates to the backend as itself, so that a challenge is not for the
    /// client.
    pub(super) authenticated: bool,
    /// The authority whose http links in the response are rewritten to https, if any.
    pub(super) links: Option<Vec<u8>>,
    /// The clock. A response without a Date gets one (RFC 9110 §6.6.1).
    pub(super) clock: Clock,
    /// Whether the client sets its clock by the response, so that sitegate always writes the Date.
    pub(super) sets_clocks: bool,
    /// The site system, and the route, which select the destination.
    site: Arc<SitePolicy>,
    route: Option<usize>,
    /// The idle timeout of its connection.
    pub(super) idle_time: Duration,
    /// The timeout for the response to begin, and between its parts.
    pub(super) answer_time: Duration,
}

impl Outgoing {
    /// Builds an admitted request; `None` if it has no destination, which cannot happen.
    /// `asked_for` says that 100 Continue was sent already.
    pub(in crate::gateway) fn new(
        head: &RequestHead<'_>,
        info: &ConnInfo,
        ctx: &RequestCtx,
        clock: &Clock,
        asked_for: bool,
    ) -> Option<Self> {
        let site = ctx.site.as_ref()?;
        let pass = ctx.pass.as_ref()?;
        let fields = || head.fields.iter().copied();
        let authenticated = ctx.credential().is_some();
        let rules = RequestRules::new(fields(), &site.tokens.secrets, pass.credential())
            .asking_as_ourselves(authenticated);
        // An HTTP/1.0 client waits for no interim response (RFC 9110 §10.1.1).
        let expects = !asked_for
            && head.version != Version::Http10
            && fields().any(|(name, _)| name.eq_ignore_ascii_case("expect"));
        let mut out = Vec::with_capacity(head.target.len() + 64 * head.fields.len() + 512);
        out.extend_from_slice(head.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(&pass.target(head.target)?);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let scheme: &[u8] = match site.upstream(ctx.route)?.tls {
            Some(_) => b"https://",
            None => b"http://",
        };
        // Judged before: the target is on this route. It gets the same translation as the
        // request's.
        let destination = |value: &[u8]| {
            let authority = head.field("host")?;
            let target = pass.target(origin_form(value, authority, ctx.head.plain_http).ok()?)?;
            Some([scheme, authority, &target].concat())
        };
        let (mut host, mut has_length) = (None, false);
        for (name, value) in fields() {
            let ours = match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    host = Some(value);
                    false
                }
                6 => !expects && name.eq_ignore_ascii_case("expect"),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    has_length = true;
                    false
                }
                17 => name.eq_ignore_ascii_case("transfer-encoding"),
                _ => false,
            };
            let same = fields().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
            if !ours && rules.passes(name, same) {
                if is(name, DESTINATION) {
                    put(&mut out, name, &destination(value)?);
                } else {
                    put(&mut out, name, value);
                }
            }
        }
        match head.body {
            Body::Chunked => put(&mut out, "Transfer-Encoding", b"chunked"),
            // Some servers answer 411 to these methods without Content-Length. HTTP/2 uses
            // END_STREAM instead.
            Body::Empty if !has_length && matches!(head.method, "POST" | "PUT" | "PATCH") => {
                put(&mut out, "Content-Length", b"0");
            }
            Body::Empty | Body::Length(_) => {}
        }
        let Ok(()) = added_headers::write(ctx, info, host, |name, value| {
            put(&mut out, name, value);
            Ok::<(), Infallible>(())
        });
        if pass.websocket {
            put(&mut out, "Connection", b"Upgrade");
            put(&mut out, "Upgrade", b"websocket");
        }
        out.extend_from_slice(b"\r\n");
        let times = site.upstream(ctx.route)?.times;
        let of_route = ctx.route.and_then(|n| site.routes.get(n)).and_then(|r| r.answer_time);
        let answer_time = if pass.websocket {
            times.websocket
        } else {
            times.answer.max(of_route.unwrap_or_default())
        };
        Some(Outgoing {
            head: out,
            body: head.body,
            body_max: ctx.exchange.body_max,
            asked: RequestTraits {
                bodiless: head.method == "HEAD",
                websocket: pass.websocket,
                windows: pass.pinned,
            },
            repeatable: head.body == Body::Empty
                && matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PROPFIND"),
            expects,
            authenticated,
            links: ctx.rewrites_links().then(|| host.map(<[u8]>::to_vec)).flatten(),
            clock: clock.clone(),
            sets_clocks: ctx.sets_clocks(),
            site: site.clone(),
            route: ctx.route,
            idle_time: times.idle,
            answer_time,
        })
    }

    /// Returns the destination.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        self.site.upstream(self.route)
    }
}

/// Writes a field.
pub(in crate::gateway) fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
