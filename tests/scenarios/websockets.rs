//! Upgrades to WebSocket: only after the decision and the backend's own 101.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::support::{
    CARRIERS, Gateway, Liar, Part, Plan, Then, Wire, connect, eventually, head_of, status_of,
};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A backend that the test drives connection by connection.
struct Backend {
    port: u16,
    accepted: Receiver<TcpStream>,
}

impl Backend {
    fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hand, accepted): (Sender<TcpStream>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if hand.send(stream.unwrap()).is_err() {
                    return;
                }
            }
        });
        Backend { port, accepted }
    }

    /// Returns the next connection, and the head of its request.
    fn next(&self) -> (TcpStream, String) {
        let mut stream = self.accepted.recv_timeout(Duration::from_secs(20)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (stream, String::from_utf8(head).unwrap())
    }
}

const ROUTES: &str = "[[site_system.route]]\npath = \"/socket/\"\nrequire = \"device\"\nwebsocket = true\nbody_bytes = 0\n\
                      [[site_system.route]]\npath = \"/plain/\"\nrequire = \"anonymous\"\n";

fn started(backend: &Backend, keys: &str) -> Gateway {
    Plan::to(&format!("http://127.0.0.1:{}", backend.port)).site_system(keys).after(ROUTES).start()
}

fn ask(path: &str, token: Option<&str>, fields: &str) -> String {
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{token}{fields}\r\n", Gateway::HOST)
}

