//! The site's own services: its store, the blocks in it, and its token service, on a separate
//! thread: a certificate swap must not wait for signatures and transactions.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::StartError;
use super::blocklist::Joined;
use super::site_health::{self, SiteHealth};
use super::store_place::store_place;
use crate::clock::Clock;
use crate::config::{self, Config, KeySource};
use crate::live::{Live, Publisher as Publishing, live};
use crate::local_service::{LocalListener, LocalListeners};
use crate::metrics::Metrics;
use crate::route::{Destination, PUBLICATION};
use crate::site::server::{
    BundleHealth, BundlePublisher, BundleSources, PublishedReader, SiteServer,
};
use crate::site::store::{Retention, Store, StoreError, StoreHealth, StorePlace};
use crate::site::{
    Authority, InForce, ServiceParams, SharedKeys, SiteBlocks, SiteTokens, TokenService,
    publication, serve,
};
use crate::thread_guard::ThreadGuard;
use crate::token::{BUNDLE_BYTES_MAX, Blocklist, Trusted};

/// How often expired entries are removed from the store.
const SWEEP: Duration = Duration::from_secs(3_600);

/// The interval between retries to write the store.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// The lifetime of a bundle, in seconds: a weekend without the site server, and a day more.
const BUNDLE_LIFE_S: i64 = 4 * 86_400;

/// The parameters of `start`.
pub(super) struct SiteParts {
    pub tokens: Option<Arc<SiteTokens>>,
    pub authority: Option<Arc<Authority>>,
    /// The site's keys, if several site servers share them.
    pub shared_keys: Option<SharedKeys>,
    pub trusted: Live<Vec<Trusted>>,
    pub joined: Joined,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Turns true once everything has drained: tokens are issued until then.
    pub ended: watch::Receiver<bool>,
    /// Reports a panic of one of its tasks.
    pub guard: ThreadGuard,
}

/// Starts the site's services, and returns the current blocks.
///
/// # Errors
/// If there is a store and it cannot be read: without it no one knows who is blocked. If none has
/// ever existed and none can be created, no one is blocked.
pub(super) fn start(
    config: &Config,
    listeners: LocalListeners,
    parts: SiteParts,
) -> Result<Begun, StartError> {
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    let config = config.clone();
    let guard = parts.guard.clone();
    std::thread::Builder::new().name("site".to_owned()).spawn(move || {
        guard.run("site", || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(told.send(Err(error.into()))),
            };
            runtime.block_on(async move {
                let mut ended = parts.ended.clone();
                match open(&config, listeners, parts).await {
                    Ok((store, mut tasks, begun)) => {
                        let _ = told.send(Ok(begun));
                        until(&mut ended, &mut tasks).await;
                        let rest = async { while tasks.join_next().await.is_some() {} };
                        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
                        if let Some(store) = store {
                            store.close().await;
                        }
                    }
                    Err(error) => drop(told.send(Err(error))),
                }
            });
            runtime.shutdown_background();
        })
    })?;
    tell.recv().unwrap_or_else(|_| Err(StartError::Defect("the site's thread ended".to_owned())))
}

