//! A client without a token registers and locates its site, and may do nothing else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::backends::Echo;
use crate::support::{Gateway, Nginx, Plan, connect, eventually, head_of, status_of};

pub const REGISTRATION: &str = include_str!("../cases/messages/registration.xml");
pub const LOCATION: &str = include_str!("../cases/messages/location.xml");
pub const POLICY: &str = include_str!("../cases/messages/policy.xml");

/// The payloads of those messages.
pub const REGISTERS: &str = include_str!("../cases/payloads/registration.xml");
pub const SITE: &str = include_str!("../cases/payloads/site-information.xml");
pub const CONTENT: &str = include_str!("../cases/payloads/content.xml");
pub const UPDATE_SF: &str = include_str!("../cases/payloads/update-sf.xml");
const OWN: &str = include_str!("../cases/payloads/client-package.xml");

const PATH: &str = "/ccm_system/request";
pub const TYPE: &str = "Content-Type: multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

/// A message with a payload of this many bytes that are no request.
pub fn message(xml: &str, payload: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..payload).map(|n| (n * 31 % 251) as u8).collect();
    with(xml, &bytes)
}

/// A message with this request, as clients send it.
pub fn asking(xml: &str, payload: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let text: Vec<u8> = payload.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    encoder.write_all(&text).unwrap();
    with(xml, &encoder.finish().unwrap())
}

/// A peer update request with SQL injected in the place of its id.
pub fn injected_payload() -> String {
    UPDATE_SF.replace("UID:00000000-0000-0000-0000-000000000000", "1';exec xp_cmdshell 'whoami'--")
}

fn with(xml: &str, payload: &[u8]) -> Vec<u8> {
    let boundary = "--aAbBcCdDv1234567890VxXyYzZ";
    let begin = format!("{boundary}\r\nContent-Type: text/plain; charset=UTF-16\r\n\r\n");
    let middle = format!("\r\n{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n");
    let end = format!("\r\n{boundary}--\r\n");
    let text = xml.encode_utf16().flat_map(u16::to_le_bytes);
    let mut bytes = begin.into_bytes();
    bytes.extend([0xff, 0xfe].into_iter().chain(text));
    bytes.extend(middle.bytes());
    bytes.extend(payload);
    bytes.extend(end.bytes());
    bytes
}

/// A registration with the largest keys that a message without a token may hold.
fn large() -> String {
    let mut chance = 1_u64;
    let letters = std::iter::repeat_with(|| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'A' + ((chance >> 33) % 26) as u8)
    });
    let key: String = letters.take(29_000).collect();
    REGISTERS.replace("</Encryption>", &format!("{key}</Encryption>"))
}

/// The curl arguments that send a body. The file lives as long as the gateway.
pub fn sending(gateway: &Gateway, name: &str, body: &[u8]) -> Vec<String> {
    let file: PathBuf = gateway.path(name);
    std::fs::write(&file, body).unwrap();
    let data = format!("@{}", Path::new(&file).display());
    ["-X", "CCM_POST", "-H", TYPE, "--data-binary", &data].map(str::to_owned).to_vec()
}

pub fn args<'a>(all: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    all.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

fn head(fields: &str) -> String {
    format!("CCM_POST {PATH} HTTP/1.1\r\nHost: {}\r\n{TYPE}\r\n{fields}\r\n", Gateway::HOST)
}

fn ask(body: &[u8]) -> Vec<u8> {
    [head(&format!("Content-Length: {}\r\n", body.len())).as_bytes(), body].concat()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut all = head("Transfer-Encoding: chunked\r\n").into_bytes();
    for chunk in body.chunks(size) {
        all.extend(format!("{:x}\r\n", chunk.len()).bytes());
        all.extend(chunk);
        all.extend(b"\r\n");
    }
    all.extend(b"0\r\n\r\n");
    all
}

