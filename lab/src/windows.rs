//! A simulated backend that returns only the Windows identity of the connection.
//!
//! Shows that no request ever runs under another user's identity.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::ntlm::Conversation;
use super::serving::{ANY_PORT, RunningServer};

/// The response header with the connection's identity.
pub const IDENTITY: &str = "x-identity";
/// Its value for an unauthenticated connection.
pub const NOBODY: &str = "-";

/// A simulated backend that runs until it is dropped.
#[derive(Debug)]
pub struct WindowsBackend {
    serving: RunningServer,
    connections: Arc<AtomicU64>,
}

impl WindowsBackend {
    /// Starts one on a free port of 127.0.0.1. Paths with `windowsauth` in their first segment
    /// require authentication; all others do not.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub fn start() -> io::Result<Self> {
        let connections = Arc::<AtomicU64>::default();
        let count = connections.clone();
        let serving = RunningServer::start("sim-windows", ANY_PORT, move || {
            let number = count.fetch_add(1, Ordering::AcqRel) + 1;
            let whose = Arc::new(Mutex::new(Conversation::new(number)));
            move |request| answer(request, whose.clone())
        })?;
        Ok(WindowsBackend { serving, connections })
    }

    /// Its listen address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }
}

async fn answer(
    request: http::Request<Incoming>,
    whose: Arc<Mutex<Conversation>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let whole = body.collect().await.is_ok();
    let mut whose = whose.lock().unwrap_or_else(PoisonError::into_inner);
    let told = whose.hear(head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()));
    let who = whose.identity().unwrap_or(NOBODY);
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(who.as_bytes())));
    if let Ok(who) = HeaderValue::from_str(who) {
        answer.headers_mut().insert(IDENTITY, who);
    }
    let first = head.uri.path().split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    if !whole {
        *answer.status_mut() = StatusCode::BAD_REQUEST;
    } else if first.contains("windowsauth") && whose.identity().is_none() {
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        if let Ok(told) = HeaderValue::from_str(&told) {
            answer.headers_mut().insert(WWW_AUTHENTICATE, told);
        }
    }
    answer
}
