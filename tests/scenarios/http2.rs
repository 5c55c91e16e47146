//! HTTP/2 attacks: floods that must not affect others, and requests that would change their meaning
//! when they are written as HTTP/1.1.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, request, status,
};
use crate::support::{Gateway, Http2, Liar, Nginx, Part, Plan, Then, eventually, write_pattern};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";
const UPLOAD: &str = "/SMS_FSP/.sms_fsp";

fn answering() -> Liar {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    Liar::start(move |_, _| (vec![Part::Bytes(answer.to_vec())], Then::Keep))
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// An ordinary request's fields, for a case to alter.
fn fields(method: &str, path: &str) -> Fields {
    let own =
        [(":method", method), (":scheme", "https"), (":authority", Gateway::HOST), (":path", path)];
    own.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
}

fn with(name: &str, value: &str) -> Fields {
    let mut all = fields("GET", OPEN);
    all.push((name.into(), value.into()));
    all
}

/// An ordinary request with one of its own fields replaced or removed.
fn but(name: &str, value: Option<&str>) -> Fields {
    let mut all = fields("GET", OPEN);
    let at = all.iter().position(|(n, _)| n == name.as_bytes()).unwrap();
    match value {
        Some(value) => all[at].1 = value.into(),
        None => drop(all.remove(at)),
    }
    all
}

#[test]
fn an_http_2_request_ambiguous_as_http_1_is_refused() {
    let liar = answering();
    let gateway = Plan::to(&liar.url()).start();
    let mut cases: Vec<(String, Fields)> = Vec::new();
    for (name, value) in [
        ("x", "a\r\nEvil: b"),
        ("x", "a\nEvil: b"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x\r\nevil", "b"),
        ("x\0", "b"),
        ("x:", "b"),
        ("x y", "b"),
        ("", "b"),
        ("X-Upper", "b"),
        ("transfer-encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("connection", "close"),
        ("connection", "sitegate-device"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "h2c"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "5"),
        ("content-length", "-1"),
        ("content-length", "0, 0"),
        ("content-length", "99999999999999999999"),
        ("content_length", "5"),
        ("host", "other.contoso.com"),
        ("host", "mp01.contoso.com, other"),
        (":path", "/CCM_Client/late"),
        (":unknown", "x"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":method", "POST"),
        (":authority", "other.contoso.com"),
    ] {
        cases.push((format!("{name:?}: {value:?}"), with(name, value)));
    }
    for (name, value) in [
        (":method", None),
        (":method", Some("")),
        (":method", Some("GET /x HTTP/1.1\r\nX: ")),
        (":method", Some("get")),
        (":method", Some("G T")),
        (":method", Some("TRACE")),
        (":method", Some("CONNECT")),
        (":scheme", None),
        (":path", None),
        (":path", Some("")),
        (":path", Some("*")),
        (":path", Some("CCM_Client/ccmsetup.cab")),
        (":path", Some("/CCM_Client/x y")),
        (":path", Some("/CCM_Client/x\r\nX: y")),
        (":path", Some("/CCM_Client/x\0")),
        (":path", Some("https://other/CCM_Client/x")),
        (":authority", None),
        (":authority", Some("")),
        (":authority", Some("mp01.contoso.com/SMS_MP")),
        (":authority", Some("user@mp01.contoso.com")),
        (":authority", Some("mp01.contoso.com\r\nX: y")),
        (":authority", Some("mp01.contoso.com other")),
        (":authority", Some("other.contoso.com")),
    ] {
        cases.push((format!("{name} {value:?}"), but(name, value)));
    }
    let mut twice = fields("GET", OPEN);
    twice.extend(
        [("content-length", "0"), ("content-length", "0")].map(|(n, v)| (n.into(), v.into())),
    );
    cases.push(("content-length twice".into(), twice));
    let mut connect = fields("CONNECT", "/CCM_Client/x");
    connect.insert(1, (b":protocol".to_vec(), b"websocket".to_vec()));
    cases.push(("extended CONNECT".into(), connect));
    let mut faults = Vec::new();
    for (what, fields) in &cases {
        let before = liar.asked().len();
        let mut http2 = Http2::open(&gateway);
        http2.ask(1, &block(fields));
        let got = http2.outcome(1);
        let asked = liar.asked();
        if !matches!(got.status, 0 | 400..=499 | 501) || asked.len() > before {
            faults.push(format!(
                "{what}: {} and the backend saw {:?}",
                got.status,
                &asked[before..]
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // The scheme has no effect, and is not forwarded.
    for scheme in ["http", "ftp", "HTTPS", "https\r\nX: evil", "ht tps", "evil\0", ""] {
        let mut http2 = Http2::open(&gateway);
        http2.ask(1, &block(&but(":scheme", Some(scheme))));
        let got = http2.outcome(1);
        assert!(matches!(got.status, 0 | 200 | 400), "{scheme:?}: {got:?}");
    }
    let asked = liar.asked().concat().to_ascii_lowercase();
    assert!(!asked.contains("evil") && !asked.contains("x-forwarded-proto: http\r"), "{asked}");
    let mut http2 = Http2::open(&gateway);
    http2.ask(1, &block(&fields("GET", OPEN)));
    assert_eq!(http2.outcome(1).status, 200, "an ordinary request passes");
    assert!(gateway.memory_kib() < 200 * 1024);
}

#[test]
fn a_mismatched_http_2_body_never_completes_a_request() {
    let liar = answering();
    let gateway = Plan::to(&liar.url()).start();
    let head = |length: &str| request("POST", UPLOAD, &[("content-length", length)]);
    let open = || request("POST", UPLOAD, &[]);
    let trailers = |name: &str, value: &str| {
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(name, value)]))
    };
    let begin = |block: &[u8]| frame(HEADERS, END_HEADERS, 1, block);
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("short", vec![begin(&head("5")), data(END_STREAM, b"four")]),
        ("long", vec![begin(&head("5")), data(END_STREAM, b"sixsix")]),
        ("no length and a body", vec![begin(&head("0")), data(END_STREAM, b"GET /evil HTTP/1.1")]),
        ("no length and a body that goes on", vec![begin(&head("0")), data(0, b"x")]),
        ("length and no body", vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("5"))]),
        (
            "cut off",
            vec![begin(&open()), data(0, b"hello"), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        ),
        ("a line in trailers", vec![begin(&open()), data(0, b"x"), trailers("x", "a\r\nb: c")]),
        (
            "a second head that does not end the stream",
            vec![
                begin(&open()),
                data(0, b"x"),
                frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")])),
            ],
        ),
        (
            "padding longer than its frame",
            vec![begin(&open()), frame(DATA, 8 | END_STREAM, 1, &[200, 1, 2])],
        ),
    ];
    for (what, frames) in cases {
        let before = liar.asked().len();
        let mut http2 = Http2::open(&gateway);
        http2.0.send(&frames.concat());
        let got = match what {
            // A client that resets a stream receives no more of it.
            "cut off" => Default::default(),
            _ => http2.outcome(1),
        };
        assert!(matches!(got.status, 0 | 400..500), "{what}: {got:?}");
        drop(http2);
        eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
        assert_eq!(liar.asked().len(), before, "{what}: {:?}", liar.asked());
    }
    // A fragment is removed before the request is judged, so it is not forwarded.
    let mut http2 = Http2::open(&gateway);
    http2.ask(1, &request("GET", "/CCM_Client/x#evil", &[]));
    assert_eq!(http2.outcome(1).status, 200);
    assert!(!liar.asked().concat().contains("evil"), "{:?}", liar.asked());
    // Trailers are dropped, even with fields that matter in a head.
    for (name, value) in [
        ("sitegate-device", "GUID:evil"),
        ("authorization", "Bearer evil"),
        ("content-length", "50"),
        ("transfer-encoding", "evil"),
        (":path", "/evil"),
        ("host", "evil"),
    ] {
        let mut http2 = Http2::open(&gateway);
        http2.0.send(&[begin(&open()), data(0, b"x"), trailers(name, value)].concat());
        assert!(matches!(http2.outcome(1).status, 0 | 200 | 400), "{name}");
        assert!(!liar.asked().concat().contains("evil"), "{name}: {:?}", liar.asked());
    }
}

#[test]
fn a_body_of_http_2_that_stalls_ends_with_its_own_deadline() {
    let liar = answering();
    let gateway = Plan::to(&liar.url()).sections("[limits]\nbody_grace = \"400ms\"").start();
    let mut http2 = Http2::open(&gateway);
    let head = frame(HEADERS, END_HEADERS, 1, &request("POST", UPLOAD, &[]));
    http2.0.send(&[head, frame(DATA, 0, 1, b"half")].concat());
    let got = http2.outcome(1);
    assert_eq!(got.status, 408, "{got:?}");
    assert!(String::from_utf8_lossy(&got.body).contains("limit.rate"), "{got:?}");
    assert!(liar.asked().is_empty());
    // The connection stays open.
    http2.ask(3, &request("GET", OPEN, &[]));
    assert!(http2.outcome(3).whole);
}

#[test]
fn a_body_of_http_2_that_drips_ends_as_one_of_http_1_does() {
    let liar = answering();
    let limits = "[limits]\nbody_grace = \"400ms\"\nbody_bytes_per_second = 1000";
    let gateway = Plan::to(&liar.url()).sections(limits).start();
    let mut http2 = Http2::open(&gateway);
    http2.send(HEADERS, END_HEADERS, 1, &request("POST", UPLOAD, &[]));
    eventually("it ends however long it drips", || {
        http2.send(DATA, 0, 1, b"x");
        std::thread::sleep(Duration::from_millis(20));
        gateway.access().iter().any(|line| line["reason"] == "limit.rate")
    });
    assert_eq!(http2.outcome(1).status, 408);
    assert!(liar.asked().is_empty(), "{:?}", liar.asked());
    // A body at the minimum rate is not cut off, even after a long time.
    let mut http2 = Http2::open(&gateway);
    http2.send(HEADERS, END_HEADERS, 1, &request("POST", UPLOAD, &[]));
    for _ in 0..40 {
        http2.send(DATA, 0, 1, &[b'x'; 100]);
        std::thread::sleep(Duration::from_millis(20));
    }
    http2.send(DATA, END_STREAM, 1, b"x");
    assert_eq!(http2.outcome(1).status, 200);
}

#[test]
fn an_empty_http_2_body_is_forwarded_once_it_has_ended() {
    let liar = answering();
    let gateway = Plan::to(&liar.url()).sections("[limits]\nbody_grace = \"400ms\"").start();
    let mut http2 = Http2::open(&gateway);
    let head = request("POST", UPLOAD, &[("content-length", "0")]);
    http2.send(HEADERS, END_HEADERS, 1, &head);
    http2.send(DATA, END_STREAM, 1, b"");
    assert_eq!(http2.outcome(1).status, 200);
    assert_eq!(liar.asked().len(), 1);
    http2.ask(3, &head);
    assert_eq!(http2.outcome(3).status, 200, "one that ended at once");
    // A stream without END_STREAM is awaited as long as any stalled body.
    http2.send(HEADERS, END_HEADERS, 5, &head);
    assert_eq!(http2.outcome(5).status, 408);
    assert_eq!(liar.asked().len(), 2);
    http2.send(HEADERS, END_HEADERS, 7, &head);
    http2.send(DATA, 0, 7, b"GET /evil HTTP/1.1");
    http2.outcome(7);
    eventually("the log tells of it", || {
        gateway.access().iter().any(|line| line["reason"] == "framing.length")
    });
    assert_eq!(liar.asked().len(), 2);
}

#[test]
fn http_2_errors_of_the_parser_are_counted_and_logged() {
    let liar = answering();
    let gateway = Plan::to(&liar.url()).start();
    let errors = || gateway.metric("sitegate_http2_errors_total{code=\"protocol_error\"}");
    let mut http2 = Http2::open(&gateway);
    http2.ask(1, &block(&fields("GET", OPEN)));
    assert!(http2.outcome(1).whole);
    assert_eq!(errors(), 0.0);
    let cases = [with("connection", "close"), with(":path", "/late"), but(":method", None)];
    for (fields, stream) in cases.iter().zip([3, 5, 7]) {
        http2.ask(stream, &block(fields));
        assert!(!http2.outcome(stream).whole);
    }
    assert_eq!(errors(), 3.0, "each is counted at once");
    drop(http2);
    let of_connection = || {
        let refused = |line: &serde_json::Value| line["reason"] == "framing.head";
        gateway.access().into_iter().filter(refused).collect::<Vec<_>>()
    };
    eventually("the connection has its line", || !of_connection().is_empty());
    let lines = of_connection();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["detail"], "HTTP/2: 3 refused unread, protocol_error 3");
    assert_eq!(lines[0]["protocol"], "HTTP/2");
    let denied = gateway.metric("sitegate_denials_total{reason=\"framing.head\"");
    assert_eq!(denied, 1.0, "one for the connection: a flood is one line");
    // Requests refused by sitegate itself, and streams that the client resets, have log lines of
    // their own.
    let mut http2 = Http2::open(&gateway);
    http2.ask(1, &block(&fields("TRACE", OPEN)));
    http2.outcome(1);
    http2.ask(3, &block(&fields("GET", OPEN)));
    http2.send(RST_STREAM, 0, 3, &8_u32.to_be_bytes());
    http2.ask(5, &block(&fields("GET", OPEN)));
    http2.outcome(5);
    drop(http2);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
    assert_eq!(of_connection().len(), 1);
}

/// Floods the gateway with frames until it accepts no more.
fn flood(gateway: &Gateway, frames: impl Iterator<Item = Vec<u8>>) -> Http2 {
    let mut http2 = Http2::open(gateway);
    http2.0.0.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut batch = Vec::new();
    for one in frames {
        batch.extend(one);
        if batch.len() > 16 * 1024 && http2.0.0.write_all(&std::mem::take(&mut batch)).is_err() {
            return http2;
        }
    }
    let _ = http2.0.0.write_all(&batch).and_then(|()| http2.0.0.flush());
    http2
}

/// Client stream numbers, in order.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

#[test]
fn a_stream_over_the_configured_number_is_refused() {
    let gateway = answering().plan().sections("[limits]\nhttp2_streams = 2").start();
    let post = request("POST", UPLOAD, &[]);
    let mut http2 = Http2::open(&gateway);
    let settings = http2.next().unwrap();
    // RFC 9113 §6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS is 3.
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]));
    for n in streams(3) {
        http2.send(HEADERS, END_HEADERS, n, &post);
    }
    let refused = std::iter::from_fn(|| http2.next()).find(|frame| frame.kind == RST_STREAM);
    // §8.7: REFUSED_STREAM is 7.
    let refused = refused.map(|frame| (frame.stream, frame.payload));
    assert_eq!(refused, Some((5, vec![0, 0, 0, 7])));
}

