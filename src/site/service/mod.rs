//! The token service: an OAuth 2.0 authorization server for devices, behind the gateway.
//!
//! Combines the caller, the store and the site's signing key. A token is returned only after the
//! store has recorded it. Trusts the gateway's information about the client, and nothing else.

mod caller;
mod exchange;
mod form;
mod grant;
mod limits;
mod metadata;
mod proof;
mod refused;
mod registration;
mod revocation;
mod scope;
mod trust;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

pub(super) use self::caller::Caller;
use self::form::Form;
pub(super) use self::limits::ServiceLimits;
use self::refused::ServiceRefusal;
use super::store::{Store, StoreError};
use super::tokens::SiteTokens;
use crate::clock::Clock;
use crate::grant_denial::GrantDenial;
use crate::live::Live;
use crate::local_service::LocalListener;
use crate::token::{Blocklist, Trusted};

/// The largest body, in bytes: a registration with an RSA key of 8192 bits and a token.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest number of concurrent requests; each holds a signature or a transaction.
const AT_ONCE_MAX: usize = 64;

/// The parameters of a token service.
#[derive(Clone, Debug)]
pub struct ServiceParams {
    /// Its issuer: an https URL that ends in its path (RFC 8414 §2).
    pub issuer: String,
    /// The path under which the gateway reaches it.
    pub path: String,
    /// The current origins of the site's systems, `https://` and a host each: a token may be
    /// limited to one of them, and the service itself may be addressed by any of them.
    pub origins: Live<BTreeSet<String>>,
    /// The audience of tokens that are not limited to one site system.
    pub audience: String,
    /// Whether a client with an accepted credential is approved at once.
    pub approval_automatic: bool,
    /// Whether a client may register with a device id that the site does not know.
    pub claims_accepted: bool,
    /// How long after its last token a client may return, in seconds.
    pub return_grace_s: i64,
    /// Registrations per minute from one address.
    pub registrations_per_minute: NonZeroU32,
    /// Other requests per minute from one address.
    pub requests_per_minute: NonZeroU32,
}

/// Called for every response, for metrics.
pub type OnAnswer = Arc<dyn Fn(ServiceEndpoint, Result<(), GrantDenial>) + Send + Sync>;

/// The outcome of a rival claim: a key that claims, without proof, a device that has other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RivalClaim {
    /// It waits for approval.
    Waits,
    /// Too many keys wait already.
    Refused,
}

impl RivalClaim {
    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            RivalClaim::Waits => "waits",
            RivalClaim::Refused => "refused",
        }
    }
}

/// Called for every rival claim, for metrics.
pub type OnRival = Arc<dyn Fn(RivalClaim) + Send + Sync>;

/// The endpoints that change state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceEndpoint {
    /// RFC 7591.
    Registration,
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7009.
    Revocation,
}

impl ServiceEndpoint {
    /// All, in the order of the documentation.
    pub const ALL: [ServiceEndpoint; 3] =
        [ServiceEndpoint::Registration, ServiceEndpoint::Token, ServiceEndpoint::Revocation];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            ServiceEndpoint::Registration => "registration",
            ServiceEndpoint::Token => "token",
            ServiceEndpoint::Revocation => "revocation",
        }
    }
}

/// The parts of a token service.
pub struct TokenService {
    /// Its parameters.
    pub params: ServiceParams,
    /// The site's store.
    pub store: Store,
    /// The signer of the site's tokens.
    pub tokens: Arc<SiteTokens>,
    /// The issuers of accepted tokens, the same as the gateway's.
    pub trusted: Live<Vec<Trusted>>,
    /// The configured name of the site's own issuer.
    pub own_issuer: Arc<str>,
    /// The blocklist, from all sources.
    pub blocklist: Live<Blocklist>,
    /// The clock.
    pub clock: Clock,
    /// Counts responses.
    pub on_answer: OnAnswer,
    /// Counts rival claims.
    pub on_rival: OnRival,
}

struct TokenServing {
    service: TokenService,
    limits: ServiceLimits,
    turns: Semaphore,
}

type ServiceState = State<Arc<TokenServing>>;

impl TokenService {
    /// The service's routes, all below its path except the well-known one.
    pub fn router(self) -> Router {
        let path = self.params.path.clone();
        let below = |name: &str| format!("{path}{name}");
        let serving = Arc::new(TokenServing {
            limits: ServiceLimits::new(
                self.params.registrations_per_minute,
                self.params.requests_per_minute,
            ),
            turns: Semaphore::new(AT_ONCE_MAX),
            service: self,
        });
        Router::new()
            .route(&format!("{WELL_KNOWN}{path}"), get(metadata::metadata))
            .route(&below(WELL_KNOWN), get(metadata::metadata))
            .route(&below("/jwks"), get(metadata::jwks))
            .route(&below("/register"), post(register))
            .route(&below("/token"), post(token))
            .route(&below("/revoke"), post(revoke))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(serving)
    }
}

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

