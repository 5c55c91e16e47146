//! A backend that sends arbitrary bytes, and records the requests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sitegate_forge::{Order, Pki};

use super::Plan;

/// A piece of a response.
#[derive(Clone)]
pub enum Part {
    Bytes(Vec<u8>),
    /// A pause.
    Pause(Duration),
    /// These bytes, repeated until the peer closes.
    Endless(&'static str),
}

/// The fate of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for the next request.
    Keep,
    Close,
    /// It closes below TLS, without close_notify.
    Cut,
    /// It closes with a reset (RST).
    Reset,
    /// It stays open, and sends nothing more.
    Hang,
}

/// The transport of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    Unix,
    Tls,
}

pub const CARRIERS: [Carrier; 3] = [Carrier::Tcp, Carrier::Unix, Carrier::Tls];

/// Returns the response for a request as received, and the number of earlier requests on its
/// connection.
type Answer = dyn Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync;

pub struct Liar {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    answered: Arc<AtomicUsize>,
    /// The folder of its socket, or of its certificate's authority.
    dir: tempfile::TempDir,
    carrier: Carrier,
}

/// Counts a response once all of it was sent, or the peer stopped reading.
struct Said<'a>(&'a AtomicUsize);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection.
trait Line: Read + Write + Send {
    /// Makes the close a reset, if the transport has one.
    fn reset(&mut self);

    /// Signals the end of the stream, if the transport has such a signal.
    fn end(&mut self) {}
}

impl Line for TcpStream {
    fn reset(&mut self) {
        socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Line for UnixStream {
    fn reset(&mut self) {}
}

impl Line for StreamOwned<ServerConnection, TcpStream> {
    fn reset(&mut self) {
        self.sock.reset();
    }

    fn end(&mut self) {
        self.conn.send_close_notify();
        // A peer that is gone needs no close_notify.
        let _ = self.flush();
    }
}

impl Liar {
    pub fn start(
        answer: impl Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync + 'static,
    ) -> Liar {
        Liar::by(Carrier::Tcp, answer)
    }

    /// Starts one on this transport.
    pub fn by(
        carrier: Carrier,
        answer: impl Fn(&str, usize) -> (Vec<Part>, Then) + Send + Sync + 'static,
    ) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let answered: Arc<AtomicUsize> = Arc::default();
        let (log, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        let count = answered.clone();
        let one = move |line: Box<dyn Line>| {
            let (log, count, answer) = (log.clone(), count.clone(), answer.clone());
            std::thread::spawn(move || serve(line, (&log, &count), &*answer));
        };
        match carrier {
            Carrier::Tcp => {
                std::thread::spawn(move || {
                    listener.incoming().flatten().for_each(|stream| one(Box::new(at_once(stream))));
                });
            }
            Carrier::Unix => {
                let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
                std::thread::spawn(move || {
                    listener.incoming().flatten().for_each(|stream| one(Box::new(stream)));
                });
            }
            Carrier::Tls => {
                let config = certified(dir.path());
                std::thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let session = ServerConnection::new(config.clone()).unwrap();
                        one(Box::new(StreamOwned::new(session, at_once(stream))));
                    }
                });
            }
        }
        Liar { port, asked, answered, dir, carrier }
    }

    pub fn url(&self) -> String {
        match self.carrier {
            Carrier::Tcp => format!("http://127.0.0.1:{}", self.port),
            Carrier::Unix => format!("unix:{}/socket", self.dir.path().display()),
            Carrier::Tls => format!("https://127.0.0.1:{}", self.port),
        }
    }

    /// A gateway in front of it.
    pub fn plan(&self) -> Plan {
        let plan = Plan::to(&self.url());
        match self.carrier {
            Carrier::Tcp | Carrier::Unix => plan,
            Carrier::Tls => {
                let ca = self.dir.path().join("ca.pem");
                plan.site_system(&format!("backend_ca = \"{}\"", ca.display()))
            }
        }
    }

    /// The number of completed responses, including those that the peer stopped reading.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// All requests, with as much of their bodies as arrived.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Disables Nagle's algorithm: a write is sent without waiting for earlier acknowledgments.
fn at_once(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream
}

/// A certificate for this machine, with its authority in a file.
pub fn certified(dir: &Path) -> Arc<ServerConfig> {
    let now = sitegate::clock::Clock::system().now();
    let pki = Pki::new("Backend", now).unwrap();
    let leaf = pki.issue(&Order::fit(&["127.0.0.1"], now)).unwrap();
    std::fs::write(dir.join("ca.pem"), pki.root()).unwrap();
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn serve(
    mut stream: Box<dyn Line>,
    (log, count): (&Mutex<Vec<String>>, &AtomicUsize),
    answer: &Answer,
) -> Option<()> {
    for n in 0.. {
        let request = request(&mut *stream)?;
        log.lock().unwrap().push(request.clone());
        let (parts, then) = answer(&request, n);
        let said = Said(count);
        for part in parts {
            match part {
                Part::Bytes(bytes) => stream.write_all(&bytes).ok()?,
                Part::Pause(time) => std::thread::sleep(time),
                Part::Endless(text) => {
                    let many = text.repeat(1024);
                    while stream.write_all(many.as_bytes()).is_ok() {}
                }
            }
        }
        drop(said);
        match then {
            Then::Keep => {}
            Then::Close => {
                stream.end();
                return None;
            }
            Then::Cut => return None,
            Then::Reset => {
                stream.reset();
                return None;
            }
            Then::Hang => while stream.read(&mut [0; 1024]).ok()? > 0 {},
        }
    }
    None
}

/// Reads the next request: its head, and its body by length or chunks.
fn request(stream: &mut dyn Line) -> Option<String> {
    let (mut all, mut byte) = (Vec::new(), [0; 1]);
    let mut until = |all: &mut Vec<u8>, end: &[u8]| {
        while !all.ends_with(end) {
            stream.read_exact(&mut byte).ok()?;
            all.push(byte[0]);
        }
        Some(())
    };
    until(&mut all, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        until(&mut all, b"\r\n0\r\n\r\n")?;
    }
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    all.extend(body);
    Some(String::from_utf8_lossy(&all).into_owned())
}
