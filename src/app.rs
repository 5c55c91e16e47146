//! The composition root: a configuration becomes running services here and nowhere else.
//!
//! One task owns what runs and changes it; everyone else reads. `launch` reads as the table of
//! contents, and `App::spawn` is the one list of tasks.

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

use crate::admin::{self, History, Readiness, Shown};
use crate::clock::Clock;
use crate::config::{Config, ConnLimits, Loaded};
use crate::control::Backends;
use crate::front::{Binding, Front};
use crate::gateway::{Policy, UnderWay};
use crate::live::{Publisher, live};
use crate::log::{BatchGuard, Recent};
use crate::lost::Guard;
use crate::metrics::Metrics;
use crate::site::StateDir;
use crate::token::{TokenCache, Trusted};
use assemble::{Authorities, Sites};
use blocklist::Joined;
use clients::Clients;
use data_plane::{listen, open_access, start_front};
use ending::{Signal, Signals};
pub use error::StartError;
use following::Followed;
use issuers::Issuers;

/// What a process is started with besides its configuration.
pub struct Options {
    /// The configuration file, which is watched.
    pub path: PathBuf,
    /// The time.
    pub clock: Clock,
    /// The crypto provider.
    pub provider: Arc<CryptoProvider>,
    /// Whether SIGTERM, SIGINT and SIGHUP are this process's to handle.
    pub signals: bool,
}

/// What is shared with status, and replaced at a reload.
struct State {
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
    /// Had by this process until it ends.
    state_dir: Arc<StateDir>,
    /// Told of threads that have panicked.
    guard: Guard,
    metrics: Arc<Metrics>,
    tokens: Arc<TokenCache>,
    backends: Arc<Backends>,
    authorities: Authorities,
    sites: Sites,
    issuers: Issuers,
    joined: Joined,
    /// What the site's side judges tokens by.
    trusted: Publisher<Vec<Trusted>>,
    clients: Clients,
    followed: Option<Followed>,
    limits: Publisher<ConnLimits>,
    bindings: Publisher<Vec<Binding>>,
    policy: Publisher<Policy>,
    front: Front,
    readiness: Readiness,
    unanswered: probe::Unanswered,
    space: space::Watch,
    recent: Recent,
    state: Arc<Mutex<State>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    shutdown: watch::Sender<bool>,
    _access: Option<BatchGuard>,
}

/// Start everything that a configuration names, and return once every listener is open.
///
/// # Errors
/// What stands in the way. A certificate, a key file or a backend that is not there does not.
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
        // Whoever still waits for a shard that does not drain is not waited for.
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

type Started = (App, BTreeMap<String, SocketAddr>, SocketAddr, SocketAddr);