/// The accepted `aud` values of assertions: issuer and token endpoint, for each origin of the
/// service. RFC 7523 §3 allows either, and a client uses the nearest site system.
fn audiences(params: &ServiceParams) -> Vec<String> {
    let own = params.issuer.strip_suffix(&params.path);
    let known = params.origins.load();
    let origins: BTreeSet<&str> = known.iter().map(String::as_str).chain(own).collect();
    let at = |origin: &&str| {
        let base = format!("{origin}{}", params.path);
        [format!("{base}/token"), base]
    };
    let configured = std::iter::once(params.issuer.clone());
    configured.chain(origins.iter().flat_map(at)).collect()
}

/// Serves the requests of the gateway in front until `stop` is set.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: LocalListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stopped| *stopped).await;
        })
        .await
}

async fn register(serving: ServiceState, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller)?;
        let _turn = serving.turn()?;
        registration::register(&serving, &caller, &body).await
    };
    serving.answer(ServiceEndpoint::Registration, &caller, outcome.await)
}

async fn token(serving: ServiceState, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller)?;
        let form = Form::parse(&headers, &body)?;
        let _turn = serving.turn()?;
        match form.get("grant_type") {
            Some("client_credentials") => grant::client_credentials(&serving, &caller, &form).await,
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                exchange::exchange(&serving, &caller, &form).await
            }
            Some(_) => Err(GrantDenial::GrantType.into()),
            None => Err(ServiceRefusal::of(GrantDenial::RequestMalformed, "grant_type is missing")),
        }
    };
    serving.answer(ServiceEndpoint::Token, &caller, outcome.await)
}

async fn revoke(serving: ServiceState, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller)?;
        let form = Form::parse(&headers, &body)?;
        let _turn = serving.turn()?;
        revocation::revoke(&serving, &caller, &form).await
    };
    serving.answer(ServiceEndpoint::Revocation, &caller, outcome.await)
}

/// A successful response, and its log text.
struct Granted {
    status: StatusCode,
    body: Value,
    /// The log text: subject and content.
    told: String,
}

impl TokenServing {
    /// The accepted `aud` values of an assertion.
    fn audiences(&self) -> Vec<String> {
        audiences(&self.service.params)
    }

    /// A permit, without waiting: a queue would fill with clients that have given up.
    fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ServiceRefusal> {
        self.turns
            .try_acquire()
            .map_err(|_| ServiceRefusal::of(GrantDenial::StoreAway, "too many requests at once"))
    }

    fn answer(
        &self,
        endpoint: ServiceEndpoint,
        caller: &Caller,
        outcome: Result<Granted, ServiceRefusal>,
    ) -> Response {
        let client = caller.shown();
        let outcome = outcome.map_err(|refused| {
            if refused.denial.proves_nothing() {
                self.limits.failed(caller, refused)
            } else {
                refused
            }
        });
        (self.service.on_answer)(endpoint, outcome.as_ref().map(drop).map_err(|r| r.denial));
        match outcome {
            Ok(Granted { status, body, told }) => {
                tracing::info!(target: "sitegate::token_service", client,
                    endpoint = endpoint.as_str(), "{told}");
                let mut response = (status, Json(body)).into_response();
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, no_store);
                response
            }
            Err(refused) => {
                let (about, code) =
                    (refused.about.as_deref().unwrap_or("-"), refused.denial.code());
                let (endpoint, title) = (endpoint.as_str(), refused.denial.title());
                let line = format!("refused: {title} {}", refused.detail);
                // An outage of the store has its own log line, and refuses every client.
                match refused.denial {
                    GrantDenial::StoreAway => tracing::debug!(target: "sitegate::token_service",
                        client, about, endpoint, code, "{line}"),
                    _ => tracing::warn!(target: "sitegate::token_service",
                        client, about, endpoint, code, "{line}"),
                }
                refused.answered(caller)
            }
        }
    }
}

/// Database errors go to the site server's log, not to clients. A fault of the store itself is
/// logged once, when it begins.
fn away(error: StoreError) -> ServiceRefusal {
    let (fault, cause) = (error.fault(), error.fault().code());
    if fault.is_of_the_store() {
        tracing::debug!(target: "sitegate::token_service", cause, "{error}");
    } else {
        tracing::error!(target: "sitegate::token_service", cause, "{}", error.advice());
    }
    GrantDenial::StoreAway.into()
}
