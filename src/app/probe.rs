//! Self-monitoring: periodically checks that this process's own listeners and serving threads
//! respond.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{App, RunningState, StartError, space};
use crate::admin::Readiness;
use crate::front::Probe;
use crate::metrics::Metrics;
use crate::site::StateDir;

/// The interval between rounds, or `EACH` times the number of probes if that is longer: so that
/// probing costs next to nothing.
const EVERY: Duration = Duration::from_millis(500);
const EACH: Duration = Duration::from_millis(50);
/// The timeout of one probe.
const ANSWER_TIME: Duration = Duration::from_millis(1_400);

/// Probes without a response, a line each.
pub(super) type Unanswered = Arc<Mutex<Vec<String>>>;

/// The task that probes.
struct Prober {
    state: Arc<Mutex<RunningState>>,
    probe: Probe,
    config: Arc<ClientConfig>,
    unanswered: Unanswered,
    readiness: Readiness,
    state_dir: Arc<StateDir>,
    metrics: Arc<Metrics>,
    space: space::SpaceWatch,
}

/// A thread or a listener to probe.
#[derive(Clone, PartialEq, Eq)]
enum ProbeTarget {
    Shard(usize),
    Listener { address: SocketAddr, bound: SocketAddr, name: Option<ServerName<'static>> },
}

impl App {
    /// Starts probing. The process counts as started once every probe has succeeded.
    pub(super) fn probe_listeners(&mut self) -> Result<(), StartError> {
        let config = crate::tls::unjudged(self.options.provider.clone())
            .map_err(|error| StartError::Defect(error.to_string()))?;
        let prober = Prober {
            state: self.state.clone(),
            probe: self.front.probe(),
            config,
            unanswered: self.unanswered.clone(),
            readiness: self.readiness.clone(),
            state_dir: self.state_dir.clone(),
            metrics: self.metrics.clone(),
            space: self.space.clone(),
        };
        self.tasks.spawn(prober.run(self.shutdown.subscribe()));
        Ok(())
    }
}

impl Prober {
    async fn run(self, mut down: watch::Receiver<bool>) {
        let (mut has_started, mut has_state) = (false, true);
        loop {
            let asked = self.asked();
            let pause = EVERY.max(EACH * u32::try_from(asked.len()).unwrap_or(u32::MAX));
            let mut unanswered = self.ask(asked).await;
            // Listeners that a reload has closed meanwhile need not respond.
            let open = self.asked();
            unanswered.retain(|(asked, _)| open.contains(asked));
            let unanswered = unanswered.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
            if *down.borrow() {
                return;
            }
            if unanswered.is_empty() && !std::mem::replace(&mut has_started, true) {
                self.readiness.set_started();
                crate::os::notify_ready();
            }
            self.tell(unanswered);
            let is_there = self.state_dir.is_there();
            self.metrics.process.state_present(is_there);
            if std::mem::replace(&mut has_state, is_there) && !is_there {
                tracing::error!(
                    target: "sitegate::probe", path = %self.state_dir.path().display(),
                    "the state directory is missing, or another one is mounted in its place"
                );
            }
            let config = || {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.config.clone()
            };
            self.space.look(config, Instant::now());
            tokio::select! {
                _ = down.wait_for(|down| *down) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Every shard, every plain HTTP address, and every other address with the name of its first
    /// site system.
    fn asked(&self) -> Vec<ProbeTarget> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listeners = BTreeMap::new();
        for system in &state.config.site_systems {
            let host = system.hosts.first().cloned().unwrap_or_default();
            listeners.entry(system.listen).or_insert_with(|| ServerName::try_from(host).ok());
            for clear in system.listens().filter(|listen| *listen != system.listen) {
                listeners.insert(clear, None);
            }
        }
        let listener = |(address, name)| {
            let bound = *state.addresses.get(&address)?;
            Some(ProbeTarget::Listener { address, bound, name })
        };
        let shards = (0..self.probe.shards()).map(ProbeTarget::Shard);
        shards.chain(listeners.into_iter().filter_map(listener)).collect()
    }

    /// Probes all of them concurrently. Returns those without a response.
    async fn ask(&self, asked: Vec<ProbeTarget>) -> Vec<(ProbeTarget, String)> {
        let mut answers = JoinSet::new();
        for asked in asked {
            let (probe, config) = (self.probe.clone(), self.config.clone());
            answers.spawn(async move {
                let (what, answer) = match asked.clone() {
                    ProbeTarget::Shard(number) => {
                        let answer = tokio::time::timeout(ANSWER_TIME, probe.shard(number)).await;
                        (format!("serving thread {number}"), answer.map(Ok))
                    }
                    ProbeTarget::Listener { address, bound, name } => {
                        let tls = name.map(|name| (config, name));
                        let answer = probe.listener(bound, tls);
                        let answer = tokio::time::timeout(ANSWER_TIME, answer).await;
                        (format!("listener {address}"), answer)
                    }
                };
                match answer {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some((asked, format!("{what} does not answer: {error}"))),
                    Err(_) => Some((asked, format!("{what} does not answer"))),
                }
            });
        }
        let mut unanswered: Vec<_> = answers.join_all().await.into_iter().flatten().collect();
        unanswered.sort_by(|(_, one), (_, other)| one.cmp(other));
        unanswered
    }

    fn tell(&self, unanswered: Vec<String>) {
        let before = {
            let mut known = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, unanswered.clone())
        };
        for line in unanswered.iter().filter(|line| !before.contains(line)) {
            tracing::error!(target: "sitegate::probe", "{line}");
        }
        for line in before.iter().filter(|line| !unanswered.contains(line)) {
            tracing::info!(target: "sitegate::probe", "over: {line}");
        }
        if unanswered != before {
            let _ = self.readiness.reasons();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use pingora_core::server::ShutdownWatch;

    use super::*;
    use crate::config::{self, Limits};
    use crate::front::{Binding, Conn, Door, Front, FrontParams, Serve, bind};
    use crate::live::live;
    use crate::metrics::Metrics;

    /// Serves nothing, and blocks its thread until released.
    #[derive(Clone, Default)]
    struct Stuck {
        may_go: Arc<AtomicBool>,
        is_there: Arc<AtomicBool>,
    }

    impl Serve for Stuck {
        async fn serve(&self, _: Conn, _: &ShutdownWatch) {}

        fn tidy(&self) {
            self.is_there.store(true, Ordering::Release);
            while !self.may_go.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_stuck_thread_or_listener_is_reported_until_it_answers() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let (bound, stuck) = (listener.address, Stuck::default());
        let door =
            Door { site: "mp01".into(), hosts: vec!["mp01".to_owned()], tls: Arc::new(|| None) };
        let binding = Binding {
            listen: bound,
            doors: vec![door],
            default: Some(0),
            balancers: Vec::new(),
            clear: false,
        };
        let (_limits, limits) = live(Limits::default());
        let (_bindings, bindings) = live(vec![binding]);
        let (_shutdown, shutdown) = watch::channel(false);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let metrics = Arc::new(Metrics::new().unwrap());
        let params = FrontParams {
            shards: 1,
            limits,
            bindings,
            refuse_tls: crate::tls::refusing(provider.clone()).unwrap(),
            metrics: metrics.clone(),
            on_refusal: Arc::new(|_, _| {}),
            shutdown,
            guard: Default::default(),
        };
        let front = Front::start(params, || Arc::new(stuck.clone())).unwrap();
        front.open(bound, listener);
        while !stuck.is_there.load(Ordering::Acquire) {
            std::thread::yield_now();
        }

        let text = format!(
            "[site]\ncode = 'PS1'\n[[site_system]]\nname = 'mp01'\nlisten = '{bound}'\n\
             hosts = ['mp01']\nbackend = 'http://127.0.0.1'\nroles = ['distribution-point']\n"
        );
        let now = crate::clock::second(1_800_000_000);
        let base = std::path::Path::new("/nowhere");
        let config = config::parse(&text, "gateway.toml", base, now).unwrap().config;
        let addresses = BTreeMap::from([(bound, bound)]);
        let state = RunningState { config, since: now, error: None, addresses };
        let dir = tempfile::tempdir().unwrap();
        let unanswered = Unanswered::default();
        let told = unanswered.clone();
        let amiss = move || told.lock().unwrap().clone();
        let readiness = Readiness::new(metrics.clone(), amiss, Vec::new);
        let prober = Prober {
            state: Arc::new(Mutex::new(state)),
            probe: front.probe(),
            config: crate::tls::unjudged(provider).unwrap(),
            unanswered: unanswered.clone(),
            readiness: readiness.clone(),
            state_dir: Arc::new(StateDir::take(dir.path(), "PS1").unwrap()),
            metrics: metrics.clone(),
            space: space::SpaceWatch::new(metrics),
        };
        let lines = prober.ask(prober.asked()).await.into_iter().map(|(_, line)| line);
        prober.tell(lines.collect());
        let lines = [
            format!("listener {bound} does not answer"),
            "serving thread 0 does not answer".into(),
        ];
        assert_eq!(*unanswered.lock().unwrap(), lines);
        stuck.may_go.store(true, Ordering::Release);
        let (stop, down) = watch::channel(false);
        let task = tokio::spawn(prober.run(down));
        // The process reports that it has started after the first round in which every probe
        // succeeded.
        while readiness.reasons() != [""; 0] {
            tokio::task::yield_now().await;
        }
        assert_eq!((front.count())(), 0, "its own connections are not counted");
        stop.send(true).unwrap();
        task.await.unwrap();
    }
}
