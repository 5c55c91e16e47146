//! The token service: an OAuth 2.0 authorization server for devices, behind the gateway.
//!
//! Joins who asks, what the store knows and what the site's key signs. Nothing is handed out before
//! the store has taken it; what the gateway in front says of the client is believed, and nothing
//! else is.

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
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

pub(super) use self::caller::Caller;
use self::form::Form;
pub(super) use self::limits::Limits;
use self::refused::Refused;
use super::store::{Store, StoreError};
use super::tokens::SiteTokens;
use crate::clock::Clock;
use crate::grant_denial::GrantDenial;
use crate::live::Live;
use crate::token::{Blocklist, Trusted};

/// The largest body, in bytes: a registration with an RSA key of 8192 bits and a token.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests at once; each holds a signature or a transaction.
const AT_ONCE_MAX: usize = 64;

/// The terms of a token service.
#[derive(Clone, Debug)]
pub struct ServiceParams {
    /// Its issuer: an https URL that ends in its path (RFC 8414 §2).
    pub issuer: String,
    /// The path under which the gateway reaches it.
    pub path: String,
    /// `https://` and a host for each site system of the site, as they are known at present: what a
    /// token may be limited to, and where the service itself may be addressed.
    pub origins: Live<BTreeSet<String>>,
    /// The audience of tokens that are not limited to one site system.
    pub audience: String,
    /// Whether a client that proves itself is let in at once.
    pub approval_automatic: bool,
    /// Whether a client may bring a device id that the site does not know.
    pub claims_accepted: bool,
    /// How long after its last token a client may come back, in seconds.
    pub return_grace_s: i64,
    /// Registrations from one address in a minute.
    pub registrations_per_minute: NonZeroU32,
    /// Other requests from one address in a minute.
    pub requests_per_minute: NonZeroU32,
}

/// Told of every answer, for counting.
pub type OnAnswer = Arc<dyn Fn(Endpoint, Result<(), GrantDenial>) + Send + Sync>;

/// What became of a key that claims to be a device's which has other keys, without proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RivalClaim {
    /// It waits for approval.
    Waits,
    /// Too many wait already.
    Refused,
}

impl RivalClaim {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            RivalClaim::Waits => "waits",
            RivalClaim::Refused => "refused",
        }
    }
}

/// Told of every rival claim, for counting.
pub type OnRival = Arc<dyn Fn(RivalClaim) + Send + Sync>;

/// The endpoints that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// RFC 7591.
    Registration,
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7009.
    Revocation,
}

impl Endpoint {
    /// All, in the order of the documentation.
    pub const ALL: [Endpoint; 3] = [Endpoint::Registration, Endpoint::Token, Endpoint::Revocation];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Endpoint::Registration => "registration",
            Endpoint::Token => "token",
            Endpoint::Revocation => "revocation",
        }
    }
}

/// What a token service is made of.
pub struct TokenService {
    /// Its terms.
    pub params: ServiceParams,
    /// What the site knows.
    pub store: Store,
    /// What signs.
    pub tokens: Arc<SiteTokens>,
    /// Whose tokens are accepted, as by the gateway.
    pub trusted: Live<Vec<Trusted>>,
    /// The configured name of the site's own issuer.
    pub own_issuer: Arc<str>,
    /// What is blocked, by whomever.
    pub blocklist: Live<Blocklist>,
    /// The time.
    pub clock: Clock,
    /// Who counts.
    pub on_answer: OnAnswer,
    /// Who counts rival claims.
    pub on_rival: OnRival,
}

struct Serving {
    service: TokenService,
    limits: Limits,
    turns: Semaphore,
}

type Shared = State<Arc<Serving>>;

impl TokenService {
    /// The service as routes, all of them below its path but for the well-known one.
    pub fn router(self) -> Router {
        let path = self.params.path.clone();
        let below = |name: &str| format!("{path}{name}");
        let serving = Arc::new(Serving {
            limits: Limits::new(
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

/// The issuer and the token endpoint, by every name that the service has: RFC 7523 §3 takes either,
/// and a client goes to the site system that is next to it.
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

/// Open the socket on which the gateway reaches the service, for this user alone. What a process
/// that was killed has left behind is removed.
///
/// # Errors
/// What the system answers.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answer on a unix socket until told to stop.
///
/// # Errors
/// If the socket is lost.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stopped| *stopped).await;
        })
        .await
}

async fn register(serving: Shared, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller)?;
        let _turn = serving.turn()?;
        registration::register(&serving, &caller, &body).await
    };
    serving.answer(Endpoint::Registration, &caller, outcome.await)
}

async fn token(serving: Shared, headers: HeaderMap, body: Bytes) -> Response {
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
            None => Err(Refused::of(GrantDenial::RequestMalformed, "grant_type is missing")),
        }
    };
    serving.answer(Endpoint::Token, &caller, outcome.await)
}

async fn revoke(serving: Shared, headers: HeaderMap, body: Bytes) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        serving.limits.attempt(&caller)?;
        let form = Form::parse(&headers, &body)?;
        let _turn = serving.turn()?;
        revocation::revoke(&serving, &caller, &form).await
    };
    serving.answer(Endpoint::Revocation, &caller, outcome.await)
}

/// An answer that is good: what the client gets, and what the log says.
struct Granted {
    status: StatusCode,
    body: Value,
    /// Whom and what it is about, for the log.
    told: String,
}

impl Serving {
    /// What an assertion's `aud` may be.
    fn audiences(&self) -> Vec<String> {
        audiences(&self.service.params)
    }

    /// A turn, or none: a queue of clients that have given up helps nobody.
    fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
        self.turns
            .try_acquire()
            .map_err(|_| Refused::of(GrantDenial::StoreAway, "too many requests at once"))
    }

    fn answer(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        outcome: Result<Granted, Refused>,
    ) -> Response {
        let client = caller.shown();
        let outcome = outcome.map_err(|refused| match refused.denial.proves_nothing() {
            true => self.limits.failed(caller, refused),
            false => refused,
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
                // An outage of the store has its own line, and refuses every client there is.
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

/// What the database answers is for the log of the site server, not for strangers. What ails the store
/// itself is told there once, when it begins.
fn away(error: StoreError) -> Refused {
    let (fault, cause) = (error.fault(), error.fault().code());
    match fault.is_of_the_store() {
        true => tracing::debug!(target: "sitegate::token_service", cause, "{error}"),
        false => tracing::error!(target: "sitegate::token_service", cause, "{}", error.advice()),
    }
    GrantDenial::StoreAway.into()
}
