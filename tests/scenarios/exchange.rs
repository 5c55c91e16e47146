//! One request and its response, in cases where protocols or proxy implementations would differ.

use std::io::{Read, Write};
use std::net::TcpListener;

use rstest::rstest;

use crate::support::{
    Gateway, Liar, Part, Plan, Scribe, Then, connect, eventually, head_of, status_of,
};

const OPEN: &str = "/CCM_Client/x";
const UPLOAD: &str = "/SMS_FSP/.sms_fsp";
const ROUTE: &str = "[[site_system.route]]\npath = \"/any/\"\nrequire = \"anonymous\"\n\
                     methods = [\"GET\", \"PUT\", \"COPY\", \"OPTIONS\"]\nbody_bytes = \"10MiB\"\n";

fn ask(gateway: &Gateway, text: &str) -> (u16, String) {
    let mut wire = connect(gateway);
    wire.send(text.as_bytes());
    let answer = wire.read_to_end();
    (status_of(&answer), String::from_utf8_lossy(&answer).into_owned())
}

fn good() -> Liar {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    Liar::start(move |_, _| (vec![Part::Bytes(answer.to_vec())], Then::Keep))
}

/// A backend that sends its response head, and then echoes each byte of a body as it arrives.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
                let (mut left, mut buffer) = (300_000, [0; 16 * 1024]);
                while left > 0 {
                    let Ok(n @ 1..) = stream.read(&mut buffer) else { return };
                    left -= n;
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn an_answer_may_begin_before_the_upload_has_ended(#[case] protocol: &str) {
    let gateway = Plan::to(&echo()).after(ROUTE).start();
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let file = gateway.path("body");
    std::fs::write(&file, &body).unwrap();
    let args = [protocol, "-H", "Expect:", "-T", file.to_str().unwrap(), "--limit-rate", "2M"];
    let answer = gateway.curl("/any/x", &args);
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
#[case::http10("--http1.0")]
fn a_head_is_answered_when_its_backend_is_down(#[case] protocol: &str) {
    let gateway = Plan::to("http://127.0.0.1:1").start();
    let answer = gateway.curl(OPEN, &[protocol, "-I"]);
    assert_eq!(answer.status, 502, "{answer:?}");
}

#[test]
fn an_absolute_target_that_names_its_host_is_the_plain_one() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).start();
    let host = Gateway::HOST;
    let text =
        format!("GET https://{host}{OPEN}?y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(&gateway, &text).0, 200);
    assert_eq!(scribe.lines(), [format!("GET {OPEN}?y HTTP/1.1")]);
}

#[test]
fn the_server_says_that_it_is_there() {
    let liar = good();
    let gateway = liar.plan().start();
    let host = Gateway::HOST;
    let text = format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (status, answer) = ask(&gateway, &text);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\r\nContent-Length: 0\r\n") && answer.contains("\r\nDate: "));
    assert_eq!(liar.asked(), [""; 0]);
}

#[rstest]
#[case::http1("--http1.1")]
#[case::http2("--http2")]
fn an_unknown_expectation_is_a_417(#[case] protocol: &str) {
    let liar = good();
    let gateway = liar.plan().start();
    let answer = gateway.curl(OPEN, &[protocol, "-H", "Expect: something"]);
    assert_eq!((answer.status, &*answer.code()), (417, "framing.expectation"), "{answer:?}");
    assert_eq!(liar.asked(), [""; 0]);
}

#[test]
fn a_head_too_large_or_too_slow_is_answered_with_a_reason() {
    let gateway = good().plan().sections("[limits]\nheader_time = \"300ms\"").start();
    let large = "x".repeat(100_000);
    let host = Gateway::HOST;
    for (text, code) in [
        (format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\nX: {large}"), "limit.head"),
        (format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\n"), "limit.time"),
    ] {
        let (_, answer) = ask(&gateway, &text);
        assert!(answer.contains("\r\nDate: ") && answer.contains(code), "{answer}");
        assert!(answer.contains("Content-Type: application/problem+json"), "{answer}");
    }
}

#[test]
fn a_copy_destination_must_be_on_the_same_route() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).after(ROUTE).start();
    let here = format!("{}:{}", Gateway::HOST, gateway.port);
    let own = format!("Destination: https://{here}/any/y");
    let copy = |protocol: &str, fields: &[&str]| {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
        gateway.curl("/any/x", &[&[protocol, "-X", "COPY"], &fields[..]].concat())
    };
    for protocol in ["--http1.1", "--http2"] {
        for given in [&*own, "Destination: /any/y"] {
            assert_eq!(copy(protocol, &[given]).status, 200, "{given}");
            let there = [format!("http://{here}/any/y")];
            assert_eq!(scribe.last().fields("destination"), there, "{protocol}");
        }
        let before = scribe.all().len();
        for given in [
            "Destination: https://other/any/y".to_owned(),
            format!("Destination: http://{here}/any/y"),
            format!("Destination: https://{here}/SMS_MP/.sms_pol"),
            format!("Destination: https://{here}/any/../SMS_MP/x"),
            format!("Destination: https://{here}/any/%2e%2e/x"),
            "Destination: y".to_owned(),
        ] {
            let answer = copy(protocol, &[&given]);
            assert_eq!((answer.status, &*answer.code()), (403, "route.destination"), "{given}");
        }
        let twice = copy(protocol, &[&own, "Destination: /any/z"]);
        assert_eq!(twice.code(), "route.destination");
        assert_eq!(scribe.all().len(), before, "what is refused reaches nobody");
    }
}

#[rstest]
#[case::closed_before_it_answered("--http1.1")]
#[case::by_http2("--http2")]
fn an_upload_is_never_sent_twice(#[case] protocol: &str) {
    // Answers one request per connection, and closes on the next.
    let liar = Liar::start(|_, n| match n {
        0 => {
            (vec![Part::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into())], Then::Keep)
        }
        _ => (vec![], Then::Close),
    });
    let gateway = liar.plan().sections("[limits]\nthreads = 1").start();
    assert_eq!(gateway.curl(OPEN, &[protocol]).status, 200);
    let answer = gateway.curl(UPLOAD, &[protocol, "--data-binary", "upload"]);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream.closed"));
    assert_eq!(gateway.curl(OPEN, &[protocol]).status, 200);
    assert_eq!(gateway.curl(OPEN, &[protocol]).status, 200, "what only reads is sent once more");
    let uploads = liar.asked().iter().filter(|text| text.starts_with("POST")).count();
    assert_eq!(uploads, 1);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_upload_is_noticed() {
    let gateway = Plan::to(&echo()).after(ROUTE).start();
    let mut wire = connect(&gateway);
    let host = Gateway::HOST;
    let head =
        format!("PUT /any/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 300000\r\n\r\nhello");
    wire.send(head.as_bytes());
    let mut some = [0; 20];
    wire.0.read_exact(&mut some).unwrap();
    assert!(head_of(&some).starts_with("HTTP/1.1 200"));
    drop(wire);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
}
