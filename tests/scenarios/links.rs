//! Link rewriting: a backend's http links to the site system become https, if the route says so.

use crate::support::{Gateway, Plan, Scribe, connect};

const ROUTES: &str = r#"
[[site_system.route]]
path = "/linked/"
require = "anonymous"
methods = ["GET", "HEAD", "PROPFIND"]
rewrite_links = true
[[site_system.route]]
path = "/plain/"
require = "anonymous"
methods = ["GET", "HEAD", "PROPFIND"]
"#;

/// A backend that answers with a page of http links to the requested host: in a body of known
/// length, in chunks, until it closes, or too large.
fn listing() -> Scribe {
    Scribe::answering(|asked| {
        let host = asked.fields("host").concat();
        let line = asked.line();
        let link = format!("<a href=\"http://{host}/x\">http://other/</a>");
        let (kind, body) = if line.contains("content") {
            ("application/octet-stream", link.clone())
        } else if line.contains("large") {
            ("text/html", link.repeat(40_000))
        } else {
            ("text/html; charset=utf-8", link.repeat(3))
        };
        let fields =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nLocation: http://{host}/moved\r\n");
        if line.starts_with("HEAD") {
            return format!("{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        }
        if line.contains("chunked") {
            let mut all = format!("{fields}Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.as_bytes().chunks(7_001) {
                all += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
            }
            return (all + "0\r\n\r\n").into_bytes();
        }
        format!("{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[test]
fn links_lead_to_https_by_both_protocols_and_lengths_are_exact() {
    let backend = listing();
    let gateway = Plan::to(&backend.url()).after(ROUTES).start();
    let host = format!("{}:{}", Gateway::HOST, gateway.port);
    let came = format!("<a href=\"http://{host}/x\">http://other/</a>");
    let link = came.replacen("http://", "https://", 1);
    for protocol in ["--http1.1", "--http2"] {
        for method in ["GET", "PROPFIND"] {
            for (path, expected) in [
                ("/linked/", link.repeat(3)),
                ("/linked/chunked", link.repeat(3)),
                ("/linked/content", came.clone()),
                ("/linked/large", came.repeat(40_000)),
                ("/linked/large-chunked", came.repeat(40_000)),
                ("/plain/", came.repeat(3)),
                ("/plain/chunked", came.repeat(3)),
            ] {
                let answer = gateway.curl(path, &[protocol, "-X", method]);
                assert_eq!(answer.status, 200, "{protocol} {path}");
                assert!(
                    answer.text() == expected,
                    "{protocol} {method} {path}: {}",
                    answer.body.len()
                );
                let scheme = if path.starts_with("/linked") { "https" } else { "http" };
                let moved = format!("{scheme}://{host}/moved");
                assert_eq!(field(&answer.head, "location"), Some(&*moved), "{protocol} {path}");
                if protocol == "--http1.1"
                    && !path.contains("large-chunked")
                    && path != "/plain/chunked"
                {
                    let length = expected.len().to_string();
                    assert_eq!(field(&answer.head, "content-length"), Some(&*length), "{path}");
                    assert_eq!(field(&answer.head, "transfer-encoding"), None, "{path}");
                }
            }
        }
        let head = gateway.curl("/linked/", &[protocol, "-I"]);
        assert_eq!(
            (head.status, field(&head.head, "content-length")),
            (200, None),
            "{}",
            head.head
        );
        let head = gateway.curl("/linked/content", &[protocol, "-I"]);
        let length = came.len().to_string();
        assert_eq!(field(&head.head, "content-length"), Some(&*length));
    }
    let old = gateway.curl("/linked/", &["--http1.0"]);
    assert_eq!(old.text(), link.repeat(3), "{}", old.head);
}

#[test]
fn a_connection_survives_a_buffered_answer() {
    let backend = listing();
    let gateway = Plan::to(&backend.url()).after(ROUTES).start();
    let mut wire = connect(&gateway);
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    let link = format!("<a href=\"https://{}/x\">http://other/</a>", Gateway::HOST);
    let paths = ["/linked/", "/linked/chunked", "/linked/", "/linked/chunked"];
    wire.send(paths.map(ask).concat().as_bytes());
    for path in paths {
        let (status, body) = wire.read_answer();
        assert_eq!((status, String::from_utf8(body).unwrap()), (200, link.repeat(3)), "{path}");
    }
}
