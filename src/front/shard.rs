//! Shards: one thread and one runtime per core, each with its own sockets and its own server, so
//! that a request never crosses threads. Accepts, does the handshake, serves, drains.
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
use tokio_util::either::Either;

use super::binding::Binding;
use super::command::Command;
use super::conn::Conn;
use super::handshake::{describe, first_record, handshake, in_clear};
use super::handshake_limit::HandshakeLimit;
use super::limits::{Admission, Admitted, Full};
use super::listener::Listener;
use super::open_connections::OpenConnections;
use super::own_probes::OwnProbes;
use super::probe::{Probe, answer};
use super::process_state::{Each, ProcessState};
use super::proxy_header::client_of;
use super::shard_connections::ShardConnections;
use super::state::{ConnInfo, OnRefusal};
use super::tcp::Tcp;
use super::transport::Transport;
use crate::config::Limits;
use crate::live::Live;
use crate::metrics::{ConnectionEnd, Metrics};
use crate::thread_guard::ThreadGuard;

/// The pause after the system could not accept a connection (out of descriptors, for example): long
/// enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The interval between log lines for that: it may fail twenty times a second.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long a handshake in progress counts toward the limit: a round trip most of the way around
/// the world. After that the client may still continue, but others need not wait for it.
const TURN: Duration = Duration::from_millis(250);

/// The interval of a shard's periodic cleanup.
const TIDY: Duration = Duration::from_secs(5);

/// Serves HTTP on an established connection.
pub trait Serve: Send + Sync + 'static {
    /// Serves a connection to its end. `shutdown` turns true when no further request is wanted.
    fn serve(&self, conn: Conn, shutdown: &ShutdownWatch) -> impl Future<Output = ()> + Send;

    /// Called every few seconds.
    fn tidy(&self);
}

/// The parameters of a front.
pub struct FrontParams {
    /// The number of threads, each with a runtime of its own.
    pub shards: usize,
    /// The limits for new connections.
    pub limits: Live<Limits>,
    /// The site systems behind each address.
    pub bindings: Live<Vec<Binding>>,
    /// The configuration for connections with an unknown name: it refuses with an alert.
    pub refuse_tls: Arc<ServerConfig>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Receives HTTP/2 connections on which requests were refused unread.
    pub on_refusal: OnRefusal,
    /// Turns true when the process shuts down.
    pub shutdown: ShutdownWatch,
    /// Reports a panic of a shard: its sockets are closed, and its connections are no longer
    /// served.
    pub guard: ThreadGuard,
}

/// The running front.
pub struct Front {
    shards: Vec<(mpsc::UnboundedSender<Command>, thread::JoinHandle<()>)>,
    admission: Arc<Admission>,
    open_connections: OpenConnections,
    own: Arc<OwnProbes>,
}

