//! The composition root: a configuration becomes running services here and nowhere else.
//!
//! One task owns and changes the running parts; all others read. `launch` reads as the table of
//! contents, and `App::spawn` is the one list of tasks.

mod applied;
mod assemble;
mod authority;
mod backends;
mod blocklist;
mod clients;
mod data_plane;
mod doctor;
mod ending;
mod error;
mod examine;
mod following;
mod history;
mod issuers;
mod keys;
mod modes;
mod observe;
mod probe;
mod reload;
mod replay;
mod report;
mod running;
mod selfcheck;
mod site;
mod site_health;
mod space;
mod store_place;
mod upstreams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, AdminState, History, Readiness};
use crate::clock::Clock;
use crate::config::{Config, Loaded};
use crate::control::machine;
use crate::front::Front;
use crate::gateway::RequestsInFlight;
use crate::log::{BatchGuard, Recent};
use crate::metrics::Metrics;
use crate::os::{Signal, Signals};
use crate::site::StateDir;
use crate::thread_guard::ThreadGuard;
use crate::token::TokenCache;
use applied::Applied;
use assemble::SiteAuthorities;
use data_plane::{listen, open_access, start_front};
pub use error::StartError;
use following::Followed;
use site_health::SiteHealth;

/// The inputs of a process besides its configuration.
pub struct Options {
    /// The configuration file, which is watched.
    pub path: PathBuf,
    /// The clock.
    pub clock: Clock,
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// Whether this process handles SIGTERM, SIGINT and SIGHUP.
    pub signals: bool,
}

/// State that is shared with status, and replaced at a reload.
struct RunningState {
    config: Config,
    since: Timestamp,
    error: Option<String>,
    addresses: BTreeMap<SocketAddr, SocketAddr>,
}

/// Everything that runs.
struct App {
    options: Options,
    /// The text of the configuration in force.
    text: String,
    /// Locked by this process until it ends.
    state_dir: Arc<StateDir>,
    /// Reports threads that have panicked.
    guard: ThreadGuard,
    metrics: Arc<Metrics>,
    applied: Applied,
    followed: Option<Followed>,
    front: Front,
    readiness: Readiness,
    unanswered: probe::Unanswered,
    space: space::SpaceWatch,
    recent: Recent,
    state: Arc<Mutex<RunningState>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    shutdown: watch::Sender<bool>,
    _access: Option<BatchGuard>,
}

/// Starts all services of a configuration, and returns once every listener is open.
///
/// # Errors
/// The obstacle. A missing certificate, key file or backend is none.
pub fn launch(loaded: Loaded, options: Options) -> Result<Running, StartError> {
    let (stop, stopped) = watch::channel(false);
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    let stop_here = stop.clone();
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = told.send(Err(error.into()));
                return Ok(());
            }
        };
        let ended = runtime.block_on(async move {
            match App::start(loaded, options, stop_here).await {
                Ok((app, addresses, admin, metrics)) => {
                    let _ = told.send(Ok((addresses, admin, metrics)));
                    app.run(stopped).await
                }
                Err(error) => {
                    let _ = told.send(Err(error));
                    Ok(())
                }
            }
        });
        // A shard that does not drain is not awaited.
        runtime.shutdown_background();
        ended
    })?;
    match tell.recv() {
        Ok(Ok((addresses, admin, metrics))) => {
            Ok(Running { addresses, admin, metrics, stop, thread })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Defect("the control thread ended at start".to_owned())),
    }
}

type StartedParts = (App, BTreeMap<String, SocketAddr>, SocketAddr, SocketAddr);

impl App {
    async fn start(
        loaded: Loaded,
        options: Options,
        stop: watch::Sender<bool>,
    ) -> Result<StartedParts, StartError> {
        let now = options.clock.now();
        let Loaded { mut config, warnings } = loaded;
        let state_dir = Arc::new(StateDir::take(&config.site.state, &config.site.code)?);
        let guard = ThreadGuard::default();
        let metrics = Arc::new(Metrics::new().map_err(|e| StartError::Defect(e.to_string()))?);
        crate::log::count_losses(&metrics);
        let (access, access_guard) = open_access(&config, metrics.clone(), now, guard.clone())?;
        let mut tasks = JoinSet::new();

        if let Some(bundle) = following::kept(&config) {
            following::adopt(&mut config, &bundle);
        }
        let shared_keys = keys::share(&config, &options.provider, &options.clock).await?;
        let authorities = SiteAuthorities::open(&config, options.provider.clone(), now)?;
        let in_flight = Arc::new(RequestsInFlight::new(machine::requests_max(), &metrics));
        let tokens = TokenCache::new(config.limits.token_cache);
        let (mut applied, values) = Applied::new(authorities, in_flight.clone(), tokens, &metrics);
        applied.follow(&config, &options, &metrics, &mut tasks);
        let Applied { authorities, issuers, joined, .. } = &applied;
        let by_file = blocklist::follow(
            &config,
            issuers.shared(),
            joined,
            &metrics,
            &mut tasks,
            stop.subscribe(),
        )?;
        let (followed, begun) = match config.site_server.clone() {
            Some(server) => {
                let parts = following::FollowingParts {
                    joined: joined.clone(),
                    metrics: metrics.clone(),
                    clock: options.clock.clone(),
                    provider: options.provider.clone(),
                    token_service: values.listeners.token_service,
                    stop: stop.subscribe(),
                    ended: authorities.ended(),
                };
                let followed = following::start(&config, server, parts, &mut tasks);
                let blocks = followed.blocklist.clone();
                (Some(followed), site::Begun { blocks, health: SiteHealth::default() })
            }
            None => {
                let parts = site::SiteParts {
                    tokens: authorities.tokens.clone(),
                    authority: authorities.certificates.clone(),
                    shared_keys,
                    trusted: values.trusted,
                    joined: joined.clone(),
                    metrics: metrics.clone(),
                    clock: options.clock.clone(),
                    ended: authorities.ended(),
                    guard: guard.clone(),
                };
                (None, site::start(&config, values.listeners, parts)?)
            }
        };
        joined.begin([by_file, begun.blocks]);

        let (shutdown, down) = watch::channel(false);
        let recent = access.recent();
        let front = start_front(
            &config,
            (values.limits, values.bindings, down, guard.clone()),
            &options,
            (values.policy, access, metrics.clone(), in_flight),
        )?;

        let state = Arc::new(Mutex::new(RunningState {
            since: now,
            error: None,
            addresses: BTreeMap::new(),
            config,
        }));
        let space = space::SpaceWatch::new(metrics.clone());
        let notes = report::notes(
            followed.as_ref(),
            state_dir.clone(),
            begun.health,
            &space,
            applied.backends.clone(),
        );
        let unanswered = probe::Unanswered::default();
        let amiss = report::amiss(applied.sites.shared(), unanswered.clone());
        let readiness = Readiness::new(metrics.clone(), amiss, notes);
        let mut app = App {
            options,
            text: warnings.text,
            state_dir,
            guard,
            metrics,
            applied,
            followed,
            front,
            readiness,
            unanswered,
            space,
            recent,
            state,
            tasks,
            stop,
            shutdown,
            _access: access_guard,
        };
        let (admin, metrics) = app.spawn(now).await?;
        let addresses = app.open_all()?;
        app.keep_text();
        app.probe_listeners()?;
        app.metrics.process.config_reloaded(Some(now.as_second()));
        Ok((app, addresses, admin, metrics))
    }

