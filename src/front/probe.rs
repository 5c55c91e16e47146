//! A self-check of the front: every shard must answer, and every listener must answer a connection
//! from this process. Such connections are recognized by their port, and neither counted nor
//! logged.

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
use super::shard::Command;
use super::shard_connections::Each;

/// The answer of a plain-HTTP listener to a connection from this process.
const HERE: &[u8] = b"here";

/// The addresses from which this process now connects to itself.
#[derive(Debug, Default)]
pub(super) struct OwnProbes {
    count: AtomicUsize,
    addresses: Mutex<HashSet<SocketAddr>>,
}

impl OwnProbes {
    /// Checks whether a connection comes from this process.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        // Nearly always there is none, and then no lock is taken.
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
    own: Arc<OwnProbes>,
    address: SocketAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut addresses = self.own.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.remove(&self.address);
        self.own.count.store(addresses.len(), Ordering::Release);
    }
}

/// Checks whether the front of this process serves. Clones check the same front.
#[derive(Clone)]
pub struct Probe {
    shards: Vec<mpsc::UnboundedSender<Command>>,
    own: Arc<OwnProbes>,
}

impl Probe {
    pub(super) fn new(shards: Vec<mpsc::UnboundedSender<Command>>, own: Arc<OwnProbes>) -> Self {
        Probe { shards, own }
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Waits until a shard answers, which takes no longer than its current work. Never returns if
    /// the shard does not answer.
    pub async fn shard(&self, number: usize) {
        let (done, answered) = oneshot::channel();
        let sent =
            self.shards.get(number).is_some_and(|s| s.send(Command::Answer { done }).is_ok());
        if !sent || answered.await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until a bound address answers: with a TLS handshake for this name, or on plain HTTP
    /// with the answer to a connection. A handshake refused by an alert is an answer.
    ///
    /// # Errors
    /// The system's error, or the unexpected answer.
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
        // The port is registered before the front can see the connection.
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

/// Answers a connection from this process, and closes it.
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
        let own = Arc::new(OwnProbes::default());
        let address = "127.0.0.1:4711".parse().unwrap();
        assert!(!own.has(address));
        let entered = own.enter(address);
        assert!(own.has("[::ffff:127.0.0.1]:4711".parse().unwrap()));
        assert!(!own.has("127.0.0.1:4712".parse().unwrap()));
        drop(entered);
        assert!(!own.has(address));
    }
}
