//! Replays one captured request: the same modules judge it as on the wire, and report step by step.
//!
//! Serves `sitegate explain`. Sends nothing, counts nothing, and shows no credential.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::exchange::write_added;
use super::judge::certificate::{ClientCertificate, certificate_of};
use super::judge::decide;
use super::judge::framing::{Body, RequestHead, Version, parse};
use super::judge::head::JudgedHead;
use super::judge::headers::RequestRules;
use super::judge::hops::{self, Hops};
use super::judge::host::{self, ConnectionTarget};
use super::judge::observe;
use super::judge::plain_http;
use super::judge::policy::{Policy, SitePolicy};
use super::judge::trace::Trace;
use super::judge::upgrade::{self, Asks};
use super::judge::verdict::{Pass, Refused};
use super::record::ctx::RequestCtx;
use super::session;
use crate::client::Presented;
use crate::denial::Denial;
use crate::front::{ConnInfo, ConnState};
use crate::route::{CanonicalPath, Destination};
use crate::token::{self, Fingerprint};

mod message;

use message::{Captive, bootstrap_message, judge_message};

/// A captured request and the known facts of its connection.
pub struct Captured<'a> {
    /// The site system that the connection is for.
    pub site: &'a str,
    /// Whether the site system is the listener's default, because SNI named no known host.
    pub by_default: bool,
    /// The client's address.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The configured plain-HTTP address, if the request came there.
    pub clear: Option<SocketAddr>,
    /// The certificates that the client sent, leaf first. Possession of the key is assumed.
    pub certificate: &'a [CertificateDer<'a>],
    /// The head, from its request line to its empty line.
    pub head: &'a [u8],
    /// The body, as far as it was captured.
    pub body: &'a [u8],
}

/// The finding of one module about the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStep {
    /// The module.
    pub room: &'static str,
    /// The finding.
    pub says: String,
}

/// The outcome of a request.
#[derive(Clone, Debug)]
pub enum Becomes {
    /// The gateway refuses it.
    Refused {
        /// The reason.
        denial: Denial,
        /// Details, as in the access log.
        detail: Option<String>,
    },
    /// The gateway forwards it.
    Forwarded(Forwarded),
}

/// A request as the backend would receive it.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// The destination.
    pub destination: Destination,
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The removed fields.
    pub removed: Vec<String>,
    /// The fields that sitegate writes. Credentials and ids are replaced by a description.
    pub added: Vec<(&'static str, String)>,
    /// The denial that enforcing would give, if the site system observes.
    pub observed: Option<Denial>,
}

/// A request that was replayed.
#[derive(Clone)]
pub struct Replay {
    /// The findings of the modules, in the order in which they run.
    pub steps: Vec<ReplayStep>,
    /// The raw token, for callers that inspect it. Not for any log.
    pub token: Option<String>,
    /// The outcome.
    pub outcome: Becomes,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (steps, outcome) = (&self.steps, &self.outcome);
        f.debug_struct("Replay")
            .field("steps", steps)
            .field("outcome", outcome)
            .finish_non_exhaustive()
    }
}

/// Judges a captured request as of `now`.
pub fn replay(policy: &Arc<Policy>, captured: &Captured<'_>, now: Timestamp) -> Replay {
    let mut told = Trail::default();
    let outcome = walk(policy, captured, now, &mut told).unwrap_or_else(|refused| {
        Becomes::Refused { denial: refused.denial, detail: refused.detail }
    });
    Replay { steps: told.steps, token: told.token, outcome }
}

#[derive(Default)]
struct Trail {
    steps: Vec<ReplayStep>,
    token: Option<String>,
}

impl Trail {
    fn say(&mut self, room: &'static str, says: impl Into<String>) {
        self.steps.push(ReplayStep { room, says: says.into() });
    }
}

