//! Strict clients: a response is complete only if its framing says so.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::case::{Case, Upload, pattern};
use crate::messages::TYPE;
use crate::support::{Gateway, client_config};

/// The protocol, and the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Tls10,
    Tls11,
    Tls2,
    Clear10,
    Clear11,
    Curl11,
    Curl2,
    Nghttp,
    Httpx11,
    Httpx2,
}

pub const WAYS: [Way; 5] = [Way::Tls10, Way::Tls11, Way::Tls2, Way::Clear10, Way::Clear11];

/// The foreign clients, over TLS.
pub const FOREIGN: [Way; 5] = [Way::Curl11, Way::Curl2, Way::Nghttp, Way::Httpx11, Way::Httpx2];

impl Way {
    pub fn is_old(self) -> bool {
        matches!(self, Way::Tls10 | Way::Clear10)
    }

    pub fn is_foreign(self) -> bool {
        FOREIGN.contains(&self)
    }

    fn is_clear(self) -> bool {
        matches!(self, Way::Clear10 | Way::Clear11)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// It was cut off.
    Cut,
}

pub type Fields = BTreeMap<String, Vec<String>>;

/// The response that a client received.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub interims: Vec<u16>,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub end: End,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Seen { interims, status, fields, body, end } = self;
        write!(f, "{interims:?} {status} {fields:?} {} bytes, {end:?}", body.len())
    }
}

