//! Shards: one thread and one runtime for each core, each with its own sockets and its own server,
//! so that a request never crosses threads. Accepts, shakes hands, serves, drains.
//!
//! The list of shards is fixed at start; addresses come and go with the configuration.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::binding::Binding;
use super::census::Census;
use super::conn::Conn;
use super::handshake::{describe, handshake, hello_came, in_clear};
use super::limits::{Admission, Admitted, Full};
use super::listener::Listener;
use super::open::{Each, Open};
use super::probe::{Own, Probe, answer};
use super::proxy_header::client_of;
use super::refusal::OnRefusal;
use super::state::ConnInfo;
use super::tcp::Tcp;
use super::transport::Transport;
use super::turns::Turns;
use crate::config::ConnLimits;
use crate::live::Live;
use crate::lost::Guard;
use crate::metrics::{ConnectionEnd, Metrics};

/// How long to wait after the system could not give a connection (no descriptors left, say): long
/// enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often that is told: it may fail twenty times a second.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long a handshake keeps its turn while its client is waited for: most of the way around the
/// world. Later its client may still come, but others need not wait for it.
const TURN: Duration = Duration::from_millis(250);

/// How often the server of a shard looks after what it keeps.
const TIDY: Duration = Duration::from_secs(5);

/// What serves HTTP on a finished connection.
pub trait Serve: Send + Sync + 'static {
    /// Serve a connection to its end. `shutdown` turns true when no further request is wanted.
    fn serve(&self, conn: Conn, shutdown: &ShutdownWatch) -> impl Future<Output = ()> + Send;

    /// Called every few seconds.
    fn tidy(&self);

    /// Called once, when no connection is accepted any more.
    fn end(&self) -> impl Future<Output = ()> + Send;
}

/// What a front needs to begin.
pub struct FrontParams {
    /// Threads, each with a runtime of its own.
    pub shards: usize,
    /// Limits for connections accepted from now on.
    pub limits: Live<ConnLimits>,
    /// Which site systems stand behind which address.
    pub bindings: Live<Vec<Binding>>,
    /// The configuration for connections whose name nobody here has: it refuses with an alert.
    pub refuse_tls: Arc<ServerConfig>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Told of requests that were refused before their head was complete.
    pub on_refusal: OnRefusal,
    /// Turns true when the process is to end.
    pub shutdown: ShutdownWatch,
    /// Told when a shard panics: its sockets are closed, and nobody serves what they had.
    pub guard: Guard,
}

pub(super) enum Command {
    Answer { done: oneshot::Sender<()> },
    Open { address: SocketAddr, configured: SocketAddr, socket: TcpListener },
    Close { address: SocketAddr, done: oneshot::Sender<()> },
}

/// The running front.
pub struct Front {
    shards: Vec<(mpsc::UnboundedSender<Command>, thread::JoinHandle<()>)>,
    admission: Arc<Admission>,
    census: Census,
    own: Arc<Own>,
}

/// What every connection of the process shares.
pub(super) struct Shared {
    limits: Live<ConnLimits>,
    pub(super) bindings: Live<Vec<Binding>>,
    pub(super) refuse_tls: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    on_refusal: OnRefusal,
    shutdown: ShutdownWatch,
    admission: Arc<Admission>,
    census: Census,
    own: Arc<Own>,
    turns: Turns,
    pub(super) next_id: AtomicU64,
}

