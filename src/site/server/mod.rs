//! The site server's door for gateways on other hosts: they join, follow the bundle, have
//! certificates issued, and pass on what clients ask the token service.
//!
//! Knows a gateway by the certificate that its connection proved, as the gateway in front says, and
//! by nothing that it sends.

mod certify;
mod forward;
mod publish;
mod refused;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use super::authority::Authority;
use super::known::missing;
use super::service::{Caller, Limits};
use super::store::{FoundIn, Gateway, GatewayIdentity, Lost, Published, Store};
use super::tokens::bundle_keys;
use crate::clock::{Clock, http_date};
use crate::token::{
    BUNDLE_BYTES_MAX, Bundle, BundleKeys, BundleTrust, TokenSigner, join_fingerprint,
};
pub use forward::FIELDS;
pub use publish::{BundleSources, Publisher};
use refused::Refused;
pub use refused::SiteDenial;

/// Where all of it is.
pub const PATH: &str = "/sitegate/site/v1";

/// The largest body: what a client may send to the token service.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a gateway waits for a bundle that it does not have: less than proxies and firewalls
/// keep a connection on which nothing comes.
const POLL: Duration = Duration::from_secs(45);
/// How long a gateway is known by one certificate, at most.
const IDENTITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How often what a gateway says of itself is written down though nothing has changed.
const SEEN_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How many gateways show a bundle at once, and how long one may take for it.
const SHOWING_MAX: usize = 2;
const SHOWN_IN: Duration = Duration::from_secs(60);
/// How often a stranger may try a join token, and a gateway ask for anything.
const JOINS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
const REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);

/// What a site server is made of.
pub struct SiteServer {
    /// The site's code.
    pub site: String,
    /// The state directory, with the keys that sign bundles.
    pub state: PathBuf,
    /// What the site knows.
    pub store: Store,
    /// What issues certificates, where the site does.
    pub authority: Option<Arc<Authority>>,
    /// The bundle in force.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The token service and the path below which it answers, where it runs.
    pub token_service: Option<(Router, String)>,
    /// The time.
    pub clock: Clock,
}

struct Serving {
    server: SiteServer,
    limits: Limits,
    /// Turns of gateways that show a bundle, which may be large.
    showing: Semaphore,
    /// What each gateway was last written down to have.
    seen: Mutex<HashMap<String, (u64, Timestamp)>>,
}

type Shared = State<Arc<Serving>>;

/// What a gateway that joins sends. Not for any log: it holds the secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// What it calls itself.
    pub name: String,
    /// The secret of its join token.
    pub secret: String,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The bundle in force.
    pub bundle: String,
}

/// What a gateway sends to have a certificate issued.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The site system that it is for.
    pub site_system: String,
    /// The names that it shall have.
    pub hosts: Vec<String>,
    /// The request (RFC 2986), PEM.
    pub request: String,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The chain, leaf first, PEM.
    pub chain: String,
    /// The site's roots, PEM.
    pub roots: String,
}

/// What a gateway sends that will show another certificate from now on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// The SHA-256 of the certificate, as RFC 8705 has it.
    pub thumbprint: String,
}

#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    held: u64,
}

impl SiteServer {
    /// The server as routes, all of them below [`PATH`].
    pub fn router(self) -> Router {
        let at = |name: &str| format!("{PATH}{name}");
        let serving = Arc::new(Serving {
            limits: Limits::new(JOINS_PER_MINUTE, REQUESTS_PER_MINUTE),
            showing: Semaphore::new(SHOWING_MAX),
            seen: Mutex::default(),
            server: self,
        });
        Router::new()
            .route(&at("/join"), post(join))
            .route(&at("/bundle"), get(bundle))
            .route(&at("/held"), post(held))
            .route(&at("/certificate"), post(certificate))
            .route(&at("/identity"), post(identity))
            .route(&at("/token-service/{endpoint}"), any(forward::forward))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(map_response_with_state(serving.clone(), dated))
            .with_state(serving)
    }
}

