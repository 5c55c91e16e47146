//! Backends other than plain HTTP: TLS with a pinned authority, unix sockets, and silent ones.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sitegate_forge::{Order, Pki};

use crate::machine::can_mount;
use crate::support::{CARRIERS, Carrier, Liar, Nginx, Part, Plan, Then, eventually, free_port};

/// A backend that echoes the body of each request.
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
fn a_backend_certificate_outside_the_pinned_ca_is_a_502() {
    let now = sitegate::clock::Clock::system().now();
    let pki = Pki::new("Backend", now).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), pki.root()).unwrap();
    let nginx = tls_nginx("iis.contoso.com", &pki, dir.path());
    let ca = dir.path().join("ca.pem");
    let cases = [
        (format!("backend_ca = \"{}\"\nbackend_name = \"iis.contoso.com\"", ca.display()), 200),
        (format!("backend_ca = \"{}\"\nbackend_name = \"other.contoso.com\"", ca.display()), 502),
        // Not pinned, and not trusted by the system's roots.
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
            eventually("the log says so too", || {
                let lines = gateway.access();
                lines.last().is_some_and(|line| line["reason"] == "upstream.certificate")
            });
        }
    }
}

#[test]
fn a_reload_retires_connections_made_with_other_roots() {
    // Answers with the number of earlier requests on its connection, in one digit.
    let liar = Liar::by(Carrier::Tls, |_, n| {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", n % 10);
        (vec![Part::Bytes(text.into_bytes())], Then::Keep)
    });
    let gateway = liar.plan().sections("[limits]\nthreads = 1").start();
    let ask = |protocol: &str| gateway.curl("/CCM_Client/x", &[protocol]);
    assert_eq!(ask("--http1.1").text(), "0");
    assert_eq!(ask("--http1.1").text(), "1", "a connection by TLS is kept for the next request");
    assert_eq!(ask("--http2").text(), "2", "whatever protocol its client speaks");
    let good = gateway.config_text();
    let now = sitegate::clock::Clock::system().now();
    let other = Pki::new("Other", now).unwrap();
    std::fs::write(gateway.path("other.pem"), other.root()).unwrap();
    std::fs::write(gateway.path("none.pem"), "nothing").unwrap();
    let with_ca = |name: &str| {
        let line = good.lines().find(|line| line.starts_with("backend_ca")).unwrap();
        good.replace(line, &format!("backend_ca = \"{name}\""))
    };
    for text in [
        good.replace("backend_ca", "backend_name = \"iis.contoso.com\"\nbackend_ca"),
        with_ca("other.pem"),
        // An empty pinned file: no root is trusted, not even the system's.
        with_ca("none.pem"),
    ] {
        gateway.write_config(&text);
        for protocol in ["--http1.1", "--http2"] {
            eventually("the connection is not used any more", || {
                let answer = ask(protocol);
                (answer.status, &*answer.code()) == (502, "upstream.certificate")
            });
        }
        gateway.write_config(&good);
        eventually("the backend is reached again", || ask("--http1.1").status == 200);
    }
}

#[test]
fn a_backend_tls_handshake_timeout_is_a_504() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.read(&mut [0; 16]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let cases = [
        (format!("https://{silent}"), 504, "upstream.timeout"),
        (url, 502, "upstream.unreachable"),
        ("unix:/run/no-such.sock".to_owned(), 502, "upstream.unreachable"),
    ];
    for (url, status, code) in cases {
        let gateway = Plan::to(&url).site_system("backend_connect_time = \"300ms\"").start();
        for protocol in ["--http1.1", "--http2"] {
            let answer = gateway.curl("/CCM_Client/x", &[protocol]);
            assert_eq!((answer.status, &*answer.code()), (status, code), "{url} {protocol}");
        }
    }
}

#[test]
fn uploads_and_downloads_pass_unchanged_to_any_backend() {
    let body: String = (0..400_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    for carrier in CARRIERS {
        // Echoes the request body.
        let liar = Liar::by(carrier, |request, _| {
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            (vec![Part::Bytes(head.into_bytes()), Part::Bytes(body.into())], Then::Keep)
        });
        let route = "[[site_system.route]]\npath = \"/up/\"\nrequire = \"anonymous\"\n\
                     methods = [\"POST\"]\n";
        let gateway = liar.plan().after(route).start();
        let file = gateway.path("body");
        std::fs::write(&file, &body).unwrap();
        let data = format!("@{}", file.display());
        for way in ["--http1.1", "--http2"] {
            for _ in 0..3 {
                let args = [way, "-H", "Expect:", "--data-binary", &data];
                let answer = gateway.curl("/up/x", &args);
                assert_eq!(answer.status, 200, "{carrier:?} {way}: {answer:?}");
                assert!(answer.text() == body, "{carrier:?} {way}");
            }
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
fn an_unreachable_backend_is_a_502_and_a_silent_one_a_504() {
    let away = Plan::to(&format!("http://127.0.0.1:{}", free_port())).start();
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
    // Reads a request and closes without a response. A retry would perform the upload twice.
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
    let gateway = Plan::to(&url).unguarded().start();
    let token = gateway.token();
    let args = ["--http1.1", "-X", "CCM_POST", "-d", "message"];
    let answer = gateway.curl_as(&token, "/ccm_system_tokenauth/request", &args);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn two_hundred_backend_connections_are_kept_for_reuse() {
    const CLIENTS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    // Answers once all clients have asked, so that each needs a connection of its own.
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

#[test]
fn a_backend_that_leads_back_is_a_508() {
    if !can_mount() {
        return;
    }
    let port = free_port();
    let hosts = "echo '127.0.0.1 iis.contoso.com' > hosts && mount --bind hosts /etc/hosts";
    let gateway = Plan::to(&format!("http://iis.contoso.com:{port}"))
        .site_system("cleartext = \"accepted\"")
        .after(&format!("[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\""))
        .first(&["unshare", "-m"], hosts)
        .start();
    for protocol in ["--http1.1", "--http2"] {
        let answer = gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[protocol]);
        assert_eq!((answer.status, &*answer.code()), (508, "host.loop"), "{protocol}");
    }
    eventually("each request came by twice", || gateway.access().len() == 4);
}
