//! How gateways follow the bundle: a poll waits for what comes after the version that they have.
//!
//! A gateway that names the link of its chain gets deltas, or a whole bundle to begin with. One that
//! names none is of an earlier version of sitegate, and always gets a whole bundle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::documents::PublishedDocuments;
use super::refused::{ServerRefusal, SiteDenial};
use super::{ServerState, SiteServing, told};
use crate::site::known_blocks::missing;
use crate::site::service::Caller;
use crate::site::store::{FoundIn, Lost};
use crate::site::tokens::bundle_keys;
use crate::token::{BUNDLE_BYTES_MAX, BundleKeys, BundleTrust, OpenedBundle, TokenSigner};

/// How long a poll waits for a newer bundle: less than the idle timeout of proxies and firewalls.
const POLL: Duration = Duration::from_secs(45);
/// The number of gateways that upload a bundle at once, and the timeout of one upload.
pub(super) const SHOWING_MAX: usize = 2;
const SHOWN_IN: Duration = Duration::from_secs(60);

/// What a gateway has.
#[derive(Deserialize)]
pub(super) struct HeldQuery {
    /// The version of its bundle; 0 for none.
    #[serde(default)]
    held: u64,
    /// The link of the chain there: a gateway that reads deltas.
    chain: Option<String>,
    /// Whether it asks for a whole bundle at once, because a delta did not fit.
    #[serde(default)]
    whole: bool,
}

pub(super) async fn bundle(
    State(serving): ServerState,
    Query(asked): Query<HeldQuery>,
    headers: HeaderMap,
) -> Response {
    let caller = Caller::of(&headers);
    let outcome = async {
        let gateway = serving.counted(&caller).await?;
        serving.knows(&asked).await?;
        serving.seen.has(&gateway.name, asked.held);
        let mut published = serving.server.published.clone();
        let newer = |published: &Option<Arc<PublishedDocuments>>| {
            published.as_ref().is_some_and(|p| p.head.version > asked.held || asked.whole)
        };
        let wait = async { published.wait_for(newer).await.ok().and_then(|found| found.clone()) };
        let found = tokio::time::timeout(POLL, wait).await.ok().flatten();
        let Some(found) = found else {
            return Ok((StatusCode::NOT_MODIFIED, [(CACHE_CONTROL, "no-store")]).into_response());
        };
        // The gateway may have been revoked while it waited.
        serving.gateway(&caller).await?;
        serving.answer(&found, &asked, &headers).await
    };
    told("bundle", &caller, outcome.await)
}

