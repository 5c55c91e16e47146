//! A self-check of the front: every shard must answer, and every listener must answer a connection
//! from this process. Such connections are neither counted nor logged.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

use super::command::Command;
use super::handshake::handshake;
use super::listener::at_home;
use super::own_probes::OwnProbes;
use super::process_state::Each;
use super::tcp::Tcp;

/// The answer of a plain-HTTP listener to a connection from this process.
const HERE: &[u8] = b"here";

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
    } else if let Ok((mut tls, _, _)) = handshake(Tcp::new(stream), &each).await {
        let _ = tls.shutdown().await;
    }
}
