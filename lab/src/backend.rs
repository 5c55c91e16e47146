//! A simulated site system: plain HTTP, as IIS would host it, on its own thread.
//!
//! Records the requests that reach it, so that tests can show what did not; of credentials only
//! their presence.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::ntlm::Conversation;
use super::pages::{self, Shelf, SimBody, SimulatedSite};
use super::serving::{ANY_PORT, RunningServer};

/// The most requests that are recorded; older ones are only counted.
const SEEN_MAX: usize = 10_000;
/// Larger than any message that a route accepts.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The response header that names the Windows identity of the request's connection.
pub const IDENTITY: &str = "x-identity";

/// Called with each request, and the status of its response.
pub type Tell = Arc<dyn Fn(&SeenRequest, u16) + Send + Sync>;

/// The settings of a simulated site system.
#[derive(Clone)]
pub struct Setup {
    /// Its listen address.
    pub listen: SocketAddr,
    /// Whether it is a management point.
    pub management_point: bool,
    /// Whether it is a distribution point.
    pub distribution_point: bool,
    /// A folder with a folder for each package; by default the content is generated from the names.
    pub content: Option<PathBuf>,
    /// The content host that the management point names to clients: its own by default.
    pub content_host: Option<String>,
    /// More path prefixes that require Windows authentication, besides the namespaces with their
    /// own.
    pub windows: Vec<String>,
    /// Packages that are not ready at once, and how many requests fail before they are.
    pub not_ready: Vec<(String, u32)>,
    /// How long client notification holds a poll open.
    pub poll: Duration,
    /// Called with each request.
    pub tell: Option<Tell>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            listen: ANY_PORT,
            management_point: true,
            distribution_point: true,
            content: None,
            content_host: None,
            windows: Vec::new(),
            not_ready: Vec::new(),
            poll: Duration::from_secs(1),
            tell: None,
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setup({})", self.listen)
    }
}

/// One request that reached the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The header fields that only a gateway may set: Sitegate-… and X-Forwarded-…, names in lower
    /// case.
    pub fields: Vec<(String, String)>,
    /// Whether it had an Authorization header.
    pub authorization: bool,
    /// The identity of its connection by Windows authentication.
    pub identity: Option<String>,
    /// The length of its body.
    pub body_len: usize,
}

impl SeenRequest {
    /// The value of one of the recorded fields, in any of the spellings that IIS maps to one
    /// variable.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| variable(known) == variable(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A simulated site system that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct SimulatedBackend {
    serving: RunningServer,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
struct Record {
    count: AtomicU64,
    connections: AtomicU64,
    seen: Mutex<VecDeque<SeenRequest>>,
}

/// The state that all connections of a backend share.
struct SimState {
    site: SimulatedSite,
    windows: Vec<String>,
    poll: Duration,
    tell: Option<Tell>,
    record: Arc<Record>,
}

impl SimulatedBackend {
    /// Starts one with all roles, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If the system gives no port, thread or runtime.
    pub fn start() -> io::Result<Self> {
        SimulatedBackend::start_as(Setup::default())
    }

    /// Starts one with these settings.
    ///
    /// # Errors
    /// As [`SimulatedBackend::start`].
    pub fn start_as(setup: Setup) -> io::Result<Self> {
        let shelf = setup.content.map_or(Shelf::MadeUp, Shelf::Folder);
        let not_ready = setup.not_ready.into_iter().map(|(id, n)| (id.to_ascii_lowercase(), n));
        let record = Arc::new(Record::default());
        let shared = Arc::new(SimState {
            site: SimulatedSite {
                management_point: setup.management_point,
                shelf: setup.distribution_point.then_some(shelf),
                content_host: setup.content_host,
                not_ready: Mutex::new(not_ready.collect()),
            },
            windows: setup.windows.iter().map(|path| path.to_ascii_lowercase()).collect(),
            poll: setup.poll,
            tell: setup.tell,
            record: record.clone(),
        });
        let serving = RunningServer::start("sim-backend", setup.listen, move || {
            let number = shared.record.connections.fetch_add(1, Ordering::AcqRel) + 1;
            let (shared, whose) = (shared.clone(), Arc::new(Mutex::new(Conversation::new(number))));
            move |request| answer(request, shared.clone(), whose.clone())
        })?;
        Ok(SimulatedBackend { serving, record })
    }

