//! One captured request, judged by the same rooms as on the wire, and told step by step.
//!
//! For whoever asks why. Sends nothing, counts nothing, and shows no credential.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::added;
use super::bootstrap;
use super::certificate::{ClientCertificate, certificate_of};
use super::clear;
use super::ctx::RequestCtx;
use super::decide::{self, Head, Pass, Refused};
use super::framing::{Body, RequestHead};
use super::headers::RequestRules;
use super::hops::{self, Hops};
use super::host::{self, Asked};
use super::lane;
use super::observe;
use super::policy::{Policy, SitePolicy};
use super::trace::Trace;
use super::upgrade::{self, Asks};
use crate::client::Presented;
use crate::denial::Denial;
use crate::front::{ConnInfo, ConnState};
use crate::route::{CanonicalPath, Destination};
use crate::token::{self, Fingerprint};

mod message;

use message::{Captive, bootstrap_message, judge_message};

/// A request as it was captured, and what is known of its connection.
pub struct Captured<'a> {
    /// The site system that the connection is for.
    pub site: &'a str,
    /// Whether it was picked for want of a known server name.
    pub by_default: bool,
    /// The client's address.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The configured address of plain HTTP, if it came to that.
    pub clear: Option<SocketAddr>,
    /// The certificates that the client sent, leaf first; that it has the key is taken for granted.
    pub certificate: &'a [CertificateDer<'a>],
    /// The head, from its request line to its empty line.
    pub head: &'a [u8],
    /// The body, as far as it was captured.
    pub body: &'a [u8],
}

/// What one room says of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The room.
    pub room: &'static str,
    /// What it says.
    pub says: String,
}

/// What becomes of the request.
#[derive(Clone, Debug)]
pub enum Becomes {
    /// It ends here.
    Refused {
        /// The reason.
        denial: Denial,
        /// More of it, as the access log would have it.
        detail: Option<String>,
    },
    /// It goes on.
    Forwarded(Forwarded),
}

/// A request as the backend would get it.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Where it goes.
    pub destination: Destination,
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The fields that are left out.
    pub removed: Vec<String>,
    /// The fields that sitegate writes, a credential or an id in words.
    pub added: Vec<(&'static str, String)>,
    /// Why it would be refused, if its site system did not observe.
    pub observed: Option<Denial>,
}

