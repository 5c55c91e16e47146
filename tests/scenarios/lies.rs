//! Backends that cut off, lie or send garbage: a client never takes a partial response for a
//! complete one, nor one response for another. Each case runs over every way of a request, to every
//! kind of backend.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::http2::request;
use crate::support::{
    CARRIERS, Carrier, Gateway, Got, Http2, Liar, Part, Plan, Then, Wire, connect, eventually,
    status_of,
};

/// The ways of a request through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// HTTP/1.1.
    Http1,
    Http2,
    /// HTTP/1.1, on a pinned backend connection.
    Windows,
}

const WAYS: [Way; 3] = [Way::Http1, Way::Http2, Way::Windows];
/// The ways with pooled backend connections.
const SHARED: [Way; 2] = [Way::Http1, Way::Http2];

const WAIT_MAX: &str = "windows_auth = true\nbackend_answer_time = \"400ms\"";

fn ask(gateway: &Gateway, way: Way, method: &str, path: &str) -> Got {
    if way == Way::Http2 {
        let mut http2 = Http2::open(gateway);
        http2.ask(1, &request(method, path, &[]));
        return http2.outcome(1);
    }
    let path = match way {
        Way::Windows => path.replace("/CCM_Client/", "/NOCERT_SMS_DP_SMSPKG$/"),
        _ => path.to_owned(),
    };
    let host = Gateway::HOST;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let mut wire = connect(gateway);
    let text =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}Connection: close\r\n\r\n");
    wire.send(text.as_bytes());
    read(&wire.read_to_end(), method == "HEAD")
}

/// Parses an HTTP/1.1 response from a connection that was read to its end.
fn read(bytes: &[u8], bodiless: bool) -> Got {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Got::default() };
    let (head, mut rest) = (&bytes[..end + 2], &bytes[end + 4..]);
    let status = status_of(head);
    if status < 200 {
        return read(rest, bodiless);
    }
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut got = Got { status, head: text.clone().into_bytes(), ..Got::default() };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    if bodiless || matches!(status, 204 | 304) {
        got.whole = rest.is_empty();
    } else if let Some(length) = length {
        got.body = rest.to_vec();
        // A malformed length is left for the client to interpret.
        got.whole = length.parse().map_or(true, |length: usize| rest.len() == length);
    } else if text.contains("transfer-encoding: chunked") {
        while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
            let size = String::from_utf8_lossy(&rest[..at]);
            let size = usize::from_str_radix(&size, 16).unwrap();
            rest = &rest[at + 2..];
            if size == 0 {
                got.whole = rest == b"\r\n";
                break;
            }
            got.body.extend(&rest[..size.min(rest.len())]);
            rest = rest.get(size + 2..).unwrap_or_default();
        }
    }
    got
}

/// Returns a path that is open to everyone with this method.
fn path_of(method: &str) -> &'static str {
    if method == "POST" { "/SMS_FSP/.sms_fsp" } else { "/CCM_Client/x" }
}

