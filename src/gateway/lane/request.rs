//! A request head as it came, and as it goes to the backend.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::gateway::added;
use crate::gateway::certificate::ClientCertificate;
use crate::gateway::ctx::RequestCtx;
use crate::gateway::decide::{Head, Refused};
use crate::gateway::framing::{self, Body, RequestHead};
use crate::gateway::headers::{RequestRules, names};
use crate::gateway::policy::{Policy, SitePolicy, Upstream};
use crate::gateway::upgrade::Asks;

/// What was found of a request.
pub(super) enum Judged {
    /// It may go on.
    Goes(Outgoing),
    /// It may not. `body` is the length of what follows its head, where that is certain.
    Refused { refused: Refused, body: Option<u64> },
    /// It is not for this lane.
    NotOrdinary,
}

/// A request on its way to the backend.
pub(super) struct Outgoing {
    /// The head.
    pub(super) head: Vec<u8>,
    /// Bytes of body that follow it.
    pub(super) body: u64,
    /// Whether the answer has no body whatever its head says (HEAD).
    pub(super) bodiless: bool,
    /// Whether it may be sent twice (RFC 9110 §9.2.2).
    pub(super) repeatable: bool,
    /// Whether the client's connection ends with the answer.
    pub(super) close: bool,
    /// Whether sitegate asks the backend as itself, so that a challenge is not the client's.
    pub(super) authenticated: bool,
    /// The authority to which links in the answer lead by https instead of http, if any do.
    pub(super) links: Option<Vec<u8>>,
    /// What the answer's Date is written by, where its client sets its clock by that; otherwise it is
    /// the backend's.
    pub(super) clock: Option<Clock>,
    /// The site system, and the route, which say where it goes.
    site: Arc<SitePolicy>,
    route: Option<usize>,
    /// How long its connection may wait for the next one.
    pub(super) idle_time: Duration,
    /// For the answer to begin, and between its parts.
    pub(super) answer_time: Duration,
}

/// The head, unless its framing has more than one reading or it is too large.
pub(in crate::gateway) fn read<'a>(
    raw: &'a [u8],
    policy: &Policy,
) -> Result<RequestHead<'a>, Denial> {
    let head = framing::parse(raw)?;
    if matches!(head.method, "CONNECT" | "TRACE") {
        return Err(Denial::FramingMethod);
    }
    if head.fields.len() > policy.headers_max || raw.len() > policy.header_bytes_max {
        return Err(Denial::LimitHead);
    }
    Ok(head)
}

/// Whether a request is for this lane.
pub(super) fn is_ordinary(head: &RequestHead<'_>) -> bool {
    let special = |name: &str| match name.len() {
        2 => name.eq_ignore_ascii_case("te"),
        6 => name.eq_ignore_ascii_case("expect"),
        7 => name.eq_ignore_ascii_case("upgrade"),
        _ => false,
    };
    !head.http10
        && head.body != Body::Chunked
        && head.target.first() == Some(&b'/')
        && !head.fields.iter().any(|(name, _)| special(name))
}

/// Bytes of body, where that is known.
pub(super) fn length(body: Body) -> Option<u64> {
    match body {
        Body::Empty => Some(0),
        Body::Length(length) => Some(length),
        Body::Chunked => None,
    }
}

/// The head as the decision wants it.
pub(in crate::gateway) fn asked<'a>(
    head: &'a RequestHead<'a>,
    info: &ConnInfo,
    certificate: Option<&'a ClientCertificate<'a>>,
) -> Head<'a, impl Iterator<Item = (&'a str, &'a [u8])> + Clone> {
    Head {
        method: head.method,
        target: head.target,
        host: field(head, "host").unwrap_or_default(),
        body: head.body,
        // Whoever asks for something else is not ordinary.
        asks: Asks::Http,
        by_default: info.by_default,
        client: info.peer.ip().to_canonical(),
        local: info.local,
        clear: info.clear.is_some(),
        certificate,
        fields: head.fields.iter().copied(),
    }
}

/// Whether the client wants its connection to end with the answer (RFC 9112 §9.6).
pub(super) fn asks_to_close(head: &RequestHead<'_>) -> bool {
    let mut connection =
        head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    connection.any(|(_, value)| names(value, "close"))
}

/// The value of a field that is there once at most.
pub(super) fn field<'a>(head: &RequestHead<'a>, wanted: &str) -> Option<&'a [u8]> {
    head.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
}

impl Outgoing {
    /// A request that may go on; `None` if it needs a connection of its own.
    pub(super) fn new(head: &RequestHead<'_>, info: &ConnInfo, ctx: &RequestCtx) -> Option<Self> {
        let site = ctx.site.as_ref()?;
        let pass = ctx.pass.as_ref().filter(|pass| !pass.pinned)?;
        let fields = || head.fields.iter().copied();
        let authenticated = ctx.credential().is_some();
        let rules = RequestRules::new(fields(), &site.secrets, pass.credential())
            .asking_as_ourselves(authenticated);
        let mut out = Vec::with_capacity(head.target.len() + 64 * head.fields.len() + 512);
        out.extend_from_slice(head.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(&pass.target(head.target)?);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut host = None;
        for (name, value) in fields() {
            let same = fields().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
            if rules.passes(name, same) {
                put(&mut out, name, value);
            }
            if name.eq_ignore_ascii_case("host") {
                host = Some(value);
            }
        }
        let Ok(()) = added::write(ctx, info, host, |name, value| {
            put(&mut out, name, value);
            Ok::<(), Infallible>(())
        });
        out.extend_from_slice(b"\r\n");
        let times = site.upstream(ctx.route)?.times;
        let patience = ctx.route.and_then(|n| site.routes.get(n)).and_then(|r| r.answer_time);
        Some(Outgoing {
            head: out,
            body: length(head.body)?,
            bodiless: head.method == "HEAD",
            repeatable: head.body == Body::Empty
                && matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "PROPFIND"),
            close: asks_to_close(head),
            authenticated,
            links: ctx.rewrites_links().then(|| host.map(<[u8]>::to_vec)).flatten(),
            clock: None,
            site: site.clone(),
            route: ctx.route,
            idle_time: times.idle,
            answer_time: times.answer.max(patience.unwrap_or_default()),
        })
    }
}

impl Outgoing {
    /// Where it goes.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        self.site.upstream(self.route)
    }
}

/// Write a field.
pub(super) fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
