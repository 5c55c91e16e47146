//! Backends other than a plain one that answers: TLS with a pinned authority, unix sockets, silence.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sitegate::cert::forge::{Order, Pki};

use crate::support::{Nginx, Plan};

/// A backend that answers each request with the body it was sent.
pub struct Echo {
    port: u16,
}

impl Echo {
    pub fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || echo(stream));
            }
        });
        Echo { port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn echo(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let field = |name: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().to_owned())
        };
        if field("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let body = match field("content-length") {
            Some(n) => {
                let mut body = vec![0; n.parse().unwrap()];
                stream.read_exact(&mut body).ok()?;
                body
            }
            None if field("transfer-encoding").is_some() => chunked(&mut stream)?,
            None => Vec::new(),
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        stream.write_all(&body).ok()?;
    }
}

fn line(stream: &mut TcpStream) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0; 1]);
    while !line.ends_with(b"\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line).trim().to_owned())
}

fn chunked(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(stream)?, 16).ok()?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).ok()?;
        line(stream)?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn tls_nginx(name: &str, pki: &Pki, dir: &std::path::Path) -> Nginx {
    let now = sitegate::clock::Clock::system().now();
    let leaf = pki.issue(&Order::fit(&[name], now)).unwrap();
    std::fs::write(dir.join("backend.crt"), &leaf.chain).unwrap();
    std::fs::write(dir.join("backend.key"), leaf.key.as_str()).unwrap();
    let at = dir.display();
    let tls =
        format!(" ssl; ssl_certificate {at}/backend.crt; ssl_certificate_key {at}/backend.key");
    Nginx::with(&tls, "")
}

#[test]
fn an_https_backend_with_a_pinned_authority_works_and_another_certificate_is_a_502_with_its_reason()
{
    let now = sitegate::clock::Clock::system().now();
    let pki = Pki::new("Backend", now).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), pki.root()).unwrap();
    let nginx = tls_nginx("iis.contoso.com", &pki, dir.path());
    let ca = dir.path().join("ca.pem");
    let cases = [
        (format!("backend_ca = \"{}\"\nbackend_name = \"iis.contoso.com\"", ca.display()), 200),
        (format!("backend_ca = \"{}\"\nbackend_name = \"other.contoso.com\"", ca.display()), 502),
        // Not pinned: the system's roots do not know it.
        ("backend_name = \"iis.contoso.com\"".to_owned(), 502),
    ];
    for (keys, status) in cases {
        let url = nginx.url().replace("http:", "https:");
        let gateway = Plan::to(&url).site_system(&keys).start();
        let answer = gateway.curl("/CCM_Client/ccmsetup.cab", &["--http1.1"]);
        assert_eq!(answer.status, status, "{keys}: {answer:?}");
        if status == 502 {
            assert_eq!(answer.code(), "upstream.certificate", "{keys}");
            assert!(answer.head.starts_with("HTTP/1.1 502 EHTTP_Upstream_Certificate"));
            crate::support::eventually("the log says so too", || {
                let lines = gateway.access();
                lines.last().is_some_and(|line| line["reason"] == "upstream.certificate")
            });
        }
    }
}

#[test]
fn a_unix_socket_is_a_backend_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backend.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
        }
    });
    let gateway = Plan::to(&format!("unix:{}", path.display())).start();
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).text(), "unix");
}

#[test]
fn a_backend_that_is_away_is_a_502_and_one_that_is_silent_a_504_with_their_reasons() {
    let away = Plan::to(&format!("http://127.0.0.1:{}", crate::support::free_port())).start();
    let answer = away.curl("/CCM_Client/x", &["--http1.1"]);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream.unreachable"));

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let gateway = Plan::to(&url).site_system("backend_answer_time = \"300ms\"").start();
    let answer = gateway.curl("/CCM_Client/x", &["--http1.1"]);
    assert_eq!((answer.status, &*answer.code()), (504, "upstream.timeout"), "{answer:?}");

    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closing.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in closing.incoming() {
            drop(stream)
        }
    });
    let gateway = Plan::to(&url).start();
    let answer = gateway.curl("/CCM_Client/x", &["--http1.1"]);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream.closed"), "{answer:?}");
}

#[test]
fn an_upload_that_is_not_idempotent_is_never_sent_twice() {
    // Reads a request and closes without an answer: whoever repeats it would do it twice.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let gateway = Plan::to(&url).start();
    let token = gateway.token();
    let args = ["--http1.1", "-X", "CCM_POST", "-d", "message"];
    let answer = gateway.curl_as(&token, "/ccm_system_tokenauth/request", &args);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn more_connections_than_the_proxys_own_default_are_kept_for_the_next_requests() {
    const CLIENTS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    // Answers when all clients have asked, so that each needs a connection of its own.
    let all = Arc::new(std::sync::Barrier::new(CLIENTS));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let all = all.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    all.wait();
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    let gateway = Plan::to(&url).sections("[limits]\nthreads = 1").start();
    let ask = "GET /CCM_Client/x HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";
    let mut wires: Vec<_> = (0..CLIENTS).map(|_| crate::support::connect(&gateway)).collect();
    for round in 0..3 {
        wires.iter_mut().for_each(|wire| wire.send(ask.as_bytes()));
        for wire in &mut wires {
            assert_eq!(wire.read_answer().0, 200, "round {round}");
        }
    }
    assert_eq!(accepted.load(Ordering::SeqCst), CLIENTS, "the first round's connections were kept");
}