const FIELDS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Reads a head from the gateway byte by byte, and no byte after it.
fn head(wire: &mut Wire) -> String {
    let mut all = Vec::new();
    let mut byte = [0; 1];
    while !all.ends_with(b"\r\n\r\n") {
        wire.0.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

fn open(gateway: &Gateway, backend: &Backend) -> (Wire, TcpStream) {
    let mut wire = connect(gateway);
    let lying = format!("{FIELDS}Sitegate.Device: evil\r\nX-MS-Client-Principal: evil\r\n");
    wire.send(ask("/socket/x", Some(&gateway.token()), &lying).as_bytes());
    let (mut stream, asked) = backend.next();
    let asked = asked.to_ascii_lowercase();
    assert!(asked.contains("\r\nupgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("\r\nconnection: upgrade\r\n"), "{asked}");
    assert!(asked.contains("\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{asked}");
    assert!(asked.contains("\r\nsitegate-device: "), "{asked}");
    assert!(!asked.contains("authorization") && !asked.contains("evil"), "{asked}");
    stream.write_all(SWITCHED.as_bytes()).unwrap();
    let answer = head(&mut wire).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nupgrade: websocket\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: upgrade\r\n"), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-accept: "), "{answer}");
    (wire, stream)
}

#[test]
fn after_a_101_bytes_flow_both_ways_unchanged() {
    let backend = Backend::start();
    let gateway = started(&backend, "");
    let (mut wire, mut stream) = open(&gateway, &backend);
    // Bytes that look like a request are none any more, and the body limit does not apply.
    let there = b"GET /plain/ HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff".repeat(1000);
    wire.send(&there);
    let mut came = vec![0; there.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(came, there);
    let back = b"\x81\x05hello".repeat(10_000);
    stream.write_all(&back).unwrap();
    let mut came = vec![0; back.len()];
    wire.0.read_exact(&mut came).unwrap();
    assert_eq!(came, back);
    drop(stream);
    assert!(wire.is_closed());
    eventually("the access log is written", || !gateway.access().is_empty());
    let line = gateway.access().remove(0);
    assert_eq!((line["status"].as_u64(), line["decision"].as_str()), (Some(101), Some("allowed")));
    assert_eq!(line["received"].as_u64(), Some(there.len() as u64));
    assert_eq!(line["sent"].as_u64(), Some(back.len() as u64));
    let counted = "sitegate_requests_total{code_class=\"1xx\",route=\"own-1\"";
    assert_eq!(gateway.metric(counted), 1.0);
    assert!(backend.accepted.try_recv().is_err(), "one connection, of its own");
}

#[test]
fn a_websocket_needs_a_route_for_it_a_token_and_its_one_form() {
    let backend = Backend::start();
    let gateway = started(&backend, "");
    let token = gateway.token();
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    let two = format!("{FIELDS}Upgrade: h2c\r\n");
    let body = format!("{FIELDS}Content-Length: 4\r\n");
    let bare = FIELDS.replace("Connection: Upgrade\r\n", "");
    for (path, token, fields, code) in [
        ("/socket/x", None, FIELDS, "token.missing"),
        ("/plain/x", None, FIELDS, "route.websocket"),
        ("/SMS_MP/.sms_aut?MPLIST", None, FIELDS, "route.websocket"),
        ("/unknown/x", None, FIELDS, "route.unknown"),
        ("/socket/x", Some(&*token), h2c, "framing.upgrade"),
        ("/plain/x", None, h2c, "framing.upgrade"),
        ("/socket/x", Some(&*token), &two, "framing.upgrade"),
        ("/socket/x", Some(&*token), &body, "framing.upgrade"),
        ("/socket/x", Some(&*token), &bare, "framing.upgrade"),
    ] {
        let mut wire = connect(&gateway);
        wire.send(ask(path, token, fields).as_bytes());
        let (status, answer) = wire.read_answer();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!((400..404).contains(&status) && answer.contains(code), "{path} {code}: {answer}");
    }
    assert!(backend.accepted.try_recv().is_err(), "nothing reached the backend");
}

#[test]
fn what_is_sent_before_the_101_never_reaches_the_backend() {
    let backend = Backend::start();
    // With one thread, work for another connection comes after earlier bytes.
    let plan = Plan::to(&format!("http://127.0.0.1:{}", backend.port));
    let gateway = plan.after(ROUTES).sections("[limits]\nthreads = 1").start();
    let token = gateway.token();
    let smuggled = ask("/plain/smuggled", None, "");
    // With the request, and after it while the backend has not answered.
    for together in [true, false] {
        // The backend switches, refuses, or ignores the request to switch.
        for answer in [
            SWITCHED,
            "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ] {
            let mut wire = connect(&gateway);
            let request = ask("/socket/x", Some(&token), FIELDS);
            let (mut stream, _) = if together {
                wire.send(format!("{request}{smuggled}").as_bytes());
                backend.next()
            } else {
                wire.send(request.as_bytes());
                let asked = backend.next();
                wire.send(smuggled.as_bytes());
                // A round trip on another connection: earlier bytes have been read.
                let mut other = connect(&gateway);
                other.send(ask("/unknown/x", None, "").as_bytes());
                assert_eq!(other.read_answer().0, 403);
                asked
            };
            let _ = stream.write_all(answer.as_bytes());
            let told = wire.read_to_end();
            let first = status_of(&told);
            if answer == SWITCHED {
                assert!(first == 400 || first == 0, "{}", head_of(&told));
            } else {
                assert_eq!(told.windows(9).filter(|w| w == b"HTTP/1.1 ").count(), 1);
            }
            let mut more = Vec::new();
            let _ = stream.read_to_end(&mut more);
            assert!(more.is_empty(), "{together} {answer}: {}", String::from_utf8_lossy(&more));
            assert!(backend.accepted.try_recv().is_err(), "no second request either");
        }
    }
}

#[test]
fn an_unrequested_101_is_a_502() {
    let backend = Backend::start();
    let gateway = started(&backend, "");
    let token = gateway.token();
    let mut wire = connect(&gateway);
    wire.send(ask("/socket/x", Some(&token), FIELDS).as_bytes());
    let (mut stream, _) = backend.next();
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone").unwrap();
    assert_eq!(wire.read_answer(), (404, b"gone".to_vec()));
    assert!(wire.is_closed());
    let lying = SWITCHED.replace("websocket", "h2c");
    for (fields, answer) in [("", SWITCHED), (FIELDS, &*lying), ("TE: trailers\r\n", SWITCHED)] {
        let mut wire = connect(&gateway);
        wire.send(ask("/socket/x", Some(&token), fields).as_bytes());
        let (mut stream, _) = backend.next();
        stream.write_all(answer.as_bytes()).unwrap();
        assert_eq!(wire.read_answer().0, 502, "{fields}");
    }
}

#[test]
fn an_idle_websocket_ends() {
    let backend = Backend::start();
    let gateway = started(&backend, "websocket_idle_time = \"300ms\"");
    let (mut wire, _stream) = open(&gateway, &backend);
    assert!(wire.is_closed());
    drop(gateway);
    let routes =
        "[[site_system.route]]\npath = \"/socket/\"\nrequire = \"device\"\nwebsocket = true\n";
    let plan = Plan::to(&format!("http://127.0.0.1:{}", backend.port));
    let mut gateway = plan.sections("[limits]\ndrain_time = \"300ms\"").after(routes).start();
    let (mut wire, _stream) = open(&gateway, &backend);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert!(wire.is_closed());
}

#[test]
fn a_websocket_passes_to_any_kind_of_backend() {
    for carrier in CARRIERS {
        let liar = Liar::by(carrier, |_, _| {
            let answer = format!("{SWITCHED}999 is no status here");
            (vec![Part::Bytes(answer.into_bytes())], Then::Close)
        });
        let gateway = liar.plan().after(ROUTES).start();
        let mut wire = connect(&gateway);
        wire.send(ask("/socket/x", Some(&gateway.token()), FIELDS).as_bytes());
        let all = wire.read_to_end();
        assert_eq!(status_of(&all), 101, "{carrier:?}: {}", head_of(&all));
        assert!(all.ends_with(b"\r\n\r\n999 is no status here"), "{carrier:?}");
    }
}