/// A request that was replayed.
#[derive(Clone)]
pub struct Replay {
    /// What each room says, in the order in which they are asked.
    pub steps: Vec<Step>,
    /// The token as it is, for those who look into it. Not for any log.
    pub token: Option<String>,
    /// What becomes of it.
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

/// Judge a captured request at that time.
pub fn replay(policy: &Arc<Policy>, captured: &Captured<'_>, now: Timestamp) -> Replay {
    let mut told = Told::default();
    let outcome = walk(policy, captured, now, &mut told).unwrap_or_else(|refused| {
        Becomes::Refused { denial: refused.denial, detail: refused.detail }
    });
    Replay { steps: told.steps, token: told.token, outcome }
}

#[derive(Default)]
struct Told {
    steps: Vec<Step>,
    token: Option<String>,
}

impl Told {
    fn say(&mut self, room: &'static str, says: impl Into<String>) {
        self.steps.push(Step { room, says: says.into() });
    }
}

fn walk(
    policy: &Arc<Policy>,
    captured: &Captured<'_>,
    now: Timestamp,
    told: &mut Told,
) -> Result<Becomes, Refused> {
    let mut ctx = RequestCtx::new();
    ctx.policy = Some(policy.clone());
    ctx.site = policy.sites.get(captured.site).cloned();
    let site = ctx.site.clone().ok_or(Denial::HostMisdirected)?;
    let head = lane::read_head(captured.head, policy)?;
    ctx.body = head.body;
    if !head.http10 {
        let fields = head.fields.iter().copied();
        ctx.asks = upgrade::judge(head.method, head.body == Body::Empty, fields)?;
    }
    told.say("framing", framing_in_words(&head, ctx.asks));
    let info = connection(captured, &site);
    let certificate = certificate_of(&info, &site, now);
    ctx.certificate = certificate.as_ref().map(|c| (c.sha256().clone(), c.good().is_some()));
    let asked = Head { asks: ctx.asks, ..lane::asked(&head, &info, certificate.as_ref()) };
    ctx.hops = Hops::of(head.fields.iter().copied())?;
    tell_route(policy, &site, &asked, told);
    tell_certificate(&site, certificate.as_ref(), told);
    tell_token(&site, &head, told);

    let (route, verdict) = match captured.clear {
        None => decide::decide(policy, &site, &asked, now),
        Some(_) => {
            told.say("transport", "plain HTTP: no token is believed there, and none is asked for");
            clear::decide(policy, &site, &asked, now)
        }
    };
    let relax = |refused| observe::relax(policy, &site, route, &asked, refused, now);
    let verdict = verdict.or_else(relax);
    ctx.route = route;
    ctx.clear = captured.clear.is_some();
    if site.trusts_traces {
        ctx.trace = Trace::of(head.fields.iter().copied());
    }
    let body = Captive::of(head.body, captured.body);
    let pass = match verdict {
        Ok(pass) => pass,
        Err(refused) if bootstrap::may_be_one(&refused, &ctx) => {
            bootstrap_message(&ctx, (&head, body), refused, now, told)?
        }
        Err(refused) => {
            if refused.missed.is_some() {
                told.say("keys", "a running gateway would ask the issuer for newer keys first");
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
    let version = if head.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let body = match head.body {
        Body::Empty => "no body".to_owned(),
        Body::Length(length) => format!("a body of {length} bytes"),
        Body::Chunked => "a chunked body".to_owned(),
    };
    let asks = if asks == Asks::WebSocket { ", asks for a WebSocket" } else { "" };
    let fields = head.fields.len();
    format!("one reading: {} by {version}, {fields} fields, {body}{asks}", head.method)
}

/// Host, path, route and method, as far as they are good: the decision asks the same in this order.
fn tell_route<F>(policy: &Policy, site: &SitePolicy, head: &Head<'_, F>, told: &mut Told) {
    let asked = Asked { by_default: head.by_default, local: head.local };
    if host::judge(head.host, &site.hosts, asked).is_err() {
        return;
    }
    let named = String::from_utf8_lossy(head.host);
    told.say("host", format!("{named} is a host of {}", site.name));
    let Ok(path) = CanonicalPath::parse(head.target, policy.uri_bytes_max) else { return };
    told.say("path", format!("routes see {}", path.as_str()));
    let Some(route) = site.routes.covering(&path) else { return };
    told.say("route", format!("{} covers it ({}): {}", route.name, route.pattern, route.reason));
    if route.takes(head.method).is_err() {
        told.say("method", format!("{} is not among {}", head.method, route.allow()));
        return;
    }
    told.say("method", format!("{} is one of the route's", head.method));
    let purposes: Vec<_> = route.purposes.iter().map(|purpose| purpose.as_str()).collect();
    let purposes = match purposes.is_empty() {
        true => String::new(),
        false => format!(", by a token for {}", purposes.join(" or ")),
    };
    told.say("requires", format!("{}{purposes}", route.requirement.as_str()));
}

fn tell_certificate(
    site: &SitePolicy,
    certificate: Option<&ClientCertificate<'_>>,
    told: &mut Told,
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

fn tell_token(site: &SitePolicy, head: &RequestHead<'_>, told: &mut Told) {
    let Ok(Some(token)) = token::find(head.fields.iter().copied(), &site.token_sources) else {
        return;
    };
    let fingerprint = Fingerprint::of(token.as_str().as_bytes());
    told.say("token", format!("{fingerprint}, of {} bytes", token.as_str().len()));
    told.token = Some(token.as_str().to_owned());
}

fn tell_pass(pass: &Pass, told: &mut Told) {
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

fn tell_observed(refused: &Refused, told: &mut Told) {
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
    let rules = RequestRules::new(fields(), &site.secrets, pass.credential())
        .asking_as_ourselves(ctx.credential().is_some());
    let values = |name: &str| {
        let name = name.to_owned();
        fields().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, value)| value)
    };
    let gone = fields().filter(|(name, _)| !rules.passes(name, values(name)));
    let removed = gone.map(|(name, _)| name.to_owned()).collect();
    let host = fields().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value);
    let mut added = Vec::new();
    let Ok(()) = added::write(ctx, info, host, |name, value| {
        let shown = match name {
            "Authorization" => "(the account of backend_auth)".to_owned(),
            "traceparent" if ctx.trace.is_some() => "(the client's, carried on)".to_owned(),
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
