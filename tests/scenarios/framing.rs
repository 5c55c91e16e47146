//! Requests that two servers could read in two ways (request smuggling): refused before any other
//! check, and no byte of them reaches the backend.

use crate::support::{Gateway, Nginx, Plan, connect, head_of, status_of};

/// A head for an anonymous path, which an unauthenticated client may use.
fn post(fields: &str, body: &str) -> Vec<u8> {
    let host = Gateway::HOST;
    format!("POST /SMS_FSP/.sms_fsp HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n{body}").into_bytes()
}

/// Appended to every case: if the framing were misread, this would be a separate request.
const SMUGGLED: &str = "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";

fn refused(nginx: &Nginx, gateway: &Gateway, what: &str, bytes: &[u8]) {
    let mut wire = connect(gateway);
    wire.send(bytes);
    let answer = wire.read_to_end();
    let status = status_of(&answer);
    let head = head_of(&answer);
    assert!((400..=501).contains(&status) || answer.is_empty(), "{what}: {head}");
    assert_eq!(
        answer.windows(9).filter(|w| w == b"HTTP/1.1 ").count(),
        usize::from(!answer.is_empty()),
        "{what}: one answer at most: {}",
        String::from_utf8_lossy(&answer)
    );
    nginx.assert_seen(0);
}

/// A chunked request. The first read holds the head and half of the body.
fn chunked_in_two(size_line: &str) -> (Vec<u8>, &'static [u8]) {
    let head = post("Transfer-Encoding: chunked\r\n", &format!("{size_line}hel"));
    (head, b"lo\r\n0\r\n\r\n")
}

