//! Mixed attacks: one protocol in place of another, requests of every kind on one connection,
//! bodies that consist mostly of framing, and bulk responses that the client never reads.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki};

use crate::support::crowd::ask;
use crate::support::http2::{DATA, END_HEADERS, HEADERS, frame, request};
use crate::support::{
    Gateway, Http2, Liar, Nginx, Part, Plan, Then, Wire, client_config, connect, eventually,
    status_of, write_pattern,
};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";
const UPLOAD: &str = "/SMS_FSP/.sms_fsp";

/// A backend that answers with the requested path.
fn echo() -> Liar {
    Liar::start(|request, _| {
        let mut words = request.split(' ');
        let head = words.next() == Some("HEAD");
        let path = words.next().unwrap_or_default();
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", path.len());
        if !head {
            answer.push_str(path);
        }
        (vec![Part::Bytes(answer.into_bytes())], Then::Keep)
    })
}

/// A deterministic random generator.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// Returns the response to the next request of a connection: its status and its text.
fn answer_to(wire: &mut Wire, head: bool) -> (u16, String) {
    if !head {
        let (status, body) = wire.read_answer();
        return (status, String::from_utf8_lossy(&body).into_owned());
    }
    let (mut all, mut byte) = (Vec::new(), [0; 1]);
    while !all.ends_with(b"\r\n\r\n") {
        wire.0.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
    (status_of(&all), String::new())
}

#[test]
fn mixed_requests_on_one_connection_are_answered_in_order() {
    let liar = echo();
    let gateway = Plan::to(&liar.url()).start();
    let host = Gateway::HOST;
    let mut sent = 0;
    for seed in 1..=25 {
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut all = Vec::new();
        let mut wanted = Vec::new();
        for n in 0..16 {
            let (get, post) = (format!("{OPEN}?{seed}.{n}"), format!("{UPLOAD}?{seed}.{n}"));
            let (text, path, head) = match chance.below(7) {
                0 | 1 => (ask(&get, ""), get, false),
                2 => (ask(&get, "TE: trailers\r\n"), get, false),
                3 => (format!("HEAD {get} HTTP/1.1\r\nHost: {host}\r\n\r\n"), get, true),
                4 => {
                    let body = ask("/CCM_Client/smuggled", "");
                    let length = body.len();
                    let head = format!("Host: {host}\r\nContent-Length: {length}");
                    (format!("POST {post} HTTP/1.1\r\n{head}\r\n\r\n{body}"), post, false)
                }
                5 => {
                    let body = ask("/CCM_Client/smuggled", "");
                    let length = body.len();
                    let head = format!("Host: {host}\r\nTransfer-Encoding: chunked");
                    let chunks = format!("{length:x}\r\n{body}\r\n0\r\nX: y\r\n\r\n");
                    (format!("POST {post} HTTP/1.1\r\n{head}\r\n\r\n{chunks}"), post, false)
                }
                // Refused, and the connection stays open.
                _ => (ask("/unknown/x", ""), String::new(), false),
            };
            all.extend(text.into_bytes());
            wanted.push((path, head));
        }
        let mut wire = connect(&gateway);
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + chance.below(400)));
            wire.send(now);
            rest = later;
        }
        for (n, (path, head)) in wanted.iter().enumerate() {
            let (status, said) = answer_to(&mut wire, *head);
            let what = format!("seed {seed}, request {n} of {wanted:?}");
            if path.is_empty() {
                assert_eq!(status, 403, "{what}");
            } else {
                sent += 1;
                let told = if *head { "" } else { path };
                assert_eq!((status, said.as_str()), (200, told), "{what}");
            }
        }
    }
    let asked = liar.asked();
    assert_eq!(asked.len(), sent, "each reached the backend once");
    assert!(!asked.iter().any(|asked| asked.starts_with("GET /CCM_Client/smuggled")));
}