/// By this gateways compare their clocks with the server's. HTTP libraries write a time of their own,
/// which stands still while a clock that was set back has not caught up.
async fn dated(State(serving): Shared, mut response: Response) -> Response {
    let now = HeaderValue::from_str(&http_date(serving.server.clock.now()));
    if let Ok(now) = now {
        response.headers_mut().insert(DATE, now);
    }
    response
}

async fn join(State(serving): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller).map_err(|_| SiteDenial::Rate)?;
        serving.limits.register(&caller).map_err(|_| SiteDenial::Rate)?;
        let asked: JoinRequest = read(&body)?;
        let proven = caller.proven.as_deref().ok_or(SiteDenial::GatewayUnknown)?;
        let now = serving.server.clock.now();
        let identity = GatewayIdentity { thumbprint: proven, expires: now + IDENTITY_LIFE };
        let fingerprint = join_fingerprint(&asked.secret);
        let actor = format!("gateway {}", caller.shown());
        let store = &serving.server.store;
        let gateway = store.join(&fingerprint, &asked.name, identity, &actor, now).await?;
        let published = serving.server.published.borrow().clone();
        let text = match published {
            Some(published) => published.text.clone(),
            None => return Err(Refused::of(SiteDenial::Store, "there is no bundle yet")),
        };
        tracing::info!(target: "sitegate::site_server", gateway = gateway.name,
            client = caller.shown(), "a gateway joined the site");
        Ok(Json(JoinAnswer { bundle: text }).into_response())
    };
    told("join", &caller, outcome.await)
}

async fn bundle(
    State(serving): Shared,
    Query(Held { held }): Query<Held>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        serving.knows(held).await?;
        serving.has(&gateway, held).await?;
        let mut published = serving.server.published.clone();
        let newer = |published: &Option<Arc<Published>>| {
            published.as_ref().is_some_and(|published| published.version > held)
        };
        let wait = async { published.wait_for(newer).await.ok().and_then(|found| found.clone()) };
        let found = tokio::time::timeout(POLL, wait).await.ok().flatten();
        let Some(found) = found else {
            return Ok((StatusCode::NOT_MODIFIED, [(CACHE_CONTROL, "no-store")]).into_response());
        };
        // It may have been revoked while it waited.
        serving.gateway(&caller).await?;
        let kind = (CONTENT_TYPE, "application/jose");
        Ok(([kind, (CACHE_CONTROL, "no-store")], found.text.clone()).into_response())
    };
    told("bundle", &caller, outcome.await)
}

/// A gateway has a bundle that this server does not know of: the store is an older copy. What that
/// bundle blocks is blocked from now on, until somebody says that it need not be.
async fn held(State(serving): Shared, Query(asked): Query<Held>, request: Request) -> Response {
    let caller = Caller::of(request.headers());
    let outcome = async {
        // Before the body is read: strangers have none of that size taken.
        let gateway = serving.counted(&caller).await?;
        let server = &serving.server;
        if asked.held > 0 && server.store.remembers_bundle(asked.held).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let _one = serving.showing.try_acquire().map_err(|_| SiteDenial::Rate)?;
        let malformed = |why| Refused::of(SiteDenial::Malformed, why);
        let body = axum::body::to_bytes(request.into_body(), BUNDLE_BYTES_MAX);
        let body = tokio::time::timeout(SHOWN_IN, body).await.map_err(|_| SiteDenial::Rate)?;
        let body = body.map_err(|_| malformed("no bundle, or too large a one"))?;
        let text = std::str::from_utf8(&body).map_err(|_| malformed("no bundle"))?;
        let now = server.clock.now();
        let signers = bundle_keys(&server.state, now)
            .map_err(|_| Refused::of(SiteDenial::Store, "the keys of bundles cannot be read"))?;
        let jwks: Vec<_> = [Some(signers.current()), signers.next(), signers.old()]
            .into_iter()
            .flatten()
            .map(TokenSigner::jwk)
            .collect();
        let keys = BundleKeys::of(&jwks);
        let trust = BundleTrust { site: &server.site, keys: &keys, version: 0 };
        let bundle = Bundle::open(text, &trust)
            .map_err(|refusal| Refused::of(SiteDenial::BundleRefused, refusal.code()))?;
        if server.store.remembers_bundle(bundle.version).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let forgotten = missing(&bundle.blocks, &server.store.blocks().await?);
        let found = FoundIn::Bundle(bundle.version);
        let lost = Lost { blocks: &forgotten, gone: &bundle.gone };
        let added = server.store.recover(lost, found, now).await?;
        tracing::error!(target: "sitegate::site_server", gateway = gateway.name, added,
            version = bundle.version, "the store is an older copy: a gateway has a bundle that it \
             does not know of; what that blocks stays blocked until 'sitegate site restored --forget'");
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    told("held", &caller, outcome.await)
}

async fn certificate(State(serving): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        let asked: CertificateRequest = read(&body)?;
        let answer = certify::certify(&serving.server, &gateway, &asked).await?;
        Ok(Json(answer).into_response())
    };
    told("certificate", &caller, outcome.await)
}