fn good() -> (Vec<Part>, Then) {
    (vec![Part::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood".to_vec())], Then::Keep)
}

/// Cases: a name, a response, and the fate of its connection.
type Cases = Vec<(String, Vec<Part>, Then)>;

/// A backend that answers `/CCM_Client/N` with case N, and everything else correctly.
fn backend(carrier: Carrier, cases: &Cases) -> Liar {
    let answers: Vec<_> = cases.iter().map(|(_, parts, then)| (parts.clone(), *then)).collect();
    Liar::by(carrier, move |request, _| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let number = path.rsplit('/').next().and_then(|n| n.parse::<usize>().ok());
        number.and_then(|n| answers.get(n).cloned()).unwrap_or_else(good)
    })
}

/// Checks that no case looks like a complete success, and that the next response is the right one.
fn none_is_a_success(cases: &Cases) {
    let faults: Vec<String> = std::thread::scope(|scope| {
        let each = CARRIERS.map(|carrier| scope.spawn(move || faults_by(carrier, cases)));
        each.into_iter().flat_map(|faults| faults.join().unwrap()).collect()
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

fn faults_by(carrier: Carrier, cases: &Cases) -> Vec<String> {
    let liar = backend(carrier, cases);
    let gateway = liar.plan().site_system(WAIT_MAX).start();
    let mut faults = Vec::new();
    for way in WAYS {
        for (n, (what, _, then)) in cases.iter().enumerate() {
            // On a unix socket a reset looks like a normal close.
            if carrier == Carrier::Unix && what.starts_with("no length") && *then == Then::Reset {
                continue;
            }
            let got = ask(&gateway, way, "GET", &format!("/CCM_Client/{n}"));
            let told = matches!(got.status, 502 | 504);
            if got.whole && !told {
                faults.push(format!(
                    "{carrier:?} {way:?}: {what}: {} {:?}",
                    got.status,
                    String::from_utf8_lossy(&got.body)
                ));
            }
            let next = ask(&gateway, way, "GET", "/CCM_Client/good");
            if (next.status, &next.body[..], next.whole) != (200, b"good", true) {
                faults.push(format!("{carrier:?} {way:?}: what comes after {what}: {next:?}"));
            }
        }
    }
    faults
}

#[test]
fn an_answer_that_breaks_off_is_never_a_whole_one() {
    let mut cases = Cases::new();
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        // A hang is the same at every point of a response, so a few points suffice.
        let hangs = begun.is_empty() || begun.ends_with("Le") || begun.ends_with("hello");
        for then in [Then::Close, Then::Reset].into_iter().chain(hangs.then_some(Then::Hang)) {
            let parts = vec![Part::Bytes(begun.as_bytes().to_vec())];
            cases.push((format!("{begun:?}, then {then:?}"), parts, then));
        }
    }
    // Without a length, the response ends with a close of the connection, but not with a reset.
    let parts = || vec![Part::Bytes(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec())];
    cases.push(("no length, then a reset".to_owned(), parts(), Then::Reset));
    cases.push(("no length, then nothing".to_owned(), parts(), Then::Hang));
    none_is_a_success(&cases);
}

#[test]
fn an_ambiguous_or_malformed_answer_is_never_a_success() {
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello");
    let chunked =
        |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let texts = [
        "<html>hello</html>\r\n\r\n".to_owned(),
        "HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/9.9 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 -20 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 999 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello".to_owned(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\n\r\nhello".to_owned(),
        with("Content-Length: -5\r\n"),
        with("Content-Length: +5\r\n"),
        with("Content-Length: 0x5\r\n"),
        with("Content-Length: 5 5\r\n"),
        with("Content-Length: 5, 5\r\n"),
        with("Content-Length: 5, 6\r\n"),
        with("Content-Length: \r\n"),
        with("Content-Length: 99999999999999999999\r\n"),
        with("Content-Length: 5\r\nContent-Length: 5\r\n"),
        with("Content-Length: 5\r\nContent-Length: 6\r\n"),
        with("Content-Length: 5\r\nX: a\0b\r\n"),
        with("Content-Length: 5\r\nX: a\rb\r\n"),
        with("Content-Length: 5\r\nX : y\r\n"),
        with("Content-Length: 5\r\nX: y\r\n folded\r\n"),
        with("Content-Length: 5\r\nno colon\r\n"),
        with("Content-Length: 5\r\n: empty\r\n"),
        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            .to_owned(),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("5 x\r\nhello\r\n0\r\n\r\n"),
        chunked("5\nhello\n0\n\n"),
        chunked("5\r\nhelloX0\r\n\r\n"),
        chunked("g\r\nhello\r\n0\r\n\r\n"),
        chunked("ffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 5\r\n\r\nhello", "x".repeat(2 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello", "X: y\r\n".repeat(20_000)),
        format!(
            "{}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000)
        ),
    ];
    let mut cases: Cases = texts
        .into_iter()
        .map(|text| {
            let what = format!("{:?}", text.chars().take(120).collect::<String>());
            (what, vec![Part::Bytes(text.into_bytes())], Then::Close)
        })
        .collect();
    for endless in ["X: y\r\n", "y", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let begin = if endless == "y" { "HTTP/1.1 200 OK\r\nX: " } else { "HTTP/1.1 200 OK\r\n" };
        let begin = if endless.starts_with("HTTP") { "" } else { begin };
        let parts = vec![Part::Bytes(begin.as_bytes().to_vec()), Part::Endless(endless)];
        cases.push((format!("{endless:?} without end"), parts, Then::Close));
    }
    none_is_a_success(&cases);
}

#[test]
fn bytes_behind_an_answer_are_dropped_with_the_connection() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let texts = [
        ("GET", 200, format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{poison}"), "ok"),
        (
            "GET",
            200,
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{poison}"
            ),
            "ok",
        ),
        ("GET", 204, format!("HTTP/1.1 204 No Content\r\n\r\n{poison}"), ""),
        (
            "GET",
            204,
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello{poison}"),
            "",
        ),
        ("GET", 304, format!("HTTP/1.1 304 Not Modified\r\n\r\n{poison}"), ""),
        (
            "GET",
            304,
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello{poison}"),
            "",
        ),
        ("HEAD", 200, format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{poison}"), ""),
    ];
    let cases: Cases = texts
        .iter()
        .flat_map(|(_, _, text, _)| {
            // In the same segment, and in its own segment a moment later.
            let (first, second) = text.split_at(text.len() - poison.len());
            let bytes = |text: &str| Part::Bytes(text.as_bytes().to_vec());
            let late = vec![bytes(first), Part::Pause(Duration::from_millis(30)), bytes(second)];
            [(text.clone(), vec![bytes(text)], Then::Keep), (text.clone(), late, Then::Keep)]
        })
        .collect();
    for carrier in CARRIERS {
        let liar = backend(carrier, &cases);
        let plan = liar.plan().site_system(WAIT_MAX).sections("[limits]\nthreads = 1");
        let gateway = plan.start();
        for (way, n, (what, ..)) in
            WAYS.iter().flat_map(|way| cases.iter().enumerate().map(|(n, case)| (*way, n, case)))
        {
            let (method, status, _, body) = texts[n / 2];
            let got = ask(&gateway, way, method, &format!("/CCM_Client/{n}"));
            assert_eq!((got.status, got.whole), (status, true), "{way:?}: {what}: {got:?}");
            assert_eq!(String::from_utf8_lossy(&got.body), body, "{way:?}: {what}");
            eventually("what comes late is there before the next request", || {
                liar.answered() == liar.asked().len()
            });
            for _ in 0..2 {
                let next = ask(&gateway, way, "GET", "/CCM_Client/good");
                assert_eq!(
                    (next.status, &next.body[..]),
                    (200, &b"good"[..]),
                    "{carrier:?} {way:?}: {what}"
                );
            }
        }
    }
}

#[test]
fn a_windows_auth_connection_serves_one_client_only() {
    const PATH: &str = "/NOCERT_SMS_DP_SMSPKG$/";
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for carrier in CARRIERS {
        // Answers with the number of earlier requests on its connection.
        let liar = Liar::by(carrier, move |request, n| {
            let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}");
            if request.contains("/poison") {
                text.push_str(poison);
            }
            if request.contains("/lie") {
                text = text.replace("200", "999");
            }
            (vec![Part::Bytes(text.into_bytes())], Then::Keep)
        });
        let plan = liar.plan().site_system(WAIT_MAX).sections("[limits]\nthreads = 1");
        let gateway = plan.start();
        let say = |wire: &mut Wire, name: &str| {
            let head = format!("GET {PATH}{name} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
            wire.send(head.as_bytes());
            let (status, body) = wire.read_answer();
            (status, String::from_utf8(body).unwrap())
        };
        let own = |n: &str| (200, n.to_owned());
        let (mut one, mut other) = (connect(&gateway), connect(&gateway));
        for n in ["0", "1", "2"] {
            assert_eq!(say(&mut one, "x"), own(n), "{carrier:?}: one connection for one client");
            assert_eq!(say(&mut other, "x"), own(n), "{carrier:?}: and another for another");
        }
        assert_eq!(say(&mut one, "poison"), own("3"), "{carrier:?}");
        assert_eq!(
            say(&mut one, "x"),
            own("0"),
            "{carrier:?}: a connection with leftovers is gone"
        );
        assert_eq!(say(&mut one, "lie").0, 502, "{carrier:?}");
        assert_eq!(say(&mut other, "x"), own("3"), "{carrier:?}: others notice nothing");
        // No other client gets a connection that was pinned.
        assert_eq!(ask(&gateway, Way::Http1, "GET", "/CCM_Client/x").body, b"0", "{carrier:?}");
    }
}

#[test]
fn an_answer_without_a_length_ends_only_with_close_notify() {
    let text = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (then, whole) in [(Then::Close, true), (Then::Cut, false)] {
        let answer = move |_: &str, _| (vec![Part::Bytes(text.as_bytes().to_vec())], then);
        let liar = Liar::by(Carrier::Tls, answer);
        let gateway = liar.plan().site_system(WAIT_MAX).start();
        for way in WAYS {
            let got = ask(&gateway, way, "GET", "/CCM_Client/x");
            assert_eq!(got.whole, whole, "{way:?} {then:?}: {got:?}");
        }
    }
}

#[test]
fn only_idempotent_requests_are_retried_on_a_closed_connection() {
    // The first request of a connection is answered; the next one is read, and the connection
    // closes.
    let liar = Liar::start(|_, n| match n {
        0 => good(),
        _ => (Vec::new(), Then::Close),
    });
    let gateway = Plan::to(&liar.url()).sections("[limits]\nthreads = 1").start();
    for way in SHARED {
        for (method, status) in [("GET", 200), ("POST", 502)] {
            // Leaves a connection in the pool that will fail.
            let before = liar.asked().len();
            let mut primed = ask(&gateway, way, "GET", "/CCM_Client/prime");
            if primed.status != 200 || liar.asked().len() != before + 1 {
                primed = ask(&gateway, way, "GET", "/CCM_Client/prime");
            }
            assert_eq!(primed.status, 200, "{way:?} {method}");
            let path = format!("{}?{way:?}{method}", path_of(method));
            let got = ask(&gateway, way, method, &path);
            assert_eq!(got.status, status, "{way:?} {method}: {got:?}");
            let sent = liar.asked().iter().filter(|asked| asked.contains(&path)).count();
            let wanted = if method == "GET" { 2 } else { 1 };
            assert_eq!(sent, wanted, "{way:?} {method}: how often the backend was asked");
        }
    }
}

#[test]
fn hop_by_hop_fields_of_the_backend_are_dropped() {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
                X-Hop: secret\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTrailer: X-T\r\n\
                Sitegate-Device: GUID:evil\r\nX-Kept: kept\r\nContent-Length: 4\r\n\r\ngood";
    let liar = Liar::start(move |_, _| (vec![Part::Bytes(head.as_bytes().to_vec())], Then::Keep));
    let gateway = Plan::to(&liar.url()).start();
    for version in ["--http1.1", "--http2"] {
        for te in [&[][..], &["-H", "TE: trailers"]] {
            let answer = gateway.curl("/CCM_Client/x", &[&[version], te].concat());
            let head = answer.head.to_ascii_lowercase();
            assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{head}");
            assert!(head.contains("x-kept: kept"), "{version} {te:?}: {head}");
            for gone in ["x-hop", "keep-alive:", "proxy-connection", "upgrade", "evil"] {
                assert!(!head.contains(gone), "{version} {te:?} has {gone}: {head}");
            }
        }
    }
}

#[test]
fn a_slow_answer_passes_while_it_makes_progress() {
    let drip = |_: &str, _| {
        let mut parts = vec![Part::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
                .to_vec(),
        )];
        for byte in b"dripping" {
            parts.extend([Part::Pause(Duration::from_millis(80)), Part::Bytes(vec![*byte])]);
        }
        (parts, Then::Keep)
    };
    let gateway = Plan::to(&Liar::start(drip).url()).site_system(WAIT_MAX).start();
    // Longer in total than the timeout between two parts of a response.
    for way in SHARED {
        let got = ask(&gateway, way, "GET", "/CCM_Client/x");
        assert_eq!((got.status, got.whole), (200, true), "{way:?}: {got:?}");
        assert_eq!(String::from_utf8_lossy(&got.body), "dripping", "{way:?}");
    }
}

#[test]
fn a_restarted_backend_on_ipv4_or_ipv6_is_reached_again() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("this machine has no loopback address of IPv6; IPv4 it is");
        return comes_back("127.0.0.1");
    };
    drop(listener);
    comes_back("127.0.0.1");
    comes_back("[::1]");
}

fn comes_back(host: &str) {
    let mut listener = TcpListener::bind(format!("{host}:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway =
        Plan::to(&format!("http://{host}:{port}")).sections("[limits]\nthreads = 1").start();
    for way in SHARED {
        for method in ["GET", "POST"] {
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                assert!(std::io::Read::read(&mut stream, &mut head).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                // Kept open until the whole backend goes down.
                (listener, stream)
            });
            let got = ask(&gateway, way, method, path_of(method));
            assert_eq!((got.status, got.whole), (200, true), "{host} {way:?} {method}: {got:?}");
            let (closing, stream) = server.join().unwrap();
            drop((closing, stream));
            assert!(TcpStream::connect((host.trim_matches(['[', ']']), port)).is_err());
            let away = ask(&gateway, way, "GET", "/CCM_Client/x");
            assert_eq!(away.status, 502, "{host} {way:?}: {away:?}");
            let mut again = None;
            eventually("the port is free again", || {
                again = TcpListener::bind(format!("{host}:{port}")).ok();
                again.is_some()
            });
            listener = again.unwrap();
        }
    }
}

/// Responses that are refused, and their fault in the log.
const FAULTY: &[(&str, &str)] = &[
    ("HTTP/2.0 200 OK\r\n\r\n", "not a status line of HTTP/1.0 or 1.1 (line 1 of its head)"),
    ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "a colon and printable characters (line 2 of its head)"),
    ("HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\n", "does not end with CR LF"),
    (
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: +5\r\n\r\nhello",
        "Content-Length is not one plain number, once (line 3 of its head)",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "Transfer-Encoding is not chunked alone, once (line 2 of its head)",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "both Content-Length and Transfer-Encoding",
    ),
    (
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "it is HTTP/1.0 and has Transfer-Encoding",
    ),
    (
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "switches to another protocol without an Upgrade request",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "a chunk does not follow RFC 9112 §7.1 (in its body)",
    ),
];

#[rstest::rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn the_log_says_what_is_wrong_with_an_answer_and_where(#[case] protocol: &str) {
    let liar = Liar::start(|asked, _| {
        let number = asked.split("MPLIST").next().unwrap_or_default();
        let number = number.rsplit('/').nth(1).unwrap_or_default();
        let (answer, _) = FAULTY[number.parse::<usize>().unwrap_or_default()];
        (vec![Part::Bytes(answer.as_bytes().to_vec())], Then::Close)
    });
    let gateway = liar.plan().start();
    for (number, (answer, told)) in FAULTY.iter().enumerate() {
        gateway.curl(&format!("/CCM_Client/{number}/MPLIST"), &[protocol]);
        eventually("it is logged", || gateway.access().len() == number + 1);
        let line = gateway.access().pop().unwrap();
        assert_eq!(line["reason"], "upstream.response", "{answer:?}: {line}");
        assert!(line["detail"].as_str().unwrap().contains(told), "{answer:?}: {line}");
    }
}