#[test]
fn registration_and_location_pass_without_a_token() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let large = large();
    for (xml, payload) in
        [(REGISTRATION, REGISTERS), (REGISTRATION, &*large), (LOCATION, SITE), (LOCATION, OWN)]
    {
        let body = asking(xml, payload);
        assert!(payload != large || (20_000..48 * 1024).contains(&body.len()), "{}", body.len());
        let file = sending(&gateway, "message", &body);
        for framing in [
            &["--http1.1"][..],
            &["--http1.1", "-H", "Expect:"],
            &["--http1.1", "-H", "Expect: 100-continue"],
            &["--http1.1", "-H", "Transfer-Encoding: chunked"],
            &["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
            &["--http1.0"],
            &["--http2"],
            &["--http2", "-H", "Content-Length:"],
            &["--http2", "-H", "Expect: 100-continue"],
        ] {
            let answer = gateway.curl("/CCM_System/request", &args(&file, framing));
            assert_eq!(answer.status, 200, "{framing:?}: {answer:?}");
            assert!(answer.body == body, "{framing:?}: the message changed");
        }
    }
    // The log and the counters are written after the response.
    eventually("all are in the log", || gateway.access().len() == 36);
    let allowed = gateway.access();
    assert!(allowed.iter().all(|line| line["decision"] == "allowed" && line["device"].is_null()));
}

#[test]
fn every_other_message_needs_a_token() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let id = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";
    let injected = LOCATION.replace(id, &format!("{id}'; exec xp_cmdshell 'whoami'--"));
    let nested =
        LOCATION.replace("<Hooks>", "<Hooks><TargetEndpoint>MP_PolicyManager</TargetEndpoint>");
    let hidden = [&message(REGISTRATION, 0)[..], &message(POLICY, 0)]
        .concat()
        .strip_prefix(b"--aAbB")
        .map(|rest| [b"--zzzz", rest].concat())
        .unwrap();
    let entity = format!("<!DOCTYPE Msg [<!ENTITY e \"x\">]>{LOCATION}");
    type Case<'a> = (&'a str, Vec<u8>, &'a [&'a str], u16, &'a str);
    let cases: [Case<'_>; 21] = [
        ("policy", message(POLICY, 0), &[], 401, "token.missing"),
        ("no body", vec![], &[], 401, "token.missing"),
        ("too large", message(REGISTRATION, 60_000), &[], 401, "token.missing"),
        ("larger", message(REGISTRATION, 300_000), &[], 401, "token.missing"),
        ("injection", asking(&injected, UPDATE_SF), &[], 400, "message.source_id"),
        ("second statement", asking(LOCATION, &injected_payload()), &[], 400, "message.payload"),
        ("no request", message(LOCATION, 300), &[], 400, "message.payload"),
        ("nothing asked", message(REGISTRATION, 0), &[], 400, "message.payload"),
        (
            "behind it",
            [asking(LOCATION, SITE), b"x".to_vec()].concat(),
            &[],
            400,
            "message.payload",
        ),
        ("update", asking(LOCATION, UPDATE_SF), &[], 403, "message.request"),
        ("content", asking(LOCATION, CONTENT), &[], 403, "message.request"),
        ("elsewhere", asking(REGISTRATION, SITE), &[], 403, "message.request"),
        ("nested", message(&nested, 0), &[], 400, "message.malformed"),
        ("hidden", hidden, &[], 400, "message.malformed"),
        ("entity", message(&entity, 0), &[], 400, "message.malformed"),
        ("noise", vec![0xfe; 999], &[], 400, "message.malformed"),
        ("cut", message(LOCATION, 0)[..900].to_vec(), &[], 400, "message.malformed"),
        ("typed", message(LOCATION, 0), &["-H", "Content_Type: a/b"], 400, "message.malformed"),
        ("gzip", message(LOCATION, 0), &["-H", "Content-Encoding: gzip"], 400, "message.malformed"),
        ("method", message(LOCATION, 0), &["-X", "POST"], 405, "route.method"),
        (
            "no true token",
            message(LOCATION, 0),
            &["-H", "Authorization: Bearer a.b.c"],
            401,
            "token.malformed",
        ),
    ];
    for (what, body, more, status, code) in &cases {
        let file = sending(&gateway, "message", body);
        for framing in [
            &["--http1.1"][..],
            &["--http1.1", "-H", "Expect: 100-continue"],
            &["--http1.1", "-H", "Transfer-Encoding: chunked"],
            &["--http2"],
            &["--http2", "-H", "Content-Length:"],
        ] {
            // A client that sends an unwanted body may be cut off before it reads the response.
            let announced = framing.len() == 3 && framing[2].starts_with("Expect");
            if body.len() > 48 * 1024 && !announced && framing[0] != "--http2" {
                continue;
            }
            let all = [framing, more].concat();
            let answer = gateway.curl(PATH, &args(&file, &all));
            let seen = (answer.status, &*answer.code());
            assert_eq!(seen, (*status, *code), "{what} {framing:?}: {answer:?}");
        }
    }
    let registration = sending(&gateway, "message", &message(REGISTRATION, 0));
    for other in ["/ccm_system_tokenauth/request", "/ccm_system_altauth/request"] {
        assert!(gateway.curl(other, &args(&registration, &[])).status >= 401, "{other}");
    }
    nginx.assert_seen(0);
    let log = gateway.access();
    assert_eq!(log[0]["detail"], "message for MP_PolicyManager");
    let text = std::fs::read_to_string(gateway.path("access.log")).unwrap() + &gateway.log();
    assert!(!text.contains("xp_cmdshell") && !text.contains(id), "a message is in the log");
    eventually("all are counted", || {
        gateway.metric("sitegate_denials_total{reason=\"message.malformed\"") == 35.0
    });
}