#[test]
fn a_body_of_mostly_framing_uses_flat_memory() {
    let liar = echo();
    let gateway = Plan::to(&liar.url()).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    let memory = gateway.memory_kib();
    let host = Gateway::HOST;
    let head =
        format!("POST {UPLOAD} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let zeros = "0".repeat(200_000);
    let cases: Vec<(&str, String, bool)> = vec![
        ("a byte in each of many chunks", "1\r\nx\r\n".repeat(50_000) + "0\r\n\r\n", true),
        ("extensions of many chunks", "1;abcdefghij=klmnopqrst\r\nx\r\n".repeat(5000), false),
        ("an extension without end", format!("1;{}", "x".repeat(200_000)), false),
        ("zeros before a size", format!("{zeros}1\r\nx\r\n0\r\n\r\n"), false),
        ("trailers", format!("0\r\n{}\r\n", "X: y\r\n".repeat(20_000)), false),
        ("a trailer without end", format!("0\r\nX: {}", "y".repeat(200_000)), false),
        ("a trailer with a bare line feed", "0\r\nX: y\nGET / HTTP/1.1\r\n\r\n".into(), false),
        ("a trailer with NUL", "0\r\nX: \0\r\n\r\n".into(), false),
    ];
    for (what, body, passes) in cases {
        let (before, began) = (liar.asked().len(), Instant::now());
        let mut wire = connect(&gateway);
        wire.send(format!("{head}{body}").as_bytes());
        let status = if passes { wire.read_answer().0 } else { status_of(&wire.read_to_end()) };
        println!("{what}: {status} after {:?}", began.elapsed());
        assert!(if passes { status == 200 } else { matches!(status, 0 | 400 | 413) }, "{what}");
        assert_eq!(liar.asked().len() > before, passes, "{what}");
    }
    let grown = gateway.memory_kib().saturating_sub(memory);
    println!("memory grew by {grown} KiB");
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
}

#[test]
fn a_protocol_in_anothers_place_gets_no_backend_bytes() {
    let liar = echo();
    let limits = "[limits]\nheader_time = \"1s\"\nidle_time = \"1s\"";
    let gateway = Plan::to(&liar.url()).sections(limits).start();
    let open = |protocols: &[&[u8]]| {
        let mut config = client_config(&gateway);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Wire::open(config, gateway.port, Gateway::HOST).unwrap()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let asked = frame(HEADERS, END_HEADERS | 1, 1, &request("GET", OPEN, &[]));
    let http2 = [&preface[..], &frame(4, 0, 0, &[]), &asked].concat();
    let old = ask(OPEN, "");
    type Case<'a> = (&'a str, &'a [&'a [u8]], Vec<u8>);
    let cases: Vec<Case<'_>> = vec![
        ("HTTP/1.1 where HTTP/2 was agreed on", &[b"h2"], old.clone().into()),
        ("HTTP/2 where HTTP/1.1 was agreed on", &[b"http/1.1"], http2.clone()),
        ("HTTP/2 where nothing was agreed on", &[], http2.clone()),
        ("another preface", &[b"h2"], http2.clone().into_iter().map(|b| b.max(b'!')).collect()),
        ("no preface", &[b"h2"], http2[preface.len()..].to_vec()),
        ("TLS within TLS", &[], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n".to_vec()),
        ("a header of a load balancer", &[], b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec()),
        ("another of them", &[], [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", old.as_bytes()].concat()),
    ];
    for (what, protocols, bytes) in cases {
        let mut wire = open(protocols);
        wire.send(&bytes);
        let answer = wire.read_to_end();
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains(OPEN) && !text.contains(" 200 "), "{what}: {text}");
    }
    assert!(liar.asked().is_empty(), "{:?}", liar.asked());
    // An h2c upgrade over plain HTTP is refused like every other upgrade.
    let mut wire = open(&[]);
    let fields =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    wire.send(&[ask(OPEN, fields).as_bytes(), &http2].concat());
    assert_eq!(wire.read_answer().0, 400);
    assert!(wire.read_to_end().is_empty() && liar.asked().is_empty());
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
}

#[test]
fn uploads_a_backend_does_not_read_get_backpressure() {
    // Accepts connections, and reads nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let route = "[[site_system.route]]\npath = \"/large/\"\nrequire = \"anonymous\"\n";
    let plan = Plan::to(&url).site_system("backend_answer_time = \"2s\"");
    let plan = plan.sections("[limits]\nbody_grace = \"2s\"");
    let gateway = plan.after(route).start();
    let (held, memory) = (std::thread::spawn(move || hold_all(&listener)), gateway.memory_kib());
    let host = Gateway::HOST;
    let post = format!("POST /large/x HTTP/1.1\r\nHost: {host}\r\n");
    let mut wires = Vec::new();
    let block = vec![b'x'; 16_000];
    for n in 0..18 {
        let (mut wire, piece) = match n % 3 {
            0 => {
                let mut wire = connect(&gateway);
                wire.send(format!("{post}Content-Length: 1000000000\r\n\r\n").as_bytes());
                (wire, block.clone())
            }
            1 => {
                let mut wire = connect(&gateway);
                wire.send(format!("{post}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
                (wire, [b"3e80\r\n", &block[..], b"\r\n"].concat())
            }
            _ => {
                let mut http2 = Http2::open(&gateway);
                http2.send(HEADERS, END_HEADERS, 1, &request("POST", "/large/x", &[]));
                // As much as the first window allows.
                (http2.0, frame(DATA, 0, 1, &block))
            }
        };
        // A blocked write also reads.
        wire.0.sock.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        wire.0.sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let most = if n % 3 == 2 { 4 } else { 1000 };
        let taken = (0..most).take_while(|_| wire.0.write_all(&piece).is_ok()).count();
        assert!(taken < 1000, "16 MB were taken");
        wires.push(wire);
    }
    let grown = gateway.memory_kib().saturating_sub(memory);
    println!("18 uploads that nobody takes: memory grew by {grown} KiB");
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    // The wait for the backend is limited, and so is the wait for a client that has nothing more to
    // send.
    eventually("its time is over", || gateway.metric("sitegate_requests_total{") >= 18.0);
    drop(wires);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
    drop(gateway);
    assert!(!held.is_finished());
}

/// Keeps connections open, and reads nothing from them.
fn hold_all(listener: &TcpListener) {
    let mut held: Vec<TcpStream> = Vec::new();
    held.extend(listener.incoming().flatten());
}

#[test]
fn slow_downloads_go_on_unharmed_through_swaps_and_reloads() {
    let nginx = Nginx::start();
    let file = nginx.content().join("../../CCM_Client/big.bin");
    write_pattern(&file, 8);
    let content = std::fs::read(&file).unwrap();
    let gateway = Plan::to(&nginx.url()).start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let mut wires: Vec<(Wire, Vec<u8>)> = (0..6)
        .map(|_| {
            let mut wire = connect(&gateway);
            wire.send(ask("/CCM_Client/big.bin", "").as_bytes());
            (wire, Vec::new())
        })
        .collect();
    let mut buffer = vec![0; 400 * 1024];
    for n in 0..20 {
        let pair = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
        gateway.write_pki(&pair.chain, &pair.key, pki.root());
        let route = format!("[[site_system.route]]\npath = \"/o{n}/\"\nrequire = \"anonymous\"\n");
        gateway.write_config(&(gateway.config_text() + &route));
        eventually("the reload is in force", || {
            gateway.curl(&format!("/o{n}/x"), &["-k"]).status == 404
        });
        for (wire, got) in &mut wires {
            let read = wire.0.read(&mut buffer).unwrap();
            got.extend(&buffer[..read]);
        }
    }
    for (mut wire, mut got) in wires {
        let head = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        while got.len() < head + content.len() {
            let read = wire.0.read(&mut buffer).unwrap();
            assert!(read > 0, "cut off after {} bytes", got.len());
            got.extend(&buffer[..read]);
        }
        assert!(got[head..] == content, "what came is something else");
    }
    let swaps = gateway.metric("sitegate_certificate_swaps_total");
    println!("{swaps} swaps and 20 reloads beside six downloads");
    assert!(swaps >= 5.0);
}
