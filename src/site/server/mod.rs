//! The site server's API for gateways on other hosts: join, follow the bundle, have certificates
//! issued, and forward clients' token service requests.
//!
//! Identifies a gateway only by the client certificate that its connection proved, as reported by
//! the gateway in front.

mod bundles;
mod certify;
mod documents;
mod forward;
mod publish;
mod refused;
mod seen;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::DATE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::authority::Authority;
use super::service::{Caller, ServiceLimits};
use super::store::{GatewayIdentity, GatewayRecord, Store};
use crate::clock::{Clock, http_date};
use crate::rate::Rate;
use crate::token::join_fingerprint;
pub use documents::PublishedDocuments;
pub use forward::FIELDS;
pub use publish::{BundleHealth, BundlePublisher, BundleSources, PublishedReader};
use refused::ServerRefusal;
pub use refused::SiteDenial;
pub use seen::GatewaysSeen;

/// The path prefix of the API.
pub const PATH: &str = "/sitegate/site/v1";

/// The largest request body: the token service's limit for clients.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a gateway may use one certificate as its identity.
const IDENTITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// The rate limits for join attempts of one address, and for requests of gateways.
const JOINS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
const REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(5_999);

/// The parts of a site server.
pub struct SiteServer {
    /// The site's code.
    pub site: String,
    /// The state directory, with the keys that sign bundles.
    pub state: PathBuf,
    /// The site's store.
    pub store: Store,
    /// The authority, if the site issues certificates.
    pub authority: Option<Arc<Authority>>,
    /// The bundle in force.
    pub published: PublishedReader,
    /// The token service and its path prefix, if it runs.
    pub token_service: Option<(Router, String)>,
    /// The clock.
    pub clock: Clock,
}

struct SiteServing {
    server: SiteServer,
    limits: ServiceLimits,
    /// By the gateway's name: many gateways may share one address.
    requests: Rate<String>,
    seen: Arc<GatewaysSeen>,
    /// Permits for gateways that upload a bundle, which may be large.
    showing: Semaphore,
}

type ServerState = State<Arc<SiteServing>>;

/// The body of a join request. Never log it: it holds the secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The gateway's name.
    pub name: String,
    /// The secret of its join token.
    pub secret: String,
}

/// The response to a join request.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The bundle in force.
    pub bundle: String,
}

/// A gateway's request for a certificate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The site system that the certificate is for.
    pub site_system: String,
    /// The host names of the certificate.
    pub hosts: Vec<String>,
    /// The request (RFC 2986), PEM.
    pub request: String,
}

/// The response to a certificate request.
#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The chain, leaf first, PEM.
    pub chain: String,
    /// The site's roots, PEM.
    pub roots: String,
}

/// Announces the next certificate of a gateway's identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// The SHA-256 of the certificate, in the form of RFC 8705.
    pub thumbprint: String,
}

impl SiteServer {
    /// The API's routes, all below [`PATH`], and what records which bundle gateways have.
    pub fn router(self) -> (Router, Arc<GatewaysSeen>) {
        let at = |name: &str| format!("{PATH}{name}");
        let seen = Arc::new(GatewaysSeen::new(self.store.clone(), self.clock.clone()));
        let serving = Arc::new(SiteServing {
            limits: ServiceLimits::new(JOINS_PER_MINUTE, REQUESTS_PER_MINUTE),
            requests: Rate::per_minute(REQUESTS_PER_MINUTE),
            seen: seen.clone(),
            showing: Semaphore::new(bundles::SHOWING_MAX),
            server: self,
        });
        let router = Router::new()
            .route(&at("/join"), post(join))
            .route(&at("/bundle"), get(bundles::bundle))
            .route(&at("/held"), post(bundles::held))
            .route(&at("/certificate"), post(certificate))
            .route(&at("/identity"), post(identity))
            .route(&at("/token-service/{endpoint}"), any(forward::forward))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(map_response_with_state(serving.clone(), dated))
            .with_state(serving);
        (router, seen)
    }
}

/// Sets Date from this program's clock, because gateways compare their clocks with it. HTTP
/// libraries cache the date and keep it unchanged while a clock that was set back catches up.
async fn dated(State(serving): ServerState, mut response: Response) -> Response {
    let now = HeaderValue::from_str(&http_date(serving.server.clock.now()));
    if let Ok(now) = now {
        response.headers_mut().insert(DATE, now);
    }
    response
}

async fn join(State(serving): ServerState, headers: HeaderMap, body: Bytes) -> Response {
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
        let published = published
            .ok_or_else(|| ServerRefusal::of(SiteDenial::Store, "there is no bundle yet"))?;
        // The deltas after it follow with the first poll.
        let bundle = String::from_utf8_lossy(&published.base().1).into_owned();
        tracing::info!(target: "sitegate::site_server", gateway = gateway.name,
            client = caller.shown(), "a gateway joined the site");
        Ok(Json(JoinAnswer { bundle }).into_response())
    };
    told("join", &caller, outcome.await)
}

async fn certificate(State(serving): ServerState, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        let asked: CertificateRequest = read(&body)?;
        let answer = certify::certify(&serving.server, &gateway, &asked).await?;
        Ok(Json(answer).into_response())
    };
    told("certificate", &caller, outcome.await)
}

async fn identity(State(serving): ServerState, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        let asked: IdentityRequest = read(&body)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if asked.thumbprint.len() != 43 || !asked.thumbprint.bytes().all(plain) {
            return Err(ServerRefusal::of(SiteDenial::Malformed, "no thumbprint"));
        }
        let now = serving.server.clock.now();
        let thumbprint = &asked.thumbprint;
        let identity = GatewayIdentity { thumbprint, expires: now + IDENTITY_LIFE };
        serving.server.store.add_gateway_identity(&gateway.name, identity, now).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    told("identity", &caller, outcome.await)
}

impl SiteServing {
    /// Like [`SiteServing::gateway`], with rate limits: by address for those who may be strangers,
    /// and by name for gateways.
    async fn counted(&self, caller: &Caller) -> Result<GatewayRecord, ServerRefusal> {
        let proven = caller.proven.as_deref().unwrap_or_default();
        if !self.seen.knows(proven) {
            self.limits.attempt(caller).map_err(|_| SiteDenial::Rate)?;
        }
        let found = self.gateway(caller).await;
        self.seen.identified(proven, found.is_ok());
        let gateway = found?;
        self.requests.take(&gateway.name).map_err(|_| SiteDenial::Rate)?;
        Ok(gateway)
    }

    /// The gateway that the connection's client certificate identifies.
    async fn gateway(&self, caller: &Caller) -> Result<GatewayRecord, ServerRefusal> {
        let proven = caller.proven.as_deref().ok_or(SiteDenial::GatewayUnknown)?;
        let now = self.server.clock.now();
        let found = self.server.store.gateway_by_identity(proven, now).await?;
        let found = found.filter(|gateway| gateway.revoked.is_none());
        found.ok_or_else(|| SiteDenial::GatewayUnknown.into())
    }
}

fn read<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, ServerRefusal> {
    serde_json::from_slice(body).map_err(|_| {
        ServerRefusal::of(SiteDenial::Malformed, "the body is not the JSON that is read")
    })
}

fn told(what: &str, caller: &Caller, outcome: Result<Response, ServerRefusal>) -> Response {
    outcome.unwrap_or_else(|refused| {
        tracing::warn!(target: "sitegate::site_server", client = caller.shown(), what,
            code = refused.denial.code(), "refused: {} {}", refused.denial.title(), refused.detail);
        refused.into_response()
    })
}
