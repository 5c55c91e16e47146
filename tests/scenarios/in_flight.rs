//! Limits on requests in flight: no client takes the room that others need, and the bytes buffered
//! per connection are bounded.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::http2::{DATA, END_HEADERS, HEADERS, SETTINGS, WINDOW_UPDATE, frame, request};
use crate::support::{
    Gateway, Http2, Liar, Nginx, Part, Plan, Then, Wire, connect, eventually, head_of, status_of,
    write_pattern,
};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";
/// An anonymous route for large bodies.
const LARGE: &str = "[[site_system.route]]\npath = \"/large/\"\nrequire = \"anonymous\"\n\
                     methods = [\"GET\", \"POST\"]\nbody_bytes = \"10MiB\"\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST)
}

/// A backend that accepts connections and never answers.
fn silent() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

#[test]
fn a_request_over_its_address_limit_is_a_503_with_retry_after() {
    let (url, _silent) = silent();
    let limits = "[limits]\nrequests_per_address = 2";
    let gateway = Plan::to(&url).sections(limits).start();
    let held: Vec<Wire> = (0..2)
        .map(|_| {
            let mut wire = connect(&gateway);
            wire.send(get(OPEN).as_bytes());
            wire
        })
        .collect();
    eventually("both are in flight", || gateway.metric("sitegate_requests_in_flight") == 2.0);
    for protocol in ["--http1.1", "--http2"] {
        let answer = gateway.curl(OPEN, &[protocol]);
        assert_eq!((answer.status, &*answer.code()), (503, "limit.requests_in_flight"));
        assert!(answer.head.to_ascii_lowercase().contains("\r\nretry-after: 5"), "{answer:?}");
    }
    assert!(gateway.metric("sitegate_requests_waited_total") >= 2.0);
    eventually("the log says who has what", || {
        gateway.access().iter().any(|line| {
            let detail = line["detail"].as_str().unwrap_or_default();
            detail.starts_with("2 of ") && detail.contains("2 of this address")
        })
    });
    drop(held);
    eventually("none is in flight", || gateway.metric("sitegate_requests_in_flight") == 0.0);
}

#[test]
fn a_request_that_waits_goes_on_once_there_is_room() {
    let (let_go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let liar = Liar::start(move |text, _| {
        if text.contains("?first") {
            let _ = wait.lock().unwrap().recv();
        }
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        (vec![Part::Bytes(ok)], Then::Keep)
    });
    let gateway = liar.plan().sections("[limits]\nrequests_per_address = 1").start();
    let [mut first, mut second] = [connect(&gateway), connect(&gateway)];
    first.send(get("/CCM_Client/x?first").as_bytes());
    eventually("the first is in flight", || liar.asked().len() == 1);
    second.send(get(OPEN).as_bytes());
    eventually("the second waits", || gateway.metric("sitegate_requests_waited_total") == 1.0);
    let_go.send(()).unwrap();
    assert_eq!([first.read_answer().0, second.read_answer().0], [200, 200]);
}

#[test]
fn small_bodies_that_drip_touch_no_backend() {
    let (url, silent) = silent();
    silent.set_nonblocking(true).unwrap();
    let gateway = Plan::to(&url).start();
    let mut http2 = Http2::open(&gateway);
    let head = request("POST", "/SMS_FSP/.sms_fsp", &[("content-length", "60000")]);
    for n in 0..100 {
        http2.send(HEADERS, END_HEADERS, 2 * n + 1, &head);
        http2.send(DATA, 0, 2 * n + 1, b"x");
    }
    http2.ask(201, &request("GET", "/nothing", &[]));
    while http2.next().unwrap().stream != 201 {}
    assert_eq!(silent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(gateway.metric("sitegate_requests_in_flight"), 0.0);
}

#[test]
fn forty_eight_connections_of_a_hundred_streams_leave_room() {
    let (url, _silent) = silent();
    let gateway = Plan::to(&url)
        .after(LARGE)
        .after("[[site_system.route]]\npath = \"/quick/\"\nrequire = \"anonymous\"\n")
        .first(&[], "ulimit -n 2048")
        .sections("[limits]\nconnections = 1000\nbody_grace = \"20s\"")
        .start();
    let head = request("POST", "/large/x", &[("content-length", "1000000")]);
    let mut held: Vec<Http2> = (0..48).map(|_| Http2::open(&gateway)).collect();
    for http2 in &mut held {
        let all: Vec<u8> = (0..100)
            .flat_map(|n| {
                let stream = 2 * n + 1;
                [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, b"x")].concat()
            })
            .collect();
        http2.0.send(&all);
    }
    eventually("as many are in flight as may be", || {
        gateway.metric("sitegate_requests_waited_total") > 0.0
    });
    // Half of the descriptors are for clients, and half of the rest for unauthenticated requests.
    assert!(gateway.descriptors() < 1024, "{}", gateway.descriptors());
    assert!(gateway.metric("sitegate_requests_in_flight") <= 512.0);
    // Another connection is accepted and judged.
    let mut wire = connect(&gateway);
    wire.send(get("/nothing").as_bytes());
    assert_eq!(wire.read_answer().0, 403);
    // An authenticated client has room.
    let token = gateway.token();
    let mut wire = connect(&gateway);
    let ask = get("/SMS_MP/.sms_pol?x");
    let ask = ask.replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"));
    let before = gateway.metric("sitegate_requests_in_flight");
    wire.send(ask.as_bytes());
    eventually("it is in flight", || gateway.metric("sitegate_requests_in_flight") > before);
    drop(held);
}

#[test]
fn a_hundred_stalled_messages_buffer_little() {
    let (url, _silent) = silent();
    let gateway = Plan::to(&url).start();
    assert_eq!(gateway.curl("/nothing", &["--http2"]).status, 403);
    let before = gateway.memory_kib();
    let large = "x".repeat(50_000);
    let mut http2 = Http2::open(&gateway);
    http2.await_window();
    let kind = "multipart/mixed; boundary=aAbB";
    // As much as the connection's window allows.
    for n in 0..100 {
        let more = [("content-type", kind), ("content-length", "47000"), ("x", &*large)];
        let head = request("CCM_POST", "/CCM_System/request", &more);
        let (first, rest) = head.split_at(16_000);
        http2.send(HEADERS, 0, 2 * n + 1, first);
        let pieces: Vec<&[u8]> = rest.chunks(16_000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let flags = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            http2.send(9, flags, 2 * n + 1, piece);
        }
        for piece in vec![b'-'; 10_000].chunks(16_000) {
            http2.send(DATA, 0, 2 * n + 1, piece);
        }
    }
    http2.ask(201, &request("GET", "/nothing", &[]));
    while http2.next().unwrap().stream != 201 {}
    let grown = gateway.memory_kib().saturating_sub(before);
    println!("a hundred messages that stall: {grown} KiB");
    assert!(grown < 32 * 1024, "{grown} KiB");
}

#[test]
fn unread_answers_buffer_little_and_free_it() {
    // 1,500 send buffers of the default size are more than a machine gives to all of TCP: it then
    // resets connections, also those of other tests.
    let nginx = Nginx::with(" sndbuf=64k", "");
    // Larger than the socket buffers between the gateway and its client.
    write_pattern(&nginx.content().join("../../CCM_Client/big.bin"), 24);
    let gateway = Plan::to(&nginx.url()).start();
    assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200);
    let before = gateway.memory_kib();
    let big = request("GET", "/CCM_Client/big.bin", &[]);
    let hold = |window: bool| {
        let mut http2 = Http2::open(&gateway);
        if window {
            // The client opens its windows, and reads nothing.
            http2.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
            http2.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
        } else {
            http2.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        }
        for n in 0..100 {
            http2.ask(2 * n + 1, &big);
        }
        http2
    };
    let begun = || gateway.metric("sitegate_backend_first_byte_duration_seconds_count");
    for window in [false, true] {
        let begun_before = begun();
        let held: Vec<Http2> = (0..15).map(|_| hold(window)).collect();
        eventually("every response has begun", || {
            let in_flight = gateway.metric("sitegate_requests_in_flight");
            let all = in_flight >= 1500.0 || gateway.metric("sitegate_requests_waited_total") > 0.0;
            all && begun() - begun_before >= in_flight
        });
        let mut last = 0;
        eventually("it grows no more", || {
            let now = gateway.memory_kib();
            std::thread::sleep(Duration::from_millis(200));
            std::mem::replace(&mut last, now).abs_diff(now) < 256
        });
        let grown = gateway.memory_kib().saturating_sub(before);
        println!("1,500 unread responses, open window {window}: {grown} KiB");
        assert!(grown < 40 * 1024, "{grown} KiB");
        drop(held);
        eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
    }
}