impl App {
    async fn start(
        loaded: Loaded,
        options: Options,
        stop: watch::Sender<bool>,
    ) -> Result<Started, StartError> {
        let now = options.clock.now();
        let Loaded { mut config, warnings } = loaded;
        let state_dir = Arc::new(StateDir::take(&config.site.state, &config.site.code)?);
        let guard = Guard::default();
        let metrics = Arc::new(Metrics::new().map_err(|e| StartError::Defect(e.to_string()))?);
        crate::log::count_losses(&metrics);
        let (access, access_guard) = open_access(&config, metrics.clone(), now, guard.clone())?;
        let backends = Arc::new(Backends::new(metrics.backends.clone()));
        let tokens = Arc::new(TokenCache::new(config.limits.token_cache));
        let mut tasks = JoinSet::new();

        if let Some(bundle) = following::kept(&config) {
            following::adopt(&mut config, &bundle);
        }
        let shared_keys = keys::share(&config, &options.provider, &options.clock).await?;
        let authorities = Authorities::open(&config, options.provider.clone(), now)?;
        let mut sites = Sites::default();
        sites.follow(&config, &authorities, &options, &metrics, &mut tasks);
        let mut issuers = Issuers::default();
        issuers.follow(&config, &authorities, &options, &metrics, &mut tasks);
        let (under_way, stopped) = (Arc::<UnderWay>::default(), stop.subscribe());
        let (trusted, trusted_read) = live(issuers.trusted().0);
        let joined = Joined::new(trusted_read.clone(), under_way.clone());
        let by_file =
            blocklist::follow(&config, issuers.shared(), &joined, &metrics, &mut tasks, stopped)?;
        let followed = following::start(
            &config,
            following::Parts {
                joined: joined.clone(),
                metrics: metrics.clone(),
                clock: options.clock.clone(),
                provider: options.provider.clone(),
                stop: stop.subscribe(),
                ended: authorities.ended(),
            },
            &mut tasks,
        )?;
        let begun = site::start(
            &config,
            followed.as_ref().map(|followed| followed.blocklist.clone()),
            site::Parts {
                tokens: authorities.tokens.clone(),
                authority: authorities.certificates.clone(),
                shared_keys,
                trusted: trusted_read,
                joined: joined.clone(),
                metrics: metrics.clone(),
                clock: options.clock.clone(),
                ended: authorities.ended(),
                guard: guard.clone(),
            },
        )?;
        joined.begin([by_file, begun.blocks]);
        let mut clients = Clients::default();
        clients.follow(&config, &options, &metrics, &mut tasks);

        let (limits, limits_read) = live(config.limits.connection);
        let (bindings, bindings_read) = live(sites.bindings(&config));
        let judged_by = (&issuers, &joined.list(), &clients);
        let to = (&*backends, &authorities);
        let first = assemble::policy(&config, judged_by, to, &tokens, &metrics);
        let (policy, policy_read) = live(first);
        let (shutdown, down) = watch::channel(false);
        let recent = access.recent();
        let front = start_front(
            &config,
            (limits_read, bindings_read, down, guard.clone()),
            &options,
            (policy_read, access, metrics.clone(), under_way),
        )?;

        let state = Arc::new(Mutex::new(State {
            since: now,
            error: None,
            addresses: BTreeMap::new(),
            config,
        }));
        let space = space::Watch::new(metrics.clone());
        let watched = (begun.health, &space);
        let notes = report::notes(followed.as_ref(), state_dir.clone(), watched, backends.clone());
        let unanswered = probe::Unanswered::default();
        let amiss = report::amiss(sites.shared(), unanswered.clone());
        let readiness = Readiness::new(metrics.clone(), amiss, notes);
        let mut app = App {
            options,
            text: warnings.text,
            state_dir,
            guard,
            metrics,
            tokens,
            backends,
            authorities,
            sites,
            issuers,
            joined,
            trusted,
            clients,
            followed,
            limits,
            bindings,
            policy,
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
        app.metrics.config_reloaded(Some(now.as_second()));
        Ok((app, addresses, admin, metrics))
    }

    /// The tasks of the control plane, besides those of site systems and issuers.
    async fn spawn(&mut self, now: Timestamp) -> Result<(SocketAddr, SocketAddr), StartError> {
        let history = History::default();
        let shown = Shown {
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            recent: self.recent.clone(),
            clock: self.options.clock.clone(),
            status: report::status(report::Sources {
                state: self.state.clone(),
                sites: self.sites.shared(),
                issuers: self.issuers.shared(),
                clients: self.clients.shared(),
                readiness: self.readiness.clone(),
                connections: self.front.count(),
                census: self.front.census(),
                history: history.clone(),
                metrics: self.metrics.clone(),
                path: self.options.path.display().to_string(),
                started: now,
                told: self.followed.as_ref().map(Followed::told),
                backends: self.backends.clone(),
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
        let (policy, stop) = (self.policy.reader(), self.stop.subscribe());
        self.tasks.spawn(modes::tell(policy, metrics, clock, stop));
        self.follow_backends();
        Ok(bound)
    }

    /// Turns true once everything has drained: health is told until then.
    fn ended(&self) -> watch::Receiver<bool> {
        self.authorities.ended()
    }

    /// Follow the configuration file and the signals until told to stop, then drain.
    ///
    /// # Errors
    /// A shard has panicked. What the others have under way is cut off: a part of all connections
    /// would be refused until they have drained.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), Lost> {
        let mut lost = pin!(self.guard.lost());
        let mut file = reload::ConfigFile::new(&self.options.path, self.text.as_bytes());
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
                why = &mut lost => return Err(Lost::told(why)),
                () = told.changed() => self.adopt().await,
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended {
                    return Err(Lost::told(format!("a task of the control plane: {error}")));
                }
            }
        }
        self.drain(signals).await;
        Ok(())
    }
}

pub(crate) use assemble::{find_tokens, open_tokens};
pub(crate) use authority::open_authority;
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
pub(crate) use report::certificate as certificate_status;
pub use running::{Lost, Running};
pub(crate) use space::examine as examine_space;
pub(crate) use store_place::store_place;