fn walk(
    policy: &Arc<Policy>,
    captured: &Captured<'_>,
    now: Timestamp,
    told: &mut Trail,
) -> Result<Becomes, Refused> {
    let mut ctx = RequestCtx::new();
    ctx.policy = Some(policy.clone());
    ctx.site = policy.sites.get(captured.site).cloned();
    let site = ctx.site.clone().ok_or(Denial::HostMisdirected)?;
    let clear = captured.clear.is_some();
    let head = parse(captured.head)?.in_origin_form(clear);
    head.judge(policy.limits.headers, policy.limits.header_bytes, clear)?;
    ctx.head.body = head.body;
    if head.version == Version::Http11 {
        let fields = head.fields.iter().copied();
        ctx.head.asks = upgrade::judge(head.method, head.body == Body::Empty, fields)?;
    }
    told.say("framing", framing_in_words(&head, ctx.head.asks));
    let info = connection(captured, &site);
    let certificate = certificate_of(&info, &site, now);
    ctx.certificate = certificate.as_ref().map(|c| (c.sha256().clone(), c.good().is_some()));
    let asked = JudgedHead::of(&head, &info, certificate.as_ref(), ctx.head.asks);
    ctx.hops = Hops::of(head.fields.iter().copied())?;
    tell_route(policy, &site, &asked, told);
    tell_certificate(&site, certificate.as_ref(), told);
    tell_token(&site, &head, told);

    let (route, verdict) = match captured.clear {
        None => decide::decide(policy, &site, &asked, now),
        Some(_) => {
            told.say("transport", "plain HTTP: tokens are ignored there, and none is required");
            plain_http::decide(policy, &site, &asked, now)
        }
    };
    let relax = |refused| observe::relax(policy, &site, route, &asked, refused, now);
    let verdict = verdict.or_else(relax);
    ctx.route = route;
    ctx.head.plain_http = captured.clear.is_some();
    if site.trusts_traces {
        ctx.trace = Trace::of(head.fields.iter().copied());
    }
    let body = Captive::of(head.body, captured.body);
    let pass = match verdict {
        Ok(pass) => pass,
        Err(refused) if session::may_be_newcomer(&refused, &ctx) => {
            bootstrap_message(&ctx, &head, body, refused, now, told)?
        }
        Err(refused) => {
            if refused.missed.is_some() {
                told.say("keys", "a running gateway would fetch newer keys from the issuer first");
            }
            return Err(refused);
        }
    };
    tell_pass(&pass, told);
    ctx.pass = Some(pass);
    let observed = judge_message(&ctx, &head, body, now, told)?;
    if let Some(refused) = &observed {
        tell_observed(refused, told);
    }
    ctx.observe(observed);
    forwarded(&ctx, &info, &head).map(Becomes::Forwarded)
}

fn connection(captured: &Captured<'_>, site: &SitePolicy) -> ConnInfo {
    let client = captured.client.to_string();
    ConnInfo {
        id: 0,
        site: site.name.clone(),
        sni: None,
        by_default: captured.by_default,
        peer: SocketAddr::new(captured.client, 0),
        peer_ip: HeaderValue::from_str(&client).unwrap_or(HeaderValue::from_static("unknown")),
        local: captured.local,
        clear: captured.clear,
        tls_version: "",
        cipher: "",
        certificate: Presented::of(captured.certificate).filter(|_| site.clients.is_some()),
        state: Arc::<ConnState>::default(),
    }
}

fn framing_in_words(head: &RequestHead<'_>, asks: Asks) -> String {
    let version = head.version.as_str();
    let body = match head.body {
        Body::Empty => "no body".to_owned(),
        Body::Length(length) => format!("a body of {length} bytes"),
        Body::Chunked => "a chunked body".to_owned(),
    };
    let asks = if asks == Asks::WebSocket { ", asks for a WebSocket" } else { "" };
    let fields = head.fields.len();
    format!("one reading: {} by {version}, {fields} fields, {body}{asks}", head.method)
}