#[test]
fn floods_of_http_2_frames_cost_other_clients_nothing() {
    let nginx = Nginx::start();
    write_pattern(&nginx.content().join("../../CCM_Client/big.bin"), 2);
    let gateway = Plan::to(&nginx.url()).start();
    let post = request("POST", UPLOAD, &[]);
    let get = request("GET", OPEN, &[]);
    let begun = |n: u32| frame(HEADERS, END_HEADERS, n, &post);
    let asked = |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, n, &get);
    let cancel = |n: u32| frame(RST_STREAM, 0, n, &[0, 0, 0, 8]);
    let window = |n: u32, by: u32| frame(WINDOW_UPDATE, 0, n, &by.to_be_bytes());
    let each = |count: u32, one: Vec<u8>| (0..count).map(move |_| one.clone());
    let after = |first: Vec<u8>, rest: Box<dyn Iterator<Item = Vec<u8>>>| {
        Box::new(std::iter::once(first).chain(rest))
    };
    let unfinished = frame(HEADERS, 0, 1, &get);
    // A large field in the dynamic table, referenced again and again.
    let mut bomb = vec![0x40, 1, b'x'];
    bomb.extend([127, 0x81, 0x1e]);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 12_000]);
    let bomb = [get.clone(), bomb].concat();
    let flaps = [0x20, 0x3f, 0xe1, 0x1f].repeat(4000);
    let large = block(&[("x", vec![b'y'; 15_000])]);
    type Frames<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;
    let floods: Vec<(&str, Frames<'_>)> = vec![
        ("rapid reset", Box::new(streams(20_000).map(|n| [asked(n), cancel(n)].concat()))),
        (
            "reset by a window of nothing",
            Box::new(streams(20_000).map(|n| [begun(n), window(n, 0)].concat())),
        ),
        (
            "reset by a window too large",
            Box::new(streams(20_000).map(|n| [begun(n), window(n, u32::MAX >> 1)].concat())),
        ),
        (
            "reset by data after the end",
            Box::new(streams(20_000).map(|n| [asked(n), frame(DATA, 0, n, b"x")].concat())),
        ),
        (
            "reset by a priority of four bytes",
            Box::new(streams(20_000).map(|n| [begun(n), frame(PRIORITY, 0, n, &[0; 4])].concat())),
        ),
        (
            "continuation",
            after(unfinished.clone(), Box::new(each(20_000, frame(CONTINUATION, 0, 1, &large)))),
        ),
        (
            "empty continuation",
            after(unfinished, Box::new(each(300_000, frame(CONTINUATION, 0, 1, &[])))),
        ),
        ("empty data", after(begun(1), Box::new(each(300_000, frame(DATA, 0, 1, &[]))))),
        (
            "a compression bomb",
            Box::new(
                streams(1000).map(move |n| frame(HEADERS, END_HEADERS | END_STREAM, n, &bomb)),
            ),
        ),
        (
            "flapping table sizes",
            Box::new(
                streams(1000).map(move |n| frame(HEADERS, END_HEADERS | END_STREAM, n, &flaps)),
            ),
        ),
        ("settings", Box::new(each(100_000, frame(SETTINGS, 0, 0, &[])))),
        ("pings", Box::new(each(100_000, frame(PING, 0, 0, &[0; 8])))),
        ("priorities", Box::new(each(100_000, frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])))),
        ("windows", Box::new(each(100_000, window(0, 1)))),
        ("unknown frames", Box::new(each(100_000, frame(0xbb, 0, 0, b"x")))),
        ("good-byes", Box::new(each(100_000, frame(GOAWAY, 0, 0, &[0; 8])))),
        ("open uploads", Box::new(streams(5000).map(begun))),
    ];
    assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200);
    let before = gateway.memory_kib();
    let check = |what: &str, began: Instant, mib: u64| {
        let probe = Instant::now();
        assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200, "{what}: others are served");
        let (took, grown) = (probe.elapsed(), gateway.memory_kib().saturating_sub(before));
        println!("{what}: {:?}, another client {took:?}, {grown} KiB", began.elapsed());
        assert!(took < Duration::from_secs(10), "{what}: another client waited {took:?}");
        assert!(grown < mib * 1024, "{what}: memory grew by {grown} KiB");
    };
    for (what, frames) in floods {
        let began = Instant::now();
        // Held until another client was served beside it.
        let held = flood(&gateway, frames);
        check(what, began, 64);
        drop(held);
    }
    let began = Instant::now();
    let big = request("GET", "/CCM_Client/big.bin", &[]);
    let nothing = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let stalls: Vec<_> =
        streams(100).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n, &big)).collect();
    let mut held = flood(&gateway, std::iter::once(nothing).chain(stalls));
    assert!(held.next().is_some());
    // Two hundred MiB, if they were buffered.
    check("a hundred answers of which nothing is taken", began, 64);
    drop(held);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
    check("afterwards", Instant::now(), 64);
}

