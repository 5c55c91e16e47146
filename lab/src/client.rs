//! A simulated client: HTTPS over HTTP/1.1, with one persistent connection.
//!
//! Never retries: a test must see the failure that a client would see.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};

use super::content::hex;
pub use super::presented::{ServedChain, thumbprint};

/// The timeout of a connection attempt, and of a whole response.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The most bytes of a body that are kept, unless it is only hashed.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A failure, by stage.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Invalid roots, name, method, path or header field.
    #[error("the client was asked for something that is not well-formed: {0}")]
    Asked(String),
    /// No TCP connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// No TLS session, for example because the client does not accept the certificate.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The connection ended, or the response is not HTTP.
    #[error("the request failed: {0}")]
    Http(hyper::Error),
    /// Timeout.
    #[error("no answer within {0:?}")]
    Time(Duration),
    /// The response is too large.
    #[error("the answer has more than {BODY_BYTES_MAX} bytes")]
    Size,
}

/// The roots that a client trusts; cheap to clone. Clones share their TLS session tickets, as the
/// connections of one client do.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts only the certificates of a PEM text.
    ///
    /// # Errors
    /// [`ClientError::Asked`] if there is none in it.
    pub fn new(roots_pem: &str, provider: Arc<CryptoProvider>) -> Result<Self, ClientError> {
        let asked = |why: String| ClientError::Asked(why);
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
            let der = der.map_err(|e| asked(e.to_string()))?;
            roots.add(der).map_err(|e| asked(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(asked("there is no root".to_owned()));
        }
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| asked(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust(Arc::new(config)))
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct SimRequest {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Bytes,
    hashed: bool,
}

impl SimRequest {
    /// A request without a body: method, path and query are sent unchanged.
    pub fn new(method: &str, target: &str) -> Self {
        SimRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            body: Bytes::new(),
            hashed: false,
        }
    }

    /// A GET request.
    pub fn get(target: &str) -> Self {
        SimRequest::new("GET", target)
    }

    /// Method, path and query.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// Adds a header field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token.
    pub fn bearer(self, token: &str) -> Self {
        self.field("Authorization", &format!("Bearer {token}"))
    }

    /// Requests the bytes from `first` to `last`, both included.
    pub fn range(self, first: u64, last: u64) -> Self {
        self.field("Range", &format!("bytes={first}-{last}"))
    }

    /// Adds a body.
    pub fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.field("Content-Type", kind)
    }

    /// Hashes the response body instead of storing it: for any size.
    pub fn hashed(mut self) -> Self {
        self.hashed = true;
        self
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct SimAnswer {
    /// The status code.
    pub status: u16,
    /// The reason phrase as received: the one that clients write into their own logs.
    pub reason: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body; empty if it was only hashed.
    pub body: Bytes,
    /// The length of the body.
    pub len: u64,
    /// The SHA-256 of the body if it was hashed, lower-case hexadecimal.
    pub sha256: Option<String>,
    /// The certificate that the server presented when this connection was opened.
    pub presented: Arc<ServedChain>,
    /// Whether the connection had carried a request before.
    pub reused: bool,
}

impl SimAnswer {
    /// A header field as text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// sitegate's denial code, if the response is a denial.
    pub fn code(&self) -> Option<String> {
        let document: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        document.get("code").and_then(|code| code.as_str()).map(str::to_owned)
    }

    /// Status and reason phrase, as in a client's log: `401 EHTTP_Token_Missing`.
    pub fn line(&self) -> String {
        format!("{} {}", self.status, self.reason)
    }
}

/// A client of one site system, with at most one connection. Runs within a tokio runtime.
#[derive(Debug)]
pub struct SimClient {
    address: SocketAddr,
    name: String,
    /// The port of the requested authority, which a load balancer may translate.
    port: u16,
    /// The source address of connections, if not the system's choice.
    from: Option<IpAddr>,
    trust: Trust,
    open: Option<OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    send: SendRequest<Full<Bytes>>,
    presented: Arc<ServedChain>,
    used: bool,
}

impl SimClient {
    /// A client that connects to `address` and requests `name`. Opens no connection yet.
    pub fn new(address: SocketAddr, name: &str, trust: &Trust) -> Self {
        let (name, trust) = (name.to_owned(), trust.clone());
        SimClient { address, name, port: address.port(), from: None, trust, open: None }
    }

    /// Requests another port than the one that is connected to.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Connects from an address of this machine.
    pub fn from(mut self, address: Option<IpAddr>) -> Self {
        self.from = address;
        self
    }

    /// Sends a request over the open connection, or over a new one if there is none.
    ///
    /// # Errors
    /// The failure; the connection is then closed.
    pub async fn fetch(&mut self, request: &SimRequest) -> Result<SimAnswer, ClientError> {
        let answered = tokio::time::timeout(WAIT_MAX, self.exchange(request)).await;
        let answered = answered.unwrap_or(Err(ClientError::Time(WAIT_MAX)));
        if answered.is_err() {
            self.close();
        }
        answered
    }

    /// Opens a connection if there is none, and returns the certificate that the server presents.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&mut self) -> Result<Arc<ServedChain>, ClientError> {
        let opened = tokio::time::timeout(WAIT_MAX, self.ready()).await;
        let open = opened.unwrap_or(Err(ClientError::Time(WAIT_MAX)))?;
        Ok(open.presented.clone())
    }

    /// Whether there is a connection that the server has not closed.
    pub fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.send.is_closed())
    }

    /// Closes the connection: the next request opens a new one.
    pub fn close(&mut self) {
        self.open = None;
    }

    async fn ready(&mut self) -> Result<&mut OpenConnection, ClientError> {
        let kept = self.open.take().filter(|open| !open.send.is_closed());
        let open = match kept {
            Some(open) => open,
            None => self.open().await?,
        };
        Ok(self.open.insert(open))
    }

    async fn open(&self) -> Result<OpenConnection, ClientError> {
        let server = ServerName::try_from(self.name.clone());
        let server = server.map_err(|e| ClientError::Asked(e.to_string()))?;
        let stream = self.tcp().await.map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        let connector = tokio_rustls::TlsConnector::from(self.trust.0.clone());
        let stream = connector.connect(server, stream).await.map_err(ClientError::Handshake)?;
        let presented = Arc::new(ServedChain::of(stream.get_ref().1));
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Http)?;
        tokio::spawn(async move {
            // The request in flight reports the error.
            let _ = connection.await;
        });
        Ok(OpenConnection { send, presented, used: false })
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(self.address).await
    }

    async fn exchange(&mut self, request: &SimRequest) -> Result<SimAnswer, ClientError> {
        let message = message(request, &self.name, self.port)?;
        let open = self.ready().await?;
        open.send.ready().await.map_err(ClientError::Http)?;
        let reused = std::mem::replace(&mut open.used, true);
        let presented = open.presented.clone();
        let answer = open.send.send_request(message).await.map_err(ClientError::Http)?;
        let (head, body) = answer.into_parts();
        let phrase = head.extensions.get::<hyper::ext::ReasonPhrase>();
        let reason = match phrase {
            Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
            None => head.status.canonical_reason().unwrap_or_default().to_owned(),
        };
        let (body, len, sha256) = read(body, request.hashed).await?;
        let (status, headers) = (head.status.as_u16(), head.headers);
        Ok(SimAnswer { status, reason, headers, body, len, sha256, presented, reused })
    }
}

