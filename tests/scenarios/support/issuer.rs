//! An identity provider on loopback, with TLS by its own authority: it publishes keys, counts
//! requests, and misbehaves on demand.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sitegate::clock::Clock;
use sitegate::purpose::Purpose;
use sitegate::token::{MintRequest, SignerKind, TokenSigner, jwks};
use sitegate_forge::{Order, below_roots};

/// The response for each path: head and body.
type Answers = Arc<Mutex<HashMap<String, Vec<u8>>>>;

pub struct Idp {
    pub port: u16,
    /// The root of its certificate, PEM.
    pub root: String,
    /// The same root before its renewal: expired.
    pub expired_root: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<Option<TcpListener>>>,
}

/// A key that signs tokens.
pub struct Signer(TokenSigner);

impl Signer {
    pub fn new() -> Signer {
        let key = TokenSigner::generate(SignerKind::P256).unwrap();
        Signer(TokenSigner::from_pkcs8(&key, None).unwrap())
    }

    /// A device's token. The device is its `sub`.
    pub fn token(&self, issuer: &str) -> String {
        let request = MintRequest {
            purpose: Purpose::Client,
            device: Some(super::DEVICE),
            user: None,
            audience: "mp",
            issuer,
            hierarchy: uuid::Uuid::nil(),
            lifetime_s: Some(3600),
            bound_to: None,
            scope: None,
            origins: &[],
            id: uuid::Uuid::new_v4(),
        };
        self.0.mint(&request, Clock::system().now()).unwrap()
    }
}

/// A JWK set of these signers.
pub fn key_set(signers: &[&Signer]) -> String {
    jwks(signers.iter().map(|signer| &signer.0)).to_string()
}

/// A 200 response with its length.
pub fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl Idp {
    pub fn start() -> Idp {
        let now = Clock::system().now();
        let days = |days: i64| now + jiff::SignedDuration::from_hours(days * 24);
        let dates = [(days(-10), days(100)), (days(-400), days(-1))];
        let order = Order::fit(&["localhost", "127.0.0.1"], now);
        let (roots, leaf) = below_roots(&dates, &order).unwrap();
        let [root, expired_root] = <[String; 2]>::try_from(roots).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let idp = Idp {
            port,
            root,
            expired_root,
            answers: Arc::default(),
            asked: Arc::default(),
            open: Arc::new(Mutex::new(Some(listener.try_clone().unwrap()))),
        };
        let (answers, asked, open) = (idp.answers.clone(), idp.asked.clone(), idp.open.clone());
        let tls = Arc::new(tls);
        std::thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                if open.lock().unwrap().is_none() {
                    return;
                }
                let (tls, answers, asked) = (tls.clone(), answers.clone(), asked.clone());
                std::thread::spawn(move || serve(tls, tcp, &answers, &asked));
            }
        });
        idp
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// Sets the response of a path; an empty one keeps the client waiting.
    pub fn answer(&self, path: &str, bytes: Vec<u8>) {
        self.answers.lock().unwrap().insert(path.to_owned(), bytes);
    }

    /// Returns the number of requests for a path.
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    /// Closes the port.
    pub fn stop(&self) {
        *self.open.lock().unwrap() = None;
        // Wakes the accepting thread, so that it drops its listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(tls: Arc<ServerConfig>, tcp: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    let _ = tcp.set_read_timeout(Some(Duration::from_secs(30)));
    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), tcp);
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(path.clone());
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    let answer = answers.lock().unwrap().get(&path).cloned().unwrap_or(missing);
    if answer.is_empty() {
        // Until the client closes.
        let _ = stream.read(&mut byte);
        return;
    }
    let _ = stream.write_all(&answer).and_then(|()| stream.flush());
    stream.conn.send_close_notify();
    let _ = stream.conn.complete_io(&mut stream.sock);
}