impl Seen {
    /// Returns the denial code, if it is a refusal of the gateway itself.
    pub fn code(&self) -> Option<String> {
        let problem = ["application/problem+json".to_owned()];
        let own = self.fields.get("content-type").is_some_and(|kind| **kind == problem);
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        own.then(|| body["code"].as_str().unwrap_or("unsaid").to_owned())
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An HTTP/1 connection, and the bytes read but not used.
struct Line(Box<dyn Stream>, Vec<u8>);

pub struct Client {
    pub way: Way,
    port: u16,
    config: ClientConfig,
    line: Option<Line>,
    streams: Option<SendRequest<Bytes>>,
}

impl Client {
    pub fn new(way: Way, gateway: &Gateway, clear: u16) -> Client {
        let port = if way.is_clear() { clear } else { gateway.port };
        let mut config = client_config(gateway);
        if way == Way::Tls2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Client { way, port, config, line: None, streams: None }
    }

    async fn connect(&mut self) -> Box<dyn Stream> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        if self.way.is_clear() {
            return Box::new(tcp);
        }
        let name = ServerName::try_from(Gateway::HOST).unwrap();
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        Box::new(connector.connect(name, tcp).await.unwrap())
    }

    /// Sends a request, and waits for the end of the response.
    pub async fn ask(&mut self, case: &Case, path: &str) -> Seen {
        let asking = async {
            match self.way {
                Way::Tls2 => self.ask_http2(case, path).await,
                _ => self.ask_http1(case, path).await,
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(60), asking).await;
        seen.unwrap_or_else(|_| panic!("{:?}: {case:?}: no end", self.way))
    }

    async fn ask_http1(&mut self, case: &Case, path: &str) -> Seen {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => Line(self.connect().await, Vec::new()),
        };
        let old = self.way.is_old();
        let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head =
            format!("{} {path}?x=%7By%7D {version}\r\nHost: {}\r\n", case.method, Gateway::HOST);
        for (name, value) in fields(case, old) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Cookie: a=b; c=d\r\n");
        let body = case.body();
        let mut request = Vec::new();
        match case.upload {
            Upload::Chunked(_) => {
                head.push_str("Transfer-Encoding: chunked\r\n\r\n");
                request.extend(head.into_bytes());
                for piece in body.chunks(3_000) {
                    request.extend(format!("{:x};x=y\r\n", piece.len()).into_bytes());
                    request.extend(piece);
                    request.extend(b"\r\n");
                }
                request.extend(b"0\r\nX-Trailer: y\r\n\r\n");
            }
            Upload::Expected(_) if !old => {
                head.push_str("\r\n");
                request.extend(head.into_bytes());
            }
            _ => {
                head.push_str("\r\n");
                request.extend(head.into_bytes());
                request.extend(&body);
            }
        }
        line.write(&request).await;
        let mut answered = line.head().await;
        if let (Upload::Expected(_), Some((100, _)), false) = (&case.upload, &answered, old) {
            line.write(&body).await;
            answered = line.head().await;
        }
        let mut seen = Seen {
            interims: Vec::new(),
            status: 0,
            fields: Fields::new(),
            body: Vec::new(),
            end: End::Cut,
        };
        while let Some((status @ 102..200, _)) = answered {
            seen.interims.push(status);
            answered = line.head().await;
        }
        let Some((status, fields)) = answered else { return seen };
        assert!(
            status >= 200 || case.is_switched(),
            "{case:?} {:?}: {status} that nobody asked for",
            self.way
        );
        (seen.status, seen.fields) = (status, fields);
        if status == 101 {
            seen.end = line.echoed(&pattern(case.answer.body), &mut seen.body).await;
            return seen;
        }
        let closes = old || seen.fields.get("connection").is_some_and(|c| *c == ["close"]);
        seen.end = line.body(case, &mut seen.body, status, &seen.fields, old).await;
        if seen.end == End::Whole {
            assert!(line.1.is_empty(), "{case:?} {:?}: more than the answer", self.way);
            if closes {
                assert!(line.more().await.is_none(), "{case:?} {:?}: it ends", self.way);
            } else {
                self.line = Some(line);
            }
        }
        seen
    }

    async fn ask_http2(&mut self, case: &Case, path: &str) -> Seen {
        let streams = match self.streams.take() {
            Some(streams) => streams,
            None => {
                let (streams, connection) =
                    h2::client::handshake(self.connect().await).await.unwrap();
                tokio::spawn(connection);
                streams
            }
        };
        let mut streams = streams.ready().await.unwrap();
        let mut request = http::Request::builder()
            .method(case.method)
            .uri(format!("https://{}{path}?x=%7By%7D", Gateway::HOST));
        for (name, value) in fields(case, false) {
            request = request.header(name, value);
        }
        for crumb in ["a=b", "c=d"] {
            request = request.header("cookie", crumb);
        }
        let body = case.body();
        let none = case.upload == Upload::None;
        let request = request.body(()).unwrap();
        let (mut response, mut upload) = streams.send_request(request, none).unwrap();
        self.streams = Some(streams);
        let mut interims = Vec::new();
        let mut answered = None;
        if let Upload::Expected(_) = case.upload {
            while answered.is_none() && !interims.contains(&100) {
                answered = next(&mut response, &mut interims).await;
            }
        }
        if answered.is_none() && !none {
            send(&mut upload, body).await;
        }
        let answered = match answered {
            Some(answered) => answered,
            None => loop {
                if let Some(answered) = next(&mut response, &mut interims).await {
                    break answered;
                }
            },
        };
        interims.retain(|status| *status != 100);
        let mut seen =
            Seen { interims, status: 0, fields: Fields::new(), body: Vec::new(), end: End::Cut };
        let Ok(answered) = answered else { return seen };
        seen.status = answered.status().as_u16();
        for (name, value) in answered.headers() {
            let value = value.as_bytes().iter().map(|b| char::from(*b)).collect();
            seen.fields.entry(name.to_string()).or_default().push(value);
        }
        let mut body = answered.into_body();
        seen.end = loop {
            match body.data().await {
                Some(Ok(data)) => {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    seen.body.extend(&data);
                }
                Some(Err(_)) => break End::Cut,
                None => break End::Whole,
            }
        };
        seen
    }
}

type Answered = Result<http::Response<h2::RecvStream>, h2::Error>;

/// Returns the response, or `None` for an interim one, which is recorded.
async fn next(
    response: &mut h2::client::ResponseFuture,
    interims: &mut Vec<u16>,
) -> Option<Answered> {
    poll_fn(|cx| {
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            interims.push(interim.status().as_u16());
            return Poll::Ready(None);
        }
        Pin::new(&mut *response).poll(cx).map(Some)
    })
    .await
}