    /// Its listen address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// How many requests have reached it.
    pub fn count(&self) -> u64 {
        self.record.count.load(Ordering::Acquire)
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u64 {
        self.record.connections.load(Ordering::Acquire)
    }

    /// The recorded requests, oldest first: the last ten thousand.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.record.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last request that reached it.
    pub fn last(&self) -> Option<SeenRequest> {
        self.record.seen.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// Stops it, and closes every connection to it.
    pub fn stop(self) {}
}

async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<SimState>,
    whose: Arc<Mutex<Conversation>>,
) -> Response<SimBody> {
    let (head, body) = request.into_parts();
    // Counted before its body is read: the first byte that arrives counts.
    shared.record.count.fetch_add(1, Ordering::AcqRel);
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|read| read.to_bytes());
    let path = head.uri.path().to_ascii_lowercase();
    let (told, who) = {
        let mut whose = whose.lock().unwrap_or_else(PoisonError::into_inner);
        let said = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        (whose.hear(said), whose.identity().map(str::to_owned))
    };
    let seen = SeenRequest::of(&head, body.as_ref().map_or(0, Bytes::len), who.clone());
    shared.record.remember(seen.clone());
    let is_windows = shared.is_windows(&path);
    let mut answer = match body {
        Ok(_) if is_windows && who.is_none() => {
            let mut refused = pages::error(StatusCode::UNAUTHORIZED);
            pages::set(&mut refused, WWW_AUTHENTICATE, &told);
            refused
        }
        Ok(body) => {
            if path.starts_with("/bgb/") {
                tokio::time::sleep(shared.poll).await;
            }
            shared.site.answer(&head, body, who.as_deref())
        }
        Err(_) => pages::error(StatusCode::PAYLOAD_TOO_LARGE),
    };
    let server = HeaderValue::from_static("Microsoft-IIS/10.0");
    answer.headers_mut().insert(http::header::SERVER, server);
    if is_windows || who.is_some() {
        // So that a shared connection shows up.
        let identity = HeaderName::from_static(IDENTITY);
        pages::set(&mut answer, identity, who.as_deref().unwrap_or("-"));
    }
    if let Some(tell) = &shared.tell {
        tell(&seen, answer.status().as_u16());
    }
    answer
}

impl SimState {
    /// Whether a path, in lower case, requires Windows authentication.
    fn is_windows(&self, path: &str) -> bool {
        let first = path.split('/').nth(1).unwrap_or_default();
        let own = first.ends_with("_windowsauth") || first.starts_with("nocert_");
        own || self.windows.iter().any(|prefix| path.starts_with(prefix))
    }
}

impl SeenRequest {
    fn of(head: &Parts, body_len: usize, identity: Option<String>) -> Self {
        let fields = head.headers.iter().filter(|(name, _)| is_identity(name.as_str()));
        SeenRequest {
            method: head.method.to_string(),
            target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            fields: fields
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            authorization: head.headers.contains_key(AUTHORIZATION),
            identity,
            body_len,
        }
    }
}

/// Whether a header field conveys the client's identity, in any spelling that IIS maps to the same
/// variable.
fn is_identity(name: &str) -> bool {
    let name = variable(name);
    ["SITEGATE_", "X_SITEGATE_", "X_FORWARDED_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The name of the server variable that IIS makes of a header field.
fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

impl Record {
    fn remember(&self, seen: SeenRequest) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SEEN_MAX {
            all.pop_front();
        }
        all.push_back(seen);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn exchange(backend: &SimulatedBackend, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(backend.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).to_ascii_lowercase()
    }

    #[test]
    fn it_answers_as_a_distribution_point_and_remembers_who_asked() {
        let backend = SimulatedBackend::start().unwrap();
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
    fn it_has_the_manners_of_iis() {
        let setup = Setup {
            windows: vec!["/Reports/".to_owned()],
            not_ready: vec![("PS100012".to_owned(), 1)],
            ..Setup::default()
        };
        let backend = SimulatedBackend::start_as(setup).unwrap();
        let ask = |target: &str, more: &str| {
            let fields = "Host: mp\r\nConnection: close\r\n";
            exchange(&backend, &format!("GET {target} HTTP/1.1\r\n{fields}{more}\r\n"))
        };
        let list = ask("/sms_MP/.SMS_aut?mpLIST", "X_Forwarded_For: 1.2.3.4\r\n");
        assert!(list.contains("server: microsoft-iis/10.0\r\n"), "{list}");
        assert!(list.contains("fqdn=\"mp\""), "{list}");
        let seen = backend.last().unwrap();
        assert_eq!(seen.field("X-Forwarded-For"), Some("1.2.3.4"), "one variable");
        let listed = ask("/SMS_DP_SMSPKG$/PS100012/", "");
        assert!(
            listed.contains("href=\"http://mp/sms_dp_smspkg$/ps100012/setup.exe\""),
            "{listed}"
        );
        let moved = ask("/other/", "");
        assert!(moved.starts_with("http/1.1 404") && !moved.contains("404.0"), "{moved}");
        for closed in ["/Reports/x", "/SMS_MP_WindowsAuth/.sms_pol", "/NOCERT_SMS_DP_SMSPKG$/x/y"] {
            let refused = ask(closed, "");
            assert!(refused.starts_with("http/1.1 401"), "{refused}");
            assert!(refused.contains("www-authenticate: ntlm\r\n"), "{refused}");
            assert!(refused.contains("x-identity: -\r\n"), "{refused}");
        }
        let parts = ask("/SMS_DP_SMSPKG$/P/100.bin", "Range: bytes=0-1,50-51\r\n");
        assert!(parts.starts_with("http/1.1 206"), "{parts}");
        assert!(parts.contains("multipart/byteranges; boundary="), "{parts}");
        let old = ask("/SMS_DP_SMSPKG$/P/8.bin", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n");
        assert!(old.starts_with("http/1.1 200") && old.contains("content-length: 8\r\n"));
    }

    #[test]
    fn stopping_closes_its_port() {
        let backend = SimulatedBackend::start().unwrap();
        let address = backend.address();
        backend.stop();
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
