//! Responses with one reading, and responses that lie.

use proptest::prelude::*;

use super::*;

fn read_as(
    text: &str,
    asked: RequestTraits,
) -> Result<Option<(BackendHead<'_>, String)>, AnswerFault> {
    Ok(read(text.as_bytes(), asked)?.map(|head| {
        let line = |(name, value): &(&str, &[u8])| {
            format!("{name}: {}\n", String::from_utf8(value.to_vec()).unwrap())
        };
        let fields = head.fields.iter().map(line).collect();
        (head, fields)
    }))
}

fn plain(text: &str) -> (BackendHead<'_>, String) {
    read_as(text, RequestTraits::default()).unwrap().unwrap()
}

#[test]
fn a_head_determines_body_length_and_keep_alive() {
    for (text, rest, keep) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "Length(5)", true),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", "Length(5)", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "Length(5)", false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: X, Close\r\n\r\n",
            "Length(5)",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "UntilClose", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "Length(0)", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "Length(0)", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "Length(0)", true),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "Length(0)", true),
        ("HTTP/1.1 100 Continue\r\n\r\n", "Length(0)", true),
    ] {
        let (head, _) = plain(text);
        assert_eq!((format!("{:?}", head.rest).as_str(), head.keep), (rest, keep), "{text:?}");
        assert_eq!(head.length, text.len(), "{text:?}");
    }
    let (head, fields) = plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
    assert!(matches!(head.rest, Rest::Chunked(_)));
    assert_eq!((head.follows, fields.as_str()), (Follows::Body, ""));
}

#[test]
fn what_has_more_than_one_reading_or_none_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let texts = [
        long,
        many,
        "<html>\r\n\r\n".to_owned(),
        "HTTP/0.9 200 OK\r\n\r\n".to_owned(),
        "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "http/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1  200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2x0 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 600 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 -20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "HTTP/1.1 200 O\0K\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\n\n".to_owned(),
        "HTTP/1.1 200 OK\r\nX: y\n\r\n".to_owned(),
        with("Content-Length: 5\r\nContent-Length: 5\r\n"),
        with("Content-Length: 5, 5\r\n"),
        with("Content-Length: -5\r\n"),
        with("Content-Length: +5\r\n"),
        with("Content-Length: 0x5\r\n"),
        with("Content-Length: 99999999999999999999\r\n"),
        with("Content-Length: \r\n"),
        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: gzip, chunked\r\n"),
        with("Transfer-Encoding: identity\r\n"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        with("X: a\rb\r\n"),
        with("X: a\0b\r\n"),
        with(" X: folded\r\n"),
        with("X : y\r\n"),
        with("no colon\r\n"),
        with(": empty\r\n"),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ];
    for text in texts {
        let short: String = text.chars().take(60).collect();
        assert!(read_as(&text, RequestTraits::default()).is_err(), "{short:?}");
    }
}

#[test]
fn the_client_gets_what_is_the_backends_to_say_and_no_more() {
    let refused = "HTTP/1.1 401 Go Away\r\nServer: Microsoft-IIS/10.0\r\nConnection: X-Internal\r\n\
                   X-Internal: secret\r\nKeep-Alive: timeout=5\r\nWWW-Authenticate: Negotiate\r\n\
                   www-authenticate: NTLM TlRM\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                   Sitegate-Device: GUID:1\r\nContent-Length: 3\r\n\r\n";
    let (head, fields) = plain(refused);
    assert_eq!((head.status, head.reason), (401, &b"Go Away"[..]));
    assert_eq!(
        fields,
        "Server: Microsoft-IIS/10.0\nWWW-Authenticate: Basic realm=\"x\"\nContent-Length: 3\n"
    );
    let windows = RequestTraits { windows: true, ..RequestTraits::default() };
    let (_, fields) = read_as(refused, windows).unwrap().unwrap();
    assert!(fields.contains("WWW-Authenticate: Negotiate\nwww-authenticate: NTLM TlRM\n"));
    let (_, fields) = plain("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nETag: \"x\"\r\n\r\n");
    assert_eq!(fields, "ETag: \"x\"\n");
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let bodiless = RequestTraits { bodiless: true, ..RequestTraits::default() };
    for (framing, fields, follows) in [
        ("Content-Length: 5\r\n", "Content-Length: 5\n", Follows::Nothing),
        ("Transfer-Encoding: chunked\r\n", "", Follows::NoBody),
        ("", "", Follows::Nothing),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        let (head, found) = read_as(&text, bodiless).unwrap().unwrap();
        assert!(matches!(head.rest, Rest::Length(0)) && head.keep, "{text}");
        assert_eq!((found.as_str(), head.follows), (fields, follows), "{text}");
    }
}

#[test]
fn a_101_is_accepted_only_for_a_requested_websocket() {
    let websocket = RequestTraits { websocket: true, ..RequestTraits::default() };
    let switch = |upgrade: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n");
    let good = switch("Upgrade: WebSocket\r\nConnection: Upgrade\r\nX: y\r\n");
    let (head, fields) = read_as(&good, websocket).unwrap().unwrap();
    assert!(matches!(head.rest, Rest::Tunnel) && !head.keep);
    assert_eq!((head.follows, fields.as_str()), (Follows::AnotherProtocol, "X: y\n"));
    assert!(read_as(&good, RequestTraits::default()).is_err());
    for other in ["", "Upgrade: h2c\r\n", "Upgrade: websocket\r\nUpgrade: h2c\r\n"] {
        assert!(read_as(&switch(other), websocket).is_err(), "{other}");
    }
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic_and_a_partial_head_is_incomplete(
        bytes: Vec<u8>, cut in 0_usize..60, bodiless: bool,
    ) {
        let asked = RequestTraits { bodiless, ..RequestTraits::default() };
        let _ = read(&bytes, asked);
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: IIS\r\nX: y\r\n\r\n";
        let part = whole.get(..cut.min(whole.len() - 1)).unwrap();
        prop_assert!(matches!(read(part, asked), Ok(None)));
    }
}