async fn identity(State(serving): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        let asked: IdentityRequest = read(&body)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if asked.thumbprint.len() != 43 || !asked.thumbprint.bytes().all(plain) {
            return Err(Refused::of(SiteDenial::Malformed, "no thumbprint"));
        }
        let now = serving.server.clock.now();
        let thumbprint = &asked.thumbprint;
        let identity = GatewayIdentity { thumbprint, expires: now + IDENTITY_LIFE };
        serving.server.store.add_gateway_identity(&gateway.name, identity, now).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    told("identity", &caller, outcome.await)
}

impl Serving {
    /// The same as [`Serving::gateway`], counted for its address: strangers and gateways apart.
    async fn counted(&self, caller: &Caller) -> Result<Gateway, Refused> {
        self.limits.attempt(caller).map_err(|_| SiteDenial::Rate)?;
        let gateway = self.gateway(caller).await?;
        self.limits.request(caller).map_err(|_| SiteDenial::Rate)?;
        Ok(gateway)
    }

    /// The gateway that a connection proved to be.
    async fn gateway(&self, caller: &Caller) -> Result<Gateway, Refused> {
        let proven = caller.proven.as_deref().ok_or(SiteDenial::GatewayUnknown)?;
        let now = self.server.clock.now();
        let found = self.server.store.gateway_by_identity(proven, now).await?;
        let found = found.filter(|gateway| gateway.revoked.is_none());
        found.ok_or_else(|| SiteDenial::GatewayUnknown.into())
    }

    /// Refuse to hand a bundle to a gateway that has one which this server does not know of: what
    /// would come would forget what that one blocks.
    async fn knows(&self, held: u64) -> Result<(), Refused> {
        let in_force = self.server.published.borrow().as_ref().map(|published| published.version);
        if held == 0 || in_force == Some(held) || self.server.store.remembers_bundle(held).await? {
            return Ok(());
        }
        Err(SiteDenial::BundleUnknown.into())
    }

    /// Write down what a gateway has, if that is news.
    async fn has(&self, gateway: &Gateway, held: u64) -> Result<(), Refused> {
        let now = self.server.clock.now();
        let is_known = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let last = seen.insert(gateway.name.clone(), (held, now));
            let fresh = |at: Timestamp| now.duration_since(at) < SEEN_EVERY && now >= at;
            match last {
                Some((version, at)) if version == held && fresh(at) => {
                    seen.insert(gateway.name.clone(), (held, at));
                    true
                }
                _ => false,
            }
        };
        if !is_known {
            self.server.store.gateway_has(&gateway.name, held, now).await?;
        }
        Ok(())
    }
}

fn read<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|_| Refused::of(SiteDenial::Malformed, "the body is not the JSON that is read"))
}

fn told(what: &str, caller: &Caller, outcome: Result<Response, Refused>) -> Response {
    outcome.unwrap_or_else(|refused| {
        tracing::warn!(target: "sitegate::site_server", client = caller.shown(), what,
            code = refused.denial.code(), "refused: {} {}", refused.denial.title(), refused.detail);
        refused.into_response()
    })
}