    /// Starts the tasks of the control plane, besides those of site systems and issuers.
    async fn spawn(&mut self, now: Timestamp) -> Result<(SocketAddr, SocketAddr), StartError> {
        let history = History::default();
        let shown = AdminState {
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            recent: self.recent.clone(),
            clock: self.options.clock.clone(),
            status: report::status(report::Sources {
                state: self.state.clone(),
                sites: self.applied.sites.shared(),
                issuers: self.applied.issuers.shared(),
                clients: self.applied.clients.shared(),
                readiness: self.readiness.clone(),
                connections: self.front.count(),
                open_connections: self.front.open_connections(),
                history: history.clone(),
                metrics: self.metrics.clone(),
                path: self.options.path.display().to_string(),
                started: now,
                told: self.followed.as_ref().map(Followed::told),
                backends: self.applied.backends.clone(),
                clock: self.options.clock.clone(),
            }),
        };
        let (admin_at, metrics_at) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.config.admin, state.config.metrics)
        };
        let admin = listen("[admin]", admin_at).await?;
        let metrics = listen("[metrics]", metrics_at).await?;
        let bound = (admin.local_addr()?, metrics.local_addr()?);
        let routers =
            [(admin, admin::admin_router(shown.clone())), (metrics, admin::metrics_router(shown))];
        for (listener, router) in routers {
            let stop = self.ended();
            self.tasks.spawn(async move {
                if let Err(error) = admin::serve(listener, router, stop).await {
                    tracing::error!(%error, "an administration listener was lost");
                }
            });
        }
        let (metrics, clock) = (self.metrics.clone(), self.options.clock.clone());
        self.keep_history(history);
        self.check_itself();
        let (policy, stop) = (self.applied.policy(), self.stop.subscribe());
        self.tasks.spawn(modes::tell(policy, metrics, clock, stop));
        self.follow_backends();
        Ok(bound)
    }

    /// Turns true once everything has drained: health is served until then.
    fn ended(&self) -> watch::Receiver<bool> {
        self.applied.authorities.ended()
    }

    /// Follows the configuration file and the signals until stopped, then drains.
    ///
    /// # Errors
    /// A shard, or another thread or task, has ended unexpectedly. Requests in flight on the other
    /// shards are cut off: otherwise a part of all connections would be refused until they have
    /// drained.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), LostThread> {
        let mut lost = pin!(self.guard.lost());
        let mut file = reload::WatchedConfig::new(&self.options.path, self.text.as_bytes());
        let mut signals = Signals::new(self.options.signals);
        let mut told = following::Changes::of(self.followed.as_ref());
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                read = file.changed() => file.has_failed = !self.reload(read).await,
                signal = signals.next() => match signal {
                    Signal::Reload => {
                        let read = file.take();
                        file.has_failed = !self.reload(read).await;
                    }
                    Signal::End => break,
                },
                why = &mut lost => return Err(LostThread::told(why)),
                () = told.changed() => self.adopt().await,
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended {
                    return Err(LostThread::told(format!("a task of the control plane: {error}")));
                }
            }
        }
        self.drain(signals).await;
        Ok(())
    }
}

pub(crate) use assemble::find_tokens;
pub use assemble::open_tokens;
pub use authority::open_authority;
pub(crate) use blocklist::read_blocklist;
pub use doctor::{Ailment, Severity};
pub(crate) use doctor::{Finding, examine as doctor};
pub(crate) use examine::{
    Examined, Examiner, access_log as examine_access_log, issuer as examine_issuer,
    issuers as examine_issuers, site_server as examine_site_server, state as examine_state,
    token_service as examine_token_service,
};
pub use issuers::read_trusted;
pub(crate) use reload::only_at_start;
pub(crate) use replay::{bindings, policy as policy_of};
pub use running::{LostThread, Running};
pub(crate) use space::examine as examine_space;
pub(crate) use store_place::store_place;