/// curl before 8.7 ends its upload early when it gets an error, which RFC 9113 (§8.1.1) makes a
/// malformed request: its stream is reset, with what was not sent of the response.
#[test]
fn an_error_is_complete_before_the_client_can_stop_its_upload() {
    // A backend that responds before it reads the body.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let mut read = 0;
        while !head[..read].ends_with(b"\r\n\r\n") {
            read += stream.read(&mut head[read..]).unwrap();
        }
        stream.write_all(b"HTTP/1.1 501 None\r\nContent-Length: 4\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b"none").unwrap();
        // Until the gateway has closed it.
        let _ = stream.read(&mut head);
    });
    let route = "[[site_system.route]]\npath = \"/any/\"\nrequire = \"anonymous\"\n\
                 methods = [\"PUT\"]\nbody_bytes = \"100MiB\"\n";
    let gateway = Plan::to(&url).after(route).start();
    let mut client = Http2::open(&gateway);
    client.send(HEADERS, END_HEADERS, 1, &request("PUT", "/any/x", &[("content-length", "1")]));
    let mut frames = std::iter::from_fn(|| client.next()).filter(|frame| frame.stream == 1);
    let head = frames.find(|frame| frame.kind == HEADERS).expect("a response");
    assert_eq!(status(&head.payload), 501);
    drop(frames);
    client.send(DATA, END_STREAM, 1, b"");
    let got = client.outcome(1);
    assert_eq!((got.whole, got.body.as_slice()), (true, b"none".as_slice()));
    drop((client, gateway));
    backend.join().unwrap();
}