#[test]
fn a_message_without_a_token_says_nothing_of_who_sends_it() {
    let nginx = Nginx::with("", "location ~* ^/ccm_system/ { return 200 \"mp\\n\"; }");
    let gateway = Plan::to(&nginx.url()).start();
    let file = sending(&gateway, "message", &asking(REGISTRATION, REGISTERS));
    let lies = ["-H", "Sitegate-Device: GUID:evil", "-H", "Authorization: Basic dTpw"];
    assert_eq!(gateway.curl(PATH, &args(&file, &lies)).status, 200);
    let token = gateway.token();
    let policy = sending(&gateway, "policy", &message(POLICY, 100_000));
    assert_eq!(gateway.curl_as(&token, PATH, &args(&policy, &[])).status, 200);
    eventually("both are in the log", || nginx.seen().len() == 2);
    let seen = nginx.seen();
    assert!(seen[0].contains("d=- a=- xff=127.0.0.1"), "{seen:?}");
    assert!(seen[1].contains(&format!("d={} a=-", crate::support::DEVICE)), "{seen:?}");
}

#[test]
fn a_tokenless_message_is_read_even_without_a_guard() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).unguarded().start();
    for (body, status, code) in [
        (asking(LOCATION, SITE), 200, ""),
        (asking(LOCATION, UPDATE_SF), 403, "message.request"),
        (asking(LOCATION, &injected_payload()), 400, "message.payload"),
        (message(POLICY, 9), 401, "token.missing"),
    ] {
        let file = sending(&gateway, "message", &body);
        for version in ["--http1.1", "--http2"] {
            let answer = gateway.curl(PATH, &args(&file, &[version]));
            assert_eq!((answer.status, &*answer.code()), (status, code), "{version}");
        }
    }
}

#[test]
fn configured_requests_are_open_without_a_token() {
    let backend = Echo::start();
    let keys = "message_requests = [\"UpdateSFRequest\", \"ContentLocationRequest\"]";
    let gateway = Plan::to(&backend.url()).site_system(keys).start();
    for (payload, status, code) in [
        (UPDATE_SF, 200, ""),
        (CONTENT, 200, ""),
        (SITE, 200, ""),
        (&*injected_payload(), 400, "message.payload"),
        ("<WSUSLocationRequest/>", 403, "message.request"),
    ] {
        let file = sending(&gateway, "message", &asking(LOCATION, payload));
        for version in ["--http1.1", "--http2"] {
            let answer = gateway.curl(PATH, &args(&file, &[version]));
            assert_eq!((answer.status, &*answer.code()), (status, code), "{version} {payload}");
        }
    }
    eventually("the log names what was asked", || {
        gateway.access().iter().any(|line| line["detail"] == "asks for WSUSLocationRequest")
    });
}