fn message(
    request: &SimRequest,
    name: &str,
    port: u16,
) -> Result<http::Request<Full<Bytes>>, ClientError> {
    let asked = |error: http::Error| ClientError::Asked(error.to_string());
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|e| asked(e.into()))?;
    let mut message = http::Request::builder().method(method).uri(&request.target);
    let host = match port {
        443 => name.to_owned(),
        _ => format!("{name}:{port}"),
    };
    message = message.header(http::header::HOST, host);
    for (name, value) in &request.fields {
        let value = HeaderValue::from_str(value).map_err(|e| asked(e.into()))?;
        message = message.header(name, value);
    }
    message.body(Full::new(request.body.clone())).map_err(asked)
}

async fn read(
    mut body: Incoming,
    hashed: bool,
) -> Result<(Bytes, u64, Option<String>), ClientError> {
    let (mut kept, mut len) = (Vec::new(), 0);
    let mut hash = hashed.then(|| digest::Context::new(&digest::SHA256));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ClientError::Http)?;
        let Some(piece) = frame.data_ref() else { continue };
        len += piece.len() as u64;
        match &mut hash {
            Some(hash) => hash.update(piece),
            None if kept.len() + piece.len() > BODY_BYTES_MAX => return Err(ClientError::Size),
            None => kept.extend_from_slice(piece),
        }
    }
    Ok((kept.into(), len, hash.map(|hash| hex(hash.finish().as_ref()))))
}
