//! A simulated site system: plain HTTP on loopback, as IIS would host it, on a thread of its own.
//!
//! Remembers what reached it, so that what did not can be shown; of a credential only that it came.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::pages::{self, Body};
use super::serving::{ANY_PORT, Serving};

/// Requests that are remembered; older ones are only counted.
const SEEN_MAX: usize = 10_000;
/// Larger than any message that a route takes.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One request that reached the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The fields that only a gateway may write: Sitegate-… and X-Forwarded-…, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Whether it carried an Authorization field.
    pub authorization: bool,
    /// The length of its body.
    pub body_len: usize,
}

impl Seen {
    /// The value of one of the remembered fields.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A simulated site system that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Backend {
    serving: Serving,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
struct Record {
    count: AtomicU64,
    seen: Mutex<VecDeque<Seen>>,
}

impl Backend {
    /// Start one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub fn start() -> io::Result<Self> {
        let record = Arc::new(Record::default());
        let told = record.clone();
        let serving = Serving::start("sim-backend", ANY_PORT, move || {
            let record = told.clone();
            move |request| answer(request, record.clone())
        })?;
        Ok(Backend { serving, record })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// How many requests have reached it.
    pub fn count(&self) -> u64 {
        self.record.count.load(Ordering::Acquire)
    }

    /// What has reached it, oldest first: the last ten thousand.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The request that reached it last.
    pub fn last(&self) -> Option<Seen> {
        self.record.seen.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// End it, and every connection to it.
    pub fn stop(self) {}
}

async fn answer(request: http::Request<Incoming>, record: Arc<Record>) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Recorded before its body is read: the first byte that arrives counts.
    record.count.fetch_add(1, Ordering::AcqRel);
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|read| read.to_bytes());
    remember(&record, &head, body.as_ref().map_or(0, Bytes::len));
    let mut answer = match body {
        Ok(body) => pages::answer(&head, body),
        Err(_) => {
            let mut refused = Response::new(Default::default());
            *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            refused.map(http_body_util::Either::Left)
        }
    };
    let server = http::HeaderValue::from_static("Microsoft-IIS/10.0 (simulated)");
    answer.headers_mut().insert(http::header::SERVER, server);
    answer
}

fn remember(record: &Record, head: &Parts, body_len: usize) {
    let of_interest = |name: &str| {
        ["sitegate-", "x-sitegate-", "x-forwarded-"].iter().any(|prefix| name.starts_with(prefix))
    };
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        fields: head
            .headers
            .iter()
            .filter(|(name, _)| of_interest(name.as_str()))
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        authorization: head.headers.contains_key(http::header::AUTHORIZATION),
        body_len,
    };
    let mut all = record.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= SEEN_MAX {
        all.pop_front();
    }
    all.push_back(seen);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn exchange(backend: &Backend, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(backend.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_ascii_lowercase()
    }

    #[test]
    fn it_answers_as_a_distribution_point_and_remembers_who_asked() {
        let backend = Backend::start().unwrap();
        let ask = |method: &str, more: &str| {
            let head = "/SMS_DP_SMSPKG$/PS1/100.bin HTTP/1.1\r\nHost: dp\r\nConnection: close\r\n";
            exchange(&backend, &format!("{method} {head}{more}\r\n"))
        };
        let head = ask("HEAD", "Authorization: Bearer x\r\nSitegate-Device: GUID:1\r\n");
        assert!(head.contains("content-length: 100") && head.contains("accept-ranges: bytes"));
        let seen = backend.last().unwrap();
        assert_eq!((seen.authorization, seen.field("sitegate-device")), (true, Some("GUID:1")));
        assert!(!format!("{seen:?}").contains("Bearer"), "of a credential only that it came");
        assert!(ask("GET", "Range: bytes=200-\r\n").starts_with("http/1.1 416"));
        assert!(ask("PROPFIND", "").contains("<d:href>http://dp/sms_dp_smspkg$/ps1/100.bin"));
        assert_eq!((backend.count(), backend.seen().len()), (3, 3));
    }

    #[test]
    fn stopping_closes_its_port() {
        let backend = Backend::start().unwrap();
        let address = backend.address();
        backend.stop();
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