#[test]
fn without_a_guard_any_message_of_a_device_passes_unread() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).unguarded().start();
    let token = gateway.token();
    for body in [message(POLICY, 200_000), message(REGISTRATION, 0), b"no message".to_vec()] {
        let file = sending(&gateway, "message", &body);
        for version in ["--http1.1", "--http2"] {
            let answer = gateway.curl_as(&token, PATH, &args(&file, &[version]));
            assert_eq!(answer.status, 200, "{version}: {answer:?}");
            assert!(answer.body == body, "{version}");
        }
    }
    let registration = gateway.issue(&["--kind", "registration"]);
    let file = sending(&gateway, "message", &message(REGISTRATION, 0));
    let answer = gateway.curl_as(&registration, PATH, &args(&file, &[]));
    assert_eq!((answer.status, &*answer.code()), (403, "token.purpose"));
}

#[test]
fn a_connection_goes_on_after_a_message_let_through_or_refused() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let (open, closed) = (asking(LOCATION, SITE), message(POLICY, 0));
    let noise = b"--x".to_vec();
    let mut wire = connect(&gateway);
    for _ in 0..3 {
        for (body, status) in [(&open, 200), (&closed, 401), (&open, 200), (&noise, 400)] {
            for request in [ask(body), chunked(body, 700)] {
                wire.send(&request);
                let (answered, sent) = wire.read_answer();
                assert_eq!(answered, status);
                assert!(status != 200 || sent == *body);
            }
        }
    }
    // Pipelined: the next head is in the same write as the end of a body.
    wire.send(&[ask(&open), ask(&closed), ask(&noise), ask(&open), ask(&closed)].concat());
    for status in [200, 401, 400, 200, 401] {
        assert_eq!(wire.read_answer().0, status);
    }
}

#[test]
fn a_100_continue_is_sent_once_and_only_if_the_body_is_read() {
    let backend = Echo::start();
    let gateway = Plan::to(&backend.url()).start();
    let body = asking(REGISTRATION, REGISTERS);
    let mut wire = connect(&gateway);
    for _ in 0..2 {
        let length = body.len();
        wire.send(
            head(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n")).as_bytes(),
        );
        assert_eq!(wire.read_answer().0, 100);
        wire.send(&body);
        let (status, echoed) = wire.read_answer();
        assert!(status == 200 && echoed == body, "{status}");
    }
    wire.send(head("Expect: 100-continue\r\nContent-Length: 50000\r\n").as_bytes());
    assert_eq!(wire.read_answer().0, 401);
    assert!(wire.is_closed());
}

#[test]
fn a_stalled_or_badly_framed_message_is_cut() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let quick = "[limits]\nbody_grace = \"500ms\"\n";
    let gateway = Plan::to(&format!("http://{}", silent.local_addr().unwrap()))
        .sections(quick)
        .site_system("backend_answer_time = \"2s\"")
        .start();
    let body = asking(LOCATION, SITE);
    for request in [ask(&body), chunked(&body, 100)] {
        let mut wire = connect(&gateway);
        wire.send(&request[..request.len() - 20]);
        let answer = wire.read_to_end();
        assert_eq!(status_of(&answer), 408, "{}", head_of(&answer));
        assert!(String::from_utf8_lossy(&answer).contains("limit.rate"));
    }
    let mut wire = connect(&gateway);
    let mut bad = chunked(&body, 100);
    bad.truncate(bad.len() - 5);
    wire.send(&bad);
    std::thread::sleep(Duration::from_millis(50));
    wire.send(b"+1\r\nx\r\n0\r\n\r\n");
    let answer = wire.read_to_end();
    assert_eq!(status_of(&answer), 400, "{}", head_of(&answer));
    assert!(String::from_utf8_lossy(&answer).contains("framing.chunk"));
    // The body is complete: now the backend is slow, for longer than a body may stall.
    let mut wire = connect(&gateway);
    wire.send(&ask(&body));
    assert_eq!(wire.read_answer().0, 504);
    // A client that got 100 Continue still learns of a backend that fails.
    let file = sending(&gateway, "message", &body);
    let answer = gateway.curl(PATH, &args(&file, &["--http1.1", "-H", "Expect: 100-continue"]));
    assert_eq!((answer.status, &*answer.code()), (504, "upstream.timeout"), "{answer:?}");
    // A client that disconnects midway leaves no state behind.
    let mut wire = connect(&gateway);
    wire.send(&ask(&body)[..900]);
    drop(wire);
    eventually("no connection is left", || gateway.metric("sitegate_connections ") == 0.0);
}