/// Reports host, path, route and method up to the first that fails. The decision checks them in the
/// same order.
fn tell_route<F>(policy: &Policy, site: &SitePolicy, head: &JudgedHead<'_, F>, told: &mut Trail) {
    let asked = ConnectionTarget { by_default: head.by_default, local: head.local };
    if host::judge(head.host, &site.hosts, asked).is_err() {
        return;
    }
    let named = String::from_utf8_lossy(head.host);
    told.say("host", format!("{named} is a host of {}", site.name));
    let Ok(path) = CanonicalPath::parse(head.target, policy.limits.uri_bytes) else { return };
    told.say("path", format!("routes see {}", path.as_str()));
    let Some(route) = site.routes.covering(&path) else { return };
    told.say("route", format!("{} covers it ({}): {}", route.name, route.pattern, route.reason));
    if route.takes(head.method).is_err() {
        told.say("method", format!("{} is not among {}", head.method, route.allow()));
        return;
    }
    told.say("method", format!("{} is one of the route's", head.method));
    let purposes: Vec<_> = route.purposes.iter().map(|purpose| purpose.as_str()).collect();
    let purposes = if purposes.is_empty() {
        String::new()
    } else {
        format!(", by a token for {}", purposes.join(" or "))
    };
    told.say("requires", format!("{}{purposes}", route.requirement.as_str()));
}

fn tell_certificate(
    site: &SitePolicy,
    certificate: Option<&ClientCertificate<'_>>,
    told: &mut Trail,
) {
    match certificate.map(|certificate| (certificate.sha256(), certificate.verdict())) {
        Some((sha256, Ok(()))) => told.say("certificate", format!("{sha256} is good")),
        Some((sha256, Err((denial, detail)))) => {
            told.say("certificate", format!("{sha256}: {detail} ({})", denial.code()));
        }
        None if site.clients.is_some() => told.say("certificate", "the client sent none"),
        None => {}
    }
}

fn tell_token(site: &SitePolicy, head: &RequestHead<'_>, told: &mut Trail) {
    let Ok(Some(token)) = token::find(head.fields.iter().copied(), &site.tokens.sources) else {
        return;
    };
    let fingerprint = Fingerprint::of(token.as_str().as_bytes());
    told.say("token", format!("{fingerprint}, of {} bytes", token.as_str().len()));
    told.token = Some(token.as_str().to_owned());
}

fn tell_pass(pass: &Pass, told: &mut Trail) {
    if let Some(observed) = &pass.observed {
        tell_observed(observed, told);
    }
    let Some(verified) = &pass.verified else { return };
    let who = verified.identity();
    let device = who.device.as_deref().unwrap_or("none");
    let user = who.user.as_deref().unwrap_or("none");
    let (purpose, issuer) = (who.purpose, &who.issuer);
    told.say(
        "identity",
        format!("a {purpose} token of {issuer}, verified; device {device}, user {user}"),
    );
}

fn tell_observed(refused: &Refused, told: &mut Trail) {
    told.say("mode", format!("observes; enforcing would refuse it: {}", refused.denial));
}

fn forwarded(
    ctx: &RequestCtx,
    info: &ConnInfo,
    head: &RequestHead<'_>,
) -> Result<Forwarded, Refused> {
    let site = ctx.site.as_ref().ok_or(Denial::GatewayInternal)?;
    let pass = ctx.pass.as_ref().ok_or(Denial::GatewayInternal)?;
    let fields = || head.fields.iter().copied();
    let rules = RequestRules::new(fields(), &site.tokens.secrets, pass.credential())
        .asking_as_ourselves(ctx.credential().is_some());
    let values = |name: &str| {
        let name = name.to_owned();
        fields().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, value)| value)
    };
    let gone = fields().filter(|(name, _)| !rules.passes(name, values(name)));
    let removed = gone.map(|(name, _)| name.to_owned()).collect();
    let host = fields().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value);
    let mut added = Vec::new();
    let Ok(()) = write_added(ctx, info, host, |name, value| {
        let shown = match name {
            "Authorization" => "(the account of backend_auth)".to_owned(),
            "traceparent" if ctx.trace.is_some() => "(the client's, forwarded)".to_owned(),
            "X-Request-Id" | "traceparent" | hops::FIELD => "(its own)".to_owned(),
            _ => String::from_utf8_lossy(value).into_owned(),
        };
        added.push((name, shown));
        Ok::<(), Infallible>(())
    });
    let target = pass.target(head.target).ok_or(Denial::GatewayInternal)?;
    let route = ctx.route.and_then(|place| site.routes.get(place));
    Ok(Forwarded {
        destination: route.map_or(Destination::Backend, |route| route.destination),
        method: head.method.to_owned(),
        target: String::from_utf8_lossy(&target).into_owned(),
        removed,
        added,
        observed: pass.observed.as_ref().map(|refused| refused.denial),
    })
}
