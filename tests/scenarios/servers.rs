//! Unmodified servers as backends: each looks the same through the gateway as without it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use rstest::rstest;

use crate::support::servers::{Kind, Server};
use crate::support::{Gateway, Plan};

const ROUTE: &str = "[[site_system.route]]\npath = \"/any/\"\nrequire = \"anonymous\"\n\
                     methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"DELETE\", \"OPTIONS\"]\n\
                     body_bytes = \"100MiB\"\n";

const PROTOCOLS: [&str; 3] = ["--http1.0", "--http1.1", "--http2"];

fn started(kind: Kind) -> (Server, Gateway) {
    let server = Server::start(kind);
    let gateway = Plan::to(&server.url()).after(ROUTE).start();
    std::fs::write(gateway.path("upload"), vec![b'u'; 100_000]).unwrap();
    (server, gateway)
}

/// Status, fields and body of a complete response to curl.
#[derive(Debug, PartialEq, Eq)]
struct Answer(u16, BTreeMap<String, String>, Vec<u8>);

impl Answer {
    fn of(out: &Output, what: &str) -> Answer {
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{what}: {error}");
        let mut rest = &out.stdout[..];
        loop {
            let end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 4..];
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            if status < 200 {
                continue;
            }
            let fields = lines.filter_map(|line| line.split_once(": "));
            let mut fields: BTreeMap<String, String> =
                fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
            // Fields of one connection or one moment, and the gateway's own.
            for name in ["connection", "keep-alive", "transfer-encoding", "date", "x-request-id"] {
                fields.remove(name);
            }
            return Answer(status, fields, rest.to_vec());
        }
    }
}

/// The requests of curl, and the file of an upload.
const ASKED: [(&str, &[&str]); 9] = [
    ("small.txt", &[]),
    ("large.bin", &[]),
    ("large.bin", &["-I"]),
    ("large.bin", &["-r", "1000000-1999999"]),
    ("small.txt", &["-r", "100-"]),
    ("missing", &[]),
    ("small.txt", &["-X", "DELETE"]),
    ("small.txt", &["-X", "OPTIONS"]),
    ("small.txt", &["-X", "PUT", "-d", "x"]),
];

#[rstest]
fn an_unchanged_server_is_the_same_through_the_gateway(
    #[values(Kind::Nginx, Kind::Apache, Kind::Lighttpd, Kind::Tomcat, Kind::Node, Kind::Python)]
    kind: Kind,
) {
    let (server, gateway) = started(kind);
    for (path, args) in ASKED {
        let what = format!("{path} {args:?}");
        let mut direct = Command::new("curl");
        direct.args(["-sS", "-i", "--max-time", "60"]).args(args);
        let out = direct.arg(format!("{}/any/{path}", server.url())).output().unwrap();
        let direct = Answer::of(&out, &format!("{what}, direct"));
        for protocol in PROTOCOLS {
            let url = gateway.url(&format!("/any/{path}"));
            let all = [&["-i", protocol], args, &[&url]].concat();
            let out = gateway.curl_command(&all).output().unwrap();
            let what = format!("{what} {protocol}");
            let through = Answer::of(&out, &what);
            let (ours, theirs) = (status_and_length(&through), status_and_length(&direct));
            assert!(through == direct, "{what}: {ours:?}, and direct {theirs:?}");
        }
    }
}

fn status_and_length(answer: &Answer) -> (u16, &BTreeMap<String, String>, usize) {
    (answer.0, &answer.1, answer.2.len())
}

#[rstest]
fn an_upload_that_its_server_does_not_read_is_answered(
    #[values(Kind::Nginx, Kind::Apache, Kind::Lighttpd, Kind::Tomcat, Kind::Node)] kind: Kind,
    #[values(("--http1.1", true), ("--http1.1", false), ("--http2", false))] how: (&str, bool),
) {
    let (protocol, chunked) = how;
    let (_server, gateway) = started(kind);
    let upload = format!("@{}", gateway.path("upload").display());
    let mut args = vec![protocol, "-H", "Expect:", "--data-binary", &upload];
    if chunked {
        args.extend(["-H", "Transfer-Encoding: chunked"]);
    }
    let statuses: Vec<u16> = (0..8).map(|_| gateway.curl("/any/small.txt", &args).status).collect();
    let expected = match kind {
        // It checks the length before the method.
        Kind::Nginx if !chunked => [413],
        Kind::Tomcat | Kind::Apache | Kind::Lighttpd => [200],
        _ => [405],
    };
    assert_eq!(statuses, expected.repeat(8));
}

#[rstest]
fn what_node_sends_back_while_it_comes_is_whole(
    #[values("--http1.1", "--http2")] protocol: &str,
    #[values("Content-Length:", "Transfer-Encoding: chunked", "Expect: 100-continue")] how: &str,
) {
    let (_server, gateway) = started(Kind::Node);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(gateway.path("upload"), &body).unwrap();
    let upload = format!("@{}", gateway.path("upload").display());
    let mut args = vec![protocol, "--data-binary", &upload];
    match how {
        "Content-Length:" => args.extend(["-H", "Expect:"]),
        how => args.extend(["-H", how]),
    }
    let answer = gateway.curl("/any/echo", &args);
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
}
