//! A backend that answers each case as specified, and records the requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::case::Case;
use crate::support::{Carrier, certified};

/// A request as received, without the parts specific to one request or one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub line: String,
    pub fields: BTreeMap<String, Vec<String>>,
    pub body: Vec<u8>,
    /// The number of times it arrived.
    pub times: usize,
}

pub struct Backend {
    carrier: Carrier,
    port: u16,
    dir: tempfile::TempDir,
    got: Arc<Mutex<HashMap<String, Got>>>,
}

type Shared = (Arc<Vec<Case>>, Arc<Mutex<HashMap<String, Got>>>);

impl Backend {
    pub async fn start(carrier: Carrier, cases: Vec<Case>) -> Backend {
        let dir = tempfile::tempdir().unwrap();
        let got = Arc::default();
        let shared: Shared = (Arc::new(cases), Arc::clone(&got));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        match carrier {
            Carrier::Tcp => drop(tokio::spawn(async move {
                while let Ok((stream, _)) = tcp.accept().await {
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(serve(stream, shared.clone()));
                }
            })),
            Carrier::Tls => {
                let acceptor = TlsAcceptor::from(certified(dir.path()));
                drop(tokio::spawn(async move {
                    while let Ok((stream, _)) = tcp.accept().await {
                        stream.set_nodelay(true).unwrap();
                        let (acceptor, shared) = (acceptor.clone(), shared.clone());
                        tokio::spawn(async move {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        });
                    }
                }));
            }
            Carrier::Unix => {
                let unix = UnixListener::bind(dir.path().join("socket")).unwrap();
                drop(tokio::spawn(async move {
                    while let Ok((stream, _)) = unix.accept().await {
                        tokio::spawn(serve(stream, shared.clone()));
                    }
                }));
            }
        }
        Backend { carrier, port, dir, got }
    }

    /// Returns its URL, and the site system keys needed to reach it.
    pub fn address(&self) -> (String, String) {
        let dir = self.dir.path().display();
        match self.carrier {
            Carrier::Tcp => (format!("http://127.0.0.1:{}", self.port), String::new()),
            Carrier::Unix => (format!("unix:{dir}/socket"), String::new()),
            Carrier::Tls => {
                let url = format!("https://127.0.0.1:{}", self.port);
                (url, format!("backend_ca = \"{dir}/ca.pem\""))
            }
        }
    }

    /// Returns the request for a path.
    pub fn got(&self, path: &str) -> Option<Got> {
        self.got.lock().unwrap().get(path).cloned()
    }
}

/// Serves a connection to its end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, (cases, got): Shared) {
    let mut read = Vec::new();
    while let Some((path, framing)) = head(&mut stream, &mut read, &got).await {
        let number = path.trim_start_matches("/d/").split('-').next().unwrap();
        let case = &cases[number.parse::<usize>().unwrap()];
        let answer = case.answer_bytes();
        if case.is_switched() {
            let _ = write(&mut stream, &answer, case.answer.pieces).await;
            echo(&mut stream, read).await;
            return;
        }
        if case.answer.early {
            if write(&mut stream, &answer, case.answer.pieces).await.is_none() {
                return;
            }
            // A client that gets a final response instead of 100 Continue sends no body.
            if framing.expects {
                let _ = stream.shutdown().await;
                return;
            }
            body(&mut stream, &mut read, framing).await;
        } else {
            if framing.expects {
                let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                let _ = stream.flush().await;
            }
            let Some(body) = body(&mut stream, &mut read, framing).await else { return };
            got.lock().unwrap().get_mut(&path).unwrap().body = body;
            if write(&mut stream, &answer, case.answer.pieces).await.is_none() {
                return;
            }
        }
        if case.closes() {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Echoes all bytes until the stream ends.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, mut read: Vec<u8>) {
    loop {
        if stream.write_all(&read).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        read.clear();
        if more(stream, &mut read).await.is_none() {
            return;
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], pieces: usize) -> Option<()> {
    for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
        stream.write_all(piece).await.ok()?;
        stream.flush().await.ok()?;
        if pieces > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Some(())
}

#[derive(Clone, Copy)]
struct Framing {
    length: Option<usize>,
    expects: bool,
}

/// Returns the next request's path and the framing of its body. Excess bytes stay in `read`.
async fn head<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    got: &Mutex<HashMap<String, Got>>,
) -> Option<(String, Framing)> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, read).await?;
    };
    let text = String::from_utf8(read.drain(..end).collect()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap();
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let (path, line) = (path.to_owned(), format!("{method} {query}"));
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        fields.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
    }
    let one = |name: &str| fields.get(name).map(|values| values[0].clone());
    let chunked = one("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let length = one("content-length").map(|length| length.parse().unwrap());
    assert!(!(chunked && length.is_some()), "{text}");
    let length = if chunked { None } else { Some(length.unwrap_or(0)) };
    let framing = Framing { length, expects: fields.contains_key("expect") };
    for own in ["x-request-id", "traceparent", "x-forwarded-proto"] {
        assert!(fields.remove(own).is_some(), "{own} in {text}");
    }
    let mut got = got.lock().unwrap();
    let times = got.get(&path).map_or(0, |got| got.times) + 1;
    got.insert(path.clone(), Got { line, fields, body: Vec::new(), times });
    Some((path, framing))
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer).await {
        Ok(n) if n > 0 => read.extend(&buffer[..n]),
        _ => return None,
    }
    Some(())
}

/// Returns the body; `None` if it is cut off.
async fn body<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    framing: Framing,
) -> Option<Vec<u8>> {
    if let Some(length) = framing.length {
        while read.len() < length {
            more(stream, read).await?;
        }
        return Some(read.drain(..length).collect());
    }
    let mut body = Vec::new();
    loop {
        let at = loop {
            match read.windows(2).position(|w| w == b"\r\n") {
                Some(at) => break at,
                None => more(stream, read).await?,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&read[..at]).unwrap(), 16).unwrap();
        while read.len() < at + size + 4 {
            more(stream, read).await?;
        }
        assert_eq!(&read[at + 2 + size..at + 4 + size], b"\r\n");
        body.extend(&read[at + 2..at + 2 + size]);
        read.drain(..at + size + 4);
        if size == 0 {
            return Some(body);
        }
    }
}