/// A gateway uploads a bundle that this server does not know: the store is an older copy. The
/// blocks of that bundle apply from now on, until an operator lifts them.
pub(super) async fn held(
    State(serving): ServerState,
    Query(asked): Query<HeldQuery>,
    request: Request,
) -> Response {
    let caller = Caller::of(request.headers());
    let outcome = async {
        // Before the body is read: unauthenticated clients must not upload a body of that size.
        let gateway = serving.counted(&caller).await?;
        let server = &serving.server;
        if asked.held > 0 && serving.remembers(&asked).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let _one = serving.showing.try_acquire().map_err(|_| SiteDenial::Rate)?;
        let malformed = |why| ServerRefusal::of(SiteDenial::Malformed, why);
        let body = axum::body::to_bytes(request.into_body(), BUNDLE_BYTES_MAX);
        let body = tokio::time::timeout(SHOWN_IN, body).await.map_err(|_| SiteDenial::Rate)?;
        let body = body.map_err(|_| malformed("no bundle, or too large a one"))?;
        let text = std::str::from_utf8(&body).map_err(|_| malformed("no bundle"))?;
        let now = server.clock.now();
        let signers = bundle_keys(&server.state, now).map_err(|_| {
            ServerRefusal::of(SiteDenial::Store, "the keys of bundles cannot be read")
        })?;
        let jwks: Vec<_> = [Some(signers.current()), signers.next(), signers.old()]
            .into_iter()
            .flatten()
            .map(TokenSigner::jwk)
            .collect();
        let keys = BundleKeys::of(&jwks);
        let trust = BundleTrust { site: &server.site, keys: &keys, version: 0 };
        let OpenedBundle { head, blocks } = OpenedBundle::open(text, &trust)
            .map_err(|refusal| ServerRefusal::of(SiteDenial::BundleRefused, refusal.code()))?;
        let shown = HeldQuery { held: head.version, chain: Some(head.chain), whole: false };
        if serving.remembers(&shown).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let forgotten = missing(&blocks, &server.store.current_blocks().await?);
        let found = FoundIn::Bundle(head.version);
        let lost = Lost { blocks: &forgotten, gone: &head.settings.gone };
        let added = server.store.recover(lost, found, now).await?;
        tracing::error!(target: "sitegate::site_server", gateway = gateway.name, added,
            version = head.version, "the store is an older copy: a gateway has a newer bundle; \
                                     the blocks in that bundle stay in force until 'sitegate \
                                     site restored --forget'");
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    told("held", &caller, outcome.await)
}

impl SiteServing {
    /// Refuses a bundle to a gateway that has one unknown to this server: the response would lack
    /// the blocks of that bundle.
    async fn knows(&self, asked: &HeldQuery) -> Result<(), ServerRefusal> {
        if asked.held == 0 || self.remembers(asked).await? {
            return Ok(());
        }
        Err(SiteDenial::BundleUnknown.into())
    }

    /// Whether the store knows the blocks of a gateway's bundle.
    async fn remembers(&self, asked: &HeldQuery) -> Result<bool, ServerRefusal> {
        let (is_fork, is_in_force) = {
            let published = self.server.published.borrow();
            let chain = asked.chain.as_deref().filter(|chain| !chain.is_empty());
            let fork = published.as_ref().zip(chain).map(|(p, chain)| p.is_fork(asked.held, chain));
            let in_force = published.as_ref().map(|published| published.head.version);
            (fork == Some(true), in_force == Some(asked.held))
        };
        let store = &self.server.store;
        Ok(if is_fork {
            // The same version of two copies of the store.
            store.has_learnt_bundle(asked.held).await?
        } else {
            is_in_force || store.remembers_bundle(asked.held).await?
        })
    }

    /// The deltas that a gateway lacks, or a whole bundle.
    async fn answer(
        &self,
        found: &PublishedDocuments,
        asked: &HeldQuery,
        headers: &HeaderMap,
    ) -> Result<Response, ServerRefusal> {
        let chain = asked.chain.as_deref().filter(|_| !asked.whole);
        if let Some(deltas) = chain.and_then(|chain| found.since(asked.held, chain)) {
            return Ok(body(lines(deltas)));
        }
        if asked.chain.is_some() {
            let (version, text) = found.base();
            if asked.whole || version <= asked.held {
                return Ok(body(lines(found.texts())));
            }
            // The deltas after it come with the next poll.
            let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
            if accepted != Some("gzip") {
                return Ok(body(text.into()));
            }
            let compressed = (CONTENT_ENCODING, "gzip");
            return Ok(([compressed], body(found.base_gzip().into())).into_response());
        }
        let server = &self.server;
        let whole = found.whole(&server.state, server.clock.now()).await;
        let cannot = || ServerRefusal::of(SiteDenial::Store, "the bundle cannot be made now");
        Ok(body(whole.ok_or_else(cannot)?.into()))
    }
}

/// Documents, one in each line. Not copied: a whole bundle may be long, and many gateways ask.
fn lines(texts: Vec<Bytes>) -> Body {
    let ended = |text| [Ok::<_, Infallible>(text), Ok(Bytes::from_static(b"\n"))];
    Body::from_stream(futures_util::stream::iter(texts.into_iter().flat_map(ended)))
}

fn body(documents: Body) -> Response {
    let kind = (CONTENT_TYPE, "application/jose");
    ([kind, (CACHE_CONTROL, "no-store")], documents).into_response()
}
