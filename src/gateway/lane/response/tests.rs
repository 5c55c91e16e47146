//! Answers that have one reading, and answers that lie.

use proptest::prelude::*;

use super::*;

fn read_all(text: &str, bodiless: bool) -> Result<Option<(Head, String)>, AnswerFault> {
    let mut out = Vec::new();
    let head = read(text.as_bytes(), bodiless, false, &mut out)?;
    Ok(head.map(|head| (head, String::from_utf8(out).unwrap())))
}

fn plain(text: &str) -> (Head, String) {
    read_all(text, false).unwrap().unwrap()
}

#[test]
fn a_head_says_what_follows_it_and_whether_its_connection_can_go_on() {
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
    let (head, out) = plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
    assert!(
        matches!(head.rest, Rest::Chunked(_)) && out.contains("Transfer-Encoding: chunked\r\n")
    );
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
        assert!(read_all(&text, false).is_err(), "{short:?}");
    }
}

#[test]
fn the_client_gets_what_is_the_backends_to_say_and_no_more() {
    let (_, out) = plain(
        "HTTP/1.1 401 Go Away\r\nServer: Microsoft-IIS/10.0\r\nConnection: X-Internal\r\n\
         X-Internal: secret\r\nKeep-Alive: timeout=5\r\nWWW-Authenticate: Negotiate\r\n\
         www-authenticate: NTLM TlRM\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
         Sitegate-Device: GUID:1\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(
        out,
        "HTTP/1.1 401 Go Away\r\nServer: Microsoft-IIS/10.0\r\n\
         WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 3\r\n\r\n"
    );
    let (_, out) = plain("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nETag: \"x\"\r\n\r\n");
    assert_eq!(out, "HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n");
    let mut closing = Vec::new();
    read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, true, &mut closing).unwrap();
    assert!(closing.ends_with(b"Connection: close\r\n\r\n"));
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let (head, out) =
        read_all("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap().unwrap();
    assert!(matches!(head.rest, Rest::Length(0)) && head.keep);
    assert!(out.contains("Content-Length: 5\r\n"), "{out}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_a_part_of_a_head_is_never_a_whole_one(
        bytes: Vec<u8>, cut in 0_usize..60, bodiless: bool,
    ) {
        let _ = read(&bytes, bodiless, false, &mut Vec::new());
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: IIS\r\nX: y\r\n\r\n";
        let part = whole.get(..cut.min(whole.len() - 1)).unwrap();
        prop_assert!(matches!(read(part, bodiless, false, &mut Vec::new()), Ok(None)));
    }
}

#[test]
fn a_date_is_written_in_the_place_of_any_other() {
    for head in [
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX: Date: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: Date: y\r\nDATE: x\r\ndate: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: Date: y\r\n\r\n",
    ] {
        let mut out = b"before".to_vec();
        out.extend_from_slice(head.as_bytes());
        date(&mut out, 6, "Mon, 02 Mar 2026 10:15:42 GMT");
        let expected =
            "beforeHTTP/1.1 200 OK\r\nX: Date: y\r\nDate: Mon, 02 Mar 2026 10:15:42 GMT\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
