//! Services of this process, and the connections to them: in memory, without a socket that another
//! process could open, and without a name in the file system.
//!
//! Knows nothing of what is said on a connection.

use std::io;
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// The bytes of one direction of a connection that wait for their reader.
const BUFFER_BYTES: usize = 32 * 1024;
/// The connections that wait for a service to accept them, as the backlog of a socket.
const BACKLOG: usize = 1024;

/// A service of this process, as its clients see it. Two are equal if they are the same service.
#[derive(Clone)]
pub struct LocalService(Arc<ServiceEnd>);

struct ServiceEnd {
    name: &'static str,
    connections: mpsc::Sender<DuplexStream>,
}

/// Accepts the connections to a service. Connecting fails once it is dropped.
#[derive(Debug)]
pub struct LocalListener {
    name: &'static str,
    connections: mpsc::Receiver<DuplexStream>,
}

/// Returns a service and the listener that accepts its connections. The name is for logs.
pub fn local_service(name: &'static str) -> (LocalService, LocalListener) {
    let (sender, connections) = mpsc::channel(BACKLOG);
    let service = LocalService(Arc::new(ServiceEnd { name, connections: sender }));
    (service, LocalListener { name, connections })
}

impl LocalService {
    /// Connects.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] if the service does not run.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let refused = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "it does not run");
        self.0.connections.send(theirs).await.map_err(refused)?;
        Ok(ours)
    }
}

impl PartialEq for LocalService {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LocalService {}

impl std::hash::Hash for LocalService {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl std::fmt::Display for LocalService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl std::fmt::Debug for LocalService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalService({})", self.0.name)
    }
}

impl axum::serve::Listener for LocalListener {
    type Io = DuplexStream;
    type Addr = &'static str;

    async fn accept(&mut self) -> (DuplexStream, &'static str) {
        match self.connections.recv().await {
            Some(connection) => (connection, self.name),
            // No client is left that could connect.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<&'static str> {
        Ok(self.name)
    }
}

/// The services of a process that its gateway forwards to.
#[derive(Clone, Debug)]
pub struct LocalServices {
    /// The token service.
    pub token_service: LocalService,
    /// The site server for gateways on other hosts.
    pub site_server: LocalService,
    /// CRLs and issuer certificates of the site's CA.
    pub publication: LocalService,
}

/// The listeners of [`LocalServices`].
#[derive(Debug)]
pub struct LocalListeners {
    /// That of the token service.
    pub token_service: LocalListener,
    /// That of the site server.
    pub site_server: LocalListener,
    /// That of the publications.
    pub publication: LocalListener,
}

/// Returns the services of a process, none of which runs yet.
pub fn local_services() -> (LocalServices, LocalListeners) {
    let (token_service, of_tokens) = local_service("the token service");
    let (site_server, of_site_server) = local_service("the site server");
    let (publication, of_publication) = local_service("the publication of the CA");
    (
        LocalServices { token_service, site_server, publication },
        LocalListeners {
            token_service: of_tokens,
            site_server: of_site_server,
            publication: of_publication,
        },
    )
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let (service, mut listener) = local_service("a test");
        let mut client = service.connect().await.unwrap();
        let (mut server, name) = listener.accept().await;
        client.write_all(b"ask").await.unwrap();
        server.write_all(b"say").await.unwrap();
        let (mut asked, mut said) = ([0; 3], [0; 3]);
        server.read_exact(&mut asked).await.unwrap();
        client.read_exact(&mut said).await.unwrap();
        assert_eq!((&asked, &said, name), (b"ask", b"say", "a test"));
    }

    #[tokio::test]
    async fn a_service_that_does_not_run_refuses() {
        let (service, listener) = local_service("a test");
        drop(listener);
        let error = service.connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_other_end() {
        let (service, mut listener) = local_service("a test");
        let mut client = service.connect().await.unwrap();
        drop(listener.accept().await);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