#[test]
fn a_body_in_pieces_is_judged_from_its_first_byte() {
    let nginx = Nginx::with("", "location = /SMS_FSP/.sms_fsp { return 200 ok; }");
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let before = [
        ("a body", post("Content-Length: 5\r\n", "hello")),
        ("a chunked body", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        ("no body", SMUGGLED.as_bytes().to_vec()),
    ];
    for (what, first) in &before {
        for pipelined in [false, true] {
            for (size_line, status) in [("5\r\n", 200), ("5;a=\0\r\n", 400)] {
                let (head, rest) = chunked_in_two(size_line);
                let mut wire = connect(&gateway);
                wire.send(&if pipelined { [&first[..], &head].concat() } else { first.clone() });
                assert_eq!(wire.read_answer().0, 200, "{what}");
                if !pipelined {
                    wire.send(&head);
                }
                // The gateway must have read only the first piece.
                std::thread::sleep(std::time::Duration::from_millis(100));
                wire.send(rest);
                let answered = wire.read_answer().0;
                assert_eq!(answered, status, "{size_line:?} after {what}, pipelined: {pipelined}");
            }
        }
    }
}

#[test]
fn ambiguous_framing_is_refused_and_the_connection_ends() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let cl_te = |a: &str, b: &str| post(&format!("{a}{b}"), &format!("0\r\n\r\n{SMUGGLED}"));
    let (cl, te) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    refused(&nginx, &gateway, "CL and TE", &cl_te(cl, te));
    refused(&nginx, &gateway, "TE and CL", &cl_te(te, cl));
    for coding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "\"chunked\"",
        "\x0bchunked",
        "chunked\0",
        "",
        ",",
        "chunked;q=1",
        "identity",
        "gzip",
        "chunked ,",
    ] {
        let fields = format!("Transfer-Encoding: {coding}\r\n");
        refused(&nginx, &gateway, &fields, &post(&fields, &format!("0\r\n\r\n{SMUGGLED}")));
    }
    refused(&nginx, &gateway, "two TE", &cl_te(te, te));
    refused(&nginx, &gateway, "TE with space", &cl_te("Transfer-Encoding : chunked\r\n", ""));
    refused(&nginx, &gateway, "TE folded", &cl_te("Transfer-Encoding:\r\n chunked\r\n", ""));
    refused(&nginx, &gateway, "TE underscore", &cl_te("Transfer_Encoding: chunked\r\n", cl));
    for length in [
        "+5",
        "-1",
        "0x5",
        "5, 6",
        "",
        "5 5",
        "18446744073709551621",
        "5_0",
        "\u{0665}",
        "5, 5",
        "0000000000000000000000000000000000000000",
        "1e1",
        "5.0",
        "٥",
    ] {
        let fields = format!("Content-Length: {length}\r\n");
        refused(&nginx, &gateway, &fields, &post(&fields, &format!("hello{SMUGGLED}")));
    }
    refused(
        &nginx,
        &gateway,
        "two CL",
        &post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
    );
    refused(
        &nginx,
        &gateway,
        "CL differ",
        &post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
    );
    // Fields nominated by Connection end at this hop: without its length, a body would be a
    // request.
    let bodied = format!("Content-Length: {}\r\n", SMUGGLED.len());
    for nominated in ["Content-Length", "close, content_length", "Host", "Transfer-Encoding"] {
        let fields = format!("Connection: {nominated}\r\n{bodied}");
        refused(&nginx, &gateway, &fields, &post(&fields, SMUGGLED));
    }
    let host = Gateway::HOST;
    for (what, text) in [
        (
            "1.0 with TE",
            format!("POST /SMS_FSP/.sms_fsp HTTP/1.0\r\nHost: {host}\r\n{te}\r\n0\r\n\r\n"),
        ),
        ("no Host", "GET /CCM_Client/x HTTP/1.1\r\n\r\n".to_owned()),
        (
            "two Hosts",
            format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
        ),
        ("empty Host", "GET /CCM_Client/x HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        ("Host list", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}, {host}\r\n\r\n")),
        ("Host user", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: u@{host}\r\n\r\n")),
        ("Host path", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}/x\r\n\r\n")),
        ("another Host", "GET /CCM_Client/x HTTP/1.1\r\nHost: other\r\n\r\n".to_owned()),
        ("absolute", format!("GET https://other/CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        (
            "absolute by http",
            format!("GET http://{host}/CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        ),
        ("bare LF", format!("GET /CCM_Client/x HTTP/1.1\nHost: {host}\n\n")),
        ("bare LF in a field", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\nX: y\r\n\r\n")),
        ("bare CR", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n")),
        ("NUL", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n")),
        (
            "space before colon",
            format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX : y\r\n\r\n"),
        ),
        ("folding", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX: y\r\n z\r\n\r\n")),
        ("leading space", format!("GET /CCM_Client/x HTTP/1.1\r\n X: y\r\nHost: {host}\r\n\r\n")),
        ("empty name", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n: y\r\n\r\n")),
        ("no colon", format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nfield\r\n\r\n")),
        (
            "name not ASCII",
            format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX\u{e9}: y\r\n\r\n"),
        ),
        ("two spaces", format!("GET  /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("two spaces after", format!("GET /CCM_Client/x  HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("tab", format!("GET\t/CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("space in path", format!("GET /CCM_Client/a b HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("control in path", format!("GET /CCM_Client/a\x01b HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("HTTP/2.0", format!("GET /CCM_Client/x HTTP/2.0\r\nHost: {host}\r\n\r\n")),
        ("HTTP/9.9", format!("GET /CCM_Client/x HTTP/9.9\r\nHost: {host}\r\n\r\n")),
        ("lower-case version", format!("GET /CCM_Client/x http/1.1\r\nHost: {host}\r\n\r\n")),
        ("lower-case method", format!("get /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("semicolon method", format!("GET; /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("no slash", format!("GET CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("CONNECT", format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n")),
        ("CONNECT path", format!("CONNECT /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("TRACE", format!("TRACE /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (
            "Expect",
            format!(
                "GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nExpect: 100-Continue, x\r\n\r\n"
            ),
        ),
        ("fragment", format!("GET /CCM_Client/x#y HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("garbage", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_owned()),
    ] {
        refused(&nginx, &gateway, what, text.as_bytes());
    }
    let reasons = || -> std::collections::BTreeSet<String> {
        gateway.access().iter().filter_map(|l| l["reason"].as_str().map(str::to_owned)).collect()
    };
    for reason in ["framing.length_and_coding", "framing.coding", "framing.length", "framing.head"]
    {
        crate::support::eventually(reason, || reasons().contains(reason));
    }
}

#[test]
fn a_chunked_body_that_is_malformed_never_completes_a_request() {
    let echo = crate::backends::Echo::start();
    let gateway = Plan::to(&echo.url()).unguarded().start();
    let token = gateway.token();
    let fields = format!("Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n");
    let host = Gateway::HOST;
    let head =
        format!("CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    for chunk in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \n hello\r\n0\r\n\r\n",
        "ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhelloX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "2;\nxx\r\nhe\r\n0\r\n\r\n",
        "5;a=\0b\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut wire = connect(&gateway);
        wire.send(format!("{head}{chunk}{SMUGGLED}").as_bytes());
        let answer = wire.read_to_end();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.starts_with("HTTP/1.1 2"), "{chunk:?}: {text}");
        assert!(!text.contains("\r\nHTTP/1.1 2"), "{chunk:?}: {text}");
    }
    let long = format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200_000));
    let mut wire = connect(&gateway);
    wire.send(long.as_bytes());
    let _ = wire.read_to_end();
    assert!(gateway.memory_kib() < 200 * 1024);
}

#[test]
fn a_refused_request_that_ends_its_connection_ends_it() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    for more in ["", "TE: trailers\r\n"] {
        let mut wire = connect(&gateway);
        let head = format!("GET /SMS_MP/.sms_pol HTTP/1.1\r\nHost: {host}\r\n{more}");
        wire.send(format!("{head}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(status_of(&wire.read_to_end()), 401);
    }
    nginx.assert_seen(0);
}

#[test]
fn trailers_end_at_the_gateway() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let token = gateway.token();
    let host = Gateway::HOST;
    let mut wire = connect(&gateway);
    // The token comes too late: a trailer is no header field.
    let late = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\n\
         Transfer-Encoding: chunked\r\nTrailer: Authorization\r\nConnection: close\r\n\r\n\
         5\r\nhello\r\n0\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    wire.send(late.as_bytes());
    assert_eq!(status_of(&wire.read_to_end()), 401);
    nginx.assert_seen(0);
}

#[test]
fn request_trailers_are_dropped() {
    let echo = crate::backends::Echo::start();
    let gateway = Plan::to(&echo.url()).unguarded().start();
    let token = gateway.token();
    let host = Gateway::HOST;
    let mut wire = connect(&gateway);
    let text = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\n\
         Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nContent-Length: 50\r\nHost: evil\r\nSitegate-Device: evil\r\n\r\n"
    );
    for _ in 0..2 {
        wire.send(text.as_bytes());
        assert_eq!(wire.read_answer(), (200, b"hello".to_vec()));
    }
}

#[test]
fn bytes_after_an_http_1_0_head_without_a_length_are_no_request() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    let mut wire = connect(&gateway);
    let text = format!(
        "POST /SMS_FSP/.sms_fsp HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n{SMUGGLED}"
    );
    wire.send(text.as_bytes());
    let answer = String::from_utf8_lossy(&wire.read_to_end()).into_owned();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    nginx.assert_seen(1);
    let seen = nginx.seen();
    assert!(seen[0].starts_with("POST /SMS_FSP/.sms_fsp"), "{seen:?}");
}

#[test]
fn a_connection_goes_on_after_a_body_that_was_asked_for() {
    let echo = crate::backends::Echo::start();
    let gateway = Plan::to(&echo.url()).unguarded().start();
    let token = gateway.token();
    let host = Gateway::HOST;
    let mut wire = connect(&gateway);
    for _ in 0..3 {
        let head = format!(
            "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\n\
             Authorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        wire.send(head.as_bytes());
        assert_eq!(wire.read_answer().0, 100, "the backend asks for the body");
        wire.send(b"hello");
        assert_eq!(wire.read_answer(), (200, b"hello".to_vec()));
    }
}

#[test]
fn a_body_after_an_early_refusal_is_not_read_as_a_request() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    let mut wire = connect(&gateway);
    // 401 before a body that contains a request.
    let length = SMUGGLED.len();
    let text = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
    );
    wire.send(text.as_bytes());
    assert_eq!(wire.read_answer().0, 401);
    wire.send(b"nonsense\r\n\r\n");
    let answer = String::from_utf8_lossy(&wire.read_to_end()).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 "), "what follows the body is next: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    // A gigabyte is announced and never sent.
    let mut wire = connect(&gateway);
    let text = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1073741824\r\n\r\n"
    );
    wire.send(text.as_bytes());
    assert_eq!(wire.read_answer().0, 413);
    assert!(wire.is_closed());
    // With Expect, no 100 Continue is sent.
    let mut wire = connect(&gateway);
    let text = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    wire.send(text.as_bytes());
    assert_eq!(wire.read_answer().0, 401);
    nginx.assert_seen(0);
}

#[test]
fn a_refused_upload_gets_its_answer_without_being_read() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    let body = vec![b'x'; 300 * 1024];
    let head = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for n in 0..20 {
        let mut wire = connect(&gateway);
        wire.send(head.as_bytes());
        for part in body.chunks(16 * 1024) {
            wire.send(part);
        }
        assert_eq!(status_of(&wire.read_to_end()), 401, "attempt {n}");
    }
    nginx.assert_seen(0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let token = gateway.token();
    for n in 0..20 {
        std::fs::write(nginx.content().join(format!("f{n}")), format!("content {n}")).unwrap();
    }
    let host = Gateway::HOST;
    let mut all = String::new();
    for n in 0..200 {
        let file = n % 20;
        all.push_str(&format!(
            "GET /SMS_DP_SMSPKG$/PS100001/f{file} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
    }
    for ends in [false, true] {
        let mut wire = connect(&gateway);
        wire.send(all.as_bytes());
        if ends {
            wire.end();
        }
        for n in 0..200 {
            let (status, body) = wire.read_answer();
            let text = String::from_utf8_lossy(&body).into_owned();
            let expected = (200, format!("content {}", n % 20));
            assert_eq!((status, text), expected, "answer {n}, ends: {ends}");
        }
    }
}

#[test]
fn an_upgrade_is_refused_and_ends_its_connection() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    for upgrade in ["websocket", "h2c", "TLS/1.0"] {
        let mut wire = connect(&gateway);
        let text = format!(
            "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n\
             GET /SMS_MP/.sms_pol HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        wire.send(text.as_bytes());
        assert_eq!(wire.read_answer().0, 400, "{upgrade}");
        assert!(wire.read_to_end().is_empty(), "{upgrade}");
    }
    nginx.assert_seen(0);
}

#[test]
fn large_heads_and_targets_are_refused_at_flat_memory() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let host = Gateway::HOST;
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let cases = [
        format!(
            "GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n",
            "y".repeat(70 * 1024)
        ),
        format!("GET /CCM_Client/{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "y".repeat(70 * 1024)),
        format!("GET /CCM_Client/{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "y".repeat(17 * 1024)),
        format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        format!(
            "GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n\r\n",
            "a=b; ".repeat(20_000)
        ),
        format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {host}\r\nX: {}", "y".repeat(2 << 20)),
    ];
    for text in &cases {
        let mut wire = connect(&gateway);
        wire.send(text.as_bytes());
        let answer = wire.read_to_end();
        assert!([400, 414, 431].contains(&status_of(&answer)), "{}", head_of(&answer));
    }
    nginx.assert_seen(0);
    assert!(gateway.memory_kib() < 200 * 1024);
}