/// Sends a body as fast as the peer accepts it, and stops when the peer wants no more.
async fn send(upload: &mut h2::SendStream<Bytes>, body: Vec<u8>) {
    let mut body = Bytes::from(body);
    while !body.is_empty() {
        upload.reserve_capacity(body.len());
        let Some(Ok(room)) = poll_fn(|cx| match upload.capacity() {
            0 => upload.poll_capacity(cx),
            room => Poll::Ready(Some(Ok(room))),
        })
        .await
        else {
            return;
        };
        let piece = body.split_to(room.min(body.len()));
        if upload.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}

/// Returns the fields of a request, without those that frame a body of unknown length.
pub fn fields(case: &Case, old: bool) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("User-Agent", "strict".to_owned()),
        ("Accept", "*/*".to_owned()),
        ("X-Twice", "one".to_owned()),
        ("X-Twice", "two".to_owned()),
        ("X-Forwarded-User", "evil".to_owned()),
        ("Sitegate-Device", "evil".to_owned()),
    ];
    if case.switch.is_some() {
        fields.push(("Connection", "upgrade".to_owned()));
        fields.push(("Upgrade", "websocket".to_owned()));
        fields.push(("Sec-WebSocket-Version", "13".to_owned()));
        fields.push(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()));
    }
    if case.range {
        fields.push(("Range", "bytes=0-99".to_owned()));
    }
    if case.is_message() {
        let kind = TYPE.trim_start_matches("Content-Type: ");
        fields.push(("Content-Type", kind.to_owned()));
    }
    let length = case.body().len().to_string();
    match case.upload {
        Upload::Length(_) => fields.push(("Content-Length", length)),
        Upload::Expected(_) => {
            fields.push(("Content-Length", length));
            if !old {
                fields.push(("Expect", "100-continue".to_owned()));
            }
        }
        Upload::Chunked(_) | Upload::None => {}
    }
    fields
}

impl Line {
    /// Sends bytes. The reader detects a closed peer.
    async fn write(&mut self, bytes: &[u8]) {
        if self.0.write_all(bytes).await.is_ok() {
            let _ = self.0.flush().await;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        match self.0.read(&mut buffer).await {
            Ok(n) if n > 0 => self.1.extend(&buffer[..n]),
            _ => return None,
        }
        Some(())
    }

    /// Returns status and fields of the next head.
    async fn head(&mut self) -> Option<(u16, Fields)> {
        let end = loop {
            if let Some(at) = self.1.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        // Field bytes are read as Latin-1 characters, as for HTTP/2.
        let text: String = self.1.drain(..end).map(char::from).collect();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{text:?}"));
        let mut fields = Fields::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{text:?}"));
            fields.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
        }
        Some((status[..3].parse().unwrap(), fields))
    }

    async fn body(
        &mut self,
        case: &Case,
        body: &mut Vec<u8>,
        status: u16,
        fields: &Fields,
        old: bool,
    ) -> End {
        let one = |name: &str| match fields.get(name).map(Vec::as_slice) {
            None => None,
            Some([one]) => Some(one.as_str()),
            Some(more) => panic!("{name}: {more:?}"),
        };
        let chunked = one("transfer-encoding").map(|coding| assert_eq!(coding, "chunked"));
        assert!(chunked.is_none() || !old, "{case:?}: HTTP/1.0 has no chunks");
        if case.method == "HEAD" || matches!(status, 204 | 304) {
            return End::Whole;
        }
        if let Some(length) = one("content-length") {
            assert!(chunked.is_none());
            let length: usize = length.parse().unwrap();
            while self.1.len() < length {
                if self.more().await.is_none() {
                    *body = std::mem::take(&mut self.1);
                    return End::Cut;
                }
            }
            *body = self.1.drain(..length).collect();
            return End::Whole;
        }
        if chunked.is_none() {
            assert!(old, "{case:?}: neither length nor chunks");
            return self.until_end(body).await;
        }
        match self.chunks(body).await {
            Some(()) => End::Whole,
            None => End::Cut,
        }
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let at = loop {
                match self.1.windows(2).position(|w| w == b"\r\n") {
                    Some(at) => break at,
                    None => self.more().await?,
                }
            };
            let size = std::str::from_utf8(&self.1[..at]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.1.len() < at + size + 4 {
                self.more().await?;
            }
            assert_eq!(&self.1[at + 2 + size..at + 4 + size], b"\r\n");
            body.extend(&self.1[at + 2..at + 2 + size]);
            self.1.drain(..at + size + 4);
            if size == 0 {
                return Some(());
            }
        }
    }

    /// Sends bytes of the upgraded protocol, and reads their echo.
    async fn echoed(&mut self, there: &[u8], back: &mut Vec<u8>) -> End {
        let mut sent = 0;
        for piece in there.chunks(16 * 1024) {
            self.write(piece).await;
            sent += piece.len();
            while self.1.len() < sent {
                if self.more().await.is_none() {
                    return End::Cut;
                }
            }
        }
        *back = std::mem::take(&mut self.1);
        End::Whole
    }

    /// Only TLS distinguishes an end from a cut connection.
    async fn until_end(&mut self, body: &mut Vec<u8>) -> End {
        let mut buffer = [0; 16 * 1024];
        body.append(&mut self.1);
        loop {
            match self.0.read(&mut buffer).await {
                Ok(0) => return End::Whole,
                Ok(n) => body.extend(&buffer[..n]),
                Err(_) => return End::Cut,
            }
        }
    }
}
