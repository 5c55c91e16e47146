//! A simulated backend with Windows authentication as NTLM has it: three legs, after which the
//! connection itself is somebody's, and whatever comes on it is taken for theirs.
//!
//! No cryptography: what matters is whose a connection is. It tells so in every answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Whose a connection is, to be read in an answer.
pub const IDENTITY: &str = "x-identity";
/// What stands there for nobody.
pub const NOBODY: &str = "-";

/// The first leg: a client asks for a challenge.
pub const HELLO: &str = "NTLM hello";

/// The third leg: who a client is, by the challenge that it was given.
pub fn proof(user: &str, challenge: &str) -> String {
    format!("NTLM {user}/{challenge}")
}

/// The challenge in the second leg's `WWW-Authenticate`.
pub fn challenge(field: &str) -> Option<&str> {
    field.strip_prefix("NTLM ")
}

/// A connection's state.
#[derive(Debug, Default)]
enum State {
    #[default]
    Nobodys,
    Challenged(u64),
    Of(String),
}

/// A simulated backend that runs until it is dropped.
#[derive(Debug)]
pub struct WindowsBackend {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl WindowsBackend {
    /// Start one on a free port of 127.0.0.1. Paths with `windowsauth` in their first segment are for
    /// somebody alone; all others for everyone.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let connections = Arc::<AtomicU64>::default();
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let count = connections.clone();
        let thread =
            std::thread::Builder::new().name("sim-windows".to_owned()).spawn(move || {
                runtime.block_on(serve(listener, count, stopped));
            })?;
        Ok(WindowsBackend { address, connections, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for WindowsBackend {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    count: Arc<AtomicU64>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        // The number of the connection is its challenge, so that no other has the same.
        let number = count.fetch_add(1, Ordering::AcqRel) + 1;
        let state = Arc::<Mutex<State>>::default();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let state = state.clone();
            async move {
                let (head, body) = request.into_parts();
                let whole = body.collect().await.is_ok();
                Ok::<_, Infallible>(answer(&head, number, &state, whole))
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(async move {
            // A connection that its peer breaks is the peer's affair.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(
    head: &http::request::Parts,
    number: u64,
    state: &Mutex<State>,
    whole: bool,
) -> Response<Full<Bytes>> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let said = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut told = "NTLM".to_owned();
    match said.and_then(|said| said.strip_prefix("NTLM ")) {
        Some("hello") => {
            *state = State::Challenged(number);
            told = format!("NTLM {number}");
        }
        Some(proof) => {
            let (user, answered) = proof.split_once('/').unwrap_or_default();
            let expected = match &*state {
                State::Challenged(challenge) => Some(challenge.to_string()),
                State::Nobodys | State::Of(_) => None,
            };
            *state = match expected.as_deref() == Some(answered) && !user.is_empty() {
                true => State::Of(user.to_owned()),
                false => State::Nobodys,
            };
        }
        None => {}
    }
    let who = match &*state {
        State::Of(user) => user.clone(),
        State::Nobodys | State::Challenged(_) => NOBODY.to_owned(),
    };
    let first = head.uri.path().split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    let mut answer = Response::new(Full::new(Bytes::from(who.clone())));
    if let Ok(who) = HeaderValue::from_str(&who) {
        answer.headers_mut().insert(IDENTITY, who);
    }
    if !whole {
        *answer.status_mut() = StatusCode::BAD_REQUEST;
    } else if first.contains("windowsauth") && !matches!(*state, State::Of(_)) {
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        if let Ok(told) = HeaderValue::from_str(&told) {
            answer.headers_mut().insert(WWW_AUTHENTICATE, told);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_connection_is_somebodys_after_three_legs_and_no_other_is() {
        let backend = WindowsBackend::start().unwrap();
        let open = || std::net::TcpStream::connect(backend.address()).unwrap();
        let ask = |stream: &mut std::net::TcpStream, said: &str| {
            let field =
                if said.is_empty() { String::new() } else { format!("Authorization: {said}\r\n") };
            let head = format!("GET /SMS_MP_WindowsAuth/x HTTP/1.1\r\nHost: mp\r\n{field}\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let (mut answer, mut byte) = (Vec::new(), [0; 1]);
            while !answer.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            let text = String::from_utf8(answer).unwrap().to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
            text
        };
        let (mut first, mut second) = (open(), open());
        assert!(ask(&mut first, "").contains("www-authenticate: ntlm\r\n"));
        assert!(ask(&mut first, HELLO).contains("www-authenticate: ntlm 1\r\n"));
        let stolen = ask(&mut second, &proof("anna", "1"));
        assert!(stolen.starts_with("http/1.1 401") && stolen.contains("x-identity: -\r\n"));
        let known = ask(&mut first, &proof("anna", "1"));
        assert!(known.starts_with("http/1.1 200") && known.contains("x-identity: anna\r\n"));
        assert!(ask(&mut first, "").contains("x-identity: anna\r\n"));
        assert!(ask(&mut second, "").starts_with("http/1.1 401"));
        assert_eq!(backend.connections(), 2);
    }
}
