//! Whether what is open is served: every shard has to answer, and every listener a connection of this
//! process's own. Such connections are known by their port, and neither counted nor logged.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

use super::handshake::handshake;
use super::listener::at_home;
use super::open::Each;
use super::shard::Command;

/// What a listener of plain HTTP answers a connection of this process's own.
const HERE: &[u8] = b"here";

/// The addresses from which this process connects to itself at the moment.
#[derive(Debug, Default)]
pub(super) struct Own {
    count: AtomicUsize,
    addresses: Mutex<HashSet<SocketAddr>>,
}

impl Own {
    /// Whether a connection comes from this process.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        // Nearly always there is none, and then nothing is locked.
        self.count.load(Ordering::Acquire) > 0 && {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.contains(&canonical(peer))
        }
    }

    fn enter(self: &Arc<Self>, address: SocketAddr) -> Entered {
        let address = canonical(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.insert(address);
        self.count.store(addresses.len(), Ordering::Release);
        Entered { own: self.clone(), address }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

struct Entered {
    own: Arc<Own>,
    address: SocketAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut addresses = self.own.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.remove(&self.address);
        self.own.count.store(addresses.len(), Ordering::Release);
    }
}

/// Asks the front of this process whether it serves. Clones ask the same front.
#[derive(Clone)]
pub struct Probe {
    shards: Vec<mpsc::UnboundedSender<Command>>,
    own: Arc<Own>,
}

impl Probe {
    pub(super) fn new(shards: Vec<mpsc::UnboundedSender<Command>>, own: Arc<Own>) -> Self {
        Probe { shards, own }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Wait until a shard answers, which takes no longer than what it is doing. Never ends where it
    /// does not.
    pub async fn shard(&self, number: usize) {
        let (done, answered) = oneshot::channel();
        let sent =
            self.shards.get(number).is_some_and(|s| s.send(Command::Answer { done }).is_ok());
        if !sent || answered.await.is_err() {
            std::future::pending().await
        }
    }

    /// Wait until a bound address answers: by a handshake for that name, or to whoever connects where
    /// it is plain HTTP. A handshake that is refused by an alert is an answer.
    ///
    /// # Errors
    /// What the system answers, or what came instead.
    pub async fn listener(
        &self,
        bound: SocketAddr,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> io::Result<()> {
        let to = at_home(bound);
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The port is known before anybody can see the connection.
        socket.bind(SocketAddr::new(to.ip(), 0))?;
        let _entered = self.own.enter(socket.local_addr()?);
        let mut stream = socket.connect(to).await?;
        match tls {
            Some((config, name)) => match TlsConnector::from(config).connect(name, stream).await {
                Ok(mut tls) => tls.shutdown().await,
                Err(error) if is_alert(&error) => Ok(()),
                Err(error) => Err(error),
            },
            None => {
                let mut answer = [0; HERE.len()];
                stream.read_exact(&mut answer).await.map(drop)
            }
        }
    }
}

fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// Answer a connection of this process's own, and close it.
pub(super) async fn answer<A>(mut stream: TcpStream, each: Each<A>, clear: bool) {
    if clear {
        let _ = stream.write_all(HERE).await;
    } else if let Ok((mut tls, _, _)) = handshake(stream, &each).await {
        let _ = tls.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_its_own_as_long_as_it_is_entered() {
        let own = Arc::new(Own::default());
        let address = "127.0.0.1:4711".parse().unwrap();
        assert!(!own.has(address));
        let entered = own.enter(address);
        assert!(own.has("[::ffff:127.0.0.1]:4711".parse().unwrap()));
        assert!(!own.has("127.0.0.1:4712".parse().unwrap()));
        drop(entered);
        assert!(!own.has(address));
    }
}