#[test]
fn a_client_that_sends_everything_first_reads_its_refusal() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    // Without a token. Far more than all buffers on the way hold.
    let length = 30 << 20;
    let mut wire = connect(&gateway);
    wire.send(
        format!(
            "BITS_POST /SMS_MP/x HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n",
            Gateway::HOST
        )
        .as_bytes(),
    );
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..30 {
        std::io::Write::write_all(&mut wire.0, &piece).expect("what is sent is taken");
    }
    let answer = wire.read_to_end();
    let head = head_of(&answer);
    assert!(matches!(status_of(&answer), 401 | 403 | 405), "{head}");
    assert!(head.contains("EHTTP_"), "{head}");
}

#[test]
fn dripped_bodies_leave_half_of_the_buffers() {
    let (url, _silent) = silent();
    let gateway = Plan::to(&url).sections("[limits]\nbuffered_bytes = \"16MiB\"").start();
    let head = request("POST", "/SMS_FSP/.sms_fsp", &[("content-length", "60000")]);
    // One byte of each body is missing: 12.8 MiB, if all of them are buffered.
    let body = vec![b'x'; 59_999];
    let held: Vec<Http2> = (0..14)
        .map(|_| {
            let mut http2 = Http2::open(&gateway);
            http2.await_window();
            for n in 0..16 {
                http2.send(HEADERS, END_HEADERS, 2 * n + 1, &head);
                body.chunks(16_000).for_each(|piece| http2.send(DATA, 0, 2 * n + 1, piece));
            }
            http2
        })
        .collect();
    eventually("some are refused", || {
        gateway.access().iter().any(|line| line["reason"] == "limit.requests_in_flight")
    });
    let buffered = gateway.metric("sitegate_buffered_bytes");
    assert!((4e6..9.5e6).contains(&buffered), "{buffered}");
    let mut wire = connect(&gateway);
    let (host, token) = (Gateway::HOST, gateway.token());
    let policy = "/SMS_MP/.sms_pol?x.1_00";
    let ask =
        format!("GET {policy} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    wire.send(ask.as_bytes());
    eventually("it is in flight", || gateway.metric("sitegate_requests_in_flight") == 1.0);
    drop(held);
    eventually("nothing is buffered", || gateway.metric("sitegate_buffered_bytes") == 0.0);
}