impl Front {
    /// Start the shards. `server` makes what serves HTTP, once for each shard.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    ///
    /// # Panics
    /// Where `server` does: before anything is accepted, and not in a thread of its own.
    pub fn start<A: Serve>(params: FrontParams, server: impl Fn() -> Arc<A>) -> io::Result<Front> {
        let (admission, census) = (Arc::new(Admission::default()), Census::default());
        let own = Arc::<Own>::default();
        let handshakes_max = params.limits.peek(|l| l.handshakes_max);
        let shared = Arc::new(Shared {
            limits: params.limits,
            bindings: params.bindings,
            refuse_tls: params.refuse_tls,
            metrics: params.metrics,
            on_refusal: params.on_refusal,
            shutdown: params.shutdown,
            admission: admission.clone(),
            census: census.clone(),
            own: own.clone(),
            turns: Turns::new(handshakes_max),
            next_id: AtomicU64::new(1),
        });
        let guard = params.guard;
        let shards = (0..params.shards.max(1))
            .map(|n| {
                let (commands, inbox) = mpsc::unbounded_channel();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let (shared, server, guard) = (shared.clone(), server(), guard.clone());
                let name = format!("shard-{n}");
                let thread = thread::Builder::new().name(name.clone()).spawn(move || {
                    guard.run(&name, || runtime.block_on(run(inbox, shared, server)));
                })?;
                Ok((commands, thread))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Front { shards, admission, census, own })
    }

    /// Accept connections on a bound address from now on, for the binding of `configured`.
    pub fn open(&self, configured: SocketAddr, listener: Listener) {
        let address = listener.address;
        for ((commands, _), socket) in self.shards.iter().zip(listener.sockets) {
            // A shard that is gone has ended with the process; there is nothing to open then.
            let _ = commands.send(Command::Open { address, configured, socket });
        }
    }

    /// Accept no more on an address. Connections that are open stay open.
    pub async fn close(&self, address: SocketAddr) {
        for (commands, _) in &self.shards {
            let (done, closed) = oneshot::channel();
            if commands.send(Command::Close { address, done }).is_ok() {
                let _ = closed.await;
            }
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What asks whether it serves.
    pub fn probe(&self) -> Probe {
        let shards = self.shards.iter().map(|(commands, _)| commands.clone()).collect();
        Probe::new(shards, self.own.clone())
    }

    /// How many connections are open, as a function.
    pub fn count(&self) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let admission = self.admission.clone();
        Arc::new(move || admission.open())
    }

    /// How many connections each site system has.
    pub fn census(&self) -> Census {
        self.census.clone()
    }

    /// Wait until every shard has drained. Blocks the calling thread.
    pub fn join(self) {
        for (commands, thread) in self.shards {
            drop(commands);
            let _ = thread.join();
        }
    }
}

async fn run<A: Serve>(
    mut inbox: mpsc::UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    server: Arc<A>,
) {
    let open = Arc::new(Open::default());
    let mut accepting: HashMap<SocketAddr, Arc<Notify>> = HashMap::new();
    let mut shutdown = shared.shutdown.clone();
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            _ = tidy.tick() => server.tidy(),
            command = inbox.recv() => match command {
                Some(Command::Answer { done }) => drop(done.send(())),
                Some(Command::Open { address, configured, socket }) => {
                    let stop = Arc::new(Notify::new());
                    accepting.insert(address, stop.clone());
                    let each = Each {
                        shared: shared.clone(), server: server.clone(), open: open.clone(), configured,
                    };
                    tokio::spawn(accept(socket, each, stop));
                }
                Some(Command::Close { address, done }) => {
                    if let Some(stop) = accepting.remove(&address) {
                        stop.notify_one();
                    }
                    let _ = done.send(());
                }
                None => break,
            },
            changed = shutdown.wait_for(|down| *down) => {
                let _ = changed;
                break;
            }
        }
    }
    for stop in accepting.values() {
        stop.notify_one();
    }
    // What was accepted in the same turn is counted before it is waited for.
    tokio::task::yield_now().await;
    server.end().await;
    open.wait_until_none().await;
}