impl Front {
    /// Starts the shards. `server` creates the HTTP server of each shard.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    ///
    /// # Panics
    /// If `server` panics: in the calling thread, before any connection is accepted.
    pub fn start<A: Serve>(params: FrontParams, server: impl Fn() -> Arc<A>) -> io::Result<Front> {
        let (admission, open_connections) =
            (Arc::new(Admission::default()), OpenConnections::default());
        let own = Arc::<OwnProbes>::default();
        let handshakes_max = params.limits.peek(|l| l.handshakes);
        let shared = Arc::new(ProcessState {
            limits: params.limits,
            bindings: params.bindings,
            refuse_tls: params.refuse_tls,
            metrics: params.metrics,
            on_refusal: params.on_refusal,
            shutdown: params.shutdown,
            admission: admission.clone(),
            open_connections: open_connections.clone(),
            own: own.clone(),
            handshake_limit: HandshakeLimit::new(handshakes_max),
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
        Ok(Front { shards, admission, open_connections, own })
    }

    /// Starts accepting connections on a bound address, for the binding of `configured`.
    pub fn open(&self, configured: SocketAddr, listener: Listener) {
        let address = listener.address;
        for ((commands, _), socket) in self.shards.iter().zip(listener.sockets) {
            // A shard that is gone has ended with the process, so there is nothing to open.
            let _ = commands.send(Command::Open { address, configured, socket });
        }
    }

    /// Stops accepting connections on an address. Open connections stay open.
    pub async fn close(&self, address: SocketAddr) {
        for (commands, _) in &self.shards {
            let (done, closed) = oneshot::channel();
            if commands.send(Command::Close { address, done }).is_ok() {
                let _ = closed.await;
            }
        }
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns a probe of this front.
    pub fn probe(&self) -> Probe {
        let shards = self.shards.iter().map(|(commands, _)| commands.clone()).collect();
        Probe::new(shards, self.own.clone())
    }

    /// Returns a function that counts the open connections.
    pub fn count(&self) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let admission = self.admission.clone();
        Arc::new(move || admission.open())
    }

    /// Returns the open connections by site system.
    pub fn open_connections(&self) -> OpenConnections {
        self.open_connections.clone()
    }

    /// Waits until every shard has drained. Blocks the calling thread.
    pub fn join(self) {
        for (commands, thread) in self.shards {
            drop(commands);
            let _ = thread.join();
        }
    }
}

async fn run<A: Serve>(
    mut inbox: mpsc::UnboundedReceiver<Command>,
    shared: Arc<ProcessState>,
    server: Arc<A>,
) {
    let open = Arc::new(ShardConnections::default());
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
    // Connections accepted in the same turn must be counted before the wait.
    tokio::task::yield_now().await;
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
                each.shared.metrics.connections.ended(ConnectionEnd::AcceptFailed);
                if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        %error, address = %each.configured,
                        "no connection could be accepted; trying again (logged once a minute)"
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
        Err(full) => each.shared.metrics.connections.ended(match full {
            Full::Connections => ConnectionEnd::TooMany,
            Full::Address => ConnectionEnd::TooManyOfAddress,
        }),
    }
}

/// The kind of an accepted connection, by its addresses.
#[derive(Clone, Copy)]
struct Arriving {
    peer: SocketAddr,
    /// Whether a load balancer announces the client.
    balanced: bool,
    /// Whether it is plain HTTP.
    clear: bool,
}

async fn serve<A: Serve>(
    stream: TcpStream,
    arriving: Arriving,
    each: Each<A>,
    limits: Limits,
    admitted: Admitted,
) {
    let shared = &each.shared;
    let _ = stream.set_nodelay(true);
    let opened = shared.metrics.connections.opened();
    let mut admitted = admitted;
    let arrived = arrive(stream, arriving, &each, &limits, &mut admitted);
    // Boxed, so that its memory is freed afterwards and is not part of an idle connection's state.
    let arrived = Box::pin(tokio::time::timeout(limits.handshake_time, arrived));
    let (transport, info) = match arrived.await {
        Ok(Ok(Some(arrived))) => arrived,
        Ok(Ok(None)) => return,
        Ok(Err(end)) => return shared.metrics.connections.ended(end),
        Err(_) => return shared.metrics.connections.ended(ConnectionEnd::HandshakeTime),
    };
    if info.clear.is_none() {
        shared.metrics.connections.handshake_done(info.tls_version, info.cipher);
    }
    let conn = Conn::new(transport, info, limits, shared.on_refusal.clone(), &shared.metrics);
    let counted = shared.open_connections.enter(conn.info());
    let mut shutdown = shared.shutdown.clone();
    // A server that waits for a change must see it, even if it came before this connection.
    if *shutdown.borrow() {
        shutdown.mark_changed();
    }
    each.server.serve(conn, &shutdown).await;
    drop((counted, opened));
}

/// Determines the client, and does the TLS handshake unless the address is plain HTTP. `None` if
/// the system no longer knows the connection.
async fn arrive<A>(
    mut stream: TcpStream,
    Arriving { peer, balanced, clear }: Arriving,
    each: &Each<A>,
    limits: &Limits,
    admitted: &mut Admitted,
) -> Result<Option<(Transport, ConnInfo)>, ConnectionEnd> {
    let shared = &each.shared;
    let Ok(local) = stream.local_addr() else { return Ok(None) };
    let client =
        if balanced { client_of(&mut stream, peer, admitted, limits).await? } else { peer };
    if clear {
        let info = in_clear(each, client, local);
        return Ok(info.map(|info| (Either::Right(Tcp::new(stream)), info)));
    }
    // A client that sends nothing, or half a record, does not count toward the handshake limit.
    let stream = first_record(stream).await;
    // The wait counts against the handshake timeout, so the queue is bounded.
    let permit = shared.handshake_limit.permit(limits.handshakes).await;
    let mut shaking = pin!(handshake(stream, each));
    let shaken = match tokio::time::timeout(TURN, &mut shaking).await {
        Ok(shaken) => shaken,
        Err(_) => {
            drop(permit);
            shaking.await
        }
    };
    let (tls, site, by_default) = shaken?;
    let info = describe(&tls, site, by_default, client, local, shared);
    Ok(info.map(|info| (Either::Left(tls), info)))
}

#[cfg(test)]
mod tests;