/// Waits for the end. A task that panics takes down the thread, and so the process, because its
/// work is no longer done.
async fn until(ended: &mut watch::Receiver<bool>, tasks: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            joined = tasks.join_next(), if !tasks.is_empty() => {
                let panicked = |error: tokio::task::JoinError| error.try_into_panic().ok();
                if let Some(panic) = joined.and_then(Result::err).and_then(panicked) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// The running site services.
pub(super) struct Begun {
    /// The blocks in its store.
    pub blocks: Live<Blocklist>,
    /// Its health.
    pub health: SiteHealth,
}

type Opened = (Option<Store>, JoinSet<()>, Begun);

async fn open(
    config: &Config,
    listeners: LocalListeners,
    mut parts: SiteParts,
) -> Result<Opened, StartError> {
    let mut tasks = JoinSet::new();
    publish(config, &parts, listeners.publication, &mut tasks);
    let now = parts.clock.now();
    let (place, path, is_there) = store_place(config)?;
    let unusable = |error: &StoreError| StartError::File {
        path: path.clone(),
        cause: std::io::Error::other(error.advice()),
    };
    let store = match Store::open(&place, now).await {
        Ok(store) => store,
        Err(error) if is_there && error.is_of_the_disk() => match &place {
            // On a disk without space no device is registered and no new one is blocked, but
            // existing blocks stay in force.
            StorePlace::Sqlite(file) => {
                let store = Store::open_to_read(file).await.map_err(|_| unusable(&error))?;
                store.found_amiss(&error);
                tasks.spawn(write_again(
                    store.clone(),
                    file.clone(),
                    parts.clock.clone(),
                    parts.ended.clone(),
                ));
                store
            }
            StorePlace::Postgres(_) => return Err(unusable(&error)),
        },
        Err(error) if is_there || !error.is_of_the_disk() => return Err(unusable(&error)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error,
                "the site has no store; no client can register until the next start");
            parts.metrics.store.works(false);
            let store = Some(live(StoreHealth::without(&error, Instant::now())).1);
            let health = SiteHealth { store, bundles: None };
            let begun = Begun { blocks: live(Blocklist::default()).1, health };
            return Ok((None, tasks, begun));
        }
    };
    store.on_event(site_health::tell(&parts.metrics));
    tasks.spawn(store.clone().keep_watch(parts.ended.clone()));
    let (joined, metrics) = (parts.joined.clone(), parts.metrics.clone());
    let on_list = Arc::new(move |list: &Blocklist, in_force: InForce| {
        metrics.site.blocks(list.len(), in_force.version, in_force.recovered);
        joined.again();
    });
    let (follower, blocks) =
        SiteBlocks::start(store.clone(), &config.site.state, parts.clock.clone(), on_list)
            .await
            .map_err(|error| unusable(&error))?;
    tasks.spawn(follower.run(parts.ended.clone()));
    if let Some(shared) = parts.shared_keys.take() {
        let (store, follower) = (store.clone(), store.follow());
        tasks.spawn(shared.run(store, follower, parts.clock.clone(), parts.ended.clone()));
    }
    let kept = Retention {
        tokens: config.token_service.tokens_kept,
        audit: config.token_service.audit_kept,
    };
    tasks.spawn(sweep(store.clone(), kept, parts.clock.clone(), parts.ended.clone()));
    let offers = |system: &config::SiteSystem| system.token_service || system.is_site_server();
    let mut health = SiteHealth { store: Some(store.health()), bundles: None };
    if config.site_systems.iter().any(offers) {
        match &parts.tokens {
            Some(tokens) => {
                health.bundles = offer(
                    config,
                    &parts,
                    tokens.clone(),
                    &store,
                    listeners.token_service,
                    listeners.site_server,
                    &mut tasks,
                )
                .await;
            }
            None => tracing::error!("the token service does not run: the site has no token key"),
        }
    }
    Ok((Some(store), tasks, Begun { blocks, health }))
}

/// Serves the CA's publications, if a site system routes to them or may do so after a reload. A
/// failure is no reason to refuse clients.
fn publish(config: &Config, parts: &SiteParts, listener: LocalListener, tasks: &mut JoinSet<()>) {
    let published = |system: &config::SiteSystem| {
        system.routes.iter().any(|route| route.destination == Destination::Publication)
    };
    let is_meant = config.site_systems.iter().any(published);
    if parts.authority.is_none() && !is_meant {
        return;
    }
    let router = publication(&config.site.state, PUBLICATION);
    answer(listener, router, parts.ended.clone(), tasks);
}

async fn offer(
    config: &Config,
    parts: &SiteParts,
    tokens: Arc<SiteTokens>,
    store: &Store,
    token_service: LocalListener,
    site_server: LocalListener,
    tasks: &mut JoinSet<()>,
) -> Option<Live<BundleHealth>> {
    let own_origins = config.site_systems.iter().filter(|s| !s.is_site_server());
    let own_origins: BTreeSet<String> = own_origins.flat_map(|s| s.origins()).collect();
    let (origins, origins_read) = live(own_origins.clone());
    let (metrics, rivals) = (parts.metrics.clone(), parts.metrics.clone());
    let own = config.issuers.iter().find(|issuer| issuer.keys == KeySource::Site);
    let service = TokenService {
        params: params(config, origins_read),
        store: store.clone(),
        tokens: tokens.clone(),
        trusted: parts.trusted.clone(),
        own_issuer: own.map_or_else(|| "site".into(), |issuer| issuer.policy.name.clone()),
        blocklist: parts.joined.list(),
        clock: parts.clock.clone(),
        on_answer: Arc::new(move |endpoint, outcome| {
            metrics.site.answered(endpoint.as_str(), outcome);
        }),
        on_rival: Arc::new(move |claim| rivals.site.rival_claimed(claim.as_str())),
    };
    let router = service.router();
    tracing::info!(issuer = config.site.token_issuer, "the token service runs");
    if config.site_systems.iter().any(|system| system.token_service) {
        answer(token_service, router.clone(), parts.ended.clone(), tasks);
    }
    let servers: Vec<String> = config
        .site_systems
        .iter()
        .filter(|system| system.is_site_server())
        .flat_map(|system| system.origins())
        .collect();
    if servers.is_empty() {
        return None;
    }
    let sources = BundleSources {
        site: config.site.code.clone(),
        servers,
        origins: own_origins.into_iter().collect(),
        tokens,
        authority: parts.authority.clone(),
        state: config.site.state.clone(),
        life_s: BUNDLE_LIFE_S,
        bytes_max: BUNDLE_BYTES_MAX,
    };
    let (publisher, published) =
        BundlePublisher::start(store.clone(), sources, parts.clock.clone()).await;
    let bundles = publisher.health();
    tasks.spawn(publisher.run(parts.ended.clone()));
    tasks.spawn(site_health::count_bundles(
        bundles.clone(),
        parts.metrics.clone(),
        parts.ended.clone(),
    ));
    tasks.spawn(keep_origins(published.clone(), origins, parts.ended.clone()));
    let server = SiteServer {
        site: config.site.code.clone(),
        state: config.site.state.clone(),
        store: store.clone(),
        authority: parts.authority.clone(),
        published,
        token_service: Some((router, config.token_service.path.clone())),
        clock: parts.clock.clone(),
    };
    let (router, seen) = server.router();
    let ended = parts.ended.clone();
    tasks.spawn(async move { seen.run(ended).await });
    answer(site_server, router, parts.ended.clone(), tasks);
    Some(bundles)
}

/// Serves requests from the gateway in front.
pub(super) fn answer(
    listener: LocalListener,
    router: axum::Router,
    ended: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(async move {
        if let Err(error) = serve(listener, router, ended).await {
            tracing::error!(%error, "a service of this process ended");
        }
    });
}

/// The permitted audiences of tokens follow the bundle: gateways come and go.
async fn keep_origins(
    mut published: PublishedReader,
    origins: Publishing<BTreeSet<String>>,
    mut ended: watch::Receiver<bool>,
) {
    while !*ended.borrow() {
        let documents = published.borrow_and_update().clone();
        if let Some(documents) = documents {
            origins.publish(documents.head.settings.origins.iter().cloned().collect());
        }
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}

fn params(config: &Config, origins: Live<BTreeSet<String>>) -> ServiceParams {
    let service = &config.token_service;
    let own = config.issuers.iter().find(|issuer| issuer.keys == KeySource::Site);
    let audience = own.and_then(|issuer| issuer.policy.audiences.first().cloned());
    ServiceParams {
        issuer: config.site.token_issuer.clone(),
        path: service.path.clone(),
        origins,
        audience: audience.unwrap_or_else(|| "urn:sccm:service".to_owned()),
        approval_automatic: service.approval_automatic,
        claims_accepted: service.claims_accepted,
        return_grace_s: i64::try_from(service.return_grace.as_secs()).unwrap_or(i64::MAX),
        registrations_per_minute: service.registrations_per_minute,
        requests_per_minute: service.requests_per_minute,
    }
}

/// Retries to write the store until it works: a disk that was full at the start has space again.
async fn write_again(store: Store, file: PathBuf, clock: Clock, mut ended: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            () = tokio::time::sleep(WRITE_AGAIN) => {}
        }
        match store.reopen(&file, clock.now()).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(target: "sitegate::store", %error, "not yet"),
        }
    }
}

async fn sweep(store: Store, kept: Retention, clock: Clock, mut ended: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            _ = every.tick() => {}
        }
        if let Err(error) = store.sweep(clock.now(), kept).await {
            tracing::warn!(target: "sitegate::store", %error, "expired records were not removed \
                                                               from the store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_may_end_and_must_not_panic() {
        let (end, mut ended) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        end.send(true).unwrap();
        until(&mut ended, &mut tasks).await;

        let (_end, mut ended) = watch::channel(false);
        tasks.spawn(async {});
        tasks.spawn(async { panic!("no store") });
        let waiting = tokio::spawn(async move { until(&mut ended, &mut tasks).await });
        let panic = waiting.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no store"));
    }
}