async fn accept<A: Serve>(socket: TcpListener, each: Each<A>, stop: Arc<Notify>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listening socket was lost");
            return;
        }
    };
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.notified() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &each),
            Err(error) => {
                each.shared.metrics.connection_ended(ConnectionEnd::AcceptFailed);
                if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        %error, address = %each.configured,
                        "no connection could be accepted; trying again, and telling once a minute"
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit<A: Serve>(stream: TcpStream, peer: SocketAddr, each: &Each<A>) {
    let limits = each.shared.limits.peek(|limits| *limits);
    let arriving = each.shared.bindings.peek(|all| {
        let binding = all.iter().find(|binding| binding.listen == each.configured);
        Arriving {
            peer,
            balanced: binding.is_some_and(|binding| binding.is_balancer(peer.ip())),
            clear: binding.is_some_and(|binding| binding.clear),
        }
    });
    if each.shared.own.has(peer) {
        tokio::spawn(answer(stream, each.clone(), arriving.clear));
        return;
    }
    let counted = (!arriving.balanced).then_some(peer.ip());
    match each.shared.admission.admit(counted, &limits) {
        Ok(admitted) => {
            let (each, open) = (each.clone(), each.open.enter());
            tokio::spawn(async move {
                serve(stream, arriving, each, limits, admitted).await;
                drop(open);
            });
        }
        Err(full) => each.shared.metrics.connection_ended(match full {
            Full::Connections => ConnectionEnd::TooMany,
            Full::Address => ConnectionEnd::TooManyOfAddress,
        }),
    }
}

/// What an accepted connection is, by the address it came to.
#[derive(Clone, Copy)]
struct Arriving {
    peer: SocketAddr,
    /// Whether a load balancer says whose it is.
    balanced: bool,
    /// Whether it is plain HTTP.
    clear: bool,
}

async fn serve<A: Serve>(
    stream: TcpStream,
    arriving: Arriving,
    each: Each<A>,
    limits: ConnLimits,
    admitted: Admitted,
) {
    let shared = &each.shared;
    let _ = stream.set_nodelay(true);
    let opened = shared.metrics.connection_opened();
    let mut admitted = admitted;
    let arrived = arrive(stream, arriving, &each, &limits, &mut admitted);
    // On the heap, where it is gone once it is over, and not in what an idle connection keeps.
    let arrived = Box::pin(tokio::time::timeout(limits.handshake_time, arrived));
    let (transport, info) = match arrived.await {
        Ok(Ok(Some(arrived))) => arrived,
        Ok(Ok(None)) => return,
        Ok(Err(end)) => return shared.metrics.connection_ended(end),
        Err(_) => return shared.metrics.connection_ended(ConnectionEnd::HandshakeTime),
    };
    if info.clear.is_none() {
        shared.metrics.handshake_done(info.tls_version, info.cipher);
    }
    let conn = Conn::new(transport, info, limits, shared.on_refusal.clone(), &shared.metrics);
    let counted = shared.census.enter(conn.info());
    let mut shutdown = shared.shutdown.clone();
    // Seen by whoever asks "has it changed?", also if it changed before this connection.
    if *shutdown.borrow() {
        shutdown.mark_changed();
    }
    each.server.serve(conn, &shutdown).await;
    drop((counted, opened));
}

/// Learn whose connection it is, and make it TLS unless its address is one of plain HTTP. `None` if
/// the system does not know it any more.
async fn arrive<A>(
    mut stream: TcpStream,
    Arriving { peer, balanced, clear }: Arriving,
    each: &Each<A>,
    limits: &ConnLimits,
    admitted: &mut Admitted,
) -> Result<Option<(Transport, ConnInfo)>, ConnectionEnd> {
    let shared = &each.shared;
    let Ok(local) = stream.local_addr() else { return Ok(None) };
    let client = match balanced {
        true => client_of(&mut stream, peer, admitted, limits).await?,
        false => peer,
    };
    if clear {
        let info = in_clear(each, (client, local));
        return Ok(info.map(|info| (Transport::Clear(Tcp::new(stream)), info)));
    }
    // Who says nothing, or half of something, takes no turn from those who do.
    hello_came(&stream).await;
    // Waiting for a turn counts against the handshake's own time, so the queue is bounded.
    let turn = shared.turns.turn(limits.handshakes_max).await;
    let mut shaking = pin!(handshake(stream, each));
    let shaken = match tokio::time::timeout(TURN, &mut shaking).await {
        Ok(shaken) => shaken,
        Err(_) => {
            drop(turn);
            shaking.await
        }
    };
    let (tls, site, by_default) = shaken?;
    let info = describe(&tls, site, by_default, (client, local), shared);
    Ok(info.map(|info| (Transport::Tls(tls), info)))
}

#[cfg(test)]
mod tests;
